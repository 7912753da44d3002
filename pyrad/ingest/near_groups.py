"""The images of an ingest -> near duplicates, and what follows: one group, one split, or quarantine.

Where nothing but the pixels can tell that two images are of one person, near duplicates are one group.
Patients that are known are never regrouped: their near duplicates are listed. What is like a committed image
of another split cannot be stored beside it.

Thumbnails and their hashes live as long as the ingest: of what is committed they are made anew from the
store, for they would lead back to a patient wherever else they lay.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrad.ingest import grouping, pool
from pyrad.ingest.book import Book, batched
from pyrad.ingest.near import HASH_BYTES, Pairs, clusters, find_pairs, hashes
from pyrad.ingest.packing import unpack_source
from pyrad.ingest.plan import Bucket
from pyrad.ingest.thumbnails import SIDE, thumbnail
from pyrad.progress import Stage
from pyrad.records import SPLITS, Split
from pyrad.store import durable, reader
from pyrad.store.shard import FinishedShard, ShardSpec

REASON = "near-duplicate"
_IMAGES_A_TASK = 256
_INVERTED = "MONOCHROME1"

# Groups as numbers, in the order of their names.
_GROUPS = """
INSERT INTO near_group(grp)
    SELECT grp FROM frame JOIN slot ON slot.frame = frame.id WHERE reason IS NULL
    UNION SELECT grp FROM committed ORDER BY grp
"""
_NEW = """
SELECT frame.id, near_group.id, alone
    FROM slot JOIN frame ON frame.id = slot.frame JOIN near_group USING (grp)
    WHERE reason IS NULL ORDER BY slot.id
"""
_COMMITTED = "SELECT near_group.id FROM committed JOIN near_group USING (grp) ORDER BY at"
_SIDES = "SELECT near_group.id, split FROM near_group JOIN committed_group USING (grp)"
_SPLIT = "SELECT group_split.split FROM frame JOIN group_split USING (grp) WHERE id = ?"
_TAKE_SIDE = """
INSERT INTO committed_group SELECT grp, ? FROM near_group WHERE id = ? AND NOT (? AND EXISTS (
    SELECT 1 FROM frame WHERE frame.grp = near_group.grp AND frame.split IS NOT NULL))
"""
_SLOTS = """
SELECT slot.id, source FROM slot JOIN frame ON frame.id = slot.frame JOIN header ON header.frame = frame.id
    WHERE slot.id >= ? AND slot.id < ? AND reason IS NULL ORDER BY slot.id
