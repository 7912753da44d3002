"""Bytes of a CSV file -> its header and its rows, numbered as an editor shows them: the header is row 1.

Errors name rows and columns, never a value of a cell, which may be a patient's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from pyrad.errors import UsageError

BYTES_LIMIT = 1 << 30
MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "null"})  # in lower case

NumberedRow = tuple[int, list[str]]


def parse_csv(data: bytes, name: str) -> tuple[tuple[str, ...], Iterator[NumberedRow]]:
    """Header and rows of UTF-8 text, with or without a byte order mark, by comma, semicolon or tab.

    Blank lines are left out, cells are stripped of surrounding blanks. UsageError where the text is no CSV,
    at once or, for what stands further down, as the rows are read; rows of another length than the header
    are told when all are read.
    """
    rows = _rows(data, name)
    first = next(rows, None)
    if first is None:
        raise UsageError(f"{name} is empty: a table has a header and a row for each file")
    header = tuple(first[1])
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise UsageError(f"{name} has two columns of the name {', '.join(twice)}; rename one of them")
    return header, _of_width(rows, len(header), name)


def columns_of(data: bytes, name: str, *columns: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The cells of some columns, row by row with its number; UsageError where there is no such column."""
    header, rows = parse_csv(data, name)
    unknown = [column for column in columns if column not in header]
    if unknown:
        raise UsageError(
            f"{name} has no column {', '.join(unknown)}; as it is published its columns begin with "
            f"{', '.join(columns)}"
        )
    at = [header.index(column) for column in columns]
    return ((number, tuple(cells[n] for n in at)) for number, cells in rows)


def is_missing(cell: str) -> bool:
    """Whether a cell says nothing: it is empty, blank, NaN, NA, N/A or null."""
    return cell.strip().lower() in MISSING


def row_list(numbers: Iterable[int]) -> str:
    """Row numbers for a message: "rows 3, 5, 8 and 12 more"."""
    rows = sorted(set(numbers))
    shown = ", ".join(str(number) for number in rows[:5])
    rest = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{rest}"


def refuse_rows(name: str, numbers: Iterable[int], why: str) -> None:
    """UsageError that names the rows, where there are any."""
    rows = list(numbers)
    if rows:
        raise UsageError(f"{name}: {row_list(rows)} {why}")


def _rows(data: bytes, name: str) -> Iterator[NumberedRow]:
    if len(data) > BYTES_LIMIT:
        raise UsageError(f"{name} has {len(data)} bytes, above the limit of {BYTES_LIMIT} for a table")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{name} is not UTF-8 text (row {row}); save it as CSV in UTF-8") from None
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begin = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begin, [cell.strip() for cell in cells]
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{name} is no CSV: {error} (row {reader.line_num})") from None


def _of_width(rows: Iterable[NumberedRow], width: int, name: str) -> Iterator[NumberedRow]:
    uneven = []
    for number, cells in rows:
        if len(cells) == width:
            yield number, cells
        else:
            uneven.append(number)
    refuse_rows(name, uneven, f"do not have the header's {width} columns")
