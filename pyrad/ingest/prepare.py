"""Archives -> the files to be stored: listed, scanned, labelled, copies settled, the rest in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyrad.errors import UsageError
from pyrad.ingest import committed as past
from pyrad.ingest.archive import Archive, Member, open_archive
from pyrad.ingest.cluster import ClusterWorkers
from pyrad.ingest.committed import Committed
from pyrad.ingest.duplicates import File, find_copies, settle, undecided
from pyrad.ingest.layouts import Listing, Selection
from pyrad.ingest.layouts.arrange import make_arranger, new_census
from pyrad.ingest.ledger import Ledger
from pyrad.ingest.names import Names
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.plan import rank_slices
from pyrad.ingest.pool import Workers
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.scan import FileScan, PixelDigests, PixelTask, digest_pixels, scan_files, scan_tasks
from pyrad.progress import Reporter
from pyrad.records import Source


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
    store = options.store.resolve()
    own = (store, store.with_name(store.name + ".partial"))
    opened = []
    for path in dict.fromkeys(Path(path).resolve() for path in options.src):
        archive = open_archive(path)
        inside = [f"{it.relative_to(path).as_posix()}/" for it in own if it.is_relative_to(path)]
        members = tuple(member for member in archive.members() if not member.path.startswith(tuple(inside)))
        if not members:
            raise UsageError(f"the source {path.name} is empty: there is no image in it")
        opened.append(Opened(path=path, archive=archive, members=members))
    return opened


def scan_sources(
    sources: Sequence[Opened],
    selection: Selection,
    workers: Workers | ClusterWorkers,
    reporter: Reporter,
    ledger: Ledger,
) -> list[FileScan]:
    """Read the headers of every file that the layout selects, in the order of the listing."""
    wanted: list[tuple[int, Member]] = []
    for archive, source in enumerate(sources):
        for member in source.members:
            reason = member.reason or selection.skip_reason((archive, member.path))
            if reason is None:
                wanted.append((archive, member))
            else:
                ledger.add((archive, member.path), reason)
    tasks = scan_tasks(wanted)
    results: list[list[FileScan]] = [[] for _ in tasks]
    with reporter.stage("scan", len(wanted), "files") as stage:
        for number, result in workers.run(scan_files, tasks, stage):
            results[number] = result
    return [scan for result in results for scan in result]


def label_files(
    scans: Sequence[FileScan],
    sources: Sequence[Opened],
    selection: Selection,
    options: IngestOptions,
    names: Names,
    ledger: Ledger,
) -> tuple[list[File], list[str]]:
    """Give the frames of every readable file labels, patients and keys; also returns notes."""
    found = new_census(selection)
    for scan in scans:
        if scan.sources:
            found[scan.archive].count(scan.sources[0])
    arrange, notes = make_arranger(found, selection, [source.listing for source in sources], options)
    files = []
    for scan in scans:
        if scan.reason is not None:
            ledger.add(scan.id, scan.reason, 1, scan.detail)
            continue
        try:
            arranged = arrange(scan.id, scan.sources)
        except Rejected as rejected:  # a joined table does not mean this file
            ledger.add(scan.id, rejected.reason, len(scan.sources), rejected.detail)
            continue
        frames = _chosen(arranged, options.frame_step)
        if len(frames) < len(scan.sources):
            ledger.add(scan.id, "frame-not-chosen", len(scan.sources) - len(frames))
        if names.is_forgotten(frames[0], scan.digest):
            ledger.add(scan.id, "forgotten", len(frames))
        elif scan.id in selection.maskless:
            ledger.add(scan.id, "mask-missing", len(frames))
        elif frames[0].masks and len(scan.sources) > 1:
            ledger.add(scan.id, "mask-size", len(frames), f"one mask for {len(scan.sources)} frames")
        else:
            keys = tuple(names.key(frame, scan.digest) for frame in frames)
            files.append(File(digest=scan.digest, sources=frames, keys=keys))
    return files, notes


@dataclass(frozen=True, kw_only=True)
class NewFiles:
    """What is left to be stored, and the rank of every frame in its series, stored ones included."""

    files: tuple[File, ...]
    slice_index: Mapping[str, int]
    relabelled: int  # frames that are stored with other labels than those given now


def settle_files(
    files: Sequence[File],
    committed: Committed,
    names: Names,
    workers: Workers | ClusterWorkers,
    reporter: Reporter,
    ledger: Ledger,
) -> NewFiles:
    """Keep one of equal files and what the store does not hold yet; decode where headers cannot tell."""
    copies = find_copies(files)
    unproven = past.unproven_keys(files, committed)
    doubtful = undecided(copies, unproven)
    ordered, stored_tasks = past.stored_tasks(unproven, committed)
    pixels: dict[str, PixelDigests] = {}  # by the digest of a file's bytes
    stored: list[list[str]] = [[] for _ in stored_tasks]
    if doubtful or stored_tasks:
        tasks = [PixelTask(digest=file.digest, sources=file.sources) for file in doubtful]
        with reporter.stage("compare", len(tasks) + len(ordered), "files") as stage:
            for number, digests in workers.run(digest_pixels, tasks, stage):
                pixels[doubtful[number].digest] = digests
            for number, result in workers.run(past.digest_stored, stored_tasks, stage):
                stored[number] = result
    stored_pixels = dict(zip(ordered, (digest for result in stored for digest in result), strict=True))
    settled = settle(copies, pixels)
    frames = {file.id: len(file.keys) for file in files}
    for file, (reason, detail) in settled.rejected.items():
        ledger.add(file, reason, frames[file], detail)
    new = past.split_new(
        settled.kept,
        committed,
        pixels=pixels,
        stored_pixels=stored_pixels,
        names=names,
        ledger=ledger,
    )
    return NewFiles(
        files=tuple(new),
        slice_index=rank_slices(settled.kept, names),
        relabelled=past.relabelled(settled.kept, committed),
    )


def _chosen(frames: tuple[Source, ...], step: int) -> tuple[Source, ...]:
    return tuple(frame for frame in frames if frame.frame % step == 0)
