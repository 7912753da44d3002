"""The book of an ingest: one row a file, one row a frame, in one SQLite file of the private folder.

What the scan reports goes in as it comes, and every later step is a query that brings only the rows of
interest into Python: a million files cost disk, not memory. The book holds identifiers, so it lies in the
private folder, is readable by its owner alone, and is removed when the run ends. It is never taken up again:
a run that follows a killed one begins its own. What SQLite sorts may pass through a temporary file elsewhere:
so nothing is sorted but keyed hashes, labels and places in a series.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pyrad.errors import PyradError
from pyrad.ingest.reasons import REASONS
from pyrad.records import Source

_CACHE_KIB = 16 << 10
_PAGE_BYTES = 16 << 10  # a packed source fits four times into one of the default size
_ROWS_A_FETCH = 1024

_SCHEMA = """
CREATE TABLE outcome(reason TEXT PRIMARY KEY, outcome TEXT NOT NULL) WITHOUT ROWID;

-- One row a file, numbered in the order of the listings.
CREATE TABLE file(
    id INTEGER PRIMARY KEY,
    archive INTEGER NOT NULL,
    path BLOB NOT NULL,
    size INTEGER NOT NULL,
    name TEXT NOT NULL,                -- what the ledger calls it
    mark TEXT NOT NULL,                -- keyed, of what the scan read of it
    digest TEXT NOT NULL,              -- keyed, of all its bytes; '' where nothing asked for it yet
    identity BLOB,                     -- equal for files that claim to be one image; NULL without frames
    uid INTEGER NOT NULL,              -- whether the identity is a SOP Instance UID's
    reason TEXT,                       -- why it has no frames; NULL where it has
    detail TEXT NOT NULL,
    kind TEXT NOT NULL);               -- the standard's name of its SOP class; raster, npy; '' for others
CREATE INDEX file_of_reason ON file(reason) WHERE reason IS NOT NULL;

-- One row a frame, a file's one after the other: its packed source. Apart from the rest: few steps need it.
CREATE TABLE header(frame INTEGER PRIMARY KEY, file INTEGER NOT NULL, source BLOB NOT NULL);

-- What key objects and segmentations say of images (references.py).
CREATE TABLE reference(
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL, frame INTEGER,  -- of the image; NULL: every frame
    role TEXT NOT NULL,
    file INTEGER NOT NULL,             -- that says it
    own_uid TEXT NOT NULL, own_frame INTEGER NOT NULL, rows INTEGER NOT NULL, columns INTEGER NOT NULL,
    fate TEXT NOT NULL);               -- of a mask: used, size, absent, no-image

CREATE TABLE geometry(id INTEGER PRIMARY KEY, planes INTEGER NOT NULL, rows INTEGER NOT NULL,
    columns INTEGER NOT NULL, dtype TEXT NOT NULL);

-- One row a frame. Its reason is NULL where it is to be stored, and stays so where it was.
CREATE TABLE frame(
    id INTEGER PRIMARY KEY,            -- as that of its header
    file INTEGER NOT NULL,
    frame INTEGER NOT NULL,
    key TEXT NOT NULL,                 -- '' for a frame that was not chosen
    grp TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL,
    alone INTEGER NOT NULL,            -- whether nothing is known that groups it with others
    geometry INTEGER,                  -- NULL for a frame that was not chosen
    dicom INTEGER NOT NULL,
    position REAL, instance INTEGER,   -- its place in its series
    masks INTEGER NOT NULL,            -- whether any belongs to it
    luts INTEGER NOT NULL,             -- whether it has lookup tables
    relative INTEGER NOT NULL,         -- whether its values mean nothing but beside those of its series
    split TEXT,                        -- what its layout says
    labels TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL);

