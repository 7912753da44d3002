"""Stored values -> the normalised image, by numpy and torch: for peers that have no tools for it.

Clamped to the window, resized (antialiased bilinear in float32), then scaled to [-1, 1]: the filter is
linear, so that scaling may follow on the smaller image. Torch's filter is a little faster than Pillow's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate


def see(stored: NDArray[np.uint16], scale: float, offset: float, side: int) -> torch.Tensor:
    """Return clip(stored * scale + offset, 0, 1) * 2 - 1, resized: float32 (1, side, side)."""
    y = torch.from_numpy(stored.astype(np.float32))
    y.clamp_(float(-offset / scale), float((1 - offset) / scale))
    y = interpolate(y[None, None], (side, side), mode="bilinear", antialias=True)
    return y[0].mul_(float(2 * scale)).add_(float(2 * offset - 1))


def see_batch(
    stored: NDArray[np.uint16], affine: NDArray[np.float32], side: int, pool: ThreadPoolExecutor
) -> torch.Tensor:
    """Do the same to a batch (n, rows, columns) with ``affine`` (n, 2) on the threads of ``pool``."""
    out = torch.empty(len(stored), 1, side, side)

    def one(at: int) -> None:
        out[at] = see(stored[at], *affine[at], side)

    for _ in pool.map(one, range(len(stored))):
        pass
    return out


def pool_of(cores: int) -> ThreadPoolExecutor:
    """Return as many threads as cores, for `see_batch`; torch's own would wait for each other."""
    torch.set_num_threads(1)
    return ThreadPoolExecutor(cores)
