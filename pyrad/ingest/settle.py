"""The frames of a book -> those that are new: one of equal files, none that the store has or contradicts.

Queries find the files that share an identity with another file or with a committed image; only these are
looked at one by one, and only those whose headers cannot tell are decoded.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from itertools import groupby

from pyrad.ingest import committed as past
from pyrad.ingest.book import Book, batched, is_masked, pack_labels
from pyrad.ingest.duplicates import File, by_preference, settle, undecided
from pyrad.ingest.packing import pack_source, unpack_source
from pyrad.ingest.privacy.names import Names
from pyrad.ingest.scan import DigestTask, PixelDigests, PixelTask, digest_files, digest_pixels
from pyrad.ingest.workers.cluster import ClusterWorkers
from pyrad.ingest.workers.pool import Workers
from pyrad.progress import Reporter
from pyrad.store import reader

_FILES_A_TASK = 64

_SHARED = """
INSERT INTO doubtful
    SELECT identity FROM file WHERE identity IS NOT NULL GROUP BY identity HAVING count(*) > 1
"""
_CLAIMED = """
INSERT OR IGNORE INTO doubtful
    SELECT identity FROM unproven CROSS JOIN frame USING (key) JOIN file ON file.id = frame.file
"""
_FILES = """
SELECT file.id, file.mark, file.digest, frame.key, header.source
    FROM file JOIN frame ON frame.file = file.id JOIN header ON header.frame = frame.id
    WHERE {} AND frame.reason IS NULL ORDER BY file.id, frame.id
"""
# Files that share an identity or claim a committed one, of which the scan has read the beginning.
_TO_DIGEST = """
INSERT INTO to_digest
    SELECT id FROM doubtful CROSS JOIN file USING (identity) WHERE digest = '' AND file.reason IS NULL
    UNION SELECT file.id FROM committed CROSS JOIN frame USING (key) JOIN file ON file.id = frame.file
        WHERE digest = '' AND file.reason IS NULL
"""
_MERGED = """
UPDATE frame SET grp = ?, study = ?, series = ?, alone = ?, masks = ?, labels = ? WHERE file = ? AND frame = ?
"""
_HEADER = "UPDATE header SET source = ? WHERE frame = (SELECT id FROM frame WHERE file = ? AND frame = ?)"
# The rank of a frame in its series, stored ones included: by position along the slice normal, else by
# instance number.
_RANKS = """
INSERT INTO rank SELECT id, row_number() OVER (
        PARTITION BY series
        ORDER BY position IS NULL, position, coalesce(instance, 0), frame, key) - 1
    FROM frame WHERE dicom AND series <> '' AND reason IS NULL
