"""What leads back from a store to its files -> the private folder, readable by its owner alone.

``crosswalk.sqlite`` has one row a frame, or a file where it has none: the key in the store, the ledger's
name of the source, the file's archive, path and keyed digest, the keyed digest of its pixels, and how it
ended. Stores made with one secret share one folder: their keys are the same, and several may be written at
once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyrad.errors import PyradError
from pyrad.ingest.archive import path_text
from pyrad.ingest.book import Book
from pyrad.ingest.privacy.secret import data_folder

CROSSWALK_FILE = "crosswalk.sqlite"
FORMER_FILE = "crosswalk.parquet"  # of version 0.1.0; it is not read
_PATIENCE_S = 600  # for another ingest that writes its own rows
_NAMES_A_QUERY = 500
_KEY = re.compile(r"\b[0-9a-f]{32}\b")

# Stores and archives are few and their paths long: they stand in a table of their own.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS place(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS trace(
    store INTEGER NOT NULL REFERENCES place, source TEXT NOT NULL, key TEXT NOT NULL, frame INTEGER NOT NULL,
    archive INTEGER NOT NULL REFERENCES place, path TEXT NOT NULL, digest TEXT NOT NULL, pixels TEXT NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, grp TEXT NOT NULL, PRIMARY KEY(store, source, key))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS trace_of_key ON trace(key);
CREATE INDEX IF NOT EXISTS trace_of_source ON trace(source);
CREATE INDEX IF NOT EXISTS trace_of_group ON trace(grp);
"""
_SELECT = """
SELECT s.path, source, key, frame, a.path, trace.path, digest, pixels, reason, detail, grp
    FROM trace JOIN place s ON s.id = trace.store JOIN place a ON a.id = trace.archive
"""
# A frame that is stored already was not decoded again: what is known of its pixels stays.
_RECORD = """
INSERT INTO trace VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(store, source, key) DO UPDATE SET
    pixels = CASE WHEN excluded.pixels = '' AND excluded.digest = digest THEN pixels
        ELSE excluded.pixels END,
    frame = excluded.frame, archive = excluded.archive, path = excluded.path, digest = excluded.digest,
    reason = excluded.reason, detail = excluded.detail, grp = excluded.grp
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One row of the crosswalk."""

    store: str  # where the store lay when it was written
    source: str
    key: str = ""  # "" for a file without frames
    frame: int = 0
    archive: str
    path: str
    digest: str = ""
    pixels: str = ""  # "" where it was never decoded
    reason: str  # "stored", or a code of the ledger
    detail: str = ""
    group: str = ""  # of the frame in the store; "" for a file without frames


