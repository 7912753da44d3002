"""tilepack against every kind of damage: refused or decoded, never read or written outside."""

import ctypes
import itertools
import mmap
import tracemalloc

import numpy as np
import pytest
from chunks import DTYPES, KINDS, decoded, image_of, refused_or_decoded
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrad import ops
from pyrad.errors import CorruptChunkError


@pytest.mark.parametrize("mode", ops.MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_bit_flip_crashes(dtype, mode):
    image = image_of("smooth", (9, 19), dtype)
    image[4:, 10:] = image_of("random", (5, 9), dtype)
    chunk = ops.tilepack_encode(image, mode=mode)
    refused = 0
    for bit in range(8 * len(chunk)):
        damaged = bytearray(chunk)
        damaged[bit // 8] ^= 1 << bit % 8
        refused += refused_or_decoded(damaged, image.shape, dtype)
    assert refused > 8 * 24  # every bit of the header, and the table's


@pytest.mark.parametrize("mode", ops.MODES)
def test_every_truncation_is_refused(mode):
    image = image_of("smooth", (130, 11), "int16")
    chunk = ops.tilepack_encode(image, mode=mode)
    for size in range(len(chunk)):
        assert refused_or_decoded(chunk[:size], image.shape, "int16")
    assert refused_or_decoded(chunk + bytes(16), image.shape, "int16")


@settings(max_examples=300, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES), mode=st.sampled_from(ops.MODES))
def test_garbage_behind_a_sound_header_never_crashes(data, dtype, mode):
    image = image_of("noisy", (140, 24), dtype, 3)
    chunk = bytearray(ops.tilepack_encode(image, mode=mode))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(chunk) - 1))
        some = data.draw(st.binary(max_size=8))
        chunk[at : at + len(some)] = some[: len(chunk) - at]
    if data.draw(st.booleans()):
        del chunk[data.draw(st.integers(0, len(chunk) - 1)) :]
    refused_or_decoded(chunk, image.shape, dtype)


@settings(max_examples=100, deadline=None)
@given(chunk=st.binary(max_size=200), rows=st.integers(1, 300), columns=st.integers(1, 300))
def test_pure_garbage_is_refused(chunk, rows, columns):
    assert refused_or_decoded(chunk, (rows, columns), "uint16")


@pytest.mark.parametrize(("shape", "dtype"), [((8, 17), "int16"), ((9, 16), "int16"), ((8, 16), "uint16")])
def test_another_shape_or_dtype_is_refused(shape, dtype):
    chunk = ops.tilepack_encode(np.zeros((8, 16), np.int16))
    with pytest.raises(CorruptChunkError, match="another shape or dtype"):
        ops.tilepack_decode(chunk, rows=shape[0], columns=shape[1], dtype=dtype)


@pytest.mark.parametrize(
    ("at", "value", "sentence"),
    [
        (0, 2, "version, mode or layout"),
        (1, 3, "version, mode or layout"),
        (3, 2, "version, mode or layout"),
        (12, 64, "version, mode or layout"),
        (14, 2, "version, mode or layout"),
        (16, 48, "does not fit its bytes"),
        (20, 1, "does not fit its bytes"),
        (32, 0x0F, "widths in a segment's table"),
        (32, 0x01, "widths in a segment's table"),
    ],
)
def test_each_kind_of_damage_is_named(at, value, sentence):
    chunk = bytearray(ops.tilepack_encode(np.zeros((8, 8), np.int16)))
    chunk[at] = value
    with pytest.raises(CorruptChunkError, match=sentence):
        ops.tilepack_decode(chunk, rows=8, columns=8, dtype="int16")


def test_a_width_too_large_for_bytes_is_refused():
    chunk = bytearray(ops.tilepack_encode(np.full((8, 8), -128, np.int8)))
    assert chunk[32] == 8
    chunk[32] = 9
    assert refused_or_decoded(chunk, (8, 8), "int8")


def test_huge_claims_are_refused_before_anything_is_allocated():
    chunk = bytearray(ops.tilepack_encode(np.zeros((8, 8), np.uint16)))
    rows = columns = 2**31 - 1
    chunk[4:12] = np.array([rows, columns], "<u4").tobytes()
    tracemalloc.start()
    with pytest.raises(CorruptChunkError, match="does not fit its bytes"):
        ops.tilepack_decode(chunk, rows=rows, columns=columns, dtype="uint16")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_a_refused_chunk_leaves_the_image_alone():
    chunk = bytearray(ops.tilepack_encode(np.ones((8, 8), np.uint16)))
    chunk[-17] ^= 1  # padding is not looked at
    image = np.full((8, 8), 7, np.uint16)
    assert ops._C.tilepack_decode(chunk, image) == ops.Status.OK
    image[...] = 7
    assert ops._C.tilepack_decode(chunk[:-1], image) == ops.Status.BOUNDS
    assert (image == 7).all()


def test_nothing_is_read_behind_the_chunk(guarded):
    """Chunks that end where readable memory ends: an access behind them would kill the process."""
    for dtype in DTYPES:
        for kind, mode in itertools.product(KINDS, ops.MODES):
            image = image_of(kind, (9, 21), dtype)
            chunk = ops.tilepack_encode(image, mode=mode)
            np.testing.assert_array_equal(decoded(guarded(chunk), image), image)
            for size in range(0, len(chunk), 7):
                refused_or_decoded(chunk[:size], image.shape, dtype)
                assert ops._C.tilepack_decode(guarded(chunk[:size]), image.copy()) != ops.Status.OK


@pytest.fixture
def guarded():
    """Copy bytes to the end of a page that is followed by one without access."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 0) == 0

    def place(chunk: bytes) -> np.ndarray:
        assert len(chunk) <= page
        memory[page - len(chunk) : page] = bytes(chunk)
        return np.frombuffer(memory, np.uint8, len(chunk), page - len(chunk))

    return place
