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
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.privacy.names import Names
from pyrad.ingest.split import DEFAULT_SPLIT, Stratum, assign_splits, parse_ratios
from pyrad.records import SPLITS

_LARGE_GROUP = 0.05  # of the images; a patient id that many share is no patient's
_FEW_IMAGES = 200  # among which a large share means nothing
_MANY_GROUPS = 50  # of which none should have a large share
_MANY_STUDIES = 20  # of one patient

# What is or was to be written: a frame that could not be decoded keeps its patient's place.
# The index of groups has the facts that are asked for: it is read in its order, by CROSS JOIN.
_PLANNED = "frame CROSS JOIN slot ON slot.frame = frame.id"
_FACTS = f"""
SELECT count(*), sum(alone), sum(divided), sum(images) FILTER (WHERE divided) FROM (
    SELECT count(*) AS images, sum(alone) AS alone, count(DISTINCT split) > 1 AS divided
        FROM {_PLANNED} GROUP BY grp)
"""  # noqa: S608 - a constant, as all below
_LARGE = f"SELECT grp, count(*) FROM {_PLANNED} GROUP BY grp HAVING count(*) > ?"  # noqa: S608
_STUDIES = f"SELECT count(DISTINCT study) FROM {_PLANNED} WHERE grp = ?"  # noqa: S608
_LABELS = f"""
SELECT DISTINCT grp, frame.split, labels, committed_group.split
    FROM {_PLANNED} LEFT JOIN committed_group USING (grp) ORDER BY grp
"""  # noqa: S608


def check_groups(book: Book, options: IngestOptions) -> list[str]:
    """UsageError where a layout's own split divides a group; else what a user may want to know of them."""
    ((groups, alone, divided, images),) = book.each(_FACTS)
    if divided and options.split is None:
        raise UsageError(
            f"the split of the table or folders divides {divided} {options.group_by} groups "
            f"({images} images) between train, val and test; "
            f"correct it, or split anew by --split {DEFAULT_SPLIT}"
        )
    notes = []
    if alone:
        notes.append(
            f"{alone} images have no {options.group_by}: each is split on its own, and images of one "
            f"person may "
            "be in train and in test"
        )
    return notes + _large_groups(book, groups)


def join(book: Book, groups: Iterable[tuple[str, str]]) -> None:
    """Put images of which nothing else is known into other groups: (group, group that it joins)."""
    book.many("UPDATE frame SET grp = ? WHERE grp = ? AND alone", ((other, group) for group, other in groups))


def assign(book: Book, options: IngestOptions, names: Names) -> list[str]:
    """Give every group its split: as committed, else as the layout says, else by ratio; returns notes."""
    strata: dict[str, Stratum] = {}
    moved = 0
    book.run("INSERT INTO group_split SELECT grp, split FROM committed_group")
    for group, rows in groupby(book.each(_LABELS), key=lambda row: row[0]):
        its = [*rows]
        # Images that were joined may come from both sides of a layout's split: the held-out one wins.
        own = max((row[1] for row in its if row[1] and options.split is None), key=SPLITS.index, default=None)
        committed = its[0][3]
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


def _large_groups(book: Book, groups: int) -> list[str]:
    """A note of groups too large for one patient, such as all files of one made-up id.

    In a small archive any patient has a large share: a group counts where there are many others, or where
    it has more studies than a patient has.
    """
    images = book.one("SELECT count(*) FROM slot")
    if images < _FEW_IMAGES:
        return []
    large = [
        size
        for group, size in [*book.each(_LARGE, (_LARGE_GROUP * images,))]
        if groups >= _MANY_GROUPS or book.one(_STUDIES, (group,)) >= _MANY_STUDIES
    ]
    if not large:
        return []
    return [
        (
            f"{len(large)} groups hold more than {100 * _LARGE_GROUP:g} % of the images each (the largest "
            f"{max(large)} of {images}): if that is no single patient, use --group-by study"
        )
    ]
