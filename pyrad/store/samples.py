"""The samples tables of a store's parts -> one table, whose columns are read when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pyrad.errors import IntegrityError
from pyrad.store import luts, tables
from pyrad.store.descriptors import StoreFolder
from pyrad.store.layout import PARTS, SAMPLES_FILE
from pyrad.store.manifest import Part


class Samples(Mapping[str, pa.ChunkedArray]):
    """Column name -> pyarrow.ChunkedArray with one value a sample, over all parts in order.

    Nothing is read before it is asked for; a column is read once. Kept columns that a part does not have are
    null in its rows; lookup tables are numbered over all parts. IntegrityError where a table is damaged or is
    not of its part.
    """

    def __init__(self, folder: StoreFolder, parts: tuple[Part, ...], lookup: luts.Luts) -> None:
        self._folder = folder
        self._parts = parts
        self._luts = lookup
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._names: list[str] | None = None
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        with self._lock:
            if name not in self._columns:
                if name not in self.column_names:
                    raise KeyError(
                        f"{name!r} is no column of the samples table: {', '.join(self.column_names)}"
                    )
                self._columns[name] = self.read([name])[name]
            return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.column_names)

    def __len__(self) -> int:
        return len(self.column_names)

    @property
    def column_names(self) -> list[str]:
        """The specified columns, then the kept ones."""
        with self._lock:
            if self._names is None:
                kept: dict[str, None] = {}
                for part in self._parts:
                    with self._open(part) as file:
                        names = file.schema_arrow.names[len(tables.SAMPLES_SCHEMA) :]
                    kept |= dict.fromkeys(names)
                self._names = [*tables.SAMPLES_SCHEMA.names, *kept]
            return self._names

    def to_arrow(self) -> pa.Table:
        """The whole table."""
        with self._lock:
            missing = [name for name in self.column_names if name not in self._columns]
            if missing:
                table = self.read(missing)
                self._columns |= {name: table[name] for name in missing}
            return pa.table({name: self._columns[name] for name in self.column_names}).unify_dictionaries()

    def of_part(self, part: Part, names: list[str]) -> pa.Table:
        """Some columns of one part, as they stand in its file: its lookup tables are numbered from 0."""
        return pa.concat_tables(self._groups(part, names, whole=True))

    def read(self, names: list[str]) -> pa.Table:
        """Some columns, read anew and not kept."""
        if not self._parts:
            return tables.samples_table([]).select(names)
        return pa.concat_tables(self._numbered(names, whole=True))

    def blocks(self, names: list[str]) -> Iterator[pa.Table]:
        """The same a block of rows at a time, in order: what is made of a column need not hold it."""
        return self._numbered(names, whole=False)

    def _numbered(self, names: list[str], *, whole: bool) -> Iterator[pa.Table]:
        """Each part's columns, its lookup tables numbered behind those of the parts before it."""
        numbered = any(name in luts.COLUMNS for name in names)
        before = 0
        for part in self._parts:
            for table in self._groups(part, names, whole=whole):
                yield _numbered_from(table, before) if numbered else table
            before += len(self._luts.of_part(part)) if numbered else 0

    def _groups(self, part: Part, names: list[str], *, whole: bool) -> Iterator[pa.Table]:
        """Some columns of a part, at once or by the row groups of its file."""
        path = self._path(part)
        with self._open(part) as file:
            there = set(file.schema_arrow.names)
            wanted = [name for name in names if name in there]
            for group in (None,) if whole else range(file.num_row_groups):
                table = tables.read_columns(file, wanted, path, group=group)
                for name in names:
                    if name not in there:
                        table = table.append_column(name, pa.nulls(len(table), pa.string()))
                yield table.select(names)

    @contextmanager
    def _open(self, part: Part) -> Iterator[pq.ParquetFile]:
        path = self._path(part)
        size = next(file.bytes for file in part.files if file.path == path)
        with open(self._folder.open(path, size), "rb") as stream:
            file = tables.open_parquet(stream, path)
            fault = tables.schema_fault(file.schema_arrow, tables.SAMPLES_SCHEMA, kept=True)
            if not fault and file.metadata.num_rows != part.samples:
                fault = f"it has {file.metadata.num_rows} rows instead of {part.samples}"
            if fault:
                raise IntegrityError(f"{path} is damaged or was replaced: {fault}; restore it from a copy")
            yield file

    @staticmethod
    def _path(part: Part) -> str:
        return f"{PARTS}/{part.id}/{SAMPLES_FILE}"


def _numbered_from(table: pa.Table, before: int) -> pa.Table:
    """The same rows, the numbers of their lookup tables higher by ``before``."""
    for name in set(luts.COLUMNS) & set(table.column_names):
        behind = pc.add(table[name], pa.scalar(before, pa.int32()))
        at = table.column_names.index(name)
        table = table.set_column(at, tables.SAMPLES_SCHEMA.field(name), behind)
    return table
