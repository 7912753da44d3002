"""One peer, alone in its process -> its data set written, or one JSON line about how it reads that.

The clock runs from the first batch of an epoch to the first batch of a later one: pipelines are as full at
the end as at the beginning, and what a new epoch costs is in it. Every batch gives up nine pixels of each
image, and the first one all of them; when the clock has stopped they are compared with what must have come of
every number that was delivered. Nobody is timed for less work than the others.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import usage
from corpus import Corpus, open_corpus
from numpy.typing import NDArray

TOLERANCE = 1e-4  # mean absolute difference of an image's y * 2 - 1; an adapter may name its own
FEW_PIXELS = 10  # the same over nine pixels may be so many times greater
BATCHES_FOR_MEMORY = 2

Batches = Iterator[tuple[torch.Tensor, Any]]


@dataclass
class Delivered:
    """What was delivered: the numbers of every batch, nine pixels of every image, the whole first batch."""

    corpus: Corpus
    numbers: list[NDArray[np.int64]] = field(default_factory=list)
    pixels: list[NDArray[np.float32]] = field(default_factory=list)
    first: NDArray[np.float32] | None = None

    def take(self, batches: Batches) -> None:
        """Take the next batch; AssertionError where it is not what was asked for."""
        images, numbers = next(batches)
        side, count = self.corpus.side, self.corpus.batch
        if images.shape != (count, 1, side, side) or images.dtype != torch.float32 or len(numbers) != count:
            raise AssertionError(f"a batch of {tuple(images.shape)} {images.dtype}, {len(numbers)} numbers")
        if self.first is None:
            self.first = images[:, 0].numpy().copy()
        self.numbers.append(np.array(numbers, dtype=np.int64))
        self.pixels.append(images[:, 0, side // 4 :: side // 4, side // 4 :: side // 4].numpy().copy())

    def check(self, tolerance: float) -> float:
        """Return the greatest error in the first batch; AssertionError where work was left out."""
        assert self.first is not None  # noqa: S101 - it was warmed up
        corpus, step = self.corpus, self.corpus.side // 4
        distinct = len(np.unique(np.concatenate(self.numbers)[: corpus.count]))
        if distinct != corpus.count:
            raise AssertionError(f"an epoch delivered {distinct} of {corpus.count} images")
        if np.mean(np.diff(self.numbers[0]) == 1) > 0.5:
            raise AssertionError("the images come in their order: they were not shuffled")
        unique = np.concatenate(self.numbers) % corpus.unique
        error = float(_error(self.first, corpus.expected[unique[: corpus.batch]]))
        few = float(_error(np.concatenate(self.pixels), corpus.expected[unique, step::step, step::step]))
        if not (error <= tolerance and few <= FEW_PIXELS * tolerance):
            raise AssertionError(f"off by {error:.2g}, in nine pixels by {few:.2g}; allowed: {tolerance:.2g}")
        return error


def _error(seen: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return np.abs(seen - expected).mean(axis=(1, 2)).max()


def measure(batches: Batches, corpus: Corpus, *, seconds: float, tolerance: float) -> dict[str, Any]:
    """Time whole epochs until ``seconds`` have passed; then see what they took and whether all was done."""
    delivered = Delivered(corpus)
    delivered.take(batches)
    cpu_s, read = usage.cpu_seconds(), usage.bytes_read()
    began_s = time.perf_counter()
    epochs = 0
    while not epochs or time.perf_counter() - began_s < seconds:
        for _ in range(corpus.count // corpus.batch):
            delivered.take(batches)
        epochs += 1
    taken_s = time.perf_counter() - began_s
    cpu_s, read = usage.cpu_seconds() - cpu_s, usage.bytes_read() - read
    memory = [usage.memory()]
    for _ in range(BATCHES_FOR_MEMORY):  # it breathes with the batches; the clock has stopped
        delivered.take(batches)
        memory.append(usage.memory())
    return {
        "seconds": taken_s,
        "images": epochs * corpus.count,
        "cpu_seconds": cpu_s,
        "bytes_read": read,
        "memory_bytes": max(memory)[0],
        "memory_is": memory[0][1],
        "error": delivered.check(tolerance),
    }


def bind(cores: int) -> None:
    """Leave this process and all that it starts ``cores`` cores, whatever threads it may make."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(cores)


def versions(requirements: Path) -> dict[str, str]:
    """Return the versions of what is required, and of what everybody shares."""
    lines = requirements.read_text().splitlines() if requirements.is_file() else []
    named = [line.partition("==")[0].strip() for line in lines if "==" in line and not line.startswith("#")]
    return {name: metadata.version(name) for name in ["torch", "numpy", *named]}


def main() -> None:
    """Write or read, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("write", "read"))
    parser.add_argument("peer", help="a module of adapters/")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder of its data set")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="at least")
    parser.add_argument("--requirements", type=Path, default=Path())
    options = parser.parse_args()
    adapter: ModuleType = importlib.import_module(f"adapters.{options.peer}")
    corpus = open_corpus(options.corpus)
    if options.task == "write":
        adapter.write(corpus, options.data)
        return
    bind(options.cores)
    result = measure(
        adapter.batches(corpus, options.data, options.cores),
        corpus,
        seconds=options.seconds,
        tolerance=getattr(adapter, "TOLERANCE", TOLERANCE),
    )
    facts = {"settings": adapter.SETTINGS, "versions": versions(options.requirements)}
    print(json.dumps({**result, **facts}), flush=True)
    os._exit(0)  # nobody waits for the workers' farewell


if __name__ == "__main__":
    main()
