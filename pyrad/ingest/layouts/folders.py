"""Folders that hold images -> classes, and splits where the folders are named so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyrad.errors import UsageError
from pyrad.ingest.archive import path_text
from pyrad.ingest.layouts import Listing
from pyrad.ingest.split import parse_split
from pyrad.records import Split

_CLASSES_BELIEVED = 20  # so many folders may be classes, however few images they hold
_IMAGES_A_CLASS = 5  # more folders than that must hold so many on average


def folder_labels(folders: Iterable[str], wrapper: str = "") -> dict[str, tuple[str, Split | None]]:
    """Folder -> (label, split): the label is its path with all folders above it, "" for the root.

    ``wrapper`` is a leading folder that says nothing. Where the first folders are all words for train, val
    and test, they are the split and no part of the label.
    """
    inner = {folder: path_text(f"{folder}/".removeprefix(wrapper).rstrip("/")) for folder in folders}
    firsts = {path.partition("/")[0] for path in inner.values()}
    splits = {first: parse_split(first) for first in firsts}
    if len(firsts) < 2 or None in splits.values():
        return {folder: (path, None) for folder, path in inner.items()}
    return {
        folder: (path.partition("/")[2], splits[path.partition("/")[0]]) for folder, path in inner.items()
    }


def believe_classes(images: Mapping[str, int], name: str) -> None:
    """UsageError where the folders of a source, with so many images each, do not look like classes."""
    if len(images) > max(_CLASSES_BELIEVED, sum(images.values()) / _IMAGES_A_CLASS):
        raise UsageError(
            f"{name}: its {len(images)} folders with {sum(images.values())} images do not look like "
            f"classes, and names "
            "of folders would become labels; give a table (--table FILE), or --layout folder if they are "
            "classes"
        )


def wrapper_of(listing: Listing) -> str:
    """``scans.zip`` that holds the one folder ``scans``: that folder only wraps."""
    return listing.top if listing.top == f"{listing.path.stem}/" and listing.path.is_file() else ""
