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

_STORED = np.arange(-(1 << 15), 1 << 16)  # of any of the store's dtypes


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Places of tables, ``modality`` and ``voi`` of `ops.LUT_DTYPE`, and what a VOI LUT shows as 1."""

    modality: NDArray[np.void]
    voi: NDArray[np.void]
    greatest: NDArray[np.float32]


def shown_range(lut: Lut, low: float, high: float) -> tuple[float, float]:
    """The least and the greatest that a Modality LUT makes of the stored values ``low`` to ``high``."""
    entries = np.frombuffer(lut.entries, "<u2")
    ends = np.clip(np.array([np.floor(low), np.ceil(high)]) - lut.first, 0, len(entries) - 1).astype(int)
    part = entries[ends[0] : ends[1] + 1]
    return float(part.min()), float(part.max())


class Pool:
    """Entries of those of ``luts``, a store's, that samples need: one behind the other, each table once."""

    def __init__(self, luts: Sequence[Lut]) -> None:
        self.luts = luts
        self._parts: list[NDArray[np.uint16]] = []
        self._places: dict[Any, int] = {}
        self._size = 0

    def gather(
        self,
        modality: NDArray[np.int64],
        voi: NDArray[np.int64],
        slope: NDArray[np.float64],
        intercept: NDArray[np.float64],
    ) -> Tables:
        """Place the tables that samples need: numbers in ``luts``, -1 for none, and what comes before.

        The four are of one shape, (n,) or (n, windows), and so are the places that are returned.
        Where a sample has a Modality LUT, its slope is 1 and its intercept 0. A rescaled value between two
        whole ones is looked up as the nearest, half up.
        """
        places = np.zeros((2, *voi.shape), ops.LUT_DTYPE)  # of the Modality LUTs, of the VOI LUTs
        greatest = np.ones(voi.shape, np.float32)
        with_table = modality >= 0
        numbers, at = np.unique(modality[with_table], return_inverse=True)
        places[0, with_table] = np.array([self.place(self.luts[n]) for n in numbers], ops.LUT_DTYPE)[at]
        with_table = voi >= 0
        behind_it = np.stack([values[with_table] for values in (voi, slope, intercept)], axis=1)
        uses, at = np.unique(behind_it, axis=0, return_inverse=True)
        at = at.ravel()
        behind = [self.place_behind(self.luts[int(n)], m, t) for n, m, t in uses]
        places[1, with_table] = np.array(behind, ops.LUT_DTYPE)[at]
        greatest[with_table] = np.array([(1 << self.luts[int(n)].bits) - 1 for n in uses[:, 0]], np.float32)[
            at
        ]
        return Tables(modality=places[0], voi=places[1], greatest=greatest)

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
        """All entries so far."""
        return np.concatenate([ops.NO_LUTS, *self._parts])

    def _at(self, key: Any, entries: NDArray[np.uint16]) -> int:
        if key not in self._places:
            self._places[key] = self._size
            self._parts.append(entries)
            self._size += len(entries)
        return self._places[key]
