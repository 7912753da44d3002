"""Scanned files -> the same with labels, patients and splits, one file at a time.

What can only be known of all files together (whether most are DICOM, which folders there are) is counted
first, in a `Census`; then any file is arranged on its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pyrad.ingest.layouts import FileId, Listing, Selection
from pyrad.ingest.layouts.folders import believe_classes, folder_labels, wrapper_of
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.table import Row
from pyrad.records import Source, Split

Arranger = Callable[[FileId, Sequence[Source]], tuple[Source, ...]]


@dataclass(kw_only=True)
class Census:
    """What the scan found in one archive, in counts: all that a layout needs before it can label a file."""

    images: int = 0
    dicom: int = 0
    folders: Counter[str] = field(default_factory=Counter)  # folder -> images that lie in it

    def count(self, first: Source) -> None:
        """Count one image file, by the first of its frames."""
        self.images += 1
        self.dicom += first.kind == "dicom"
        self.folders[first.path.rpartition("/")[0]] += 1


def make_arranger(
    found: Sequence[Census], selection: Selection, listings: Sequence[Listing], options: IngestOptions
) -> tuple[Arranger, list[str]]:
    """What gives the frames of a file their labels, patient and split, by its archive's layout; and notes.

    A table wins over DICOM tags in what it says, and tags fill in the rest. UsageError where ``auto`` finds
    folders that do not look like classes.
    """
    arrangers: list[Arranger] = []
    notes: list[str] = []
    for listing, census, chosen in zip(listings, found, selection.layouts, strict=True):
        layout = chosen
        if layout == "auto":
            layout = "dicom" if 2 * census.dicom > census.images else "folder"
        if layout == "table":
            arrangers.append(partial(_by_table, selection.rows))
        elif layout == "folder":
            labels = folder_labels(census.folders, wrapper_of(listing))
            counts: Counter[str] = Counter()
            for folder, images in census.folders.items():
                counts[labels[folder][0]] += images
            if options.layout == "auto":
                believe_classes(counts, listing.path.name)
            arrangers.append(partial(_by_folder, labels))
            if any(counts):
                notes.append(f"{listing.path.name}: {sum(map(bool, counts))} folders are taken as classes")
        else:
            arrangers.append(_as_tagged)
            if census.images:
                notes.append(f"{listing.path.name}: DICOM tags are read; without a table there are no labels")

    def arrange(file: FileId, frames: Sequence[Source]) -> tuple[Source, ...]:
        return arrangers[file[0]](file, frames)

    return arrange, notes


def _as_tagged(_file: FileId, frames: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(frames)


def _by_folder(
    labels: Mapping[str, tuple[str, Split | None]], file: FileId, frames: Sequence[Source]
) -> tuple[Source, ...]:
    label, split = labels[file[1].rpartition("/")[0]]
    facts: dict[str, Any] = {"labels": (label,) if label else (), "split": split}
    return tuple(replace(frame, **facts) for frame in frames)


def _by_table(rows: Mapping[FileId, Row], file: FileId, frames: Sequence[Source]) -> tuple[Source, ...]:
    row = rows[file]
    facts: dict[str, Any] = {
        name: getattr(row, name) for name in ("labels", "split", "masks", "mask_from", "outlines")
    }
    for name in ("patient", "study", "series", "modality", "anatomy"):
        if getattr(row, name):
            facts[name] = getattr(row, name)
    if row.kept:
        facts["kept"] = row.kept
    return tuple(replace(frame, **facts) for frame in frames)
