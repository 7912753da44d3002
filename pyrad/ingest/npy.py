"""An NPY array -> sources -> pixels: one 2-D image, or a 3-D stack of frames along its first axis.

Nothing is unpickled, ever: an array of Python objects is refused by its header.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pyrad.ingest.narrow import StoredType, narrow_type
from pyrad.ingest.policy import MAX_PIXELS
from pyrad.ingest.reasons import Rejected
from pyrad.records import Source

_MAX_HEADER_CHARACTERS = 10_000


def scan_npy(archive: int, path: str, data: bytes) -> list[Source]:
    """One source a frame; arrays wider than 16 bits are looked through for values that do not fit."""
    stack = _stack(data)
    dtype = _stored_type(stack)
    return [
        Source(
            archive=archive,
            path=path,
            kind="npy",
            frame=frame,
            rows=stack.shape[1],
            columns=stack.shape[2],
            dtype=dtype,
            bits_stored=8 * np.dtype(dtype).itemsize,
        )
        for frame in range(len(stack))
    ]


def decode_npy(sources: Sequence[Source], data: bytes) -> Iterator[NDArray[Any] | Rejected]:
    """Pixels (rows, columns) of each source in its own type."""
    stack = _stack(data)
    for source in sources:
        yield np.ascontiguousarray(stack[source.frame], np.dtype(source.dtype))


def _stack(data: bytes) -> NDArray[Any]:
    """The array as (frames, rows, columns), a view of the file."""
    shape, fortran, dtype, offset = _header(data)
    if dtype.hasobject:
        raise Rejected("npy-pickle")
    if dtype.kind not in "biuf" or dtype.names is not None:
        raise Rejected("npy-dtype", detail=str(dtype) if dtype.names is None else "structured")
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] in (3, 4)):
        raise Rejected("npy-shape", detail=" x ".join(map(str, shape)))
    if shape[-1] * shape[-2] > MAX_PIXELS:
        raise Rejected("image-too-large", detail=" x ".join(map(str, shape)))
    present, expected = len(data) - offset, math.prod(shape) * dtype.itemsize
    if present != expected:
        reason = "pixel-data-short" if present < expected else "pixel-data-long"
        raise Rejected(reason, detail=f"{present} bytes, expected {expected}")
    array = np.frombuffer(data, dtype, offset=offset).reshape(shape, order="F" if fortran else "C")
    return array if array.ndim == 3 else array[None]


def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, type and the offset of the first value."""
    stream = BytesIO(data)
    try:
        version = npy_format.read_magic(stream)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(stream, max_header_size=_MAX_HEADER_CHARACTERS)
    except Exception:  # noqa: BLE001 - the header is parsed as a Python literal, which fails in many ways
        raise Rejected("npy-damaged") from None
    return shape, fortran, dtype, stream.tell()


def _stored_type(stack: NDArray[Any]) -> StoredType:
    """The array's own type up to 16 bits; else int16 or uint16 if all values fit exactly."""
    dtype = stack.dtype
    if dtype.kind == "b":
        return "uint8"
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        return cast("StoredType", dtype.newbyteorder("=").name)
    return narrow_type([stack])
