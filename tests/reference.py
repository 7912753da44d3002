"""The NumPy oracle: what the compiled core must do, slowly and plainly, from the text of the specifications.

The windows follow DICOM PS3.3, the resize the definition of its filter; reference_tilepack.py has the codec.

Imports nothing from pyrad: it would be no oracle if it shared code with what it checks.
"""

import math
from fractions import Fraction

import numpy as np

# --- crc32c -------------------------------------------------------------------------------------


def crc32c(data: bytes) -> int:
    """CRC-32C, one bit at a time (RFC 3720 B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# --- preprocess: one image, float64, from the formulas -------------------------------------------


def windowed(
    stored: np.ndarray,
    *,
    slope: float,
    intercept: float,
    center: float,
    width: float,
    function: str,
    padding: tuple[int, int] | None = None,
    invert: bool = False,
    modality_lut: tuple[int, int, list[int]] | None = None,
    voi_lut: tuple[int, int, list[int]] | None = None,
) -> np.ndarray:
    """Stored values -> y in [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3), MONOCHROME1 inverted, padding 0.

    A lookup table is its first value, its bits and its entries: a Modality LUT instead of the rescale
    (C.11.1.1), a VOI LUT instead of the window (C.11.2.1.1).
    """
    x = stored.astype(np.float64) * slope + intercept
    if modality_lut is not None:
        x = np.vectorize(lambda value: looked_up(value, *modality_lut), [np.float64])(stored)
    c, w = center, width
    if function == "LINEAR" and w < 1:
        function = "LINEAR_EXACT"  # LINEAR is defined for w >= 1
    if voi_lut is not None:
        greatest = 2 ** voi_lut[1] - 1
        y = np.vectorize(lambda value: looked_up(value, *voi_lut) / greatest, [np.float64])(x)
    elif function == "SIGMOID":
        with np.errstate(over="ignore"):
            y = 1 / (1 + np.exp(-4 * (x - c) / w))
    elif function == "LINEAR_EXACT":
        y = np.select([x <= c - w / 2, x > c + w / 2], [0.0, 1.0], (x - c) / w + 0.5)
    elif w == 1:
        y = np.where(x <= c - 0.5, 0.0, 1.0)
    else:
        half = (w - 1) / 2
        y = np.select([x <= c - 0.5 - half, x > c - 0.5 + half], [0.0, 1.0], (x - (c - 0.5)) / (w - 1) + 0.5)
    y = 1 - y if invert else y
    return y if padding is None else np.where((stored >= padding[0]) & (stored <= padding[1]), 0.0, y)


def looked_up(value: float, first: int, _bits: int, entries: list[int]) -> int:
    """The entry of a value, which is rounded to the nearest integer, half up; the ends hold outside."""
    index = math.floor(Fraction(float(value)) + Fraction(1, 2)) - first
    return entries[min(max(index, 0), len(entries) - 1)]


def resize_matrix(size: int, low: float, high: float, out: int) -> np.ndarray:
    """(out, size) weights of a triangle filter: each output pixel's mean of the source pixels about it."""
    scale = (high - low) / out
    centers = low + (np.arange(out) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centers[:, None]) / max(scale, 1.0)
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(image: np.ndarray, box: tuple[float, float, float, float], height: int, width: int) -> np.ndarray:
    """Resize the box (x0, y0, x1, y1), in source pixels, of an image (rows, columns) to (height, width)."""
    x0, y0, x1, y1 = box
    rows, columns = image.shape
    return resize_matrix(rows, y0, y1, height) @ image @ resize_matrix(columns, x0, x1, width).T


def turned(grid: np.ndarray, m: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Sample a grid (rows, columns) bilinearly at (x, y) = m (2, 3) times (u, v, 1), for pixels of ``size``.

    Whole numbers are the middles of pixels; outside the grid is 0.
    """
    v, u = np.indices(size)
    x, y = (axis[0] * u + axis[1] * v + axis[2] for axis in np.asarray(m, np.float64))
    out = np.zeros(size)
    for row in range(2):
        for column in range(2):
            i, j = np.floor(y).astype(np.int64) + row, np.floor(x).astype(np.int64) + column
            inside = (i >= 0) & (i < grid.shape[0]) & (j >= 0) & (j < grid.shape[1])
            weight = (1 - np.abs(y - i)) * (1 - np.abs(x - j))
            out[inside] += (weight[inside]) * grid[i[inside], j[inside]]
    return out


def letterbox(
    height: int, width: int, spacing_mm: tuple[float, float], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """x, y, width and height of the image in an output of ``size``, in exact rational arithmetic."""
    tall, wide = height * Fraction(spacing_mm[0]), width * Fraction(spacing_mm[1])
    scale = min(Fraction(size[0]) / tall, Fraction(size[1]) / wide)
    filled_h, filled_w = (max(1, _half_up(side * scale)) for side in (tall, wide))
    margin_y, margin_x = (
        _half_up(Fraction(whole - part, 2)) for whole, part in zip(size, (filled_h, filled_w), strict=True)
    )
    return margin_x, margin_y, filled_w, filled_h


def _half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Round float32 values to the nearest bfloat16, ties to even, by comparing with the neighbours."""
    values = values.astype(np.float32)
    below = (values.view(np.uint32) >> 16).astype(np.uint32)  # toward zero
    above = below + 1
    to_below, to_above = (
        np.abs((bits << 16).view(np.float32).astype(np.float64) - values) for bits in (below, above)
    )
    pick_above = (to_above < to_below) | ((to_above == to_below) & (above % 2 == 0))
    return np.where(pick_above, above, below).astype(np.uint16)


def float16_bits(values: np.ndarray) -> np.ndarray:
    """Round float32 values to the nearest float16, ties to even: whole steps of the value's power of two."""
    exact = values.astype(np.float32).astype(np.float64)
    _, exponent = np.frexp(exact)
    step = np.ldexp(1.0, np.maximum(exponent - 11, -24))  # eleven bits; below 2^-14 the steps stay
    rounded = np.rint(np.abs(exact) / step) * step
    _, exponent = np.frexp(np.maximum(rounded, 2.0**-14))
    bits = (exponent + 14) * 1024 + (rounded / np.ldexp(1.0, exponent - 11) - 1024)
    bits = np.where(rounded < 2.0**-14, rounded / 2.0**-24, bits)
    bits = np.where(rounded >= 65536, 31 * 1024, bits)
    return (bits.astype(np.uint16) | np.signbit(exact).astype(np.uint16) << 15).astype(np.uint16)


def percentiles(image: np.ndarray, fractions: list[float], padding: tuple[int, int] | None) -> list[float]:
    """Type 7 of Hyndman and Fan 1996 over the sorted values outside ``padding``; [] where there is none."""
    values = np.sort(image.ravel()).astype(np.int64)
    if padding is not None:
        values = values[(values < padding[0]) | (values > padding[1])]
    if not values.size:
        return []
    results = []
    for fraction in fractions:
        position = (values.size - 1) * fraction
        rank = int(position)
        first, second = values[rank], values[min(rank + 1, values.size - 1)]
        results.append(float(first) + (position - rank) * float(second - first))
    return results
