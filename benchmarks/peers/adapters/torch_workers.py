"""A function that reads one image -> shuffled batches by torch's DataLoader: what many peers have in common.

One worker process a core, kept from epoch to epoch (`persistent_workers`), windows and resizes what it reads.
Page: docs.pytorch.org, "torch.utils.data", "Performance Tuning Guide".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from corpus import Corpus
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from windowing import see

Batches = Iterator[tuple[torch.Tensor, Any]]

SETTINGS = {"num_workers": "cores", "persistent_workers": True, "prefetch_factor": 2}


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Images by number; ``opened`` is called once in each worker and returns what reads one."""

    def __init__(self, corpus: Corpus, opened: Callable[[], Callable[[int], NDArray[np.uint16]]]) -> None:
        self.affine, self.side = corpus.affine, corpus.side
        self._opened = opened
        self._read: Callable[[int], NDArray[np.uint16]] | None = None

    def __len__(self) -> int:
        return len(self.affine)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        self._read = self._read or self._opened()
        return see(self._read(number), *self.affine[number], self.side), number


def shuffled(dataset: Dataset[Any], corpus: Corpus, cores: int) -> Batches:
    """Yield batches without end."""
    loader = DataLoader(
        dataset,
        batch_size=corpus.batch,
        shuffle=True,
        drop_last=True,
        num_workers=cores,
        persistent_workers=True,
        prefetch_factor=2,
    )
    while True:
        yield from loader
