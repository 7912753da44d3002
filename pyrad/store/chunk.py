"""One 2-D plane of stored values <-> the bytes of one chunk.

A chunk of profile ``zstd`` is [bytes, zstd, crc32c], of any other [tilepack, crc32c]: either way its last
four bytes are the crc32c (little-endian) of what precedes them, checked before anything is decoded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyrad import ops
from pyrad.errors import CorruptChunkError
from pyrad.store.layout import CHECKSUM_BYTES, Profile, tilepack_mode

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def encode_chunk(plane: NDArray[Any], profile: Profile) -> bytes:
    """One plane (rows, columns) of stored values -> its chunk, checksum included.

    The bytes follow from plane and profile alone (for ``zstd``: and from the version of libzstd).
    """
    mode = tilepack_mode(profile, plane.dtype.name)
    if mode is not None:
        payload = ops.tilepack_encode(plane, mode=mode)
    else:
        little = np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("<"))
        payload = bytes(_zstd().encode(little))
    return payload + ops.crc32c(payload).to_bytes(CHECKSUM_BYTES, "little")


def decode_chunk(
    chunk: ops.Buffer, *, profile: Profile, rows: int, columns: int, dtype: DTypeLike, where: str = "a chunk"
) -> NDArray[Any]:
    """One chunk, checksum included -> its plane (rows, columns). CorruptChunkError names ``where``.

    The bytes are not trusted: the checksum is compared first, and a payload that claims another size than
    rows x columns of ``dtype`` is refused before anything is allocated for it.
    """
    data = np.frombuffer(chunk, np.uint8)
    payload, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:].tobytes()
    if payload.size == 0 or ops.crc32c(payload) != int.from_bytes(checksum, "little"):
        raise CorruptChunkError(f"{where} is damaged: {ops.Status.CHECKSUM.sentence}")
    try:
        if profile == "zstd":
            return _decode_zstd(payload, rows, columns, np.dtype(dtype).newbyteorder("<"))
        return ops.tilepack_decode(payload, rows=rows, columns=columns, dtype=dtype)
    except CorruptChunkError as error:
        raise CorruptChunkError(f"{where} is damaged: {error}") from None


def zstd_content_bytes(frame: bytes) -> int | None:
    """Frame_Content_Size of a zstd frame, None where it has none. RFC 8878, 3.1.1.1.

    ValueError where the bytes do not begin a zstd frame.
    """
    if len(frame) < 6 or frame[:4] != _ZSTD_MAGIC:
        raise ValueError("it does not begin with a zstd frame")
    descriptor = frame[4]
    single_segment = descriptor >> 5 & 1
    size_flag = descriptor >> 6
    at = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]  # window descriptor, dictionary id
    length = (single_segment, 2, 4, 8)[size_flag]
    if len(frame) < at + length:
        raise ValueError("its zstd frame header is cut off")
    if length == 0:
        return None
    return int.from_bytes(frame[at : at + length], "little") + (256 if length == 2 else 0)


def _decode_zstd(payload: NDArray[np.uint8], rows: int, columns: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    expected = rows * columns * dtype.itemsize
    try:
        claimed = zstd_content_bytes(payload[:32].tobytes())
    except ValueError as error:
        raise CorruptChunkError(str(error)) from None
    if claimed != expected:
        raise CorruptChunkError(f"it claims to inflate to {claimed} bytes and its image has {expected}")
    plane = np.empty((rows, columns), dtype)
    try:
        # The output is ours and has the only right size: libzstd cannot be led to write more.
        _zstd().decode(payload, out=plane.reshape(-1).view(np.uint8))
    except (RuntimeError, ValueError) as error:
        raise CorruptChunkError(f"its zstd frame does not decode ({error})") from None
    return plane


def _zstd() -> Any:
    """The zstd codec; imported when it is wanted, since numcodecs imports every codec that it has."""
    from numcodecs.zstd import Zstd

    return Zstd(level=3, checksum=False)
