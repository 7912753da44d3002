"""Archives -> a book of their files and frames: listed, scanned, named, labelled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pyrad.errors import UsageError
from pyrad.ingest.archive import Archive, Member, open_archive, path_bytes
from pyrad.ingest.book import Book, batched, is_masked, pack_labels
from pyrad.ingest.layouts import FileId, Listing, Selection
from pyrad.ingest.layouts.arrange import Arranger, Census, make_arranger, new_census
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.packing import pack_source, unpack_source
from pyrad.ingest.privacy.names import Names
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.references import References, enter_references
from pyrad.ingest.scan import FileScan, Listed, scan_batches, scan_files
from pyrad.ingest.series_percentiles import shares_percentiles
from pyrad.ingest.workers.cluster import ClusterWorkers
from pyrad.ingest.workers.pool import Workers
from pyrad.progress import Reporter
from pyrad.records import Source
from pyrad.store.bucket import place_of

# Note [plain values]: for each bool, None and bytes that is bound, the sqlite3 module looks in vain for an
# adapter, which takes half the time of a row. Where rows are many, these are int, "" (nullif) and bytearray.
_FILE = "INSERT INTO file VALUES (?,?,?,?,?,?,?,?,?,nullif(?,''),?,?)"
_FRAME = "INSERT INTO frame VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,nullif(?,''),?,nullif(?,''),?)"
_NOT_CHOSEN = (*[""] * 4, 0, None, 0, None, None, 0, 0, 0, "", "[]")
_FILES_A_BATCH = 1024
_FRAMES_A_BATCH = 1024
_INDICES = (  # made at once when all frames are there
    "CREATE INDEX frame_of_file ON frame(file, reason)",
    "CREATE INDEX frame_of_key ON frame(key)",
    "CREATE INDEX frame_of_group ON frame(grp, alone, split, labels)",
)
_LARGEST = (1 << 63) - 1  # integer of a book


@dataclass(frozen=True, kw_only=True)
class Opened:
    """One source, opened and listed."""

    path: Path
    archive: Archive
    members: tuple[Member, ...]

    @property
    def listing(self) -> Listing:
        """The source as layouts see it."""

        def read(path: str) -> bytes:
            try:
                return self.archive.read(path)
            except Rejected as rejected:
                raise UsageError(f"{self.path.name}: its table cannot be read: {rejected.reason}") from None

        return Listing(path=self.path, paths=tuple(member.path for member in self.members), read=read)


def open_sources(options: IngestOptions) -> list[Opened]:
    """Open and list every source once; the store's own files are no part of a folder that holds it."""
    store = Path(place_of(options.store))
    own = (store, store.with_name(store.name + ".partial"))
    opened = []
    for path in dict.fromkeys(Path(place_of(path)) for path in options.src):
        archive = open_archive(path)
        inside = [f"{it.relative_to(path).as_posix()}/" for it in own if it.is_relative_to(path)]
        members = tuple(member for member in archive.members() if not member.path.startswith(tuple(inside)))
        if not members:
            raise UsageError(f"the source {path.name} is empty: there is no image in it")
        opened.append(Opened(path=path, archive=archive, members=members))
    return opened


def list_sources(book: Book, sources: Sequence[Opened], selection: Selection, names: Names) -> None:
    """Enter the files that are not to be read into the book, each with its reason."""
    unread = (
        (listed, FileScan(archive=listed.archive, path=listed.member.path, reason=reason))
        for listed, reason in _listed(sources, selection)
        if reason is not None
    )
    enter_scans(book, unread, names, [])


def scan_sources(
    book: Book,
    sources: Sequence[Opened],
    selection: Selection,
    names: Names,
    workers: Workers | ClusterWorkers,
    reporter: Reporter,
) -> list[Census]:
    """Enter what the headers of every other file say into the book; returns counts of each archive."""
    found = new_census(selection)
    under_way: dict[int, Sequence[Listed]] = {}

    def tasks() -> Iterator[tuple[FileId, ...]]:
        wanted = (listed for listed, reason in _listed(sources, selection) if reason is None)
        for number, batch in enumerate(scan_batches(wanted)):
            under_way[number] = batch
            yield tuple((listed.archive, listed.member.path) for listed in batch)

    count = sum(reason is None for _, reason in _listed(sources, selection))
    with reporter.stage("scan", count, "files") as stage:
        for number, scans in workers.run(scan_files, tasks(), stage):
            enter_scans(book, zip(under_way.pop(number), scans, strict=True), names, found)
    tell_apart(book, names)
    return found


def enter_scans(
    book: Book, scans: Iterable[tuple[Listed, FileScan]], names: Names, found: Sequence[Census]
) -> None:
    """Enter files into the book: what the scan said of each, or why it was not scanned; count the images."""
    for batch in batched(scans, _FILES_A_BATCH):
        for _, scan in batch:
            if scan.frames:
                found[scan.archive].count(scan.path, scan.frames[0], dicom=scan.dicom)
        book.many(_FILE, (_file_row(listed, scan, names) for listed, scan in batch))
        book.many(
            "INSERT INTO header(file, source) VALUES (?, ?)",
            ((listed.number, bytearray(packed)) for listed, scan in batch for packed in scan.frames),
        )
        for listed, scan in batch:
            if scan.references:
                enter_references(book, listed.number, scan.references)