class PrivateFolder:
    """The private folder of a secret; made, mode 700, when something is written."""

    def __init__(self, path: Path | None, key_check: str) -> None:
        self.path = path if path is not None else data_folder() / key_check
        self._is_new = False

    @property
    def crosswalk(self) -> Path:
        """The file that leads back from keys to files."""
        return self.path / CROSSWALK_FILE

    @property
    def former(self) -> Path:
        """The crosswalk that version 0.1.0 wrote."""
        return self.path / FORMER_FILE

    @contextmanager
    def book(self, store: Path) -> Iterator[Book]:
        """The book of an ingest into ``store``, while it runs; a folder made for it alone goes with it."""
        self._make()
        try:
            with Book(self.path / self._book_name(store)) as book:
                yield book
        finally:
            if self._is_new and not any(self.path.iterdir()):
                self.path.rmdir()

    def drop_book(self, store: Path) -> None:
        """Remove what an ingest into ``store`` that was killed left here: it holds identifiers."""
        (self.path / self._book_name(store)).unlink(missing_ok=True)
        shutil.rmtree(self.workplace(store), ignore_errors=True)

    def workplace(self, store: Path) -> Path:
        """A private folder in this one while a part of ``store`` is made again; `drop_book` removes it."""
        return self.path / self._book_name(store).replace("book-", "repair-").removesuffix(".sqlite")

    def traces(self, store: str) -> Iterator[Trace]:
        """What earlier ingests into one store left here, by source; nothing where there is no crosswalk."""
        return self._select("WHERE s.path = ? ORDER BY store, source, key", [store])

    def find(self, names: Iterable[str]) -> Iterator[Trace]:
        """The traces of keys and groups of stores, and of sources as a ledger or a message names them."""
        wanted = list(names)
        for at in range(0, len(wanted), _NAMES_A_QUERY):
            some = wanted[at : at + _NAMES_A_QUERY]
            marks = ",".join("?" * len(some))
            yield from self._select(
                f"WHERE key IN ({marks}) OR source IN ({marks}) OR grp IN ({marks}) "
                "ORDER BY store, source, key",
                [*some, *some, *some],
            )

    def record(self, traces: Iterable[Trace]) -> None:
        """Add traces, replacing older ones of the same store, source and key."""
        self._make()
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            places: dict[str, int] = dict(db.execute("SELECT path, id FROM place"))

            def place(path: str) -> int:
                if path not in places:
                    cursor = db.execute("INSERT INTO place(path) VALUES (?)", (path,))
                    places[path] = cursor.lastrowid or 0
                return places[path]

            rows = (
                (
                    *(
                        place(path_text(t.store)),
                        t.source,
                        t.key,
                        t.frame,
                        place(path_text(t.archive)),
                        path_text(t.path),
                    ),
                    *(t.digest, t.pixels, t.reason, t.detail, t.group),
                )
                for t in traces
            )
            db.executemany(_RECORD, rows)
            db.execute("COMMIT")

    def write(self, name: str, data: bytes) -> None:
        """Put a file of this name into the folder as a whole, replacing what was there."""
        self._make()
        temporary = self.path / f".{name}-{os.getpid()}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            temporary.replace(self.path / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise PyradError(
                f"{self.path / name} cannot be written: {error.strerror}; nothing was committed"
            ) from None

    def remove(self, names: Iterable[str]) -> int:
        """Forget the traces of keys and groups, in every store; returns how many. Their bytes go, too.

        So do the pages and lists of near duplicates that have one of the keys.
        """
        names = set(names)
        for report in self.path.glob("near-duplicates-*"):
            if not names.isdisjoint(_KEY.findall(report.read_text(encoding="utf-8"))):
                report.unlink()
        if not self.crosswalk.exists():
            return 0
        with self._connected() as db:
            db.execute("PRAGMA secure_delete=ON")
            db.execute("BEGIN IMMEDIATE")
            both = ((name, name) for name in names)
            removed = db.executemany("DELETE FROM trace WHERE key = ? OR grp = ?", both).rowcount
            db.execute("COMMIT")
        return removed

    @staticmethod
    def _book_name(store: Path) -> str:
        return f"book-{hashlib.sha256(os.fsencode(store)).hexdigest()[:16]}.sqlite"

    def _select(self, condition: str, values: list[str]) -> Iterator[Trace]:
        if not self.crosswalk.exists():
            return
        names = tuple(Trace.__dataclass_fields__)
        with self._connected() as db:
            for row in db.execute(_SELECT + condition, values):
                yield Trace(**dict(zip(names, row, strict=True)))

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """The crosswalk, made where it is not there; what is not committed at the end is undone."""
        try:
            os.close(os.open(self.crosswalk, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(self.crosswalk, timeout=_PATIENCE_S, isolation_level=None)
            try:
                db.executescript("PRAGMA synchronous=FULL;" + _SCHEMA)
                yield db
            finally:
                db.close()
        except OSError as error:
            raise PyradError(f"{self.crosswalk} cannot be opened: {error.strerror}") from None
        except sqlite3.OperationalError as error:
            # SQLite says what it could not do, seldom why: a failing disk is "unable to open", or "readonly".
            raise PyradError(
                f"{self.crosswalk} cannot be used: {error}; see that its disk has room and can be written, "
                "and that no other program holds the file; nothing was committed"
            ) from None
        except sqlite3.DatabaseError:
            raise PyradError(
                f"{self.crosswalk} cannot be read: it is damaged; restore it from a copy, or move it away "
                "and give up the way back from keys to files"
            ) from None

    def _make(self) -> None:
        try:
            self._is_new |= not self.path.exists()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise PyradError(
                f"the private folder {self.path} cannot be used: {error.strerror}; name another by "
                f"--private DIR"
            ) from None
