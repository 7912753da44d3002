"""tilepack: the compiled core against the NumPy oracle, and against every kind of damage."""

import ctypes
import mmap
import tracemalloc

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from processors import SETS, compiled_for

from pyrad import ops
from pyrad.errors import CorruptChunkError

DTYPES = ("uint8", "int8", "uint16", "int16")
SHAPES = ((1, 1), (1, 9), (3, 5), (4, 8), (5, 1), (7, 16), (17, 33), (127, 10), (128, 8), (129, 3), (260, 12))


def image_of(kind: str, shape: tuple[int, int], dtype: str, seed: int = 0) -> np.ndarray:
    rows, columns = np.indices(shape)
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    if kind == "random":
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    values = {
        "zero": 0 * rows,
        "lowest": 0 * rows + info.min,
        "highest": 0 * rows + info.max,
        "alternating": np.where((rows + columns) % 2, info.min, info.max),
        "stripes": np.where(columns % 2, info.min, info.max),
        "smooth": (40 * np.sin(rows / 9) + 30 * np.cos(columns / 7) + 60),
        "slope": 3 * rows + 5 * columns,
        "textured": 90 * np.sin(rows * rows / 11) + columns / 3,  # columns alike: the gradient pays
        "sparse": np.where(rng.random(shape) < 0.01, info.max, 0),
        "noisy": rng.normal(50, 2.0 ** rng.integers(0, info.bits), shape),
    }[kind]
    return np.asarray(values).astype(np.int64).astype(dtype)


KINDS = (
    "random",
    "zero",
    "lowest",
    "highest",
    "alternating",
    "stripes",
    "smooth",
    "slope",
    "textured",
    "sparse",
    "noisy",
)


def decoded(chunk: bytes, image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape
    return ops.tilepack_decode(chunk, rows=rows, columns=columns, dtype=image.dtype)


def check_against_oracle(image: np.ndarray) -> None:
    chunk = ops.tilepack_encode(image)
    assert chunk == reference.tilepack_encode(image)
    for back in (decoded(chunk, image), reference.tilepack_decode(chunk)):
        assert back.dtype == image.dtype
        np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_oracle_byte_for_byte(dtype, shape):
    for kind in KINDS:
        check_against_oracle(image_of(kind, shape, dtype))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**31),
)
def test_equals_the_oracle_anywhere(kind, dtype, shape, seed):
    check_against_oracle(image_of(kind, shape, dtype, seed))


def test_every_width_is_used_and_read_back():
    for dtype, widths in (("int8", range(9)), ("int16", (*range(11), 12, 16))):
        for width in widths:
            image = np.zeros((8, 8), dtype)
            image[7, 3] = -(1 << (width - 1)) if width else 0
            chunk = ops.tilepack_encode(image)
            assert chunk[32 + 1] == reference.WIDTHS.index(width)  # the second tile row's only nibble
            np.testing.assert_array_equal(decoded(chunk, image), image)


def test_both_predictors_of_the_oracle_are_decoded():
    for dtype in DTYPES:
        for kind in KINDS:
            image = image_of(kind, (133, 21), dtype)
            for flags in (0, 1):
                np.testing.assert_array_equal(decoded(reference._encode(image, flags), image), image)


