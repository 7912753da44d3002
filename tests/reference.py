"""The NumPy oracle: what the compiled core must do, slowly and plainly, from the text of the specifications.

The codec follows docs/format.md, the windows DICOM PS3.3, the resize the definition of its filter.

Imports nothing from pyrad: it would be no oracle if it shared code with what it checks.
"""

import math
from fractions import Fraction
from itertools import pairwise

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


# --- tilepack -----------------------------------------------------------------------------------

WIDTHS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16)
DTYPE_CODES = {"uint8": 0x01, "uint16": 0x02, "int8": 0x81, "int16": 0x82}
SEGMENT_ROWS = 128


def tilepack_decode(chunk: bytes) -> np.ndarray:
    """Decode a sound tilepack chunk; a corrupt one may raise anything."""
    version, mode, dtype_code, flags = chunk[:4]
    rows, columns = (int(n) for n in np.frombuffer(chunk, "<u4", 2, 4))
    segment_rows, segments = (int(n) for n in np.frombuffer(chunk, "<u2", 2, 12))
    assert (version, mode, flags & ~1) == (1, 0, 0)
    assert (segment_rows, segments) == (SEGMENT_ROWS, -(-rows // SEGMENT_ROWS))
    offsets = [int(n) for n in np.frombuffer(chunk, "<u4", segments + 1, 16)]
    assert offsets[0] == _align16(16 + 4 * (segments + 1))
    assert len(chunk) == offsets[-1] + 16
    name = next(name for name, code in DTYPE_CODES.items() if code == dtype_code)
    image = np.empty((rows, columns), np.dtype(name).str.replace("i", "u"))
    for segment, (start, end) in enumerate(pairwise(offsets)):
        part = image[segment * SEGMENT_ROWS :][:SEGMENT_ROWS]
        part[...] = _residuals_of(chunk[start:end], part.shape).astype(np.int64).astype(image.dtype)
        part[0] = np.cumsum(part[0], dtype=image.dtype)  # all sums are modulo 2^bits
        if flags & 1:
            part[1:] = np.cumsum(part[1:], axis=1, dtype=image.dtype)
        part[...] = np.cumsum(part, axis=0, dtype=image.dtype)
    return image.view(name)


def _residuals_of(segment: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Unpack one segment's tiles into residuals of ``shape``, int64."""
    tile_rows, tiles = -(-shape[0] // 4), -(-shape[1] // 8)
    table_row = (tiles + 1) // 2
    at = _align16(tile_rows * table_row)
    residual = np.zeros((4 * tile_rows, 8 * tiles), np.int64)
    for i in range(tile_rows):
        for j in range(tiles):
            width = WIDTHS[segment[i * table_row + j // 2] >> 4 * (j % 2) & 15]
            tile = [_fields(segment[at + y * width : at + (y + 1) * width], width) for y in range(4)]
            residual[4 * i : 4 * i + 4, 8 * j : 8 * j + 8] = tile
            at += 4 * width
    assert _align16(at) == len(segment)
    return residual[: shape[0], : shape[1]]


def _fields(packed: bytes, width: int) -> list[int]:
    """Eight two's complement fields of ``width`` bits, the first in the lowest bits of the first byte."""
    bits = int.from_bytes(packed, "little")
    unsigned = [bits >> (width * i) & ((1 << width) - 1) for i in range(8)]
    return [field - (1 << width) if 2 * field >= 1 << width else field for field in unsigned]


def tilepack_encode(image: np.ndarray) -> bytes:
    """Encode an image (rows, columns) of uint8, int8, uint16 or int16; the gradient must save a sixteenth."""
    plain, gradient = (_encode(image, flag) for flag in (0, 1))
    return gradient if len(gradient) <= len(plain) - len(plain) // 16 else plain


def _encode(image: np.ndarray, flags: int) -> bytes:
    rows, columns = image.shape
    segments = []
    for first in range(0, rows, SEGMENT_ROWS):
        part = image[first : first + SEGMENT_ROWS].astype(np.int64)
        part[1:] -= part[:-1].copy()
        summed = slice(None) if flags & 1 else slice(1)
        part[summed, 1:] -= part[summed, :-1].copy()
        segments.append(_pack(part.astype(image.dtype.str.replace("u", "i")).astype(np.int64)))
    start = _align16(16 + 4 * (len(segments) + 1))
    offsets = start + np.cumsum([0] + [len(segment) for segment in segments])
    header = bytes([1, 0, DTYPE_CODES[image.dtype.name], flags]) + np.array([rows, columns], "<u4").tobytes()
    header += np.array([SEGMENT_ROWS, len(segments)], "<u2").tobytes() + offsets.astype("<u4").tobytes()
    return _padded(header) + b"".join(segments) + bytes(16)


def _pack(residual: np.ndarray) -> bytes:
    """Pack one segment's residuals: table of nibbles, then tiles, each padded to 16 bytes."""
    tile_rows, tiles = -(-residual.shape[0] // 4), -(-residual.shape[1] // 8)
    cells = np.zeros((4 * tile_rows, 8 * tiles), np.int64)
    cells[: residual.shape[0], : residual.shape[1]] = residual
    table = bytearray(tile_rows * ((tiles + 1) // 2))
    payload = b""
    for i in range(tile_rows):
        for j in range(tiles):
            tile = cells[4 * i : 4 * i + 4, 8 * j : 8 * j + 8]
            low, high = int(tile.min()), int(tile.max())
            need = max(
                (-low - 1).bit_length() + 1 if low < 0 else 0, high.bit_length() + 1 if high > 0 else 0
            )
            code = next(code for code, width in enumerate(WIDTHS) if width >= need)
            width = WIDTHS[code]
            table[i * ((tiles + 1) // 2) + j // 2] |= code << 4 * (j % 2)
            fields = (int(cell) & ((1 << width) - 1) for cell in tile.ravel())
            bits = sum(field << width * k for k, field in enumerate(fields))  # 32 fields, side by side
            payload += bits.to_bytes(4 * width, "little")
    return _padded(bytes(table)) + _padded(payload)


def _align16(size: int) -> int:
    return -(-size // 16) * 16


def _padded(data: bytes) -> bytes:
    return data + bytes(_align16(len(data)) - len(data))


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
