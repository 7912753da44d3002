"""Clusters of near duplicates -> for the private folder: a list of all, and a page with pictures of some.

The page is one HTML file that loads nothing. It is made while an ingest waits, so it has a bound: 1,200
pictures, read shard by shard.
"""

from __future__ import annotations

import base64
import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from pyrad.ingest.archive import path_text
from pyrad.ingest.book import Book
from pyrad.ingest.near.groups import REASON, Near
from pyrad.ingest.near.pairs import clusters
from pyrad.ingest.near.pictures import open_images, stored
from pyrad.ingest.near.thumbnails import thumbnail
from pyrad.ingest.plan import Bucket
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.store import reader
from pyrad.store.shard import ShardSpec

_CLUSTERS = 100  # drawn
_MEMBERS = 12  # drawn of each
_PICTURE_PX = 128
_QUALITY = 90  # JPEG: a fifteenth of the time of PNG, which was most of the page's

_FRAME = """
SELECT key, bucket.id, slot.id - bucket.first, group_split.split, reason, alone
    FROM frame JOIN slot ON slot.frame = frame.id JOIN bucket USING (geometry) JOIN group_split USING (grp)
    WHERE frame.id = ?
"""
_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 1080px; padding: 2rem 1.25rem 4rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
p { max-width: 75ch; }
section { border-top: 1px solid #8885; margin-top: 1.5rem; }
h2 { font-size: 1.05rem; }
section div { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
img { width: 100%; display: block; background: #000; border-radius: 4px; }
figcaption { font-size: .8rem; line-height: 1.35; padding-top: .3rem; overflow-wrap: anywhere; opacity: .85; }
strong { color: #d0731a; }
"""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One image of a cluster, and what became of it."""

    key: str
    split: str
    outcome: str
    images: ShardSpec | Path  # where its pixels are
    number: int  # slot of the shard, or sample of the store


def find_clusters(
    book: Book, near: Near, shards: Sequence[tuple[Bucket, ShardSpec]], store: reader.Store | None
) -> list[list[Member]]:
    """The clusters of near duplicates, as they are listed; every group has its split by now.

    Those that are in several splits come first, for they are what somebody should look at, then the largest.
    """
    by_bucket: dict[int, list[ShardSpec]] = defaultdict(list)
    for bucket, spec in shards:
        by_bucket[bucket.id].append(spec)
    root = clusters(near.pairs.first, near.pairs.second, len(near.groups))
    found: dict[int, list[Member]] = defaultdict(list)
    for image in np.union1d(near.pairs.first, near.pairs.second).tolist():
        if image >= near.new and store is not None:
            member = _committed(store, image - near.new)
        else:
            member = _new(book, int(near.frames[image]), by_bucket)
        found[int(root[image])].append(member)
    return sorted(found.values(), key=lambda its: (not _divided(its), -len(its), its[0].key))


def leave_report(private: PrivateFolder, store: str, part: str, found: Sequence[Sequence[Member]]) -> Path:
    """Leave the list of all clusters and the page of some in the private folder; returns the page's place."""
    shown = path_text(store)
    name = f"near-duplicates-{shown}-{part}"
    private.write(f"{name}.csv", listing(found).encode())
    private.write(f"{name}.html", page(shown, found, f"{name}.csv").encode())
    return private.path / f"{name}.html"


def listing(found: Iterable[Sequence[Member]]) -> str:
    """CSV of every image of the clusters: number of its cluster, key, split, what became of it."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("cluster", "key", "split", "outcome"))
    for number, members in enumerate(found, 1):
        rows.writerows((number, member.key, member.split, member.outcome) for member in members)
    return text.getvalue()


def page(store: str, found: Sequence[Sequence[Member]], listed: str) -> str:
    """One page for the clusters of an ingest into the store of this name; all are in the file ``listed``."""
    drawn = found[:_CLUSTERS]
    pictures = _pictures(member for members in drawn for member in members[:_MEMBERS])
    images = sum(map(len, found))
    left = images - len(pictures)
    divided = sum(map(_divided, found))
    sides = (
        f"{divided:,} of them are in several splits, and come first: they are of different patients, or "
        "--near-duplicates list was given."
    )
    bound = (
        f"Of the first {_CLUSTERS} clusters up to {_MEMBERS} images each are drawn: {left:,} images are not. "
    )
    head = (
        f"<h1>Near duplicates in {escape(store)}</h1>\n<p>{len(found):,} clusters of {images:,} images that "
        "are alike whatever their size, compression, window, flip or turn. "
        f"{sides if divided else 'Each is in one split.'}</p>\n"
        f"<p>{bound if left else ''}All are listed in {escape(listed)}, beside this page.</p>\n"
        "<p>Pictures of patients: this page belongs in the private folder. pyrad relink leads from a key to "
        "its file.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Near duplicates</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{head}\n"
        + "\n".join(_section(number, its, pictures) for number, its in enumerate(drawn, 1))
        + "\n</body>\n</html>\n"
    )


def _divided(members: Iterable[Member]) -> bool:
    return len({member.split for member in members if member.outcome != REASON}) > 1


def _committed(store: reader.Store, sample: int) -> Member:
    key, split = (store.samples[name][sample].as_py() for name in ("key", "split"))
    return Member(key=key, split=split, outcome="stored before", images=Path(store.place), number=sample)


def _new(book: Book, frame: int, by_bucket: Mapping[int, Sequence[ShardSpec]]) -> Member:
    ((key, bucket, row, split, reason, alone),) = book.each(_FRAME, (frame,))
    specs = by_bucket[bucket]
    spec = specs[row // specs[0].shard_n]
    known = "no patient known" if alone else "of a known patient"
    return Member(key=key, split=split, outcome=reason or known, images=spec, number=row - spec.first)


def _pictures(members: Iterable[Member]) -> dict[Member, tuple[str, str]]:
    """Of each member a small JPEG in base64, and the aspect ratio of its image as CSS has it."""
    by_place: dict[ShardSpec | Path, list[Member]] = defaultdict(list)
    for member in members:
        by_place[member.images].append(member)
    pictures = {}
    for place, its in by_place.items():
        with open_images(place) as images:
            for member in its:
                image = stored(images, member.number)
                small = (thumbnail(image, side=_PICTURE_PX) >> 8).astype(np.uint8)
                data = io.BytesIO()
                Image.fromarray(small).save(data, "JPEG", quality=_QUALITY)
                ratio = f"{image.shape[-1]}/{image.shape[-2]}"
                pictures[member] = base64.b64encode(data.getvalue()).decode(), ratio
    return pictures


def _section(number: int, members: Sequence[Member], pictures: Mapping[Member, tuple[str, str]]) -> str:
    figures = "\n".join(_figure(member, *pictures[member]) for member in members[:_MEMBERS])
    more = f", {_MEMBERS} drawn" if len(members) > _MEMBERS else ""
    return f"<section><h2>{number}: {len(members)} images{more}</h2>\n<div>\n{figures}\n</div></section>"


def _figure(member: Member, picture: str, ratio: str) -> str:
    outcome = f"<strong>{REASON}</strong>" if member.outcome == REASON else member.outcome
    return (
        f'<figure><img alt="" style="aspect-ratio:{ratio}" src="data:image/jpeg;base64,{picture}">'
        f"<figcaption>{member.split}, {outcome}<br>{member.key}</figcaption></figure>"
    )