-- The store before this ingest (committed.py).
CREATE TABLE committed(key TEXT PRIMARY KEY, at INTEGER NOT NULL, grp TEXT NOT NULL, labels TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE committed_group(grp TEXT PRIMARY KEY, split TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE before(source TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    frames INTEGER NOT NULL, PRIMARY KEY(source, outcome, reason)) WITHOUT ROWID;
CREATE TABLE known(key TEXT NOT NULL, source TEXT NOT NULL, digest TEXT NOT NULL, pixels TEXT NOT NULL,
    reason TEXT NOT NULL, PRIMARY KEY(key, source)) WITHOUT ROWID;
CREATE TABLE stored_pixels(pixels TEXT NOT NULL, grp TEXT NOT NULL, PRIMARY KEY(pixels, grp)) WITHOUT ROWID;

-- Files of which all bytes are digested; files and committed images whose pixels are compared (settle.py).
CREATE TABLE to_digest(file INTEGER PRIMARY KEY);
CREATE TABLE unproven(key TEXT PRIMARY KEY, pixels TEXT) WITHOUT ROWID;
CREATE TABLE doubtful(identity BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE to_decode(digest TEXT PRIMARY KEY, file INTEGER NOT NULL, answer BLOB) WITHOUT ROWID;

-- The plan (plan.py).
CREATE TABLE rank(frame INTEGER PRIMARY KEY, slice INTEGER NOT NULL);
CREATE TABLE bucket(id INTEGER PRIMARY KEY, geometry INTEGER NOT NULL, first INTEGER NOT NULL,
    count INTEGER NOT NULL, masks INTEGER NOT NULL);
CREATE TABLE slot(id INTEGER PRIMARY KEY, frame INTEGER NOT NULL);  -- row 0 of a bucket is its first

-- What the shards taught, and what follows from it (assemble.py, series_percentiles.py, grouping.py).
CREATE TABLE fact(frame INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, row INTEGER NOT NULL,
    low REAL NOT NULL, high REAL NOT NULL, pixels TEXT NOT NULL, mask INTEGER NOT NULL);
CREATE TABLE of_series(frame INTEGER PRIMARY KEY, low REAL NOT NULL, high REAL NOT NULL);
CREATE TABLE near_group(id INTEGER PRIMARY KEY, grp TEXT NOT NULL UNIQUE);
CREATE TABLE merged(frame INTEGER PRIMARY KEY, labels TEXT NOT NULL);
CREATE TABLE group_split(grp TEXT PRIMARY KEY, split TEXT NOT NULL) WITHOUT ROWID;
"""

Row = TypeVar("Row")


class Book:
    """A new, empty book at ``path``, or one in memory, which never touches a disk (None); used as a context.

    ``path`` is replaced where a killed run left one there, and removed at the end. A disk that fails
    becomes a PyradError.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def __enter__(self) -> Self:
        name = ":memory:"
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            name = f"{self._path.resolve().as_uri()}?nolock=1"  # the store's own lock keeps others away
        self._db = sqlite3.connect(name, uri=self._path is not None, isolation_level=None)
        try:
            # One transaction that is never undone: nothing of it is read after this process.
            self._db.executescript(
                f"PRAGMA page_size={_PAGE_BYTES}; PRAGMA cache_size=-{_CACHE_KIB};"
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
                f"PRAGMA temp_store={'MEMORY' if self._path is None else 'DEFAULT'};"
                f"{_SCHEMA} BEGIN;"
            )
            outcomes = [(code, what) for code, (what, _) in REASONS.items()]
            self.many("INSERT INTO outcome VALUES (?, ?)", outcomes)
        except sqlite3.Error as error:
            self._end(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._db.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            place = "memory" if self._path is None else str(self._path.parent)
            raise PyradError(
                f"the book of the ingest in {place} cannot be kept: {error}; nothing was committed; see "
                "that its disk has room and can be written, or name another folder by --private DIR"
            ) from None

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute one statement; returns how many rows it changed."""
        return self._db.execute(statement, values).rowcount

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute one statement for each of ``rows``."""
        self._db.executemany(statement, rows)

    def each(self, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """The rows of a query, fetched as they are wanted; what is queried must not change meanwhile."""
        cursor = self._db.execute(query, values)
        while rows := cursor.fetchmany(_ROWS_A_FETCH):
            yield from rows

    def one(self, query: str, values: Sequence[Any] = ()) -> Any:
        """The first value of the first row of a query; None where there is no row."""
        row = self._db.execute(query, values).fetchone()
        return None if row is None else row[0]


def is_masked(source: Source) -> bool:
    """Whether a mask belongs to a frame, in whatever form."""
    return bool(source.masks or source.outlines or source.segments)


@lru_cache(4096)
def pack_labels(labels: tuple[str, ...]) -> str:
    """Labels as the book keeps them: equal text for equal labels."""
    return json.dumps(labels)


@lru_cache(4096)
def unpack_labels(text: str) -> tuple[str, ...]:
    """The inverse of `pack_labels`."""
    return tuple(json.loads(text))


def batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Lists of ``size`` rows, the last one shorter."""
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch
