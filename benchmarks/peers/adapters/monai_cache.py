"""MONAI's CacheDataset: every stored image in memory, windowed and resized by worker processes.

Page: docs.monai.io, "Fast model training guide", caching: what is the same in every epoch is cached (here the
image as it is stored), what changes is not. MONAI's own Resize has no triangle filter; torch's is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forms
import numpy as np
import torch
from corpus import Corpus
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import Transform
from numpy.typing import NDArray
from windowing import see

from adapters import torch_workers
from adapters.torch_workers import Batches

SETTINGS = {**torch_workers.SETTINGS, "cache_rate": 1.0, "copy_cache": False}


class Load(Transform):
    """What is cached: MONAI keeps the results of its own kind of transforms alone."""

    def __call__(self, path: str) -> NDArray[np.uint16]:
        """Return the stored values."""
        return np.load(path)


class Seen(Dataset):
    """What a caching dataset holds, windowed and resized."""

    def __init__(self, cached: Any, corpus: Corpus) -> None:
        super().__init__(cached)
        self.affine, self.side = corpus.affine, corpus.side

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return see(np.asarray(self.data[number]), *self.affine[number], self.side), number


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Fill the cache, then read it."""
    paths = forms.paths(corpus, folder, "npy")
    cached = CacheDataset(paths, transform=Load(), num_workers=cores, copy_cache=False, progress=False)
    return through_workers(cached, corpus, cores)


def through_workers(cached: Any, corpus: Corpus, cores: int) -> Batches:
    """Yield batches without end by MONAI's DataLoader."""
    loader = DataLoader(
        Seen(cached, corpus),
        batch_size=corpus.batch,
        shuffle=True,
        drop_last=True,
        num_workers=cores,
        persistent_workers=True,
    )
    while True:
        yield from loader
