"""Finished shards, a samples table and a ledger -> the checked, complete files of one part, uncommitted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrad.errors import PyradError
from pyrad.store import durable, layout, manifest, shard, tables
from pyrad.store.layout import ArrayEntry, Profile
from pyrad.store.manifest import FileEntry, Part
from pyrad.store.shard import ShardResult, ShardSpec

Results: TypeAlias = Sequence[tuple[ShardSpec, ShardResult]]


def with_offsets(arrays: Iterable[ArrayEntry]) -> tuple[ArrayEntry, ...]:
    """Order arrays by path and lay their entries out in the part's index."""
    entries: list[ArrayEntry] = []
    offset = 0
    for entry in sorted(arrays, key=lambda entry: entry.path):
        entries.append(replace(entry, index_offset=offset))
        offset += entry.chunks * layout.ENTRY_BYTES
    return tuple(entries)


def result_of(spec: ShardSpec) -> ShardResult:
    """What is known of a finished shard, without its facts. PyradError where it is not finished."""
    result = shard.read_sidecar(spec)
    path = spec.folder / shard.TREE / spec.file
    if result is None or not path.is_file() or path.stat().st_size != result.bytes:
        raise PyradError(f"{spec.array} shard {spec.shard} is not finished: nothing was committed")
    return replace(result, facts=())


def check_rows(samples: pa.Table, entries: Sequence[ArrayEntry], results: Results) -> None:
    """Refuse a samples table whose rows do not point to stored images, or lie about masks (PyradError)."""
    sizes: dict[str, list[int]] = {}
    for spec, result in results:
        sizes.setdefault(spec.array, []).extend(result.sizes)
    present = {
        entry.path: (np.array(sizes[entry.path.split("/", 2)[2]], np.uint64) != layout.ABSENT).reshape(
            entry.count, entry.planes
        )
        for entry in entries
    }
    faults = tables.row_faults(samples, entries, present)
    if faults:
        raise PyradError(f"the samples table cannot be committed: {'; '.join(faults[:5])}")


def check_keys(samples: pa.Table, store: Path, parts: Iterable[Part]) -> int:
    """Refuse keys that a committed part has (PyradError); returns how many groups the store will have."""
    keys, groups = list(samples["key"].chunks), list(samples["group"].chunks)
    for done in parts:
        name = f"{layout.PARTS}/{done.id}/{layout.SAMPLES_FILE}"
        with tables.open_parquet(str(store / name), name) as file:
            table = tables.read_columns(file, ["key", "group"], name)
        keys += table["key"].chunks
        groups += table["group"].chunks
    every_key = pa.chunked_array(keys, pa.string())
    taken = len(every_key) - pc.count_distinct(every_key).as_py()
    if taken:
        raise PyradError(f"the samples table cannot be committed: {taken} keys are in the store already")
    return int(pc.count_distinct(pa.chunked_array(groups, pa.string())).as_py())


def write_files(
    folder: Path,
    part_id: str,
    codec: Profile,
    file_salt: str,
    entries: tuple[ArrayEntry, ...],
    results: Results,
    samples: pa.Table,
    ledger: pa.Table,
    lookup: pa.Table | None,
) -> tuple[FileEntry, ...]:
    """Write what a part has besides its shards, remove what does not belong, and list everything by path."""
    tree, temporaries = folder / shard.TREE, folder / shard.TEMPORARIES
    prefix = f"{layout.PARTS}/{part_id}/"
    pairs = [np.array([result.offsets, result.sizes], "<u8").T for _, result in results]
    contents = {
        layout.SAMPLES_FILE: tables.parquet_bytes(samples),
        layout.LEDGER_FILE: tables.parquet_bytes(ledger),
        layout.INDEX_FILE: b"".join(pair.tobytes() for pair in pairs),
    }
    if lookup is not None:
        contents[layout.LUTS_FILE] = tables.parquet_bytes(lookup)
    for path, document in manifest.part_documents(part_id, entries, codec).items():
        contents[f"{path}/{layout.ROOT_DOCUMENT}".removeprefix(prefix)] = layout.json_bytes(document)
    files = {spec.file: (result.bytes, result.sha256) for spec, result in results}
    for name, data in contents.items():
        durable.write_file(tree / name, data, temporaries)
        digest = durable.salted_hash(file_salt)
        digest.update(data)
        files[name] = (len(data), digest.hexdigest())
    for found_in, _, names in os.walk(tree):
        for name in names:
            found = Path(found_in, name)
            if found.relative_to(tree).as_posix() not in files:
                found.unlink()
    return tuple(
        FileEntry(path=prefix + name, bytes=size, sha256=sha256)
        for name, (size, sha256) in sorted(files.items())
    )
