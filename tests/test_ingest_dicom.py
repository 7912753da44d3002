"""The pixels of DICOM files: the decision table's rows, each with exact numbers."""

import struct

import numpy as np
import pytest
from dicoms import NATIVE, OPTIONS, dicom, pixels, ramp, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian

from pyrad.ingest.files import decode_frames, scan
from pyrad.ingest.policy import ScanOptions
from pyrad.ingest.reasons import Rejected

# Cells


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_native_cells_of_every_width_and_sign_are_exact(syntax, dtype):
    info = np.iinfo(dtype)
    image = np.array([[info.min, info.max, 0], [1, info.min + 1, info.max - 1]], dtype)
    np.testing.assert_array_equal(pixels(dicom(image, syntax=syntax)), image)


def test_unused_bits_are_masked_and_the_sign_extended():
    cells = np.array([[0x0FFF, 0x0800], [0x07FF, 0xF001]], np.uint16)
    data = dicom(cells, BitsStored=12, PixelRepresentation=1)
    assert pixels(data).tolist() == [[-1, -2048], [2047, 1]]
    assert scan(0, "a", data, OPTIONS)[0].bits_stored == 12
    cells = np.array([[0xF005, 0x0FFF]], np.uint16)  # an overlay in the high bits
    assert pixels(dicom(cells, BitsStored=12)).tolist() == [[5, 4095]]


def test_another_high_bit_shifts_and_is_noted():
    cells = np.array([[0x1230, 0xFFFF]], np.uint16)
    data = dicom(cells, BitsStored=12, HighBit=15)
    assert pixels(data).tolist() == [[0x123, 0xFFF]]
    assert "high-bit-shifted" in scan(0, "a", data, OPTIONS)[0].warnings
    signed = dicom(np.array([[0x8000, 0x7FF0]], np.uint16), BitsStored=12, HighBit=15, PixelRepresentation=1)
    assert pixels(signed).tolist() == [[-2048, 2047]]


