"""What an ingest did -> a record for machines, a few lines for people, an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyrad.ingest.reasons import KEPT_BY

QUARANTINED_EXIT_CODE = 3  # finished, some inputs quarantined


@dataclass(frozen=True, kw_only=True)
class IngestSummary:
    """The result of one ingest; counts are files, except ``images`` and ``splits``, which are samples."""

    store: str
    part: str | None  # the part that was committed; None where nothing was new
    images: int  # samples added
    splits: Mapping[str, int]  # samples added, by split
    files: Mapping[str, int]  # stored, skipped, quarantined
    skipped: Mapping[str, int]  # reason -> files
    quarantined: Mapping[str, int]  # reason -> files
    near_duplicates: Mapping[str, int]  # clusters, and the images in them
    store_images: int  # samples in the store now
    source_bytes: int  # of the files that were read
    store_bytes: int  # of the part that was committed
    seconds: float

    @property
    def exit_code(self) -> int:
        """0, or 3 where a file is quarantined."""
        return QUARANTINED_EXIT_CODE if self.files["quarantined"] else 0

    def as_record(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "exit_code": self.exit_code}

    def as_text(self) -> str:
        """A few lines for a terminal."""
        if self.part is None:
            head = f"nothing is new: {self.store} keeps its {self.store_images:,} images"
        else:
            splits = ", ".join(f"{split} {count:,}" for split, count in self.splits.items())
            head = (
                f"stored {self.images:,} images of {self.files['stored']:,} files as part {self.part} of "
                f"{self.store}: "
                f"{splits}"
            )
        rate = self.source_bytes / max(self.seconds, 1e-9) / 1e6
        lines = [head]
        for outcome, reasons in (("skipped", self.skipped), ("quarantined", self.quarantined)):
            if reasons:
                lines.append(f"{outcome} {self.files[outcome]:,} files: {told_reasons(reasons)}")
        if self.near_duplicates["clusters"]:
            lines.append(
                f"near duplicates: {self.near_duplicates['images']:,} images in "
                f"{self.near_duplicates['clusters']:,} clusters"
            )
        lines.append(
            f"{self.source_bytes / 1e6:,.1f} MB read, {self.store_bytes / 1e6:,.1f} MB written in "
            f"{self.seconds:,.1f} s "
            f"({rate:,.1f} MB/s)"
        )
        return "\n".join(lines)


def told_reasons(reasons: Mapping[str, int]) -> str:
    """Each reason with its files, and with the option that keeps what a policy skips."""
    return ", ".join(
        f"{reason} {count:,}" + (f" ({KEPT_BY[reason]} keeps them)" if reason in KEPT_BY else "")
        for reason, count in reasons.items()
    )
