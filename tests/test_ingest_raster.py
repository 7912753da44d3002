"""PNG, JPEG, TIFF, BMP, GIF, WebP and NPY: exact values, or a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pyrad.ingest import policy, raster
from pyrad.ingest.files import decode, decode_frames, detect, scan
from pyrad.ingest.policy import ScanOptions
from pyrad.ingest.reasons import Rejected

LUMA = ScanOptions(digest_key=b"key")
PLANES = ScanOptions(color="planes")
GREY = (np.arange(24) * 10).astype(np.uint8).reshape(4, 6)
DEEP = (np.arange(24) * 2849).astype(np.uint16).reshape(4, 6)  # up to 65527
COLOR = np.stack([GREY, 255 - GREY, GREY // 2], -1)


def saved(image, kind="PNG", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def read(data, options=LUMA, path="x"):
    sources = scan(0, path, data, options)
    frames = [decode(source, data) for source in sources]
    for source, frame in zip(sources, frames, strict=True):
        assert frame.shape == ((3,) if source.planes == 3 else ()) + (source.rows, source.columns)
        assert frame.dtype == source.dtype
        assert frame.flags.c_contiguous
        assert source.windows == ()
    return (sources[0], frames[0]) if len(frames) == 1 else (sources, frames)


def refusal(data, options=LUMA, path="x"):
    with pytest.raises(Rejected) as caught:
        read(data, options, path)
    return caught.value.reason


# Grey


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_eight_bits_are_exact(kind):
    source, image = read(saved(GREY, kind))
    np.testing.assert_array_equal(image, GREY)
    assert (source.dtype, source.bits_stored, source.lossy, source.kind) == ("uint8", 8, False, "raster")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_exact(kind):
    source, image = read(saved(DEEP, kind))
    np.testing.assert_array_equal(image, DEEP)
    assert (source.dtype, source.bits_stored) == ("uint16", 16)


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]), arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)
    )
)
@settings(max_examples=40, deadline=None)
def test_any_grey_png_comes_back(image):
    np.testing.assert_array_equal(read(saved(image))[1], image)


def test_one_bit_becomes_black_and_white():
    bits = GREY > 100
    np.testing.assert_array_equal(read(saved(bits))[1], bits * np.uint8(255))


def test_an_interlaced_png_is_exact():
    # Adam7 of a 1x1 image is its first pass alone
    rows = zlib.compress(b"\0\x2a")
    parts = [(b"IHDR", struct.pack(">2I5B", 1, 1, 8, 0, 0, 0, 1)), (b"IDAT", rows), (b"IEND", b"")]
    assert read(png(parts))[1].tolist() == [[42]]


def png(parts):
    """A PNG of these chunks, with right checksums."""
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in parts:
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def test_wide_tiffs_are_narrowed_only_exactly():
    for values, dtype in (([[0, 65535]], "uint16"), ([[-32768, 32767]], "int16")):
        for wide in (np.int32, np.float32):
            source, image = read(saved(np.array(values, wide), "TIFF"))
            assert (image.tolist(), source.dtype) == (values, dtype)
    for values in ([[0, 65536]], [[-1, 32768]]):
        assert refusal(saved(np.array(values, np.int32), "TIFF")) == "not-exact-in-16-bits"
    for value in (0.5, np.nan, np.inf):
        assert refusal(saved(np.array([[value]], np.float32), "TIFF")) == "not-exact-in-16-bits"


def test_white_is_zero_keeps_its_values_and_says_so():
    source, image = read(saved(DEEP, "TIFF", tiffinfo={262: 0}))
    np.testing.assert_array_equal(image, DEEP)
    assert source.photometric == "MONOCHROME1"
    assert read(saved(DEEP, "TIFF"))[0].photometric == "MONOCHROME2"


# Colour, palettes, alpha


def test_colour_becomes_luma_or_keeps_its_planes():
    source, image = read(saved(COLOR))
    np.testing.assert_array_equal(image, np.asarray(Image.fromarray(COLOR).convert("L")))
    assert source.warnings == ("color-to-luma",)
    source, image = read(saved(COLOR), PLANES)
    np.testing.assert_array_equal(np.moveaxis(image, 0, -1), COLOR)
    assert (source.planes, source.photometric, source.warnings) == (3, "RGB", ())


@pytest.mark.parametrize("options", [LUMA, PLANES])
def test_grey_stored_as_colour_is_one_plane_exactly(options):
    source, image = read(saved(np.repeat(GREY[..., None], 3, -1)), options)
    np.testing.assert_array_equal(image, GREY)
    assert source.planes == 1


def test_palettes_are_expanded():
    indexed = Image.fromarray(GREY).convert("P")
    source, image = read(saved(indexed))
    np.testing.assert_array_equal(image, GREY)
    assert source.warnings == ("color-to-luma", "palette-applied")


@pytest.mark.parametrize(("hidden", "accepted"), [(255, True), (254, False), (0, False)])
def test_alpha_is_dropped_only_where_it_hides_nothing(hidden, accepted):
    alpha = np.full((4, 6, 1), 255, np.uint8)
    alpha[2, 3] = hidden
    for opaque in (GREY[..., None], COLOR):
        data = saved(np.concatenate([opaque, alpha], -1))
        if accepted:
            np.testing.assert_array_equal(read(data)[1], read(saved(opaque.squeeze()))[1])
        else:
            assert refusal(data) == "alpha-not-opaque"


def test_a_transparent_colour_counts_as_alpha():
    assert refusal(saved(GREY, transparency=10)) == "alpha-not-opaque"
    assert refusal(saved(DEEP, transparency=2849)) == "alpha-not-opaque"
    np.testing.assert_array_equal(read(saved(DEEP, transparency=1))[1], DEEP)
    np.testing.assert_array_equal(read(saved(GREY, transparency=11))[1], GREY)


def test_what_cannot_be_exact_is_refused_by_name():
    assert refusal(saved(Image.fromarray(COLOR).convert("CMYK"), "JPEG")) == "cmyk"
    assert refusal(saved(Image.fromarray(COLOR).convert("LAB"), "TIFF")) == "raster-mode-unsupported"
    deep = struct.pack(">2I5B", 1, 1, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", deep), (b"IDAT", zlib.compress(bytes(7))), (b"IEND", b"")]
    assert refusal(png(parts)) == "raster-mode-unsupported"
    signed = saved(GREY, "TIFF", tiffinfo={339: 2})
    assert refusal(signed) == "raster-mode-unsupported"


# Lossy, orientation, pages


@pytest.mark.parametrize(
    ("kind", "options", "lossy"),
    [
        ("JPEG", {"quality": 95}, True),
        ("WEBP", {"quality": 90}, True),
        ("WEBP", {"lossless": True}, False),
        ("TIFF", {"compression": "jpeg"}, True),
        ("TIFF", {"compression": "tiff_lzw"}, False),
    ],
)
def test_lossy_files_are_marked(kind, options, lossy):
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8)
    source, image = read(saved(smooth, kind, **options))
    assert source.lossy is lossy
    assert np.abs(image.astype(int) - smooth).max() <= (6 if lossy else 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_noted(kind, orientation):
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :12] = 200  # one bright corner
    upright[:8, 12:] = 90
    forth = [  # how a camera held so would have written it
        lambda a: a,
        lambda a: a[:, ::-1],
        lambda a: a[::-1, ::-1],
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: np.rot90(a, 1),
        lambda a: a[::-1, ::-1].T,
        lambda a: np.rot90(a, -1),
    ][orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif}
    source, image = read(saved(np.ascontiguousarray(forth(upright)), kind, **options))
    assert np.abs(image.astype(int) - upright).max() <= (0 if kind in ("PNG", "TIFF") else 40)
    notes = {"color-to-luma"} if kind == "WEBP" else set()
    assert set(source.warnings) == notes | ({"rotated"} if orientation > 1 else set())


def test_pages_of_a_tiff_are_frames():
    pages = [Image.fromarray(GREY), Image.fromarray(DEEP[:3])]
    sources, images = read(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert [(s.frame, s.rows, s.dtype) for s in sources] == [(0, 4, "uint8"), (1, 3, "uint16")]
    np.testing.assert_array_equal(images[0], GREY)
    np.testing.assert_array_equal(images[1], DEEP[:3])
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(list(decode_frames(sources[::-1], data))[1], GREY)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.fromarray(GREY), Image.fromarray(GREY + 3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    source, image = read(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(image, GREY)
    assert "first-frame-only" in source.warnings


# Names and content


def test_the_content_decides_and_a_lying_name_is_noted():
    for path, noted in (("x.png", False), ("x", False), ("x.jpg", False), ("x.dcm", True), ("x.npy", True)):
        source, image = read(saved(GREY), path=path)
        np.testing.assert_array_equal(image, GREY)
        assert ("extension-lies" in source.warnings) is noted


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("x.png", b"", "empty-file"),
        ("x.dcm", b"", "empty-file"),
        ("notes", b"", "not-an-image"),
        ("x.JPG", b"text", "not-a-raster"),
        ("x.npy", b"text", "not-npy"),
        ("x.csv", b"a,b\n1,2\n", "not-an-image"),
        ("x.pdf", b"%PDF-1.4", "not-an-image"),
        ("BM.txt", b"BMI and other words, more than eighteen bytes", "not-an-image"),
        ("x.dcm", b"PK\x03\x04rest", "nested-archive"),
        ("._x.png", b"\x00\x05\x16\x07" + bytes(80), "not-an-image"),
    ],
)
def test_what_is_no_image_is_skipped_or_quarantined_by_its_name(path, content, reason):
    assert refusal(content, path=path) == reason


def test_digests_are_keyed_and_of_the_bytes():
    data = saved(GREY)
    digest = scan(0, "a", data, LUMA)[0].digest
    assert len(digest) == 32
    assert digest == scan(1, "b", data, LUMA)[0].digest
    assert digest != scan(0, "a", data, ScanOptions(digest_key=b"other"))[0].digest
    assert digest != scan(0, "a", saved(GREY + 1), LUMA)[0].digest


# Damage


def test_damaged_pngs_are_refused_before_they_are_planned():
    data = saved(GREY)
    body = data.index(b"IDAT") + 8
    flipped = bytearray(data)
    flipped[body] ^= 1
    assert refusal(bytes(flipped)) == "raster-damaged"
    for end in range(9, len(data)):
        assert refusal(data[:end], path="x.png") == "raster-damaged"


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "BMP", "GIF", "WEBP"])
def test_cut_files_are_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    data = saved(noise, kind)
    for end in (len(data) // 3, len(data) // 2, len(data) - 40):
        assert refusal(data[:end]) in {"raster-damaged", "decode-failed"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_no_mutation_escapes_as_another_error(kind, data):
    content = bytearray(saved(GREY, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        sources = scan(0, "x.png", bytes(content), LUMA)
    except Rejected as rejected:
        assert rejected.reason != "unexpected"  # noqa: PT017
        return
    for image in decode_frames(sources, bytes(content)):
        assert not isinstance(image, Rejected) or image.reason != "unexpected"


def test_large_images_are_refused_without_decoding(monkeypatch):
    header = struct.pack(">2I5B", 20000, 20000, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    assert refusal(png(parts)) == "image-too-large"
    monkeypatch.setattr(raster, "MAX_PIXELS", 23)
    assert refusal(saved(GREY)) == "image-too-large"
    assert policy.MAX_PIXELS == 1 << 27


# NPY


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "<i2", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_16_bits_are_exact(dtype, order):
    info = np.iinfo(dtype)
    image = np.asarray([[info.min, info.max, 0, 5, 6], [1, 2, 3, 7, 8]], dtype, order=order)
    source, decoded = read(npy(image), path="x.npy")
    np.testing.assert_array_equal(decoded, image)
    assert (source.kind, source.bits_stored, source.warnings) == ("npy", 8 * image.itemsize, ())
    stack = np.stack([image, image[::-1]]).copy(order)
    sources, frames = read(npy(stack))
    np.testing.assert_array_equal(np.stack(frames), stack)
    assert [source.frame for source in sources] == [0, 1]


def test_wide_arrays_are_narrowed_only_exactly():
    for values, dtype in (([[0, 65535]], "uint16"), ([[-32768, 32767]], "int16"), ([[0, 3]], "uint16")):
        for wide in (np.int64, np.float64, np.float16 if max(values[0]) < 2000 else np.int32):
            source, image = read(npy(np.array(values, wide)))
            assert (image.tolist(), source.dtype) == (values, dtype)
    for values in ([[0, 65536]], [[-1, 32768]], [[0.25]], [[np.nan]]):
        assert refusal(npy(np.array(values))) == "not-exact-in-16-bits"
    assert read(npy(np.array([[True, False]])))[1].tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([[object()]], object), "npy-pickle"),
        (np.zeros((2, 2), [("a", "u1"), ("b", object)]), "npy-pickle"),
        (np.zeros((2, 2), [("a", "u1"), ("b", "u1")]), "npy-dtype"),
        (np.zeros((2, 2), complex), "npy-dtype"),
        (np.zeros((2, 2), "U3"), "npy-dtype"),
        (np.zeros(4, np.uint8), "npy-shape"),
        (np.zeros((4, 5, 3), np.uint8), "npy-shape"),
        (np.zeros((1, 1, 4, 5), np.uint8), "npy-shape"),
        (np.zeros((0, 5), np.uint8), "npy-shape"),
    ],
)
def test_arrays_that_are_no_images_are_refused(array, reason):
    assert refusal(npy(array)) == reason


def test_damaged_arrays_are_refused():
    data = npy(GREY)
    assert refusal(data[:-1]) == "pixel-data-short"
    assert refusal(data + b"\0") == "pixel-data-long"
    assert refusal(data[:40]) == "npy-damaged"
    assert refusal(data.replace(b"(4, 6)", b"(4, -6")) == "npy-damaged"
    assert refusal(data.replace(b"(4, 6)", b"(-4,6)")) == "npy-shape"
    assert refusal(b"\x93NUMPY\x09\x00" + data[8:]) == "npy-damaged"
    huge = data.replace(b"'shape': (4, 6), }          ", b"'shape': (99999999, 6), }   ")
    assert refusal(huge) == "image-too-large"
    assert detect(data) == "npy"
