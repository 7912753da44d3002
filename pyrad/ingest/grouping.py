"""The frames of a book -> groups that are never divided, and the split of each group.

A group is a patient, or what ``--group-by`` names, or a file of which nothing is known. Before the pixels are
written, what the user's own words get wrong is refused (`check_groups`); once they are, images of which
nothing else is known may join (`join`), and every group gets its split (`assign`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from pyrad.errors import UsageError
from pyrad.ingest.book import Book, unpack_labels
from pyrad.ingest.names import Names
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.split import DEFAULT_SPLIT, Stratum, assign_splits, parse_ratios
from pyrad.records import SPLITS

_LARGE_GROUP = 0.05  # of the images; a patient id that many share is no patient's
_FEW_IMAGES = 200  # among which a large share means nothing
_MANY_GROUPS = 50  # of which none should have a large share
_MANY_STUDIES = 20  # of one patient

# What is or was to be written: a frame that could not be decoded keeps its patient's place.
_PLANNED = "frame JOIN slot ON slot.frame = frame.id"
_DIVIDED = f"""
SELECT count(*), coalesce(sum(images), 0) FROM (
    SELECT count(*) AS images FROM {_PLANNED} GROUP BY grp HAVING count(DISTINCT split) > 1)
"""  # noqa: S608 - a constant, as all below
_GROUPS = f"SELECT count(DISTINCT grp) FROM {_PLANNED}"  # noqa: S608
_SIZES = f"""
SELECT count(*), count(DISTINCT study) FROM {_PLANNED} GROUP BY grp HAVING count(*) > ?
"""  # noqa: S608
_LABELS = f"SELECT DISTINCT grp, split, labels FROM {_PLANNED} ORDER BY grp"  # noqa: S608


def check_groups(book: Book, options: IngestOptions) -> list[str]:
    """UsageError where a layout's own split divides a group; else what a user may want to know of them."""
    if options.split is None:
        ((divided, images),) = book.each(_DIVIDED)
        if divided:
            raise UsageError(
                f"the split of the table or folders divides {divided} {options.group_by} groups "
                f"({images} images) between train, val and test; "
                f"correct it, or split anew by --split {DEFAULT_SPLIT}"
            )
    notes = []
    alone = book.one(f"SELECT count(*) FROM {_PLANNED} WHERE alone")  # noqa: S608
    if alone:
        notes.append(
            f"{alone} images have no {options.group_by}: each is split on its own, and images of one "
            f"person may "
            "be in train and in test"
        )
    return notes + _large_groups(book)


def join(book: Book, groups: Iterable[tuple[str, str]]) -> None:
    """Put images of which nothing else is known into other groups: (group, group that it joins)."""
    book.run("CREATE INDEX frame_of_group ON frame(grp)")
    book.many("UPDATE frame SET grp = ? WHERE grp = ? AND alone", ((other, group) for group, other in groups))


def assign(book: Book, options: IngestOptions, names: Names) -> list[str]:
    """Give every group its split: as committed, else as the layout says, else by ratio; returns notes."""
    strata: dict[str, Stratum] = {}
    moved = 0
    book.run("INSERT INTO group_split SELECT grp, split FROM committed_group")
    for group, rows in groupby(book.each(_LABELS), key=lambda row: row[0]):
        its = [*rows]
        # Images that were joined may come from both sides of a layout's split: the held-out one wins.
        own = max(
            (split for _, split, _ in its if split and options.split is None), key=SPLITS.index, default=None
        )
        committed = book.one("SELECT split FROM committed_group WHERE grp = ?", (group,))
        if committed is not None:
            moved += own is not None and own != committed
        elif own is not None:
            book.run("INSERT INTO group_split VALUES (?, ?)", (group, own))
        else:
            strata[group] = tuple(sorted({label for row in its for label in unpack_labels(row[2])}))
    splits = assign_splits(
        strata,
        parse_ratios(options.split or DEFAULT_SPLIT),
        rank=names.rank,
        committed=[split for (split,) in book.each("SELECT split FROM group_split")],
    )
    book.many("INSERT INTO group_split VALUES (?, ?)", splits.items())
    if not moved:
        return []
    return [f"{moved} groups stay in the split in which they are stored, not in the one given now"]


def recorded_split(book: Book, options: IngestOptions) -> Mapping[str, Any]:
    """How the store was split, for its manifest."""
    ratios = parse_ratios(options.split or DEFAULT_SPLIT)
    own = options.split is None and book.one(
        f"SELECT EXISTS (SELECT 1 FROM {_PLANNED} WHERE split IS NOT NULL)"  # noqa: S608
    )
    return {
        "ratios": [int(ratio) if ratio == int(ratio) else ratio for ratio in ratios],
        "source": "layout" if own else "ratios",
    }


def _large_groups(book: Book) -> list[str]:
    """A note of groups too large for one patient, such as all files of one made-up id.

    In a small archive any patient has a large share: a group counts where there are many others, or where
    it has more studies than a patient has.
    """
    images, groups = book.one("SELECT count(*) FROM slot"), book.one(_GROUPS)
    if images < _FEW_IMAGES:
        return []
    sizes = book.each(_SIZES, (_LARGE_GROUP * images,))
    large = [size for size, studies in sizes if groups >= _MANY_GROUPS or studies >= _MANY_STUDIES]
    if not large:
        return []
    return [
        (
            f"{len(large)} groups hold more than {100 * _LARGE_GROUP:g} % of the images each (the largest "
            f"{max(large)} of {images}): if that is no single patient, use --group-by study"
        )
    ]
