"""(seed, epoch, sample) -> one box of the source image, two flips, a turn, and a change of the window.

Cropping, scaling, translating and flipping are all said by one box and two signs, which the resize folds into
its weights: they cost nothing and interpolate once. Rotation and shear are a second, bilinear stage over what
was resized. Windows are changed before anything is windowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrad.errors import UsageError
from pyrad.loader import sampler

Boxes = NDArray[np.float64]
Flags = NDArray[np.bool_]

# flip, flip_vertical, scale, ratio, x, y, rotate, shear, window_width, window_center, any_window: appending a
# draw leaves the earlier ones as they are.
_DRAWS = 11


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What happens to n images.

    ``boxes`` (n, 4) are x0, y0, x1, y1 in source pixels; ``flip_x`` and ``flip_y`` (n,) mirror them
    left-right and top-bottom. ``turn`` (n, 2, 2) takes (x, y) of the output, in its pixels from its middle,
    to those of the picture before it was turned. The window becomes ``window_width`` (n,) times as wide, and
    its centre moves by ``window_center`` (n,) of its width; ``window`` (n,) in [0, 1) chooses among those
    there are.
    """

    boxes: Boxes
    flip_x: Flags
    flip_y: Flags
    turn: NDArray[np.float64]
    window_width: NDArray[np.float64]
    window_center: NDArray[np.float64]
    window: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What may happen to a training image. The box never leaves the image: nothing is invented at its edge.

    ``flip`` and ``flip_vertical`` are probabilities; ``scale`` the share of the image's area that the box
    covers, drawn evenly from (low, high], at most 1; ``ratio`` the box's aspect ratio relative to the
    image's, drawn evenly in its logarithm; ``translate`` how much of the room around the box may be used:
    0 keeps it centred, 1 lets it lie anywhere.

    ``rotate`` and ``shear`` are the most degrees (0 to 180, 0 to 45) by which the picture that is seen turns
    about its middle, and by which its columns then lean, either way, drawn evenly: in the output's pixels,
    so letterbox or crop keep the angles of tissue, stretch does not. What turns in comes from the image where
    the box left some of it out, and is y = 0, as a letterbox's bars, where there is none.

    ``window_width`` is a factor on the window's width, (low, high) above 0, drawn evenly in its logarithm;
    ``window_center`` the share of its width, 0 to 1, by which its centre moves at most, either way, drawn
    evenly; three windows change alike, and a VOI LUT does not change. ``any_window`` draws one of an image's
    own windows, or its VOI LUT, in place of the first: for ``window="auto"``.
    """

    flip: float = 0.5
    flip_vertical: float = 0.0
    scale: tuple[float, float] = (0.8, 1.0)
    ratio: tuple[float, float] = (0.9, 1.1)
    translate: float = 1.0
    rotate: float = 0.0
    shear: float = 0.0
    window_width: tuple[float, float] = (1.0, 1.0)
    window_center: float = 0.0
    any_window: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no probability or no range."""
        most = {"flip": 1, "flip_vertical": 1, "translate": 1, "rotate": 180, "shear": 45, "window_center": 1}
        for name, high in most.items():
            value = getattr(self, name)
            if not 0.0 <= value <= high:
                raise UsageError(f"augment: {name} is {value}; it lies between 0 and {high}")
        if not 0.0 < self.scale[0] <= self.scale[1] <= 1.0:
            raise UsageError(f"augment: scale is {self.scale}; it is (low, high) with 0 < low <= high <= 1")
        for name in ("ratio", "window_width"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high < np.inf:
                raise UsageError(f"augment: {name} is {low, high}; it is (low, high) with 0 < low <= high")

    @property
    def changes_windows(self) -> bool:
        """Whether a window becomes another, not only one of an image's own."""
        return self.window_width != (1.0, 1.0) or self.window_center != 0.0

    def draw(
        self, boxes: Boxes, *, seed: int, epochs: NDArray[np.int64], samples: NDArray[np.int64]
    ) -> Drawn:
        """Draw a box inside each of ``boxes``, and what else happens to their images.

        ``boxes`` is float64 (n, 4): x0, y0, x1, y1 in source pixels, of any size; ``epochs`` and ``samples``
        (n,) say whose numbers to draw.
        """
        draws = sampler.uniform(_DRAWS, seed=seed, epochs=epochs, samples=samples)
        return Drawn(
            boxes=self._boxes(boxes, draws),
            flip_x=draws[:, 0] < self.flip,
            flip_y=draws[:, 1] < self.flip_vertical,
            turn=_turns(*np.deg2rad([[self.rotate], [self.shear]] * (2 * draws[:, 6:8].T - 1))),
            window_width=_between(self.window_width, draws[:, 8]),
            window_center=self.window_center * (2 * draws[:, 9] - 1),
            window=draws[:, 10] if self.any_window else np.zeros(len(draws)),
        )

    def _boxes(self, boxes: Boxes, draws: NDArray[np.float64]) -> Boxes:
        area = self.scale[1] - draws[:, 2] * (self.scale[1] - self.scale[0])
        stretch = _between(self.ratio, draws[:, 3])
        size = boxes[:, 2:] - boxes[:, :2]
        share = np.stack([np.sqrt(area * stretch), np.sqrt(area / stretch)], axis=1)
        inner = size * np.minimum(share, 1.0)
        room = size - inner
        start = boxes[:, :2] + room * (0.5 + self.translate * (draws[:, 4:6] - 0.5))
        # Rounding must not push an edge past the box it lies in.
        end = np.minimum(start + inner, boxes[:, 2:])
        return np.concatenate([start, end], axis=1)


def _between(ends: tuple[float, float], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evenly in the logarithm."""
    low, high = np.log(ends)
    return np.asarray(np.exp(low + draws * (high - low)))


def _turns(rotate: NDArray[np.float64], shear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the output's (x, y) were before they turned clockwise and then leant, in radians: (n, 2, 2).

    Seen to turn by R and lean by S, the picture S R p shows what was p: the way back is R^-1 S^-1.
    """
    cos, sin, lean = np.cos(rotate), np.sin(rotate), np.tan(shear)
    back = np.array([[cos, sin - cos * lean], [-sin, cos + sin * lean]])
    return np.asarray(back.transpose(2, 0, 1))
