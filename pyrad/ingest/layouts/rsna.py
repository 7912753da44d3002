"""The RSNA challenges on pneumonia (2018) and intracranial haemorrhage (2019): DICOM with a CSV -> a table.

Shih et al., Augmenting the National Institutes of Health chest radiograph dataset with expert annotations of
possible pneumonia, Radiology: AI 1 (2019) e180041. Flanders et al., Construction of a machine learning
dataset through collaboration, Radiology: AI 2 (2020) e190211.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pyrad.ingest.csvfile import columns_of, is_missing, refuse_rows
from pyrad.ingest.layouts import Listing
from pyrad.ingest.outlines import box, is_outline
from pyrad.ingest.table import Row, Table
from pyrad.records import Outline

OPACITY = "Lung Opacity"
NO_OPACITY = "No Lung Opacity"  # where the detailed classes, which tell normal from abnormal, are not there

HAEMORRHAGES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
NO_HAEMORRHAGE = "none"

_BOXES = "stage_2_train_labels.csv"
_CLASSES = "stage_2_detailed_class_info.csv"


def rsna_pneumonia(listing: Listing) -> list[Table]:
    """A row for each labelled radiograph: its class, and its boxes as outlines."""
    paths = _by_stem(listing, r"stage_2_train_images/([^/]+)\.(?i:dcm)")
    tables = _tables(listing, _BOXES)
    if not tables or not paths:
        raise listing.unlike("RSNA pneumonia", f"stage_2_train_images/*.dcm and {_BOXES}")
    boxes: dict[str, list[Outline]] = defaultdict(list)
    first: dict[str, int] = {}
    bad = []
    columns = columns_of(listing.read(tables[0]), _BOXES, "patientId", "x", "y", "width", "height", "Target")
    for number, (name, *corner, target) in columns:
        first.setdefault(name, number)
        outline = _box(corner)
        if target not in ("0", "1") or (outline is None) != (target == "0"):
            bad.append(number)
        elif outline:
            boxes[name].append(outline)
    refuse_rows(_BOXES, bad, "have neither Target 1 with a box nor Target 0 without one")
    classes = _classes(listing, boxes)
    return [
        Table(
            name=_BOXES,
            rows=tuple(
                Row(
                    number=number,
                    path=paths.get(name, name),
                    labels=(classes.get(name, OPACITY if boxes[name] else NO_OPACITY),),
                    outlines=tuple(boxes[name]),
                    anatomy="chest",
                )
                for name, number in first.items()
            ),
        )
    ]


def rsna_ich(listing: Listing) -> list[Table]:
    """A row for each labelled slice: the kinds of haemorrhage that it shows."""
    paths = _by_stem(listing, r"stage_[12]_train(?:_images)?/(ID_[0-9a-f]+)\.(?i:dcm)")
    tables = _tables(listing, r"stage_[12]_train\.csv")
    if not tables or not paths:
        raise listing.unlike("RSNA intracranial haemorrhage", "stage_2_train/ID_*.dcm and stage_2_train.csv")
    path = tables[-1]  # of two stages the second
    title = path.rpartition("/")[2]
    first: dict[str, int] = {}
    told: dict[str, int] = defaultdict(int)  # a bit for each kind that is told of the slice
    shown: dict[str, int] = defaultdict(int)  # and for each that it shows
    bad = []
    for number, (identity, label) in columns_of(listing.read(path), title, "ID", "Label"):
        name, _, kind = identity.rpartition("_")
        if kind not in HAEMORRHAGES or label not in ("0", "1"):
            bad.append(number)
            continue
        bit = 1 << HAEMORRHAGES.index(kind)
        if told[name] & bit and bool(shown[name] & bit) != (label == "1"):
            bad.append(number)
        first.setdefault(name, number)
        told[name] |= bit
        shown[name] |= bit * (label == "1")
    refuse_rows(title, bad, "are no slice with a kind and 0 or 1, or contradict an earlier row")
    rows = (
        Row(number=number, path=paths.get(name, name), labels=_kinds(shown[name]), anatomy="head")
        for name, number in first.items()
    )
    return [Table(name=title, rows=tuple(rows))]


def _kinds(shown: int) -> tuple[str, ...]:
    kinds = tuple(sorted(kind for n, kind in enumerate(HAEMORRHAGES) if shown >> n & 1))
    return kinds or (NO_HAEMORRHAGE,)


def _by_stem(listing: Listing, pattern: str) -> dict[str, str]:
    return {found[1]: path for path, found in listing.search(pattern)}


def _tables(listing: Listing, pattern: str) -> list[str]:
    return sorted((path for path, _ in listing.search(pattern)), key=lambda path: path.rpartition("/")[2])


def _box(corner: list[str]) -> Outline | None:
    """x, y, width and height as numbers; None where one is missing or makes no box."""
    try:
        x, y, width, height = (float(cell) for cell in corner)
    except ValueError:
        return None
    outline = box(x, y, width, height)
    return outline if width > 0 and height > 0 and is_outline(outline) else None


def _classes(listing: Listing, boxes: dict[str, list[Outline]]) -> dict[str, str]:
    """The detailed class of each radiograph; empty where the file is not there."""
    classes: dict[str, str] = {}
    bad = []
    for number, (name, label) in _class_rows(listing):
        if is_missing(label) or (label == OPACITY) != (name in boxes) or classes.get(name, label) != label:
            bad.append(number)
        classes[name] = label
    refuse_rows(_CLASSES, bad, f"contradict {_BOXES} or an earlier row, or have no class")
    return classes


def _class_rows(listing: Listing) -> Iterator[tuple[int, tuple[str, ...]]]:
    for path in _tables(listing, _CLASSES)[:1]:
        yield from columns_of(listing.read(path), _CLASSES, "patientId", "class")
