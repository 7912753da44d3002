"""Images -> segments, runs of a shard's slots in files of their own -> the shard, whole and durable.

Several processes may write the segments of one shard; one then joins them. Where a shard is cut follows from
its shape alone, and its bytes are the same however many segments there are: chunks begin at multiples of 64
bytes, so that a segment can stand anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pyrad.errors import PyradError
from pyrad.store import durable
from pyrad.store.chunk import encode_chunk
from pyrad.store.layout import ABSENT, ALIGNMENT
from pyrad.store.shard import TEMPORARIES, TREE, ShardResult, ShardSpec, shard_index, write_sidecar

SEGMENT_BYTES = 24 << 20  # of stored values: some tenths of a second to decode and encode
SEGMENT_SLOTS = 256  # at most: of tiny images, what a worker's death costs
_COPY_BYTES = 4 << 20


def cut(spec: ShardSpec) -> list[range]:
    """The slots of a shard in runs, one a segment."""
    image_bytes = spec.planes * spec.rows * spec.columns * np.dtype(spec.dtype).itemsize
    slots = min(max(SEGMENT_BYTES // image_bytes, 1), SEGMENT_SLOTS)
    return [range(at, min(at + slots, spec.slots)) for at in range(0, spec.slots, slots)]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Some chunks of a shard in a temporary file, padded to a multiple of 64 bytes.

    ``offsets`` (from the beginning of the file) and ``sizes`` are as in `ShardResult`.
    """

    file: Path
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    bytes: int


class SegmentWriter:
    """Encodes images one by one into a temporary file, used as a context; an exception removes the file.

    PyradError where an image does not fit, where not all ``slots`` are filled, and where the disk fails.
    """

    def __init__(self, spec: ShardSpec, slots: range) -> None:
        self._spec = spec
        self._slots = slots
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._at = 0
        with durable.disk_errors(spec.file):
            self._path = _temporary(spec, f"{slots.start}")
            self._file = FileIO(durable.create(self._path), "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def add(self, image: NDArray[Any] | None) -> None:
        """Write the next image (``spec.image_shape``, ``spec.dtype``); None leaves its slot empty."""
        for chunk in _chunks(self._spec, image):
            self._offsets.append(self._at if chunk else ABSENT)
            self._sizes.append(len(chunk) or ABSENT)
            block = chunk + bytes(-len(chunk) % ALIGNMENT)
            _write_all(self._file, block, self._spec)
            self._at += len(block)

    def finish(self) -> Segment:
        """Return what was written; not flushed to the disk, for only the shard needs to last."""
        seen = len(self._offsets) // self._spec.planes
        if seen != len(self._slots):
            raise PyradError(
                f"{self._spec.array} shard {self._spec.shard}: {seen} images were given "
                f"for {len(self._slots)} slots"
            )
        return Segment(
            file=self._path, offsets=tuple(self._offsets), sizes=tuple(self._sizes), bytes=self._at
        )


def join_segments(spec: ShardSpec, segments: Sequence[Segment], *, facts: Sequence[Any] = ()) -> ShardResult:
    """Write a shard durably from its segments in order; it appears under its name only when it is whole.

    ``facts`` (JSON values) stay in its sidecar. The file of one segment becomes the shard's; those of several
    are left as they are, so that this can be done again. PyradError where the disk fails.
    """
    partial = segments[0].file if len(segments) == 1 else _temporary(spec, "whole")
    try:
        with durable.disk_errors(spec.file):
            result = _assemble(spec, segments, partial, facts)
            _publish(spec, partial)
            write_sidecar(spec, result)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return result


def remove_segments(segments: Iterable[Segment]) -> None:
    """Remove the files of segments that were joined."""
    for segment in segments:
        with durable.disk_errors("temporary files"):
            segment.file.unlink(missing_ok=True)


def _chunks(spec: ShardSpec, image: NDArray[Any] | None) -> Iterator[bytes]:
    """The chunks of an image, plane by plane; of an empty slot, empty bytes."""
    if image is None:
        yield from (b"" for _ in range(spec.planes))
        return
    if image.shape != spec.image_shape or image.dtype.name != spec.dtype:
        raise PyradError(
            f"{spec.array} shard {spec.shard}: an image of {image.shape} {image.dtype.name} was given "
            f"for a bucket of {spec.image_shape} {spec.dtype}"
        )
    if spec.array.startswith("masks/") and image.max() > 1:
        raise PyradError(f"{spec.array} shard {spec.shard}: a mask holds values other than 0 and 1")
    for plane in image.reshape(spec.planes, spec.rows, spec.columns):
        yield encode_chunk(plane, spec.profile)


def _assemble(
    spec: ShardSpec, segments: Sequence[Segment], partial: Path, facts: Sequence[Any]
) -> ShardResult:
    """Make ``partial`` the shard; it may be the file of the only segment."""
    offsets: list[int] = []
    sizes: list[int] = []
    at = 0
    digest = durable.salted_hash(spec.file_salt)
    alone = partial == segments[0].file
    with FileIO(partial, "rb+") if alone else FileIO(durable.create(partial), "wb") as file:
        for segment in segments:
            begin, at = at, at + segment.bytes
            offsets += [offset if offset == ABSENT else begin + offset for offset in segment.offsets]
            sizes += segment.sizes
            with nullcontext(file) if alone else open(segment.file, "rb", buffering=0) as source:
                while block := source.read(_COPY_BYTES):
                    digest.update(block)
                    if not alone:
                        _write_all(file, block, spec)
            assert file.tell() == at, spec.file  # noqa: S101 - nobody else writes these files
        footer = shard_index(offsets, sizes, spec.shard_n * spec.planes)
        digest.update(footer)
        _write_all(file, footer, spec)
        os.fsync(file.fileno())
    return ShardResult(
        offsets=tuple(offsets),
        sizes=tuple(sizes),
        bytes=at + len(footer),
        sha256=digest.hexdigest(),
        facts=tuple(facts),
    )


def _publish(spec: ShardSpec, partial: Path) -> None:
    path = spec.folder / TREE / spec.file
    durable.make_folders(spec.folder / TREE, spec.file.rpartition("/")[0])
    partial.replace(path)
    durable.sync_folder(path.parent)


def _temporary(spec: ShardSpec, what: str) -> Path:
    name = f"{spec.array.replace('/', '-')}-{spec.shard}-{what}"
    return durable.temporary(spec.folder / TEMPORARIES, name)


def _write_all(file: FileIO, data: bytes, spec: ShardSpec) -> None:
    """Write all of ``data``; without a buffer, so that closing the file does not try a failed write again."""
    view = memoryview(data)
    with durable.disk_errors(spec.file):
        while view:
            view = view[file.write(view) :]
