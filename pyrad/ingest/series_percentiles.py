"""Images of finished shards, by series -> the p1 and p99 of each whole series: MR has no unit of its own.

The brightness of an MR image says nothing but beside its neighbours, so all images of a series that one
ingest adds share their percentiles. They are read back once the shards are written; a task is some whole
series, so what a worker holds is one histogram, however many images there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from numpy.typing import NDArray

from pyrad.errors import PyradError
from pyrad.ingest.book import Book
from pyrad.ingest.packing import unpack_source
from pyrad.ingest.percentiles import Histogram
from pyrad.ingest.workers import pool
from pyrad.ingest.workers.cluster import ClusterWorkers
from pyrad.ingest.workers.pool import Workers
from pyrad.progress import Reporter
from pyrad.records import Source
from pyrad.store.layout import ArrayEntry
from pyrad.store.shard import FinishedShard, ShardSpec
from pyrad.store.writer import StoreWriter

_IMAGES_A_TASK = 512

_COUNT = "SELECT count(*) FROM frame WHERE relative AND reason IS NULL"
_RELATIVE = """
SELECT series, frame.id, bucket, row, source FROM frame JOIN fact ON fact.frame = frame.id
    JOIN header ON header.frame = frame.id WHERE relative AND reason IS NULL ORDER BY series, key
"""
_TAKE = """
UPDATE fact SET (low, high) = (SELECT low, high FROM of_series WHERE of_series.frame = fact.frame)
    WHERE frame IN (SELECT frame FROM of_series)
"""


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


def share_percentiles(
    book: Book,
    arrays: Mapping[int, ArrayEntry],
    writer: StoreWriter,
    workers: Workers | ClusterWorkers,
    reporter: Reporter,
) -> None:
    """Give every image whose values are relative the percentiles of its series in place of its own.

    ``arrays`` are those of all buckets, whose shards are finished. Images of one series that are rescaled
    differently share only with their like.
    """
    total = book.one(_COUNT)
    if not total:
        return
    specs = {bucket: writer.shards(entry) for bucket, entry in arrays.items()}
    under_way: dict[int, list[list[int]]] = {}

    def tasks() -> Iterator[SeriesTask]:
        for number, batch in enumerate(_batches(book, specs)):
            under_way[number] = [[frame for frame, _ in images] for images in batch]
            yield SeriesTask(series=tuple(tuple(place for _, place in images) for images in batch))

    with reporter.stage("series", total, "images") as stage:
        for number, results in workers.run(series_percentiles, tasks(), stage):
            found = zip(under_way.pop(number), results, strict=True)
            book.many(
                "INSERT INTO of_series VALUES (?, ?, ?)",
                ((frame, *ends) for frames, ends in found for frame in frames),
            )
    book.run(_TAKE)


def _batches(book: Book, specs: Mapping[int, Sequence[ShardSpec]]) -> Iterator[list[list[tuple[int, Place]]]]:
    """Whole series of frames and their places, some at a time."""
    batch: list[list[tuple[int, Place]]] = []
    for _, rows in groupby(book.each(_RELATIVE), key=itemgetter(0)):
        alike: dict[Any, list[tuple[int, Place]]] = defaultdict(list)
        for _series, frame, bucket, row, packed in rows:
            source = unpack_source(packed)
            shards = specs[bucket]
            spec = shards[row // shards[0].shard_n]
            place = Place(spec=spec, slot=row - spec.first, padding=source.padding)
            alike[source.slope, source.intercept, source.modality_lut].append((frame, place))
        batch += alike.values()
        if sum(map(len, batch)) >= _IMAGES_A_TASK:
            yield batch
            batch = []
    if batch:
        yield batch


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
