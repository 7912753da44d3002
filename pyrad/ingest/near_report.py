"""Clusters of near duplicates -> one HTML page that loads nothing, with pictures: for the private folder."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from pyrad.ingest.book import Book
from pyrad.ingest.near import clusters
from pyrad.ingest.near_groups import REASON, Near, open_images, stored
from pyrad.ingest.plan import Bucket
from pyrad.ingest.thumbnails import thumbnail
from pyrad.store import reader
from pyrad.store.shard import ShardSpec

_CLUSTERS = 200  # shown; the largest first
_MEMBERS = 12  # shown of each
_PICTURE_PX = 128

_FRAME = """
SELECT key, slot.bucket, row, group_split.split, reason, alone
    FROM frame JOIN slot ON slot.frame = frame.id JOIN group_split USING (grp) WHERE id = ?
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
    """The clusters of near duplicates, the largest first; every group has its split by now."""
    spec_of = {(bucket.id, spec.shard): spec for bucket, spec in shards}
    root = clusters(near.pairs.first, near.pairs.second, len(near.groups))
    found: dict[int, list[Member]] = defaultdict(list)
    for image in np.union1d(near.pairs.first, near.pairs.second).tolist():
        if image >= near.new and store is not None:
            member = _committed(store, image - near.new)
        else:
            member = _new(book, int(near.frames[image]), spec_of)
        found[int(root[image])].append(member)
    return sorted(found.values(), key=lambda members: (-len(members), members[0].key))


def page(store: str, found: Sequence[Sequence[Member]]) -> str:
    """One page for the clusters of an ingest into the store of this name."""
    images = sum(map(len, found))
    divided = sum(len({member.split for member in its if member.outcome != REASON}) > 1 for its in found)
    shown = found[:_CLUSTERS]
    head = (
        f"<h1>Near duplicates in {escape(store)}</h1>\n<p>{len(found):,} clusters of {images:,} images that "
        "are alike whatever their size, compression, window, flip or turn"
        f"{f'; the {len(shown)} largest are shown' if len(shown) < len(found) else ''}. "
        f"{divided:,} of them are in several splits: they are of different patients, or --near-duplicates "
        "list was given.</p>\n<p>Pictures of patients: this page belongs in the private folder. pyrad relink "
        "leads from a key to its file.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Near duplicates</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{head}\n"
        + "\n".join(_section(number, its) for number, its in enumerate(shown, 1))
        + "\n</body>\n</html>\n"
    )


def _committed(store: reader.Store, sample: int) -> Member:
    key, split = (store.samples[name][sample].as_py() for name in ("key", "split"))
    return Member(key=key, split=split, outcome="stored before", images=Path(store.place), number=sample)


def _new(book: Book, frame: int, spec_of: Mapping[tuple[int, int], ShardSpec]) -> Member:
    ((key, bucket, row, split, reason, alone),) = book.each(_FRAME, (frame,))
    some = next(spec for (its, _), spec in spec_of.items() if its == bucket)
    spec = spec_of[bucket, row // some.shard_n]
    known = "no patient known" if alone else "of a known patient"
    return Member(key=key, split=split, outcome=reason or known, images=spec, number=row - spec.first)


def _section(number: int, members: Sequence[Member]) -> str:
    figures = "\n".join(_figure(member) for member in members[:_MEMBERS])
    more = f", {_MEMBERS} shown" if len(members) > _MEMBERS else ""
    return f"<section><h2>{number}: {len(members)} images{more}</h2>\n<div>\n{figures}\n</div></section>"


def _figure(member: Member) -> str:
    with open_images(member.images) as images:
        image = stored(images, member.number)
    small = thumbnail(image, side=_PICTURE_PX) >> 8
    data = io.BytesIO()
    Image.fromarray(small.astype(np.uint8)).save(data, "PNG")
    picture = base64.b64encode(data.getvalue()).decode()
    outcome = f"<strong>{REASON}</strong>" if member.outcome == REASON else member.outcome
    return (
        f'<figure><img alt="" style="aspect-ratio:{image.shape[-1]}/{image.shape[-2]}" '
        f'src="data:image/png;base64,{picture}">'
        f"<figcaption>{member.split}, {outcome}<br>{member.key}</figcaption></figure>"
    )
