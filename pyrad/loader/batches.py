"""Positions of a loader's sequence -> which samples they are and where those lie -> a batch of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyrad.loader import sampler
from pyrad.loader.fetch import Fetcher
from pyrad.loader.keys import Keys
from pyrad.loader.labels import Targets
from pyrad.loader.recipe import Recipe, Renderer
from pyrad.loader.slabs import Slabs
from pyrad.records import Batch
from pyrad.store.reader import Located, Store


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Draws from ``samples`` (n,), store indices: in order, or in another one each epoch, by ``seed``."""

    samples: NDArray[np.int64]
    shuffle: bool
    seed: int

    def draw(
        self, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return epochs, places in ``samples`` and what is no padding, of ``positions`` (n,)."""
        if positions.size and positions.min() < 0:
            raise IndexError(f"position {positions.min()} of the sequence; positions count from 0")
        count = len(self.samples)
        if self.shuffle:
            epochs, _ = sampler.epoch_and_index(positions, count)
            drawn = sampler.drawn_at(positions, count, seed=self.seed)
            return epochs, drawn, np.ones(len(positions), dtype=np.bool_)
        return np.zeros_like(positions), np.minimum(positions, count - 1), positions < count


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A batch to be made: what is drawn for it, where it lies, and the seconds it took to find out."""

    epochs: NDArray[np.int64]
    drawn: NDArray[np.int64]
    valid: NDArray[np.bool_]
    samples: NDArray[np.int64]
    located: Located
    plan_s: float


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A batch, the seconds that a thread was busy with it, and those of them that went into reading."""

    batch: Batch
    busy_s: float
    read_s: float


class BatchMaker:
    """Plans and makes batches; any thread may call."""

    def __init__(
        self,
        store: Store,
        drawing: Drawing,
        targets: Targets,
        recipe: Recipe,
        *,
        fetcher: Fetcher,
        renderer: Renderer,
        slabs: Slabs,
        dtype: torch.dtype,
    ) -> None:
        self._store = store
        self._drawing = drawing
        self._targets = targets
        self._single = targets.single()
        self._recipe = recipe
        self._fetcher = fetcher
        self._renderer = renderer
        self._slabs = slabs
        self._dtype = dtype
        self._keys = Keys(store.samples)

    def plan(self, positions: NDArray[np.int64]) -> Plan:
        """Find what lies at ``positions`` (n,), and have its chunks read ahead."""
        began_s = time.perf_counter()
        epochs, drawn, valid = self._drawing.draw(positions)
        samples = self._drawing.samples[drawn]
        located = self._store.locate(samples)
        self._fetcher.read_ahead(samples, located)
        return Plan(
            epochs=epochs,
            drawn=drawn,
            valid=valid,
            samples=samples,
            located=located,
            plan_s=time.perf_counter() - began_s,
        )

    def make(self, plan: Plan) -> Prepared:
        """Make the batch.

        Raises:
            IntegrityError: a shard is missing, cannot be read or ends too early; the message names the chunk.
            CorruptChunkError: a chunk is damaged; likewise.

        """
        began_s = time.perf_counter()
        samples = plan.samples
        images = self._empty(len(samples))
        with self._fetcher.fetched(samples, plan.located) as fetched:
            read_s = fetched.read_s + self._renderer.render(
                fetched, plan.drawn, plan.epochs, _as_array(images)
            )
        batch = Batch(
            images=images.permute(0, 3, 1, 2) if self._recipe.channels_last else images,
            labels=torch.from_numpy(self._labels(samples)),
            keys=self._keys.of(samples),
            valid=torch.from_numpy(plan.valid),
        )
        return Prepared(batch=batch, busy_s=plan.plan_s + time.perf_counter() - began_s, read_s=read_s)

    def _labels(self, samples: NDArray[np.int64]) -> NDArray[Any]:
        if self._targets.multi_label:
            return self._targets.multi_hot(samples)
        return self._single[samples].astype(np.int64)

    def _empty(self, count: int) -> torch.Tensor:
        height, width = self._recipe.size
        channels = self._recipe.channels
        shape = (height, width, channels) if self._recipe.channels_last else (channels, height, width)
        return self._slabs.empty((count, *shape), self._dtype)


def _as_array(images: torch.Tensor) -> NDArray[Any]:
    """View a new tensor as NumPy; NumPy has no bfloat16, so its bits are seen as uint16."""
    bits = images.view(torch.uint16) if images.dtype is torch.bfloat16 else images
    array: NDArray[Any] = bits.numpy()
    return array
