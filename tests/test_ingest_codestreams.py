"""Compressed DICOM pixels: exact where the syntax is, refused where the stream is damaged or another."""

import io
import struct

import jpeg_ls
import numpy as np
import pytest
from dicoms import (
    JPEG,
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LS,
    OPTIONS,
    RLE,
    dicom,
    pixels,
    refusal,
    rle_segments,
)
from jpegs import dct
from openjpeg.utils import encode_array
from PIL import Image

from pyrad.ingest.files import decode_frames, scan
from pyrad.ingest.policy import ScanOptions
from pyrad.ingest.reasons import Rejected


def encoded_ls(image, bits):
    cells = np.ascontiguousarray(image.astype(f"u{image.dtype.itemsize}") & ((1 << bits) - 1))
    size = {"rows": image.shape[0], "columns": image.shape[1], "samples_per_pixel": 1, "bits_stored": bits}
    return bytes(jpeg_ls.encode_buffer(cells.tobytes(), **size, interleave_mode=0))


def encoded_rle(image):
    cells = image.view(np.uint8).reshape(-1, image.dtype.itemsize)
    return rle_segments([cells[:, byte].tobytes() for byte in reversed(range(image.dtype.itemsize))])


ENCODERS = {
    RLE: lambda image, _bits: encoded_rle(image),
    JPEG_LS: encoded_ls,
    JPEG_2000: lambda image, bits: encode_array(image, bits_stored=bits, photometric_interpretation=2),
}


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("uint8", 8), ("int8", 8), ("uint16", 16), ("uint16", 12), ("int16", 16), ("int16", 12)],
)
def test_reversible_syntaxes_are_exact(syntax, dtype, bits):
    low = -(1 << (bits - 1)) if dtype.startswith("i") else 0
    image = np.random.default_rng(bits).integers(low, low + (1 << bits), (37, 33)).astype(dtype)
    data = dicom(
        [ENCODERS[syntax](image, bits)],
        syntax=syntax,
        Rows=37,
        Columns=33,
        BitsAllocated=8 * image.dtype.itemsize,
        BitsStored=bits,
        PixelRepresentation=int(dtype.startswith("i")),
    )
    np.testing.assert_array_equal(pixels(data), image)
    assert not scan(0, "a", data, OPTIONS)[0].lossy


def test_an_unsigned_codestream_of_signed_pixels_is_sign_extended():
    image = np.tile(np.array([[-2000, -1, 0, 1], [1896, 4095, -4096, 5]], np.int16), (20, 10))
    unsigned = (image & 0x1FFF).astype(np.uint16)
    data = dicom(
        [encode_array(unsigned, bits_stored=13, photometric_interpretation=2)],
        syntax=JPEG_2000,
        Rows=40,
        Columns=40,
        BitsStored=16,
        PixelRepresentation=1,
    )
    np.testing.assert_array_equal(pixels(data), image)


def jpeg(image, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=95, subsampling=0, **options)
    return stream.getvalue()


def compressed(frames, **elements):
    size = {"Rows": 32, "Columns": 40, "BitsAllocated": 8, "BitsStored": 8}
    return dicom(frames, **{"syntax": JPEG} | size | elements)


GREY = np.add.outer(np.arange(32) * 3, np.arange(40) * 2).astype(np.uint8)


def test_a_baseline_frame_is_close_and_marked_lossy():
    data = compressed([jpeg(GREY)])
    assert np.abs(pixels(data).astype(int) - GREY).max() <= 3
    assert scan(0, "a", data, OPTIONS)[0].lossy


