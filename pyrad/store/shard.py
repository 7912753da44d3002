"""What a shard must hold <-> its index and its sidecar, by which a finished one is known again and read.

A shard is chunks at multiples of 64 bytes and the index behind them; `store.segments` writes it. A finished
shard has a sidecar in the working folder, by which a resumed run recognises it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pyrad import ops
from pyrad.errors import IntegrityError, PyradError
from pyrad.store import durable
from pyrad.store.chunk import decode_chunk
from pyrad.store.layout import ABSENT, CHECKSUM_BYTES, ENTRY_BYTES, ArrayEntry, Profile, json_bytes

TREE = "tree"  # the part as it will be committed
SIDECARS = "shards"  # what is known of each finished shard
TEMPORARIES = "temporary"


@dataclass(frozen=True, kw_only=True)
class ShardSpec:
    """One shard to be written: where, and what it must hold."""

    folder: Path  # the plan's working folder
    array: str  # relative to the part: images/512x512_i16
    shard: int
    first: int  # row of its first slot in the array
    slots: int  # images it holds; the last shard of an array may hold fewer than shard_n
    shard_n: int
    rows: int
    columns: int
    planes: int
    dtype: str
    profile: Profile
    file_salt: str

    @property
    def file(self) -> str:
        """Path of the shard, relative to the part."""
        return f"{self.array}/c/{self.shard}/0/0" + ("/0" if self.planes > 1 else "")

    @property
    def sidecar(self) -> Path:
        """Path of the shard's sidecar."""
        return self.folder / SIDECARS / f"{self.array.replace('/', '-')}-{self.shard}.shard.json"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of each image: (rows, columns), or (3, rows, columns)."""
        return (*((self.planes,) if self.planes > 1 else ()), self.rows, self.columns)


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """A finished shard.

    ``offsets`` and ``sizes`` (bytes) have one entry a chunk, image by image, plane by plane; both are ABSENT
    where there is none. ``facts`` is what the caller learned while it decoded the images.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    bytes: int
    sha256: str
    facts: tuple[Any, ...]


def specs_of(entry: ArrayEntry, *, folder: Path, profile: Profile, file_salt: str) -> list[ShardSpec]:
    """The shards of an array that is made in ``folder``."""
    return [
        ShardSpec(
            folder=folder,
            array=entry.path.split("/", 2)[2],
            shard=number,
            first=number * entry.shard_n,
            slots=min(entry.shard_n, entry.count - number * entry.shard_n),
            shard_n=entry.shard_n,
            rows=entry.rows,
            columns=entry.columns,
            planes=entry.planes,
            dtype=entry.dtype,
            profile=profile,
            file_salt=file_salt,
        )
        for number in range(entry.shards)
    ]


def write_sidecar(spec: ShardSpec, result: ShardResult) -> None:
    """Note durably what a shard is, once it is in its place."""
    record = {"spec": _identity(spec), **asdict(result)}
    durable.write_file(spec.sidecar, json_bytes(record), spec.folder / TEMPORARIES)


def finished_shard(spec: ShardSpec) -> ShardResult | None:
    """The result of a shard that an earlier run finished, or None; the file is hashed to make sure."""
    result = read_sidecar(spec)
    if result is None:
        return None
    try:
        fd = os.open(spec.folder / TREE / spec.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        whole = (
            os.fstat(fd).st_size == result.bytes and durable.file_hash(fd, spec.file_salt) == result.sha256
        )
    finally:
        os.close(fd)
    return result if whole else None


def read_sidecar(spec: ShardSpec) -> ShardResult | None:
    """What the sidecar says of a shard, or None where there is none for just this shard."""
    try:
        record = json.loads(spec.sidecar.read_bytes())
        if record.pop("spec") != _identity(spec):
            return None
        for key in ("offsets", "sizes", "facts"):
            record[key] = tuple(record[key])
        return ShardResult(**record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class FinishedShard:
    """Reads the images of a finished shard back before its part is committed; used as a context.

    Its sidecar says where the chunks lie; the file is not hashed again, every chunk's checksum is compared.
    PyradError where the shard is not finished; IntegrityError where its file is not there.
    """

    def __init__(self, spec: ShardSpec) -> None:
        result = read_sidecar(spec)
        if result is None:
            raise PyradError(f"{spec.file} is read before it is finished")
        self.spec = spec
        self.result = result
        try:
            self._fd = os.open(spec.folder / TREE / spec.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise IntegrityError(f"{spec.file} cannot be opened: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def image(self, slot: int) -> NDArray[Any] | None:
        """Stored values of slot ``slot`` (0 <= slot < spec.slots), of ``spec.image_shape``; None if empty.

        CorruptChunkError where a chunk is damaged or cut off; IntegrityError where it cannot be read.
        """
        if not 0 <= slot < self.spec.slots:
            raise IndexError(f"slot {slot} of a shard of {self.spec.slots}")
        chunks = range(slot * self.spec.planes, (slot + 1) * self.spec.planes)
        if self.result.offsets[chunks[0]] == ABSENT:
            return None
        planes = [self._plane(chunk) for chunk in chunks]
        return planes[0] if len(planes) == 1 else np.stack(planes)

    def _plane(self, chunk: int) -> NDArray[Any]:
        spec = self.spec
        where = f"{spec.file} chunk {chunk}"
        try:
            data = os.pread(self._fd, self.result.sizes[chunk], self.result.offsets[chunk])
        except OSError as error:
            raise IntegrityError(f"{where} cannot be read: {error.strerror}") from None
        return decode_chunk(
            data, profile=spec.profile, rows=spec.rows, columns=spec.columns, dtype=spec.dtype, where=where
        )


def shard_index(offsets: Sequence[int], sizes: Sequence[int], entries: int) -> bytes:
    """The index at a shard's end: ``entries`` pairs of little-endian uint64, then their crc32c.

    Zarr v3 sharding codec, "binary shard format"; pairs beyond those given are ABSENT.
    """
    index = np.full((entries, 2), ABSENT, dtype="<u8")
    index[: len(offsets), 0] = np.asarray(offsets, dtype=np.uint64)
    index[: len(sizes), 1] = np.asarray(sizes, dtype=np.uint64)
    data = index.tobytes()
    return data + ops.crc32c(data).to_bytes(CHECKSUM_BYTES, "little")


def parse_shard_index(footer: bytes, entries: int) -> NDArray[np.uint64] | None:
    """The (entries, 2) offsets and sizes of a shard's index, None where its checksum or size is wrong."""
    data, checksum = footer[:-CHECKSUM_BYTES], footer[-CHECKSUM_BYTES:]
    if len(data) != entries * ENTRY_BYTES or ops.crc32c(data) != int.from_bytes(checksum, "little"):
        return None
    return np.frombuffer(data, "<u8").astype(np.uint64, copy=False).reshape(entries, 2)


def _identity(spec: ShardSpec) -> dict[str, Any]:
    """Everything that shapes a shard, but for where the store lies."""
    return {key: value for key, value in asdict(spec).items() if key != "folder"}
