"""A plan and what its shards taught -> samples rows; equal pixels of different groups become one image."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pyrad.ingest.book import Book, batched, pack_labels, unpack_labels
from pyrad.ingest.ledger import ledger_rows
from pyrad.ingest.packing import unpack_source
from pyrad.ingest.plan import Bucket
from pyrad.ingest.write import Fact
from pyrad.records import SPLITS, Lut, Sample, Source, Split
from pyrad.store import tables
from pyrad.store.layout import ArrayEntry
from pyrad.store.luts import number_luts

_ROWS_A_BATCH = 2048

# Pixels that several new groups have, or that the store has.
_EQUAL = """
SELECT pixels FROM fact JOIN frame ON frame.id = fact.frame WHERE reason IS NULL
    GROUP BY pixels HAVING count(DISTINCT grp) > 1
UNION SELECT pixels FROM fact JOIN stored_pixels USING (pixels)
"""
_OF_PIXELS = """
SELECT frame.id, grp, labels FROM fact JOIN frame ON frame.id = fact.frame
    WHERE pixels = ? AND reason IS NULL ORDER BY key
"""
_SAMPLES = """
SELECT frame.key, bucket, row, frame.grp, study, series, coalesce(merged.labels, frame.labels),
        group_split.split, low, high, mask, slice, source
    FROM frame JOIN fact ON fact.frame = frame.id
    JOIN header ON header.frame = frame.id JOIN group_split USING (grp)
    LEFT JOIN merged ON merged.frame = frame.id LEFT JOIN rank ON rank.frame = frame.id
    WHERE reason IS NULL ORDER BY frame.key
"""
_SPLITS = """
SELECT group_split.split, count(*) FROM frame JOIN fact ON fact.frame = frame.id JOIN group_split USING (grp)
    WHERE reason IS NULL GROUP BY group_split.split
"""
_USED = """
SELECT bucket, max(mask) FROM frame JOIN fact ON fact.frame = frame.id WHERE reason IS NULL
    GROUP BY bucket ORDER BY bucket
"""
_LUTS = "SELECT source FROM frame JOIN header ON header.frame = frame.id WHERE reason IS NULL AND luts"


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """What is to be committed; its rows are read from the book."""

    splits: Mapping[Split, int]  # images by split
    arrays: Mapping[int, ArrayEntry]  # bucket -> its array, where an image of it is stored
    masked: frozenset[int]  # those of which an image has a mask
    luts: Mapping[Lut, int]

    @property
    def images(self) -> int:
        """Images to be committed."""
        return sum(self.splits.values())


def note_facts(book: Book, bucket: Bucket, first: int, facts: Sequence[Fact]) -> None:
    """Enter what was learned of the slots of a bucket from row ``first`` on."""
    slots = book.each(
        "SELECT frame FROM slot WHERE id >= ? AND id < ? ORDER BY id",
        (bucket.first + first, bucket.first + first + len(facts)),
    )
    told = [
        (frame, row, fact) for row, ((frame,), fact) in enumerate(zip(slots, facts, strict=True), start=first)
    ]
    book.many(
        "INSERT INTO fact VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (frame, bucket.id, row, *fact.percentiles, fact.pixels, fact.mask)
            for frame, row, fact in told
            if fact.reason is None
        ),
    )
    book.many(
        "UPDATE file SET digest = ? WHERE id = (SELECT file FROM frame WHERE frame.id = ?)",
        ((fact.file, frame) for frame, _, fact in told if fact.file),
    )
    book.many(
        "UPDATE frame SET reason = ?, detail = ? WHERE id = ?",
        ((fact.reason, fact.detail, frame) for frame, _, fact in told if fact.reason is not None),
    )


def merge_equal(book: Book) -> None:
    """Of equal pixels in several groups one image stays, with the labels of all; a committed one as it is.

    Equal pixels within one group stay: they cannot get into two splits, and a volume keeps its slices.
    """
    book.run("CREATE INDEX fact_of_pixels ON fact(pixels)")
    for (pixels,) in [*book.each(_EQUAL)]:
        rows = [*book.each(_OF_PIXELS, (pixels,))]
        before = {
            group for (group,) in book.each("SELECT grp FROM stored_pixels WHERE pixels = ?", (pixels,))
        }
        if len(before | {group for _, group, _ in rows}) == 1:
            continue
        if not before:
            labels = tuple(sorted({label for _, _, its in rows for label in unpack_labels(its)}))
            book.run("INSERT INTO merged VALUES (?, ?)", (rows[0][0], pack_labels(labels)))
        book.many(
            "UPDATE frame SET reason = 'duplicate-pixels' WHERE id = ?",
            ((frame,) for frame, _, _ in (rows if before else rows[1:])),
        )


def assemble(book: Book, arrays: Mapping[int, ArrayEntry]) -> Assembled:
    """Count what is to be committed; ``arrays`` are those of all buckets."""
    counts = dict(book.each(_SPLITS))
    used = dict(book.each(_USED))
    sources = (unpack_source(packed) for (packed,) in book.each(_LUTS))
    return Assembled(
        splits={split: counts.get(split, 0) for split in SPLITS},
        arrays={bucket: arrays[bucket] for bucket in used},
        masked=frozenset(bucket for bucket, mask in used.items() if mask),
        luts=number_luts(lut for source in sources for lut in (source.voi_lut, source.modality_lut)),
    )


def samples_table(book: Book, assembled: Assembled, kept_columns: Collection[str]) -> pa.Table:
    """The samples table, made batch by batch: only its columns are held as a whole."""
    buckets = [entry.path for entry in assembled.arrays.values()]
    return pa.concat_tables(
        tables.samples_table(batch, assembled.luts, buckets=buckets, kept_columns=kept_columns)
        for batch in batched(samples(book, assembled), _ROWS_A_BATCH)
    )


def ledger_table(book: Book) -> pa.Table:
    """The ledger, likewise; empty where the ledgers before say the same of every file."""
    batches = map(tables.ledger_table, batched(ledger_rows(book), _ROWS_A_BATCH))
    return pa.concat_tables([tables.ledger_table(()), *batches])


def samples(book: Book, assembled: Assembled) -> Iterator[Sample]:
    """The rows of the samples table, in the order of their keys."""
    for key, bucket, row, group, study, series, labels, split, low, high, mask, rank, packed in book.each(
        _SAMPLES
    ):
        source = unpack_source(packed)
        yield Sample(
            key=key,
            bucket=assembled.arrays[bucket].path,
            row=row,
            group=group,
            study=study,
            series=series,
            labels=unpack_labels(labels),
            split=split,
            window_center=tuple(window.center for window in source.windows),
            window_width=tuple(window.width for window in source.windows),
            voi_function=source.windows[0].function if source.windows else None,
            percentiles=(low, high),
            slice_index=rank,
            mask=bool(mask),
            **_same(source),
        )


def _same(source: Source) -> dict[str, Any]:
    return {
        name: getattr(source, name)
        for name in (
            *("frame", "modality", "anatomy", "rows", "columns", "slope", "intercept", "photometric"),
            *("voi_lut", "modality_lut", "bits_stored", "padding", "spacing_mm", "laterality", "view", "sex"),
            *("age_band", "manufacturer", "lossy", "warnings", "kept"),
        )
    }
