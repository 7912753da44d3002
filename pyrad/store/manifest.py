"""What a commit promises <-> the root ``zarr.json``: the manifest, written last, not trusted when read.

The manifest stands in the root group's attributes under ``pyrad``; the consolidated metadata beside it,
which plain Zarr readers use, is derived from it. Reading checks everything that can be checked without
opening another file, so that whatever follows may allocate by what the manifest says.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from pyrad.errors import IntegrityError, NotAStoreError, UsageError
from pyrad.store.layout import (
    ENTRY_BYTES,
    INDEX_FILE,
    LEDGER_FILE,
    LUTS_FILE,
    PART_ID,
    PARTIAL,
    PARTS,
    PROFILES,
    ROOT_DOCUMENT,
    SAMPLES_FILE,
    ArrayEntry,
    Profile,
    array_document,
    array_faults,
    group_document,
    group_paths,
    json_bytes,
    mask_path,
    masks_of,
)

FORMAT = 2  # 1 was pyrad 0.1.0's, without the options of each part
ROOT_BYTES_LIMIT = (
    64 << 20
)  # about 25,000 buckets with all their shards; parsed JSON takes several times its text

_HEX16 = re.compile(r"[0-9a-f]{16}")
_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a part: path in the store, size, and SHA-256 of the store's salt and its contents."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one commit added."""

    id: str
    samples: int
    arrays: tuple[ArrayEntry, ...]
    files: tuple[FileEntry, ...]
    split: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def index_bytes(self) -> int:
        """Size that index.bin must have."""
        return sum(entry.chunks for entry in self.arrays) * ENTRY_BYTES

    @property
    def has_luts(self) -> bool:
        """Whether there is a file of lookup tables."""
        return any(file.path == f"{PARTS}/{self.id}/{LUTS_FILE}" for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The root's promise; docs/format.md specifies every field.

    ``forgotten`` are keyed hashes of what must never come back; while it is empty the root does not have it.
    """

    format: int
    codec: Profile
    key_check: str
    file_salt: str
    counts: Mapping[str, int]
    parts: tuple[Part, ...]
    forgotten: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Rows of the samples table, all parts together."""
        return sum(part.samples for part in self.parts)

    @property
    def split(self) -> Mapping[str, Any]:
        """How the last part was split."""
        return self.parts[-1].split

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that shaped the last part."""
        return self.parts[-1].options


def part_documents(part_id: str, arrays: tuple[ArrayEntry, ...], codec: Profile) -> dict[str, dict[str, Any]]:
    """Path of every group and array of a part -> its Zarr document."""
    documents = {path: group_document() for path in group_paths(arrays, part_id)}
    return documents | {entry.path: array_document(entry, codec) for entry in arrays}


def part_file_paths(part_id: str, arrays: tuple[ArrayEntry, ...], *, luts: bool) -> list[str]:
    """Every file a part must have, in byte order: documents, shards, tables, index."""
    folder = f"{PARTS}/{part_id}"
    names = (SAMPLES_FILE, LEDGER_FILE, INDEX_FILE, *((LUTS_FILE,) if luts else ()))
    paths = [f"{folder}/{name}" for name in names]
    paths += [
        f"{path}/{ROOT_DOCUMENT}" for path in (*group_paths(arrays, part_id), *(a.path for a in arrays))
    ]
    paths += [entry.shard_path(shard) for entry in arrays for shard in range(entry.shards)]
    return sorted(paths)


def root_bytes(manifest: Manifest) -> bytes:
    """The root ``zarr.json``, byte for byte; UsageError where it would be larger than a reader accepts."""
    fields = asdict(manifest)
    if not manifest.forgotten:
        del fields["forgotten"]
    data = json_bytes({**_zarr_shell(manifest), "attributes": {"pyrad": fields}})
    if len(data) > ROOT_BYTES_LIMIT:
        arrays = sum(len(part.arrays) for part in manifest.parts)
        raise UsageError(
            f"the store would hold {arrays} buckets and its root {len(data)} bytes, above the limit of "
            f"{ROOT_BYTES_LIMIT}; store fewer image sizes in one store, or bring images to common sizes first"
        )
    return data


def parse_root(data: bytes, name: str) -> Manifest:
    """The manifest in the bytes of a root ``zarr.json``; ``name`` is what errors call the store.

    NotAStoreError where it is no pyrad root, UsageError where its format is newer than this reader,
    IntegrityError where anything in it contradicts anything else.
    """
    if len(data) > ROOT_BYTES_LIMIT:
        raise _damaged(name, f"it has {len(data)} bytes, above the limit of {ROOT_BYTES_LIMIT}")
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        raise _damaged(name, "it is not JSON") from None
    attributes = root.get("attributes") if isinstance(root, dict) else None
    raw = attributes.get("pyrad") if isinstance(attributes, dict) else None
    if not isinstance(attributes, dict) or not isinstance(raw, dict):
        raise NotAStoreError(f"{name} is no pyrad store: its {ROOT_DOCUMENT} carries no pyrad manifest")
    if raw.get("format") == 1:
        raise UsageError(f"{name} was written by pyrad 0.1.0, whose stores are not read: ingest again")
    if isinstance(raw.get("format"), int) and raw["format"] > FORMAT:
        raise UsageError(
            f"{name} has format version {raw['format']}, and this pyrad reads up to {FORMAT}: upgrade pyrad"
        )
    try:
        manifest = _manifest(raw)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(name, f"its manifest is malformed ({error})") from None
    for fault in _faults(manifest):
        raise _damaged(name, fault)
    if {**root, "attributes": sorted(attributes)} != {**_zarr_shell(manifest), "attributes": ["pyrad"]}:
        raise _damaged(name, "its Zarr metadata is not what its manifest implies")
    return manifest


def read_manifest(path: str | Path) -> Manifest | None:
    """The manifest of the store at ``path``; None where nothing is there yet, or an empty folder.

    NotAStoreError where something else is there.
    """
    path = Path(path)
    try:
        return parse_root(read_root(path), path.name)
    except FileNotFoundError:
        if not path.exists():
            return None
    if path.is_dir() and not any(path.iterdir()):
        return None
    raise NotAStoreError(f"{path.name} is no pyrad store: there is no {ROOT_DOCUMENT} in it")


def was_interrupted(path: Path) -> bool:
    """Whether a first commit stopped between its two renames: parts and a writer's folder, and no root."""
    if not path.with_name(f"{path.name}{PARTIAL}").is_dir() or not path.is_dir():
        return False
    return {entry.name for entry in os.scandir(path)} == {PARTS}


def read_root(path: Path) -> bytes:
    """The bytes of the root ``zarr.json``, one more than the limit at most; FileNotFoundError if absent."""
    try:
        fd = os.open(path / ROOT_DOCUMENT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except NotADirectoryError:
        raise NotAStoreError(
            f"{path.name} is no pyrad store: it is a file, and a store is a folder"
        ) from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotAStoreError(
            f"{path.name} cannot be read as a store: {ROOT_DOCUMENT}: {error.strerror}"
        ) from None
    with open(fd, "rb") as file:
        try:
            return file.read(ROOT_BYTES_LIMIT + 1)
        except OSError as error:
            raise NotAStoreError(f"{path.name}: {ROOT_DOCUMENT} cannot be read: {error.strerror}") from None


def _zarr_shell(manifest: Manifest) -> dict[str, Any]:
    """The root document but for its attributes: the consolidated metadata of what the manifest commits."""
    metadata = {PARTS: group_document()}
    for part in manifest.parts:
        metadata |= part_documents(part.id, part.arrays, manifest.codec)
    return {
        "zarr_format": 3,
        "node_type": "group",
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": metadata},
    }


def _damaged(name: str, what: str) -> IntegrityError:
    return IntegrityError(f"{name}/{ROOT_DOCUMENT} is damaged or was edited: {what}; restore it from a copy")


def _manifest(raw: dict[str, Any]) -> Manifest:
    odd = {*raw, "forgotten"} ^ set(Manifest.__dataclass_fields__)
    if odd:
        raise ValueError(f"fields {sorted(odd)}")
    return Manifest(
        format=_integer(raw["format"]),
        codec=cast("Profile", str(raw["codec"])),
        key_check=_text(raw["key_check"], _HEX16),
        file_salt=_text(raw["file_salt"], _HEX32),
        counts={str(key): _integer(value) for key, value in _mapping(raw["counts"]).items()},
        parts=tuple(_part(part) for part in raw["parts"]),
        forgotten=tuple(_text(mark, _HEX32) for mark in raw.get("forgotten", ())),
    )


def _part(raw: dict[str, Any]) -> Part:
    arrays = tuple(
        ArrayEntry(
            path=_text(entry["path"]),
            shape=tuple(_integer(n) for n in entry["shape"]),
            dtype=_text(entry["dtype"]),
            chunk=tuple(_integer(n) for n in entry["chunk"]),
            shard_n=_integer(entry["shard_n"]),
            index_offset=_integer(entry["index_offset"]),
        )
        for entry in raw["arrays"]
    )
    files = tuple(
        FileEntry(
            path=_text(entry["path"]), bytes=_integer(entry["bytes"]), sha256=_text(entry["sha256"], _HEX64)
        )
        for entry in raw["files"]
    )
    return Part(
        id=_text(raw["id"], PART_ID),
        samples=_integer(raw["samples"]),
        arrays=arrays,
        files=files,
        split=_mapping(raw["split"]),
        options=_mapping(raw["options"]),
    )


def _faults(manifest: Manifest) -> Iterator[str]:
    """Yield what contradicts the format, or itself; later faults rely on the absence of earlier ones."""
    if manifest.format != FORMAT:
        yield f"format version {manifest.format} is not {FORMAT}"
    if list(manifest.forgotten) != sorted(set(manifest.forgotten)):
        yield "what is forgotten is out of order"
    if manifest.codec not in PROFILES:
        yield f"codec {str(manifest.codec)[:20]!r} is none of {', '.join(PROFILES)}"
    ids = [part.id for part in manifest.parts]
    if not ids or ids != sorted(set(ids)):
        yield "its parts are absent or out of order"
    if manifest.counts.get("samples") != manifest.samples:
        yield f"it counts {manifest.counts.get('samples')} samples and its parts {manifest.samples}"
    for part in manifest.parts:
        yield from _array_faults(part)
        yield from _file_faults(part)


def _array_faults(part: Part) -> Iterator[str]:
    offset = 0
    for entry in part.arrays:
        for fault in array_faults(entry, part.id):
            yield f"array {entry.path[:80]!r}: {fault}"
        if entry.index_offset != offset:
            yield f"array {entry.path!r}: its index begins at {entry.index_offset} instead of {offset}"
        offset += entry.chunks * ENTRY_BYTES
    by_path = {entry.path: entry for entry in part.arrays}
    if [entry.path for entry in part.arrays] != sorted(by_path):
        yield f"the arrays of part {part.id} are out of order"
    images = [entry for entry in part.arrays if "/images/" in entry.path]
    masks = {path for path in by_path if "/masks/" in path}
    for entry in images:
        mask = by_path.get(mask_path(entry.path))
        masks.discard(mask_path(entry.path))
        if mask is not None and replace(mask, index_offset=entry.index_offset) != masks_of(entry):
            yield f"array {mask.path!r} does not have the shape of its images"
    if masks:
        yield f"array {min(masks)!r} has no images"
    if part.samples > sum(entry.count for entry in images):
        yield f"part {part.id} has more samples than images"


def _file_faults(part: Part) -> Iterator[str]:
    # Counted before it is spelled out: a forged N would otherwise name shards without end.
    if sum(entry.shards for entry in part.arrays) > len(part.files):
        yield f"part {part.id} has more shards than files"
    if [file.path for file in part.files] != part_file_paths(part.id, part.arrays, luts=part.has_luts):
        yield f"the files of part {part.id} are not those of its arrays"
    sizes = {file.path: file.bytes for file in part.files}
    if sizes[f"{PARTS}/{part.id}/{INDEX_FILE}"] != part.index_bytes:
        yield f"the index of part {part.id} does not have {ENTRY_BYTES} bytes a chunk"
    for entry in part.arrays:
        for shard in range(entry.shards):
            if sizes[entry.shard_path(shard)] < entry.footer_bytes:
                yield f"{entry.shard_path(shard)} is smaller than its own index"


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError(f"{str(value)[:20]!r} is no size")
    return value


def _text(value: Any, pattern: re.Pattern[str] | None = None) -> str:
    if not isinstance(value, str) or (pattern is not None and pattern.fullmatch(value) is None):
        raise ValueError(f"{str(value)[:20]!r} is not as specified")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object is missing")
    return value
