"""A store -> the loaders that a Lightning Trainer asks for, each rank's share of every batch.

The loaders are pyrad's own: Lightning takes any iterable with a length. It restores their state in the middle
of an epoch only, so the module keeps the state of the training stream in its own part of a checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch

from pyrad.errors import MissingDependencyError
from pyrad.loader.augment import Augment
from pyrad.loader.labels import split_codes
from pyrad.loader.loader import Loader
from pyrad.records import SPLITS, Batch, Split
from pyrad.store.reader import Store, open_store

try:
    from lightning.pytorch import LightningDataModule
except ModuleNotFoundError:
    try:
        from pytorch_lightning import LightningDataModule
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "pyrad.loader.lightning needs Lightning: pip install 'pyrad[lightning]'"
        ) from None


class StoreDataModule(LightningDataModule):
    """The three splits of a store; a split without samples has no loader.

    Args:
        store: an open store, which must stay open, or the path of one.
        augment: what may happen to a training image; the other splits are seen as they are.
        options: of every `Loader`: ``batch_size`` (of all ranks together), ``size``, ``window`` and so on.

    """

    def __init__(self, store: Store | str | Path, *, augment: Augment | None = None, **options: Any) -> None:
        super().__init__()
        self.store = store if isinstance(store, Store) else open_store(store)
        self._augment = augment
        self._options = options
        self._train: Loader | None = None
        self._loaders: WeakSet[Loader] = WeakSet()  # all that were handed out and still are held
        self._state: dict[str, int] = {}

    def train_dataloader(self) -> Loader:
        """The endless training stream, from where it stands, also where Lightning asks again."""
        state = self.state_dict()
        self._train = self._loader("train", self._augment)
        if state:
            self._train.load_state_dict(state)
        return self._train

    def val_dataloader(self) -> Loader | list[Loader]:
        """One pass over the validation split."""
        return self._loader("val") if self._holds("val") else []

    def test_dataloader(self) -> Loader | list[Loader]:
        """One pass over the test split."""
        return self._loader("test") if self._holds("test") else []

    def state_dict(self) -> dict[str, int]:
        """Where the training stream stands, for a checkpoint."""
        return self._state if self._train is None else self._train.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a checkpoint was saved. UsageError if it was of another store or other settings."""
        self._state = state
        if self._train is not None:
            self._train.load_state_dict(state)

    def teardown(self, stage: str) -> None:  # noqa: ARG002  Lightning names the stage
        """End the loaders' threads, which would go on as long as the Trainer holds a broken iteration."""
        for loader in self._loaders:
            loader.close()

    def on_exception(self, exception: BaseException) -> None:  # noqa: ARG002  any of them
        """End them where the Trainer fails: it then calls no `teardown`."""
        self.teardown("exception")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a `Batch`, which is frozen: Lightning would assign its fields."""
        if not isinstance(batch, Batch):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        moved = {
            name: getattr(batch, name).to(device, non_blocking=True) for name in ("images", "labels", "valid")
        }
        return replace(batch, **moved)

    def _holds(self, split: Split) -> bool:
        return bool((split_codes(self.store.samples) == SPLITS.index(split)).any())

    def _loader(self, split: Split, augment: Augment | None = None) -> Loader:
        rank, world_size = (0, 1)
        if self.trainer is not None:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
        loader = Loader(self.store, split, augment=augment, rank=rank, world_size=world_size, **self._options)
        self._loaders.add(loader)
        return loader
