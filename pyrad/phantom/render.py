"""A planned file -> its stored values, and the mask of its lesion in every frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyrad.phantom.canvas import Canvas
from pyrad.phantom.cohort import Image, Purpose, chance
from pyrad.phantom.lesion import NORMAL, Lesion, Mask, draw_lesion, paint_lesion
from pyrad.phantom.scanner import acquire


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendering:
    """The content of one file."""

    pixels: NDArray[np.generic]  # (frames, rows, columns) of the scanner's dtype
    masks: tuple[Mask, ...]  # one a frame, (rows, columns); none without a lesion
    lesion: Lesion | None


def render(image: Image, seed: int) -> Rendering:
    """Draw the slice that ``image`` plans; a cine's frames show the same body under fresh noise."""
    series = image.series
    place = (series.patient.number, series.study)
    lesion = None
    if image.label != NORMAL:
        of_slice = chance(seed, Purpose.LESION_SLICE, *place, image.number)
        lesion = draw_lesion(image.label, chance(seed, Purpose.LESION, *place), of_slice)
    frames, masks = [], []
    for frame in range(image.frames):
        canvas = Canvas.blank(
            series.rows,
            series.columns,
            chance(seed, Purpose.BODY, *place),
            chance(seed, Purpose.NOISE, *place, image.number, frame),
        )
        tissue = series.scanner.draw(canvas, image.level)
        pixels = tissue.pixels
        if lesion:
            # Its texture has a stream of its own: without the lesion the slice is the same slice.
            texture = chance(seed, Purpose.LESION_TEXTURE, *place, image.number)
            pixels, mask = paint_lesion(replace(canvas, noise=texture), tissue, lesion)
            masks.append(mask)
        frames.append(acquire(series.scanner, canvas, pixels, padded=series.padded, inverted=series.inverted))
    return Rendering(pixels=np.stack(frames), masks=tuple(masks), lesion=lesion)
