"""Samples of a store -> one slab of memory that holds their chunks: tilepack as stored, zstd inflated."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrad import ops
from pyrad.loader.resident import Resident
from pyrad.store.chunk import decode_chunk
from pyrad.store.reader import Located, Store


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """The chunks of n samples in a slab: m of them, one a plane, in the order of ``located``.

    Chunk j is the ``size[j]`` bytes at ``offset[j]``. Where ``raw``, they are little-endian pixels whose
    checksum was checked; otherwise they are chunks as stored, ending in their crc32c, still to be checked.
    The slab belongs to the thread that fetched it and holds until that thread fetches again, or is the
    memory of what is resident; it is only read.
    """

    slab: NDArray[np.uint8]
    located: Located
    offset: NDArray[np.uint64]
    size: NDArray[np.int64]
    raw: bool


class Fetcher:
    """Reads batches, each thread into slabs of its own that grow to the largest batch and are used again.

    A batch that is ``resident`` as a whole is used where it lies; of another what is not is read.
    """

    def __init__(self, store: Store, *, threads: int, resident: Resident | None = None) -> None:
        self._store = store
        self._threads = threads
        self._resident = resident
        self._slabs = threading.local()

    def fetch(self, samples: NDArray[np.int64]) -> Fetched:
        """Read the chunks of ``samples`` (n,), store indices in any order.

        Raises:
            IntegrityError: a shard is missing or ends too early; the message names array and chunk.
            CorruptChunkError: a zstd chunk does not inflate to its image, or fails its checksum.

        """
        located = self._store.locate(samples)
        slab, offset = self._stored(samples, located)
        if self._store.codec == "zstd":
            return self._inflate(samples, located, slab, offset)
        return Fetched(slab=slab, located=located, offset=offset, size=located.size, raw=False)

    def _stored(
        self, samples: NDArray[np.int64], located: Located
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """Chunks as they are stored: the memory in which they lie, and where in it."""
        resident = self._resident
        if resident is not None and resident.holds(samples).all():
            return resident.memory, resident.offsets(samples, located)
        offset, total = ops.slab_layout(located.size)
        slab = self._slab("stored", total)
        wanted = np.arange(len(offset))
        if resident is not None:
            here = np.repeat(resident.holds(samples), np.diff(located.first))
            for chunk, begin in zip(
                np.flatnonzero(here), resident.offsets(samples, located)[here], strict=True
            ):
                size = int(located.size[chunk])
                slab[int(offset[chunk]) :][:size] = resident.memory[int(begin) :][:size]
            wanted = wanted[~here]
        with self._store.pinned(located.shard) as fds:
            statuses = ops.read_ranges(
                fds[wanted],
                located.offset[wanted],
                located.size[wanted],
                slab,
                offset[wanted],
                threads=self._threads,
            )
        for failed in np.flatnonzero(statuses):
            sample, plane = place_of(located, int(wanted[failed]))
            raise self._store.read_error(samples[sample], plane, int(statuses[failed]))
        return slab, offset

    def _inflate(
        self,
        samples: NDArray[np.int64],
        located: Located,
        slab: NDArray[np.uint8],
        offset: NDArray[np.uint64],
    ) -> Fetched:
        """Decode each zstd chunk on the host; libzstd releases the GIL, so threads share the work."""
        buckets = self._store.buckets
        chunk_bucket = np.repeat(located.bucket, np.diff(located.first))
        plane_bytes = np.array([b.rows * b.columns * b.dtype.itemsize for b in buckets], dtype=np.int64)
        size = plane_bytes[chunk_bucket]
        raw_offset, total = ops.slab_layout(size)
        raw = self._slab("raw", total)

        def inflate(chunk: int) -> None:
            bucket = buckets[chunk_bucket[chunk]]
            begin = int(offset[chunk])
            sample, plane = place_of(located, chunk)
            pixels = decode_chunk(
                slab[begin : begin + int(located.size[chunk])],
                profile="zstd",
                rows=bucket.rows,
                columns=bucket.columns,
                dtype=bucket.dtype,
                where=self._store.chunk_name(samples[sample], plane),
            )
            begin = int(raw_offset[chunk])
            raw[begin : begin + pixels.nbytes] = pixels.reshape(-1).view(np.uint8)

        with ThreadPoolExecutor(self._threads, thread_name_prefix="pyrad-zstd") as pool:
            for _ in pool.map(inflate, range(len(size))):
                pass
        return Fetched(slab=raw, located=located, offset=raw_offset, size=size, raw=True)

    def _slab(self, name: str, total_bytes: int) -> NDArray[np.uint8]:
        slab: NDArray[np.uint8] | None = getattr(self._slabs, name, None)
        if slab is None or slab.size < total_bytes:
            slab = np.empty(total_bytes + total_bytes // 4, dtype=np.uint8)  # room for a larger batch to come
            setattr(self._slabs, name, slab)
        return slab


def place_of(located: Located, chunk: int) -> tuple[int, int]:
    """Return which of the n samples, and which of its planes, chunk number ``chunk`` is."""
    sample = int(np.searchsorted(located.first, chunk, side="right")) - 1
    return sample, chunk - int(located.first[sample])
