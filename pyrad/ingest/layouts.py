"""Files of an archive and a label table -> labels, patients, studies, splits and masks of every source.

A layout is a function from files to a table of sources: `select` says what is known before a file is read
(which files a table lists, what it says of them), `make_arranger` gives the sources of the scan their labels,
file by file.
docs/layouts.md states how paths are matched and what is refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyrad.errors import UsageError
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.split import parse_split
from pyrad.ingest.table import Row, Table, merge_rows, parse_roles, read_table, row_list
from pyrad.records import Sample, Source, Split

FileId = tuple[int, str]  # which archive, path in it
Arranger = Callable[["FileId", "Sequence[Source]"], "tuple[Source, ...]"]

ROOT_TABLES = ("labels.csv", "manifest.csv")  # what `auto` looks for, in this order
_PATIENT_COLUMNS = frozenset({"patient_id", "patientid", "patient id", "subject", "subject_id", "subjectid"})
_CLASSES_BELIEVED = 20  # so many folders may be classes, however few images they hold
_IMAGES_A_CLASS = 5  # more folders than that must hold so many on average


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One archive as layouts see it: its files' paths, and how to read one of them."""

    path: Path  # as it was given
    paths: tuple[str, ...]
    read: Callable[[str], bytes]

    @property
    def top(self) -> str:
        """``name/`` where everything lies in one folder, else ""."""
        tops = {path.partition("/")[0] for path in self.paths if "/" in path}
        return f"{tops.pop()}/" if len(tops) == 1 and all("/" in path for path in self.paths) else ""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is known before any file is read."""

    layouts: tuple[str, ...]  # of each archive: table, dicom, folder; auto where only the scan can tell
    rows: Mapping[FileId, Row]  # a table's word on each file it lists, masks as paths
    masks: frozenset[FileId]  # files that are masks of others, not images
    maskless: frozenset[FileId]  # images whose row names a mask that is not there
    notes: tuple[str, ...]

    def skip_reason(self, file: FileId) -> str | None:
        """Why this file is not read at all, or None."""
        if file in self.masks:
            return "mask"
        if self.layouts[file[0]] == "table" and file not in self.rows:
            return "not-in-table"
        return None


def select(listings: Sequence[Listing], options: IngestOptions) -> Selection:
    """Find and read the tables of ``options`` and match their rows to files.

    UsageError where no table is found that should be, its columns or rows are not fit, or none of its rows
    matches a file.
    """
    roles = parse_roles(options.columns)
    clash = [column for column in options.keep_columns if column in Sample.__dataclass_fields__]
    if clash:
        raise UsageError(
            f"--keep-columns {', '.join(clash)}: the samples table has columns of that name; rename them in "
            "the table"
        )
    tables: dict[int, tuple[Table, str]] = {}  # archive -> table, folder its paths may start from
    if options.table is not None:
        table = _read_table(options.table.name, lambda: _read_file(options), roles, options)
        tables = dict.fromkeys(range(len(listings)), (table, ""))
    elif options.layout in ("auto", "table"):
        for archive, listing in enumerate(listings):
            found = _root_table(listing, roles, options)
            if found is not None:
                tables[archive] = found
    if not tables and (options.layout == "table" or roles or options.keep_columns):
        raise UsageError(
            f"no table is given, and no source has {' or '.join(ROOT_TABLES)} in its root; give one by "
            f"--table FILE"
        )
    return _match(listings, tables, options)


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
            labels = folder_labels(census.folders, _wrapper(listing))
            counts: Counter[str] = Counter()
            for folder, images in census.folders.items():
                counts[labels[folder][0]] += images
            if options.layout == "auto":
                _believe_classes(counts, listing.path.name)
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


def folder_labels(folders: Iterable[str], wrapper: str = "") -> dict[str, tuple[str, Split | None]]:
    """Folder -> (label, split): the label is its path with all folders above it, "" for the root.

    ``wrapper`` is a leading folder that says nothing. Where the first folders are all words for train, val
    and test, they are the split and no part of the label.
    """
    inner = {folder: f"{folder}/".removeprefix(wrapper).rstrip("/") for folder in folders}
    firsts = {path.partition("/")[0] for path in inner.values()}
    splits = {first: parse_split(first) for first in firsts}
    if len(firsts) < 2 or None in splits.values():
        return {folder: (path, None) for folder, path in inner.items()}
    return {
        folder: (path.partition("/")[2], splits[path.partition("/")[0]]) for folder, path in inner.items()
    }


def _believe_classes(images: Mapping[str, int], name: str) -> None:
    if len(images) > max(_CLASSES_BELIEVED, sum(images.values()) / _IMAGES_A_CLASS):
        raise UsageError(
            f"{name}: its {len(images)} folders with {sum(images.values())} images do not look like "
            f"classes, and names "
            "of folders would become labels; give a table (--table FILE), or --layout folder if they are "
            "classes"
        )


def _wrapper(listing: Listing) -> str:
    """``scans.zip`` that holds the one folder ``scans``: that folder only wraps."""
    return listing.top if listing.top == f"{listing.path.stem}/" and listing.path.is_file() else ""


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
    facts: dict[str, Any] = {"labels": row.labels, "split": row.split, "masks": row.masks, "kept": row.kept}
    for name in ("patient", "study", "series", "modality", "anatomy"):
        if getattr(row, name):
            facts[name] = getattr(row, name)
    return tuple(replace(frame, **facts) for frame in frames)


def _root_table(
    listing: Listing, roles: Mapping[str, str], options: IngestOptions
) -> tuple[Table, str] | None:
    for folder in dict.fromkeys(("", listing.top)):
        for name in ROOT_TABLES:
            path = folder + name
            if path in listing.paths:
                return _read_table(name, lambda path=path: listing.read(path), roles, options), folder  # type: ignore[misc]
    return None


def _read_table(
    name: str, read: Callable[[], bytes], roles: Mapping[str, str], options: IngestOptions
) -> Table:
    return read_table(
        read(), name, roles=roles, keep=options.keep_columns, need_label=options.layout == "table"
    )


def _read_file(options: IngestOptions) -> bytes:
    assert options.table is not None  # noqa: S101
    try:
        return options.table.read_bytes()
    except OSError as error:
        raise UsageError(f"--table {options.table} cannot be read: {error.strerror}") from None


class _Finder:
    """What a table calls a file -> paths of one archive."""

    def __init__(self, paths: Iterable[str], folder: str) -> None:
        self._paths = set(paths)
        self._folders = tuple(dict.fromkeys((folder, "")))
        self._stems: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self._paths):
            name = path.rpartition("/")[2]
            self._stems[_stem(path)].append(path)
            self._names[name].append(path)
            if _stem(name) != name:
                self._names[_stem(name)].append(path)

    def find(self, value: str, beside: str = "") -> list[str]:
        """Paths that ``value`` may mean: one is good, none is absent, several are ambiguous.

        The first of these that exists: the path itself; the path without its extension; the only file of that
        name anywhere. Paths start from the folder ``beside``, the table's folder, or the archive's root.
        """
        value = value.replace("\\", "/").removeprefix("./").lstrip("/")
        starts = dict.fromkeys((*([beside] if beside else []), *self._folders))
        for start in starts:
            if start + value in self._paths:
                return [start + value]
        for start in starts:
            if self._stems.get(start + value):
                return self._stems[start + value]
        return [] if "/" in value else self._names.get(value, [])


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return folder + slash + (stem if dot and stem else name)


def _match(
    listings: Sequence[Listing], tables: Mapping[int, tuple[Table, str]], options: IngestOptions
) -> Selection:
    rows: dict[FileId, list[Row]] = defaultdict(list)
    finders = {archive: _Finder(listings[archive].paths, folder) for archive, (_, folder) in tables.items()}
    notes: list[str] = []
    names: dict[int, str] = {}
    shared = [list(tables)] if options.table is not None else [[archive] for archive in tables]
    for archives in shared:  # one table for all archives, or each its own
        table = tables[archives[0]][0]
        absent: list[int] = []
        ambiguous: list[int] = []
        for row in table.rows:
            found = [(archive, path) for archive in archives for path in finders[archive].find(row.path)]
            if not found:
                absent.append(row.number)
            elif len(found) > 1:
                ambiguous.append(row.number)
            for file in found:
                rows[file].append(row)
        names |= dict.fromkeys(archives, table.name)
        _complain(table, absent, ambiguous, listings[archives[0]].path.name)
        notes += _table_notes(table, absent)
    merged = {file: merge_rows(its, names[file[0]]) for file, its in rows.items()}
    masks, maskless = _find_masks(merged, finders, names)
    unseen = "auto" if options.layout == "table" else options.layout
    return Selection(
        layouts=tuple("table" if archive in tables else unseen for archive in range(len(listings))),
        rows={file: replace(row, masks=masks.get(file, ())) for file, row in merged.items()},
        masks=frozenset((file[0], path) for file, paths in masks.items() for path in paths),
        maskless=maskless,
        notes=tuple(notes),
    )


def _complain(table: Table, absent: list[int], ambiguous: list[int], archive: str) -> None:
    if ambiguous:
        raise UsageError(
            f"{table.name}: {row_list(ambiguous)} could mean several files; write the whole path in column "
            f"{table.columns['path']}"
        )
    if not table.rows or len(absent) == len(table.rows):
        raise UsageError(
            f"{table.name}: none of its {len(table.rows)} rows matches a file of {archive}; paths in column "
            f"{table.columns['path']} must start from the archive's root; columns: {', '.join(table.header)}"
        )


def _table_notes(table: Table, absent: list[int]) -> list[str]:
    notes = []
    if absent:
        notes.append(f"{table.name}: {row_list(absent)} name files that are not there ({len(absent)} in all)")
    if "label" in table.columns:
        blank = [row.number for row in table.rows if not row.labels]
        if len(blank) == len(table.rows):
            raise UsageError(
                f"{table.name}: column {table.columns['label']} is empty in every row; columns: "
                f"{', '.join(table.header)}"
            )
        if blank:
            notes.append(
                f"{table.name}: {row_list(blank)} have no label; their images are stored without one"
            )
    looks = [column for column in table.header if column.lower() in _PATIENT_COLUMNS]
    if "patient" not in table.columns and looks:
        notes.append(
            f"{table.name}: column {looks[0]} is not used; --columns group={looks[0]} keeps the images of "
            f"a patient "
            "in one split"
        )
    return notes


def _find_masks(
    rows: Mapping[FileId, Row], finders: Mapping[int, _Finder], names: Mapping[int, str]
) -> tuple[dict[FileId, tuple[str, ...]], frozenset[FileId]]:
    """Resolve the mask column: image -> paths of its masks, and the images of which one is not there."""
    masks: dict[FileId, tuple[str, ...]] = {}
    missing: set[FileId] = set()
    for file, row in rows.items():
        archive, path = file
        found = []
        for value in row.masks:
            paths = finders[archive].find(value, path[: path.rfind("/") + 1])
            if len(paths) > 1:
                raise UsageError(
                    f"{names[archive]}: the mask in {row_list([row.number])} could mean several files"
                )
            if not paths:
                missing.add(file)
            found += paths
        if found:
            masks[file] = tuple(sorted(found))
    wanted = [row.number for row in rows.values() if row.masks]
    if wanted and not masks:
        raise UsageError(
            f"none of the masks named in {row_list(wanted)} of {min(names.values())} is in the archive"
        )
    return masks, frozenset(missing)
