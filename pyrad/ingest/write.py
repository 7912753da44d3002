"""The slots of shards -> decoded pixels and masks -> the shards, and what was learned of each image.

While there are more shards than workers, each writes one. The last ones, and those of thousands of small
images, are shared out: workers write the segments of a shard, and one of them joins these. A frame that does
not decode leaves its slot empty, and says why.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyrad.ingest import files, outlines
from pyrad.ingest.dicom.parse import parse
from pyrad.ingest.dicom.segmentation import Segmentation
from pyrad.ingest.near.pictures import Pictures, hashed, pictured
from pyrad.ingest.packing import unpack_source
from pyrad.ingest.plan import Planned
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.scan import Share, describe, is_of_start, read_unchanged
from pyrad.ingest.workers import pool
from pyrad.ops import percentiles
from pyrad.progress import Stage
from pyrad.records import Segments, Source
from pyrad.store.segments import Segment, SegmentWriter, cut, join_segments, remove_segments
from pyrad.store.shard import ShardSpec

if TYPE_CHECKING:  # workers import this module, and it is their start that counts
    from pyrad.ingest.workers.cluster import ClusterWorkers
    from pyrad.ingest.workers.pool import Workers

_PERCENTILES = (0.01, 0.99)
_SLOTS_A_TASK = 1024  # at most: their headers are in the memory of the driver and of a worker
_SEGMENTATIONS_KEPT = 2  # parsed, in a worker


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard of images, and the shard of their masks where any has one."""

    images: ShardSpec
    masks: ShardSpec | None
    slots: tuple[Planned, ...]
    left: int  # shards behind this one


class Learned(NamedTuple):
    """What was learned of the slots of a shard, and their pictures where the `Share` wants any."""

    facts: list[Fact]
    pictures: Pictures | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """What was learned of one slot: its pixels, or why it is empty."""

    percentiles: tuple[float, float] = (0.0, 0.0)
    pixels: str = ""  # keyed digest
    file: str = ""  # keyed digest of all bytes of its file, where the scan did not read them all
    mask: bool = False
    reason: str | None = None
    detail: str = ""

    def to_json(self) -> list[Any]:
        """As a shard's sidecar keeps it."""
        return [*self.percentiles, self.pixels, self.file, self.mask, self.reason, self.detail]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Fact:
        """The inverse of `to_json`."""
        low, high, pixels, file, mask, reason, detail = values
        return cls(percentiles=(low, high), pixels=pixels, file=file, mask=mask, reason=reason, detail=detail)


def write_shards(
    workers: Workers | ClusterWorkers, tasks: Iterable[ShardTask], stage: Stage
) -> Iterator[tuple[int, Learned]]:
    """Yield (number of the task, what was learned of its slots) as shards are finished.

    ``tasks`` is read only as far as workers need it; ``stage`` advances by slots.
    """
    shards = _Shards(tasks, workers.sharing)
    for steps in (shards.steps(), shards.joins()):
        for _, (number, written) in workers.run(_do, steps, stage):
            learned = shards.take(number, written)
            if learned is not None:
                yield number, learned


@dataclass(frozen=True, kw_only=True)
class _Written:
    """A segment of a shard, that of its masks, and what was learned of its slots."""

    first: int
    images: Segment
    masks: Segment | None
    learned: Learned


@dataclass(frozen=True, kw_only=True)
class _WriteStep:
    """Write a segment; the shard as well, where it has no other."""

    number: int
    task: ShardTask  # with the slots of the segment alone
    run: range

    def do(self) -> _Written:
        written = _write_segment(self.task, self.run)
        if len(self.run) == self.task.images.slots:
            _join(self.task, [written])
        return written


@dataclass(frozen=True, kw_only=True)
class _JoinStep:
    """Make a shard of its segments."""

    number: int
    task: ShardTask
    written: list[_Written]

    def do(self) -> None:
        _join(self.task, self.written)


