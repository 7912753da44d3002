"""A store -> proof that it holds what it promises, or what is damaged and where."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad.errors import IntegrityError
from pyrad.progress import Reporter, Stage
from pyrad.store import durable, luts, tables
from pyrad.store.bucket import Bucket
from pyrad.store.chunk import decode_chunk
from pyrad.store.index import outside
from pyrad.store.layout import (
    ABSENT,
    LEDGER_FILE,
    PARTS,
    ROOT_DOCUMENT,
    ArrayEntry,
    group_document,
    json_bytes,
)
from pyrad.store.manifest import FileEntry, Part, part_documents
from pyrad.store.reader import Store, open_store
from pyrad.store.shard import parse_shard_index

PROBLEMS_SHOWN = 20


class _Problems:
    """What was found, one line each, in whatever order the threads find it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._lock = threading.Lock()

    def add(self, *lines: str) -> None:
        with self._lock:
            self._lines += lines

    def raise_any(self, name: str) -> None:
        lines = sorted(set(self._lines))
        if not lines:
            return
        more = f"\n... and {len(lines) - PROBLEMS_SHOWN} more" if len(lines) > PROBLEMS_SHOWN else ""
        shown = "\n".join(lines[:PROBLEMS_SHOWN])
        raise IntegrityError(f"{name} is damaged, {len(lines)} problems:\n{shown}{more}")


def verify(path: str | Path, reporter: Reporter | None = None) -> dict[str, int]:
    """Read a whole store and check everything in it against everything else.

    Root and manifest; size and hash of every file; every array's document; every index against every other;
    ranges aligned, inside their shard and apart; every chunk decoded; samples that point to stored images,
    with unique keys, groups in one split and true mask flags; counts. Files that no manifest names are
    mentioned, not held against it. Returns parts, arrays, shards, chunks, samples, groups and bytes
    checked. IntegrityError with up to 20 problems, one a line, each naming file or array and chunk.
    """
    reporter = Reporter() if reporter is None else reporter
    problems = _Problems()
    counts = dict.fromkeys(("parts", "arrays", "shards", "chunks", "samples", "groups", "bytes"), 0)
    with open_store(path) as store:
        for name in sorted(_unnamed(store)):
            reporter.say(f"warning: {name} belongs to no commit; it is a leftover and can be deleted")
        _check_small_files(store, problems)
        entries = _index_entries(store, problems)
        shards = [(entry, shard) for entry in store.index.arrays for shard in range(entry.shards)]
        chunks = sum(entry.chunks for entry in store.index.arrays)
        with (
            reporter.stage("verify", total=chunks, unit="chunks") as stage,
            ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool,
        ):
            check = _ShardCheck(store, entries, problems, stage)
            counts["chunks"] = sum(pool.map(check, shards))
        samples = _check_samples(store, entries, problems)
        problems.raise_any(store.path.name)
        assert samples is not None  # noqa: S101  a table that cannot be read is a problem, raised above
        counts |= {
            "parts": len(store.manifest.parts),
            "arrays": len(store.index.arrays),
            "shards": len(shards),
            "samples": len(samples),
            "groups": pc.count_distinct(samples["group"]).as_py(),
            "bytes": sum(file.bytes for part in store.manifest.parts for file in part.files),
        }
    return counts


def _unnamed(store: Store) -> Iterator[str]:
    """Files in the store's folder that its manifest does not name."""
    named = {file.path for part in store.manifest.parts for file in part.files}
    named |= {ROOT_DOCUMENT, f"{PARTS}/{ROOT_DOCUMENT}"}
    yield from (found for found in _present(store) if found not in named)


def _present(store: Store) -> Iterator[str]:
    if store.url is not None:
        yield from (file.path for file in Bucket(store.url).list())
        return
    for folder, folders, names in os.walk(store.path):
        for name in [*names, *(name for name in folders if Path(folder, name).is_symlink())]:
            yield Path(folder, name).relative_to(store.path).as_posix()


def _check_small_files(store: Store, problems: _Problems) -> None:
    """Everything but the shards: hashes, and documents that follow from the manifest."""
    group = json_bytes(group_document())
    expected = {f"{PARTS}/{ROOT_DOCUMENT}": group}
    files: list[FileEntry] = []
    for part in store.manifest.parts:
        documents = part_documents(part.id, part.arrays, store.codec)
        expected |= {f"{name}/{ROOT_DOCUMENT}": json_bytes(document) for name, document in documents.items()}
        shards = {entry.shard_path(n) for entry in part.arrays for n in range(entry.shards)}
        files += [file for file in part.files if file.path not in shards]
    for file in files:
        try:
            fd = store.folder.open(file.path, file.bytes)
            try:
                if durable.file_hash(fd, store.manifest.file_salt) != file.sha256:
                    problems.add(f"{file.path}: its contents do not match the manifest's hash")
            finally:
                os.close(fd)
        except (IntegrityError, OSError) as error:
            problems.add(_text(error, store))
    for name, data in expected.items():
        try:
            if store.folder.read(name, len(data)) != data:
                problems.add(f"{name} was edited: it is not what the manifest implies")
        except (IntegrityError, OSError) as error:
            problems.add(_text(error, store))


def _index_entries(store: Store, problems: _Problems) -> NDArray[np.uint64] | None:
    try:
        return store.index.entries
    except IntegrityError as error:
        problems.add(_text(error, store))
        return None


class _ShardCheck:
    """Hash a shard, compare its own index with index.bin, and decode every chunk that either names."""

    def __init__(
        self, store: Store, entries: NDArray[np.uint64] | None, problems: _Problems, stage: Stage
    ) -> None:
        self._store = store
        self._entries = entries
        self._problems = problems
        self._stage = stage
        self._files = {file.path: file for part in store.manifest.parts for file in part.files}
        self._lock = threading.Lock()

    def __call__(self, which: tuple[ArrayEntry, int]) -> int:
        """Check one shard; returns how many chunks it decoded."""
        entry, shard = which
        file = self._files[entry.shard_path(shard)]
        rows = min(entry.shard_n, entry.count - shard * entry.shard_n)
        decoded = 0
        try:
            fd = self._store.folder.open(file.path, file.bytes)
        except (IntegrityError, OSError) as error:
            self._problems.add(_text(error, self._store))
        else:
            try:
                decoded = self._check(entry, shard, fd, file)
            except OSError as error:
                self._problems.add(f"{file.path}: {error.strerror}")
            finally:
                os.close(fd)
        with self._lock:
            self._stage.advance(rows * entry.planes)
        return decoded

    def _check(self, entry: ArrayEntry, shard: int, fd: int, file: FileEntry) -> int:
        if durable.file_hash(fd, self._store.manifest.file_salt) != file.sha256:
            self._problems.add(f"{file.path}: its contents do not match the manifest's hash")
        footer = os.pread(fd, entry.footer_bytes, file.bytes - entry.footer_bytes)
        own = parse_shard_index(footer, entry.shard_n * entry.planes)
        ours = None if self._entries is None else self._store.index.shard_entries(entry, shard)
        if own is None:
            self._problems.add(f"{file.path}: the index at its end does not match its crc32c")
        elif ours is not None and ((own[: len(ours)] != ours).any() or (own[len(ours) :] != ABSENT).any()):
            self._problems.add(f"{file.path}: the index at its end and index.bin differ")
        entries = own if ours is None else ours
        return 0 if entries is None else self._decode(entry, shard, fd, entries, file)

    def _decode(
        self, entry: ArrayEntry, shard: int, fd: int, entries: NDArray[np.uint64], file: FileEntry
    ) -> int:
        wrong = outside(entry, entries, np.uint64(file.bytes))
        end = 0
        decoded = 0
        for number in np.argsort(entries[:, 0], kind="stable"):
            row, plane = divmod(int(number), entry.planes)
            name = entry.chunk_name(shard * entry.shard_n + row, plane)
            offset, size = (int(value) for value in entries[number])
            if wrong[number]:
                self._problems.add(f"{name} does not lie inside its shard")
            elif offset != ABSENT:
                if offset < end:
                    self._problems.add(f"{name} overlaps the chunk before it")
                end = offset + size
                decoded += 1
                self._decode_one(entry, os.pread(fd, size, offset), name)
        return decoded

    def _decode_one(self, entry: ArrayEntry, chunk: bytes, name: str) -> None:
        try:
            plane = decode_chunk(
                chunk,
                profile=self._store.codec,
                rows=entry.rows,
                columns=entry.columns,
                dtype=entry.dtype,
                where=name,
            )
        except IntegrityError as error:
            self._problems.add(str(error))
            return
        if "/masks/" in entry.path and plane.max() > 1:
            self._problems.add(f"{name}: a mask holds values other than 0 and 1")


def _check_samples(store: Store, entries: NDArray[np.uint64] | None, problems: _Problems) -> pa.Table | None:
    try:
        parts = [
            (part, store.samples.of_part(part, list(store.samples.column_names)))
            for part in store.manifest.parts
        ]
    except IntegrityError as error:
        problems.add(_text(error, store))
        return None
    for part, table in parts:
        if entries is not None:
            present = {
                entry.path: (store.index.array_entries(entry)[:, 0] != ABSENT).reshape(
                    entry.count, entry.planes
                )
                for entry in part.arrays
            }
            problems.add(*tables.row_faults(table, part.arrays, present))
        _check_luts(store, part, table, problems)
        _check_ledger(store, part, problems)
    samples = pa.concat_tables([table for _, table in parts])
    problems.add(*tables.value_faults(samples))
    splits = samples.group_by("group").aggregate([("split", "count_distinct")])
    divided = pc.sum(pc.greater(splits["split_count_distinct"], 1)).as_py() or 0
    if divided:
        problems.add(f"samples: {divided} groups (patients) stand in more than one split")
    groups = len(splits)
    if store.manifest.counts.get("groups") != groups:
        problems.add(
            f"the manifest counts {store.manifest.counts.get('groups')} groups, the samples {groups}"
        )
    return samples


def _check_luts(store: Store, part: Part, samples: pa.Table, problems: _Problems) -> None:
    try:
        faults = luts.lut_faults(store.luts.of_part(part), samples)
    except (IntegrityError, OSError) as error:
        faults = [_text(error, store)]
    problems.add(*(f"part {part.id}: {fault}" for fault in faults))


def _check_ledger(store: Store, part: Part, problems: _Problems) -> None:
    path = f"{PARTS}/{part.id}/{LEDGER_FILE}"
    size = next(file.bytes for file in part.files if file.path == path)
    try:
        with open(store.folder.open(path, size), "rb") as stream:
            table = tables.read_columns(tables.open_parquet(stream, path), None, path)
    except (IntegrityError, OSError) as error:
        problems.add(_text(error, store))
        return
    fault = tables.schema_fault(table.schema, tables.LEDGER_SCHEMA, kept=False)
    problems.add(*([f"{path}: {fault}"] if fault else tables.ledger_faults(table)))


def _text(error: Exception, store: Store) -> str:
    return str(error).removeprefix(f"{store.path.name}: ")
