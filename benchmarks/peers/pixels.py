"""Stored values -> the normalised image, by torch: for peers that bring no such tools of their own.

Antialiased bilinear on float32; of what numpy, Pillow and torch offer this is the fastest way that gives the
answer that is asked for (see benchmarks/LOG.md).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

GROUP = 16  # images at a time: their float32 values stay in the processor's cache


def see(stored: NDArray[np.uint16], scale: float, offset: float, side: int) -> torch.Tensor:
    """Window, resize and normalise one image (rows, columns): float32 (1, side, side)."""
    y = torch.from_numpy(stored.astype(np.float32))
    y.mul_(float(scale)).add_(float(offset)).clamp_(0, 1)
    y = interpolate(y[None, None], (side, side), mode="bilinear", antialias=True)
    return y[0].mul_(2).sub_(1)


def see_batch(stored: NDArray[np.uint16], affine: NDArray[np.float32], side: int) -> torch.Tensor:
    """Do the same to a batch (n, rows, columns) with ``affine`` (n, 2), on torch's own threads."""
    out = torch.empty(len(stored), 1, side, side)
    for first in range(0, len(stored), GROUP):
        some = slice(first, first + GROUP)
        y = torch.from_numpy(stored[some].astype(np.float32))[:, None]
        scale, offset = torch.from_numpy(affine[some]).T[:, :, None, None, None]
        y.mul_(scale).add_(offset).clamp_(0, 1)
        out[some] = interpolate(y, (side, side), mode="bilinear", antialias=True)
    return out.mul_(2).sub_(1)
