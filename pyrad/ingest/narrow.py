"""Pixels wider than 16 bits -> the 16-bit type that holds every one of them exactly, or a refusal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyrad.ingest.reasons import Rejected

StoredType = Literal["uint8", "int8", "uint16", "int16"]


def narrow_type(frames: Iterable[NDArray[Any]]) -> StoredType:
    """uint16, or int16 where a value is negative, for all frames of a file together.

    Never 8 bits, however small the values are: images of one archive should not differ in type by chance.
    Rejected ``not-exact-in-16-bits`` for fractions, NaN, infinity and values out of range.
    """
    low, high = np.inf, -np.inf
    for values in frames:
        low, high = min(low, values.min().item()), max(high, values.max().item())
        fits = low >= -(1 << 15) and high < (1 << 15 if low < 0 else 1 << 16)
        if not fits or (
            values.dtype.kind == "f" and (values != np.rint(values)).any()
        ):  # NaN is unlike itself
            raise Rejected("not-exact-in-16-bits")
    return "int16" if low < 0 else "uint16"
