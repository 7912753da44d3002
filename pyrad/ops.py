"""NumPy arrays and byte ranges -> the compiled core, and back: the only module that imports it.

Arguments are checked here, once; the C++ behind trusts them, trusts no byte of a chunk, and reports a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyrad import (
    _C,  # noqa: TID251  this is the one importer
    voi,
)
from pyrad.errors import CorruptChunkError, UsageError

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[Any]

DTYPES = (np.dtype("uint8"), np.dtype("int8"), np.dtype("<u2"), np.dtype("<i2"))
MODES = ("pack", "rice", "dense")  # as a chunk numbers them

_PIXELS_A_BYTE = 64  # no chunk holds more: each 32 pixels cost at least the four bits of their width
SLAB_ALIGN = 64


class Status(IntEnum):
    """What became of one chunk or one image; mirrors ``Status`` in csrc/common.h.

    Where a read failed there is ``-errno`` in place of a status.
    """

    OK = 0
    CHECKSUM = 1
    HEADER = 2
    GEOMETRY = 3
    BOUNDS = 4
    WIDTHS = 5
    RECORD = 6
    TRUNCATED = 7

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
    Status.RECORD: "the record of the image is impossible: its shape, source box, window or destination",
    Status.TRUNCATED: "the file ends before the chunk does",
}


class Codec(IntEnum):
    """How a chunk holds its pixels; mirrors ``Codec`` in csrc/preprocess.h."""

    RAW = 0  # little-endian, row by row
    TILEPACK = 1


# A lookup table among the entries that preprocess is given; mirrors ``LutRange`` in csrc/preprocess.h.
LUT_DTYPE = np.dtype([("at", "<u8"), ("count", "<u4"), ("first", "<i4")], align=True)
LUT_FIRST_LIMIT = 1 << 17  # of its absolute value
NO_LUTS = np.zeros(0, np.uint16)
NO_FILES = np.zeros(0, np.int32)
NO_TIMES = np.zeros(0, np.int64)
NO_FILE = -1  # of an image whose chunks lie in the slab

# One image of a batch; mirrors ``Record`` in csrc/preprocess.h, which every call of preprocess compares.
RECORD_DTYPE = np.dtype(
    [
        ("chunk_offset", "<u8", (3,)),  # bytes into the slab, or into the image's file; one a plane
        ("chunk_size", "<u8", (3,)),  # bytes, a trailing crc32c included
        ("modality_lut", LUT_DTYPE),  # instead of a rescale
        ("voi_lut", LUT_DTYPE, (3,)),  # instead of a window; then `a` is the greatest entry, which becomes 1
        ("x0", "<f8"),  # source box in source pixels, 0 <= x0 < x1 <= columns, 0 <= y0 < y1 <= rows
        ("y0", "<f8"),
        ("x1", "<f8"),
        ("y1", "<f8"),
        ("turn", "<f8", (2, 3)),  # (column, row, 1) of the output to (column, row) of the grid: see turned
        ("rows", "<u4"),
        ("columns", "<u4"),
        ("s_ref", "<i4", (3,)),  # of each window: see pyrad.voi
        ("a", "<f4", (3,)),
        ("b", "<f4", (3,)),
        ("span", "<i4", (3,)),  # of a clip
        ("pad_low", "<i4"),  # padding, inclusive, stored values
        ("pad_high", "<i4"),
        ("dst_x", "<u4"),  # the rectangle of the output that the box fills, in pixels: see pyrad.geometry
        ("dst_y", "<u4"),
        ("dst_w", "<u4"),
        ("dst_h", "<u4"),
        ("dtype", "u1"),  # dtype_code()
        ("planes", "u1"),  # 1 or 3
        ("codec", "u1"),  # Codec
        ("crc", "u1"),  # 1: each chunk ends in its crc32c, which is checked
        ("windows", "u1"),  # 1, or 3: each channel's own, of an image of one plane
        ("voi", "u1", (3,)),  # pyrad.voi.Voi
        ("invert", "u1"),  # 1: MONOCHROME1
        ("padded", "u1"),  # 1: pad_low to pad_high is padding
        ("flip_x", "u1"),  # 1: mirrored left to right
        ("flip_y", "u1"),  # 1: mirrored top to bottom
        ("turned", "u1"),  # 1: the box fills a grid of dst_w x dst_h pixels, which is seen by `turn`
    ],
    align=True,
)


def percentiles(
    image: NDArray[Any], fractions: Sequence[float], *, padding: tuple[int, int] | None = None
) -> tuple[float, ...]:
    """Values at ``fractions`` (0 to 1) of the stored values outside ``padding`` (inclusive); () if none is.

    ``image`` is an array of uint8, int8, uint16 or int16 of any shape. Exact: linear between order statistics
    at fraction x (n - 1), as NumPy's default. Source: Hyndman and Fan 1996, type 7.
    """
    if not all(0 <= fraction <= 1 for fraction in fractions):
        raise ValueError(f"percentiles lie at fractions from 0 to 1, not {fractions}")
    low, high = padding or voi.NO_PADDING
    values = np.ascontiguousarray(image, dtype=_pixel_dtype(image.dtype))
    return tuple(_C.percentiles(values, list(fractions), low=low, high=high))


def tilepack_encode(image: NDArray[Any], *, mode: str = "pack") -> bytes:
    """Encode one image (rows, columns) of uint8, int8, uint16 or int16 as a tilepack chunk (docs/format.md).

    ``mode``: ``pack`` is the fastest to read, ``rice`` and then ``dense`` are smaller. The bytes follow from
    image and mode. ValueError or TypeError for another shape, dtype or mode.
    """
    if mode not in MODES:
        raise ValueError(f"tilepack has no mode {mode!r}; it has {', '.join(MODES)}")
    if image.ndim != 2 or 0 in image.shape:
        raise ValueError(f"tilepack encodes one image (rows, columns), at least 1x1, not shape {image.shape}")
    pixels = np.ascontiguousarray(image, dtype=_pixel_dtype(image.dtype))
    return _C.tilepack_encode(pixels, mode=MODES.index(mode))


def tilepack_decode(
    payload: Buffer, *, rows: int, columns: int, dtype: DTypeLike, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Decode a tilepack chunk into a new array (rows, columns) of ``dtype``, or into ``out``, which is one.

    The payload is not trusted: CorruptChunkError if it is not a whole, consistent chunk of just that shape
    and dtype; ``out`` is then as it was. It carries no checksum: a flipped residual goes unnoticed here (the
    crc32c codec is for that).
    """
    pixels = _pixel_dtype(dtype)
    chunk: Any = np.frombuffer(payload, np.uint8)
    if rows < 1 or columns < 1:
        raise ValueError(f"an image has at least one row and one column, not {rows}x{columns}")
    if out is not None and (out.shape, out.dtype) != ((rows, columns), pixels):
        raise ValueError(f"out is {out.dtype.name} {out.shape}, not {pixels.name} {(rows, columns)}")
    status = Status.BOUNDS  # refused before anything is allocated
    if rows * columns <= _PIXELS_A_BYTE * chunk.size:
        image = np.empty((rows, columns), pixels) if out is None else out
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
    padded = slab_padded(np.asarray(sizes, np.int64)).astype(np.uint64)
    ends = np.cumsum(padded, dtype=np.uint64)
    total = int(ends[-1]) if ends.size else 0
    return ends - padded, total + SLAB_ALIGN


