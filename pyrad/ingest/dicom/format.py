"""A data set -> the format of its pixels, every contradiction refused before a byte is decoded."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from pyrad.ingest.dicom.parse import Parsed, has, integer, text
from pyrad.ingest.policy import MAX_PIXELS
from pyrad.ingest.reasons import Rejected
from pyrad.records import PixelElement, PixelFormat

# Implicit and explicit VR little endian, deflated, explicit VR big endian: PS3.5 A.1, A.2, A.5, A.3
NATIVE_SYNTAXES = frozenset(
    {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"}
)

_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422"})
_COLOR_OF_JPEG_2000 = frozenset({"YBR_ICT", "YBR_RCT"})
_FRAMES = re.compile(r"\+?\d{1,9}")  # PS3.5 6.2, IS


def pixel_format(parsed: Parsed) -> PixelFormat:
    """Read and check the Image Pixel module; Rejected names the first element at fault."""
    dataset, element = parsed.dataset, parsed.pixels
    if element is None:
        raise Rejected("missing-pixel-data", "PixelData")
    rows, columns = (_positive(dataset, keyword) for keyword in ("Rows", "Columns"))
    if rows * columns > MAX_PIXELS:
        raise Rejected("image-too-large", "Rows", f"{rows} x {columns}, limit {MAX_PIXELS} pixels")
    samples, photometric = _photometric(dataset)
    bits_allocated, bits_stored, high_bit, signed = _bits(dataset, element)
    if samples == 3 and (signed or bits_allocated not in (8, 16)):
        raise Rejected("bits-unsupported", "BitsAllocated", f"{bits_allocated} bits a colour sample")
    if photometric == "PALETTE COLOR" and bits_allocated not in (8, 16):
        raise Rejected("bits-unsupported", "BitsAllocated", f"{bits_allocated} bits of palette index")
    if photometric in _COLOR_OF_JPEG_2000 and parsed.transfer_syntax in NATIVE_SYNTAXES:
        raise Rejected("bad-photometric", "PhotometricInterpretation")
    return PixelFormat(
        rows=rows,
        columns=columns,
        frames=_number_of_frames(dataset),
        samples=samples,
        photometric=photometric,
        planar=samples == 3 and integer(dataset, "PlanarConfiguration") == 1,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=high_bit,
        signed=signed,
        transfer_syntax=parsed.transfer_syntax,
        native=parsed.transfer_syntax in NATIVE_SYNTAXES,
        little_endian=parsed.little_endian,
        element=element,
    )


def _positive(dataset: Dataset, keyword: str) -> int:
    value = integer(dataset, keyword)
    if value is None or value < 1:
        raise Rejected("bad-size", keyword)
    return value


def _photometric(dataset: Dataset) -> tuple[int, str]:
    """Samples per Pixel and Photometric Interpretation, which must agree."""
    photometric = text(dataset, "PhotometricInterpretation").upper()
    samples = integer(dataset, "SamplesPerPixel")
    if photometric in _GREY or photometric == "PALETTE COLOR":
        expected = 1
    elif photometric in _COLOR or photometric in _COLOR_OF_JPEG_2000:
        expected = 3
    else:
        raise Rejected("bad-photometric", "PhotometricInterpretation")
    if samples != expected:
        raise Rejected("bad-samples", "SamplesPerPixel", f"{samples}, expected {expected}")
    return expected, photometric


def _bits(dataset: Dataset, element: PixelElement) -> tuple[int, int, int, bool]:
    """Bits Allocated, Bits Stored, High Bit and whether Pixel Representation says signed."""
    allocated = integer(dataset, "BitsAllocated")
    if element.keyword != "PixelData":
        expected = 32 if element.keyword == "FloatPixelData" else 64
        if allocated != expected:
            raise Rejected("bad-bits", "BitsAllocated", f"{allocated}, expected {expected}")
        return expected, expected, expected - 1, True
    if allocated is None:
        raise Rejected("bad-bits", "BitsAllocated")
    if allocated not in (1, 8, 16, 32):
        raise Rejected("bits-unsupported", "BitsAllocated", f"{allocated}")
    stored = integer(dataset, "BitsStored")
    if stored is None or not 1 <= stored <= allocated:
        raise Rejected("bad-bits", "BitsStored", f"{stored} of {allocated}")
    high = integer(dataset, "HighBit") if has(dataset, "HighBit") else stored - 1
    if high is None or not stored - 1 <= high < allocated:
        raise Rejected("bad-bits", "HighBit", f"{high} with {stored} of {allocated} bits")
    representation = integer(dataset, "PixelRepresentation")
    if representation not in (0, 1):
        raise Rejected("bad-bits", "PixelRepresentation")
    return allocated, stored, high, representation == 1


def _number_of_frames(dataset: Dataset) -> int:
    """Number of Frames: absent is 1, " 3 " is 3; "0", "-1", "1.5" and "abc" are refused."""
    if not has(dataset, "NumberOfFrames"):
        return 1
    string = text(dataset, "NumberOfFrames")
    frames = int(string) if _FRAMES.fullmatch(string) else 0
    if frames < 1:
        raise Rejected("bad-number-of-frames", "NumberOfFrames")
    return frames
