"""
pyrad's compiled core; use it through pyrad.ops, which checks its arguments and raises its errors.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
import typing_extensions
__all__: list[str] = ['crc32c', 'device_report', 'instructions', 'percentiles', 'preprocess', 'read_ahead', 'read_ranges', 'record_dtype', 'require_device', 'statuses', 'tilepack_decode', 'tilepack_encode', 'use_instructions']
def crc32c(data: typing_extensions.Buffer, /, *, portable: bool = False) -> int:
    """
    CRC-32C of a contiguous buffer; portable=True takes the table even where the processor has the instruction.
    """
def device_report() -> dict:
    """
    What the machine offers: built (with CUDA kernels), runtime_version, driver_version, names of the GPUs.
    """
def instructions() -> list[str]:
    """
    The sets of vector instructions that this processor has and the core is compiled for; the first is in use.
    """
def percentiles(image: numpy.ndarray, fractions: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], /, *, low: typing.SupportsInt | typing.SupportsIndex, high: typing.SupportsInt | typing.SupportsIndex) -> list[float]:
    """
    Percentiles of a C-contiguous uint8, int8, uint16 or int16 array, one a fraction, without the values from low to high (inclusive; none where low > high); empty where no value is left.
    """
def preprocess(slab: numpy.typing.NDArray[numpy.uint8], records: numpy.ndarray, out: numpy.ndarray, scale: numpy.typing.NDArray[numpy.float32], shift: numpy.typing.NDArray[numpy.float32], /, *, luts: numpy.typing.NDArray[numpy.uint16], files: numpy.typing.NDArray[numpy.int32], read_ns: numpy.typing.NDArray[numpy.int64], channels_last: bool = False, threads: typing.SupportsInt | typing.SupportsIndex = 1) -> numpy.typing.NDArray[numpy.int32]:
    """
    Decode, window, resize and normalise: uint8 (bytes,), records (N,) of record_dtype(), writeable float32, float16 or uint16 (bfloat16 bits) (N, C, H, W) or (N, H, W, C), float32 (C,), float32 (C,), C = 1 or 3; luts uint16 (M,), the entries of all lookup tables; files int32 (N,), the open file that an image's chunks lie in, below 0 the slab, or (0,) for the slab throughout; read_ns int64 (N,), writeable, or (0,). Writes fma(y, scale, shift) into out and returns int32 (N,) statuses, -errno where a read failed; an image whose status is not 0 is all zeros.
    """
def read_ahead(fds: numpy.typing.NDArray[numpy.int32], offsets: numpy.typing.NDArray[numpy.uint64], sizes: numpy.typing.NDArray[numpy.uint64]) -> None:
    """
    Have the system fetch sizes[i] bytes at offsets[i] of fds[i]: int32 (N,), uint64 (N,), uint64 (N,).
    """
def read_ranges(fds: numpy.typing.NDArray[numpy.int32], offsets: numpy.typing.NDArray[numpy.uint64], sizes: numpy.typing.NDArray[numpy.uint64], slab: numpy.typing.NDArray[numpy.uint8], slab_offsets: numpy.typing.NDArray[numpy.uint64], /, *, threads: typing.SupportsInt | typing.SupportsIndex = 1) -> numpy.typing.NDArray[numpy.int32]:
    """
    pread sizes[i] bytes at offsets[i] of fds[i] to slab[slab_offsets[i]:]: int32 (N,), uint64 (N,), uint64 (N,), writeable uint8 (bytes,), uint64 (N,). Returns int32 (N,): 0, the status TRUNCATED, or -errno.
    """
def record_dtype() -> numpy.dtype[typing.Any]:
    """
    The structured dtype of preprocess's records.
    """
def require_device(device: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Raise RuntimeError with one helpful sentence unless GPU number device can be used.
    """
def statuses() -> dict[str, int]:
    """
    Name and number of every status word.
    """
def tilepack_decode(payload: typing_extensions.Buffer, image: numpy.ndarray) -> int:
    """
    Decode a tilepack chunk into image (rows, columns), C-contiguous, whose shape and dtype must be the chunk's; return a status (0: good; otherwise image is untouched).
    """
def tilepack_encode(image: numpy.ndarray, /, *, mode: typing.SupportsInt | typing.SupportsIndex) -> bytes:
    """
    Encode a C-contiguous image (rows, columns) of uint8, int8, uint16 or int16 as one tilepack chunk of mode 0 (pack), 1 (rice) or 2 (dense).
    """
def use_instructions(name: str) -> None:
    """
    Run the code compiled for a set of instructions(), so that tests can compare them.
    """
