"""Outlines drawn on an image -> the mask of the pixels that they enclose.

A pixel belongs to the mask where its centre lies inside: column c of row r has its centre at (c + 0.5,
r + 0.5), where (0, 0) is the upper left corner of the image. Inside is what a line goes round (the non-zero
winding rule), so that a freehand line that crosses itself leaves no hole; several outlines are united. A
centre that lies on a line belongs to what is right of it or below: two outlines that share a side share no
pixel, and a rectangle of whole numbers has exactly width x height pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyrad.records import Outline

MAX_POINTS = 100_000  # of one outline; a freehand one has some hundreds
FARTHEST = 1e6  # pixels from the corner of an image, so that no crossing overflows


def is_outline(points: Outline) -> bool:
    """Whether points enclose anything and can be drawn: three or more, all of them finite and near."""
    return 3 <= len(points) <= MAX_POINTS and all(abs(v) <= FARTHEST for point in points for v in point)


def fill(outlines: Sequence[Outline], rows: int, columns: int) -> NDArray[np.bool_]:
    """The union of the outlines as (rows, columns); what lies outside the image is cut off."""
    mask = np.zeros((rows, columns), bool)
    for outline in outlines:
        points = np.array(outline, np.float64)
        top = max(0, math.floor(points[:, 1].min()) - 1)
        bottom = min(rows, math.ceil(points[:, 1].max()) + 1)
        for row in range(top, bottom):
            mask[row] |= _winding(points, row + 0.5, columns) != 0
    return mask


def box(x: float, y: float, width: float, height: float) -> Outline:
    """The outline of a rectangle by its upper left corner."""
    return (x, y), (x + width, y), (x + width, y + height), (x, y + height)


def _winding(points: NDArray[np.float64], centre: float, columns: int) -> NDArray[np.int64]:
    """How often the outline goes round each pixel's centre in the row of this height."""
    x0, y0 = points.T
    x1, y1 = np.roll(points, -1, axis=0).T
    crossing = (y0 <= centre) != (y1 <= centre)
    x0, y0, x1, y1 = x0[crossing], y0[crossing], x1[crossing], y1[crossing]
    at = x0 + (centre - y0) * (x1 - x0) / (y1 - y0)
    # The first column whose centre is not left of the crossing
    first = np.clip(np.ceil(at - 0.5), 0, columns).astype(np.int64)
    turns = np.zeros(columns + 1, np.int64)
    np.add.at(turns, first, np.where(y1 > y0, 1, -1))
    return np.cumsum(turns[:-1])
