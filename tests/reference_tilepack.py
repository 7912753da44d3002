"""The NumPy oracle of tilepack: its three modes, slowly and plainly, from the text of docs/format.md.

Imports nothing from pyrad: it would be no oracle if it shared code with what it checks.
"""

from itertools import pairwise

import numpy as np

WIDTHS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16)  # of code 0, 1, ... in pack, of code 1, 2, ... in rice
DTYPE_CODES = {"uint8": 0x01, "uint16": 0x02, "int8": 0x81, "int16": 0x82}
MODES = ("pack", "rice", "dense")
ABOVE, GRADIENT, MEDIAN = range(3)
SEGMENT_ROWS = 128

# --- chunk -> pixels ----------------------------------------------------------------------------


def tilepack_decode(chunk: bytes) -> np.ndarray:
    """Decode a sound tilepack chunk; a corrupt one may raise anything."""
    version, mode, dtype_code, flags = chunk[:4]
    rows, columns = (int(n) for n in np.frombuffer(chunk, "<u4", 2, 4))
    segment_rows, segments = (int(n) for n in np.frombuffer(chunk, "<u2", 2, 12))
    assert version == 1
    assert flags in ((0, 1) if mode == 0 else (0,))
    assert (segment_rows, segments) == (SEGMENT_ROWS, -(-rows // SEGMENT_ROWS))
    entries = [int(n) for n in np.frombuffer(chunk, "<u4", segments + 1, 16)]
    offsets = [entry // 16 * 16 for entry in entries]
    assert offsets[0] == _align16(16 + 4 * (segments + 1))
    assert len(chunk) == entries[-1] + 16
    name = next(name for name, code in DTYPE_CODES.items() if code == dtype_code)
    image = np.empty((rows, columns), np.dtype(name).str.replace("i", "u"))
    for segment, (start, end) in enumerate(pairwise(offsets)):
        part = image[segment * SEGMENT_ROWS :][:SEGMENT_ROWS]
        read = _packed_residuals if mode == 0 else _rice_residuals
        part[...] = read(chunk[start:end], part.shape, image.itemsize).astype(np.int64).astype(image.dtype)
        _add_predictions(part, flags if mode == 0 else entries[segment] % 16)
    return image.view(name)


def _add_predictions(part: np.ndarray, predictor: int) -> None:
    """Residuals -> pixels, in place; all sums are modulo 2^bits."""
    part[0] = np.cumsum(part[0], dtype=part.dtype)
    if predictor == MEDIAN:
        bits = 8 * part.itemsize
        for above, row in pairwise(part):
            row[:1] += above[:1]
            for x in range(1, len(row)):
                corner = int(above[x - 1])
                row[x] = (
                    int(row[x]) + corner + _median(int(row[x - 1]), int(above[x]), corner, bits)
                ) % 2**bits
        return
    if predictor == GRADIENT:
        part[1:] = np.cumsum(part[1:], axis=1, dtype=part.dtype)
    part[...] = np.cumsum(part, axis=0, dtype=part.dtype)


def _median(left: int, above: int, corner: int, bits: int) -> int:
    """The median of left, above and left + above - corner, each less the corner."""
    a, b = (_wrapped(value - corner, bits) for value in (left, above))
    return sorted((a, b, a + b))[1]


def _wrapped(value: int, bits: int) -> int:
    """Modulo 2^bits, in two's complement."""
    return (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def _packed_residuals(segment: bytes, shape: tuple[int, int], _itemsize: int) -> np.ndarray:
    """Unpack one segment's tiles into residuals of ``shape``, int64."""
    cells, codes, at = _table(segment, shape)
    for i, j, code in codes:
        width = WIDTHS[code]
        tile = np.array(
            [_fields(segment[at + y * width : at + (y + 1) * width], width) for y in range(4)], np.int64
        )
        cells[4 * i : 4 * i + 4, 8 * j : 8 * j + 8] = np.where(
            2 * tile >= 1 << width, tile - (1 << width), tile
        )
        at += 4 * width
    assert _align16(at) == len(segment)
    return cells[: shape[0], : shape[1]]


def _rice_residuals(segment: bytes, shape: tuple[int, int], itemsize: int) -> np.ndarray:
    """The same of low bits and quotients."""
    cells, codes, at = _table(segment, shape)
    low_bytes = sum(4 * WIDTHS[max(code - 1, 0)] for _, _, code in codes)
    stream = segment[at + _align16(low_bytes) :]
    words = np.frombuffer(stream, "<u8")
    assert (words[1:] | words[:-1]).all()
    unary = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")
    quotients = iter(np.diff(np.flatnonzero(unary), prepend=-1) - 1)
    for i, j, code in codes:
        width = WIDTHS[max(code - 1, 0)]
        low = [_fields(segment[at + y * width : at + (y + 1) * width], width) for y in range(4)]
        number = np.array(low, np.int64)
        if code and width < 8 * itemsize:
            high = np.array([next(quotients) for _ in range(32)], np.int64).reshape(4, 8)
            number = (number + (high << width)) % 2 ** (8 * itemsize)
        cells[4 * i : 4 * i + 4, 8 * j : 8 * j + 8] = number // 2 ^ -(number % 2)
        at += 4 * width
    assert next(quotients, None) is None
    return cells[: shape[0], : shape[1]]


def _table(segment: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, list[tuple[int, int, int]], int]:
    """Empty cells of whole tiles, (tile row, tile, code) of each tile, and where the payload starts."""
    tile_rows, tiles = -(-shape[0] // 4), -(-shape[1] // 8)
    table_row = (tiles + 1) // 2
    codes = [
        (i, j, segment[i * table_row + j // 2] >> 4 * (j % 2) & 15)
        for i in range(tile_rows)
        for j in range(tiles)
    ]
    return np.zeros((4 * tile_rows, 8 * tiles), np.int64), codes, _align16(tile_rows * table_row)


def _fields(packed: bytes, width: int) -> list[int]:
    """Eight fields of ``width`` bits, the first in the lowest bits of the first byte."""
    bits = int.from_bytes(packed, "little")
    return [bits >> (width * i) & ((1 << width) - 1) for i in range(8)]


# --- pixels -> chunk ----------------------------------------------------------------------------


def tilepack_encode(image: np.ndarray, mode: str = "pack") -> bytes:
    """Encode an image (rows, columns) of uint8, int8, uint16 or int16."""
    if mode == "pack":  # the gradient must save a sixteenth of the chunk
        plain, gradient = (encode_by(image, mode, [predictor] * 999) for predictor in (ABOVE, GRADIENT))
        return gradient if len(gradient) <= len(plain) - len(plain) // 16 else plain
    best = []
    for first in range(0, image.shape[0], SEGMENT_ROWS):
        part = image[first : first + SEGMENT_ROWS]
        sizes = [
            len(_rice(_residuals(part, predictor), image.itemsize))
            for predictor in range(MODES.index(mode) + 1)
        ]
        best.append(sizes.index(min(sizes)))
    return encode_by(image, mode, best)


def encode_by(
    image: np.ndarray, mode: str, predictors: list[int], draw: np.random.Generator | None = None
) -> bytes:
    """Encode by given predictors, one a segment; in mode pack they must be the same.

    The low bits of a tile of rice are as many as take the least room, or drawn from those that are possible.
    """
    rows, columns = image.shape
    segments = []
    for first, predictor in zip(range(0, rows, SEGMENT_ROWS), predictors, strict=False):
        residual = _residuals(image[first : first + SEGMENT_ROWS], predictor)
        segments.append(_pack(residual) if mode == "pack" else _rice(residual, image.itemsize, draw))
    start = _align16(16 + 4 * (len(segments) + 1))
    entries = start + np.cumsum([0] + [len(segment) for segment in segments])
    if mode != "pack":
        entries[:-1] += predictors[: len(segments)]
    flags = predictors[0] if mode == "pack" else 0
    header = bytes([1, MODES.index(mode), DTYPE_CODES[image.dtype.name], flags])
    header += (
        np.array([rows, columns], "<u4").tobytes() + np.array([SEGMENT_ROWS, len(segments)], "<u2").tobytes()
    )
    return _padded(header + entries.astype("<u4").tobytes()) + b"".join(segments) + bytes(16)


def _residuals(part: np.ndarray, predictor: int) -> np.ndarray:
    """What is left of one segment's pixels, int64 in the range of a signed dtype of their size."""
    pixels = part.astype(np.int64)
    left = np.diff(pixels[0], prepend=0)
    bits = 8 * part.itemsize
    residual = np.diff(pixels, axis=0, prepend=0)
    if predictor == GRADIENT:
        residual = np.diff(residual, axis=1, prepend=0)
    if predictor == MEDIAN:
        a, b = (_wrapped(value - pixels[:-1, :-1], bits) for value in (pixels[1:, :-1], pixels[:-1, 1:]))
        residual[1:, 1:] = (
            pixels[1:, 1:] - pixels[:-1, :-1] - np.median([a, b, a + b], axis=0).astype(np.int64)
        )
    residual[0] = left
    return _wrapped(residual, bits)


def _cells(residual: np.ndarray) -> tuple[np.ndarray, bytearray, int]:
    """Tiles (tile row, tile, 4, 8), an empty table, and its bytes a tile row."""
    tile_rows, tiles = -(-residual.shape[0] // 4), -(-residual.shape[1] // 8)
    cells = np.zeros((4 * tile_rows, 8 * tiles), np.int64)
    cells[: residual.shape[0], : residual.shape[1]] = residual
    table_row = (tiles + 1) // 2
    return cells.reshape(tile_rows, 4, tiles, 8).swapaxes(1, 2), bytearray(tile_rows * table_row), table_row


def _pack(residual: np.ndarray) -> bytes:
    """Pack one segment's residuals: table of nibbles, then tiles, each padded to 16 bytes."""
    cells, table, table_row = _cells(residual)
    payload = b""
    for i, j in np.ndindex(cells.shape[:2]):
        low, high = int(cells[i, j].min()), int(cells[i, j].max())
        need = max((-low - 1).bit_length() + 1 if low < 0 else 0, high.bit_length() + 1 if high > 0 else 0)
        code = next(code for code, width in enumerate(WIDTHS) if width >= need)
        table[i * table_row + j // 2] |= code << 4 * (j % 2)
        payload += _low_bits(cells[i, j], WIDTHS[code])
    return _padded(bytes(table)) + _padded(payload)


def _rice(residual: np.ndarray, itemsize: int, draw: np.random.Generator | None = None) -> bytes:
    """Rice-code one segment's residuals: table, low bits, quotients, each padded to 16 bytes."""
    cells, table, table_row = _cells(residual)
    widths = [width for width in WIDTHS if width <= 8 * itemsize]
    payload, unary = b"", []
    for i, j in np.ndindex(cells.shape[:2]):
        numbers = np.where(cells[i, j] < 0, -2 * cells[i, j] - 1, 2 * cells[i, j])
        if not numbers.any():
            continue
        fitting = [width for width in widths if numbers.max() >> width <= 127]
        costs = [
            32 * width + (32 + int((numbers >> width).sum()) if width < 8 * itemsize else 0)
            for width in fitting
        ]
        width = fitting[costs.index(min(costs))] if draw is None else int(draw.choice(fitting))
        table[i * table_row + j // 2] |= (1 + WIDTHS.index(width)) << 4 * (j % 2)
        payload += _low_bits(numbers, width)
        if width < 8 * itemsize:
            unary += ["0" * (number >> width) + "1" for number in numbers.ravel().tolist()]
    bits = np.array(list("".join(unary)), np.uint8)
    return _padded(bytes(table)) + _padded(payload) + _padded(np.packbits(bits, bitorder="little").tobytes())


def _low_bits(tile: np.ndarray, width: int) -> bytes:
    """32 fields of ``width`` bits, side by side."""
    fields = (int(cell) & ((1 << width) - 1) for cell in tile.ravel())
    return sum(field << width * k for k, field in enumerate(fields)).to_bytes(4 * width, "little")


def _align16(size: int) -> int:
    return -(-size // 16) * 16


def _padded(data: bytes) -> bytes:
    return data + bytes(_align16(len(data)) - len(data))
