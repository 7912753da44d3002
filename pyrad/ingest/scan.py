"""Relative paths -> what the headers of each file say, read in worker processes.

Of a large file only the beginning is read, where that tells all; else the whole. A keyed digest of what was
read tells files that changed since; byte-identical files are told by that of all their bytes, which is made
where it is asked for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pyrad.ingest import files
from pyrad.ingest.archive import Archive, Member
from pyrad.ingest.layouts import FileId
from pyrad.ingest.packing import pack_source
from pyrad.ingest.policy import INCLUDES, ScanOptions
from pyrad.ingest.reasons import Incomplete, Rejected
from pyrad.ingest.workers import pool
from pyrad.records import Reference, Source

HEAD_BYTES = 64 << 10  # what most headers take, those with a maker's private elements too
_FILES_A_TASK = 64
_BYTES_A_TASK = 64 << 20


def is_of_start(mark: str) -> bool:
    """Whether a `Share.mark` was made of the beginning of a file alone."""
    return " " in mark


@dataclass(frozen=True, kw_only=True)
class Share:
    """What every worker of an ingest may use. Its keys are derived: the secret stays with the parent."""

    archives: tuple[Archive, ...]
    options: ScanOptions
    pixels_key: bytes
    pictured: bool = True  # whether near duplicates are looked for

    @property
    def mask_options(self) -> ScanOptions:
        """A mask is read whatever it claims to be, as one plane."""
        return ScanOptions(include=INCLUDES, burned_in="allow", digest_key=self.options.digest_key)

    def read(self, archive: int, path: str) -> bytes:
        """In a guard: the bytes of a file, which from now on may take the processor time of its size."""
        data = self.archives[archive].read(path)
        pool.allow_for(len(data))
        return data

    def read_start(self, archive: int, path: str) -> tuple[bytes, int]:
        """In a guard: the first HEAD_BYTES of a file, and how many it has."""
        return self.archives[archive].read_start(path, HEAD_BYTES)

    def digest(self, data: bytes) -> str:
        """Keyed digest of a file's bytes, as `Source.digest` has it."""
        return files.file_digest(data, self.options.digest_key)

    def mark(self, data: bytes, size: int) -> str:
        """What tells a file of ``size`` bytes again by ``data``: all of them, or the first HEAD_BYTES."""
        return self.digest(data) if len(data) == size else f"{size} {self.digest(data)}"

    def is_marked(self, data: bytes, mark: str) -> bool:
        """Whether the bytes of a file can be those that `mark` was made of."""
        return mark == self.mark(data[:HEAD_BYTES] if is_of_start(mark) else data, len(data))

    def pixel_digest(self, image: NDArray[Any]) -> str:
        """Keyed digest of decoded pixels: equal for equal shape, dtype and values."""
        mac = hmac.new(self.pixels_key, f"{image.shape} {image.dtype.name}\0".encode(), hashlib.sha256)
        mac.update(image.data)
        return mac.hexdigest()


class FileScan(NamedTuple):
    """One file after the scan: its frames, or the reason why there are none."""

    archive: int
    path: str
    mark: str = ""  # of what was read, as `Share.mark`
    uid: str = ""  # SOP Instance UID
    dicom: bool = False
    frames: tuple[bytes, ...] = ()  # the packed source of each
    reason: str | None = None
    detail: str = (
        ""  # what stands behind the reason in messages: keyword and figures, never a patient's value
    )

    references: tuple[Reference, ...] = ()  # what the file says of images
    kind: str = ""  # the standard's name of its SOP class; else raster or npy; "" where it is neither

    @property
    def digest(self) -> str:
        """Keyed digest of all bytes of the file; "" where not all were read."""
        return "" if is_of_start(self.mark) else self.mark

    @property
    def id(self) -> FileId:
        """Archive and path."""
        return self.archive, self.path


