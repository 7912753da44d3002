"""The lookup tables that samples are seen through -> one array of entries, and each record's places in it.

The core looks up integers (Note [lookup tables] in csrc/window.h), so a rescale that stands before a VOI LUT
is folded into it: into its first value where it only shifts by a whole number, else into a table of its own,
over every stored value there can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrad import ops
from pyrad.records import Lut

_NONE = (0, 0, 0)
_STORED = np.arange(-(1 << 15), 1 << 16)  # of any of the store's dtypes


@dataclass(frozen=True, kw_only=True)
class Tables:
    """``entries`` of all tables; ``modality`` and ``voi`` of `ops.LUT_DTYPE`, ``greatest`` float32: (n,)."""

    entries: NDArray[np.uint16]
    modality: NDArray[np.void]
    voi: NDArray[np.void]
    greatest: NDArray[np.float32]  # what a VOI LUT shows as 1


def gather(
    luts: Sequence[Lut],
    modality: NDArray[np.int64],
    voi: NDArray[np.int64],
    slope: NDArray[np.float64],
    intercept: NDArray[np.float64],
) -> Tables:
    """Lay out the tables that n samples need: numbers in ``luts``, -1 for none, and what comes before, (n,).

    Where a sample has a Modality LUT, its slope is 1 and its intercept 0. A rescaled value between two whole
    ones is looked up as the nearest, half up.
    """
    pool = _Pool()
    numbers, at = np.unique(modality, return_inverse=True)
    modality_places = [pool.place(luts[n]) if n >= 0 else _NONE for n in numbers]
    uses, use = np.unique(np.stack([voi, slope, intercept], axis=1), axis=0, return_inverse=True)
    voi_places = [pool.place_behind(luts[int(n)], m, t) if n >= 0 else _NONE for n, m, t in uses]
    greatest = [(1 << luts[int(n)].bits) - 1 if n >= 0 else 1 for n in uses[:, 0]]
    return Tables(
        entries=pool.entries(),
        modality=np.array(modality_places, ops.LUT_DTYPE)[at.ravel()],
        voi=np.array(voi_places, ops.LUT_DTYPE)[use.ravel()],
        greatest=np.array(greatest, np.float32)[use.ravel()],
    )


def shown_range(lut: Lut, low: float, high: float) -> tuple[float, float]:
    """The least and the greatest that a Modality LUT makes of the stored values ``low`` to ``high``."""
    entries = np.frombuffer(lut.entries, "<u2")
    ends = np.clip(np.array([np.floor(low), np.ceil(high)]) - lut.first, 0, len(entries) - 1).astype(int)
    part = entries[ends[0] : ends[1] + 1]
    return float(part.min()), float(part.max())


class _Pool:
    """Entries of tables one behind the other, each table once."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.uint16]] = []
        self._places: dict[Any, int] = {}
        self._size = 0

    def place(self, lut: Lut, *, shift: int = 0) -> tuple[int, int, int]:
        """A record's place of a table whose input is ``shift`` above what is looked up."""
        first = int(np.clip(lut.first - shift, -ops.LUT_FIRST_LIMIT, ops.LUT_FIRST_LIMIT))
        return self._at(lut, np.frombuffer(lut.entries, "<u2")), len(lut.entries) // 2, first

    def place_behind(self, lut: Lut, slope: float, intercept: float) -> tuple[int, int, int]:
        """A record's place of a table that is looked up with rescaled values."""
        if slope == 1 and intercept == np.rint(intercept) and abs(intercept) < 1 << 53:
            return self.place(lut, shift=int(intercept))
        entries = np.frombuffer(lut.entries, "<u2")
        index = np.floor(_STORED * slope + intercept + 0.5) - lut.first
        folded = entries[np.clip(index, 0, len(entries) - 1).astype(np.int64)]
        return self._at((lut, slope, intercept), folded), len(folded), int(_STORED[0])

    def entries(self) -> NDArray[np.uint16]:
        return np.concatenate([ops.NO_LUTS, *self._parts])

    def _at(self, key: Any, entries: NDArray[np.uint16]) -> int:
        if key not in self._places:
            self._places[key] = self._size
            self._parts.append(entries)
            self._size += len(entries)
        return self._places[key]
