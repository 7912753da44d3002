"""tilepack: the compiled core against the NumPy oracle."""

import numpy as np
import pytest
import reference
import reference_tilepack
from chunks import DTYPES, KINDS, decoded, image_of, refused_or_decoded
from hypothesis import given, settings
from hypothesis import strategies as st
from processors import SETS, compiled_for

from pyrad import ops

SHAPES = ((1, 1), (1, 9), (3, 5), (4, 8), (5, 1), (7, 16), (17, 33), (127, 10), (128, 8), (129, 3), (260, 12))
OLD_CHUNK = (  # by pyrad 0.2.0, of an image of 5 x 9
    "010001010500000009000000800001002000000060000000000000000000000034040000000000000000000000000000"
    "303333330100000003000000050000000300000000000000000000000700000000000000000000000000000000000000"
    "00000000000000000000000000000000"
)


def check_against_oracle(image: np.ndarray, mode: str) -> None:
    chunk = ops.tilepack_encode(image, mode=mode)
    assert chunk == reference_tilepack.tilepack_encode(image, mode)
    for back in (decoded(chunk, image), reference_tilepack.tilepack_decode(chunk)):
        assert back.dtype == image.dtype
        np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("mode", ops.MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_oracle_byte_for_byte(dtype, shape, mode):
    for kind in KINDS:
        check_against_oracle(image_of(kind, shape, dtype), mode)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**31),
    mode=st.sampled_from(ops.MODES),
)
def test_equals_the_oracle_anywhere(kind, dtype, shape, seed, mode):
    check_against_oracle(image_of(kind, shape, dtype, seed), mode)


def test_every_width_is_used_and_read_back():
    for dtype, widths in (("int8", range(9)), ("int16", (*range(11), 12, 16))):
        for width in widths:
            image = np.zeros((8, 8), dtype)
            image[7, 3] = -(1 << (width - 1)) if width else 0
            chunk = ops.tilepack_encode(image)
            assert chunk[32 + 1] == reference_tilepack.WIDTHS.index(
                width
            )  # the second tile row's only nibble
            np.testing.assert_array_equal(decoded(chunk, image), image)


@pytest.mark.parametrize(("mode", "predictors"), [("pack", 2), ("rice", 2), ("dense", 3)])
def test_every_predictor_of_the_oracle_is_decoded(mode, predictors):
    for dtype in DTYPES:
        for kind in KINDS:
            image = image_of(kind, (133, 21), dtype)
            for predictor in range(predictors):
                second = (
                    predictor if mode == "pack" else (predictor + 1) % predictors
                )  # each segment has its own
                chunk = reference_tilepack.encode_by(image, mode, [predictor, second])
                np.testing.assert_array_equal(decoded(chunk, image), image)


