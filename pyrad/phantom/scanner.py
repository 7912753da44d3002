"""Tissue -> stored values: noise, speckle, windows and bit depths of each kind of scanner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyrad.phantom import anatomy
from pyrad.phantom.anatomy import Draw
from pyrad.phantom.canvas import Canvas, Pixels

PADDING = -2000  # stored, outside a CT's reconstruction circle

_WORD = ("implicit", "explicit", "big-endian", "deflated", "rle", "jpeg-ls", "jpeg-2000")
_BYTE = ("explicit", "implicit", "rle", "jpeg-ls", "jpeg-2000")


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One protocol on one machine: what it looks at and how it stores what it sees."""

    modality: Literal["CT", "MR", "US", "DX"]
    body_part: str  # Body Part Examined
    manufacturer: str
    draw: Draw
    matrices: tuple[tuple[int, int], ...]  # (rows, columns)
    field_mm: tuple[float, float]  # (height, width)
    dtype: Literal["uint8", "uint16", "int16"]
    bits_stored: int
    window: tuple[
        float, float
    ]  # centre and width in modality units, where the anatomy's 0 is black and 1 white
    other_window: tuple[float, float]
    slope: float = 1.0
    intercept: float = 0.0
    noise: float = 0.06  # half width of the triangular noise, in fractions of the window
    speckle: bool = False
    colour: bool = False  # grey written as RGB
    paired: bool = False  # has a left and a right
    syntaxes: tuple[str, ...] = field(default=_WORD)


SCANNERS: dict[str, Scanner] = {
    "ct-head": Scanner(
        modality="CT",
        body_part="HEAD",
        manufacturer="Phantom Alpha",
        draw=anatomy.head_ct,
        matrices=((128, 128), (160, 160)),
        field_mm=(230, 230),
        dtype="int16",
        bits_stored=16,
        window=(40, 80),
        other_window=(600, 2800),
        intercept=-1024,
        noise=0.1,
    ),
    "ct-chest": Scanner(
        modality="CT",
        body_part="CHEST",
        manufacturer="Phantom Beta",
        draw=anatomy.chest_ct,
        matrices=((128, 128), (144, 144), (192, 192)),
        field_mm=(380, 380),
        dtype="int16",
        bits_stored=16,
        window=(-600, 1500),
        other_window=(40, 400),
        intercept=-1024,
        noise=0.04,
    ),
    "ct-abdomen": Scanner(
        modality="CT",
        body_part="ABDOMEN",
        manufacturer="Phantom Alpha",
        draw=anatomy.abdomen_ct,
        matrices=((128, 128), (128, 160)),
        field_mm=(320, 400),
        dtype="int16",
        bits_stored=16,
        window=(40, 400),
        other_window=(300, 1500),
        intercept=-1024,
        noise=0.08,
    ),
    "mr-brain": Scanner(
        modality="MR",
        body_part="BRAIN",
        manufacturer="Phantom Gamma",
        draw=anatomy.brain_mr,
        matrices=((128, 128), (160, 128)),
        field_mm=(240, 216),
        dtype="uint16",
        bits_stored=12,
        window=(700, 1400),
        other_window=(500, 800),
        noise=0.06,
    ),
    "mr-knee": Scanner(
        modality="MR",
        body_part="KNEE",
        manufacturer="Phantom Delta",
        draw=anatomy.knee_mr,
        matrices=((128, 96), (160, 128)),
        field_mm=(160, 160),
        dtype="int16",
        bits_stored=16,
        window=(400, 800),
        other_window=(300, 500),
        slope=0.5,
        noise=0.06,
        paired=True,
    ),
    "us-abdomen": Scanner(
        modality="US",
        body_part="ABDOMEN",
        manufacturer="Phantom Delta",
        draw=anatomy.abdomen_us,
        matrices=((120, 160), (144, 192)),
        field_mm=(150, 200),
        dtype="uint8",
        bits_stored=8,
        window=(127.5, 255),
        other_window=(100, 180),
        speckle=True,
        colour=True,
        syntaxes=_BYTE,
    ),
    "us-thyroid": Scanner(
        modality="US",
        body_part="THYROID",
        manufacturer="Phantom Beta",
        draw=anatomy.thyroid_us,
        matrices=((96, 128), (112, 144)),
        field_mm=(37.5, 50),
        dtype="uint8",
        bits_stored=8,
        window=(127.5, 255),
        other_window=(100, 180),
        speckle=True,
        syntaxes=_BYTE,
    ),
    "dx-chest": Scanner(
        modality="DX",
        body_part="CHEST",
        manufacturer="Phantom Gamma",
        draw=anatomy.chest_dx,
        matrices=((176, 144), (192, 160)),
        field_mm=(430, 352),
        dtype="uint16",
        bits_stored=12,
        window=(2048, 4096),
        other_window=(1900, 3000),
        noise=0.04,
    ),
}


def acquire(
    scanner: Scanner, canvas: Canvas, pixels: Pixels, *, padded: bool, inverted: bool
) -> NDArray[np.generic]:
    """Turn tissue into stored values, (rows, columns) of the scanner's dtype.

    ``padded`` puts the padding value outside the field of view's circle; ``inverted`` stores MONOCHROME1.
    """
    if scanner.speckle:
        seen = pixels * (0.35 + 0.65 * canvas.speckle(40)) + 0.02 * canvas.grain() * (pixels > 0)
    else:
        # Half of the noise is one pixel fine, half is correlated as a reconstruction filter leaves it.
        seen = pixels + scanner.noise * (canvas.grain() + 0.6 * canvas.clouds(48))
    center, width = scanner.window
    units = center + (seen - 0.5) * width
    if scanner.modality == "CT":
        units = np.clip(units, -1000, 3000)
    elif scanner.modality in ("MR", "US"):
        units = np.maximum(units, 0)
    stored = np.floor((units - scanner.intercept) / scanner.slope + 0.5)
    if scanner.bits_stored < 16:
        top = 2**scanner.bits_stored - 1
        stored = np.clip(stored, 0, top)
        stored = top - stored if inverted else stored
    image: NDArray[np.generic] = stored.astype(scanner.dtype)
    if padded:
        image[canvas.y * canvas.y + canvas.x * canvas.x > 1] = PADDING
    return image
