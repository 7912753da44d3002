"""A SOP class's UID <-> the standard's name of it (PS3.6 A); no other name passes."""

from __future__ import annotations

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID

from pyrad.ingest.dicom.parse import quiet

_NEWER = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}  # than pydicom's list
_NAMES = frozenset(name.casefold() for name, kind, *_ in UID_dictionary.values() if kind == "SOP Class")


def class_name(uid: str) -> str:
    """The standard's name of a SOP class; "" where it has none: a private UID may say whose file this is."""
    if uid in _NEWER:
        return _NEWER[uid]
    with quiet():
        name = str(UID(uid).name) if len(uid) <= 64 else uid
    return "" if name == uid else name


def is_class_name(name: str) -> bool:
    """Whether the standard calls a SOP class just so; case does not matter."""
    return name.casefold() in _NAMES


def in_a_class_name(words: str) -> bool:
    """Whether a name of the standard's contains ``words``; case does not matter."""
    return any(words.casefold() in name for name in _NAMES)
