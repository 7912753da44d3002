"""NumPy arrays and byte ranges -> the compiled core, and back: the only module that imports it.

Arguments are checked here, once; the C++ behind trusts them, trusts no byte of a chunk, and reports a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyrad import _C  # noqa: TID251  this is the one importer
from pyrad.errors import CorruptChunkError, UsageError

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[Any]

DTYPES = (np.dtype("uint8"), np.dtype("int8"), np.dtype("<u2"), np.dtype("<i2"))
MODES = ("pack",)
SHORT_READ = -1  # what read_ranges reports where the file ends before the range

_PIXELS_A_BYTE = 64  # no chunk holds more: each 32 pixels cost at least the four bits of their width
_SLAB_ALIGN = 64


class Status(IntEnum):
    """What became of one chunk or one image; mirrors ``Status`` in csrc/common.h."""

    OK = 0
    CHECKSUM = 1
    HEADER = 2
    GEOMETRY = 3
    BOUNDS = 4
    WIDTHS = 5

    @property
    def sentence(self) -> str:
        """The status in words."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.OK: "the chunk is sound",
    Status.CHECKSUM: "the bytes do not match their crc32c",
    Status.HEADER: "the chunk's header names a version, mode or layout that this pyrad does not know",
    Status.GEOMETRY: "the chunk holds an image of another shape or dtype than its array",
    Status.BOUNDS: "a size or an offset in the chunk does not fit its bytes",
    Status.WIDTHS: "the widths in a segment's table are invalid or do not add up to its payload",
}


def tilepack_encode(image: NDArray[Any], *, mode: str = "pack") -> bytes:
    """Encode one image (rows, columns) of uint8, int8, uint16 or int16 as a tilepack chunk (docs/format.md).

    The bytes follow from the image alone. ValueError or TypeError for another shape, dtype or mode.
    """
    if mode not in MODES:
        raise ValueError(f"tilepack has no mode {mode!r}; it has {', '.join(MODES)}")
    if image.ndim != 2 or 0 in image.shape:
        raise ValueError(f"tilepack encodes one image (rows, columns), at least 1x1, not shape {image.shape}")
    return _C.tilepack_encode(np.ascontiguousarray(image, dtype=_pixel_dtype(image.dtype)))


def tilepack_decode(payload: Buffer, *, rows: int, columns: int, dtype: DTypeLike) -> NDArray[Any]:
    """Decode a tilepack chunk into a new array (rows, columns) of ``dtype``.

    The payload is not trusted: CorruptChunkError if it is not a whole, consistent chunk of just that shape
    and dtype. It carries no checksum: a flipped residual goes unnoticed here (the crc32c codec is for that).
    """
    pixels = _pixel_dtype(dtype)
    chunk: Any = np.frombuffer(payload, np.uint8)
    if rows < 1 or columns < 1:
        raise ValueError(f"an image has at least one row and one column, not {rows}x{columns}")
    status = Status.BOUNDS  # refused before anything is allocated
    if rows * columns <= _PIXELS_A_BYTE * chunk.size:
        image = np.empty((rows, columns), pixels)
        status = Status(_C.tilepack_decode(chunk, image))
    if status is not Status.OK:
        raise CorruptChunkError(
            f"cannot decode a tilepack chunk of {chunk.size} bytes as {rows}x{columns} {pixels.name}: "
            f"{status.sentence}"
        )
    return image


def crc32c(data: Buffer) -> int:
    """CRC-32C (Castagnoli, RFC 3720 B.4) of a contiguous buffer."""
    contiguous: Any = data  # NumPy tells mypy of its buffers from Python 3.12 on
    return _C.crc32c(contiguous)


def slab_layout(sizes: Sequence[int] | NDArray[Any]) -> tuple[NDArray[np.uint64], int]:
    """Lay ranges of ``sizes`` bytes out in one slab: their starts, 64-byte aligned, and the slab's size.

    The size has 64 bytes to spare, so that a decoder may load past the end of the last range.
    """
    sizes_bytes = np.asarray(sizes, np.uint64)
    padded = (sizes_bytes + np.uint64(_SLAB_ALIGN - 1)) // np.uint64(_SLAB_ALIGN) * np.uint64(_SLAB_ALIGN)
    ends = np.cumsum(padded, dtype=np.uint64)
    total = int(ends[-1]) if ends.size else 0
    return ends - padded, total + _SLAB_ALIGN


def read_ranges(
    fds: Sequence[int] | NDArray[Any],
    offsets: Sequence[int] | NDArray[Any],
    sizes: Sequence[int] | NDArray[Any],
    slab: NDArray[np.uint8],
    slab_offsets: Sequence[int] | NDArray[Any],
    *,
    threads: int = 1,
) -> NDArray[np.int32]:
    """Read ``sizes[i]`` bytes at ``offsets[i]`` of the open file ``fds[i]`` to ``slab[slab_offsets[i]:]``.

    The lists have one entry a range; ``slab`` is a writeable uint8 vector. Returns int32 (N,): 0, the errno
    of a failed read, or SHORT_READ where the file ends too early. File positions are left alone (pread), the
    GIL is released, up to ``threads`` threads share the ranges. ValueError where a range leaves the slab.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    return _C.read_ranges(
        np.ascontiguousarray(fds, np.int32),
        np.ascontiguousarray(offsets, np.uint64),
        np.ascontiguousarray(sizes, np.uint64),
        slab,
        np.ascontiguousarray(slab_offsets, np.uint64),
        threads=threads,
    )


def device_report() -> dict[str, Any]:
    """Return what the machine offers: built (with CUDA kernels), runtime_version, driver_version, names."""
    return _C.device_report()


def require_device(device: int = 0) -> None:
    """Raise UsageError, saying what to do, unless this build can use GPU number ``device``."""
    try:
        _C.require_device(device)
    except RuntimeError as error:
        raise UsageError(str(error)) from None


def _pixel_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the little-endian dtype of the same name, or raise TypeError if pixels cannot have it."""
    little = np.dtype(dtype).newbyteorder("<")
    if little not in DTYPES:
        raise TypeError(f"dtype is {np.dtype(dtype)}; pixels are uint8, int8, uint16 or int16")
    return little
