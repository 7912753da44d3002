"""Image -> a small picture of it, and how alike two such pictures are whatever the window, flip or turn.

# Note [exact thumbnails]
A near duplicate decides in which split an image ends, so every number here is the same on every machine: sums
are integers, or whole numbers below 2**53, exact in float64 whatever the order in which a library adds them
up; the few roundings that are left are single IEEE operations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 32
ORIENTATIONS = 8  # of a rectangle: 4 turns, mirrored or not

_TOP = 65_535
_LUMA = (2, 5, 1)  # eighths, near enough to BT.601, and whole
_NONE = np.zeros((), np.int32)
_RADIUS = 2  # what is brighter than its 5 x 5 neighbourhood makes a picture; chest and knee have one shape


def thumbnail(image: NDArray[Any], *, side: int = SIDE, inverted: bool = False) -> NDArray[np.uint16]:
    """(rows, columns) or (3, rows, columns) -> means over equal areas, uint16 (side, side).

    They are stretched to 0..65535, all 0 for a flat image; ``inverted`` turns MONOCHROME1 round. The shape of
    the image is lost on purpose: a copy may have another one.
    """
    if image.ndim == 3:
        image = sum(
            (weight * plane.astype(np.int32) for weight, plane in zip(_LUMA, image, strict=True)), _NONE
        )
    # 65,536 / 32 rows of at most 8 * 65,535 fit in 32 bits, and add up faster.
    exact = np.int32 if len(image) <= 1 << 16 and side >= SIDE else np.int64
    bands = _part_sums(image[None], side, exact)
    sums = _part_sums(bands[0, :, :, None], side, np.int64)[:, :, 0]
    if inverted:
        sums = -sums
    low, high = sums.min(), sums.max()
    if low == high:
        return np.zeros((side, side), np.uint16)
    stretched: NDArray[np.uint16] = np.floor((sums - low) / (high - low) * _TOP + 0.5).astype(np.uint16)
    return stretched


def oriented(thumbs: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pictures (..., side, side) in one of the orientations 0..7; 0 is as they are.

    Bit 2 exchanges rows and columns first, then bit 0 mirrors left to right and bit 1 top to bottom.
    """
    if orientation & 4:
        thumbs = thumbs.swapaxes(-1, -2)
    if orientation & 1:
        thumbs = thumbs[..., ::-1]
    return thumbs[..., ::-1, :] if orientation & 2 else thumbs


def likeness(a: NDArray[np.uint16], b: NDArray[np.uint16]) -> NDArray[np.float64]:
    """How alike the pictures a[k] and b[k] are, (n, side, side) each, as they are turned: (n,), at most 1.

    The correlation of their local contrast, after the grey values of one are exchanged for those of the
    other in their order: the best monotone map there is, so that neither gamma nor window matters. A window
    that clips leaves nothing to map back, so both ways are tried and the better one counts.
    """
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    order_a, order_b = (np.argsort(flat, axis=1, kind="stable") for flat in (flat_a, flat_b))
    as_b, as_a = np.empty_like(flat_a), np.empty_like(flat_b)
    np.put_along_axis(as_b, order_a, np.sort(flat_b, axis=1, kind="stable"), 1)
    np.put_along_axis(as_a, order_b, np.sort(flat_a, axis=1, kind="stable"), 1)
    contrast_a, contrast_b = _contrast(a), _contrast(b)
    return np.maximum(
        _correlation(_contrast(as_b.reshape(b.shape)), contrast_b),
        _correlation(_contrast(as_a.reshape(a.shape)), contrast_a),
    )


def _part_sums(values: NDArray[Any], side: int, exact: type[np.int32 | np.int64]) -> NDArray[np.int64]:
    """(a, n, b) integers -> ``side`` times the sums over ``side`` equal parts of the n, (a, side, b).

    A value that an edge divides counts in either part for what lies there. The type ``exact`` must hold the
    sum of a part.
    """
    edges, rest, longer = _parts(values.shape[1], side)
    last = edges[longer + 1] - 1
    even = np.delete(values, last, axis=1) if len(last) else values
    shape = len(values), side, even.shape[1] // side, values.shape[2]
    sums = even.reshape(shape).sum(axis=2, dtype=exact)
    if len(last):
        sums[:, longer] += values[:, last]
    parts: NDArray[np.int64] = np.multiply(sums, side, dtype=np.int64)
    if rest.any():
        divided = values.take(edges, axis=1, mode="clip") * rest[:, None]
        parts += divided[:, 1:] - divided[:, :-1]
    return parts


@lru_cache(maxsize=256)
def _parts(length: int, side: int) -> tuple[NDArray[np.int64], ...]:
    """Edges of ``side`` equal parts of ``length`` values, and what is cut off behind each, in 1/``side``.

    Then the numbers of parts that have one whole value more than the others: with those apart all add up in
    one pass, three times as fast as part by part.
    """
    edges, rest = np.divmod(np.arange(side + 1) * length, side)
    return edges, rest, np.flatnonzero(np.diff(edges) > length // side)


def _contrast(thumbs: NDArray[np.uint16]) -> NDArray[np.int64]:
    """25 times each value less the mean of its 5 x 5 neighbourhood (edges repeated), then less their mean."""
    width = 2 * _RADIUS + 1
    padded = np.pad(thumbs, ((0, 0), (_RADIUS, _RADIUS), (_RADIUS, _RADIUS)), "edge").astype(np.int32)
    side = thumbs.shape[-1]
    box = sum((padded[:, :, at : at + side] for at in range(width)), _NONE)
    box = sum((box[:, at : at + side] for at in range(width)), _NONE)
    contrast = (width * width * thumbs.astype(np.int32) - box).reshape(len(thumbs), -1).astype(np.int64)
    centered: NDArray[np.int64] = contrast - contrast.sum(axis=1, keepdims=True) // contrast.shape[1]
    return centered


def _correlation(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the rows of a and b; 0 where one is flat."""
    dots = (np.einsum("nk,nk->n", x, y).astype(np.float64) for x, y in ((a, b), (a, a), (b, b)))
    ab, aa, bb = dots
    scale = np.sqrt(aa) * np.sqrt(bb)
    correlation: NDArray[np.float64] = np.divide(ab, scale, out=np.zeros(len(a)), where=scale > 0)
    return correlation
