"""Lookup tables of a part's images <-> its ``luts.parquet``: each distinct table once, in one order.

A samples row names its tables by their row here. A part whose images need none has no such file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrad.errors import IntegrityError, PyradError
from pyrad.records import Lut
from pyrad.store import tables
from pyrad.store.descriptors import StoreFolder
from pyrad.store.layout import LUTS_FILE, PARTS
from pyrad.store.manifest import Part

COLUMNS = ("voi_lut", "modality_lut")  # of the samples table: numbers of tables
ENTRIES_LIMIT = 1 << 16

LUTS_SCHEMA = pa.schema(
    [
        pa.field("first", pa.int32(), nullable=False),
        pa.field("bits", pa.int32(), nullable=False),
        pa.field("entries", pa.list_(pa.uint16()), nullable=False),
    ]
)


def number_luts(luts: Iterable[Lut | None]) -> dict[Lut, int]:
    """Each distinct table -> its row: sorted by first, bits and entries, whatever the order given."""
    return {lut: row for row, lut in enumerate(sorted({lut for lut in luts if lut is not None}))}


def luts_table(luts: Mapping[Lut, int]) -> pa.Table | None:
    """The table of what `number_luts` made; None where it is empty."""
    if not luts:
        return None
    rows = sorted(luts, key=luts.__getitem__)
    lengths = np.array([len(lut.entries) // 2 for lut in rows], np.int32)
    values = pa.array(np.frombuffer(b"".join(lut.entries for lut in rows), "<u2"))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    columns = [
        pa.array([lut.first for lut in rows], pa.int32()),
        pa.array([lut.bits for lut in rows], pa.int32()),
        pa.ListArray.from_arrays(offsets, values),
    ]
    return pa.table(columns, schema=LUTS_SCHEMA)


def luts_of(table: pa.Table) -> tuple[Lut, ...]:
    """The inverse of `luts_table`."""
    entries = table["entries"].combine_chunks()
    values = entries.values.to_numpy(zero_copy_only=False)
    offsets = entries.offsets.to_numpy()
    return tuple(
        Lut(first=first, bits=bits, entries=values[offsets[row] : offsets[row + 1]].astype("<u2").tobytes())
        for row, (first, bits) in enumerate(
            zip(table["first"].to_pylist(), table["bits"].to_pylist(), strict=True)
        )
    )


def lut_faults(luts: tuple[Lut, ...], samples: pa.Table) -> list[str]:
    """What no writer writes: tables out of order or range, and samples rows that point to none of them."""
    faults = []
    for row, lut in enumerate(luts):
        entries = np.frombuffer(lut.entries, "<u2")
        depth_fits = 1 <= lut.bits <= 16 and entries.size and int(entries.max()) < 1 << lut.bits
        if not (depth_fits and entries.size <= ENTRIES_LIMIT and -(1 << 15) <= lut.first < 1 << 16):
            faults.append(f"luts row {row}: its first, bits and entries are not as docs/format.md specifies")
    if list(luts) != sorted(set(luts)):
        faults.append("luts: its rows are not distinct and in order")
    numbers = pa.chunked_array([chunk for name in COLUMNS for chunk in samples[name].chunks], pa.int32())
    used = set(pc.unique(numbers.drop_null()).to_pylist())
    if used != set(range(len(luts))):
        faults.append(f"luts: samples rows name {len(used)} tables, and the part has {len(luts)}")
    return faults


def checked_luts(table: pa.Table | None, samples: pa.Table) -> pa.Table | None:
    """The tables, once they are fit to be committed with ``samples``; PyradError otherwise."""
    fault = tables.schema_fault(table.schema, LUTS_SCHEMA, kept=False) if table is not None else ""
    faults = [f"luts: {fault}"] if fault else lut_faults(() if table is None else luts_of(table), samples)
    if faults:
        raise PyradError(f"the lookup tables cannot be committed: {'; '.join(faults[:5])}")
    return table


class Luts:
    """The lookup tables of a store's parts, read when they are first asked for.

    Over all parts they are numbered one part behind the other, as the columns of `pyrad.store.samples` are.
    """

    def __init__(self, folder: StoreFolder, parts: tuple[Part, ...]) -> None:
        self._folder = folder
        self._parts = parts
        self._read: dict[str, tuple[Lut, ...]] = {}
        self._lock = threading.Lock()

    def of_part(self, part: Part) -> tuple[Lut, ...]:
        """The tables of one part, () where it has none. IntegrityError where the file is damaged."""
        with self._lock:
            if part.id not in self._read:
                self._read[part.id] = self._load(part) if part.has_luts else ()
            return self._read[part.id]

    def all(self) -> tuple[Lut, ...]:
        """The tables of all parts."""
        return tuple(lut for part in self._parts for lut in self.of_part(part))

    def _load(self, part: Part) -> tuple[Lut, ...]:
        path = f"{PARTS}/{part.id}/{LUTS_FILE}"
        size = next(file.bytes for file in part.files if file.path == path)
        with open(self._folder.open(path, size), "rb") as stream, tables.open_parquet(stream, path) as file:
            fault = tables.schema_fault(file.schema_arrow, LUTS_SCHEMA, kept=False)
            if fault:
                raise IntegrityError(f"{path} is damaged or was replaced: {fault}; restore it from a copy")
            return luts_of(tables.read_columns(file, None, path))
