"""Images as they are written, and those of a store -> thumbnails and hashes, for as long as an ingest lasts.

What this run writes is pictured by the worker that has it in hand. Shards that an earlier run finished, and
what is committed, are read back: thumbnails would lead back to a patient wherever they lay, so none is kept.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pyrad.ingest.book import Book, batched
from pyrad.ingest.near.pairs import HASH_BYTES, Comparison, hashes
from pyrad.ingest.near.thumbnails import SIDE, likeness, thumbnail
from pyrad.ingest.packing import unpack_source
from pyrad.ingest.plan import Bucket
from pyrad.ingest.workers import pool
from pyrad.progress import Stage
from pyrad.records import Source
from pyrad.store import durable, reader
from pyrad.store.shard import FinishedShard, ShardSpec

_IMAGES_A_TASK = 256
_INVERTED = "MONOCHROME1"
_FIRST_SLOT = 1  # of the book
_BLANK = np.zeros((SIDE, SIDE), np.uint16)
_SLOTS = """
SELECT slot.id, source FROM slot JOIN frame ON frame.id = slot.frame JOIN header ON header.frame = frame.id
    WHERE slot.id >= ? AND slot.id < ? AND reason IS NULL ORDER BY slot.id
"""


class Pictures(NamedTuple):
    """Thumbnails (n, 32, 32) uint16 and their hashes (n, HASH_BYTES) uint8; of an empty slot, zeros."""

    thumbs: NDArray[np.uint16]
    hashes: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ThumbnailTask:
    """Images of one shard, or of a committed store, of which thumbnails are wanted."""

    images: ShardSpec | Path
    numbers: tuple[int, ...]  # slots of the shard, or samples of the store
    inverted: tuple[bool, ...]


def make_pictures(task: ThumbnailTask) -> Pictures:
    """In a worker: the pictures of the images of a task."""
    with open_images(task.images) as images:
        thumbs = [
            thumbnail(stored(images, number), inverted=inverted)
            for number, inverted in zip(task.numbers, task.inverted, strict=True)
        ]
    pool.count_done(len(task.numbers))
    return hashed(thumbs)


def pictured(image: NDArray[Any] | None, source: Source) -> NDArray[np.uint16]:
    """The thumbnail of an image as it is written, black on white turned round; blank for an empty slot."""
    return _BLANK if image is None else thumbnail(image, inverted=source.photometric == _INVERTED)


def hashed(thumbs: Sequence[NDArray[np.uint16]]) -> Pictures:
    """Thumbnails with their hashes."""
    stacked = np.stack(thumbs)
    return Pictures(stacked, hashes(stacked))


def compare_pictures(task: Comparison) -> NDArray[np.float64]:
    """In a worker: how alike the pictures of each pair are."""
    like = likeness(*task)
    pool.count_done(len(like))
    return like


class Thumbnails:
    """The thumbnails of ``slots`` slots, as the book numbers them, then of ``stored`` samples; a context.

    They lie in a file of ``folder`` that has no name, 2 KB an image: nothing of it outlives this process.
    """

    def __init__(self, folder: Path, slots: int, stored: int) -> None:
        self._folder = folder
        self._slots = slots
        self._made = np.zeros(slots, np.bool_)
        self.hashes = np.zeros((slots + stored, HASH_BYTES), np.uint8)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.thumbs = stack.enter_context(_scratch(self._folder, len(self.hashes)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self, bucket: Bucket, first: int, pictures: Pictures) -> None:
        """Note the pictures of the slots of a bucket from row ``first`` on."""
        begin = bucket.first - _FIRST_SLOT + first
        its = np.arange(begin, begin + len(pictures.thumbs))
        self._put(its, pictures)
        self._made[its] = True

    def complete(
        self,
        book: Book,
        shards: Sequence[tuple[Bucket, ShardSpec]],
        store: reader.Store | None,
        workers: Any,
        stage: Stage,
    ) -> None:
        """Make those of finished ``shards`` that this run did not write, and of the samples of ``store``."""
        places: list[NDArray[np.int64]] = []

        def tasks() -> Iterator[ThumbnailTask]:
            for task, at in chain(self._slot_tasks(book, shards), self._stored_tasks(store)):
                places.append(at)
                yield task

        stage.advance(int(np.count_nonzero(self._made)))
        for number, pictures in workers.run(make_pictures, tasks(), stage):
            self._put(places[number], pictures)

    def _put(self, at: NDArray[np.int64], pictures: Pictures) -> None:
        self.thumbs[at], self.hashes[at] = pictures

    def places(self, slots: NDArray[np.int64], stored: int) -> NDArray[np.int64]:
        """Where the pictures of slots, by their numbers in the book, and of ``stored`` samples are."""
        return np.concatenate([slots - _FIRST_SLOT, self._slots + np.arange(stored)])

    def _slot_tasks(
        self, book: Book, shards: Sequence[tuple[Bucket, ShardSpec]]
    ) -> Iterator[tuple[ThumbnailTask, NDArray[np.int64]]]:
        for bucket, spec in shards:
            first = bucket.first + spec.first
            if self._made[first - _FIRST_SLOT :][: spec.slots].all():
                continue
            rows = book.each(_SLOTS, (first, first + spec.slots))
            for batch in batched(rows, _IMAGES_A_TASK):
                slots = np.array([slot for slot, _ in batch])
                task = ThumbnailTask(
                    images=spec,
                    numbers=tuple((slots - first).tolist()),
                    inverted=tuple(unpack_source(source).photometric == _INVERTED for _, source in batch),
                )
                yield task, slots - _FIRST_SLOT

    def _stored_tasks(self, store: reader.Store | None) -> Iterator[tuple[ThumbnailTask, NDArray[np.int64]]]:
        if store is None:
            return
        photometric = store.samples["photometric"]
        for first in range(0, len(store), _IMAGES_A_TASK):
            last = min(first + _IMAGES_A_TASK, len(store))
            task = ThumbnailTask(
                images=Path(store.place),
                numbers=tuple(range(first, last)),
                inverted=tuple(value == _INVERTED for value in photometric[first:last].to_pylist()),
            )
            yield task, np.arange(self._slots + first, self._slots + last)


def stored(images: FinishedShard | reader.Store, number: int) -> NDArray[Any]:
    """The image of a slot, or of a sample, that the book says is there."""
    image = images.image(number)
    assert image is not None  # noqa: S101
    return image


@contextmanager
def open_images(place: ShardSpec | Path) -> Iterator[FinishedShard | reader.Store]:
    """Images by number: of a finished shard, or of a committed store."""
    with FinishedShard(place) if isinstance(place, ShardSpec) else reader.open_store(place) as images:
        yield images


class ThumbnailFile:
    """Thumbnails by their numbers in a file; it is not mapped, so that what was read is not kept."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __getitem__(self, numbers: NDArray[np.int64], /) -> NDArray[np.uint16]:
        """(n,) -> (n, 32, 32)."""
        thumbs = np.empty((len(numbers), SIDE, SIDE), np.uint16)
        for number, thumb in zip(numbers.tolist(), thumbs, strict=True):
            if os.preadv(self._descriptor, [thumb.data], number * thumb.nbytes) != thumb.nbytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return thumbs

    def __setitem__(self, numbers: NDArray[np.int64], thumbs: NDArray[np.uint16], /) -> None:
        """Write (n, 32, 32) at (n,)."""
        for number, thumb in zip(numbers.tolist(), np.ascontiguousarray(thumbs), strict=True):
            if os.pwrite(self._descriptor, thumb.data, number * thumb.nbytes) != thumb.nbytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))


@contextmanager
def _scratch(folder: Path, count: int) -> Iterator[ThumbnailFile]:
    """Room on the disk for ``count`` thumbnails."""
    with durable.disk_errors(f"thumbnails beside {folder.name}"), tempfile.TemporaryFile(dir=folder) as file:
        # Reserved as a whole: a disk that is full is told before the first image is written.
        os.posix_fallocate(file.fileno(), 0, count * SIDE * SIDE * np.dtype(np.uint16).itemsize)
        yield ThumbnailFile(file.fileno())
