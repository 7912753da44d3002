"""Archives and options -> which files a table lists, and what it says of them, before any file is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyrad.errors import UsageError
from pyrad.ingest.layouts import Listing, Selection
from pyrad.ingest.layouts.match import Claim, match_tables
from pyrad.ingest.layouts.published import PUBLISHED
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.table import Table, parse_roles, read_table
from pyrad.records import Sample

ROOT_TABLES = ("labels.csv", "manifest.csv")  # what `auto` looks for, in this order


def select(listings: Sequence[Listing], options: IngestOptions) -> Selection:
    """Find and read the tables of ``options`` and match their rows to files.

    UsageError where no table is found that should be, its columns or rows are not fit, or none of its rows
    matches a file.
    """
    roles = parse_roles(options.columns)
    clash = [column for column in options.keep_columns if column in Sample.__dataclass_fields__]
    if clash:
        raise UsageError(
            f"--keep-columns {', '.join(clash)}: the samples table has columns of that name; rename them in "
            "the table"
        )
    claims: list[Claim] = []
    if options.table is not None:
        table = _read_table(options.table.name, lambda: _read_file(options), roles, options)
        claims = [Claim(table=table, archives=tuple(range(len(listings))))]
    elif options.layout in PUBLISHED:
        for archive, listing in enumerate(listings):
            tables = PUBLISHED[options.layout](listing)
            claims += [Claim(table=table, archives=(archive,)) for table in tables]
    elif options.layout in ("auto", "table"):
        for archive, listing in enumerate(listings):
            found = _root_table(listing, roles, options)
            if found is not None:
                claims.append(Claim(table=found[0], archives=(archive,), folder=found[1]))
    if not claims and (options.layout == "table" or roles or options.keep_columns):
        raise UsageError(
            f"no table is given, and no source has {' or '.join(ROOT_TABLES)} in its root; give one by "
            f"--table FILE"
        )
    return match_tables(listings, claims, "auto" if options.layout == "table" else options.layout)


def _root_table(
    listing: Listing, roles: Mapping[str, str], options: IngestOptions
) -> tuple[Table, str] | None:
    for folder in dict.fromkeys(("", listing.top)):
        for name in ROOT_TABLES:
            path = folder + name
            if path in listing.paths:
                return _read_table(name, lambda path=path: listing.read(path), roles, options), folder  # type: ignore[misc]
    return None


def _read_table(
    name: str, read: Callable[[], bytes], roles: Mapping[str, str], options: IngestOptions
) -> Table:
    return read_table(
        read(),
        name,
        roles=roles,
        anatomy=options.anatomy,
        keep=options.keep_columns,
        need_label=options.layout == "table",
    )


def _read_file(options: IngestOptions) -> bytes:
    assert options.table is not None  # noqa: S101
    try:
        return options.table.read_bytes()
    except OSError as error:
        raise UsageError(f"--table {options.table} cannot be read: {error.strerror}") from None