"""


@dataclass(frozen=True, kw_only=True)
class ThumbnailTask:
    """Images of one shard, or of a committed store, of which thumbnails are wanted."""

    images: ShardSpec | Path
    numbers: tuple[int, ...]  # slots of the shard, or samples of the store
    inverted: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class Near:
    """The near duplicates of an ingest; images are numbered, new ones first, then the committed ones."""

    frames: NDArray[np.int64]  # of the book, of every new image
    groups: NDArray[np.int64]  # number of the group of every image, as it was
    alone: NDArray[np.bool_]  # new images of which nothing else tells the patient
    pairs: Pairs

    @property
    def new(self) -> int:
        """New images."""
        return len(self.frames)

    def to_committed(self) -> Iterator[tuple[int, int]]:
        """(new image, group of the committed one) for every pair of such."""
        for image, other in zip(self.pairs.first.tolist(), self.pairs.second.tolist(), strict=True):
            if other >= self.new:
                yield image, int(self.groups[other])


def make_thumbnails(task: ThumbnailTask) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """In a worker: thumbnails (n, 32, 32) of the images of a task, and their hashes."""
    with open_images(task.images) as images:
        pictures = [
            thumbnail(stored(images, number), inverted=inverted)
            for number, inverted in zip(task.numbers, task.inverted, strict=True)
        ]
    thumbs = np.stack(pictures)
    pool.count_done(len(task.numbers))
    return thumbs, hashes(thumbs)


def find_near(
    book: Book,
    shards: Sequence[tuple[Bucket, ShardSpec]],
    store: reader.Store | None,
    workers: Any,
    stage: Stage,
    folder: Path,
) -> Near:
    """Compare the images of finished ``shards``, in the order of their buckets, and those of ``store``.

    ``folder`` has room for 2 KB an image, for as long as this takes.
    """
    book.run(_GROUPS)
    kind = [("frame", np.int64), ("group", np.int64), ("alone", np.bool_)]
    new = np.fromiter(book.each(_NEW), kind)
    committed = np.fromiter((group for (group,) in book.each(_COMMITTED)), np.int64)
    groups = np.concatenate([new["group"], committed])
    places: list[int] = [0]

    def tasks() -> Iterator[ThumbnailTask]:
        for task in chain(_new_tasks(book, shards), _stored_tasks(store)):
            places.append(places[-1] + len(task.numbers))
            yield task

    with _scratch(folder, len(groups)) as thumbs:
        packed = np.zeros((len(groups), HASH_BYTES), np.uint8)
        for number, (pictures, their_hashes) in workers.run(make_thumbnails, tasks(), stage):
            its = slice(places[number], places[number + 1])
            thumbs[its], packed[its] = pictures, their_hashes
        pairs = find_pairs(thumbs, packed, groups, new=len(new))
    return Near(frames=new["frame"], groups=groups, alone=new["alone"], pairs=pairs)


def join_groups(book: Book, near: Near) -> None:
    """Put near duplicates into one group where nothing else tells the patient.

    Such images are chained to one group. Where one of them is like an image of a committed group, or else of
    a known patient, all of them join that group; of several the first by its name.
    """
    joined = _joined(near)
    name = dict(book.each("SELECT id, grp FROM near_group")) if joined else {}
    grouping.join(book, [(name[group], name[other]) for group, other in joined])


def take_sides(book: Book, near: Near, *, own_splits: bool) -> None:
    """Put a new patient who is like committed images into their split: of several, that of most of them.

    So as little as can be is left out. Not where the layout's ``own_splits`` count and it has one for the
    patient.
    """
    sides = dict(book.each(_SIDES))
    wanted: dict[int, Counter[Split]] = defaultdict(Counter)
    for image, other in near.to_committed():
        group = int(near.groups[image])
        if group not in sides and not near.alone[image]:
            wanted[group][sides[other]] += 1
    for group, counts in wanted.items():
        side = max(counts, key=lambda split: (counts[split], SPLITS.index(split)))
        book.run(_TAKE_SIDE, (side, group, own_splits))


def leave_out(book: Book, near: Near) -> None:
    """Quarantine new images that are like a committed one of another split; every group has its split."""
    sides = dict(book.each(_SIDES))
    out = set()
    for image, other in near.to_committed():
        frame = int(near.frames[image])
        if book.one(_SPLIT, (frame,)) != sides[other]:
            out.add(frame)
    book.many("UPDATE frame SET reason = ? WHERE id = ?", ((REASON, frame) for frame in sorted(out)))


def _joined(near: Near) -> list[tuple[int, int]]:
    """(group, the group that it joins) for groups of which nothing else tells the patient."""
    count = int(near.groups.max(initial=0)) + 1
    alone, committed = np.zeros((2, count), np.bool_)
    alone[near.groups[: near.new][near.alone]] = True
    committed[near.groups[near.new :]] = True
    alone &= ~committed
    first, second = near.groups[near.pairs.first], near.groups[near.pairs.second]
    chained = alone[first] & alone[second]
    root = clusters(first[chained], second[chained], count)
    goal = root.copy()  # by root
    anchors: dict[int, tuple[bool, int]] = {}
    for one, other in (*zip(first, second, strict=True), *zip(second, first, strict=True)):
        if alone[one] and not alone[other]:
            at = int(root[one])
            anchors[at] = min(anchors.get(at, (True, count)), (not committed[other], int(other)))
    for at, (_, group) in anchors.items():
        goal[at] = group
    goal = np.where(alone, goal[root], np.arange(count))
    moved = np.flatnonzero(goal != np.arange(count))
    return [(int(group), int(goal[group])) for group in moved]


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


@contextmanager
def _scratch(folder: Path, count: int) -> Iterator[NDArray[np.uint16]]:
    """Room on the disk for ``count`` thumbnails, without a name: nothing of it outlives this process."""
    shape = count, SIDE, SIDE
    with durable.disk_errors(f"thumbnails beside {folder.name}"), tempfile.TemporaryFile(dir=folder) as file:
        # Reserved as a whole: a disk that is full only when a page is written would end the process.
        os.posix_fallocate(file.fileno(), 0, 2 * math.prod(shape))
        yield np.memmap(file, np.uint16, "r+", shape=shape)


def _new_tasks(book: Book, shards: Sequence[tuple[Bucket, ShardSpec]]) -> Iterator[ThumbnailTask]:
    for bucket, spec in shards:
        first = bucket.first + spec.first
        rows = book.each(_SLOTS, (first, first + spec.slots))
        for batch in batched(rows, _IMAGES_A_TASK):
            yield ThumbnailTask(
                images=spec,
                numbers=tuple(slot - first for slot, _ in batch),
                inverted=tuple(unpack_source(source).photometric == _INVERTED for _, source in batch),
            )


def _stored_tasks(store: reader.Store | None) -> Iterator[ThumbnailTask]:
    if store is None:
        return
    photometric = store.samples["photometric"]
    for first in range(0, len(store), _IMAGES_A_TASK):
        last = min(first + _IMAGES_A_TASK, len(store))
        yield ThumbnailTask(
            images=Path(store.place),
            numbers=tuple(range(first, last)),
            inverted=tuple(value == _INVERTED for value in photometric[first:last].to_pylist()),
        )
