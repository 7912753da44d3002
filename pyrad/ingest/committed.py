"""A store before this ingest -> the book: what is stored already, unchanged, or contradicted by a file.

Rows are compared by queries; only what a query cannot tell comes into Python: the attributes of an image
whose file has other bytes now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pyrad.ingest.book import Book, pack_labels, unpack_labels
from pyrad.ingest.duplicates import File
from pyrad.ingest.ledger import ALREADY_STORED, STORED
from pyrad.ingest.privacy.folder import Trace
from pyrad.ingest.privacy.names import Names
from pyrad.ingest.scan import PixelDigests, Share
from pyrad.ingest.workers import pool
from pyrad.records import Source
from pyrad.store import reader

_COMPARED = (
    *("rows", "columns", "slope", "intercept", "photometric", "bits_stored", "lossy"),
    *("laterality", "view", "sex", "age_band", "manufacturer"),
)
_IMAGES_A_TASK = 64
_ROWS_A_BATCH = 1 << 14

# A file is proven to be the committed image of its key where an earlier ingest saw just these bytes.
_UNPROVEN = f"""
INSERT INTO unproven SELECT DISTINCT key, NULL
    FROM committed CROSS JOIN frame USING (key) JOIN file ON file.id = frame.file
    WHERE file.uid AND frame.reason IS NULL AND NOT EXISTS (
        SELECT 1 FROM known WHERE known.key = frame.key AND known.digest = file.digest
            AND known.reason IN ('{STORED}', 'duplicate'))
"""  # noqa: S608 - a constant
_STORED_PIXELS = f"""
INSERT OR IGNORE INTO stored_pixels SELECT pixels, grp FROM known JOIN committed USING (key)
    WHERE known.reason = '{STORED}' AND pixels <> ''
"""  # noqa: S608 - likewise
# Frames that an earlier ingest found to have the pixels of an image that is committed, and left out.
_DROPPED = """
UPDATE frame SET reason = 'duplicate-pixels' WHERE reason IS NULL
    AND file IN (SELECT id FROM file JOIN before ON source = name WHERE before.reason = 'duplicate-pixels')
    AND EXISTS (SELECT 1 FROM known JOIN stored_pixels USING (pixels)
        WHERE known.key = frame.key AND known.reason = 'duplicate-pixels')
"""
# The private folder is not at hand: the ledger knows the file, though not its bytes.
_DROPPED_UNTRACED = """
UPDATE frame SET reason = 'duplicate-pixels' WHERE reason IS NULL AND file IN (
    SELECT id FROM file JOIN before ON source = name
        GROUP BY id HAVING count(*) = 1 AND max(before.reason) = 'duplicate-pixels')
"""
_ALREADY = "UPDATE frame SET reason = ? WHERE reason IS NULL AND key IN (SELECT key FROM committed)"
_OTHER_LABELS = """
SELECT frame.labels, committed.labels FROM frame JOIN committed USING (key)
    WHERE (frame.reason IS NULL OR frame.reason = ?) AND frame.labels <> committed.labels
"""


def read_committed(book: Book, store: reader.Store, traces: Iterable[Trace]) -> bool:
    """Enter a store's keys, groups and ledger, and what the private folder knows of it, into the book.

    Returns whether the folder knew anything.
    """
    at = 0
    for part in store.manifest.parts:
        table = store.samples.of_part(part, ["key", "group", "split", "labels"])
        for batch in table.to_batches(max_chunksize=_ROWS_A_BATCH):
            _enter_samples(book, at, *(column.to_pylist() for column in batch.columns))
            at += len(batch)
        _enter_ledger(book, store.ledger(part).to_pylist())
    book.many(
        "INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)",
        ((trace.key, trace.source, trace.digest, trace.pixels, trace.reason) for trace in traces),
    )
    book.run(_STORED_PIXELS)
    return bool(book.one("SELECT EXISTS (SELECT 1 FROM known)"))


def _enter_samples(
    book: Book, first: int, keys: list[str], groups: list[str], splits: list[str], labels: list[list[str]]
) -> None:
    book.many(
        "INSERT INTO committed VALUES (?, ?, ?, ?)",
        zip(keys, range(first, first + len(keys)), groups, map(pack_labels, map(tuple, labels)), strict=True),
    )
    book.many("INSERT OR IGNORE INTO committed_group VALUES (?, ?)", zip(groups, splits, strict=True))


def _enter_ledger(book: Book, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows of a later part replace all that earlier ones say of the same source."""
    latest: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        latest[row["source"]][row["outcome"], row["reason"]] = row["frames"]
    book.many("DELETE FROM before WHERE source = ?", ((source,) for source in latest))
    book.many(
        "INSERT INTO before VALUES (?, ?, ?, ?)",
        ((source, *what, frames) for source, its in latest.items() for what, frames in its.items()),
    )


