"""(seed, epoch, sample) -> one box of the source image and two flips.

Cropping, scaling, translating and flipping are all said by one box and two signs, which the resize folds into
its weights: augmentation costs nothing and interpolates once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrad.errors import UsageError
from pyrad.loader import sampler

Boxes = NDArray[np.float64]
Flags = NDArray[np.bool_]

_DRAWS = 6  # flip, flip_vertical, scale, ratio, x, y: appending a draw leaves the earlier ones as they are


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What may happen to a training image. The box never leaves the image: nothing is invented at its edge.

    ``flip`` and ``flip_vertical`` are probabilities; ``scale`` the share of the image's area that the box
    covers, drawn evenly from (low, high], at most 1; ``ratio`` the box's aspect ratio relative to the
    image's, drawn evenly in its logarithm; ``translate`` how much of the room around the box may be used:
    0 keeps it centred, 1 lets it lie anywhere.
    """

    flip: float = 0.5
    flip_vertical: float = 0.0
    scale: tuple[float, float] = (0.8, 1.0)
    ratio: tuple[float, float] = (0.9, 1.1)
    translate: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no probability or no range."""
        for name in ("flip", "flip_vertical", "translate"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise UsageError(f"augment: {name} is {value}; it lies between 0 and 1")
        if not 0.0 < self.scale[0] <= self.scale[1] <= 1.0:
            raise UsageError(f"augment: scale is {self.scale}; it is (low, high) with 0 < low <= high <= 1")
        if not 0.0 < self.ratio[0] <= self.ratio[1] < np.inf:
            raise UsageError(f"augment: ratio is {self.ratio}; it is (low, high) with 0 < low <= high")

    def draw(
        self, boxes: Boxes, *, seed: int, epochs: NDArray[np.int64], samples: NDArray[np.int64]
    ) -> tuple[Boxes, Flags, Flags]:
        """Draw a box inside each of ``boxes``, and whether to flip left-right and top-bottom.

        ``boxes`` is float64 (n, 4): x0, y0, x1, y1 in source pixels, of any size; ``epochs`` and ``samples``
        (n,) say whose numbers to draw.
        """
        draws = sampler.uniform(_DRAWS, seed=seed, epochs=epochs, samples=samples)
        area = self.scale[1] - draws[:, 2] * (self.scale[1] - self.scale[0])
        low, high = np.log(self.ratio)
        stretch = np.exp(low + draws[:, 3] * (high - low))
        size = boxes[:, 2:] - boxes[:, :2]
        share = np.stack([np.sqrt(area * stretch), np.sqrt(area / stretch)], axis=1)
        inner = size * np.minimum(share, 1.0)
        room = size - inner
        start = boxes[:, :2] + room * (0.5 + self.translate * (draws[:, 4:6] - 0.5))
        # Rounding must not push an edge past the box it lies in.
        end = np.minimum(start + inner, boxes[:, 2:])
        return np.concatenate([start, end], axis=1), draws[:, 0] < self.flip, draws[:, 1] < self.flip_vertical
