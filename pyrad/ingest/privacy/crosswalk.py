"""A decided book -> the traces that lead back from keys and names to files, for the private folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pyrad.ingest.book import Book
from pyrad.ingest.ledger import ALREADY_STORED, STORED
from pyrad.ingest.privacy.folder import Trace

# Rows come in the order of an index, by CROSS JOIN: to sort them would take paths through temporary files.
# A frame that is stored already keeps the trace of one that is stored.
_ENDED = (
    f"CASE WHEN coalesce(frame.reason, '{ALREADY_STORED}') = '{ALREADY_STORED}' THEN '{STORED}' "
    "ELSE frame.reason END"
)
_TRACES = f"""
SELECT file.name, frame.key, frame.frame, archive, path, digest, coalesce(pixels, ''), {_ENDED}, frame.detail,
    frame.grp
    FROM file CROSS JOIN frame ON frame.file = file.id LEFT JOIN fact ON fact.frame = frame.id
    WHERE frame.key <> '' AND (coalesce(frame.reason, 'forgotten') <> 'forgotten' OR fact.frame IS NOT NULL)
UNION ALL
SELECT name, '', 0, archive, path, digest, '', reason, detail, '' FROM file WHERE reason IS NOT NULL
ORDER BY 1
"""  # noqa: S608 - of constants


def traces(book: Book, store: str, archives: Sequence[Path]) -> Iterator[Trace]:
    """One trace a frame, or a file where it has none, of all that is decided; in the order of their names.

    The way back to what a store has forgotten is gone, and stays gone.
    """
    for name, key, frame, archive, path, digest, pixels, reason, detail, group in book.each(_TRACES):
        yield Trace(
            store=store,
            source=name,
            key=key,
            frame=frame,
            archive=str(archives[archive]),
            path=path.decode("utf-8", "surrogateescape"),
            digest=digest,
            pixels=pixels,
            reason=reason,
            detail=detail,
            group=group,
        )
