"""Descriptor and data of a DICOM lookup table -> its entries, exactly as written.

One description serves Modality LUTs, VOI LUTs and palettes (PS3.3 C.11.1.1, C.11.2.1.1, C.7.6.3.1.5): three
numbers, and entries of 8 or up to 16 bits, where those of 8 may stand two in a word or one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pyrad.ingest.dicom.parse import integers, words
from pyrad.records import Lut


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """How many entries a table has, which value becomes the first, and how many bits an entry has."""

    entries: int
    first: int
    bits: int


def read_descriptor(dataset: Dataset, keyword: str, *, signed: bool) -> Descriptor | None:
    """The descriptor ``keyword``, None where it is none; ``signed`` says whether what is looked up may be."""
    values = integers(dataset, keyword)
    if len(values) != 3:
        return None
    count, first, bits = (0 if value is None else value for value in values)
    if not 1 <= bits <= 16:
        return None
    if signed and first >= 1 << 15:  # all three have one VR, and the number of entries is unsigned
        first -= 1 << 16
    return Descriptor(entries=count % (1 << 16) or 1 << 16, first=first, bits=bits)


def read_entries(dataset: Dataset, keyword: str, table: Descriptor) -> NDArray[Any] | None:
    """The entries, uint8 where they are packed two a word, else uint16; None where some are missing."""
    cells = words(dataset, keyword)
    if len(cells) >= table.entries:
        return cells[: table.entries]
    if table.bits == 8 and 2 * len(cells) >= table.entries:
        return cells.astype("<u2").view(np.uint8)[: table.entries]
    return None


def read_lut(item: Dataset, *, signed: bool) -> tuple[Lut, int] | None:
    """A Modality or VOI LUT, and the bits that it declares; None where it is damaged.

    The bits of the table itself are those that its greatest entry needs.
    """
    table = read_descriptor(item, "LUTDescriptor", signed=signed)
    entries = None if table is None else read_entries(item, "LUTData", table)
    if table is None or entries is None:
        return None
    bits = max(int(entries.max()).bit_length(), 1)
    return Lut(first=table.first, bits=bits, entries=entries.astype("<u2").tobytes()), table.bits
