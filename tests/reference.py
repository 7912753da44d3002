"""The NumPy oracle: what the compiled core must do, slowly and plainly, from the text of docs/format.md.

Imports nothing from pyrad: it would be no oracle if it shared code with what it checks.
"""

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


def align16(size: int) -> int:
    return -(-size // 16) * 16


def tilepack_decode(chunk: bytes) -> np.ndarray:
    """Decode a sound tilepack chunk; a corrupt one may raise anything."""
    version, mode, dtype_code, flags = chunk[:4]
    rows, columns = np.frombuffer(chunk, "<u4", 2, 4)
    segment_rows, segments = np.frombuffer(chunk, "<u2", 2, 12)
    assert (version, mode, segment_rows, flags & ~1) == (1, 0, 128, 0)
    dtype = next(name for name, code in DTYPE_CODES.items() if code == dtype_code)
    unsigned = np.dtype(f"u{dtype_code & 0x7F}")
    height, width = (columns, rows) if flags & 1 else (rows, columns)
    offsets = np.frombuffer(chunk, "<u4", int(segments) + 1, 16)
    assert segments == -(-height // 128)
    assert len(chunk) == offsets[-1] + 16
    image = np.zeros((height, width), unsigned)
    for segment in range(segments):
        first = segment * 128
        part = image[first : first + 128]
        part[...] = decode_segment(chunk, int(offsets[segment]), *part.shape, unsigned)
    return (image.T if flags & 1 else image).copy().view(dtype)


def decode_segment(chunk: bytes, start: int, rows: int, columns: int, dtype: np.dtype) -> np.ndarray:
    """Decode one segment of (rows, columns) pixels that starts at byte ``start``."""
    tile_rows, tiles = -(-rows // 4), -(-columns // 8)
    table_row = (tiles + 1) // 2
    at = start + align16(tile_rows * table_row)
    residual = np.zeros((4 * tile_rows, 8 * tiles), dtype)
    for i in range(tile_rows):
        for j in range(tiles):
            nibble = chunk[start + i * table_row + j // 2] >> (4 * (j % 2)) & 15
            width = WIDTHS[nibble]
            for y in range(4):
                residual[4 * i + y, 8 * j : 8 * j + 8] = unpack(chunk[at : at + width], width)
                at += width
    residual = residual[:rows, :columns]
    residual[0] = np.cumsum(residual[0], dtype=dtype)  # the first row is predicted from the left
    return np.cumsum(residual, axis=0, dtype=dtype)  # the others from above; sums are modulo 2^bits


def unpack(packed: bytes, width: int) -> list[int]:
    """Unpack eight fields of ``width`` bits, two's complement, the first in the lowest bits."""
    bits = int.from_bytes(packed, "little")
    fields = [bits >> (width * i) & ((1 << width) - 1) for i in range(8)]
    return [field - (1 << width) if field >> (width - 1) & 1 else field for field in fields] if width else fields
