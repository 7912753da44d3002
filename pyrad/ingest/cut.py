"""A decoded frame and its Cut -> the part that is stored, with rectangles blanked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrad.ingest.reasons import Rejected
from pyrad.records import Source


def apply_cut(image: NDArray[Any], source: Source) -> NDArray[Any]:
    """The part of a frame that ``source.cut`` keeps, (..., rows, columns), contiguous.

    Blanked pixels take the padding value where there is one, else what is darkest in the rest of the frame
    (brightest for MONOCHROME1), so that nothing tells what was there; of colour planes, 0.
    """
    if source.cut is None:
        return image
    if image.shape[-2:] != (source.cut.rows, source.cut.columns):
        raise Rejected("codestream-mismatch", "Rows", "the size that was cut is not that of the frame")
    hidden = np.zeros((source.cut.rows, source.cut.columns), np.bool_)
    for top, left, bottom, right in source.cut.blank:
        hidden[top:bottom, left:right] = True
    top, left, bottom, right = source.cut.keep or (0, 0, source.cut.rows, source.cut.columns)
    kept = image[..., top:bottom, left:right].copy()
    hidden = hidden[top:bottom, left:right]
    if hidden.any():
        kept[..., hidden] = _background(kept, hidden, source)
    return kept


def _background(kept: NDArray[Any], hidden: NDArray[np.bool_], source: Source) -> int:
    if source.padding is not None:
        return source.padding[0]
    if kept.ndim == 3 or hidden.all():
        return 0
    seen = kept[~hidden]
    return int(seen.max() if source.photometric == "MONOCHROME1" else seen.min())