def slab_padded(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """What ranges of ``sizes`` bytes take in a slab: multiples of 64."""
    return (sizes + (SLAB_ALIGN - 1)) // SLAB_ALIGN * SLAB_ALIGN


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

    The lists have one entry a range; ``slab`` is a writeable uint8 vector. Returns int32 (N,): 0, -errno of a
    failed read, or ``Status.TRUNCATED``. File positions are left alone (pread), the GIL is released, up to
    ``threads`` threads share the ranges. ValueError where a range leaves the slab.
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


def read_ahead(
    fds: Sequence[int] | NDArray[Any],
    offsets: Sequence[int] | NDArray[Any],
    sizes: Sequence[int] | NDArray[Any],
) -> None:
    """Have the system fetch ``sizes[i]`` bytes at ``offsets[i]`` of the open file ``fds[i]`` meanwhile.

    It is advice: nothing fails, and nothing is asked where a look at a few of them finds those in memory.
    """
    _C.read_ahead(
        np.ascontiguousarray(fds, np.int32),
        np.ascontiguousarray(offsets, np.uint64),
        np.ascontiguousarray(sizes, np.uint64),
    )


def dtype_code(dtype: DTypeLike) -> int:
    """Return a record's ``dtype`` for pixels of uint8, int8, uint16 or int16."""
    pixels = _pixel_dtype(dtype)
    return pixels.itemsize | (0x80 if pixels.kind == "i" else 0)


def preprocess(
    slab: NDArray[np.uint8],
    records: NDArray[np.void],
    out: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    channels: int,
    luts: NDArray[np.uint16] = NO_LUTS,
    files: NDArray[np.int32] = NO_FILES,
    read_ns: NDArray[np.int64] = NO_TIMES,
    channels_last: bool = False,
    threads: int = 1,
) -> NDArray[np.int32]:
    """Decode, window, resize and normalise the images of ``records`` (N,), of RECORD_DTYPE, into ``out``.

    ``slab`` is a uint8 vector that holds their chunks, but for those of an image whose entry of ``files``
    (N,) is an open file: a thread reads each just before it decodes it (pread). ``read_ns`` (N,), where
    it is given, gets the nanoseconds that this took. ``out`` is C-contiguous (N, channels, rows, columns),
    or (N, rows, columns, channels) if ``channels_last``: float32, float16, or uint16 for the bits of
    bfloat16. There are 1 or 3 channels: three equal ones of a grey image, one each of an image of 3 planes.
    ``mean`` and ``std`` have one value, or one a channel: out = y * (1 / std) - mean / std, y in [0, 1].
    ``luts`` holds the entries of all lookup tables that records name.

    Returns int32 (N,), a `Status` each, or -errno of a failed read. Chunks are not trusted: an image whose
    status is not OK is all zeros, and its neighbours are sound. The GIL is released once; up to ``threads``
    threads share the images, and no bit depends on how many. ValueError or TypeError for arrays, channels or
    statistics that cannot be.
    """
    means, stds = (np.broadcast_to(np.asarray(x, np.float64), (channels,)) for x in (mean, std))
    with np.errstate(all="ignore"):
        scale, shift = np.stack([1.0 / stds, -means / stds]).astype(np.float32)
    if not (np.isfinite([stds, scale, shift]).all() and (stds > 0).all()):
        raise ValueError(
            f"mean {mean}, std {std}: each mean must be finite, each std finite and above 0, and mean / std "
            "and 1 / std within float32"
        )
    if out.shape[3 if channels_last else 1] != channels:
        raise ValueError(f"out has shape {out.shape}, but channels is {channels}")
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    return _C.preprocess(
        slab,
        records,
        out,
        scale,
        shift,
        luts=luts,
        files=files,
        read_ns=read_ns,
        channels_last=channels_last,
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
