"""Rows of a table that names no files -> the files that they mean, by what the headers say.

A row joins by the finest key that it fills: SOP Instance UID, Study Instance UID, accession number. A file
takes the rows of its own UID, else those of its study, else those of its accession number. The keys are used
and dropped.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from pyrad.errors import UsageError
from pyrad.ingest.csvfile import row_list
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.table import HEADER_KEYS, Row, Table, merge_rows
from pyrad.records import Source

Key = tuple[str, str]  # one of HEADER_KEYS, and its value


@dataclass(frozen=True, kw_only=True)
class Join:
    """The rows of one table by their keys, those of one key as one row."""

    table: str  # its name, for messages
    rows: Mapping[Key, Row]
    numbers: Mapping[Key, tuple[int, ...]]  # of the rows of each key

    def key_of(self, source: Source) -> Key | None:
        """The finest key of a file that a row has."""
        keys = ((kind, getattr(source, kind)) for kind in HEADER_KEYS)
        return next((key for key in keys if key[1] and key in self.rows), None)


def make_join(table: Table) -> Join:
    """Index the rows of a table; UsageError where those of one key differ in anything but the label."""
    rows: dict[Key, list[Row]] = defaultdict(list)
    for row in table.rows:
        kind = next(kind for kind in HEADER_KEYS if getattr(row, kind))
        rows[kind, getattr(row, kind)].append(row)
    return Join(
        table=table.name,
        rows={key: merge_rows(its, table.name) for key, its in rows.items()},
        numbers={key: tuple(row.number for row in its) for key, its in rows.items()},
    )


class Matches:
    """What the headers say of a join, counted over all archives that it is of: each file once."""

    def __init__(self, join: Join) -> None:
        self.join = join
        self._files: Counter[Key | None] = Counter()
        self._patients: dict[Key, str] = {}
        self._ambiguous: set[Key] = set()

    def count(self, first: Source) -> None:
        """Count a file by the first of its frames."""
        key = self.join.key_of(first)
        self._files[key] += 1
        if key is None or key[0] == "uid" or not first.patient:
            return
        # An accession number is one hospital's own, and a Study Instance UID may have been given twice.
        if self._patients.setdefault(key, first.patient) != first.patient:
            self._ambiguous.add(key)

    def row_of(self, first: Source) -> Row:
        """The word of the table on a file; Rejected where there is none, or none that can be trusted."""
        key = self.join.key_of(first)
        if key is None:
            raise Rejected("not-in-table")
        if key in self._ambiguous:
            raise Rejected("ambiguous-row", detail=f"by {key[0]}")
        return self.join.rows[key]

    def notes(self) -> list[str]:
        """Count rows without file, files without row, rows of several patients; UsageError if no row fits."""
        join, files = self.join, self._files
        lonely = [number for key, its in join.numbers.items() if not files[key] for number in its]
        doubtful = [number for key in self._ambiguous for number in join.numbers[key]]
        total = sum(map(len, join.numbers.values()))
        if len(lonely) == total:
            raise UsageError(
                f"{join.table}: none of its {total} rows has a UID, study or accession number that a header "
                f"has; {files.total()} files were read"
            )
        notes = []
        if lonely:
            notes.append(f"{join.table}: {row_list(lonely)} fit no file ({len(lonely)} in all)")
        if files[None]:
            notes.append(f"{join.table}: {files[None]} files fit no row and are left out")
        if doubtful:
            notes.append(
                f"{join.table}: {row_list(doubtful)} fit files of several patients: the "
                f"{sum(files[key] for key in self._ambiguous)} files are quarantined"
            )
        return notes
