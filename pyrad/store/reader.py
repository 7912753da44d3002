"""A store and a sample's number -> byte ranges -> its stored values. Never through zarr-python.

Opening reads the root document and nothing else of size; index and table columns are read on first use.
"""

from __future__ import annotations

import hashlib
import operator
import os
import resource
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsIndex

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyrad import ops
from pyrad.errors import IntegrityError, NotAStoreError
from pyrad.store import remote, tables
from pyrad.store.bucket import url_of
from pyrad.store.chunk import decode_chunk
from pyrad.store.descriptors import ShardFiles, StoreFolder
from pyrad.store.index import StoreIndex
from pyrad.store.layout import ABSENT, INDEX_FILE, LEDGER_FILE, PARTS, ROOT_DOCUMENT, ArrayEntry, Profile
from pyrad.store.luts import Luts
from pyrad.store.manifest import Manifest, Part, parse_root, read_root
from pyrad.store.samples import Samples

MAX_OPEN = 4096  # idle shards kept open, a terabyte of them, where half of a process's files are as many


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One image array: every image in it has the same rows, columns, planes and dtype."""

    id: int
    path: str
    count: int
    rows: int
    columns: int
    planes: int
    dtype: np.dtype[Any]
    codec: Profile


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where the chunks of n samples lie: m byte ranges, one a plane (m = n where no bucket has three planes).

    ``bucket`` int32 (n,); ``first`` int64 (n + 1,): the ranges of sample k are ``first[k]:first[k + 1]``;
    ``shard`` int32 (m,), ``offset`` and ``size`` int64 (m,) in bytes, the four bytes of crc32c included.
    """

    bucket: NDArray[np.int32]
    first: NDArray[np.int64]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]


def open_store(path: str | Path) -> Store:
    """Open a store for reading.

    NotAStoreError where the path is none; IntegrityError where its root or the size of an index is not as
    committed; UsageError where its format is newer than this pyrad.
    """
    return Store(path)


