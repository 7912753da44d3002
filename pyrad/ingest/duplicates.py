"""Files that are the same image -> one of them, or none where they contradict each other.

Two files are copies where they share a SOP Instance UID, or, without one, all their bytes. Copies with equal
decoded pixels and equal stored attributes are kept once; otherwise none can be trusted and all are
quarantined, or the newcomers alone where one is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyrad.ingest.archive import path_bytes
from pyrad.ingest.layouts import FileId
from pyrad.ingest.scan import PixelDigests
from pyrad.records import SPLITS, Source

# A copy's own affair: where it lies, how its pixels are written, and what a table says of that path.
_NOT_COMPARED = frozenset(
    {
        "archive",
        "path",
        "digest",
        "form",
        "accession",
        "labels",
        "split",
        "masks",
        "mask_from",
        "outlines",
        "segments",
        "kept",
        "warnings",
        "slice_index",
    }
)
_COMPARED = tuple(name for name in Source._fields if name not in _NOT_COMPARED)


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file with frames to store."""

    digest: str  # keyed, of its bytes
    sources: tuple[Source, ...]
    keys: tuple[str, ...]  # of each source
    mark: str = ""  # of what the scan read of it
    number: int = 0  # in the book

    @property
    def id(self) -> FileId:
        """Archive and path."""
        return self.sources[0].archive, self.sources[0].path

    @property
    def has_uid(self) -> bool:
        """Whether a SOP Instance UID names it."""
        return bool(self.sources[0].uid)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What is left when one group of copies is settled."""

    kept: File | None
    rejected: Mapping[FileId, tuple[str, str]]  # reason (duplicate, uid-conflict, ...) and detail


def by_preference(copies: Iterable[File]) -> list[File]:
    """Copies, the one first that is to be kept.

    A file that a layout puts into test comes before one in train: the test image stays, training loses it.
    """
    return sorted(copies, key=_preference)


def undecided(group: Sequence[File], *, claimed: bool) -> list[File]:
    """The copies whose pixels must be decoded before `settle` can judge: attributes alone do not tell.

    ``group`` is in the order of preference; ``claimed``: it must be compared with a committed image, too.
    """
    by_digest = {file.digest: file for file in reversed(group)}
    if group[0].has_uid and (len(by_digest) > 1 or claimed) and len(set(map(_attributes, group))) == 1:
        return [by_digest[digest] for digest in sorted(by_digest)]
    return []


def settle(group: Sequence[File], pixels: Mapping[str, PixelDigests]) -> Settled:
    """Keep one file of a group of copies, with the labels of all, or none.

    ``pixels`` has an answer for each of the undecided files, by the digest of its bytes. A copy that does
    not decode is quarantined for that and says nothing about the others.
    """
    rejected: dict[FileId, tuple[str, str]] = {}
    good = []
    for file in group:
        answer = pixels.get(file.digest)
        if answer is not None and answer.reason is not None:
            rejected[file.id] = answer.reason, answer.detail
        else:
            good.append(file)
    contents = {pixels[file.digest].frames if file.digest in pixels else file.digest for file in good}
    contradictory = len(good) > 1 and group[0].has_uid and len(set(map(_attributes, good))) > 1
    if len(contents) > 1 or contradictory:
        return Settled(kept=None, rejected=rejected | {file.id: ("uid-conflict", "") for file in good})
    rejected |= {file.id: ("duplicate", "") for file in good[1:]}
    return Settled(kept=_merge(good) if good else None, rejected=rejected)


def _preference(file: File) -> tuple[int, bytes, str]:
    split = file.sources[0].split
    held_out = SPLITS.index(split) if split else -1
    return -held_out, path_bytes(file.sources[0].path), file.digest


def _attributes(file: File) -> tuple[Any, ...]:
    return tuple(tuple(getattr(source, name) for name in _COMPARED) for source in file.sources)


def _merge(copies: Sequence[File]) -> File:
    """The first copy with the labels of all; what it does not know, it takes from the next that does."""
    first = copies[0]
    if len(copies) == 1:
        return first
    sources = []
    for frames in zip(*(file.sources for file in copies), strict=True):
        facts: dict[str, Any] = {
            "labels": tuple(sorted({label for frame in frames for label in frame.labels}))
        }
        for name in (
            "patient",
            "study",
            "series",
            "modality",
            "anatomy",
            "kept",
        ):
            facts[name] = next(
                (value for frame in frames if (value := getattr(frame, name))),
                getattr(first.sources[0], name),
            )
        sources.append(_with_mask(frames)._replace(**facts))
    return replace(first, sources=tuple(sources))


def _with_mask(frames: Sequence[Source]) -> Source:
    """The first copy with the mask of the first that has one, in its archive: masks are found by path."""
    first = frames[0]
    near = (frame for frame in frames if frame.archive == first.archive)
    masked = next((it for it in near if it.masks or it.outlines or it.segments), first)
    names = ("masks", "mask_from", "outlines", "segments")
    return first._replace(**{name: getattr(masked, name) for name in names})
