"""FFCV over 8-bit JPEG in one file, decoded and resized by its own operators: what it was made for.

It knows colour alone, so that the grey images are stored as RGB; its resize is OpenCV's INTER_AREA, not a
triangle filter. Page: docs.ffcv.io, "Tuning Guide" and "Working with Image Data in FFCV".
"""

from __future__ import annotations

from pathlib import Path

import forms
import numpy as np
from corpus import Corpus
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import NormalizeImage, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter

from adapters.ffcv_raw import FILE, Images
from adapters.torch_workers import Batches

SETTINGS = {"num_workers": "cores", "os_cache": True, "order": "RANDOM", "quality": forms.JPEG_QUALITY}
TOLERANCE = 0.04  # JPEG is lossy, and the filter is another


class Pictures(Images):
    """The corpus through its windows, in 8 bits and three equal channels."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        return np.repeat(self.corpus.picture(number)[..., None], 3, axis=2), number


def write(corpus: Corpus, folder: Path) -> None:
    """Write one file of JPEG."""
    field = RGBImageField(write_mode="jpg", jpeg_quality=forms.JPEG_QUALITY)
    writer = DatasetWriter(str(folder / FILE), {"image": field, "number": IntField()}, num_workers=1)
    writer.from_indexed_dataset(Pictures(corpus))


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `ffcv.loader.Loader`; one of the equal channels is handed on."""
    half = np.full(3, 127.5)
    loader = Loader(
        str(folder / FILE),
        batch_size=corpus.batch,
        num_workers=cores,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        pipelines={
            "image": [
                CenterCropRGBImageDecoder((corpus.side, corpus.side), ratio=1),
                NormalizeImage(half, half, np.float32),
                ToTensor(),
                ToTorchImage(convert_back_int16=False),
            ],
            "number": [IntDecoder(), ToTensor()],
        },
    )
    while True:
        for images, numbers in loader:
            yield images[:, :1], numbers.flatten()
