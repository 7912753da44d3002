"""Samples of a store -> where their chunks lie, in files or in memory: tilepack as stored, zstd inflated."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrad import ops
from pyrad.loader.resident import Resident
from pyrad.store.chunk import decode_chunk
from pyrad.store.reader import Located, Store

_NO_SLAB = np.zeros(0, dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Where the chunks of n samples lie: m of them, one a plane, in the order of ``located``.

    Chunk j is the ``size[j]`` bytes at ``offset[j]`` of its sample's ``files`` (n,), an open file, or of
    ``slab`` where that is `ops.NO_FILE`. Where ``raw``, all are little-endian pixels in the slab whose
    checksum was checked; otherwise they are chunks as stored, ending in their crc32c, still to be checked.
    Slab and files hold until the block of `Fetcher.fetched` ends; they are only read. ``read_s`` are the
    seconds that have gone into reading already.
    """

    slab: NDArray[np.uint8]
    files: NDArray[np.int32]
    located: Located
    offset: NDArray[np.uint64]
    size: NDArray[np.int64]
    raw: bool
    read_s: float


class Fetcher:
    """Leads to the chunks of batches: those of tilepack where they lie, those of zstd inflated into a slab.

    Each thread has slabs of its own, which grow to the largest batch and are used again. What is ``resident``
    is not read.
    """

    def __init__(self, store: Store, *, threads: int, resident: Resident | None = None) -> None:
        self._store = store
        self._threads = threads
        self._resident = resident
        self._slabs = threading.local()

    def read_ahead(self, samples: NDArray[np.int64], located: Located) -> None:
        """Have the system fetch the chunks of ``samples`` from the disk while other batches are made."""
        away = ~self._held(samples)
        chunks = np.repeat(away, np.diff(located.first))
        with self._store.pinned(located.shard[chunks]) as fds:
            ops.read_ahead(fds, located.offset[chunks], located.size[chunks])

    @contextmanager
    def fetched(self, samples: NDArray[np.int64], located: Located) -> Iterator[Fetched]:
        """Find the chunks of ``samples`` (n,), store indices in any order, that ``located`` locates.

        Raises:
            IntegrityError: a shard is missing or ends too early; the message names array and chunk.
            CorruptChunkError: a zstd chunk does not inflate to its image, or fails its checksum.

        """
        held = self._held(samples)
        slab, offset = _NO_SLAB, located.offset.astype(np.uint64)
        if self._resident is not None:
            slab = self._resident.memory
            here = np.repeat(held, np.diff(located.first))
            offset = np.where(here, self._resident.offsets(samples, located), offset)
        files = np.full(len(samples), ops.NO_FILE, dtype=np.int32)
        with self._store.pinned(located.shard[located.first[:-1]][~held]) as fds:
            files[~held] = fds
            there = Fetched(
                slab=slab,
                files=files,
                located=located,
                offset=offset,
                size=located.size,
                raw=False,
                read_s=0.0,
            )
            yield self._inflated(samples, there) if self._store.codec == "zstd" else there

    def _held(self, samples: NDArray[np.int64]) -> NDArray[np.bool_]:
        resident = self._resident
        return np.zeros(len(samples), dtype=np.bool_) if resident is None else resident.holds(samples)

    def _inflated(self, samples: NDArray[np.int64], there: Fetched) -> Fetched:
        """Decode each zstd chunk on the host; libzstd releases the GIL, so threads share the work."""
        located, buckets = there.located, self._store.buckets
        sample_of = np.repeat(np.arange(len(samples)), np.diff(located.first))
        bucket_of = located.bucket[sample_of]
        plane_bytes = np.array([b.rows * b.columns * b.dtype.itemsize for b in buckets], dtype=np.int64)
        size = plane_bytes[bucket_of]
        offset, total = ops.slab_layout(size)
        raw = self._slab("raw", total)
        began_s = time.perf_counter()
        slab, begin = self._read(samples, there, sample_of)
        read_s = time.perf_counter() - began_s

        def inflate(chunk: int) -> None:
            bucket, sample = buckets[bucket_of[chunk]], sample_of[chunk]
            memory = there.slab if there.files[sample] == ops.NO_FILE else slab
            pixels = decode_chunk(
                memory[int(begin[chunk]) :][: int(located.size[chunk])],
                profile="zstd",
                rows=bucket.rows,
                columns=bucket.columns,
                dtype=bucket.dtype,
                where=self._store.chunk_name(samples[sample], chunk - int(located.first[sample])),
            )
            raw[int(offset[chunk]) :][: pixels.nbytes] = pixels.reshape(-1).view(np.uint8)

        with ThreadPoolExecutor(self._threads, thread_name_prefix="pyrad-zstd") as pool:
            for _ in pool.map(inflate, range(len(size))):
                pass
        files = np.full(len(samples), ops.NO_FILE, dtype=np.int32)
        return Fetched(
            slab=raw, files=files, located=located, offset=offset, size=size, raw=True, read_s=read_s
        )

    def _read(
        self, samples: NDArray[np.int64], there: Fetched, sample_of: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """Read what lies in files into a slab, and tell where each chunk lies, there or in memory."""
        away = np.flatnonzero(there.files[sample_of] != ops.NO_FILE)
        places, total = ops.slab_layout(there.size[away])
        slab, begin = self._slab("stored", total), there.offset.copy()
        statuses = ops.read_ranges(
            there.files[sample_of[away]],
            there.offset[away],
            there.size[away],
            slab,
            places,
            threads=self._threads,
        )
        for failed in np.flatnonzero(statuses):
            chunk = int(away[failed])
            plane = chunk - int(there.located.first[sample_of[chunk]])
            raise self._store.read_error(samples[sample_of[chunk]], plane, int(statuses[failed]))
        begin[away] = places
        return slab, begin

    def _slab(self, name: str, total_bytes: int) -> NDArray[np.uint8]:
        slab: NDArray[np.uint8] | None = getattr(self._slabs, name, None)
        if slab is None or slab.size < total_bytes:
            slab = np.empty(total_bytes + total_bytes // 4, dtype=np.uint8)  # room for a larger batch to come
            setattr(self._slabs, name, slab)
        return slab