@given(
    st.integers(1, 16),
    st.integers(0, 15),
    st.booleans(),
    st.lists(st.integers(0, 65535), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_cells_follow_their_definition(stored, room, signed, cells):
    high = min(stored - 1 + room, 15)
    expected = []
    for cell in cells:
        value = (cell >> (high + 1 - stored)) % (1 << stored)
        expected.append(value - (1 << stored) if signed and value >> (stored - 1) else value)
    data = dicom(
        np.array([cells], np.uint16), BitsStored=stored, HighBit=high, PixelRepresentation=int(signed)
    )
    assert pixels(data).tolist() == [expected]


def test_big_endian_bytes_in_words_are_swapped():
    image = ramp(3, 4, "uint8")
    swapped = np.frombuffer(image.tobytes(), "<u2").astype(">u2").tobytes()
    data = dicom(image, syntax=ExplicitVRBigEndian)
    at = data.rindex(image.tobytes())
    as_words = data[: at - 8] + b"OW" + data[at - 6 : at] + swapped + data[at + len(swapped) :]
    np.testing.assert_array_equal(pixels(as_words), image)


@pytest.mark.parametrize(
    ("elements", "reason", "tag"),
    [
        ({"BitsStored": 17}, "bad-bits", "BitsStored"),
        ({"BitsStored": 0, "HighBit": 15}, "bad-bits", "BitsStored"),
        ({"BitsStored": 12, "HighBit": 10}, "bad-bits", "HighBit"),
        ({"HighBit": 16}, "bad-bits", "HighBit"),
        ({"BitsAllocated": None}, "bad-bits", "BitsAllocated"),
        ({"BitsAllocated": 12}, "bits-unsupported", "BitsAllocated"),
        ({"PixelRepresentation": 2}, "bad-bits", "PixelRepresentation"),
        ({"PixelRepresentation": None}, "bad-bits", "PixelRepresentation"),
        ({"Rows": 0}, "bad-size", "Rows"),
        ({"Rows": None}, "bad-size", "Rows"),
        ({"Columns": [6, 6]}, "bad-size", "Columns"),
        ({"SamplesPerPixel": 2}, "bad-samples", "SamplesPerPixel"),
        ({"PhotometricInterpretation": None}, "bad-photometric", "PhotometricInterpretation"),
        ({"PhotometricInterpretation": "CIELAB"}, "bad-photometric", "PhotometricInterpretation"),
        ({"PixelData": None}, "missing-pixel-data", "PixelData"),
    ],
)
def test_contradictions_are_refused_by_tag(elements, reason, tag):
    assert refusal(dicom(ramp(), **elements)) == (reason, tag)


def test_sizes_written_as_unsigned_long_are_read():
    image = ramp()
    data = dicom(image)
    short = b"\x28\x00\x10\x00US\x02\x00\x04\x00"
    assert short in data
    long = b"\x28\x00\x10\x00UL\x04\x00\x04\x00\x00\x00"
    np.testing.assert_array_equal(pixels(data.replace(short, long)), image)


def test_a_huge_size_over_few_bytes_allocates_nothing():
    data = dicom(bytes(32), Rows=65535, Columns=65535, NumberOfFrames="100000")
    assert refusal(data) == ("image-too-large", "Rows")
    assert refusal(dicom(bytes(32), Rows=8000, Columns=8000, NumberOfFrames="999999999")) == (
        "pixel-data-short",
        "PixelData",
    )


# Wide and narrow cells


@pytest.mark.parametrize(
    ("values", "dtype", "stored"),
    [
        ([0, 1, 65535], "uint32", "uint16"),
        ([-32768, 5, 32767], "int32", "int16"),
        ([0, 70], "int32", "uint16"),
    ],
)
def test_32_bit_integers_that_fit_are_stored_exactly(values, dtype, stored):
    image = np.array([values], dtype)
    assert pixels(dicom(image)).tolist() == [values]
    assert pixels(dicom(image)).dtype == stored


@pytest.mark.parametrize("values", [[0, 65536], [-32769, 0], [-1, 32768]])
def test_32_bit_integers_that_do_not_fit_are_refused(values):
    assert refusal(dicom(np.array([values], "int32"))) == ("not-exact-in-16-bits", "")


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floats_are_stored_where_they_are_whole_numbers(keyword, dtype):
    def of(values):
        cells = np.array([values], dtype)
        empty = {"PixelData": None, "BitsStored": None, "PixelRepresentation": None, "Rows": 1}
        bits = 8 * cells.dtype.itemsize
        return dicom(b"", **empty, Columns=len(values), BitsAllocated=bits, **{keyword: cells.tobytes()})

    assert pixels(of([-3.0, 0.0, 32767.0])).tolist() == [[-3, 0, 32767]]
    for wrong in ([0.5], [np.nan], [np.inf], [70000.0]):
        assert refusal(of(wrong))[0] == "not-exact-in-16-bits"


def test_single_bits_are_unpacked_over_the_ends_of_frames():
    frames = np.random.default_rng(0).integers(0, 2, (3, 3, 5), np.uint8)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    data = dicom(packed, BitsAllocated=1, BitsStored=1, NumberOfFrames=3, Rows=3, Columns=5)
    np.testing.assert_array_equal(pixels(data), frames)


# Lengths and frames


def test_pixel_data_of_another_length_are_refused():
    image = ramp(5, 7, "uint8")
    cells = image.tobytes()
    size = {"Rows": 5, "Columns": 7, "BitsAllocated": 8, "BitsStored": 8}
    np.testing.assert_array_equal(pixels(dicom(cells + b"\0", **size)), image)  # one byte of padding
    assert refusal(dicom(cells[:-2], **size)) == ("pixel-data-short", "PixelData")
    assert refusal(dicom(cells[:17], **size)) == ("pixel-data-short", "PixelData")
    assert refusal(dicom(cells + bytes(3), **size)) == ("pixel-data-long", "PixelData")
    assert refusal(dicom(cells * 3, **size)) == ("pixel-data-long", "PixelData")  # two frames too many
    with pytest.raises(Rejected) as caught:
        scan(0, "a", dicom(cells[:17], **size), OPTIONS)
    assert caught.value.detail == "18 bytes of 35"
    whole = dicom(cells + b"\0", **size)
    assert refusal(whole[:-2]) == ("pixel-data-short", "PixelData")  # the file ends before its length says


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "abc", "1e1", "99999999999"])
def test_nonsense_in_number_of_frames_is_refused(text):
    data = dicom(ramp(3, 4), NumberOfFrames="7").replace(
        b"IS\x02\x007 ", b"IS" + struct.pack("<H", 12) + text.ljust(12).encode()
    )
    assert refusal(data) == ("bad-number-of-frames", "NumberOfFrames")


