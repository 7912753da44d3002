"""A canvas and a position in the stack -> one slice of a body region: tissue, and the organs lesions sit in.

Drawn from ellipses and smooth noise, in fractions of the region's display window. Sizes, brightness and
small structures (vessels, folds, bowel gas) vary from patient to patient, so that neither a bright nor a
dark spot is a lesion by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pyrad.phantom.canvas import Canvas, Pixels, blend

AIR = -20.0  # far below any window


@dataclass(frozen=True, kw_only=True, eq=False)
class Tissue:
    """A slice before the scanner: pixels, where lesions may be, and the ellipses their centres fall into."""

    pixels: Pixels
    organ: Pixels  # cover of the parenchyma
    sites: tuple[tuple[float, float, float, float], ...]  # center y, x and radii y, x


Draw: TypeAlias = Callable[[Canvas, float], Tissue]  # (canvas, level in [-1, 1] along the stack)


def head_ct(c: Canvas, level: float) -> Tissue:
    """Axial head in a brain window: skull, brain with folds, ventricles."""
    vary = c.shape.uniform
    size = vary(0.92, 1.0) * (1 - 0.12 * level * level)
    tilt = vary(-0.08, 0.08)
    brain_radii = (0.80 * size, vary(0.64, 0.72) * size)
    brain = c.ellipse((0, 0), brain_radii, tilt)
    pixels = c.fill(AIR)
    pixels = blend(pixels, c.ellipse((0, 0), (0.95 * size, brain_radii[1] + 0.15 * size), tilt), 0.35)
    pixels = blend(pixels, c.ellipse((0, 0), (0.91 * size, brain_radii[1] + 0.11 * size), tilt), 9.0)
    matter = vary(0.42, 0.55) + 0.05 * c.clouds(9, c.shape) + 0.04 * c.clouds(16)
    pixels = blend(pixels, brain, matter)
    pixels = _ventricles(c, pixels, size * vary(0.7, 1.2), level, 0.16)
    sites = ((-0.3 * size, -0.32, 0.25, 0.12), (-0.3 * size, 0.32, 0.25, 0.12), (0.4 * size, 0, 0.12, 0.25))
    return Tissue(pixels=pixels, organ=brain, sites=sites)


def brain_mr(c: Canvas, level: float) -> Tissue:
    """Axial brain, T1: bright scalp, white matter brighter than grey, dark fluid."""
    vary = c.shape.uniform
    size = vary(0.9, 1.0) * (1 - 0.15 * level * level)
    radii = (0.76 * size, vary(0.62, 0.7) * size)
    brain = c.ellipse((0, 0), radii)
    pixels = blend(c.fill(0.01), c.ellipse((0, 0), (0.95 * size, radii[1] + 0.19 * size)), vary(0.75, 0.95))
    pixels = blend(pixels, c.ellipse((0, 0), (0.87 * size, radii[1] + 0.11 * size)), 0.05)
    folds = np.clip(2.5 * (c.clouds(10, c.shape) + 0.6 * c.clouds(17)), -1, 1)
    pixels = blend(pixels, brain, vary(0.42, 0.55) + 0.06 * folds)
    white = c.ellipse((0, 0), (radii[0] * 0.72, radii[1] * 0.72), edge=0.3)
    pixels = pixels + white * vary(0.03, 0.1)
    pixels = _ventricles(c, pixels, size * vary(0.7, 1.2), level, 0.08)
    sites = ((-0.3 * size, -0.3, 0.22, 0.12), (-0.3 * size, 0.3, 0.22, 0.12), (0.38 * size, 0, 0.12, 0.25))
    return Tissue(pixels=_coil_shading(c, pixels, 0.15), organ=brain, sites=sites)


def chest_ct(c: Canvas, level: float) -> Tissue:
    """Axial chest in a lung window: lungs with vessels, heart, ribs, spine."""
    vary = c.shape.uniform
    size = vary(0.9, 1.0)
    pixels = blend(c.fill(AIR), c.ellipse((0, 0), (0.8 * size, 0.97 * size)), vary(0.8, 0.86))
    pixels = blend(pixels, c.ellipse((0, 0), (0.74 * size, 0.9 * size)), 0.95)
    height, width = vary(0.56, 0.64) * size, vary(0.36, 0.42) * size
    air, apart = vary(0.3, 0.42), 0.46 * size
    lungs = np.maximum(c.ellipse((0, -apart), (height, width)), c.ellipse((0, apart), (height, width)))
    heart = c.ellipse((-0.12, 0.16), (0.32 - 0.1 * level, 0.3 - 0.1 * level), 0.3)
    lungs = lungs * (1 - heart)
    pixels = blend(pixels, lungs, air + 0.03 * c.clouds(8))
    vessels = np.clip(4 * (c.clouds(20) + 0.5 * c.clouds(9, c.shape)) - 2.9, 0, 1)
    pixels = blend(pixels, lungs * vessels, vary(0.55, 0.85))
    pixels = blend(pixels, c.ellipse((0.52 * size, 0), (0.13, 0.12)), 1.3)
    for x in (-0.86, 0.86):
        pixels = blend(pixels, c.ellipse((0.1 * level, x * size), (0.12, 0.03)), 1.4)
    sites = ((0, -apart - 0.02, 0.3, 0.12), (0.08, apart + 0.04, 0.3, 0.1))
    return Tissue(pixels=pixels, organ=lungs, sites=sites)


def chest_dx(c: Canvas, level: float) -> Tissue:
    """Frontal chest radiograph: lungs between bright mediastinum and diaphragm, crossed by ribs."""
    vary = c.shape.uniform
    size = vary(0.92, 1.0)
    body = c.ellipse((0.35, 0), (1.3, 1.02 * size), edge=0.15)
    pixels = blend(c.fill(0.02), body, vary(0.6, 0.72))
    height, width, apart = vary(0.66, 0.74), vary(0.34, 0.4) * size, 0.45 * size
    lungs = np.maximum(
        c.ellipse((-0.08, -apart), (height, width), -0.06, 0.2),
        c.ellipse((-0.08, apart), (height, width), 0.06, 0.2),
    )
    pixels = blend(pixels, lungs, vary(0.3, 0.4) + 0.04 * c.clouds(10))
    heart = c.ellipse((0.28, 0.16), (0.3, vary(0.28, 0.36)), -0.3, 0.25)
    pixels = blend(pixels, np.maximum(heart, c.ellipse((0, 0), (1.2, 0.13), edge=0.4)), vary(0.78, 0.9))
    # Ribs: curved bands, a triangle wave of the height over the lung.
    bent = (c.y + 0.5 * c.x * c.x) * vary(4.0, 5.0) + vary(0, 1) + 0.1 * level
    band = np.abs(bent - np.floor(bent) - 0.5)
    pixels = pixels + body * np.clip(6 * band - 1.8, 0, 1) * vary(0.04, 0.09)
    sites = ((-0.12, -apart, 0.36, 0.1), (-0.16, apart + 0.03, 0.32, 0.08))
    return Tissue(pixels=pixels, organ=lungs, sites=sites)


def abdomen_ct(c: Canvas, level: float) -> Tissue:
    """Axial upper abdomen in a soft-tissue window: liver, spleen, kidneys, spine, bowel gas."""
    vary = c.shape.uniform
    size = vary(0.9, 1.0)
    pixels = blend(c.fill(AIR), c.ellipse((0, 0), (0.78 * size, 0.97 * size)), 0.5)
    pixels = blend(pixels, c.ellipse((0, 0), (0.74 * size, 0.93 * size)), 0.14)
    pixels = blend(pixels, c.ellipse((0, 0), (0.66 * size, 0.85 * size)), 0.3 + 0.06 * c.clouds(9))
    liver = c.ellipse((-0.08, -0.36 * size), (0.5 - 0.08 * level, 0.46), vary(-0.1, 0.1))
    pixels = blend(pixels, liver, vary(0.5, 0.62) + 0.03 * c.clouds(12))
    vessels = np.clip(5 * c.clouds(9, c.shape) - 3.4, 0, 1)
    pixels = pixels + liver * vessels * vary(0.05, 0.15)
    pixels = blend(pixels, c.ellipse((0.1, 0.58 * size), (0.26, 0.16), 0.2), vary(0.55, 0.65))
    for x in (-0.34, 0.34):
        pixels = blend(pixels, c.ellipse((0.42, x * size), (0.14, 0.1)), vary(0.6, 0.75))
    pixels = blend(pixels, c.ellipse((0.4, 0), (0.14, 0.13)), 1.4)
    for _ in range(3):
        place = (c.noise.uniform(-0.45, -0.1), c.noise.uniform(0.1, 0.45))
        pixels = blend(pixels, c.ellipse(place, (0.08, 0.1), edge=0.2), c.noise.uniform(-1, 0.1))
    return Tissue(pixels=pixels, organ=liver, sites=((-0.1, -0.38 * size, 0.2, 0.2),))


def knee_mr(c: Canvas, level: float) -> Tissue:
    """Sagittal knee, proton density: bright marrow of femur and tibia in dark cortex, muscle, joint."""
    vary = c.shape.uniform
    size = vary(0.92, 1.02)
    pixels = blend(c.fill(0.02), c.ellipse((0, 0.05), (1.5, 0.85 * size)), vary(0.65, 0.85))
    pixels = blend(
        pixels, c.ellipse((0, 0.08), (1.4, 0.74 * size)), vary(0.2, 0.3) + 0.05 * c.clouds(6, stretch=2)
    )
    marrow = vary(0.45, 0.6)
    lean = vary(-0.06, 0.06)
    organ = c.fill(0)
    for y, x, height, width in ((-0.52, -0.02, 0.5, 0.46), (0.55, -0.05, 0.46, 0.44)):
        bone = c.ellipse((y, x), (height * size, width * size * (1 - 0.1 * level)), lean)
        pixels = blend(pixels, bone, 0.04)
        core = c.ellipse((y, x), ((height - 0.04) * size, (width - 0.05) * size * (1 - 0.1 * level)), lean)
        pixels = blend(pixels, core, marrow + 0.03 * c.clouds(14) + 0.04 * c.clouds(5, c.shape))
        organ = np.maximum(organ, core)
    pixels = blend(pixels, c.ellipse((0.02, -0.03), (0.06, 0.36)), vary(0.6, 0.9))
    pixels = blend(pixels, c.ellipse((-0.3, 0.62), (0.22, 0.09), 0.1), marrow)
    sites = ((-0.52, -0.02, 0.22, 0.18), (0.55, -0.05, 0.18, 0.16))
    return Tissue(pixels=_coil_shading(c, pixels, 0.2), organ=organ, sites=sites)


def abdomen_us(c: Canvas, level: float) -> Tissue:
    """Ultrasound of the liver through a curved probe: a sector, vessels, the diaphragm's bright arc."""
    vary = c.shape.uniform
    echo = vary(0.38, 0.5)
    pixels = echo + 0.05 * c.clouds(6, c.shape) + 0.04 * c.clouds(9)
    for _ in range(3):
        place = (vary(-0.6, 0.7), vary(-0.6, 0.6))
        pixels = blend(pixels, c.ellipse(place, (0.05, 0.12), vary(-0.5, 0.5), 0.3), 0.12)
    arc = c.radius((-0.3, 0.1 * level), (vary(1.0, 1.12), 1.0))
    pixels = pixels + np.clip(1 - np.abs(arc - 1) * 25, 0, 1) * 0.4
    # The sector: between two radii of the probe's curvature and within its opening angle.
    depth, opening = c.y + 1.35, vary(0.62, 0.8)
    distance = np.sqrt(depth * depth + c.x * c.x)
    sector = ((distance > 0.42) & (distance < 2.3) & (np.abs(c.x) < opening * depth)).astype(np.float32)
    pixels = pixels * (1.1 - vary(0.1, 0.25) * (c.y + 1) / 2)
    return Tissue(pixels=pixels * sector, organ=sector, sites=((0.15, 0, 0.35, 0.35),))


