"""A loader -> torch's two kinds of dataset, and the sampler that gives the first one the loader's order.

All three are made of a `Loader` and yield what it would, bit for bit, in any number of worker processes:

    DataLoader(MapView(loader), sampler=BatchOrder(loader), batch_size=None, num_workers=2)  # of Batch
    DataLoader(MapView(loader), batch_sampler=BatchOrder(loader), num_workers=2)  # of Item
    DataLoader(IterableView(loader), batch_size=None, num_workers=2)  # of Batch

A worker process that is spawned opens the store again; one that is forked has the loader as it was, which
must not be iterating then (`pyrad.loader.pipeline`, Note [threads]).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, SupportsIndex, overload

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from pyrad.loader.loader import Loader
from pyrad.loader.passes import Pass
from pyrad.loader.sampler import rank_positions
from pyrad.records import Batch


class Item(NamedTuple):
    """One image of a `MapView`, in a form that torch's default collation stacks.

    ``image`` (C, H, W) and ``label``, int64 () or float32 (K,), as in a `Batch`; they share its memory.
    """

    image: torch.Tensor
    label: torch.Tensor
    key: str


class MapView(Dataset[Item | Batch]):
    """A map-style dataset: item i is the image at position i of the loader's sequence.

    ``len`` is the number of samples, one epoch. ``view[i]`` is an `Item`, ``view[[i, j]]`` a `Batch` of
    several by one call of the core. Lists, as `BatchOrder`'s, may name positions of later epochs, where a
    training loader draws other crops and flips; a sampler that knows of one epoch sees those of the first
    again and again. A loader with ``shuffle=False`` has the samples in the store's order.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader.samples)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Item: ...

    @overload
    def __getitem__(self, index: Sequence[int]) -> Batch: ...

    def __getitem__(self, index: SupportsIndex | Sequence[int]) -> Item | Batch:
        """Image number ``index``, or the batch of several. IndexError where a single one is outside."""
        if isinstance(index, Sequence):
            return self.loader.at(np.asarray(index, np.int64))
        number = operator.index(index)
        if not 0 <= number < len(self):
            raise IndexError(f"image {number} of {len(self)}")
        return self.__getitems__([number])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Item]:
        """Images at ``positions`` for a collation, by one call of the core, without the padding."""
        batch = self[positions]
        rows = zip(batch.images, batch.labels, batch.keys, batch.valid.tolist(), strict=True)
        return [Item(image, label, key) for image, label, key, valid in rows if valid]


class BatchOrder(Sampler[list[int]]):
    """The loader's batches, each a list of positions for a `MapView`; every ``for`` is the next pass.

    It runs in the main process. With ``rank`` and ``world_size`` of the loader, a list is this rank's slice.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self._epoch = torch.zeros((), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[int]]:
        return Pass(self.loader, self._epoch, self._lists, advance=True)

    def set_epoch(self, epoch: int) -> None:
        """Say which pass the next ``for`` is (Note [passes])."""
        self._epoch.fill_(epoch)

    def _lists(self, positions: Iterable[int]) -> Iterator[list[int]]:
        loader = self.loader
        for position in positions:
            mine = rank_positions(position, loader.batch_size, loader.rank, loader.world_size)
            yield mine.tolist()


class IterableView(IterableDataset[Batch]):
    """An iterable dataset of whole batches: each worker prepares its share of a pass with its own threads.

    Give DataLoader ``batch_size=None``, and call `set_epoch` before every pass, as with torch's
    DistributedSampler: workers cannot tell how many passes there were. Without it each is the first again.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # workers that persist see it too

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        return Pass(self.loader, self._epoch, self.loader.batches, worker=worker, workers=workers)

    def set_epoch(self, epoch: int) -> None:
        """Say which pass the next ``for`` is (Note [passes])."""
        self._epoch.fill_(epoch)