def label_files(
    book: Book,
    found: Sequence[Census],
    listings: Sequence[Listing],
    selection: Selection,
    options: IngestOptions,
    names: Names,
) -> list[str]:
    """Give the frames of every readable file labels, patients and keys; returns notes."""
    arrange, notes = make_arranger(found, selection, listings, options)
    references = References(book, keys_only=options.frames == "key")
    rows = _label(book, arrange, selection, references, options, names)
    for batch in batched(rows, _FRAMES_A_BATCH):
        book.many(_FRAME, (row for row, _ in batch))
        book.many(
            "UPDATE header SET source = ? WHERE frame = ?",
            ((pack_source(source), row[0]) for row, source in batch if source is not None),
        )
    notes += references.notes()
    for index in _INDICES:
        book.run(index)
    return notes


def tell_apart(book: Book, names: Names) -> None:
    """Rename files that have one path in several archives and different content; then find files by name.

    Note [one path, several archives]: a source is named by its path alone, so that it keeps its name when an
    archive is moved, packed or mended. Where archives given together share a path, the file of the smallest
    identity keeps that name and each other content has one of its own, whatever the order of the archives.
    """
    book.run("CREATE INDEX file_of_name ON file(name)")
    if not book.one("SELECT max(archive) FROM file"):
        return
    shared = "SELECT name, path FROM file GROUP BY name HAVING count(DISTINCT archive) > 1"
    for plain, path in [*book.each(shared)]:
        files = [
            *book.each("SELECT id, coalesce(identity, CAST(size AS BLOB)) FROM file WHERE name = ?", (plain,))
        ]
        apart = sorted({content for _, content in files})[1:]
        for number, content in files:
            if content in apart:
                name = names.source(path.decode("utf-8", "surrogateescape"), content)
                book.run("UPDATE file SET name = ? WHERE id = ?", (name, number))


def _listed(sources: Sequence[Opened], selection: Selection) -> Iterator[tuple[Listed, str | None]]:
    """Every file, numbered, and why it is not to be read."""
    numbers = count()
    for archive, source in enumerate(sources):
        for member in source.members:
            reason = member.reason or selection.skip_reason((archive, member.path))
            yield Listed(next(numbers), archive, member), reason


def _file_row(listed: Listed, scan: FileScan, names: Names) -> tuple[Any, ...]:
    path = bytearray(path_bytes(scan.path))
    identity = bytearray(names.identity(scan.uid, scan.digest)) if scan.frames else None
    return (
        *(listed.number, scan.archive, path, listed.member.size, names.source(scan.path)),
        *(scan.mark, scan.digest, identity, 1 if scan.uid else 0, scan.reason or "", scan.detail, scan.kind),
    )


def _label(
    book: Book,
    arrange: Arranger,
    selection: Selection,
    references: References,
    options: IngestOptions,
    names: Names,
) -> Iterator[tuple[tuple[Any, ...], Source | None]]:
    """The row of every frame, and its source where that says more than the scan did."""
    step = options.frame_step
    geometries = _Geometries(book)
    for file, headers in groupby(book.each("SELECT * FROM header ORDER BY frame"), key=itemgetter(1)):
        numbers, _, packed = zip(*headers, strict=True)
        sources = tuple(map(unpack_source, packed))
        at = sources[0].archive, sources[0].path
        reason, detail = "", ""
        try:
            frames = arrange(at, sources)
        except Rejected as rejected:  # a joined table does not mean this file
            frames, reason, detail = sources, rejected.reason, rejected.detail
        if names.is_forgotten(frames[0]):
            reason, detail = "forgotten", ""
        elif at in selection.maskless:
            reason = "mask-missing"
        elif frames[0].masks and len(sources) > 1:
            reason, detail = "mask-size", f"one mask for {len(sources)} frames"
        judged = references.judge(frames)
        for number, source, (frame, refused) in zip(numbers, sources, judged, strict=True):
            out = refused or ("frame-not-chosen" if frame.frame % step else None)
            if out:
                yield (number, file, frame.frame, *_NOT_CHOSEN, out, ""), None
            else:
                row = number, file, *_frame_row(frame, geometries, names), reason, detail
                yield row, None if frame is source else frame


class _Geometries:
    """The number of each geometry in the book, given when it comes first."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._numbers: dict[tuple[int, int, int, str], int] = {}

    def number(self, frame: Source) -> int:
        """Return that of a frame's geometry."""
        geometry = frame.planes, frame.rows, frame.columns, frame.dtype
        number = self._numbers.get(geometry)
        if number is None:
            number = self._numbers[geometry] = len(self._numbers)
            self._book.run("INSERT INTO geometry VALUES (?, ?, ?, ?, ?)", (number, *geometry))
        return number


def _frame_row(frame: Source, geometries: _Geometries, names: Names) -> tuple[Any, ...]:
    group, study, series, alone = names.grouped(frame)
    instance = None if frame.instance is None else max(-_LARGEST, min(frame.instance, _LARGEST))
    luts = frame.voi_lut is not None or frame.modality_lut is not None
    return (
        *(frame.frame, names.key(frame), group, study, series, int(alone)),
        *(geometries.number(frame), int(frame.kind == "dicom"), frame.position_mm, instance),
        *(int(is_masked(frame)), int(luts), int(shares_percentiles(frame))),
        *(frame.split or "", pack_labels(frame.labels)),
    )