@pytest.mark.parametrize("mode", ops.MODES)
@pytest.mark.parametrize("name", SETS)
def test_every_processor_writes_and_reads_the_same_bytes(name, mode):
    images = [image_of(kind, (133, 173), dtype) for dtype in DTYPES for kind in KINDS]
    images += [
        image_of("noisy", (9, 1111), dtype) for dtype in DTYPES
    ]  # quotients of a row are read in parts
    chunks = [ops.tilepack_encode(image, mode=mode) for image in images]
    with compiled_for(name):
        for image, chunk in zip(images, chunks, strict=True):
            assert ops.tilepack_encode(image, mode=mode) == chunk
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
    mode = data.draw(st.sampled_from(ops.MODES))
    predictor = data.draw(st.integers(0, max(ops.MODES.index(mode), 1)))
    if predictor != reference_tilepack.ABOVE:
        residuals = residuals.cumsum(axis=1)
    image = residuals.cumsum(axis=0).astype(f"i{dtype.itemsize}").view(dtype)
    widths = rng if data.draw(st.booleans()) else None  # any that hold the numbers, or the best
    chunk = reference_tilepack.encode_by(image, mode, [predictor] * 2, widths)
    for name in SETS:
        with compiled_for(name):
            np.testing.assert_array_equal(decoded(chunk, image), image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_quotients_of_any_length_are_read_alike(dtype, data):
    """A stream with the right number of ones is sound, wherever they stand near enough."""
    rows, columns = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 80))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image = rng.integers(0, 20, (rows, columns)).astype(dtype)
    chunk = bytearray(ops.tilepack_encode(image, mode="dense"))
    chunk[16] = chunk[16] & 0xF0 | data.draw(st.integers(0, 2))  # the predictor
    start, end = (int(n) // 16 * 16 for n in np.frombuffer(chunk, "<u4", 2, 16))
    ones = 32 * sum(
        nibble > 0 for byte in table_of(chunk, rows, columns) for nibble in (byte & 15, byte >> 4)
    )
    stream = np.zeros(8 * data.draw(st.integers(ones // 128 + 1, ones // 16 + 40)) * 16, np.uint8)
    stream[rng.choice(stream.size, ones, replace=False)] = 1
    words = stream.reshape(-1, 64).any(axis=1)
    sound = bool((words[1:] | words[:-1]).all())
    low_end = end - len(unary_of(chunk, rows, columns))
    forged = chunk[:low_end] + np.packbits(stream, bitorder="little").tobytes() + bytes(16)
    forged[20:24] = np.array([len(forged) - 16], "<u4").tobytes()
    assert start == 32
    if not sound:
        assert refused_or_decoded(forged, image.shape, dtype)
        return
    expected = reference_tilepack.tilepack_decode(bytes(forged))
    for name in SETS:
        with compiled_for(name):
            np.testing.assert_array_equal(decoded(bytes(forged), image), expected)
    forged[low_end : low_end + 16] = bytes(16)
    if stream[:128].any():
        assert refused_or_decoded(forged, image.shape, dtype)


def table_of(chunk: bytes, rows: int, columns: int) -> bytes:
    return bytes(chunk[32 : 32 + -(-rows // 4) * ((-(-columns // 8) + 1) // 2)])


def unary_of(chunk: bytes, rows: int, columns: int) -> bytes:
    table = table_of(chunk, rows, columns)
    codes = [nibble for byte in table for nibble in (byte & 15, byte >> 4)]
    low_bytes = sum(4 * reference_tilepack.WIDTHS[max(code - 1, 0)] for code in codes)
    return bytes(chunk[32 + -(-len(table) // 16) * 16 + -(-low_bytes // 16) * 16 : -16])


def test_noise_does_not_grow_by_more_than_its_table():
    for dtype in DTYPES:
        image = image_of("random", (128, 128), dtype)
        for mode in ops.MODES:
            assert len(ops.tilepack_encode(image, mode=mode)) <= image.nbytes + 128 * 128 // 64 + 64


def test_chunks_written_before_there_were_other_modes_are_read():
    old = bytes.fromhex(OLD_CHUNK)
    image = np.add.outer(np.arange(5) ** 2, 3 * np.arange(9)).astype(np.uint8)
    np.testing.assert_array_equal(decoded(old, image), image)
    assert ops.tilepack_encode(image) == old


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
    with pytest.raises(ValueError, match="no mode 'lzw'; it has pack, rice, dense"):
        ops.tilepack_encode(np.zeros((2, 2), np.uint8), mode="lzw")


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


def test_decoding_into_memory_that_is_there():
    image = np.arange(35, dtype=np.int16).reshape(5, 7)
    out = np.zeros_like(image)
    shape = {"rows": 5, "columns": 7, "dtype": "int16"}
    assert ops.tilepack_decode(ops.tilepack_encode(image), **shape, out=out) is out
    assert np.array_equal(out, image)
    for other in (np.zeros((7, 5), np.int16), np.zeros((5, 7), np.uint16)):
        with pytest.raises(ValueError, match="out is"):
            ops.tilepack_decode(ops.tilepack_encode(image), **shape, out=other)
