"""A store -> its chunks in memory, as they are stored: all of them, or as many as a budget allows.

Which samples stay follows from their numbers alone, so every rank and every run keeps the same ones, and
what is kept changes nothing but how fast a batch is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyrad import ops
from pyrad.errors import UsageError
from pyrad.loader import sampler
from pyrad.store.reader import Located, Store

_BLOCK = 16_384  # samples that are located and read at a time
_SHARE = 0.75  # of the memory that is free, by default
_CGROUP = Path("/sys/fs/cgroup")


class Resident:
    """The chunks of some of ``samples`` (n,), store indices, in one block of memory.

    ``share`` is how many of them stay, 0 to 1. Of what does not fit in ``budget_bytes`` (by default three
    quarters of the memory that is free) the rest is left on the disk.

    Raises:
        UsageError: the budget is below 0.
        IntegrityError: a shard is missing or ends too early; the message names array and chunk.

    """

    def __init__(
        self, store: Store, samples: NDArray[np.int64], *, budget_bytes: int | None, threads: int
    ) -> None:
        budget = int(_SHARE * free_bytes()) if budget_bytes is None else budget_bytes
        if budget < 0:
            raise UsageError(f"resident_bytes is {budget}; it must be at least 0")
        sizes = np.zeros(len(samples), dtype=np.int64)
        for first in range(0, len(samples), _BLOCK):
            block = samples[first : first + _BLOCK]
            sizes[first : first + _BLOCK] = _sample_bytes(store.locate(block))
        places = _chosen(samples, sizes, budget)
        kept, ends = samples[places], np.cumsum(sizes[places])
        self.share = len(kept) / max(1, len(samples))
        self._offset = np.full(len(store), -1, dtype=np.int64)  # of a sample's first chunk; -1: not here
        self._offset[kept] = ends - sizes[places]
        self.memory = np.empty(int(ends[-1]) + ops.SLAB_ALIGN if len(kept) else 0, dtype=np.uint8)
        for first in range(0, len(kept), _BLOCK):
            self._read(store, kept[first : first + _BLOCK], threads)

    def holds(self, samples: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of ``samples`` (n,) are here."""
        return np.asarray(self._offset[samples] >= 0)

    def offsets(self, samples: NDArray[np.int64], located: Located) -> NDArray[np.uint64]:
        """Where in ``memory`` the chunks of ``samples`` begin, in the order of ``located``; all are here."""
        padded = ops.slab_padded(located.size)
        begin = np.cumsum(padded) - padded
        planes = np.diff(located.first)
        within = begin - np.repeat(begin[located.first[:-1]], planes)
        return (np.repeat(self._offset[samples], planes) + within).astype(np.uint64)

    def _read(self, store: Store, samples: NDArray[np.int64], threads: int) -> None:
        located = store.locate(samples)
        with store.pinned(located.shard) as fds:
            statuses = ops.read_ranges(
                fds,
                located.offset,
                located.size,
                self.memory,
                self.offsets(samples, located),
                threads=threads,
            )
        for chunk in np.flatnonzero(statuses):
            sample = int(np.searchsorted(located.first, chunk, side="right")) - 1
            plane = int(chunk - located.first[sample])
            raise store.read_error(samples[sample], plane, int(statuses[chunk]))


def free_bytes() -> int:
    """Return how much memory this process may still take, by the system and by its control group."""
    free = 2**62
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, KeyError, ValueError):
        pass  # no Linux, or no control group: what is known so far
    return max(0, free)


def _sample_bytes(located: Located) -> NDArray[np.int64]:
    """Bytes of memory that each sample's chunks take."""
    ends = np.concatenate([[0], np.cumsum(ops.slab_padded(located.size))])
    return np.asarray(ends[located.first[1:]] - ends[located.first[:-1]], dtype=np.int64)


def _chosen(samples: NDArray[np.int64], sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Places of the samples that stay, ascending: as many as fit, in an order drawn by their numbers."""
    if sizes.sum() <= budget:
        return np.arange(len(samples))
    numbers = sampler.uniform(1, seed=0, epochs=np.zeros_like(samples), samples=samples)[:, 0]
    order = np.argsort(numbers, kind="stable")
    return np.sort(order[: np.searchsorted(np.cumsum(sizes[order]), budget, side="right")])
