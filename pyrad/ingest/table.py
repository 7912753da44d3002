"""A label table (CSV) -> what its rows say of each file, by role; docs/layouts.md states what is accepted.

Errors name rows and columns, never a value of a cell, which may be a patient's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from pyrad.errors import UsageError
from pyrad.ingest import vocabulary
from pyrad.ingest.anatomy import AnatomyTable
from pyrad.ingest.csvfile import is_missing, parse_csv, refuse_rows, row_list
from pyrad.ingest.split import parse_split
from pyrad.records import Outline, Split

HEADER_KEYS = ("uid", "study", "accession")  # by which a table without paths joins, the finest first
ROLES = (
    *("path", "uid", "accession", "label", "patient", "study", "series", "split", "mask", "modality"),
    "anatomy",
)
READ_BY_DEFAULT = ("path", "label", "patient")
JOIN_KEYS = ("path", "patient", "series", *HEADER_KEYS)  # used and dropped; never copied into a store

# Roles whose cells are words of a list, for messages
_CLOSED_ROLES = {
    "split": "train, val or test",
    "modality": f"{', '.join(sorted(vocabulary.MODALITIES))}",
    "anatomy": "those of the anatomy table (--anatomy-table FILE adds to it)",
}
_ROLE_ALIASES = {"group": "patient", "labels": "label", "masks": "mask"}
_NOTHING_KEPT: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one row of a table says; "" and () where it says nothing."""

    number: int = 0  # 0: no row of a file, but what a published data set says by its folders
    path: str = ""
    uid: str = ""
    accession: str = ""
    labels: tuple[str, ...] = ()
    patient: str = ""
    study: str = ""
    series: str = ""
    split: Split | None = None
    masks: tuple[str, ...] = ()
    mask_from: int = 1  # the lowest value of a mask file that belongs to the mask
    outlines: tuple[Outline, ...] = ()  # masks that are drawn, not files
    modality: str = ""
    anatomy: str = ""
    kept: Mapping[str, str] = field(default_factory=lambda: _NOTHING_KEPT)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as it was read, or as the layout of a published data set makes it."""

    name: str  # what messages call it
    header: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)  # role -> column
    rows: tuple[Row, ...]
    by_header: bool = False  # rows mean files by HEADER_KEYS and not by paths
    notes: tuple[str, ...] = ()


def parse_roles(columns: Sequence[str]) -> dict[str, str]:
    """``("label=kl_grade", "group=patient_id")`` -> {"label": "kl_grade", "patient": "patient_id"}."""
    roles: dict[str, str] = {}
    for item in columns:
        role, equals, column = (part.strip() for part in item.partition("="))
        role = _ROLE_ALIASES.get(role, role)
        if not equals or not column or role not in ROLES:
            raise UsageError(
                f"--columns {item!r} is not ROLE=COLUMN with a role of {', '.join(ROLES)}, or group for "
                f"patient"
            )
        if role in roles:
            raise UsageError(f"--columns names the role {role} twice: {roles[role]} and {column}")
        roles[role] = column
    return roles


def read_table(
    data: bytes,
    name: str,
    *,
    roles: Mapping[str, str],
    anatomy: AnatomyTable,
    keep: Sequence[str] = (),
    need_label: bool,
) -> Table:
    """Parse a table of UTF-8 text, with or without a byte order mark, by comma, semicolon or tab.

    ``roles`` maps roles to columns as ``--columns`` gave them; ``keep`` are columns to carry along; a missing
    column ``label`` is an error only where ``need_label``. UsageError says what is wrong and in which rows.
    """
    header, rest = parse_csv(data, name)
    lines = list(rest)
    columns = _columns(header, roles)
    by_header = "path" not in columns and any(role in columns for role in HEADER_KEYS)
    unknown = [column for column in (*columns.values(), *keep) if column not in header]
    needed = (*(() if by_header else ("path",)), *(("label",) if need_label else ()))
    missing = [role for role in needed if role not in columns]
    if unknown or missing:
        what = f"has no column {', '.join(unknown)}" if unknown else f"has no column for {', '.join(missing)}"
        if not {*READ_BY_DEFAULT, *roles.values()} & set(header):
            # Without a header, row 1 is data, and data may be a patient's: it is not quoted.
            raise UsageError(
                f"{name}: none of the {len(header)} cells of row 1 is a column's name that is known or was "
                f"given; row 1 must be a header with the column path, or name its columns by --columns"
            )
        raise UsageError(
            f"{name} {what}; its columns are {', '.join(header)}; "
            "say which is which by --columns, for example --columns "
            "path=file,label=diagnosis,group=patient_id"
        )
    private = [column for column in keep if column in {columns.get(role) for role in JOIN_KEYS}]
    if private:
        raise UsageError(
            f"--keep-columns {', '.join(private)}: columns that identify a file or a patient are not "
            f"copied into a store"
        )
    at = {role: header.index(column) for role, column in columns.items()}
    kept_at = {column: header.index(column) for column in keep}
    rows = tuple(_row(number, cells, at, kept_at, anatomy) for number, cells in lines)
    if by_header:
        keyless = (row.number for row in rows if not any(getattr(row, key) for key in HEADER_KEYS))
        refuse_rows(name, keyless, "have no UID, study or accession number")
    else:
        refuse_rows(name, (row.number for row in rows if not row.path), "have no path")
    for role, allowed in _CLOSED_ROLES.items():
        if role in at:
            refuse_rows(
                name,
                (
                    number
                    for (number, cells), row in zip(lines, rows, strict=True)
                    if not getattr(row, role) and not is_missing(cells[at[role]])
                ),
                f"have another word than {allowed} in column {columns[role]}",
            )
    return Table(name=name, header=header, columns=columns, rows=rows, by_header=by_header)


def _columns(header: Sequence[str], roles: Mapping[str, str]) -> dict[str, str]:
    """Role -> column: what the user said, and the default names of what was not said."""
    told = {"uid", "accession"} & set(roles)
    if told and {"path", "mask"} & set(roles):
        raise UsageError(
            f"--columns names {' and '.join(sorted(told))} beside path or mask: a table joins by what "
            "headers say, or by paths, and only paths find masks"
        )
    defaults = {role: role for role in READ_BY_DEFAULT if role in header}
    if told:
        defaults.pop("path", None)
    return defaults | dict(roles)


def merge_rows(rows: Sequence[Row], name: str) -> Row:
    """Rows of one file -> one row with all their labels; UsageError where they differ otherwise."""
    if len(rows) == 1:
        return rows[0]
    merged: dict[str, Any] = {}
    for attribute in ("patient", "study", "series", "split", "masks", "outlines", "modality", "anatomy"):
        values = {getattr(row, attribute) for row in rows} - {"", None, ()}
        if len(values) > 1:
            raise UsageError(
                f"{name}: {row_list(row.number for row in rows)} are of one file and differ in {attribute}; "
                "a file listed twice may differ in its labels only"
            )
        if values:
            merged[attribute] = values.pop()
    labels = tuple(sorted({label for row in rows for label in row.labels}))
    kept = {
        column: "|".join(dict.fromkeys(row.kept[column] for row in rows if row.kept[column]))
        for column in rows[0].kept
    }
    return replace(rows[0], labels=labels, kept=kept, **merged)


def _row(
    number: int,
    cells: Sequence[str],
    at: Mapping[str, int],
    kept_at: Mapping[str, int],
    anatomy: AnatomyTable,
) -> Row:
    def cell(role: str) -> str:
        return cells[at[role]] if role in at and not is_missing(cells[at[role]]) else ""

    return Row(
        number=number,
        path=cells[at["path"]] if "path" in at else "",  # a file may be called null
        uid=cell("uid"),
        accession=cell("accession"),
        labels=_several(cell("label")),
        patient=cell("patient"),
        study=cell("study"),
        series=cell("series"),
        split=parse_split(cell("split")),
        masks=_several(cell("mask")),
        modality=vocabulary.modality(cell("modality").upper()) or "",
        anatomy=anatomy.of_text(cell("anatomy")) or "",
        kept={column: cells[position] for column, position in kept_at.items()},
    )


@lru_cache(maxsize=4096)  # the rows of a million images share their labels
def _several(cell: str) -> tuple[str, ...]:
    parts = (part.strip() for part in cell.split("|"))
    return tuple(sorted({part for part in parts if not is_missing(part)}))