def thyroid_us(c: Canvas, level: float) -> Tissue:
    """Ultrasound of the neck through a flat probe: skin, muscle layers, the gland, the trachea's shadow."""
    vary = c.shape.uniform
    pixels = c.fill(0.25) + 0.05 * c.clouds(8, c.shape, stretch=2.5)
    layers = (c.y + 0.04 * c.clouds(4, c.shape)) * vary(6, 9)
    stripes = np.abs(layers - np.floor(layers) - 0.5)
    pixels = blend(pixels, np.clip(-0.3 - c.y, 0, 0.2) * 5, 0.2 + 0.5 * stripes)
    height, width, side = vary(0.46, 0.56), vary(0.6, 0.72), vary(-0.15, 0.15)
    gland = c.ellipse((0.22, side), (height, width * (1 - 0.1 * level)), vary(-0.1, 0.1), 0.12)
    pixels = blend(pixels, gland, vary(0.42, 0.54) + 0.04 * c.clouds(9))
    windpipe = 0.98 if side < 0 else -0.98
    pixels = blend(pixels, c.ellipse((0.5, windpipe), (0.5, 0.26)), 0.05)
    pixels = blend(pixels, c.ellipse((0.3, -windpipe * 0.85), (0.13, 0.12)), 0.06)
    pixels = pixels * (1.1 - vary(0.1, 0.25) * (c.y + 1) / 2)
    return Tissue(pixels=pixels, organ=gland, sites=((0.22, side, 0.16, 0.3),))


def _ventricles(c: Canvas, pixels: Pixels, size: float, level: float, value: float) -> Pixels:
    shrink = size * (1 - 0.4 * abs(level))
    for x, tilt in ((-0.1, 0.12), (0.1, -0.12)):
        pixels = blend(
            pixels, c.ellipse((-0.02, x * size), (0.24 * shrink, 0.055 * shrink), tilt, 0.2), value
        )
    return pixels


def _coil_shading(c: Canvas, pixels: Pixels, strength: float) -> Pixels:
    # A receive coil sees what is near it more brightly: a slow gain over the field.
    return pixels * (1 + strength * c.clouds(1.5, c.shape))
