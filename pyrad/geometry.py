"""Shapes of images and of a batch -> the rectangle that each image fills, its turn; and the way back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def stretch(height: ArrayLike, width: ArrayLike, *, size: tuple[int, int]) -> dict[str, NDArray[np.uint32]]:
    """Fill the whole output of ``size`` (rows, columns) with each of n source boxes, whatever their shape.

    ``height`` and ``width`` are (n,), as for `letterbox`. Returns dst_x, dst_y, dst_w, dst_h, (n,) each.
    """
    rows, _ = np.broadcast_arrays(np.atleast_1d(np.asarray(height)), np.atleast_1d(np.asarray(width)))
    zero = np.zeros(len(rows), np.int64)
    return _fields(zero, zero, zero + size[1], zero + size[0])


def letterbox(
    height: ArrayLike, width: ArrayLike, *, size: tuple[int, int], spacing_mm: ArrayLike | None = None
) -> dict[str, NDArray[np.uint32]]:
    """Fit each of n source boxes into the output of ``size`` (rows, columns): aspect ratio kept, centred.

    ``height`` and ``width`` (n,) are of the boxes, in source pixels; ``spacing_mm`` (n, 2) is the distance of
    rows and of columns in mm: where both are known (finite and above 0) the ratio is kept in mm, else in
    pixels. One side fills the output, the other is rounded half up, to at least 1 pixel, and so is the margin
    before the image. Returns dst_x, dst_y, dst_w, dst_h, (n,) each.
    """
    tall, wide = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(pixels, np.float64)) for pixels in (height, width))
    )
    if spacing_mm is not None:
        spacing = np.broadcast_to(np.asarray(spacing_mm, np.float64), (len(tall), 2))
        known = (np.isfinite(spacing) & (spacing > 0)).all(axis=1, keepdims=True)
        tall, wide = (np.stack([tall, wide], axis=1) * np.where(known, spacing, 1.0)).T
    rows, columns = size
    fills_width = wide * rows >= tall * columns
    dst_w = np.where(fills_width, columns, _rounded_ratio(wide * rows, tall, columns))
    dst_h = np.where(fills_width, _rounded_ratio(tall * columns, wide, rows), rows)
    return _fields((columns - dst_w + 1) // 2, (rows - dst_h + 1) // 2, dst_w, dst_h)


def to_stored(records: NDArray[np.void]) -> NDArray[np.float64]:
    """Take pixels of the output back to the stored image: float64 (n, 3, 3).

    ``records`` (n,) say which box of the stored image fills which rectangle of the output, and whether it is
    mirrored and turned there (`pyrad.ops.RECORD_DTYPE`). Row and column of the output, and 1, become row and
    column of the stored image, and 1; whole numbers are the middles of pixels on both sides.
    """
    affine = np.zeros((len(records), 3, 3))
    affine[:, 2, 2] = 1.0
    for row, axis in enumerate(("y", "x")):
        low, high = records[f"{axis}0"], records[f"{axis}1"]
        mirrored = records[f"flip_{axis}"] == 1
        extent = (high - low) / records["dst_h" if axis == "y" else "dst_w"]
        step = np.where(mirrored, -extent, extent)
        affine[:, row, row] = step
        affine[:, row, 2] = np.where(mirrored, high, low) - 0.5 + (0.5 - records[f"dst_{axis}"]) * step
    turned = records["turned"] == 1
    to_grid = np.tile(np.eye(3), (int(turned.sum()), 1, 1))
    to_grid[:, :2] = records["turn"][turned][:, ::-1][:, :, [1, 0, 2]]  # x and y become row and column
    affine[turned] @= to_grid
    return affine


def turn(records: NDArray[np.void], back: NDArray[np.float64], *, size: tuple[int, int]) -> None:
    """Let the images of ``records`` be seen turned about the middle of an output of ``size`` (rows, columns).

    ``back`` (n, 2, 2) takes (x, y) of the output, in pixels from its middle, to where they were before; where
    it is the identity nothing changes. A turned image is drawn on a grid of the same scale first: the
    rectangle it had, and as many whole pixels around it as the output looks at and the stored image has.
    """
    turned = (back != np.eye(2)).any(axis=(1, 2))
    its, back = records[turned], back[turned]
    rows, columns = size
    middle = np.array([columns / 2, rows / 2])
    reach = np.abs(back) @ (middle - 0.5)  # of the pixels' middles, (n, 2)
    for axis, name in enumerate(("x", "y")):
        side, side_px = ("dst_w", "columns") if name == "x" else ("dst_h", "rows")
        low, high, filled = its[f"{name}0"], its[f"{name}1"], its[side].astype(np.float64)
        scale = (high - low) / filled
        first = middle[axis] - 0.5 - its[f"dst_{name}"]  # the middle, in pixels of the rectangle
        wanted = np.stack([-np.floor(first - reach[:, axis]), np.floor(first + reach[:, axis]) + 2 - filled])
        mirrored = its[f"flip_{name}"] == 1
        room = np.floor(np.stack([low, its[side_px] - high]) / scale)
        room = np.where(mirrored, room[::-1], room)
        more = np.clip(wanted, 0, room)  # before and after, in the output's order
        before, after = np.where(mirrored, more[::-1], more) * scale
        its[f"{name}0"] = np.maximum(low - before, 0.0)
        its[f"{name}1"] = np.minimum(high + after, its[side_px])
        its[side] = filled + more.sum(axis=0)
        its[f"dst_{name}"] = 0
        its["turn"][:, axis, :2] = back[:, axis]
        its["turn"][:, axis, 2] = first + more[0] - back[:, axis] @ (middle - 0.5)
    its["turned"] = 1
    records[turned] = its


def _rounded_ratio(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], most: int
) -> NDArray[np.int64]:
    """Quotient rounded half up, 1 to ``most``; exact for integers, where a rounded division would not be."""
    halves_up = np.floor_divide(2 * numerator + denominator, 2 * denominator)
    return np.clip(halves_up, 1, most).astype(np.int64)


def _fields(
    x: NDArray[np.int64], y: NDArray[np.int64], width: NDArray[np.int64], height: NDArray[np.int64]
) -> dict[str, NDArray[np.uint32]]:
    named = {"dst_x": x, "dst_y": y, "dst_w": width, "dst_h": height}
    return {name: values.astype(np.uint32) for name, values in named.items()}
