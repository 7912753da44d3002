"""RadImageNet as it is released: PNG files by modality, anatomy and pathology, three CSV files -> a table.

Mei et al., RadImageNet: an open radiologic deep learning research dataset for effective transfer learning,
Radiology: AI 4 (2022) e210315.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from pyrad.ingest.csvfile import columns_of, refuse_rows
from pyrad.ingest.layouts import Listing
from pyrad.ingest.split import parse_split
from pyrad.ingest.table import Row, Table

# The anatomy of a label, as the release writes it, and the store's word for it
ANATOMIES = {
    "abd": "abdomen",
    "lung": "lung",
    "af": "anklefoot",
    "brain": "brain",
    "hip": "hip",
    "knee": "knee",
    "mriabd": "abdomen",
    "shoulder": "shoulder",
    "spine": "spine",
    "usabd": "abdomen",
    "usthyroid": "thyroid",
}
_THYROID = ("thyroid", "thyroid_nodule")

_TREE = r"(?:(CT|MR)/([^/]+)|(US))/([^/]+)/[^/]+\.(?i:png)"
_LIST = r"RadiologyAI_(train|val|test)\.csv"


def radimagenet(listing: Listing) -> list[Table]:
    """A row for each image of the authors' three lists; of the folders where there are none."""
    lists = list(listing.search(_LIST))
    first = next(listing.search(_TREE), None)
    if first is None:
        raise listing.unlike("RadImageNet", "radiology_ai/CT/ANATOMY/PATHOLOGY/*.png, and MR and US likewise")
    if not lists:
        rows = tuple(_row(path, _label(*found.groups())) for path, found in listing.search(_TREE))
        note = f"{listing.path.name}: RadiologyAI_train.csv and the like are not there: split by ratio"
        return [Table(name=listing.path.name, rows=rows, notes=(note,))]
    parent = first[0][: max(first[0].find("radiology_ai/"), 0)]
    tables = []
    for path, found in lists:
        name = path.rpartition("/")[2]
        tables.append(Table(name=name, rows=tuple(_listed(listing.read(path), name, parent, found[1]))))
    return tables


def _listed(data: bytes, name: str, parent: str, split: str) -> Iterator[Row]:
    unknown = []
    for number, (file, label) in columns_of(data, name, "filename", "label"):
        if label.partition("-")[0] in ANATOMIES:
            yield _row(parent + file, label, number=number, split=split)
        else:
            unknown.append(number)
    refuse_rows(name, unknown, f"have a label that begins with none of {', '.join(ANATOMIES)} and a hyphen")


def _row(path: str, label: str, *, number: int = 0, split: str = "") -> Row:
    return Row(
        number=number,
        path=path,
        labels=_labels(label),
        split=parse_split(split),
        modality=next((part for part in path.split("/") if part in ("CT", "MR", "US")), ""),
        anatomy=ANATOMIES[label.partition("-")[0]],
    )


def _label(modality: str | None, anatomy: str, ultrasound: str | None, pathology: str) -> str:
    """The folders of an image -> its label as the lists write it: the raw words, joined by a hyphen."""
    if ultrasound:
        anatomy = "usthyroid" if pathology in _THYROID else "usabd"
    elif modality == "MR" and anatomy == "abd":
        anatomy = "mriabd"
    return f"{anatomy}-{pathology}"


@cache  # a million rows share 165 of them
def _labels(label: str) -> tuple[str]:
    return (label,)
