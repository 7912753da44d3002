"""Images of finished shards, by series -> the p1 and p99 of each whole series: MR has no unit of its own.

The brightness of an MR image says nothing but beside its neighbours, so all images of a series that one
ingest adds share their percentiles. They are read back once the shards are written; a task is some whole
series, so what a worker holds is one histogram, however many images there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from numpy.typing import NDArray

from pyrad.errors import PyradError
from pyrad.ingest import pool
from pyrad.ingest.percentiles import Histogram
from pyrad.records import Source
from pyrad.store.shard import FinishedShard, ShardSpec

_IMAGES_A_TASK = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One stored image: where it is, and which of its values are padding."""

    spec: ShardSpec
    slot: int
    padding: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesTask:
    """Some series, the images of each."""

    series: tuple[tuple[Place, ...], ...]


def shares_percentiles(source: Source) -> bool:
    """Whether an image takes the percentiles of its series."""
    return source.modality == "MR" and bool(source.series) and source.planes == 1


def series_tasks(images: Iterable[tuple[str, Place]]) -> Iterator[SeriesTask]:
    """Tasks of whole series from (series, image) in the order of their series.

    Whatever tells series apart may be their name; images whose rescales differ should have different ones.
    """
    batch: list[tuple[Place, ...]] = []
    for _, group in groupby(images, key=lambda image: image[0]):
        batch.append(tuple(place for _, place in group))
        if sum(map(len, batch)) >= _IMAGES_A_TASK:
            yield SeriesTask(series=tuple(batch))
            batch = []
    if batch:
        yield SeriesTask(series=tuple(batch))


def series_percentiles(task: SeriesTask) -> list[tuple[float, float]]:
    """In a worker: p1 and p99 of all unpadded values of each series of a task.

    PyradError where an image is not there: it was decoded when its shard was written.
    """
    return [_of_one(images) for images in task.series]


def _of_one(images: Iterable[Place]) -> tuple[float, float]:
    histogram = Histogram()
    for spec, its in groupby(sorted(images, key=_position), key=lambda place: place.spec):
        with FinishedShard(spec) as shard:
            for place in its:
                histogram.add(_unpadded(shard, place))
                pool.count_done()
    return histogram.percentiles()


def _position(place: Place) -> tuple[str, int]:
    return place.spec.file, place.slot


def _unpadded(shard: FinishedShard, place: Place) -> NDArray[Any]:
    image = shard.image(place.slot)
    if image is None:
        raise PyradError(f"{place.spec.file} slot {place.slot} is empty, and its series needs it")
    if place.padding is None:
        return image
    low, high = place.padding
    return image[(image < low) | (image > high)]