"""


def settle_files(
    book: Book,
    store: reader.Store | None,
    names: Names,
    workers: Workers | ClusterWorkers,
    reporter: Reporter,
) -> None:
    """Decide of every frame whether it is new; what is known of the store is in the book already.

    Afterwards the frames without a reason are those to be stored.
    """
    book.run("CREATE INDEX file_of_identity ON file(identity) WHERE identity IS NOT NULL")
    book.run(_SHARED)
    _digest_files(book, workers, reporter)
    past.find_unproven(book)
    book.run(_CLAIMED)
    _compare_pixels(book, store, workers, reporter)
    for group in _groups(book):
        _settle_group(book, group, names)
    rank_slices(book)
    if store is not None:
        _refuse_changed(book, store, names)
        past.mark_committed(book)


def rank_slices(book: Book) -> None:
    """Rank the frames of every series."""
    book.run(_RANKS)


def _digest_files(book: Book, workers: Workers | ClusterWorkers, reporter: Reporter) -> None:
    """Read the files whose digests count and are not known."""
    book.run(_TO_DIGEST)
    count = book.one("SELECT count(*) FROM to_digest")
    if not count:
        return
    under_way: dict[int, list[int]] = {}

    def tasks() -> Iterator[list[DigestTask]]:
        rows = book.each("SELECT id, archive, path, mark FROM to_digest JOIN file ON id = file")
        for number, batch in enumerate(batched(rows, _FILES_A_TASK)):
            under_way[number] = [row[0] for row in batch]
            yield [
                DigestTask(archive, path.decode("utf-8", "surrogateescape"), mark)
                for _, archive, path, mark in batch
            ]

    with reporter.stage("digest", count, "files") as stage:
        for number, answers in workers.run(digest_files, tasks(), stage):
            for file, (digest, reason) in zip(under_way.pop(number), answers, strict=True):
                book.run("UPDATE file SET digest = ? WHERE id = ?", (digest, file))
                if reason is not None:
                    _reject(book, file, reason, "")


def _compare_pixels(
    book: Book, store: reader.Store | None, workers: Workers | ClusterWorkers, reporter: Reporter
) -> None:
    """Decode the files whose attributes cannot tell, and read the committed images that they claim to be."""
    for group in _groups(book):
        claimed = any(book.one("SELECT 1 FROM unproven WHERE key = ?", (key,)) for key in group[0].keys)
        undecided_files = undecided(group, claimed=claimed)
        book.many(
            "INSERT INTO to_decode VALUES (?, ?, NULL)", ((f.digest, f.number) for f in undecided_files)
        )
    decode, compare = (book.one(f"SELECT count(*) FROM {table}") for table in ("to_decode", "unproven"))  # noqa: S608
    if not decode + compare:
        return
    under_way: dict[int, str] = {}

    def tasks() -> Iterator[PixelTask]:
        for number, (digest, file) in enumerate([*book.each("SELECT digest, file FROM to_decode")]):
            under_way[number] = digest
            (copy,) = _files(book, "file.id = ?", file)
            yield PixelTask(mark=copy.mark, sources=copy.sources)

    with reporter.stage("compare", decode + compare, "files") as stage:
        for number, answer in workers.run(digest_pixels, tasks(), stage):
            book.run(
                "UPDATE to_decode SET answer = ? WHERE digest = ?",
                (pickle.dumps(answer), under_way.pop(number)),
            )
        if store is not None:
            for _, digests in workers.run(past.digest_stored, past.stored_tasks(book, store), stage):
                book.many("UPDATE unproven SET pixels = ? WHERE key = ?", digests)


def _settle_group(book: Book, group: Sequence[File], names: Names) -> None:
    answers = {file.digest: answer for file in group if (answer := _answer(book, file)) is not None}
    settled = settle(group, answers)
    for file in group:
        if file.id in settled.rejected:
            _reject(book, file.number, *settled.rejected[file.id])
    if settled.kept is not None and len(group) > 1:
        _replace(book, settled.kept, names)


def _refuse_changed(book: Book, store: reader.Store, names: Names) -> None:
    """Files that contradict what is committed under their UID are out; the committed image stays."""
    for (file,) in _groups(book):
        if not past.is_unchanged(book, store, file, _answer(book, file), names):
            _reject(book, file.number, "uid-conflict", "")


def _groups(book: Book) -> Iterator[list[File]]:
    """Copies that are still in, of every doubtful identity, in the order of preference."""
    for (identity,) in [*book.each("SELECT identity FROM doubtful")]:
        files = by_preference(_files(book, "file.identity = ?", identity))
        if files:
            yield files


def _files(book: Book, condition: str, value: bytes | int) -> Iterator[File]:
    rows = book.each(_FILES.format(condition), (value,))
    for number, its in groupby(rows, key=lambda row: row[0]):
        _, marks, digests, keys, sources = zip(*its, strict=True)
        yield File(
            mark=marks[0],
            digest=digests[0],
            sources=tuple(map(unpack_source, sources)),
            keys=tuple(keys),
            number=number,
        )


def _answer(book: Book, file: File) -> PixelDigests | None:
    packed = book.one("SELECT answer FROM to_decode WHERE digest = ?", (file.digest,))
    answer: PixelDigests | None = packed and pickle.loads(packed)  # noqa: S301 - written above, by this process
    return answer


def _reject(book: Book, file: int, reason: str, detail: str) -> None:
    book.run(
        "UPDATE frame SET reason = ?, detail = ? WHERE file = ? AND reason IS NULL",
        (reason, detail, file),
    )


def _replace(book: Book, file: File, names: Names) -> None:
    """Enter what a file learned from its copies."""
    for source in file.sources:
        at = file.number, source.frame
        book.run(_MERGED, (*names.grouped(source), is_masked(source), pack_labels(source.labels), *at))
        book.run(_HEADER, (pack_source(source), *at))
