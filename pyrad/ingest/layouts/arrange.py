"""Scanned files -> the same with labels, patients and splits, one file at a time.

What can only be known of all files together (whether most are DICOM, which folders there are) is counted
first, in a `Census`; then any file is arranged on its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pyrad.ingest.layouts import FileId, Listing, Selection
from pyrad.ingest.layouts.folders import believe_classes, folder_labels, wrapper_of
from pyrad.ingest.layouts.join import Matches
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.packing import unpack_source
from pyrad.ingest.table import Row
from pyrad.records import Source, Split

_LIKE_A_MASK = re.compile(r"[ _-](?:mask|seg|segmentation)s?(?:_\d+)?\.[a-z]+\Z", re.IGNORECASE)

Arranger = Callable[[FileId, Sequence[Source]], tuple[Source, ...]]


@dataclass(kw_only=True)
class Census:
    """What the scan found in one archive, in counts: all that a layout needs before it can label a file."""

    images: int = 0
    dicom: int = 0
    folders: Counter[str] = field(default_factory=Counter)  # folder -> images that lie in it
    matches: Matches | None = None  # where a table joins by what headers say

    def count(self, path: str, first: bytes, *, dicom: bool) -> None:
        """Count one image file; ``first`` is the first of its frames, packed."""
        self.images += 1
        self.dicom += dicom
        self.folders[path.rpartition("/")[0]] += 1
        if self.matches is not None:
            self.matches.count(unpack_source(first))


def new_census(selection: Selection) -> list[Census]:
    """Nothing counted yet, for each archive; those of one table count their matches together."""
    matches = {id(join): Matches(join) for join in selection.joins.values()}
    joins = [selection.joins.get(archive) for archive in range(len(selection.layouts))]
    return [Census(matches=matches[id(join)] if join else None) for join in joins]


def make_arranger(
    found: Sequence[Census], selection: Selection, listings: Sequence[Listing], options: IngestOptions
) -> tuple[Arranger, list[str]]:
    """What gives the frames of a file their labels, patient and split, by its archive's layout; and notes.

    A table wins over DICOM tags in what it says, and tags fill in the rest. The arranger raises Rejected for
    a file that a joined table does not mean. UsageError where ``auto`` finds folders that do not look like
    classes, or where no row of a joined table fits a file.
    """
    arrangers: list[Arranger] = []
    notes: list[str] = []
    for archive, listing in enumerate(listings):
        arranger, said = _of_archive(archive, listing, found[archive], selection, options)
        arrangers.append(arranger)
        notes += said
    for matches in dict.fromkeys(census.matches for census in found if census.matches):
        notes += matches.notes()

    def arrange(file: FileId, frames: Sequence[Source]) -> tuple[Source, ...]:
        return arrangers[file[0]](file, frames)

    return arrange, notes


def _of_archive(
    archive: int, listing: Listing, census: Census, selection: Selection, options: IngestOptions
) -> tuple[Arranger, list[str]]:
    name, layout = listing.path.name, selection.layouts[archive]
    if census.matches is not None:
        return partial(_by_header, census.matches), []
    if layout == "table":
        return partial(_by_table, selection.rows), []
    if layout == "dicom" or (layout == "auto" and 2 * census.dicom > census.images):
        told = [f"{name}: DICOM tags are read; without a table there are no labels"]
        return _as_tagged, told if census.images else []
    labels = folder_labels(census.folders, wrapper_of(listing))
    images: Counter[str] = Counter()
    for folder, count in census.folders.items():
        images[labels[folder][0]] += count
    if options.layout == "auto":
        believe_classes(images, name)
    told = [f"{name}: {sum(map(bool, images))} folders are taken as classes"] if any(images) else []
    masks = sum(bool(_LIKE_A_MASK.search(path)) for path in listing.paths)
    if masks:
        told.append(
            f"{name}: {masks} files are called masks and are taken as images; name them in a table's mask "
            "column, or read BUSI by --layout busi"
        )
    return partial(_by_folder, labels), told


def _as_tagged(_file: FileId, frames: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(frames)


def _by_folder(
    labels: Mapping[str, tuple[str, Split | None]], file: FileId, frames: Sequence[Source]
) -> tuple[Source, ...]:
    label, split = labels[file[1].rpartition("/")[0]]
    facts: dict[str, Any] = {"labels": (label,) if label else (), "split": split}
    return tuple(frame._replace(**facts) for frame in frames)


def _by_table(rows: Mapping[FileId, Row], file: FileId, frames: Sequence[Source]) -> tuple[Source, ...]:
    return _with_row(frames, rows[file])


def _by_header(matches: Matches, _file: FileId, frames: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(frame._replace(accession="") for frame in _with_row(frames, matches.row_of(frames[0])))


def _with_row(frames: Sequence[Source], row: Row) -> tuple[Source, ...]:
    facts: dict[str, Any] = {
        name: getattr(row, name) for name in ("labels", "split", "masks", "mask_from", "outlines")
    }
    for name in ("patient", "study", "series", "modality", "anatomy"):
        if getattr(row, name):
            facts[name] = getattr(row, name)
    if row.kept:
        facts["kept"] = row.kept
    return tuple(frame._replace(**facts) for frame in frames)
