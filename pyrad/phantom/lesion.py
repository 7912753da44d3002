"""A label -> a lesion painted into an organ, and its mask.

What tells the labels apart is local and the same in every modality: a `mass` is brighter than the tissue
around it, lobed and mottled; a `cyst` is darker, smooth and round; an `infiltrate` leaves the mean as it
was and makes the tissue coarse. How strongly it shows is drawn widely, down to the invisible: no reader
finds them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pyrad.phantom.anatomy import Tissue
from pyrad.phantom.canvas import Canvas, Pixels, blend, inside

NORMAL = "normal"
LESIONS = ("cyst", "infiltrate", "mass")
LABELS = (*LESIONS, NORMAL)

Mask: TypeAlias = NDArray[np.bool_]

_FAINT_SHARE = 0.12  # of lesions that can hardly be seen


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """Where a lesion lies, how large it is and how strongly it shows."""

    label: str
    site: float  # in [0, 1): which of the organ's sites
    place: tuple[float, float]  # within the site, each from -1 to 1
    radius: float  # in halves of the image's width
    aspect: float
    tilt: float
    contrast: float  # in fractions of the display window


def draw_lesion(label: str, patient: Generator, image: Generator) -> Lesion:
    """Draw a lesion: where it lies and its size belong to the ``patient``, how it shows to the ``image``.

    Its diameter is 19 % to 35 % of the image's width.
    """
    faint = image.random() < _FAINT_SHARE
    return Lesion(
        label=label,
        site=patient.random(),
        place=(patient.uniform(-1, 1), patient.uniform(-1, 1)),
        radius=patient.uniform(0.25, 0.35) * image.uniform(0.75, 1.0),
        aspect=patient.uniform(0.8, 1.25),
        tilt=image.uniform(-0.4, 0.4),
        contrast=image.uniform(0.0, 0.1) if faint else image.uniform(0.25, 0.5),
    )


def paint_lesion(canvas: Canvas, tissue: Tissue, lesion: Lesion) -> tuple[Pixels, Mask]:
    """Paint ``lesion`` into the tissue's organ; returns picture and mask, both (rows, columns)."""
    pixels, contrast = tissue.pixels, lesion.contrast
    center_y, center_x, reach_y, reach_x = tissue.sites[int(lesion.site * len(tissue.sites))]
    center = (center_y + lesion.place[0] * reach_y, center_x + lesion.place[1] * reach_x)
    radii = (lesion.radius * lesion.aspect, lesion.radius / lesion.aspect)
    radius = canvas.radius(center, radii, lesion.tilt)
    if lesion.label == "mass":
        cover = inside(radius + 0.22 * canvas.clouds(7), 0.15) * tissue.organ
        painted = pixels + cover * contrast * (1 + 0.35 * canvas.clouds(14))
    elif lesion.label == "cyst":
        cover = inside(radius, 0.12) * tissue.organ
        smooth = blend(pixels, 0.6 * cover, _mean_under(pixels, cover))
        rim = np.clip(1 - 10 * np.abs(radius - 1), 0, 1) * tissue.organ
        painted = smooth - cover * contrast + 0.3 * contrast * rim
    else:
        cover = inside(radius + 0.2 * canvas.clouds(5), 0.4) * tissue.organ
        coarse = canvas.clouds(22, stretch=1.6) + canvas.clouds(30)
        painted = pixels + 1.3 * contrast * cover * np.clip(1.3 * coarse, -1, 1)
    return painted, cover > 0.5


def _mean_under(pixels: Pixels, cover: Pixels) -> float:
    # In float64: the order of the sum then leaves no trace in float32. See Note [same pixels everywhere].
    weight = float(cover.sum(dtype=np.float64))
    return float((pixels * cover).sum(dtype=np.float64)) / max(weight, 1e-6)
