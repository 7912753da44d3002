"""A settled book -> what an ingest would store and leave out: the result of ``--dry-run``.

What only the pixels can tell is not in it: frames that do not decode, equal and near-equal pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyrad.errors import QuarantineBudgetError
from pyrad.ingest.book import Book, unpack_labels
from pyrad.ingest.ledger import STORED, Ledger
from pyrad.ingest.packing import unpack_source
from pyrad.ingest.reasons import KEPT_BY
from pyrad.ingest.summary import QUARANTINED_EXIT_CODE, told_reasons
from pyrad.records import SPLITS

_SHOWN = 20  # of each kind of count, on a terminal

_CLASSES = f"""
SELECT kind, reason, count(DISTINCT file) FROM (
    SELECT kind, coalesce(frame.reason, '{STORED}') AS reason, file.id AS file
        FROM frame JOIN file ON file.id = frame.file
    UNION ALL SELECT kind, reason, id FROM file WHERE reason IS NOT NULL)
GROUP BY kind, reason ORDER BY kind, count(DISTINCT file) DESC, reason
"""  # noqa: S608 - a constant
_SIZES = """
SELECT rows || 'x' || columns || CASE planes WHEN 1 THEN ' ' ELSE 'x' || planes || ' ' END || dtype, count(*)
    FROM frame JOIN geometry ON geometry.id = frame.geometry WHERE reason IS NULL
    GROUP BY geometry.id ORDER BY 2 DESC, 1
"""
_LABELS = "SELECT labels, count(*) FROM frame WHERE reason IS NULL GROUP BY labels"
_SPLITS = """
SELECT group_split.split, count(*) FROM group_split JOIN frame USING (grp) WHERE reason IS NULL GROUP BY 1
"""
_HEADERS = "SELECT source FROM header JOIN frame ON frame.id = header.frame WHERE reason IS NULL"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What would become of the files; counts are of images to be stored, unless they say files."""

    store: str
    images: int
    splits: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]  # SOP class, raster or npy -> reason or stored -> files
    modalities: Mapping[str, int]
    labels: Mapping[str, int]
    sizes: Mapping[str, int]  # rows x columns and type
    files: Mapping[str, int]  # stored, skipped, quarantined
    skipped: Mapping[str, int]  # reason -> files
    quarantined: Mapping[str, int]  # reason -> files
    kept_by: Mapping[str, str]  # reason -> the option that stores what is skipped for it
    refused: str  # why nothing would be committed, or ""

    @property
    def exit_code(self) -> int:
        """That of the ingest, as far as headers tell: 0, 3 or 4."""
        if self.refused:
            return QuarantineBudgetError.exit_code
        return QUARANTINED_EXIT_CODE if self.files["quarantined"] else 0

    def as_record(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "dry_run": True, "exit_code": self.exit_code}

    def as_text(self) -> str:
        """Counts for a terminal."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"nothing was written; {self.store} would get {self.images:,} images of "
            f"{self.files['stored']:,} files: {_counts(self.splits)}"
        )
        for kind, endings in self.classes.items():
            yield f"  {kind or 'no image'} (files): {_counts(endings)}"
        for name in ("modalities", "labels", "sizes"):
            if getattr(self, name):
                yield f"{name}: {_counts(getattr(self, name))}"
        for outcome, reasons in (("skipped", self.skipped), ("quarantined", self.quarantined)):
            if reasons:
                yield f"{outcome} {self.files[outcome]:,} files: {told_reasons(reasons)}"
        if self.refused:
            yield self.refused


def preview(book: Book, ledger: Ledger, *, store: str, quarantine_share: float) -> Preview:
    """Count what stands in ``book``, whose groups have their splits."""
    classes: dict[str, dict[str, int]] = {}
    for kind, reason, files in book.each(_CLASSES):
        classes.setdefault(kind, {})[reason] = files
    labels: Counter[str] = Counter()
    for packed, images in book.each(_LABELS):
        labels.update(dict.fromkeys(unpack_labels(packed), images))
    modalities = Counter(unpack_source(source).modality or "unknown" for (source,) in book.each(_HEADERS))
    splits = dict(book.each(_SPLITS))
    by_reason = ledger.by_reason()
    return Preview(
        store=store,
        images=sum(modalities.values()),
        splits={split: splits.get(split, 0) for split in SPLITS},
        classes=classes,
        modalities=_by_count(modalities),
        labels=_by_count(labels),
        sizes=dict(book.each(_SIZES)),
        files={str(outcome): count for outcome, count in ledger.counts().items()},
        skipped=by_reason["skipped"],
        quarantined=by_reason["quarantined"],
        kept_by={reason: KEPT_BY[reason] for reason in by_reason["skipped"] if reason in KEPT_BY},
        refused=_refusal(ledger, quarantine_share),
    )


def _refusal(ledger: Ledger, quarantine_share: float) -> str:
    try:
        ledger.check_budget(quarantine_share)
    except QuarantineBudgetError as error:
        return str(error)
    return ""


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _counts(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:_SHOWN])
    return shown + (f", and {len(counts) - _SHOWN:,} more" if len(counts) > _SHOWN else "")
