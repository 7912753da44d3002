"""Chunks of zarr-python and numcodecs <-> arrays, by tilepack: the doors that entry points lead to.

Nothing else of pyrad goes through here; its own chunks are made and read in `pyrad.store.chunk`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numcodecs.abc import Codec as NumcodecsCodec
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec

from pyrad import ops
from pyrad.errors import CorruptChunkError, UsageError

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.common import JSON

_VERSION = 1
_TILEPACK_DTYPES = {0x01: "uint8", 0x81: "int8", 0x02: "uint16", 0x82: "int16"}  # byte 2 of a tilepack header


@dataclass(frozen=True)
class TilepackCodec(ArrayBytesCodec):
    """tilepack as a Zarr v3 array-to-bytes codec; zarr-python finds it through pyrad's entry point.

    A chunk must be one 2-D plane: every axis of its shape but the last two is 1.
    """

    is_fixed_size = False

    mode: str = "pack"
    version: int = 1

    def __post_init__(self) -> None:
        if self.mode not in ops.MODES or self.version != _VERSION:
            raise UsageError(
                f"tilepack mode {self.mode!r} version {self.version!r} is not known to this pyrad "
                f"(it knows modes {', '.join(ops.MODES)} of version {_VERSION}): upgrade pyrad to read this "
                "array"
            )

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Build the codec from its object in an array's ``codecs``."""
        configuration = data.get("configuration", {})
        if data.get("name") != "tilepack" or not isinstance(configuration, dict):
            raise UsageError(f"{str(data.get('name'))[:20]!r} is not the codec 'tilepack'")
        unknown = sorted(set(configuration) - {"mode", "version"})
        if unknown:
            raise UsageError(f"tilepack has no setting {unknown[0][:20]!r}; it has mode and version")
        settings: dict[str, Any] = dict(configuration)
        return cls(**settings)

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's object for an array's ``codecs``."""
        return {"name": "tilepack", "configuration": {"mode": self.mode, "version": self.version}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: the size depends on the pixels."""
        raise NotImplementedError

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        rows, columns = _plane_shape(chunk_spec.shape)
        dtype = chunk_spec.dtype.to_native_dtype()
        plane = ops.tilepack_decode(chunk_bytes.as_numpy_array(), rows=rows, columns=columns, dtype=dtype)
        stored: Any = plane.reshape(chunk_spec.shape).astype(dtype, copy=False)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(stored)

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        plane = chunk_array.as_numpy_array().reshape(_plane_shape(chunk_spec.shape))
        payload = ops.tilepack_encode(plane, mode=self.mode)
        return chunk_spec.prototype.buffer.from_bytes(payload)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)


class TilepackNumcodec(NumcodecsCodec):  # type: ignore[misc]  # numcodecs carries no types
    """tilepack as a numcodecs codec: one 2-D array of 8- or 16-bit integers <-> bytes.

    A tilepack header names shape and dtype, so decoding needs no further configuration. Leading axes of
    length 1 are dropped on encoding.
    """

    codec_id = "tilepack"

    def __init__(self, mode: str = "pack", version: int = 1) -> None:
        TilepackCodec(mode=mode, version=version)  # refuses what this pyrad does not know
        self.mode = mode
        self.version = version

    def encode(self, buf: Any) -> bytes:
        """Encode an array (..., rows, columns) whose leading axes are 1."""
        image = np.asarray(buf)
        return ops.tilepack_encode(image.reshape(_plane_shape(image.shape)), mode=self.mode)

    def decode(self, buf: Any, out: Any = None) -> NDArray[Any]:
        """Decode a payload into a new array (rows, columns), or into ``out`` of as many bytes."""
        payload = np.frombuffer(buf, np.uint8)
        dtype = _TILEPACK_DTYPES.get(int(payload[2])) if payload.size >= 16 else None
        rows, columns = (int(n) for n in payload[4:12].view("<u4")) if dtype else (0, 0)
        if dtype is None or not rows or not columns:
            raise CorruptChunkError(f"cannot decode a tilepack chunk: {ops.Status.HEADER.sentence}")
        plane = ops.tilepack_decode(payload, rows=rows, columns=columns, dtype=dtype)
        if out is None:
            return plane
        target = np.frombuffer(out, np.uint8)
        if target.size != plane.nbytes:
            raise ValueError(f"out has {target.size} bytes and the image {plane.nbytes}")
        target[:] = plane.reshape(-1).view(np.uint8)
        return np.asarray(out)


def _plane_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2 or any(axis != 1 for axis in shape[:-2]):
        raise UsageError(
            f"tilepack stores one plane a chunk: all axes of a chunk but the last two must be 1, not {shape}"
        )
    return shape[-2], shape[-1]