def find_unproven(book: Book) -> int:
    """Enter the keys whose committed image must be compared with the file that claims it now."""
    book.run(_UNPROVEN)
    return int(book.one("SELECT count(*) FROM unproven"))


StoredTask = tuple[str, tuple[tuple[str, int], ...]]  # a store, and (key, sample) of some images


def stored_tasks(book: Book, store: reader.Store) -> Iterator[StoredTask]:
    """Tasks for `digest_stored`: the committed images of unproven keys."""
    rows: list[tuple[str, int]] = [*book.each("SELECT key, at FROM unproven JOIN committed USING (key)")]
    for first in range(0, len(rows), _IMAGES_A_TASK):
        yield store.place, tuple(rows[first : first + _IMAGES_A_TASK])


def digest_stored(task: StoredTask) -> list[tuple[str, str]]:
    """In a worker: (keyed digest of the pixels, key) of committed samples."""
    share: Share = pool.shared()
    path, rows = task
    with reader.open_store(path) as store:
        digests = [(share.pixel_digest(store.image(at)), key) for key, at in rows]
    pool.count_done(len(rows))
    return digests


def is_unchanged(
    book: Book, store: reader.Store, file: File, answer: PixelDigests | None, names: Names
) -> bool:
    """Whether a file is still what is committed under its keys; ``answer`` are its pixels."""
    decoded = answer.frames if answer else ("",) * len(file.keys)
    for key, source, pixels in zip(file.keys, file.sources, decoded, strict=True):
        stored = book.one("SELECT pixels FROM unproven WHERE key = ?", (key,))
        if stored is None:  # a new frame, or proven
            continue
        at = book.one("SELECT at FROM committed WHERE key = ?", (key,))
        if stored != pixels or _attributes(source, names) != _row_attributes(_row(store, at)):
            return False
    return True


def mark_committed(book: Book) -> None:
    """Frames that are stored already, or were left out for the pixels of another, are not new."""
    book.run(_ALREADY, (ALREADY_STORED,))
    book.run(_DROPPED if book.one("SELECT EXISTS (SELECT 1 FROM known)") else _DROPPED_UNTRACED)


def other_labels(book: Book) -> list[str]:
    """What to tell where frames are stored without a label that a layout gives them now."""
    rows = book.each(_OTHER_LABELS, (ALREADY_STORED,))
    frames = sum(not set(unpack_labels(now)) <= set(unpack_labels(stored)) for now, stored in rows)
    if not frames:
        return []
    return [
        (
            f"{frames} images are stored with other labels than those given now and keep them; "
            "a new store takes the new labels"
        )
    ]


def _row(store: reader.Store, at: int) -> dict[str, Any]:
    return {name: store.samples[name][at].as_py() for name in store.samples.column_names}


def _attributes(source: Source, names: Names) -> dict[str, Any]:
    attributes = {name: getattr(source, name) for name in _COMPARED}
    belongs = names.grouped(source)
    return attributes | {
        "study": belongs.study,
        "series": belongs.series,
        "window": [(window.center, window.width) for window in source.windows],
        "voi_function": source.windows[0].function if source.windows else None,
        "padding": source.padding,
        "spacing_mm": source.spacing_mm,
    }


def _row_attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    spacing = row["spacing_mm"]
    return {name: row[name] for name in (*_COMPARED, "study", "series", "voi_function")} | {
        "window": list(zip(row["window_center"], row["window_width"], strict=True)),
        "padding": None if row["padding_low"] is None else (row["padding_low"], row["padding_high"]),
        "spacing_mm": None if spacing is None else tuple(spacing),
    }
