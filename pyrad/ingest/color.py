"""Three samples a pixel -> one plane of luma, or three planes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def luma(rgb: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[Any]:
    """BT.601 luma of ``rgb`` (rows, columns, 3) in its own type, (rows, columns).

    (19595 R + 38470 G + 7471 B + 32768) >> 16, the integers of Pillow's ``convert("L")``. They add up to
    65536, so three equal samples keep their value exactly: a grey image stored as RGB comes back bit for bit.
    """
    wide = rgb.astype(np.uint32)  # 65536 * 65535 + 32768 < 2**32
    y = (19595 * wide[..., 0] + 38470 * wide[..., 1] + 7471 * wide[..., 2] + 32768) >> 16
    return y.astype(rgb.dtype)


def is_grey(rgb: NDArray[np.generic]) -> bool:
    """Whether the three samples of every pixel are equal."""
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all())


def planes(rgb: NDArray[np.generic]) -> NDArray[np.generic]:
    """(rows, columns, 3) -> (3, rows, columns), contiguous."""
    return np.ascontiguousarray(np.moveaxis(rgb, -1, 0))
