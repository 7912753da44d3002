"""A part and which of its samples stay -> the files of another part that holds these alone.

A forgotten image leaves a gap, as one that could not be decoded does: rows and shards keep their places, so
only shards that held something are written anew. The others are the same files under a second name (copies,
where the file system has no links). Chunks are copied as they are, their checksums compared, never decoded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad import ops
from pyrad.errors import CorruptChunkError
from pyrad.progress import Stage
from pyrad.store import durable, layout, luts, part, shard, tables
from pyrad.store.layout import ABSENT, ALIGNMENT, CHECKSUM_BYTES, PARTS, ArrayEntry
from pyrad.store.manifest import Part
from pyrad.store.reader import Store
from pyrad.store.shard import ShardResult, ShardSpec


def part_without(
    store: Store,
    old: Part,
    keep: NDArray[np.bool_],
    *,
    part_id: str,
    ledger: pa.Table,
    folder: Path,
    stage: Stage,
) -> Part:
    """Write part ``part_id`` below ``folder`` (its files into ``tree``): the samples of ``old`` that stay.

    ``keep`` has one value a row of the old samples table, ``ledger`` is the new part's. ``stage`` advances by
    shards. CorruptChunkError where a chunk to be copied is damaged.
    """
    for name in (shard.TREE, shard.TEMPORARIES):
        (folder / name).mkdir(parents=True)
    table = _own_columns(store, old)
    gone = _rows_by_bucket(table.filter(pa.array(~keep)))
    samples, lookup = _renumbered(table.filter(pa.array(keep)), old, part_id, store)
    entries, results = [], []
    for entry in part.with_offsets(_left(old, samples, part_id)):
        before = replace(entry, path=entry.path.replace(f"{PARTS}/{part_id}/", f"{PARTS}/{old.id}/", 1))
        rows = gone.get(before.path.replace("/masks/", "/images/"), frozenset())
        entries.append(entry)
        for spec in shard.specs_of(
            entry, folder=folder, profile=store.codec, file_salt=store.manifest.file_salt
        ):
            results.append((spec, _shard_without(store, old, before, spec, rows)))
            stage.advance()
    tables.checked_samples(samples)
    luts.checked_luts(lookup, samples)
    part.check_rows(samples, entries, results)
    files = part.write_files(
        folder,
        part_id=part_id,
        codec=store.codec,
        file_salt=store.manifest.file_salt,
        entries=tuple(entries),
        results=results,
        samples=samples,
        ledger=tables.checked_ledger(ledger),
        lookup=lookup,
    )
    return replace(old, id=part_id, samples=len(samples), arrays=tuple(entries), files=files)


def _own_columns(store: Store, old: Part) -> pa.Table:
    """The samples of a part with the columns that its own file has."""
    table = store.samples.of_part(old, store.samples.column_names)
    kept = store.samples.column_names[len(tables.SAMPLES_SCHEMA) :]
    return table.drop_columns([name for name in kept if table[name].null_count == len(table)])


def _rows_by_bucket(samples: pa.Table) -> dict[str, frozenset[int]]:
    """Path of an image array -> rows of it."""
    rows: dict[str, set[int]] = {}
    for path, row in zip(samples["bucket"].to_pylist(), samples["row"].to_pylist(), strict=True):
        rows.setdefault(path, set()).add(row)
    return {path: frozenset(its) for path, its in rows.items()}


def _renumbered(samples: pa.Table, old: Part, part_id: str, store: Store) -> tuple[pa.Table, pa.Table | None]:
    """The samples under the new part's paths, and the lookup tables that they still name."""
    paths = pc.replace_substring(
        samples["bucket"].cast(pa.string()), f"{PARTS}/{old.id}/", f"{PARTS}/{part_id}/", max_replacements=1
    ).to_pylist()
    names = sorted(set(paths))
    at = {name: position for position, name in enumerate(names)}
    buckets = pa.DictionaryArray.from_arrays(
        pa.array([at[path] for path in paths], pa.int32()), pa.array(names, pa.string())
    )
    schema = samples.schema
    samples = samples.set_column(schema.get_field_index("bucket"), schema.field("bucket"), buckets)
    every = store.luts.of_part(old)
    named = {number for name in luts.COLUMNS for number in samples[name].to_pylist() if number is not None}
    numbers = luts.number_luts(every[number] for number in named)
    for name in luts.COLUMNS:
        new = [None if n is None else numbers[every[n]] for n in samples[name].to_pylist()]
        samples = samples.set_column(
            schema.get_field_index(name), schema.field(name), pa.array(new, pa.int32())
        )
    return samples, luts.luts_table(numbers)


def _left(old: Part, samples: pa.Table, part_id: str) -> Iterator[ArrayEntry]:
    """The arrays that still hold something, under their new paths."""
    images = set(samples["bucket"].to_pylist())
    masks = {layout.mask_path(p) for p in samples.filter(samples["mask"])["bucket"].to_pylist()}
    for entry in old.arrays:
        path = entry.path.replace(f"{PARTS}/{old.id}/", f"{PARTS}/{part_id}/", 1)
        if path in images or path in masks:
            yield replace(entry, path=path)


def _shard_without(
    store: Store, old: Part, before: ArrayEntry, spec: ShardSpec, gone: frozenset[int]
) -> ShardResult:
    """One shard without the rows that are gone; linked where it holds none of them."""
    pairs = store.index.shard_entries(before, spec.shard)
    rows = spec.first + np.arange(len(pairs)) // spec.planes
    dropped = np.isin(rows, np.array(sorted(gone), np.int64)) & (pairs[:, 0] != np.uint64(ABSENT))
    path = before.shard_path(spec.shard)
    entry = next(file for file in old.files if file.path == path)
    target = spec.folder / shard.TREE / spec.file
    durable.make_folders(spec.folder / shard.TREE, spec.file.rpartition("/")[0])
    fd = store.folder.open(path, entry.bytes)
    try:
        if not dropped.any():
            _same_file(store.path / path, fd, target)
            durable.sync_folder(target.parent)
            offsets, sizes = (tuple(int(n) for n in column) for column in pairs.T)
            return ShardResult(offsets=offsets, sizes=sizes, bytes=entry.bytes, sha256=entry.sha256, facts=())
        return _copied(fd, pairs, dropped, spec, before, target)
    finally:
        os.close(fd)


def _same_file(path: Path, fd: int, target: Path) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
        linked = target.stat(follow_symlinks=False)
        if (linked.st_dev, linked.st_ino) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
            return
        target.unlink()
    except OSError:
        pass  # another file system, or one without links
    with open(os.dup(fd), "rb") as source, open(durable.create(target), "wb") as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        os.fsync(copy.fileno())


def _copied(
    fd: int,
    pairs: NDArray[np.uint64],
    dropped: NDArray[np.bool_],
    spec: ShardSpec,
    before: ArrayEntry,
    target: Path,
) -> ShardResult:
    offsets: list[int] = []
    sizes: list[int] = []
    at = 0
    digest = durable.salted_hash(spec.file_salt)
    partial = durable.temporary(spec.folder / shard.TEMPORARIES, "shard")
    with open(durable.create(partial), "wb") as file:
        for number, (offset, size) in enumerate(pairs.tolist()):
            if dropped[number] or offset == ABSENT:
                offsets.append(ABSENT)
                sizes.append(ABSENT)
                continue
            chunk = os.pread(fd, size, offset)
            if ops.crc32c(chunk[:-CHECKSUM_BYTES]) != int.from_bytes(chunk[-CHECKSUM_BYTES:], "little"):
                name = before.chunk_name(spec.first + number // spec.planes, number % spec.planes)
                raise CorruptChunkError(f"{name} is damaged, and nothing was changed; run `pyrad verify`")
            block = chunk + bytes(-len(chunk) % ALIGNMENT)
            offsets.append(at)
            sizes.append(size)
            digest.update(block)
            file.write(block)
            at += len(block)
        footer = shard.shard_index(offsets, sizes, spec.shard_n * spec.planes)
        digest.update(footer)
        file.write(footer)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    durable.sync_folder(target.parent)
    return ShardResult(
        offsets=tuple(offsets),
        sizes=tuple(sizes),
        bytes=at + len(footer),
        sha256=digest.hexdigest(),
        facts=(),
    )
