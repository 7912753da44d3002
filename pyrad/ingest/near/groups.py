"""The images of an ingest -> near duplicates, and what follows: one group, one split, or quarantine.

Where nothing but the pixels can tell that two images are of one person, near duplicates are one group.
Patients that are known are never regrouped: their near duplicates are listed. What is like a committed image
of another split cannot be stored beside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pyrad.ingest import grouping
from pyrad.ingest.book import Book
from pyrad.ingest.memory import give_back
from pyrad.ingest.near.pairs import Comparison, Pairs, clusters, find_pairs
from pyrad.ingest.near.pictures import Thumbnails, compare_pictures
from pyrad.ingest.plan import Bucket
from pyrad.ingest.workers.cluster import ClusterWorkers
from pyrad.ingest.workers.pool import Workers
from pyrad.progress import Reporter
from pyrad.records import SPLITS, Split
from pyrad.store import reader
from pyrad.store.shard import ShardSpec

REASON = "near-duplicate"

# Groups as numbers, in the order of their names.
_GROUPS = """
INSERT INTO near_group(grp)
    SELECT grp FROM frame JOIN slot ON slot.frame = frame.id WHERE reason IS NULL
    UNION SELECT grp FROM committed ORDER BY grp
"""
_COUNT = "SELECT count(*) FROM slot JOIN frame ON frame.id = slot.frame WHERE reason IS NULL"
_NEW = """
SELECT slot.id, frame.id, near_group.id, alone
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


def find_near(
    book: Book,
    thumbnails: Thumbnails,
    shards: Sequence[tuple[Bucket, ShardSpec]],
    store: reader.Store | None,
    workers: Workers | ClusterWorkers,
    reporter: Reporter,
) -> Near | None:
    """Compare the new images of finished ``shards``, in the order of their buckets, and those of ``store``.

    None where nothing is new. ``thumbnails`` may lack those that this run did not write.
    """
    count = book.one(_COUNT)
    if not count:
        return None
    with reporter.stage("near duplicates", count + len(store or ()), "images") as stage:
        thumbnails.complete(book, shards, store, workers, stage)
    book.run(_GROUPS)
    kind = [("slot", np.int64), ("frame", np.int64), ("group", np.int64), ("alone", np.bool_)]
    new = np.fromiter(book.each(_NEW), kind)
    committed = np.fromiter((group for (group,) in book.each(_COMMITTED)), np.int64)
    groups = np.concatenate([new["group"], committed])
    places = thumbnails.places(new["slot"], len(committed))
    compare = partial(_compare, workers, reporter)
    pictures = thumbnails.thumbs, thumbnails.hashes
    pairs = find_pairs(*pictures, groups, new=len(new), places=places, compare=compare)
    return Near(frames=new["frame"], groups=groups, alone=new["alone"], pairs=pairs)


def _compare(
    workers: Workers | ClusterWorkers, reporter: Reporter, comparisons: Iterable[Comparison], pairs: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    if pairs:
        give_back()  # what it took to find them
        with reporter.stage("near pairs", pairs, "pairs") as stage:
            yield from workers.run(compare_pictures, comparisons, stage)


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
