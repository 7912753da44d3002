"""Rescale, window, padding and polarity of images -> the fields of a record, what stored values show."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
NO_PADDING = (1, 0)

_STORED_RANGE = (-32768 - 4, 65535 + 4)  # of every dtype, and a little more: a level may lie outside
_S_REF_LIMIT = 1 << 17
_LONGEST_CLIP = 65535  # steps
_FAR = 1e30  # times a step of the ramp, still finite in float32


class Voi(IntEnum):
    """What a record's window computes; mirrors ``Voi`` in csrc/window.h."""

    RAMP = 0
    THRESHOLD = 1
    SIGMOID = 2
    TABLE = 3
    CLIP = 4


def window_params(
    slope: ArrayLike,
    intercept: ArrayLike,
    center: ArrayLike,
    width: ArrayLike,
    function: ArrayLike,
    *,
    padding: ArrayLike = NO_PADDING,
    invert: ArrayLike = False,
) -> dict[str, NDArray[Any]]:
    """Turn rescale and window of n images into their records' fields, by name.

    The first five are (n,) or scalars, or (n, 3) for three windows an image: ``center`` and ``width`` in
    modality units, ``function`` of "LINEAR", "LINEAR_EXACT" or "SIGMOID". ``invert`` is (n,), True for
    MONOCHROME1, ``padding`` (n, 2) or (2,): the inclusive range in stored values, NO_PADDING (or any low >
    high) for none. Fields of windows are (n, 1) or (n, 3), others (n,). A range of values, as p1 to p99
    or 0 to 255, is a LINEAR_EXACT window of that width around its middle. LINEAR narrower than 1 is
    LINEAR_EXACT, of width 1 a threshold. Source: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3; in float64.

    Windows must be valid by now: ValueError unless all is finite, slope not 0, width above 0.
    """
    m, t, c, w, name = np.broadcast_arrays(
        *(_windows(np.asarray(x, np.float64)) for x in (slope, intercept, center, width)),
        _windows(np.asarray(function)),
    )
    if not (np.isfinite([m, t, c, w]).all() and m.all() and (w > 0).all() and np.isin(name, FUNCTIONS).all()):
        raise ValueError(
            "a window needs a finite slope other than 0, a finite intercept and center, a finite width above "
            f"0 and a function of {', '.join(FUNCTIONS)}"
        )
    linear = (name == "LINEAR") & (w >= 1)
    threshold = linear & (w == 1)
    middle = np.where(linear, c - 0.5, c)
    # A ramp under a millionth of a stored step meets no stored value but its middle; this keeps a, b finite.
    span = np.maximum(np.where(linear, w - 1, w), np.abs(m) * 1e-6)
    gain = np.where(name == "SIGMOID", 4.0, 1.0) / span
    offset = np.where(name == "SIGMOID", 0.0, 0.5)
    with np.errstate(over="ignore"):  # far outside, infinite is as good as far
        nearest = np.rint(np.clip((middle - t) / m, *_STORED_RANGE))
        b = np.clip((nearest * m + t - middle) * gain + offset, -_FAR, _FAR)
    above = _first_above(m, t, middle)
    black, steps, whole = _whole_steps(m, t, middle, span)
    clip = whole & (name != "SIGMOID") & ~threshold
    low, high = np.broadcast_to(np.asarray(padding, np.int64), (len(m), 2)).T
    return {
        "s_ref": np.select([threshold, clip], [above, black], nearest).astype(np.int32),
        "a": np.where(threshold | clip, np.sign(m), m * gain).astype(np.float32),
        "b": np.where(threshold, 0.5, b).astype(np.float32),
        "span": np.where(clip, steps, 0).astype(np.int32),
        "voi": np.select(
            [threshold, name == "SIGMOID", clip], [Voi.THRESHOLD, Voi.SIGMOID, Voi.CLIP], Voi.RAMP
        ).astype(np.uint8),
        "windows": np.full(len(m), m.shape[1], np.uint8),
        "invert": np.broadcast_to(np.asarray(invert, np.uint8), len(m)),
        "padded": (low <= high).astype(np.uint8),
        "pad_low": np.clip(low, *_STORED_RANGE).astype(np.int32),
        "pad_high": np.clip(high, *_STORED_RANGE).astype(np.int32),
    }


def _whole_steps(
    slope: NDArray[np.float64],
    intercept: NDArray[np.float64],
    middle: NDArray[np.float64],
    span: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Stored value of each ramp's black end, steps to its white end, and whether both ends are whole numbers.

    They are if rounding them moves no y by more than half a step of float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        ends = np.sort([(middle + side * span / 2 - intercept) / slope for side in (-1, 1)], axis=0)
        rounded = np.rint(ends)
        steps = rounded[1] - rounded[0]
        near = np.abs(ends - rounded).max(axis=0) <= steps * 2.0**-25
    fits = (np.abs(rounded).max(axis=0) <= _S_REF_LIMIT) & (steps >= 1) & (steps <= _LONGEST_CLIP)
    whole = near & fits
    return np.where(whole, np.where(slope > 0, *rounded), 0.0), steps, whole


def _windows(values: NDArray[Any]) -> NDArray[Any]:
    """(n, windows) of what may be (n,) or a scalar."""
    return values if values.ndim == 2 else np.atleast_1d(values)[:, None]


def _first_above(
    slope: NDArray[np.float64], intercept: NDArray[np.float64], level: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Least stored value whose modality value is above ``level`` (greatest where the slope is negative).

    Found by division, then settled by the modality values themselves, as division rounds.
    """
    toward = np.sign(slope)
    with np.errstate(over="ignore"):
        first: NDArray[np.float64] = (
            np.floor(np.clip((level - intercept) / slope, *_STORED_RANGE)) - 2 * toward
        )
    for _ in range(4):
        first += np.where(slope * first + intercept > level, 0.0, toward)
    return first