@pytest.mark.parametrize("label", ["YBR_FULL", "YBR_FULL_422", "RGB"])
def test_the_codestream_decides_the_colour_where_it_speaks(label):
    color = np.stack([GREY, 255 - GREY, GREY // 2], -1)
    elements = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": label}
    data = compressed([jpeg(color)], modality="SC", **elements)  # JFIF: YBR, whatever the label says
    rgb = np.moveaxis(pixels(data, ScanOptions(include=("sc",), color="planes")), 0, -1)
    assert np.abs(rgb.astype(int) - color).max() <= 8
    as_rgb = jpeg(color, keep_rgb=True)  # components called R, G, B
    data = compressed([as_rgb], modality="SC", **elements)
    rgb = np.moveaxis(pixels(data, ScanOptions(include=("sc",), color="planes")), 0, -1)
    assert np.abs(rgb.astype(int) - color).max() <= 8


def test_frames_are_found_with_and_without_offsets():
    frames = [jpeg(GREY), jpeg(GREY[::-1].copy()), jpeg(255 - GREY)]
    expected = pixels(compressed(frames, NumberOfFrames=3))
    assert expected.shape == (3, 32, 40)
    np.testing.assert_array_equal(pixels(compressed(frames, NumberOfFrames=3, offsets=False)), expected)
    halves = [part for frame in frames for part in (frame[:200], frame[200:])]
    assert all(len(part) % 2 == 0 or part is not halves[0] for part in halves)
    several = compressed(halves, NumberOfFrames=3, offsets=False)
    np.testing.assert_array_equal(pixels(several), expected)
    single = compressed(halves[:2], offsets=False)
    np.testing.assert_array_equal(pixels(single), expected[0])


def test_a_wrong_offset_table_is_not_believed():
    frames = [jpeg(GREY), jpeg(255 - GREY)]
    data = compressed(frames, NumberOfFrames=2)
    second = struct.pack("<L", len(frames[0]) + len(frames[0]) % 2 + 8)
    assert second in data
    wrong = data.replace(second, struct.pack("<L", 1234), 1)
    np.testing.assert_array_equal(pixels(wrong), pixels(data))


@pytest.mark.parametrize("frames", [1, 3, 4])
def test_the_number_of_frames_is_the_headers(frames):
    data = compressed([jpeg(GREY), jpeg(255 - GREY)], NumberOfFrames=frames)
    assert refusal(data) == ("frame-boundaries", "NumberOfFrames")


def test_a_missing_sequence_delimiter_is_fine_at_the_end():
    data = compressed([jpeg(GREY)])
    assert data.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    np.testing.assert_array_equal(pixels(data[:-8]), pixels(data))
    assert refusal(data[:-9]) == ("pixel-data-short", "PixelData")
    assert refusal(data.replace(b"\xfe\xff\xdd\xe0", b"\xfe\xff\xdd\xee"))[0] == "encapsulation-damaged"


@pytest.mark.parametrize("syntax", [JPEG, *ENCODERS])
@pytest.mark.parametrize("damage", ["half", "random", "empty", "zeros"])
def test_a_damaged_codestream_is_refused_and_its_neighbour_kept(syntax, damage):
    good = jpeg(GREY) if syntax == JPEG else ENCODERS[syntax](GREY, 8)
    bad = {
        "half": good[: len(good) // 4 * 2],
        "random": np.random.default_rng(3).bytes(600),
        "empty": b"\0\0",
        "zeros": bytes(500),
    }[damage]
    data = compressed([good, bad], syntax=syntax, NumberOfFrames=2)
    sources = scan(0, "a", data, OPTIONS)
    first, second = decode_frames(sources, data)
    np.testing.assert_array_equal(first, pixels(compressed([good], syntax=syntax)))
    assert isinstance(second, Rejected)
    assert second.reason in {"codestream-damaged", "codestream-mismatch", "decode-failed"}


@pytest.mark.parametrize("syntax", [JPEG, *ENCODERS])
def test_a_codestream_of_another_size_is_refused(syntax):
    good = jpeg(GREY) if syntax == JPEG else ENCODERS[syntax](GREY, 8)
    data = compressed([good], syntax=syntax, Rows=31)
    assert refusal(data)[0] == "codestream-mismatch"


def test_a_codestream_of_other_samples_is_refused():
    data = compressed([jpeg(np.repeat(GREY[..., None], 3, -1))])
    assert refusal(data) == ("codestream-mismatch", "SamplesPerPixel")
    deep = encode_array(GREY.astype(np.uint16) * 8, bits_stored=12, photometric_interpretation=2)
    assert refusal(compressed([deep], syntax=JPEG_2000)) == ("codestream-mismatch", "BitsAllocated")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.99", "1.2.3.4.5.6.7.8.9.10.1"])
def test_an_unknown_transfer_syntax_is_refused_with_its_uid(syntax):
    data = compressed([b"\0\0"]).replace(b"1.2.840.10008.1.2.4.50", syntax.encode())
    with pytest.raises(Rejected) as caught:
        scan(0, "a", data, OPTIONS)
    assert (caught.value.reason, caught.value.detail) == ("unknown-transfer-syntax", syntax)


def test_lossless_jpeg_needs_its_end_marker():
    whole = jpeg(GREY)
    assert refusal(compressed([whole[:-40]], syntax=JPEG_LOSSLESS)) == ("codestream-damaged", "")


@pytest.mark.parametrize("bits", [8, 12])
def test_a_sequential_scan_that_claims_to_end_early_is_whole(bits):
    image = GREY.astype("u1" if bits == 8 else "u2") << (bits - 8)
    extended = {"syntax": "1.2.840.10008.1.2.4.51", "BitsAllocated": 8 * image.itemsize, "BitsStored": bits}
    good = pixels(compressed([dct(image, bits)], **extended))
    np.testing.assert_array_equal(pixels(compressed([dct(image, bits, last=0)], **extended)), good)
    assert np.abs(good.astype(int) - image).max() <= 2
