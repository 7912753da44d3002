"""A Key Object Selection document, parsed -> the images that it calls key, or rejects (PS3.3 A.35.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydicom.dataset import Dataset

from pyrad.ingest.dicom.parse import identifier, integers, items, text
from pyrad.records import Reference

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"

# PS3.16 CID 7011: rejected for quality, for patient safety, wrong worklist entry, retention has expired
_REJECTIONS = frozenset({"113001", "113037", "113038", "113039"})
# PS3.16 CID 7010: a quality issue, and manifests and groups (all images of a study, ...), choose nothing
_NO_CHOICE = frozenset({"113010", *map(str, range(113030, 113037))})


def key_images(root: Dataset) -> Iterator[Reference]:
    """The images and frames that the document names, as its title means them."""
    titles = items(root, "ConceptNameCodeSequence")[:1]
    codes = {text(title, "CodeValue") for title in titles if text(title, "CodingSchemeDesignator") == "DCM"}
    if codes & _NO_CHOICE:
        return
    role: Literal["key", "rejected"] = "rejected" if codes & _REJECTIONS else "key"
    for content in items(root, "ContentSequence"):
        for instance in items(content, "ReferencedSOPSequence"):
            uid, frames = referenced_instance(instance)
            if not frames:
                yield Reference(role=role, uid=uid)
            for frame in frames:
                yield Reference(role=role, uid=uid, frame=frame)


def referenced_instance(item: Dataset) -> tuple[str, list[int]]:
    """SOP Instance UID and frames, from 0, of an item that names them (PS3.3 10.3); no frames: all."""
    frames = [number - 1 for number in integers(item, "ReferencedFrameNumber") if number]
    return identifier(item, "ReferencedSOPInstanceUID"), frames
