"""The index.bin of every part -> where each chunk of the store lies, in one table shared by all threads.

16 bytes a chunk. The index of a part is read on first use and believed only once its hash and every range
in it have been checked against the sizes in the manifest.
"""

from __future__ import annotations

import os
import threading

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyrad.errors import IntegrityError
from pyrad.store import durable
from pyrad.store.descriptors import StoreFolder
from pyrad.store.layout import (
    ABSENT,
    ALIGNMENT,
    CHECKSUM_BYTES,
    INDEX_FILE,
    PARTS,
    ROOT_DOCUMENT,
    ArrayEntry,
    array_document,
    chunk_bytes_limit,
    json_bytes,
    mask_path,
)
from pyrad.store.manifest import Manifest, Part
from pyrad.store.shard import parse_shard_index


class StoreIndex:
    """Arrays, shards and chunks of all parts, each numbered through in the manifest's order."""

    def __init__(self, folder: StoreFolder, manifest: Manifest) -> None:
        self.arrays = [entry for part in manifest.parts for entry in part.arrays]
        self.images = [entry for entry in self.arrays if "/images/" in entry.path]
        self.planes = np.array([entry.planes for entry in self.images], np.int64)
        self._folder = folder
        self._manifest = manifest
        self._number = {entry.path: number for number, entry in enumerate(self.arrays)}
        self._bucket = {entry.path: number for number, entry in enumerate(self.images)}
        self._first_chunk = np.cumsum([0, *(entry.chunks for entry in self.arrays)])
        self._first_shard = np.cumsum([0, *(entry.shards for entry in self.arrays)])
        self._array_of_bucket = np.array([self._number[entry.path] for entry in self.images], np.int64)
        self._shard_n = np.array([entry.shard_n for entry in self.images], np.int64)
        self._sizes = {file.path: file.bytes for part in manifest.parts for file in part.files}
        self._entries: NDArray[np.uint64] | None = None
        self._lock = threading.Lock()
        self._sound: set[int] = set()  # shards whose own index agreed with ours

    @property
    def entries(self) -> NDArray[np.uint64]:
        """Offset and size of every chunk of the store, uint64 (chunks, 2), read on first use."""
        with self._lock:
            if self._entries is None:
                loaded = [self._load(part) for part in self._manifest.parts]
                self._entries = loaded[0] if len(loaded) == 1 else np.concatenate(loaded)
            return self._entries

    def mask_of(self, bucket: int) -> ArrayEntry | None:
        """The array with the masks of a bucket, where it has any."""
        number = self._number.get(mask_path(self.images[bucket].path))
        return None if number is None else self.arrays[number]

    def places(self, part: Part, table: pa.Table) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Columns bucket and row of a part's samples -> bucket numbers and rows, checked."""
        mine = {entry.path for entry in part.arrays} & set(self._bucket)
        numbers = []
        for chunk in table["bucket"].chunks:
            paths = chunk.dictionary.to_pylist()
            known = np.array([self._bucket[path] if path in mine else -1 for path in paths], np.int32)
            numbers.append(known[chunk.indices.to_numpy(zero_copy_only=False)])
        bucket = np.concatenate(numbers) if numbers else np.empty(0, np.int32)
        row = table["row"].to_numpy()
        counts = np.array([entry.count for entry in self.images], np.int64)
        if row.dtype != np.int64 or (bucket < 0).any() or (row < 0).any() or (row >= counts[bucket]).any():
            raise IntegrityError(
                f"{PARTS}/{part.id}: its samples table points to images that are not in the part"
            )
        return bucket, row

    def ranges(
        self, bucket: NDArray[np.int32], row: NDArray[np.int64], plane: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """Shard number (m,) and offset and size (m, 2) of chunks named by bucket, row and plane."""
        array = self._array_of_bucket[bucket]
        shard = (self._first_shard[array] + row // self._shard_n[bucket]).astype(np.int32)
        return shard, self.entries[self._first_chunk[array] + row * self.planes[bucket] + plane]

    def chunks_of(self, entry: ArrayEntry, row: int) -> tuple[int, NDArray[np.uint64]]:
        """Shard number, and offset and size of each plane (planes, 2), of one row of an array."""
        number = self._number[entry.path]
        first = int(self._first_chunk[number]) + row * entry.planes
        return int(self._first_shard[number]) + row // entry.shard_n, self.entries[
            first : first + entry.planes
        ]

    def array_entries(self, entry: ArrayEntry) -> NDArray[np.uint64]:
        """Offset and size of every chunk of an array, (chunks, 2)."""
        first = int(self._first_chunk[self._number[entry.path]])
        return self.entries[first : first + entry.chunks]

    def shard_entries(self, entry: ArrayEntry, shard: int) -> NDArray[np.uint64]:
        """Offset and size of the chunks of one shard of an array, as index.bin has them."""
        chunks = entry.shard_n * entry.planes
        return self.array_entries(entry)[shard * chunks : (shard + 1) * chunks]

    def open_shard(self, number: int) -> int:
        """Open a shard by its number; the first time, its array's document and its own index must agree."""
        array = int(np.searchsorted(self._first_shard, number, side="right")) - 1
        entry, shard = self.arrays[array], number - int(self._first_shard[array])
        path = entry.shard_path(shard)
        fd = self._folder.open(path, self._sizes[path])
        if number in self._sound:
            return fd
        try:
            self.check_document(entry)
            self._check_footer(entry, shard, fd)
        except BaseException:
            os.close(fd)
            raise
        self._sound.add(number)
        return fd

    def check_document(self, entry: ArrayEntry) -> None:
        """Raise IntegrityError unless an array's own ``zarr.json`` is what the manifest implies."""
        path = f"{entry.path}/{ROOT_DOCUMENT}"
        expected = json_bytes(array_document(entry, self._manifest.codec))
        if self._folder.read(path, len(expected)) != expected:
            raise IntegrityError(
                f"{path} was edited: it is not what the manifest implies; run `pyrad verify`"
            )

    def _check_footer(self, entry: ArrayEntry, shard: int, fd: int) -> None:
        path = entry.shard_path(shard)
        footer = os.pread(fd, entry.footer_bytes, self._sizes[path] - entry.footer_bytes)
        own = parse_shard_index(footer, entry.shard_n * entry.planes)
        ours = self.shard_entries(entry, shard)
        if own is None or (own[: len(ours)] != ours).any() or (own[len(ours) :] != ABSENT).any():
            raise IntegrityError(
                f"{path}: the index at its end is not the one that was committed: the shard is damaged, or "
                "is another's; run `pyrad verify`"
            )

    def _load(self, part: Part) -> NDArray[np.uint64]:
        path = f"{PARTS}/{part.id}/{INDEX_FILE}"
        file = next(file for file in part.files if file.path == path)
        data = self._folder.read(path, part.index_bytes)
        digest = durable.salted_hash(self._manifest.file_salt)
        digest.update(data)
        if digest.hexdigest() != file.sha256:
            raise IntegrityError(f"{path} is damaged: its contents do not match the manifest's hash")
        entries = np.frombuffer(data, "<u8").astype(np.uint64, copy=False).reshape(-1, 2)
        at = 0
        for entry in part.arrays:
            fault = self._range_fault(entry, entries[at : at + entry.chunks])
            if fault:
                raise IntegrityError(f"{path}: {fault}")
            at += entry.chunks
        return entries

    def _range_fault(self, entry: ArrayEntry, entries: NDArray[np.uint64]) -> str:
        """What is wrong with the ranges of an array, or ""."""
        sizes = np.array([self._sizes[entry.shard_path(n)] for n in range(entry.shards)], np.uint64)
        shard = np.arange(entry.chunks) // (entry.shard_n * entry.planes)
        wrong = np.flatnonzero(outside(entry, entries, sizes[shard]))
        if wrong.size == 0:
            return ""
        row, plane = divmod(int(wrong[0]), entry.planes)
        return f"{entry.chunk_name(row, plane)} does not lie inside its shard"


def outside(
    entry: ArrayEntry, entries: NDArray[np.uint64], shard_bytes: NDArray[np.uint64] | np.uint64
) -> NDArray[np.bool_]:
    """Which of ``entries`` (n, 2) are neither absent nor an aligned range before their shard's own index."""
    offset, size = entries[:, 0], entries[:, 1]
    room = shard_bytes - np.uint64(entry.footer_bytes)
    absent = (offset == np.uint64(ABSENT)) & (size == np.uint64(ABSENT))
    # Each is bounded before they are added: uint64 wraps round.
    fits = (
        (offset <= room) & (size <= np.uint64(chunk_bytes_limit(entry))) & (size > np.uint64(CHECKSUM_BYTES))
    )
    fits &= np.where(fits, offset + size, 0) <= room
    good: NDArray[np.bool_] = absent | (fits & (offset % np.uint64(ALIGNMENT) == 0))
    return ~good
