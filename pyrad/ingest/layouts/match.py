"""Rows of tables -> the files and the masks that they mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyrad.errors import UsageError
from pyrad.ingest.csvfile import row_list
from pyrad.ingest.layouts import FileId, Listing, Selection
from pyrad.ingest.layouts.finder import Finder
from pyrad.ingest.layouts.join import Join, make_join
from pyrad.ingest.table import Row, Table, merge_rows

_PATIENT_COLUMNS = frozenset({"patient_id", "patientid", "patient id", "subject", "subject_id", "subjectid"})


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A table, the archives of which it speaks, and the folder that its paths may start from."""

    table: Table
    archives: tuple[int, ...]
    folder: str = ""


def match_tables(listings: Sequence[Listing], claims: Sequence[Claim], otherwise: str) -> Selection:
    """Match the rows of every table to files; archives without a table have the layout ``otherwise``.

    UsageError where the rows of a table match no file, could mean several, or contradict each other.
    """
    rows: dict[FileId, Row] = {}
    further: dict[FileId, list[Row]] = defaultdict(list)  # of files that have several rows: few, mostly
    names: dict[int, dict[str, None]] = defaultdict(dict)  # archive -> its tables, for messages
    finders: dict[int, Finder] = {}
    notes: list[str] = []
    joins: dict[int, Join] = {}
    for claim in claims:
        if claim.table.by_header:
            joins |= dict.fromkeys(claim.archives, make_join(claim.table))
            notes += _table_notes(claim.table, [])
            continue
        for archive in claim.archives:
            finders.setdefault(archive, Finder(listings[archive].paths, claim.folder))
            names[archive][claim.table.name] = None
        absent = _match_rows(claim, finders, rows, further, listings[claim.archives[0]].path.name)
        notes += [*claim.table.notes, *_table_notes(claim.table, absent)]
    titles = {archive: " and ".join(its) for archive, its in names.items()}
    for file, its in further.items():
        rows[file] = merge_rows([rows[file], *its], titles[file[0]])
    masks, maskless = _find_masks(rows, finders, titles)
    for file, paths in masks.items():
        rows[file] = replace(rows[file], masks=paths)
    return Selection(
        layouts=tuple(
            "table" if archive in titles or archive in joins else otherwise
            for archive in range(len(listings))
        ),
        rows=rows,
        joins=joins,
        masks=frozenset((file[0], path) for file, paths in masks.items() for path in paths),
        maskless=maskless,
        notes=tuple(notes),
    )


def _match_rows(
    claim: Claim,
    finders: Mapping[int, Finder],
    rows: dict[FileId, Row],
    further: dict[FileId, list[Row]],
    archive: str,
) -> list[int]:
    """Add each row to the files that it means; return the numbers of the rows that mean none."""
    table = claim.table
    absent: list[int] = []
    ambiguous: list[int] = []
    for row in table.rows:
        found = [(number, path) for number in claim.archives for path in finders[number].find(row.path)]
        if not found:
            absent.append(row.number)
        elif len(found) > 1:
            ambiguous.append(row.number)
        for file in found:
            if rows.setdefault(file, row) is not row:
                further[file].append(row)
    column = f" in column {table.columns['path']}" if "path" in table.columns else ""
    if ambiguous:
        raise UsageError(
            f"{table.name}: {row_list(ambiguous)} could mean several files; write the whole path{column}"
        )
    if not table.rows or len(absent) == len(table.rows):
        columns = f"; columns: {', '.join(table.header)}" if table.header else ""
        raise UsageError(
            f"{table.name}: none of its {len(table.rows)} rows matches a file of {archive}; paths{column} "
            f"must start from the archive's root{columns}"
        )
    return absent


def _table_notes(table: Table, absent: list[int]) -> list[str]:
    notes = []
    if absent:
        notes.append(f"{table.name}: {row_list(absent)} name files that are not there ({len(absent)} in all)")
    if "label" in table.columns:
        blank = [row.number for row in table.rows if not row.labels]
        if len(blank) == len(table.rows):
            raise UsageError(
                f"{table.name}: column {table.columns['label']} is empty in every row; columns: "
                f"{', '.join(table.header)}"
            )
        if blank:
            notes.append(
                f"{table.name}: {row_list(blank)} have no label; their images are stored without one"
            )
    looks = [column for column in table.header if column.lower() in _PATIENT_COLUMNS]
    if "patient" not in table.columns and looks:
        notes.append(
            f"{table.name}: column {looks[0]} is not used; --columns group={looks[0]} keeps the images of "
            "a patient in one split"
        )
    return notes


def _find_masks(
    rows: Mapping[FileId, Row], finders: Mapping[int, Finder], names: Mapping[int, str]
) -> tuple[dict[FileId, tuple[str, ...]], frozenset[FileId]]:
    """Resolve the mask column: image -> paths of its masks, and the images of which one is not there."""
    masks: dict[FileId, tuple[str, ...]] = {}
    missing: set[FileId] = set()
    for file, row in rows.items():
        archive, path = file
        found = []
        for value in row.masks:
            paths = finders[archive].find(value, path[: path.rfind("/") + 1])
            if len(paths) > 1:
                raise UsageError(
                    f"{names[archive]}: the mask in {row_list([row.number])} could mean several files"
                )
            if not paths:
                missing.add(file)
            found += paths
        if found:
            masks[file] = tuple(sorted(found))
    wanted = [row.number for row in rows.values() if row.masks]
    if wanted and not masks:
        raise UsageError(
            f"none of the masks named in {row_list(wanted)} of {min(names.values())} is in the archive"
        )
    return masks, frozenset(missing)
