"""Shapes, a fit and what is drawn -> which part of each image is seen, where, and the way back to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad import geometry

FITS = ("stretch", "letterbox", "crop")
Boxes = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where n images that are seen lie in their stored images.

    ``shape`` int64 (n, 2) is the rows and columns that are stored, ``spacing_mm`` (n, 2) the distance of rows
    and of columns, nan where unknown; ``affine`` (n, 3, 3) takes (row, column, 1) of the output to those of
    the stored image, times ``step`` (n, 2): the spacing, or 1 where it is unknown. Crop, flip, rotation and
    shear are in it.
    """

    shape: NDArray[np.int64]
    spacing_mm: NDArray[np.float64]
    step: NDArray[np.float64]
    affine: NDArray[np.float64]


def placement(records: NDArray[np.void], spacing_mm: NDArray[np.float64]) -> Placement:
    """Say where the images that the core makes of ``records`` lie in the stored ones."""
    step = _steps(spacing_mm)
    affine = geometry.to_stored(records)
    affine[:, :2] *= step[:, :, None]
    shape = np.stack([records["rows"], records["columns"]], axis=1).astype(np.int64)
    return Placement(shape=shape, spacing_mm=spacing_mm, step=step, affine=affine)


def place(
    records: NDArray[np.void], *, size: tuple[int, int], fit: str, spacing_mm: NDArray[np.float64]
) -> Boxes:
    """Say which rectangle of an output of ``size`` each image fills; return the boxes it fills it with.

    ``fit`` is one of FITS. The boxes (n, 4) are x0, y0, x1, y1 in source pixels.
    """
    rows, columns = (records[name].astype(np.float64) for name in ("rows", "columns"))
    boxes = np.stack([np.zeros_like(rows), np.zeros_like(rows), columns, rows], axis=1)
    target = geometry.stretch(rows, columns, size=size)
    if fit == "letterbox":
        target = geometry.letterbox(rows, columns, size=size, spacing_mm=spacing_mm)
    elif fit == "crop":
        boxes = middle(boxes, size=size, spacing_mm=spacing_mm)
    for name, values in target.items():
        records[name] = values
    return boxes


def middle(boxes: Boxes, *, size: tuple[int, int], spacing_mm: NDArray[np.float64]) -> Boxes:
    """Return the largest box in the middle of each of ``boxes`` that has the aspect of ``size``.

    ``boxes`` (n, 4) are x0, y0, x1, y1 in source pixels, ``size`` is (height, width), and ``spacing_mm``
    (n, 2) is the distance of rows and of columns: the aspect is one of millimetres where both are known
    (above 0), else of pixels.
    """
    step_y, step_x = _steps(spacing_mm).T
    wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    # Of the output, one pixel shows this many millimetres (or pixels) where the tighter side fills it.
    shown = np.minimum(wide * step_x / size[1], tall * step_y / size[0])
    cut_x = np.maximum(wide - shown * size[1] / step_x, 0.0) / 2
    cut_y = np.maximum(tall - shown * size[0] / step_y, 0.0) / 2
    return np.asarray(boxes + np.stack([cut_x, cut_y, -cut_x, -cut_y], axis=1))


def pairs(column: Any) -> NDArray[np.float64]:
    """(n, 2) of a column of pairs, nan where there is none."""
    found = np.full((len(column), 2), np.nan)
    there = pc.is_valid(column).to_numpy()
    found[there] = pc.list_flatten(column).to_numpy().reshape(-1, 2)
    return found


def _steps(spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """``spacing_mm`` (n, 2) where both are known (above 0), else 1: millimetres, or pixels."""
    known = (np.isfinite(spacing_mm) & (spacing_mm > 0)).all(axis=1, keepdims=True)
    return np.where(known, spacing_mm, 1.0)
