"""MONAI's PersistentDataset: the stored images in files of its own, windowed and resized by worker processes.

Page: docs.monai.io, "Fast model training guide", and `monai.data.PersistentDataset`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from corpus import Corpus
from monai.data import PersistentDataset
from monai.transforms import Transform

from adapters import monai_cache
from adapters.torch_workers import Batches

SETTINGS = {**monai_cache.torch_workers.SETTINGS, "cache": "torch.save of the stored values"}


class FromCorpus(Transform):
    """The deterministic transform whose results are kept: a number becomes its image."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __call__(self, number: int) -> torch.Tensor:
        """Return what is stored."""
        return torch.from_numpy(self.corpus.image(number))


def write(corpus: Corpus, folder: Path) -> None:
    """Let the dataset write its cache by going through it once."""
    dataset = _cached(corpus, folder)
    for number in range(corpus.count):
        dataset[number]


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read what `write` made it keep."""
    return monai_cache.through_workers(_cached(corpus, folder), corpus, cores)


def _cached(corpus: Corpus, folder: Path) -> PersistentDataset:
    return PersistentDataset(
        list(range(corpus.count)), FromCorpus(corpus), cache_dir=folder, hash_transform=None
    )
