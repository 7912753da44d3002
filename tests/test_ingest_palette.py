"""Palettes, plain and in segments: exact colours, and what is refused."""

import numpy as np
import pytest
from dicoms import OPTIONS, dicom, pixels, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels.processing import _expand_segmented_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from pyrad.ingest.dicom.palette import expand_segments
from pyrad.ingest.files import scan

COLORS = ("Red", "Green", "Blue")


def palette(entries, first, bits, values, word, *, segmented=False):
    raw = np.array(values, word).tobytes()
    tables = {}
    for color in COLORS:
        tables[f"{color}PaletteColorLookupTableDescriptor"] = [entries, first, bits]
        name = f"{'Segmented' * segmented}{color}PaletteColorLookupTableData"
        tables[name] = raw + b"\0" * (len(raw) % 2)
    return tables


def indexed(index, **elements):
    return dicom(index, modality="SC", PhotometricInterpretation="PALETTE COLOR", **elements)


@pytest.mark.parametrize(
    ("bits", "word", "values", "dtype"),
    [
        (8, "u1", [0, 10, 255], "uint8"),
        (8, "<u2", [0, 10, 255], "uint8"),
        (16, "<u2", [0, 1000, 65535], "uint16"),
    ],
)
def test_a_palette_is_applied_exactly_and_its_ends_hold(bits, word, values, dtype):
    index = np.array([[0, 5, 6, 7, 8, 255]], np.uint8)
    data = indexed(index, **palette(3, 5, bits, values, word))
    low, middle, high = values
    assert pixels(data).tolist() == [[low, low, middle, high, high, high]]
    assert pixels(data).dtype == dtype
    assert {"palette-applied", "color-to-luma"} <= set(scan(0, "a", data, OPTIONS)[0].warnings)


def test_no_entries_in_a_descriptor_mean_65536():
    index = np.array([[0, 1, 65535]], np.uint16)
    values = np.arange(65536)[::-1]
    assert pixels(indexed(index, **palette(0, 0, 16, values, "<u2"))).tolist() == [[65535, 65534, 0]]


def test_palettes_that_are_short_or_missing_are_refused():
    index = np.zeros((2, 2), np.uint8)
    short = palette(4, 0, 16, [1, 2, 3], "<u2")
    assert refusal(indexed(index, **short)) == ("bad-palette", "RedPaletteColorLookupTableData")
    assert refusal(indexed(index)) == ("bad-palette", "RedPaletteColorLookupTableDescriptor")
    assert refusal(indexed(index, **palette(3, 0, 12, [1, 2, 3], "<u2")))[0] == "bad-palette"
    unequal = palette(3, 0, 16, [1, 2, 3], "<u2") | {"BluePaletteColorLookupTableDescriptor": [2, 0, 16]}
    assert refusal(indexed(index, **unequal)) == ("bad-palette", "RedPaletteColorLookupTableDescriptor")


# Segments: discrete (0, n, values), linear (1, n, end), indirect (2, n segments, offset in bytes)

SEGMENTS = [0, 2, 100, 200, 1, 4, 0, 1, 3, 10, 2, 2, 4 * 2, 0]
#           at 0          at 8     at 14    indirect: two segments from byte 8 on, once more
EXPANDED = [100, 200, 150, 100, 50, 0, 3, 7, 10, 8, 5, 3, 0, 3, 7, 10]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [8, 16])
def test_segments_expand_to_the_palette(bits, syntax):
    big = syntax == ExplicitVRBigEndian
    if bits == 16:
        cells = np.array(SEGMENTS, ">u2" if big else "<u2")
    else:  # the offset takes four cells, and counts cells
        cells = np.array([*SEGMENTS[:-2], 4, 0, 0, 0], "u1")
        cells = cells.view("<u2").astype(">u2") if big else cells
    elements = palette(len(EXPANDED), 0, bits, cells, cells.dtype, segmented=True)
    index = np.arange(16, dtype=np.uint8).reshape(4, 4)
    data = indexed(index, syntax=syntax, **elements)
    assert pixels(data).ravel().tolist() == EXPANDED
    assert pixels(data).dtype == f"uint{bits}"


entries = st.integers(1, 65535)  # pydicom takes a last entry of 0, before a repeated line, for none
segment = st.one_of(
    st.lists(entries, min_size=1, max_size=5).map(lambda values: [0, len(values), *values]),
    st.tuples(st.integers(1, 30), entries).map(lambda line: [1, *line]),
)


@given(st.lists(entries, min_size=1, max_size=4), st.lists(segment, max_size=6), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_segments_against_pydicom(begin, others, repeated):
    parts = [[0, len(begin), *begin], *others]
    data = [cell for part in parts for cell in part]
    in_bytes, in_cells = data, data
    if repeated and len(parts) > repeated:
        where = sum(len(part) for part in parts[:-repeated])
        # The offset counts bytes (C.7.9.2.3); pydicom takes it for cells
        in_bytes, in_cells = ([*data, 2, repeated, unit * where, 0] for unit in (2, 1))
    theirs = _expand_segmented_lut(tuple(in_cells), "<H")
    ours = expand_segments(in_bytes, len(theirs), bytes_a_cell=2)
    # pydicom rounds halves to even, and steps in floating point
    assert set(np.array(ours) - np.array(theirs)) <= {0, 1}


@pytest.mark.parametrize(
    ("cells", "count"),
    [
        ([1, 4, 9], 4),  # a line from nowhere
        ([0, 3, 1, 2], 3),  # cut
        ([0, 3, 1, 2, 3], 2),  # more than the descriptor says
        ([0, 3, 1, 2, 3], 4),  # fewer
        ([3, 1, 1], 1),  # unknown
        ([0, 0, 0, 1, 5], 1),  # empty
        ([0, 1, 5, 2, 1, 6, 0], 2),  # repeats itself
        ([0, 1, 5, 2, 1, 3, 0], 2),  # begins inside a cell
        ([0, 1, 5, 2, 1, 0xFFFF, 0xFFFF], 2),  # outside
        ([0, 1, 5, 2, 65535, 0, 0], 65536),  # runs on into the repetition
        ([], 1),
    ],
)
def test_segments_that_are_none_are_refused(cells, count):
    data = indexed(np.zeros((2, 2), np.uint8), **palette(count % 65536, 0, 16, cells, "<u2", segmented=True))
    assert refusal(data)[0] == "bad-palette"


def test_a_supplemental_palette_leaves_grey_values_alone():
    grey = np.array([[0, 200, 4095]], np.uint16)
    data = dicom(grey, PixelPresentation="COLOR", **palette(3, 4000, 16, [1, 2, 3], "<u2"))
    assert pixels(data).tolist() == grey.tolist()
    assert scan(0, "a", data, OPTIONS)[0].photometric == "MONOCHROME2"
