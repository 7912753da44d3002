"""FFCV over raw arrays in one file, windowed and resized by torch in the same process.

It has no operators for 16 bits.
Page: docs.ffcv.io, "Tuning Guide", small dataset: `os_cache=True`, `OrderOption.RANDOM`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from corpus import Corpus
from ffcv.fields import IntField, NDArrayField
from ffcv.fields.decoders import IntDecoder, NDArrayDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter
from windowing import pool_of, see_batch

from adapters.torch_workers import Batches

SETTINGS = {"num_workers": "cores", "os_cache": True, "order": "RANDOM", "batches_ahead": 1}
FILE = "images.beton"


class Images:
    """The corpus as FFCV's writer asks for it."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __len__(self) -> int:
        return self.corpus.count

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        return self.corpus.image(number), number


def write(corpus: Corpus, folder: Path) -> None:
    """Write one file of arrays."""
    field = NDArrayField(dtype=np.dtype("uint16"), shape=(corpus.rows, corpus.rows))
    writer = DatasetWriter(str(folder / FILE), {"image": field, "number": IntField()}, num_workers=1)
    writer.from_indexed_dataset(Images(corpus))


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `ffcv.loader.Loader`, whose thread is a batch ahead."""
    loader = Loader(
        str(folder / FILE),
        batch_size=corpus.batch,
        num_workers=cores,
        order=OrderOption.RANDOM,
        os_cache=True,
        batches_ahead=1,
        drop_last=True,
        pipelines={"image": [NDArrayDecoder()], "number": [IntDecoder()]},
    )
    pool = pool_of(cores)
    while True:
        for images, numbers in loader:
            chosen = np.asarray(numbers).ravel()
            yield see_batch(np.asarray(images), corpus.affine[chosen], corpus.side, pool), chosen
