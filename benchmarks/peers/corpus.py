"""dicom.zip -> the images that every peer starts from, the window of each, and what must come of it.

There are few real images of 512x512 with 16 bits, so that they stand many times under different numbers:
image ``number`` is a copy of the unique image ``number % unique``, with bytes of its own on the disk. Signed
images are shifted to begin at 0, and so are their windows, so that one dtype serves every peer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE_PX = 512
Y = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The images in ``folder`` and the job: ``count``, to ``side`` x ``side``, ``batch`` at a time."""

    folder: Path
    name: str
    fingerprint: str
    unique: int
    count: int
    rows: int  # and columns
    side: int
    batch: int

    @cached_property
    def stored(self) -> NDArray[np.uint16]:
        """Unique images, (unique, rows, rows)."""
        return np.load(self.folder / "stored.npy")

    @cached_property
    def windows(self) -> NDArray[np.float64]:
        """Window Center and Window Width of each unique image, (unique, 2); LINEAR."""
        return np.load(self.folder / "windows.npy")

    @cached_property
    def affine(self) -> Y:
        """Scale and offset of every image, (count, 2): its window is clip(stored * scale + offset, 0, 1)."""
        center, width = self.windows.T
        scale = 1 / (width - 1)  # PS3.3 C.11.2.1.2.1
        unique = np.stack([scale, 0.5 - (center - 0.5) * scale], axis=1).astype(np.float32)
        return unique[np.arange(self.count) % self.unique]

    @cached_property
    def expected(self) -> Y:
        """What a peer must make of each unique image, (unique, side, side)."""
        return np.load(self.folder / "expected.npy")

    def image(self, number: int) -> NDArray[np.uint16]:
        """Return image ``number``, (rows, rows)."""
        return self.stored[number % self.unique]

    def picture(self, number: int) -> NDArray[np.uint8]:
        """Return image ``number`` through its window in 8 bits: what a JPEG holds."""
        scale, offset = self.affine[number]
        y = np.clip(self.image(number).astype(np.float32) * scale + offset, 0, 1)
        return np.round(y * 255).astype(np.uint8)


def open_corpus(folder: Path) -> Corpus:
    """Open what `make_corpus` wrote."""
    return Corpus(folder=folder, **json.loads((folder / "corpus.json").read_bytes()))


def make_corpus(folder: Path, *, count: int, batch: int, side: int, smoke: bool) -> Corpus:
    """Write the unique images, their windows and the answers; ``count`` must hold whole batches."""
    name, images = _images(smoke=smoke)
    import corpora

    stored = np.stack([_from_zero(image) for image in images])
    windows = np.array([_window(image) for image in stored])
    corpus = Corpus(
        folder=folder,
        name=name,
        fingerprint=corpora.fingerprint(images),
        unique=len(stored),
        count=count - count % batch,
        rows=stored.shape[1],
        side=side,
        batch=batch,
    )
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "stored.npy", stored)
    np.save(folder / "windows.npy", windows)
    np.save(
        folder / "expected.npy",
        np.stack([_answer(*pair, side) for pair in zip(stored, windows, strict=True)]),
    )
    facts = {key: value for key, value in asdict(corpus).items() if key != "folder"}
    (folder / "corpus.json").write_text(json.dumps(facts))
    return corpus


def _images(*, smoke: bool) -> tuple[str, list[NDArray[Any]]]:
    """Every 16-bit grey frame of 512x512, at most three of a file; for a smoke test small synthetic ones."""
    import corpora

    if smoke:
        return "synthetic16", corpora.load(smoke=True)["synthetic16"]
    zip_name, take = corpora.RECIPES["dicom16"]
    if not (corpora.folder() / zip_name).is_file():
        raise SystemExit(f"{zip_name} is not there: name its folder by PYRAD_DATA, or try --smoke")
    return "dicom16, 512x512", [
        image for image in take(corpora.folder()) if image.shape == (SIDE_PX, SIDE_PX)
    ]


def _from_zero(image: NDArray[Any]) -> NDArray[np.uint16]:
    return (image.astype(np.int32) - min(int(image.min()), 0)).astype(np.uint16)


def _window(image: NDArray[np.uint16]) -> tuple[float, float]:
    """From the 1st to the 99th percentile, in half steps, which DICOM's decimal strings can hold."""
    low, high = np.round(np.percentile(image, (1, 99)))
    return (low + high) / 2, max(high - low, 2.0)


def _answer(image: NDArray[np.uint16], window: NDArray[np.float64], side: int) -> Y:
    """Window in float64, then Pillow's BILINEAR (a triangle filter), then y * 2 - 1."""
    import PIL.Image

    center, width = window
    y = np.clip((image - (center - 0.5)) / (width - 1) + 0.5, 0, 1).astype(np.float32)
    resized = PIL.Image.fromarray(y).resize((side, side), PIL.Image.Resampling.BILINEAR)
    return np.asarray(resized) * np.float32(2) - np.float32(1)
