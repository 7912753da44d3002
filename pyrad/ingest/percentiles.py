"""Integers of many images, counted together -> their p1 and p99, exact; `ops.percentiles` does one image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PERCENTILES = (0.01, 0.99)
_LEAST = -(1 << 15)
_VALUES = 3 << 15  # from the least int16 to the greatest uint16


class Histogram:
    """How often each 8-bit or 16-bit value occurs in several images."""

    def __init__(self) -> None:
        self._counts = np.zeros(_VALUES, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Count the values of one image more."""
        counts = np.bincount(values.ravel().astype(np.int32) - _LEAST)
        self._counts[: len(counts)] += counts

    def percentiles(self) -> tuple[float, float]:
        """p1 and p99 of all that was counted, at least one value.

        Linear between order statistics at (n - 1) p, as NumPy's default. Source: Hyndman and Fan 1996,
        type 7.
        """
        below = np.cumsum(self._counts)  # values up to and including each
        last = int(below[-1]) - 1
        results = []
        for p in _PERCENTILES:
            position = last * p
            rank = int(position)
            first, second = np.searchsorted(below, [rank, min(rank + 1, last)], side="right")
            results.append(_LEAST + float(first) + (position - rank) * float(second - first))
        return results[0], results[1]
