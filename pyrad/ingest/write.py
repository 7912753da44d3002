"""The slots of one shard -> decoded pixels and masks -> the shard, and what was learned of each image.

One task owns one shard, in a worker process. A frame that does not decode leaves its slot empty, and says
why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrad.ingest import files, outlines, pool
from pyrad.ingest.dicom_parse import parse
from pyrad.ingest.dicom_segmentation import Segmentation
from pyrad.ingest.plan import Planned
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.scan import Share, describe, read_unchanged
from pyrad.records import Segments, Source
from pyrad.store.shard import ShardSpec, write_shard

_PERCENTILES = (0.01, 0.99)
_SEGMENTATIONS_KEPT = 2  # parsed, in a worker


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard of images, and the shard of their masks where any has one."""

    images: ShardSpec
    masks: ShardSpec | None
    slots: tuple[Planned, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """What was learned of one slot: its pixels, or why it is empty."""

    percentiles: tuple[float, float] = (0.0, 0.0)
    pixels: str = ""  # keyed digest
    mask: bool = False
    reason: str | None = None
    detail: str = ""

    def to_json(self) -> list[Any]:
        """As a shard's sidecar keeps it."""
        return [*self.percentiles, self.pixels, self.mask, self.reason, self.detail]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Fact:
        """The inverse of `to_json`."""
        low, high, pixels, mask, reason, detail = values
        return cls(percentiles=(low, high), pixels=pixels, mask=mask, reason=reason, detail=detail)


def write_task(task: ShardTask) -> list[Fact]:
    """In a worker: decode the slots of a shard and write it, masks behind images; a fact for each slot."""
    share: Share = pool.shared()
    facts: list[list[Any]] = []
    masks: list[
        NDArray[np.uint8] | None
    ] = []  # packed to bits: a shard of them is held until its images are written

    def images() -> Iterator[NDArray[Any] | None]:
        for planned, image in zip(task.slots, _decoded(share, task.slots), strict=True):
            fact, mask = _judge(share, planned.source, image)
            facts.append(fact.to_json())
            masks.append(None if mask is None else np.packbits(mask))
            pool.count_done()
            yield image if isinstance(image, np.ndarray) and fact.reason is None else None

    write_shard(task.images, images(), facts=facts)
    if task.masks is not None:
        shape = task.masks.rows, task.masks.columns
        write_shard(
            task.masks,
            (
                None if mask is None else np.unpackbits(mask, count=shape[0] * shape[1]).reshape(shape)
                for mask in masks
            ),
        )
    return [Fact.from_json(values) for values in facts]


def percentiles(values: NDArray[Any]) -> tuple[float, float]:
    """p1 and p99 of integers, exact: linear between order statistics at (n - 1) p, as NumPy's default.

    Counted in a histogram, which is one pass for 8 and 16 bits. Source: Hyndman and Fan 1996, type 7.
    """
    low = int(values.min())
    counts = np.bincount(values.ravel().astype(np.int32) - low)
    below = np.cumsum(counts)  # values up to and including each
    last = values.size - 1
    results = []
    for p in _PERCENTILES:
        position = last * p
        rank = int(position)
        first, second = np.searchsorted(below, [rank, min(rank + 1, last)], side="right")
        results.append(low + float(first) + (position - rank) * float(second - first))
    return results[0], results[1]


def _decoded(share: Share, slots: Sequence[Planned]) -> Iterator[NDArray[Any] | Rejected]:
    """The image of every slot in order; the frames that a shard holds of one file are decoded together."""
    by_file: dict[tuple[int, str], list[int]] = defaultdict(list)
    for at, planned in enumerate(slots):
        by_file[planned.source.archive, planned.source.path].append(at)
    waiting: dict[int, NDArray[Any] | Rejected] = {}
    for at, planned in enumerate(slots):
        if at not in waiting:
            its = by_file[planned.source.archive, planned.source.path]
            waiting |= zip(its, _decode_file(share, [slots[n] for n in its]), strict=True)
        yield waiting.pop(at)


def _decode_file(share: Share, frames: Sequence[Planned]) -> list[NDArray[Any] | Rejected]:
    first = frames[0]
    try:
        with pool.guard((first.source.archive, first.source.path), [frame.source.frame for frame in frames]):
            data = read_unchanged(share, first.source, first.digest)
            return list(files.decode_frames([frame.source for frame in frames], data))
    except Rejected as rejected:
        return [rejected] * len(frames)


def _judge(
    share: Share, source: Source, image: NDArray[Any] | Rejected
) -> tuple[Fact, NDArray[np.bool_] | None]:
    """What is learned of a decoded image, and its mask."""
    try:
        if isinstance(image, Rejected):
            raise image
        values = _unpadded(image, source)
        mask = _mask(share, source)
    except Rejected as rejected:
        return Fact(reason=rejected.reason, detail=describe(rejected)), None
    fact = Fact(percentiles=percentiles(values), pixels=share.pixel_digest(image), mask=mask is not None)
    return fact, mask


def _unpadded(image: NDArray[Any], source: Source) -> NDArray[Any]:
    """The stored values that are no padding; Rejected where there are none."""
    if source.padding is None:
        return image
    low, high = source.padding
    values = image[(image < low) | (image > high)]
    if not values.size:
        raise Rejected("only-padding")
    return values


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
