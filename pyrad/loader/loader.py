"""store -> batches of normalised images, in an order that depends on nothing but the seed.

Note [one stream]
The training stream is endless: position p is sample p mod N of epoch p div N, where N samples are drawn
from. A batch is ``batch_size`` positions, so it may straddle two epochs and is always full. ``batch_size`` is
the global batch: rank r of W prepares the r-th of its W slices. Neither threads, nor ranks, nor what was
prepared ahead enter the arithmetic; the whole state is the position of the next batch to be yielded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyrad.errors import PyradError, UsageError
from pyrad.loader import sampler
from pyrad.loader.augment import Augment
from pyrad.loader.batches import BatchMaker, Drawing, Plan, Prepared
from pyrad.loader.fetch import Fetcher
from pyrad.loader.labels import members_of, read_targets, split_codes
from pyrad.loader.pipeline import Pipeline
from pyrad.loader.placing import Placement
from pyrad.loader.presets import Asked
from pyrad.loader.recipe import Recipe, Renderer
from pyrad.loader.resident import Resident
from pyrad.loader.slabs import Slabs
from pyrad.records import SPLITS, Batch
from pyrad.store.reader import Store

STATE_VERSION = 2
_POSITION_LIMIT = 2**62  # positions are int64, with room for a batch
RESIDENCIES = ("stream", "ram")
DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Loader:
    """Batches of one split of a store.

    Training (``shuffle``, by default where ``split`` is "train"): an endless shuffled stream of the samples
    that have a label (all of them where none of the split has one). Each ``for`` yields ``len(loader)``
    batches, N // batch_size but at least one, and the next goes on where it stopped.
    Evaluation: each ``for`` passes once over the whole split in the store's order; the last batch is padded
    with its last sample, and ``Batch.valid`` is False there.

    Args:
        store: an open store; it must stay open.
        split: "train", "val" or "test".
        batch_size: images of the global batch, a multiple of ``world_size``.
        size: (height, width) of the images in pixels, or one number for both.
        device: "auto" or "cpu"; ``device_reason`` says what "auto" found.
        window: "auto", a preset of `pyrad.loader.presets.PRESETS`, "anatomy" (the preset for a sample's), the
            number of one of an image's own windows from 0, or a `Window`; or three of them, a channel each.
        fit: "stretch" the whole image, "letterbox" it with its aspect kept, or "crop" its middle.
        dtype: of the images: "auto" (float32 on a CPU), "float32", "bfloat16" or "float16".
        channels: 1, or 3: three equal ones of a grey image, red, green and blue of a colour one.
        augment: what may happen to an image, or None for nothing.
        seed: of the order and of every draw.
        shuffle: the training stream or one pass in order.
        rank: this process among ``world_size``; it gets its slice of every global batch.
        world_size: how many processes share each global batch.
        threads: how many threads prepare batches; by default as many as this process may use.
        residency: "stream" reads every batch from the store; "ram" reads the store once, compressed as it is,
            into memory, and batches from there: never other batches, only sooner.
        resident_bytes: how much memory that may take; by default three quarters of what is free. Of what does
            not fit a fixed share stays on the disk (`Resident.share`).
        prefetch: how many batches may be ready or in preparation beyond the one in use.
        mean: subtracted from each channel in [0, 1].
        std: divides each channel after that.
        channels_last: lay the images out as (N, H, W, C) in memory; their shape stays (N, C, H, W).
        classes: in the order of the targets; by default the labels of the training split, in byte order.
        multi_label: by default True if a sample of the training split has more than one label.

    Raises:
        UsageError: a value outside what is allowed, a split without samples, or colour with one channel.

    """

    def __init__(
        self,
        store: Store,
        split: str = "train",
        batch_size: int = 256,
        size: int | tuple[int, int] = 224,
        device: str = "auto",
        window: Asked | tuple[Asked, ...] | list[Asked] = "auto",
        fit: str = "stretch",
        dtype: str = "auto",
        channels: int = 1,
        augment: Augment | None = None,
        seed: int = 0,
        *,
        shuffle: bool | None = None,
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
        residency: str = "stream",
        resident_bytes: int | None = None,
        prefetch: int = 2,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
        channels_last: bool = False,
        classes: Sequence[str] | None = None,
        multi_label: bool | None = None,
    ) -> None:
        self._settings = {name: value for name, value in locals().items() if name != "self"}
        self.device, self.device_reason = _device(device)
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
        threads = _usable_cores() if threads is None else threads
        if threads < 1 or prefetch < 1:
            raise UsageError(f"threads {threads}, prefetch {prefetch}: each must be at least 1")
        sampler.rank_positions(0, batch_size, rank, world_size)  # refuses what does not divide
        self.store = store
        self.split = split
        self.shuffle = split == "train" if shuffle is None else shuffle
        self.batch_size, self.rank, self.world_size, self.seed = batch_size, rank, world_size, seed
        self.dtype = DTYPES[dtype]

        codes = split_codes(store.samples)
        members = members_of(codes, split)
        training = codes == SPLITS.index("train")
        self._targets = read_targets(
            store.samples.read(["labels"])["labels"], training, classes=classes, multi_label=multi_label
        )
        self.classes = self._targets.classes
        self.multi_label = self._targets.multi_label
        self.class_counts = self._targets.class_counts(np.flatnonzero(training))
        self.samples = self._drawn(members)
        self.left_out = int(members.sum()) - len(self.samples)

        self.recipe = Recipe(
            size=(size, size) if isinstance(size, int) else (size[0], size[1]),
            window=tuple(window) if isinstance(window, list) else window,
            fit=fit,
            channels=channels,
            mean=tuple(float(value) for value in mean),
            std=tuple(float(value) for value in std),
            channels_last=channels_last,
            augment=augment,
        )
        # Two batches at a time: one is read while the other is decoded and resized.
        self._workers = min(2, threads, prefetch)
        share = max(1, threads // self._workers)
        if residency not in RESIDENCIES:
            raise UsageError(f"residency {residency!r} is none of {', '.join(RESIDENCIES)}")
        self.resident = (
            Resident(store, self.samples, budget_bytes=resident_bytes, threads=threads)
            if residency == "ram"
            else None
        )
        self.drawing = Drawing(samples=self.samples, shuffle=self.shuffle, seed=seed)
        self._renderer = Renderer(store, self.samples, self.recipe, seed=seed, threads=share)
        self._maker = BatchMaker(
            store,
            self.drawing,
            self._targets,
            self.recipe,
            fetcher=Fetcher(store, threads=share, resident=self.resident),
            renderer=self._renderer,
            slabs=Slabs(kept=prefetch + 2),  # those in use in turn: ready, in use, being made
            dtype=self.dtype,
        )
        self._pipeline: Pipeline[Plan, Prepared] = Pipeline(
            self._plan, self._maker.make, workers=self._workers, prefetch=prefetch
        )
        self._position = 0  # in global samples: where the next batch to be yielded begins
        self._resume_at = 0  # evaluation: where the next `for` begins
        self._read_s = self._busy_s = 0.0
        self._images = self._batches = 0

    def __len__(self) -> int:
        """Batches of one ``for``."""
        if self.shuffle:
            return max(1, len(self.samples) // self.batch_size)
        return math.ceil(len(self.samples) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the next ``len(self)`` batches, or one pass of an evaluation; ends any earlier iteration."""
        if self.shuffle:
            first, count = self._position, len(self)
        else:
            first, self._resume_at = self._resume_at, 0
            count = len(self) - first // self.batch_size
        self._position = first
        yield from self.batches(range(first, first + count * self.batch_size, self.batch_size))
        if not self.shuffle:
            self._position = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (self._settings, self.state_dict())

    def batches(self, positions: Iterable[int]) -> Iterator[Batch]:
        """Yield this rank's slices of the global batches that begin at ``positions``, prepared ahead.

        Ends any earlier iteration; the loader stands after the batch that was yielded last.
        """
        for position, prepared in self._pipeline.run(positions):
            self._position = position + self.batch_size
            self._read_s += prepared.read_s
            self._busy_s += prepared.busy_s
            self._images += len(prepared.batch.keys)
            self._batches += 1
            yield prepared.batch
            del prepared  # while the next one is waited for, the last one may be freed

    def at(self, positions: NDArray[np.int64]) -> Batch:
        """Make one batch of the images at ``positions`` (n,) of the sequence, whatever else is under way.

        They are those of Note [one stream]; of an evaluation, position p is sample p, and from N on padding.
        """
        return self._maker.make(self._maker.plan(positions)).batch

    def placement(self, positions: NDArray[np.int64]) -> Placement:
        """Say where in their stored images the images at ``positions`` (n,) lie."""
        epochs, drawn, _ = self.drawing.draw(positions)
        return self._renderer.placement(drawn, epochs)

    def close(self) -> None:
        """Stop the threads of an iteration that is under way; it cannot go on."""
        self._pipeline.close()

    def state_dict(self) -> dict[str, int]:
        """Return where the loader stands: a handful of integers, good for any threads, ranks and device.

        The position counts what was yielded: saved after a step, it resumes at the next batch.
        """
        return {"version": STATE_VERSION, "position": self._position, **self._fingerprint()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was saved; ends an iteration that is under way.

        Raises:
            UsageError: the state is of another store, split, seed, batch size or way of seeing images.

        """
        position = self.position_of(state)
        self.close()
        self._position = self._resume_at = position

    def position_of(self, state: Mapping[str, Any]) -> int:
        """Return the position that a ``state`` of this loader holds.

        Raises:
            UsageError: it is of another store, split, seed, batch size or way of seeing images.

        """
        if state.get("version") != STATE_VERSION:
            raise UsageError(
                f"the loader's state has version {state.get('version')!r}; this pyrad reads {STATE_VERSION}"
            )
        for name, mine in self._fingerprint().items():
            if state.get(name) != mine:
                raise UsageError(
                    f"the loader's state was saved with {name} {state.get(name)!r}, this loader has {mine}: "
                    "resume with the same store and settings (threads and ranks may differ)"
                )
        position = state.get("position")
        limit = _POSITION_LIMIT if self.shuffle else len(self) * self.batch_size + 1
        if not isinstance(position, int) or not 0 <= position < limit or position % self.batch_size:
            raise UsageError(
                f"the loader's state has position {position!r}; it is a multiple of {self.batch_size} from 0 "
                f"to below {limit}"
            )
        return position

    def report(self) -> dict[str, float]:
        """Where the time went since the loader was made, in seconds, and what came of it.

        ``read`` and ``preprocess`` are summed over the threads that prepare batches; ``wait`` is how long the
        consumer waited for a batch, ``consumer`` how long it kept the loader waiting between two batches, and
        ``idle`` how long those threads had nothing to do. ``images`` counts this rank's.
        """
        pipeline = self._pipeline
        idle_s = self._workers * pipeline.open_s - self._busy_s
        return {
            "images": self._images,
            "batches": self._batches,
            "read_s": self._read_s,
            "preprocess_s": self._busy_s - self._read_s,
            "wait_s": pipeline.wait_s,
            "consumer_s": pipeline.consumer_s,
            "idle_s": max(idle_s, 0.0),
        }

    def _plan(self, position: int) -> Plan:
        """Plan this rank's slice of the global batch that begins at ``position``."""
        return self._maker.plan(sampler.rank_positions(position, self.batch_size, self.rank, self.world_size))

    def _drawn(self, members: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the store indices that are drawn from: for training only those that have a target."""
        labelled = members & self._targets.usable()
        if not self.shuffle or not self.classes:
            return np.flatnonzero(members)
        if not labelled.any():
            raise UsageError(
                f"split {self.split!r}: none of its {int(members.sum())} samples has a label among the "
                f"{len(self.classes)} classes; training needs one"
            )
        return np.flatnonzero(labelled)

    def _fingerprint(self) -> dict[str, int]:
        settings = {
            **asdict(self.recipe),
            "split": self.split,
            "shuffle": self.shuffle,
            "classes": self.classes,
            "multi_label": self.multi_label,
        }
        del settings["channels_last"]  # a layout in memory, not another image
        text = json.dumps(settings, sort_keys=True)
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "samples": len(self.samples),
            "store": int(self.store.fingerprint[:15], 16),
            "settings": int(hashlib.sha256(text.encode()).hexdigest()[:15], 16),
        }


def _made_again(settings: dict[str, Any], state: dict[str, int]) -> Loader:
    """Unpickle a loader: its store is opened again, and it stands where the other one stood."""
    loader = Loader(**settings)
    loader.load_state_dict(state)
    return loader


def _device(device: str) -> tuple[str, str]:
    if device == "cpu":
        return "cpu", "cpu was asked for"
    if device == "auto":
        return "cpu", "auto: this version prepares batches on the CPU only"
    if device.partition(":")[0] == "cuda":
        raise PyradError(f"device {device!r}: this version prepares batches on the CPU only; use auto or cpu")
    raise UsageError(f"device {device!r} is none of auto, cpu")


def _usable_cores() -> int:
    """Cores this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
