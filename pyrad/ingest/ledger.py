"""What became of every file and frame -> the ledger's rows, counts by reason, the quarantine budget."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal

from pyrad.errors import QuarantineBudgetError
from pyrad.ingest.layouts import FileId
from pyrad.ingest.reasons import outcome

STORED = "stored"
ALREADY_STORED = "already-stored"
Outcome = Literal["stored", "skipped", "quarantined"]

# Skips of images that are in the store nevertheless: they are candidates of the quarantine budget.
_IN_STORE = frozenset({ALREADY_STORED, "duplicate", "duplicate-pixels"})


class Ledger:
    """Counts of frames by file and reason; a file without readable frames counts as one."""

    def __init__(self) -> None:
        self._frames: dict[FileId, Counter[str]] = defaultdict(Counter)
        self.details: dict[FileId, str] = {}

    def add(self, file: FileId, reason: str, frames: int = 1, detail: str = "") -> None:
        """Note that ``frames`` frames of a file ended for ``reason``: a code, or "stored"."""
        self._frames[file][reason] += frames
        if detail:
            self.details.setdefault(file, detail)

    def __iter__(self) -> Iterator[FileId]:
        return iter(self._frames)

    def reasons(self, file: FileId) -> Mapping[str, int]:
        """Reason -> frames of one file."""
        return self._frames[file]

    def outcome(self, file: FileId) -> Outcome:
        """How a file ended: the worst of its frames, but stored where any is and none is quarantined."""
        return _worst({_outcome(reason) for reason in self._frames[file]})

    def counts(self) -> dict[Outcome, int]:
        """Files by outcome; a file stored by an earlier ingest counts as skipped here."""
        counts = Counter(self.outcome(file) for file in self._frames)
        return {
            "stored": counts["stored"],
            "skipped": counts["skipped"],
            "quarantined": counts["quarantined"],
        }

    def by_reason(self) -> dict[str, dict[str, int]]:
        """Outcome -> reason -> files, most frequent first."""
        counts: dict[str, Counter[str]] = {
            "stored": Counter(),
            "skipped": Counter(),
            "quarantined": Counter(),
        }
        for reasons in self._frames.values():
            for reason in reasons:
                counts[_outcome(reason)][reason] += 1
        del counts["stored"][STORED]
        return {
            name: dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
            for name, counter in counts.items()
            if name != "stored"
        }

    @property
    def candidates(self) -> int:
        """Files to be stored: those that are, here or as a copy of another, and those that could not be."""
        return sum(
            self.outcome(file) != "skipped" or not _IN_STORE.isdisjoint(reasons)
            for file, reasons in self._frames.items()
        )

    def check_budget(self, share: float, *, pending: Collection[FileId] = ()) -> None:
        """QuarantineBudgetError where more than ``share`` of the candidates are quarantined.

        ``pending`` are candidates that are still to be written and count as good.
        """
        quarantined = self.counts()["quarantined"]
        total = self.candidates + sum(
            file not in self._frames or self.outcome(file) == "skipped" for file in pending
        )
        if quarantined > share * total:
            reasons = self.by_reason()["quarantined"]
            raise QuarantineBudgetError(
                f"{quarantined} of {total} images are quarantined ({100 * quarantined / total:.1f} %), "
                f"more than "
                f"--max-quarantine allows ({100 * share:g} %); nothing was committed: "
                + ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            )

    def rows(
        self, name: Callable[[str], str], before: Mapping[str, frozenset[tuple[str, str, int]]]
    ) -> list[tuple[str, str, str, int]]:
        """(source, outcome, reason, frames), sorted: what this ingest learned.

        ``name`` turns a path into what the ledger calls it; ``before`` holds each source's latest rows in the
        store: a source of which nothing else is known now is left out, and so is what is stored already.
        """
        frames: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        for (_, path), reasons in self._frames.items():
            for reason, count in reasons.items():
                if reason != ALREADY_STORED:
                    frames[name(path)][_outcome(reason), reason] += count
        rows: list[tuple[str, str, str, int]] = []
        for source, its in sorted(frames.items()):
            now = {(*what, count) for what, count in its.items()}
            if not now <= before.get(source, frozenset()):
                rows += [(source, *row) for row in sorted(now)]
        return rows

    def totals(
        self, name: Callable[[str], str], before: Mapping[str, frozenset[tuple[str, str, int]]]
    ) -> dict[Outcome, int]:
        """The store's files by outcome after this ingest; the newest word on a file counts."""
        found: dict[str, set[str]] = {source: {row[0] for row in rows} for source, rows in before.items()}
        now: dict[str, set[str]] = defaultdict(set)
        for (_, path), reasons in self._frames.items():
            now[name(path)] |= {
                STORED if reason == ALREADY_STORED else _outcome(reason) for reason in reasons
            }
        counts = Counter(_worst(outcomes) for outcomes in (found | now).values())
        return {
            "stored": counts["stored"],
            "skipped": counts["skipped"],
            "quarantined": counts["quarantined"],
        }


def _worst(outcomes: Collection[str]) -> Outcome:
    """One frame that should have been stored and could not makes its file quarantined."""
    if "quarantined" in outcomes:
        return "quarantined"
    return "stored" if STORED in outcomes else "skipped"


def _outcome(reason: str) -> Outcome:
    return "stored" if reason == STORED else outcome(reason)
