"""What objects say of images -> which frames are rejected or key, and which segments are whose mask.

The scan enters it into the book; when all files are known, each image is judged by what names it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pyrad.ingest.book import Book
from pyrad.records import Reference, Segments, Source

_OF_IMAGE = """
SELECT reference.id, role, reference.frame, archive, path, own_frame, reference.rows, reference.columns
    FROM reference JOIN file ON file.id = reference.file WHERE reference.uid = ?
"""
_REJECTED_SEGMENTATIONS = """
UPDATE file SET reason = 'rejected-by-note' WHERE id IN (
    SELECT file FROM reference WHERE own_uid IN (
        SELECT uid FROM reference WHERE role = 'rejected' AND frame IS NULL))
"""
_THEIR_MASKS = """
DELETE FROM reference WHERE file IN (SELECT id FROM file WHERE reason = 'rejected-by-note')
"""
_FATES = "SELECT fate, count(*) FROM reference WHERE role = 'mask' GROUP BY fate"


class Judged(NamedTuple):
    """One frame with the segments that lie on it, and why it is not to be stored, or None."""

    source: Source
    reason: str | None


class _Row(NamedTuple):
    """A reference to an image."""

    id: int
    role: str
    frame: int | None
    archive: int
    path: bytes
    own_frame: int
    rows: int
    columns: int


def enter_references(book: Book, file: int, references: Iterable[Reference]) -> None:
    """Enter what ``file`` of the book says of images."""
    book.many(
        "INSERT INTO reference VALUES (NULL,?,?,?,?,?,?,?,?,?)",
        (
            (
                *(it.uid, it.frame, it.role, file, it.own_uid, it.own_frame, it.rows, it.columns),
                "absent" if it.uid else "no-image",
            )
            for it in references
        ),
    )


class References:
    """All that the objects of a scanned book say of images; rejected segmentations say nothing."""

    def __init__(self, book: Book, *, keys_only: bool) -> None:
        self._book = book
        self._keys_only = keys_only
        book.run("CREATE INDEX reference_of_image ON reference(uid)")
        book.run(_REJECTED_SEGMENTATIONS)
        book.run(_THEIR_MASKS)
        self._any = book.one("SELECT 1 FROM reference") is not None

    def judge(self, frames: Sequence[Source]) -> list[Judged]:
        """Judge the frames of one file."""
        if not self._any and not self._keys_only:
            return [Judged(frame, None) for frame in frames]
        uid = frames[0].uid
        rows = self._book.each(_OF_IMAGE, (uid,)) if self._any and uid else ()
        found = [_Row(*row) for row in rows]
        return [self._judge(frame, found) for frame in frames]

    def notes(self) -> list[str]:
        """What became of the frames of segmentations, where some lie on no image; settles their files."""
        self._book.run(
            "UPDATE file SET reason = 'mask' WHERE reason = 'segmentation' AND "
            "id IN (SELECT file FROM reference WHERE fate = 'used')"
        )
        fates = dict(self._book.each(_FATES))
        left = {
            "were made of no one image, pixel by pixel": fates.get("no-image", 0),
            "name images that are not to be stored": fates.get("absent", 0),
            "are of another size than their images": fates.get("size", 0),
        }
        if not any(left.values()):
            return []
        causes = ", ".join(f"{count} {cause}" for cause, count in left.items() if count)
        return [f"frames of segmentations: {fates.get('used', 0)} became masks, {causes}"]

    def _judge(self, frame: Source, found: Sequence[_Row]) -> Judged:
        named = [row for row in found if row.frame in (None, frame.frame)]
        if any(row.role == "rejected" for row in named):
            return Judged(source=frame, reason="rejected-by-note")
        if self._keys_only and all(row.role != "key" for row in named):
            image = any(row.role == "key" for row in found)
            return Judged(source=frame, reason="frame-not-chosen" if image else "not-a-key-image")
        return Judged(source=self._with_segments(frame, named), reason=None)

    def _with_segments(self, frame: Source, named: Sequence[_Row]) -> Source:
        masks = [row for row in named if row.role == "mask"]
        if not masks:
            return frame
        size = (frame.cut.rows, frame.cut.columns) if frame.cut else (frame.rows, frame.columns)
        fitting: dict[tuple[int, str], set[int]] = defaultdict(set)
        for row in masks:
            fits = (row.rows, row.columns) == size
            self._book.run("UPDATE reference SET fate = ? WHERE id = ?", ("used" if fits else "size", row.id))
            if fits:
                path = row.path.decode("utf-8", "surrogateescape")
                fitting[row.archive, path].add(row.own_frame)
        segments = (
            Segments(archive=archive, path=path, frames=tuple(sorted(frames)))
            for (archive, path), frames in sorted(fitting.items())
        )
        return frame._replace(segments=tuple(segments))
