"""The palette of a PALETTE COLOR image -> its colours, entry by entry, also where it is written in segments.

Sources: DICOM PS3.3 C.7.6.3.1.5, C.7.6.3.1.6 and, for segments, C.7.9.2. A supplemental palette belongs to
grey images, whose values it does not change: nobody asks for it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pyrad.ingest.dicom.luts import Descriptor, read_descriptor, read_entries
from pyrad.ingest.dicom.parse import has, words
from pyrad.ingest.reasons import Rejected

_DISCRETE, _LINEAR, _INDIRECT = range(3)  # PS3.3 Table C.7.9-2


@dataclass(frozen=True, kw_only=True)
class Palette:
    """A colour lookup table: index ``first`` maps to ``colors[0]``."""

    first: int
    colors: NDArray[Any]  # (entries, 3), uint8 or uint16


def read_palette(dataset: Dataset, *, signed: bool) -> Palette:
    """The palette; Rejected ``bad-palette`` where its tables are missing, short or of unequal length."""
    first = 0
    channels = []
    for color in ("Red", "Green", "Blue"):
        table = f"{color}PaletteColorLookupTable"
        descriptor = read_descriptor(dataset, table + "Descriptor", signed=signed)
        if descriptor is None or descriptor.bits not in (8, 16):
            raise Rejected("bad-palette", table + "Descriptor")
        if has(dataset, f"Segmented{table}Data") and not has(dataset, table + "Data"):
            channels.append(_from_segments(dataset, f"Segmented{table}Data", descriptor))
        else:
            channels.append(_channel(dataset, table + "Data", descriptor))
        first = descriptor.first
    if len({len(channel) for channel in channels}) != 1:
        raise Rejected("bad-palette", "RedPaletteColorLookupTableDescriptor", "tables of unequal length")
    return Palette(first=first, colors=np.stack(channels, axis=-1))


def _channel(dataset: Dataset, keyword: str, table: Descriptor) -> NDArray[Any]:
    entries = read_entries(dataset, keyword, table)
    if entries is None:
        given = 2 * len(words(dataset, keyword))
        raise Rejected("bad-palette", keyword, f"{given} bytes for {table.entries} entries")
    # 8-bit entries in 16-bit cells (C.7.6.3.1.6)
    return entries.astype(np.uint8) if table.bits == 8 and entries.max() < 256 else entries


def _from_segments(dataset: Dataset, keyword: str, table: Descriptor) -> NDArray[Any]:
    cells = words(dataset, keyword)
    data = cells.astype("<u2").view(np.uint8) if table.bits == 8 else cells
    try:
        entries = expand_segments(data.tolist(), table.entries, bytes_a_cell=table.bits // 8)
    except (IndexError, ValueError):
        raise Rejected("bad-palette", keyword, "segments") from None
    return np.array(entries, np.uint8 if table.bits == 8 else np.uint16)


def expand_segments(data: list[int], count: int, *, bytes_a_cell: int) -> list[int]:
    """The ``count`` entries that the segments in the cells ``data`` stand for (PS3.3 C.7.9.2).

    A linear segment goes from the entry before it, in equal steps, each rounded to the nearest integer, half
    up; an indirect one repeats segments that stand elsewhere. IndexError or ValueError where the data do not
    give just that many, begin with a line, repeat a repetition, or hold an unknown or empty segment.
    """
    entries: list[int] = []
    at = 0
    while len(entries) < count:
        at = _expand_one(data, at, entries, count, bytes_a_cell=bytes_a_cell, repeating=False)
    if len(entries) != count:
        raise ValueError("more entries than the descriptor says")
    return entries


def _expand_one(
    data: list[int], at: int, entries: list[int], count: int, *, bytes_a_cell: int, repeating: bool
) -> int:
    """Append the entries of the segment at ``at``; returns where the next one begins."""
    kind, length = data[at], data[at + 1]
    at += 2
    if length == 0:  # else repetitions of nothing could go on for ever
        raise ValueError("an empty segment")
    if kind == _DISCRETE:
        if at + length > len(data):
            raise ValueError("a segment is cut")
        entries += data[at : at + length]
        return at + length
    if kind == _LINEAR:
        begin, end = entries[-1], data[at]
        steps = range(1, length + 1)
        entries += [begin + (2 * (end - begin) * n + length) // (2 * length) for n in steps]
        return at + 1
    if kind != _INDIRECT or repeating:
        raise ValueError("an unknown segment, or one that repeats a repetition")
    cells = 4 // bytes_a_cell  # a 32-bit offset in bytes, least significant cell first
    offset = sum(data[at + n] << 8 * bytes_a_cell * n for n in range(cells))
    again, within = divmod(offset, bytes_a_cell)
    if within:
        raise ValueError("a segment does not begin inside a cell")
    for _ in range(length):
        if len(entries) > count:
            raise ValueError("more entries than the descriptor says")
        again = _expand_one(data, again, entries, count, bytes_a_cell=bytes_a_cell, repeating=True)
    return at + cells