def scanned(sources: Sequence[Source], mark: str) -> FileScan:
    """What the scan says of an image file, by its frames and its `Share.mark`."""
    first = sources[0]
    return FileScan(
        archive=first.archive,
        path=first.path,
        mark=mark,
        uid=first.uid,
        dicom=first.kind == "dicom",
        frames=tuple(map(pack_source, sources)),
        kind=first.sop_class or first.kind,
    )


class Listed(NamedTuple):
    """One file to be scanned, with its number among all files of all archives."""

    number: int
    archive: int
    member: Member


def scan_batches(files: Iterable[Listed]) -> Iterator[tuple[Listed, ...]]:
    """Share files out into tasks of many small files or a few large ones, in the order given."""
    batch: list[Listed] = []
    size = 0
    for listed in files:
        if batch and (len(batch) == _FILES_A_TASK or size + listed.member.size > _BYTES_A_TASK):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(listed)
        size += listed.member.size
    if batch:
        yield tuple(batch)


def scan_files(task: Sequence[FileId]) -> list[FileScan]:
    """In a worker: read the headers of some files."""
    share: Share = pool.shared()
    scans = []
    for archive, path in task:
        try:
            with pool.guard((archive, path)):
                mark, sources = _scan_file(share, archive, path)
            scans.append(scanned(sources, mark))
        except Rejected as rejected:
            scans.append(
                FileScan(
                    archive=archive,
                    path=path,
                    reason=rejected.reason,
                    detail=describe(rejected),
                    references=rejected.references,
                    kind=rejected.sop_class,
                )
            )
        pool.count_done()
    return scans


def _scan_file(share: Share, archive: int, path: str) -> tuple[str, list[Source]]:
    """The mark of a file and its sources."""
    data, size = share.read_start(archive, path)
    try:
        sources = files.scan(archive, path, data, share.options, size)
    except Incomplete:
        data = share.read(archive, path)
        size = len(data)
        sources = files.scan(archive, path, data, share.options)
    return sources[0].digest or share.mark(data, size), sources


class DigestTask(NamedTuple):
    """A file that the scan did not read as a whole."""

    archive: int
    path: str
    mark: str


def digest_files(task: Sequence[DigestTask]) -> list[tuple[str, str | None]]:
    """In a worker: the digest of all bytes of each file, and None; else "" and why it is rejected."""
    share: Share = pool.shared()
    answers: list[tuple[str, str | None]] = []
    for archive, path, mark in task:
        try:
            with pool.guard((archive, path)):
                answers.append((share.digest(read_unchanged(share, archive, path, mark)), None))
        except Rejected as rejected:
            answers.append(("", rejected.reason))
        pool.count_done()
    return answers


@dataclass(frozen=True, kw_only=True)
class PixelTask:
    """A file whose pixels are to be compared with those of others that claim to be the same."""

    mark: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelDigests:
    """The keyed digest of every frame of a file; where one does not decode, why the file is rejected."""

    frames: tuple[str, ...] = ()
    reason: str | None = None
    detail: str = ""


def digest_pixels(task: PixelTask) -> PixelDigests:
    """In a worker: decode a file and digest its frames."""
    share: Share = pool.shared()
    first = task.sources[0]
    digests = []
    try:
        with pool.guard((first.archive, first.path)):
            data = read_unchanged(share, first.archive, first.path, task.mark)
            for image in files.decode_frames(task.sources, data):
                if isinstance(image, Rejected):
                    raise image
                digests.append(share.pixel_digest(image))
    except Rejected as rejected:
        return PixelDigests(reason=rejected.reason, detail=describe(rejected))
    finally:
        pool.count_done()
    return PixelDigests(frames=tuple(digests))


def read_unchanged(share: Share, archive: int, path: str, mark: str) -> bytes:
    """The bytes of a file; Rejected where they are no longer those that were scanned."""
    data = share.read(archive, path)
    if not share.is_marked(data, mark):
        raise Rejected("file-changed")
    return data


def describe(rejected: Rejected) -> str:
    """Tag and figures of a rejection, for messages."""
    return ", ".join(part for part in (rejected.tag, rejected.detail) if part)
