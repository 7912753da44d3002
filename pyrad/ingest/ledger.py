"""What became of the files and frames of a book -> counts by reason, the quarantine budget, ledger rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from pyrad.errors import QuarantineBudgetError
from pyrad.ingest.book import Book
from pyrad.ingest.reasons import outcome

STORED = "stored"
ALREADY_STORED = "already-stored"
Outcome = Literal["stored", "skipped", "quarantined"]

# Skips of images that are in the store nevertheless: they are candidates of the quarantine budget.
_IN_STORE = frozenset({ALREADY_STORED, "duplicate", "duplicate-pixels"})

_ENDINGS = f"""
SELECT reasons, count(*) FROM (
    SELECT group_concat(DISTINCT coalesce(reason, '{STORED}')) AS reasons FROM frame GROUP BY file
    UNION ALL SELECT reason FROM file WHERE reason IS NOT NULL)
GROUP BY reasons
"""  # noqa: S608 - a constant
_BY_NAME = f"""
SELECT name, reason, sum(frames) FROM (
    SELECT name, coalesce(frame.reason, '{STORED}') AS reason, 1 AS frames
        FROM frame JOIN file ON file.id = frame.file
    UNION ALL SELECT name, reason, 1 FROM file WHERE reason IS NOT NULL)
GROUP BY name, reason ORDER BY name
"""  # noqa: S608 - likewise
_QUARANTINED = """
SELECT id, name, reason, detail FROM file
    WHERE reason IN (SELECT reason FROM outcome WHERE outcome = 'quarantined')
UNION ALL
SELECT file.id, name, group_concat(DISTINCT frame.reason), max(frame.detail)
    FROM frame JOIN file ON file.id = frame.file
    WHERE frame.file IN (SELECT file FROM frame JOIN outcome USING (reason) WHERE outcome = 'quarantined')
        AND frame.reason IS NOT NULL
    GROUP BY frame.file
ORDER BY id LIMIT ?
"""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """How the files of an ingest ended; a file counts once for each reason that any of its frames has.

    A frame that is still to be written counts as stored.
    """

    endings: Mapping[frozenset[str], int]  # the reasons of a file's frames -> files of just these reasons

    def counts(self) -> dict[Outcome, int]:
        """Files by outcome; a file stored by an earlier ingest counts as skipped here."""
        counts: Counter[Outcome] = Counter()
        for reasons, files in self.endings.items():
            counts[_worst({_outcome(reason) for reason in reasons})] += files
        return _by_outcome(counts)

    def by_reason(self) -> dict[str, dict[str, int]]:
        """Outcome (skipped, quarantined) -> reason -> files, most frequent first."""
        counts: dict[str, Counter[str]] = {"skipped": Counter(), "quarantined": Counter()}
        for reasons, files in self.endings.items():
            for reason in reasons - {STORED}:
                counts[_outcome(reason)][reason] += files
        return {
            name: dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
            for name, counter in counts.items()
        }

    @property
    def candidates(self) -> int:
        """Files to be stored: those that are, here or as a copy of another, and those that could not be."""
        return sum(
            files
            for reasons, files in self.endings.items()
            if _worst({_outcome(reason) for reason in reasons}) != "skipped" or reasons & _IN_STORE
        )

    def check_budget(self, share: float) -> None:
        """QuarantineBudgetError where more than ``share`` of the candidates are quarantined."""
        quarantined, total = self.counts()["quarantined"], self.candidates
        if quarantined > share * total:
            reasons = self.by_reason()["quarantined"]
            raise QuarantineBudgetError(
                f"{quarantined} of {total} images are quarantined ({100 * quarantined / total:.1f} %), "
                f"more than "
                f"--max-quarantine allows ({100 * share:g} %); nothing was committed: "
                + ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            )


def read_ledger(book: Book) -> Ledger:
    """How the files of a book ended, as far as that is decided."""
    endings: Counter[frozenset[str]] = Counter()
    for reasons, files in book.each(_ENDINGS):
        endings[frozenset(reasons.split(","))] += files
    return Ledger(endings=endings)


def quarantined_files(book: Book, limit: int) -> Iterator[tuple[str, str, str]]:
    """Name, reasons and detail of the first ``limit`` files that are quarantined."""
    for _, name, reasons, detail in book.each(_QUARANTINED, (limit,)):
        yield name, reasons.replace(",", ", "), detail


def ledger_rows(book: Book) -> Iterator[tuple[str, str, str, int]]:
    """(source, outcome, reason, frames), sorted: what this ingest learned.

    A source of which the store's ledger says the same already is left out, and so is what is stored already.
    """
    old = book.one("SELECT count(*) FROM before")
    for source, rows in groupby(book.each(_BY_NAME), key=lambda row: row[0]):
        now = {(_outcome(reason), reason, frames) for _, reason, frames in rows if reason != ALREADY_STORED}
        latest = (
            book.each("SELECT outcome, reason, frames FROM before WHERE source = ?", (source,)) if old else ()
        )
        if not now <= set(latest):
            yield from ((source, *row) for row in sorted(now))


def totals(book: Book) -> dict[Outcome, int]:
    """The store's files by outcome after this ingest; the newest word on a file counts."""
    counts: Counter[Outcome] = Counter()
    for _, rows in groupby(book.each(_BY_NAME), key=lambda row: row[0]):
        counts[_worst({STORED if row[1] == ALREADY_STORED else _outcome(row[1]) for row in rows})] += 1
    earlier = book.each(
        "SELECT source, outcome FROM before WHERE source NOT IN (SELECT name FROM file) ORDER BY source"
    )
    for _, rows in groupby(earlier, key=lambda row: row[0]):
        counts[_worst({row[1] for row in rows})] += 1
    return _by_outcome(counts)


def _worst(outcomes: Collection[str]) -> Outcome:
    """One frame that should have been stored and could not makes its file quarantined."""
    if "quarantined" in outcomes:
        return "quarantined"
    return "stored" if STORED in outcomes else "skipped"


def _outcome(reason: str) -> Outcome:
    return "stored" if reason == STORED else outcome(reason)


def _by_outcome(counts: Mapping[Outcome, int]) -> dict[Outcome, int]:
    return {
        "stored": counts.get("stored", 0),
        "skipped": counts.get("skipped", 0),
        "quarantined": counts.get("quarantined", 0),
    }
