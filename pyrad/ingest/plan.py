"""A settled book -> the place of every new frame: decided before a pixel is written.

The plan is a pure function of the files, the options, the secret and what is committed. Its digest covers
all that shapes the bytes of the shards, so that an interrupted ingest is taken up by the same plan and by no
other. Splits are no part of it: they are assigned when the pixels are known (grouping.py).
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyrad.ingest.book import Book
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.selectors import parse_conditions

# Another version of these may decode or write other bytes.
_SHAPING_PACKAGES = (
    *("pyrad", "numpy", "pillow", "pyarrow", "pydicom"),
    *("pyjpegls", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle"),
)

_BUCKETS = """
INSERT INTO bucket(geometry, first, count, masks)
    SELECT geometry.id, 1 + sum(count(*)) OVER (ORDER BY planes, rows, columns, dtype) - count(*), count(*),
            max(masks)
        FROM frame JOIN geometry ON geometry.id = frame.geometry WHERE reason IS NULL
        GROUP BY geometry.id ORDER BY planes, rows, columns, dtype
"""
# Slots are numbered as they are entered. Keys are keyed hashes: their order is the permutation.
_SLOTS = """
INSERT INTO slot(frame) SELECT frame.id FROM frame JOIN bucket USING (geometry) WHERE reason IS NULL
    ORDER BY bucket.id, key
"""
_PLACED = """
SELECT bucket.id, first, count, masks, planes, rows, columns, dtype
    FROM bucket JOIN geometry ON geometry.id = bucket.geometry ORDER BY bucket.id
"""
_PLANNED = """
SELECT source, mark
    FROM slot JOIN frame ON frame.id = slot.frame JOIN file ON file.id = frame.file
    JOIN header ON header.frame = slot.frame
    WHERE slot.id >= ? AND slot.id < ? ORDER BY slot.id
"""
_SHAPING = """
SELECT key, mark, source
    FROM frame JOIN file ON file.id = frame.file JOIN header ON header.frame = frame.id
    WHERE frame.reason IS NULL
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """What the images of one bucket share."""

    rows: int
    columns: int
    planes: int
    dtype: str


class Planned(NamedTuple):
    """One frame to be stored, as a worker needs it."""

    packed: bytes  # its source
    mark: str  # of its file


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The new images of one geometry; their rows are numbered in the order of their keys."""

    id: int  # in the book
    geometry: Geometry
    first: int  # of its slots in the book: that of row 0
    count: int
    masked: bool  # whether a mask belongs to any of them


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one ingest adds to a store; the place of every frame stands in the book."""

    buckets: tuple[Bucket, ...]
    digest: str

    @property
    def count(self) -> int:
        """Images to be written."""
        return sum(bucket.count for bucket in self.buckets)


def make_plan(book: Book, *, options: IngestOptions, digest_key: bytes, base: str) -> Plan:
    """Permute and place the frames of ``book`` that are to be stored.

    ``base`` identifies the commit that the part will follow.
    """
    book.run(_BUCKETS)
    book.run(_SLOTS)
    book.run("CREATE INDEX slot_of_frame ON slot(frame)")
    buckets = (
        Bucket(
            id=number,
            geometry=Geometry(rows=rows, columns=columns, planes=planes, dtype=dtype),
            first=first,
            count=count,
            masked=bool(masked),
        )
        for number, first, count, masked, planes, rows, columns, dtype in book.each(_PLACED)
    )
    return Plan(buckets=tuple(buckets), digest=_digest(book, options, digest_key, base))


def planned(book: Book, bucket: Bucket, first: int, count: int) -> tuple[Planned, ...]:
    """``count`` images of a bucket from row ``first`` on."""
    rows = book.each(_PLANNED, (bucket.first + first, bucket.first + first + count))
    return tuple(map(Planned._make, rows))


def shaping_versions() -> dict[str, str]:
    """Package -> version of all that shapes a store's bytes; empty for one that is not installed."""
    return {name: _version(name) for name in _SHAPING_PACKAGES}


def recorded_options(options: IngestOptions) -> dict[str, Any]:
    """The options that shape a store's content, for its manifest."""
    names = (
        *("layout", "columns", "keep_columns", "group_by", "color", "frames", "include", "burned_in"),
        "near_duplicates",
    )
    values = {name: getattr(options, name) for name in names}
    if options.rules:
        values["burned_in"] = "rules"
        values["burned_in_rules"] = [rule.recorded() for rule in options.rules]
    if options.anatomy_table is not None:
        values["anatomy_table"] = "own"  # its words show in the samples; its patterns stay the user's
    values["select"] = [condition.recorded() for condition in parse_conditions(options.select)]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _digest(book: Book, options: IngestOptions, digest_key: bytes, base: str) -> str:
    """Keyed digest of everything that shapes the shards."""
    head = json.dumps([base, shaping_versions(), recorded_options(options)], sort_keys=True)
    # A sum does not depend on the order of the frames, so the book is read from beginning to end: in the
    # order of keys, each of a million frames would be another place on the disk.
    total = 0
    for key, mark, source in book.each(_SHAPING):
        mac = hashlib.blake2b(f"{key} {mark}\0".encode() + source, key=digest_key)
        total += int.from_bytes(mac.digest(), "little")
    return hmac.digest(digest_key, f"{head}\0{total:x}".encode(), "sha256").hex()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
