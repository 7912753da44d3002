"""A plan -> its shards, written where no earlier run finished them; the book learns their facts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from pyrad.ingest.assemble import note_facts
from pyrad.ingest.book import Book
from pyrad.ingest.near.pictures import Thumbnails
from pyrad.ingest.plan import Bucket, Plan, planned
from pyrad.ingest.workers.cluster import ClusterWorkers
from pyrad.ingest.workers.pool import Workers
from pyrad.ingest.write import Fact, ShardTask, write_shards
from pyrad.progress import Stage
from pyrad.store.layout import ArrayEntry
from pyrad.store.shard import ShardSpec
from pyrad.store.writer import StoreWriter


def write_plan(
    book: Book,
    plan: Plan,
    writer: StoreWriter,
    workers: Workers | ClusterWorkers,
    thumbnails: Thumbnails | None,
    stage: Stage,
) -> dict[int, ArrayEntry]:
    """Write the shards of ``plan``, which ``writer`` has begun; returns the array of each bucket.

    ``thumbnails`` takes the pictures of what is written.
    """
    arrays: dict[int, ArrayEntry] = {}
    under_way: dict[int, tuple[Bucket, ShardSpec]] = {}
    numbers = count()

    def tasks() -> Iterator[ShardTask]:
        shards = [*_shards(plan, writer, arrays)]
        for number, (bucket, spec, masks) in enumerate(shards, 1):
            done = writer.finished(spec)
            if done is not None and (masks is None or writer.finished(masks) is not None):
                note_facts(book, bucket, spec.first, [Fact.from_json(values) for values in done.facts])
                stage.advance(spec.slots, "resumed")
                continue
            under_way[next(numbers)] = bucket, spec
            slots = planned(book, bucket, spec.first, spec.slots)
            yield ShardTask(images=spec, masks=masks, slots=slots, left=len(shards) - number)

    for number, (facts, pictures) in write_shards(workers, tasks(), stage):
        bucket, spec = under_way.pop(number)
        note_facts(book, bucket, spec.first, facts)
        if thumbnails is not None and pictures is not None:
            thumbnails.take(bucket, spec.first, pictures)
    return arrays


def _shards(
    plan: Plan, writer: StoreWriter, arrays: dict[int, ArrayEntry]
) -> Iterator[tuple[Bucket, ShardSpec, ShardSpec | None]]:
    """Every shard of every bucket, and that of its masks where the bucket has any."""
    for bucket in plan.buckets:
        entry = writer.images(
            count=bucket.count,
            rows=bucket.geometry.rows,
            columns=bucket.geometry.columns,
            planes=bucket.geometry.planes,
            dtype=bucket.geometry.dtype,
        )
        arrays[bucket.id] = entry
        specs = writer.shards(entry)
        masks = writer.shards(writer.masks(entry)) if bucket.masked else [None] * len(specs)
        for spec, mask_spec in zip(specs, masks, strict=True):
            yield bucket, spec, mask_spec