class _Shards:
    """The shards that are being written: what is to be done next, and what has been."""

    def __init__(self, tasks: Iterable[ShardTask], sharing: int) -> None:
        self._tasks = tasks
        self._sharing = sharing
        self._under_way: dict[int, tuple[ShardTask, int, list[_Written]]] = {}  # task, segments, done ones
        self._to_join: deque[_JoinStep] = deque()

    def steps(self) -> Iterator[_WriteStep | _JoinStep]:
        """Every segment, and between them the joins that have become possible."""
        for number, task in enumerate(self._tasks):
            whole = task.left >= self._sharing and task.images.slots <= _SLOTS_A_TASK
            runs = [range(task.images.slots)] if whole else cut(task.images)
            self._under_way[number] = replace(task, slots=()), len(runs), []
            for run in runs:
                yield from self.joins()
                yield _WriteStep(number=number, task=_only(task, run), run=run)

    def joins(self) -> Iterator[_JoinStep]:
        """The joins that are possible now."""
        while self._to_join:
            yield self._to_join.popleft()

    def take(self, number: int, written: _Written | None) -> Learned | None:
        """Note a segment that is written, or (None) a shard that is joined; what a whole shard taught."""
        task, segments, done = self._under_way[number]
        if written is not None:
            done.append(written)
            if len(done) < segments:
                return None
            done.sort(key=lambda its: its.first)
            if segments > 1:
                self._to_join.append(_JoinStep(number=number, task=task, written=done))
                return None
        del self._under_way[number]
        return _cleared(done)


def _do(step: _WriteStep | _JoinStep) -> tuple[int, _Written | None]:
    """In a worker."""
    return step.number, step.do()


def _only(task: ShardTask, run: range) -> ShardTask:
    return replace(task, slots=task.slots[run.start : run.stop])


def _write_segment(task: ShardTask, run: range) -> _Written:
    """Decode some slots of a shard and write them, masks beside images."""
    share: Share = pool.shared()
    facts: list[Fact] = []
    pictures: list[Pictures] = []
    with ExitStack() as stack:
        images = stack.enter_context(SegmentWriter(task.images, run))
        masks = stack.enter_context(SegmentWriter(task.masks, run)) if task.masks else None
        for some in _by_memory(task):
            slots = [_Slot(unpack_source(packed), mark) for packed, mark in some]
            thumbs = []
            for (source, _), (image, file) in zip(slots, _decoded(share, slots), strict=True):
                fact, mask = _judge(share, source, image, file)
                facts.append(fact)
                kept = image if isinstance(image, np.ndarray) and fact.reason is None else None
                images.add(kept)
                if share.pictured:
                    thumbs.append(pictured(kept, source))
                if masks is not None:
                    masks.add(None if mask is None else mask.view(np.uint8))
                pool.count_done()
            if thumbs:
                pictures.append(hashed(thumbs))
        return _Written(
            first=run.start,
            images=images.finish(),
            masks=None if masks is None else masks.finish(),
            learned=Learned(facts, _together(pictures)),
        )


def _by_memory(task: ShardTask) -> Iterator[Sequence[Planned]]:
    """Slots whose images may all be held at once: the frames of one file are decoded together."""
    at = 0
    for run in cut(task.images):
        yield task.slots[at : at + len(run)]
        at += len(run)


def _join(task: ShardTask, written: Sequence[_Written]) -> None:
    facts = [fact.to_json() for its in written for fact in its.learned.facts]
    join_segments(task.images, [its.images for its in written], facts=facts)
    if task.masks is not None:
        join_segments(task.masks, [its.masks for its in written if its.masks is not None])


def _cleared(written: Sequence[_Written]) -> Learned:
    """Remove the files of segments that stand in their shard now, and return what they taught."""
    remove_segments(segment for its in written for segment in (its.images, its.masks) if segment)
    facts = [fact for its in written for fact in its.learned.facts]
    pictures = [its.learned.pictures for its in written if its.learned.pictures is not None]
    return Learned(facts, _together(pictures))


def _together(pictures: Sequence[Pictures]) -> Pictures | None:
    return Pictures(*map(np.concatenate, zip(*pictures, strict=True))) if pictures else None


class _Slot(NamedTuple):
    """A frame to be decoded, and the mark of its file."""

    source: Source
    mark: str


_Decoded = tuple[NDArray[Any] | Rejected, str]  # an image, and the digest of its file where it is new