@pytest.mark.parametrize("name", SETS)
def test_every_processor_writes_and_reads_the_same_bytes(name):
    images = [image_of(kind, (133, 173), dtype) for dtype in DTYPES for kind in KINDS]
    chunks = [ops.tilepack_encode(image) for image in images]
    with compiled_for(name):
        for image, chunk in zip(images, chunks, strict=True):
            assert ops.tilepack_encode(image) == chunk
            np.testing.assert_array_equal(decoded(chunk, image), image)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_every_processor_decodes_every_width_beside_every_other(data):
    """Tiles of drawn widths, in the columns that vectors unpack together and in those that are left."""
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    rows, columns = data.draw(st.integers(1, 140)), data.draw(st.integers(1, 300))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    tiles = ((rows + 3) // 4, (columns + 7) // 8)
    bits = np.kron(rng.integers(0, 8 * dtype.itemsize + 1, tiles), np.ones((4, 8), int))[:rows, :columns]
    residuals = rng.integers(0, 1 << bits) - (1 << bits >> 1)
    gradient = data.draw(st.booleans())
    if gradient:
        residuals = residuals.cumsum(axis=1)
    image = residuals.cumsum(axis=0).astype(f"i{dtype.itemsize}").view(dtype)
    chunk = reference._encode(image, int(gradient))
    for name in SETS:
        with compiled_for(name):
            np.testing.assert_array_equal(decoded(chunk, image), image)


def test_the_gradient_is_chosen_where_it_saves_a_sixteenth():
    assert ops.tilepack_encode(image_of("textured", (64, 64), "uint8"))[3] == 1
    assert ops.tilepack_encode(image_of("random", (64, 64), "uint8"))[3] == 0
    assert ops.tilepack_encode(image_of("zero", (64, 64), "uint8"))[3] == 0


def test_header_is_as_specified():
    chunk = ops.tilepack_encode(np.zeros((130, 20), np.int16))
    # version, mode, dtype, flags | rows | columns | rows a segment | segments | three offsets
    header = (
        bytes([1, 0, 0x82, 0]) + np.array([130, 20], "<u4").tobytes() + np.array([128, 2], "<u2").tobytes()
    )
    assert chunk[:28] == header + np.array([32, 96, 112], "<u4").tobytes()
    assert chunk[28:] == bytes(128 - 28)


def test_views_and_other_byte_orders_are_copied_right():
    image = image_of("smooth", (40, 30), "uint16")
    for view in (image[::2, ::3], image.T, image[::-1], image.astype(">u2"), np.asfortranarray(image)):
        np.testing.assert_array_equal(decoded(ops.tilepack_encode(view), view.astype("<u2")), view)


def test_any_buffer_is_accepted_and_left_alone():
    image = image_of("smooth", (9, 13), "int16")
    chunk = ops.tilepack_encode(image)
    for buffer in (chunk, bytearray(chunk), memoryview(chunk), np.frombuffer(chunk, np.uint8)):
        np.testing.assert_array_equal(decoded(buffer, image), image)
        assert bytes(buffer) == chunk


def test_unaligned_chunks_decode():
    image = image_of("noisy", (30, 30), "int16")
    chunk = ops.tilepack_encode(image)
    for shift in range(1, 16):
        moved = memoryview(bytes(shift) + chunk)[shift:]
        np.testing.assert_array_equal(decoded(moved, image), image)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((2, 2), np.float32), TypeError),
        (np.zeros((2, 2), np.uint32), TypeError),
        (np.zeros((2, 2), bool), TypeError),
        (np.zeros((2, 2, 2), np.uint8), ValueError),
        (np.zeros((0, 2), np.uint8), ValueError),
    ],
)
def test_what_is_no_image_is_refused(image, error):
    with pytest.raises(error, match=r"uint8, int8, uint16 or int16|one image"):
        ops.tilepack_encode(image)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="no mode 'rice'; it has pack"):
        ops.tilepack_encode(np.zeros((2, 2), np.uint8), mode="rice")


# --- damage -------------------------------------------------------------------------------------


def refused_or_decoded(chunk: bytes, shape: tuple[int, int], dtype: str) -> bool:
    """True if the chunk was refused; crashing or any other error fails the test."""
    # An allocation of its own: a sanitizer sees any access outside.
    try:
        image = ops.tilepack_decode(
            np.array(bytearray(chunk), np.uint8), rows=shape[0], columns=shape[1], dtype=dtype
        )
    except CorruptChunkError:
        return True
    assert image.shape == shape
    return False


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_bit_flip_crashes(dtype):
    image = image_of("smooth", (9, 19), dtype)
    image[4:, 10:] = image_of("random", (5, 9), dtype)
    chunk = ops.tilepack_encode(image)
    refused = 0
    for bit in range(8 * len(chunk)):
        damaged = bytearray(chunk)
        damaged[bit // 8] ^= 1 << bit % 8
        refused += refused_or_decoded(damaged, image.shape, dtype)
    assert refused > 8 * 24  # every bit of the header, and the table's


def test_every_truncation_is_refused():
    image = image_of("smooth", (130, 11), "int16")
    chunk = ops.tilepack_encode(image)
    for size in range(len(chunk)):
        assert refused_or_decoded(chunk[:size], image.shape, "int16")
    assert refused_or_decoded(chunk + bytes(16), image.shape, "int16")


@settings(max_examples=300, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_garbage_behind_a_sound_header_never_crashes(data, dtype):
    image = image_of("noisy", (140, 24), dtype, 3)
    chunk = bytearray(ops.tilepack_encode(image))
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
        (1, 1, "version, mode or layout"),
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
        for kind in KINDS:
            image = image_of(kind, (9, 21), dtype)
            chunk = ops.tilepack_encode(image)
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


# --- crc32c and status words --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720 B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_of_known_vectors(data, crc):
    assert reference.crc32c(data) == crc
    assert ops.crc32c(data) == crc
    assert ops._C.crc32c(data, portable=True) == crc


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), shift=st.integers(0, 8))
def test_crc32c_equals_googles_and_its_portable_twin(data, shift):
    google_crc32c = pytest.importorskip("google_crc32c")
    view = memoryview(bytes(shift) + data)[shift:]
    assert ops.crc32c(view) == ops._C.crc32c(view, portable=True) == google_crc32c.value(data)


def test_status_words_are_those_of_the_core():
    assert {status.name: int(status) for status in ops.Status} == ops._C.statuses()
    assert all(status.sentence for status in ops.Status)
