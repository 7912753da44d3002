"""Rows of label tables -> the files and the masks that they mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pyrad.errors import UsageError
from pyrad.ingest.csvfile import row_list
from pyrad.ingest.layouts import FileId, Listing, Selection
from pyrad.ingest.layouts.finder import Finder
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.table import Row, Table, merge_rows

_PATIENT_COLUMNS = frozenset({"patient_id", "patientid", "patient id", "subject", "subject_id", "subjectid"})


def match_tables(
    listings: Sequence[Listing], tables: Mapping[int, tuple[Table, str]], options: IngestOptions
) -> Selection:
    """Match the rows of ``tables`` (archive -> table, and the folder its paths may start from) to files."""
    rows: dict[FileId, list[Row]] = defaultdict(list)
    finders = {archive: Finder(listings[archive].paths, folder) for archive, (_, folder) in tables.items()}
    notes: list[str] = []
    names: dict[int, str] = {}
    shared = [list(tables)] if options.table is not None else [[archive] for archive in tables]
    for archives in shared:  # one table for all archives, or each its own
        table = tables[archives[0]][0]
        absent: list[int] = []
        ambiguous: list[int] = []
        for row in table.rows:
            found = [(archive, path) for archive in archives for path in finders[archive].find(row.path)]
            if not found:
                absent.append(row.number)
            elif len(found) > 1:
                ambiguous.append(row.number)
            for file in found:
                rows[file].append(row)
        names |= dict.fromkeys(archives, table.name)
        _complain(table, absent, ambiguous, listings[archives[0]].path.name)
        notes += _table_notes(table, absent)
    merged = {file: merge_rows(its, names[file[0]]) for file, its in rows.items()}
    masks, maskless = _find_masks(merged, finders, names)
    unseen = "auto" if options.layout == "table" else options.layout
    return Selection(
        layouts=tuple("table" if archive in tables else unseen for archive in range(len(listings))),
        rows={file: replace(row, masks=masks.get(file, ())) for file, row in merged.items()},
        masks=frozenset((file[0], path) for file, paths in masks.items() for path in paths),
        maskless=maskless,
        notes=tuple(notes),
    )


def _complain(table: Table, absent: list[int], ambiguous: list[int], archive: str) -> None:
    if ambiguous:
        raise UsageError(
            f"{table.name}: {row_list(ambiguous)} could mean several files; write the whole path in column "
            f"{table.columns['path']}"
        )
    if not table.rows or len(absent) == len(table.rows):
        raise UsageError(
            f"{table.name}: none of its {len(table.rows)} rows matches a file of {archive}; paths in column "
            f"{table.columns['path']} must start from the archive's root; columns: {', '.join(table.header)}"
        )


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
            f"a patient "
            "in one split"
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