def _decoded(share: Share, slots: Sequence[_Slot]) -> Iterator[_Decoded]:
    """The image of every slot in order; the frames that a segment holds of one file are decoded together."""
    by_file: dict[tuple[int, str], list[int]] = defaultdict(list)
    for at, (source, _) in enumerate(slots):
        by_file[source.archive, source.path].append(at)
    waiting: dict[int, _Decoded] = {}
    for at, (source, _) in enumerate(slots):
        if at not in waiting:
            its = by_file[source.archive, source.path]
            waiting |= zip(its, _decode_file(share, [slots[n] for n in its]), strict=True)
        yield waiting.pop(at)


def _decode_file(share: Share, frames: Sequence[_Slot]) -> list[_Decoded]:
    at, mark = (frames[0].source.archive, frames[0].source.path), frames[0].mark
    try:
        with pool.guard(at, [frame.source.frame for frame in frames]):
            data = read_unchanged(share, *at, mark)
            digest = share.digest(data) if is_of_start(mark) else ""
            return [(image, digest) for image in files.decode_frames([it.source for it in frames], data)]
    except Rejected as rejected:
        return [(rejected, "")] * len(frames)


def _judge(
    share: Share, source: Source, image: NDArray[Any] | Rejected, file: str
) -> tuple[Fact, NDArray[np.bool_] | None]:
    """What is learned of a decoded image, and its mask."""
    try:
        if isinstance(image, Rejected):
            raise image
        spread = _percentiles(image, source)
        mask = _mask(share, source)
    except Rejected as rejected:
        return Fact(reason=rejected.reason, detail=describe(rejected)), None
    return Fact(percentiles=spread, pixels=share.pixel_digest(image), file=file, mask=mask is not None), mask


def _percentiles(image: NDArray[Any], source: Source) -> tuple[float, float]:
    """p1 and p99 of the stored values that are no padding; Rejected where there are none."""
    values = percentiles(image, _PERCENTILES, padding=source.padding)
    if not values:
        raise Rejected("only-padding")
    low, high = values
    return low, high


def _mask(share: Share, source: Source) -> NDArray[np.bool_] | None:
    """The union of a source's masks and outlines; a mask file is never resized.

    A mask file of one frame is of every frame of its image; one of several has a frame for each.
    """
    whole = (source.cut.rows, source.cut.columns) if source.cut else (source.rows, source.columns)
    masks = [_decode_mask(share, source, path) >= source.mask_from for path in source.masks]
    masks += [_decode_segments(segments) for segments in source.segments]
    masks += [outlines.fill(source.outlines, *whole)] if source.outlines else []
    if not masks:
        return None
    for mask in masks:
        if mask.shape != whole:
            raise Rejected("mask-size", detail=f"{'x'.join(map(str, mask.shape))} for {whole[0]}x{whole[1]}")
    union: NDArray[np.bool_] = np.logical_or.reduce(masks)
    if source.cut is None or source.cut.keep is None:
        return union
    top, left, bottom, right = source.cut.keep
    return union[top:bottom, left:right]


def _decode_mask(share: Share, source: Source, path: str) -> NDArray[Any]:
    try:
        with pool.guard((source.archive, path), [source.frame]):
            data = share.read(source.archive, path)
            frames = files.scan(source.archive, path, data, share.mask_options)
            if len(frames) == 1 or source.frame < len(frames):
                return files.decode(frames[min(source.frame, len(frames) - 1)], data)
    except Rejected as rejected:
        raise Rejected("mask-unreadable", detail=rejected.reason) from None
    raise Rejected("mask-size", detail=f"{len(frames)} frames, and frame {source.frame} has none")


def _decode_segments(segments: Segments) -> NDArray[np.bool_]:
    file = segments.archive, segments.path
    try:
        segmentation = _segmentation(*file)
        with pool.guard(file, segments.frames), files.contained():
            return segmentation.mask(segments.frames)
    except Rejected as rejected:
        raise Rejected("mask-unreadable", detail=rejected.reason) from None


@lru_cache(maxsize=_SEGMENTATIONS_KEPT)
def _segmentation(archive: int, path: str) -> Segmentation:
    """Parsed once for several of its frames: they lie on as many images."""
    share: Share = pool.shared()
    with pool.guard((archive, path)), files.contained():
        return Segmentation(parse(share.read(archive, path)))