def test_blanks_around_number_of_frames_are_fine():
    stack = np.stack([ramp(), ramp() + 1, ramp() + 2])
    data = dicom(stack, frames=3).replace(b"IS\x02\x003 ", b"IS\x04\x00 3  ")
    np.testing.assert_array_equal(pixels(data), stack)
    assert [source.frame for source in scan(0, "a", data, OPTIONS)] == [0, 1, 2]


def test_a_frame_of_padding_alone_is_refused_and_its_neighbours_kept():
    stack = np.stack([ramp(), np.full((4, 6), -2000, np.int16), np.full((4, 6), -1995, np.int16)])
    data = dicom(stack, frames=3, PixelPaddingValue=-2000)
    frames = list(decode_frames(scan(0, "a", data, OPTIONS), data))
    assert isinstance(frames[1], Rejected)
    assert frames[1].reason == "only-padding"
    np.testing.assert_array_equal(frames[0], stack[0])
    np.testing.assert_array_equal(frames[2], stack[2])


# Colour


RGB = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [7, 7, 7], [255, 255, 255]]], np.uint8
)
LUMA = [[76, 150, 29], [18, 7, 255]]  # (19595 R + 38470 G + 7471 B + 32768) >> 16


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_becomes_luma_or_keeps_its_planes(planar):
    cells = np.ascontiguousarray(np.moveaxis(RGB, -1, 0)) if planar else RGB
    data = dicom(RGB, modality="SC", PlanarConfiguration=planar, PixelData=cells.tobytes())
    source = scan(0, "a", data, OPTIONS)[0]
    assert pixels(data).tolist() == LUMA
    assert (source.planes, source.photometric, source.dtype) == (1, "MONOCHROME2", "uint8")
    assert "color-to-luma" in source.warnings
    planes = ScanOptions(include=("sc",), color="planes")
    np.testing.assert_array_equal(pixels(data, planes), np.moveaxis(RGB, -1, 0))
    assert scan(0, "a", data, planes)[0].photometric == "RGB"


def test_luma_is_the_one_of_pillow():
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(
        pixels(dicom(image, modality="SC")), np.asarray(Image.fromarray(image).convert("L"))
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_stored_as_colour_comes_back_bit_for_bit(dtype):
    grey = np.linspace(0, np.iinfo(dtype).max, 512).astype(dtype).reshape(16, 32)
    data = dicom(np.repeat(grey[..., None], 3, -1), modality="US")
    for color in ("luma", "planes"):
        options = ScanOptions(color=color)
        np.testing.assert_array_equal(pixels(data, options), grey)
        assert scan(0, "a", data, options)[0].planes == 1


def test_full_range_ybr_is_converted():
    ybr = np.array([[[76, 85, 255], [150, 44, 21], [29, 255, 107]]], np.uint8)  # red, green, blue (T.871)
    data = dicom(ybr, modality="US", PhotometricInterpretation="YBR_FULL")
    rgb = pixels(data, ScanOptions(color="planes"))
    assert np.abs(np.moveaxis(rgb, 0, -1).astype(int)[0] - np.eye(3, dtype=int) * 255).max() <= 2
    grey = np.array([[[9, 128, 128], [200, 128, 128]]], np.uint8)
    assert pixels(dicom(grey, modality="US", PhotometricInterpretation="YBR_FULL")).tolist() == [[9, 200]]


@pytest.mark.parametrize("columns", [4, 3])
@pytest.mark.parametrize("rows", [2, 4])
def test_halved_chroma_is_expanded_odd_widths_too(columns, rows):
    luma = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns) + 40
    wide = np.pad(luma, ((0, 0), (0, columns % 2)))
    by_row = b"".join(bytes([*pair, 128, 128]) for row in wide for pair in row.reshape(-1, 2))
    run_on = b"".join(bytes([*pair, 128, 128]) for pair in luma.reshape(-1, 2))
    for cells in (by_row, run_on):
        data = dicom(
            cells,
            modality="US",
            Rows=rows,
            Columns=columns,
            BitsAllocated=8,
            BitsStored=8,
            SamplesPerPixel=3,
            PhotometricInterpretation="YBR_FULL_422",
            PlanarConfiguration=0,
        )
        np.testing.assert_array_equal(pixels(data), luma)


def test_signed_or_wide_colour_is_refused_by_name():
    assert refusal(dicom(RGB.astype(np.uint32), modality="SC")) == ("bits-unsupported", "BitsAllocated")
    assert refusal(dicom(RGB.view(np.int8), modality="SC")) == ("bits-unsupported", "BitsAllocated")
