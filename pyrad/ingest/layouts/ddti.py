"""DDTI: thyroid ultrasound, an XML file a case with TI-RADS and outlines of nodules -> a table.

Pedraza et al., An open access thyroid ultrasound image database, Proc. SPIE 9287 (2015) 92870W.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any
from xml.parsers import expat

from pyrad.ingest.layouts import Listing
from pyrad.ingest.outlines import is_outline
from pyrad.ingest.table import Row, Table
from pyrad.records import Outline

TIRADS = ("1", "2", "3", "4a", "4b", "4c", "5")

_MAX_BYTES = 4 << 20  # the largest case has some 20 kB
_MAX_DEPTH = 16


class _Unreadable(Exception):  # noqa: N818 - not an error of pyrad: the images of the case are quarantined
    """A case file, or an outline in it, that is not what DDTI publishes."""


def ddti(listing: Listing) -> list[Table]:
    """A row for each image ``CASE_IMAGE.jpg``: its case, the case's TI-RADS, its outlines."""
    images: dict[str, dict[str, str]] = defaultdict(dict)  # folder/case -> image number -> path
    for path, found in listing.search(r"(\d+)_(\d+)\.(?i:jpe?g)"):
        images[path.rpartition("/")[0] + "/" + found[1]][found[2]] = path
    cases = {path.removesuffix(".xml"): path for path, _ in listing.search(r"\d+\.xml")}
    cases = {stem if "/" in stem else "/" + stem: path for stem, path in cases.items()}
    if not images.keys() & cases.keys():
        raise listing.unlike("DDTI", "images such as 1_1.jpg and case files such as 1.xml beside them")
    rows: list[Row] = []
    for case, its in images.items():
        rows += _case_rows(listing, case.rpartition("/")[2], its, cases.get(case))
    name = listing.path.name
    unlabelled = sum(not row.labels for row in rows)
    broken = sum(bool(row.masks) for row in rows)
    notes = [f"{name}: {unlabelled} images are of cases without TI-RADS"] if unlabelled else []
    notes += [f"{name}: {broken} images have outlines that cannot be read"] if broken else []
    return [Table(name=name, rows=tuple(rows), notes=tuple(notes))]


def _case_rows(listing: Listing, case: str, images: dict[str, str], xml: str | None) -> list[Row]:
    """The images of a case; where outlines cannot be read, the case file stands as a mask that is none."""
    try:
        fields = _fields(listing.read(xml)) if xml else []
    except _Unreadable:
        fields = [field for number in images for field in (("image", number), ("svg", "{"))]
    tirads = next((text.lower() for tag, text in fields if tag == "tirads"), "")
    svgs: dict[str, list[str]] = defaultdict(list)
    number = ""
    for tag, text in fields:
        if tag == "image":
            number = text
        elif tag == "svg" and text:
            svgs[number].append(text)
    rows = []
    for image, path in images.items():
        try:
            outlines = tuple(outline for svg in svgs[image] for outline in _outlines(svg))
            masks: tuple[str, ...] = ()
        except _Unreadable:
            outlines, masks = (), (xml or "",)
        rows.append(
            Row(
                path=path,
                labels=(f"tirads-{tirads}",) if tirads in TIRADS else (),
                patient=f"ddti/{case}",
                masks=masks,
                outlines=outlines,
                modality="US",
                anatomy="thyroid",
            )
        )
    return rows


def _fields(data: bytes) -> list[tuple[str, str]]:
    """Tag and text of every element, in the order of their ends."""
    if len(data) > _MAX_BYTES:
        raise _Unreadable
    fields: list[tuple[str, str]] = []
    texts: list[list[str]] = []
    parser = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise _Unreadable

    def start(_tag: str, _attributes: dict[str, str]) -> None:
        if len(texts) >= _MAX_DEPTH:
            raise _Unreadable
        texts.append([])

    def say(text: str) -> None:
        texts[-1].append(text)

    def end(tag: str) -> None:
        fields.append((tag, "".join(texts.pop()).strip()))

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.CharacterDataHandler = say
    parser.EndElementHandler = end
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):  # ValueError: an encoding that expat does not know
        raise _Unreadable from None
    return fields


def _outlines(svg: str) -> list[Outline]:
    """``[{"points": [{"x": 250, "y": 72}, ...]}, ...]`` -> polygons."""
    try:
        outlines = [
            tuple((float(point["x"]), float(point["y"])) for point in region["points"])
            for region in json.loads(svg)
        ]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise _Unreadable from None
    if not all(map(is_outline, outlines)):
        raise _Unreadable
    return outlines