class Store:
    """A committed store, as it was when it was opened: a later commit does not change it.

    Safe to share between threads, used as a context or closed by `close`; pickled by its path and its root
    document, so that another process sees the same commit. ``luts.all()`` are the lookup tables that
    ``samples`` name. ``folder`` and ``index`` are its inner parts, for `pyrad.store.verify`.
    """

    def __init__(self, path: str | Path, root: bytes | None = None) -> None:
        self.url = url_of(path)
        mirror = None if self.url is None else remote.Mirror(self.url)
        self.path = Path(path).absolute() if mirror is None else mirror.path
        self._root = _read_root(path, mirror) if root is None else root
        self.manifest: Manifest = parse_root(self._root, self.path.name)
        self.codec: Profile = self.manifest.codec
        self.fingerprint = hashlib.sha256(self._root).hexdigest()
        try:
            if mirror is not None:
                self.folder = mirror.open(self.manifest)
            else:
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self.folder = StoreFolder(fd, self.path.name)
        except OSError as error:
            raise NotAStoreError(f"{path} cannot be opened: {error.strerror}") from None
        self.luts = Luts(self.folder, self.manifest.parts)
        self.samples = Samples(self.folder, self.manifest.parts, self.luts)
        self.index = StoreIndex(self.folder, self.manifest)
        self._shards = ShardFiles(self.index.open_shard, min(MAX_OPEN, _half_of_files()))
        self._finalizer = weakref.finalize(self, self._shards.close)
        for part in self.manifest.parts:
            os.close(self.folder.open(f"{PARTS}/{part.id}/{INDEX_FILE}", part.index_bytes))
        self.buckets = tuple(
            Bucket(
                id=number,
                path=entry.path,
                count=entry.count,
                rows=entry.rows,
                columns=entry.columns,
                planes=entry.planes,
                dtype=np.dtype(entry.dtype),
                codec=self.codec,
            )
            for number, entry in enumerate(self.index.images)
        )
        self._lock = threading.Lock()
        self._places: tuple[NDArray[np.int32], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self.manifest.samples

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.place, self._root)

    def __repr__(self) -> str:
        return f"<Store {self.path.name}: {len(self)} samples in {len(self.buckets)} buckets, {self.codec}>"

    def close(self) -> None:
        """Close every file of the store."""
        self._finalizer()
        self.folder.close()

    @property
    def place(self) -> str:
        """Where it can be opened again: its path, or s3://bucket/NAME.zarr."""
        return self.url or str(self.path)

    @property
    def max_open(self) -> int:
        """Idle shards that stay open."""
        return self._shards.max_open

    def image(self, index: SupportsIndex) -> NDArray[Any]:
        """Stored values of sample ``index`` (0 <= index < len): (rows, columns), or (3, rows, columns).

        IndexError outside; CorruptChunkError where its chunk is damaged; IntegrityError where the shard is.
        """
        bucket, row = self._place(index)
        return self._read(self.index.images[bucket], row)

    def mask(self, index: SupportsIndex) -> NDArray[np.uint8] | None:
        """Union of the sample's masks, uint8 (rows, columns) of 0 and 1; None where it has none."""
        bucket, row = self._place(index)
        entry = self.index.mask_of(bucket)
        if not self.samples["mask"][operator.index(index)].as_py():
            return None
        if entry is None:
            raise IntegrityError(
                f"{self.path.name}: {self.buckets[bucket].path} has no masks, its samples do"
            )
        return self._read(entry, row)

    def locate(self, indices: NDArray[Any]) -> Located:
        """Byte ranges of the chunks of samples ``indices`` (n,), without reading them.

        IndexError where one is outside 0..len-1; IntegrityError where one has no image.
        """
        wanted = np.asarray(indices, np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"samples {wanted.min()}..{wanted.max()} of a store of {len(self)}")
        buckets, rows = self._all_places()
        bucket = buckets[wanted]
        planes = self.index.planes[bucket]
        first = np.zeros(len(wanted) + 1, np.int64)
        np.cumsum(planes, out=first[1:])
        sample = np.repeat(np.arange(len(wanted)), planes)
        plane = np.arange(first[-1]) - first[sample]
        row = rows[wanted][sample]
        shard, entries = self.index.ranges(bucket[sample], row, plane)
        missing = np.flatnonzero(entries[:, 0] == np.uint64(ABSENT))
        if missing.size:
            at = int(missing[0])
            name = self.index.images[int(bucket[sample[at]])].chunk_name(int(row[at]), int(plane[at]))
            raise IntegrityError(f"{self.path.name}: {name} is absent, and a samples row points to it")
        offset, size = entries[:, 0].astype(np.int64), entries[:, 1].astype(np.int64)
        return Located(bucket=bucket, first=first, shard=shard, offset=offset, size=size)

    def buckets_of(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        """Bucket numbers of samples ``indices`` (n,), each from 0 to len - 1."""
        return self._all_places()[0][indices]

    @contextmanager
    def pinned(self, shards: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
        """Open descriptors for ``Located.shard``, int32 of the same shape, all valid until the block ends."""
        with self._shards.pinned(shards) as fds:
            yield fds

    def ledger(self, part: Part) -> pa.Table:
        """What one part's ingest settled, a row a source or frame. IntegrityError where it is damaged."""
        path = f"{PARTS}/{part.id}/{LEDGER_FILE}"
        size = next(file.bytes for file in part.files if file.path == path)
        with open(self.folder.open(path, size), "rb") as stream, tables.open_parquet(stream, path) as file:
            return tables.read_columns(file, None, path)

    def chunk_name(self, index: SupportsIndex, plane: int = 0) -> str:
        """What an error calls a sample's chunk: ``parts/000001/images/512x512_i16 chunk 17``."""
        bucket, row = self._place(index)
        return self.index.images[bucket].chunk_name(row, plane)

    def read_error(self, index: SupportsIndex, plane: int, status: int) -> IntegrityError:
        """The error for a read of one of a sample's chunks: ``Status.TRUNCATED``, or -errno."""
        return self._read_error(self.chunk_name(index, plane), status)

    def _read(self, entry: ArrayEntry, row: int) -> NDArray[Any]:
        shard, entries = self.index.chunks_of(entry, row)
        if (entries[:, 0] == np.uint64(ABSENT)).any():
            raise IntegrityError(
                f"{self.path.name}: {entry.chunk_name(row)} is absent, a samples row points to it"
            )
        slab_offsets, total = ops.slab_layout(entries[:, 1])
        slab = np.empty(total, np.uint8)
        with self._shards.pinned(np.full(len(entries), shard, np.int32)) as fds:
            statuses = ops.read_ranges(fds, entries[:, 0], entries[:, 1], slab, slab_offsets)
        planes = []
        for plane, status in enumerate(statuses):
            if status:
                raise self._read_error(entry.chunk_name(row, plane), int(status))
            start = int(slab_offsets[plane])
            planes.append(
                decode_chunk(
                    slab[start : start + int(entries[plane, 1])],
                    profile=self.codec,
                    rows=entry.rows,
                    columns=entry.columns,
                    dtype=entry.dtype,
                    where=entry.chunk_name(row, plane),
                )
            )
        return np.stack(planes) if entry.planes > 1 else planes[0]

    def _read_error(self, name: str, status: int) -> IntegrityError:
        if status == ops.Status.TRUNCATED:
            return IntegrityError(f"{self.path.name}: {name} ends too early: its shard was truncated")
        return IntegrityError(f"{self.path.name}: {name} cannot be read: {os.strerror(-status)}")

    def _place(self, index: SupportsIndex) -> tuple[int, int]:
        number = operator.index(index)
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of a store of {len(self)}")
        buckets, rows = self._all_places()
        return int(buckets[number]), int(rows[number])

    def _all_places(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Bucket number and row of every sample."""
        with self._lock:
            if self._places is None:
                columns = ["bucket", "row"]
                found = [
                    self.index.places(part, self.samples.of_part(part, columns))
                    for part in self.manifest.parts
                ]
                self._places = (
                    np.concatenate([bucket for bucket, _ in found]),
                    np.concatenate([row for _, row in found]),
                )
            return self._places


def _half_of_files() -> int:
    """Half of the files that this process may have open at once: 512 where nobody has changed the limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN if soft == resource.RLIM_INFINITY else max(1, soft // 2)


def _read_root(path: str | Path, mirror: remote.Mirror | None) -> bytes:
    """The root document; NotAStoreError where there is none."""
    if mirror is not None:
        found = mirror.root()
        if found is None:
            raise NotAStoreError(f"{mirror.bucket.url} is no pyrad store: there is no {ROOT_DOCUMENT} in it")
        return found[0]
    try:
        return read_root(Path(path).absolute())
    except FileNotFoundError:
        what = f"there is no {ROOT_DOCUMENT} in it" if Path(path).exists() else "it does not exist"
        raise NotAStoreError(f"{path} is no pyrad store: {what}") from None
