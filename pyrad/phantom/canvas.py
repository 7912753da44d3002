"""A random generator and a grid -> soft shapes, smooth noise, speckle: what the phantom draws with.

Coordinates run from -1 to 1 over the image, y down and x right, whatever its size. Values are fractions of a
display window: 0 is its black, 1 its white, and beyond lies what it clips (air, bone).

Note [same pixels everywhere]: only + - * /, comparisons and square roots touch a pixel. IEEE 754 rounds
these the same on every machine, unlike exp, sin or a matrix product: a seed gives the same pixels wherever
it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.floating[Any]]  # float32; the stubs widen a product with a float


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """A grid of pixel centres and the two sources of chance.

    ``shape`` is the same for every slice of a series (the patient's body), ``noise`` is this image's own.
    """

    y: Pixels  # (rows, 1)
    x: Pixels  # (1, columns)
    shape: Generator
    noise: Generator

    @staticmethod
    def blank(rows: int, columns: int, shape: Generator, noise: Generator) -> Canvas:
        """Lay a grid of ``rows`` x ``columns`` pixels over [-1, 1] x [-1, 1]."""
        y = ((np.arange(rows, dtype=np.float32) + 0.5) * (2 / rows) - 1)[:, None]
        x = ((np.arange(columns, dtype=np.float32) + 0.5) * (2 / columns) - 1)[None, :]
        return Canvas(y=y, x=x, shape=shape, noise=noise)

    def fill(self, value: float) -> Pixels:
        """Return the whole grid at one value."""
        return np.full((self.y.shape[0], self.x.shape[1]), value, np.float32)

    def radius(self, center: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0) -> Pixels:
        """Return each pixel's distance from an ellipse's centre: 1 on its outline.

        ``tilt`` is the tangent of half the turn, whose cosine and sine are then rational.
        """
        cosine, sine = (1 - tilt * tilt) / (1 + tilt * tilt), 2 * tilt / (1 + tilt * tilt)
        dy, dx = self.y - center[0], self.x - center[1]
        along = (dy * cosine - dx * sine) * (1 / radii[0])
        across = (dy * sine + dx * cosine) * (1 / radii[1])
        return np.sqrt(along * along + across * across)

    def ellipse(
        self, center: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0, edge: float = 0.08
    ) -> Pixels:
        """Return the cover of a filled ellipse: 1 inside, 0 outside, between them a border ``edge`` wide."""
        return inside(self.radius(center, radii, tilt), edge)

    def clouds(self, cells: float, source: Generator | None = None, stretch: float = 1.0) -> Pixels:
        """Return smooth noise in [-1, 1] with about ``cells`` bumps across and ``cells / stretch`` down.

        Value noise: uniform values on a lattice, joined by the cubic 3t^2 - 2t^3.
        """
        source = self.noise if source is None else source
        down, across = max(cells / stretch, 1.0), max(cells, 1.0)
        lattice = source.random((int(down) + 3, int(across) + 3), np.float32) * 2 - 1
        offset_y, offset_x = source.random(), source.random()
        row, row_weight = _lattice_place(self.y[:, 0], down, offset_y)
        column, column_weight = _lattice_place(self.x[0], across, offset_x)
        lines = lattice[row] + (lattice[row + 1] - lattice[row]) * row_weight[:, None]
        left = lines[:, column]
        return left + (lines[:, column + 1] - left) * column_weight[None, :]

    def grain(self) -> Pixels:
        """Return noise of every pixel on its own, triangular on [-1, 1] (standard deviation 0.41)."""
        size = (self.y.shape[0], self.x.shape[1])
        return self.noise.random(size, np.float32) - self.noise.random(size, np.float32)

    def speckle(self, cells: float) -> Pixels:
        """Return ultrasound's multiplicative speckle, mean about 1: the length of a random complex wave."""
        real, imaginary = self.clouds(cells, stretch=0.6), self.clouds(cells, stretch=0.6)
        fine, finer = self.grain(), self.grain()
        real, imaginary = real + fine * 0.5, imaginary + finer * 0.5
        return np.sqrt(real * real + imaginary * imaginary) * 1.75


def inside(radius: Pixels, edge: float) -> Pixels:
    """Turn a distance that is 1 on an outline into a cover, 1 inside, over a border ``edge`` wide."""
    cover: Pixels = np.clip((1 - radius) * (1 / edge) + 0.5, 0, 1)
    return cover


def blend(pixels: Pixels, cover: Pixels, value: float | Pixels) -> Pixels:
    """Paint ``value`` over ``pixels`` where ``cover`` is 1."""
    return pixels + cover * (value - pixels)


def _lattice_place(places: Pixels, cells: float, offset: float) -> tuple[NDArray[np.intp], Pixels]:
    """Return each place's lattice cell and its smoothed weight towards the next one."""
    position = (places + 1) * (cells / 2) + offset
    cell = position.astype(np.intp)
    t = position - cell.astype(np.float32)
    return cell, t * t * (3 - 2 * t)
