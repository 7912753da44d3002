"""Outlines become masks by exact rules: against fractions, point by point."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrad.ingest import duplicates
from pyrad.ingest.duplicates import File
from pyrad.ingest.outlines import box, fill
from pyrad.records import Source

ROWS, COLUMNS = 7, 9


def winding(points, x, y):
    """How often a polygon goes round (x, y), in exact arithmetic: signed crossings left of it, or on it."""
    turns = 0
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        x0, y0, x1, y1 = map(Fraction, (x0, y0, x1, y1))  # noqa: PLW2901
        if (y0 <= y) != (y1 <= y):
            at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            if at <= x:
                turns += 1 if y1 > y0 else -1
    return turns


def oracle(outlines):
    half = Fraction(1, 2)
    return np.array(
        [
            [any(winding(points, c + half, r + half) for points in outlines) for c in range(COLUMNS)]
            for r in range(ROWS)
        ]
    )


whole = st.tuples(st.integers(-3, 12), st.integers(-3, 10))
# Halves lie on the centres of pixels: ties, all of them exact in floating point
halves = whole.map(lambda p: (p[0] / 2, p[1] / 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.one_of(whole, halves), min_size=3, max_size=8), min_size=0, max_size=3))
def test_a_pixel_belongs_where_its_centre_lies_inside(outlines):
    expected = oracle(outlines) if outlines else np.zeros((ROWS, COLUMNS), bool)
    found = fill([tuple(points) for points in outlines], ROWS, COLUMNS)
    # A slanted side can pass a centre by less than floating point tells: no side here comes so near
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("x", "y", "w", "h"), [(0, 0, 9, 7), (2, 1, 3, 4), (8, 6, 1, 1), (2.5, 1.5, 3, 4)])
def test_a_rectangle_has_width_times_height_pixels(x, y, w, h):
    assert fill([box(x, y, w, h)], ROWS, COLUMNS).sum() == w * h


def test_two_outlines_that_share_a_side_share_no_pixel():
    left, right = ((0, 0), (4.5, 0), (2.5, 7), (0, 7)), ((4.5, 0), (9, 0), (9, 7), (2.5, 7))
    first, second = fill([left], ROWS, COLUMNS), fill([right], ROWS, COLUMNS)
    assert not (first & second).any()
    assert (first | second).all()


def test_a_line_that_crosses_itself_leaves_no_hole():
    star = ((4.5, 0), (7, 7), (0.2, 2.7), (8.8, 2.7), (2, 7))
    assert fill([star], ROWS, COLUMNS)[3, 4]


def test_what_lies_outside_is_cut_off():
    assert fill([box(-5, -5, 100, 100)], ROWS, COLUMNS).all()
    assert not fill([box(20, 20, 5, 5), box(-9, 0, 3, 3), box(0, -9, 3, 3)], ROWS, COLUMNS).any()


def test_a_copy_brings_its_mask_and_the_rule_by_which_it_is_read():
    def copy(path, archive=0, **facts):
        frame = Source(
            archive=archive, path=path, kind="raster", rows=8, columns=8, dtype="uint8", digest="d", **facts
        )
        return File(digest="d", sources=(frame,), keys=("k",))

    masked = {"masks": ("m.png",), "mask_from": 2, "outlines": (box(0, 0, 1, 1),)}
    (kept,) = duplicates._merge([copy("a"), copy("b"), copy("c", **masked)]).sources
    assert (kept.path, kept.masks, kept.mask_from, kept.outlines) == ("a", *masked.values())
    (kept,) = duplicates._merge([copy("a"), copy("c", archive=1, **masked)]).sources
    assert (kept.masks, kept.mask_from) == ((), 1)
