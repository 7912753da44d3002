"""Key Object Selections and Segmentations in memory, as the standard builds them."""

from collections.abc import Sequence

import numpy as np
from dicoms import CLASSES, dicom, item, write
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
OF_INTEREST = "113000"
REJECTED = ("113001", "113037", "113038", "113039")


def instance(uid: str, frames: Sequence[int] = (), **elements: object) -> Dataset:
    """An item that names an image, and frames of it counted from 1."""
    named = item(ReferencedSOPClassUID=CLASSES["CT"], ReferencedSOPInstanceUID=uid, **elements)
    if frames:
        named.ReferencedFrameNumber = list(frames)
    return named


def code(value: str, scheme: str = "DCM", meaning: str = "a title") -> Dataset:
    """An item of a code sequence."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def key_object(title: Dataset | None, *instances: Dataset, uid: str = "1.2.59") -> bytes:
    """A Key Object Selection document of instances, under a title."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = KEY_OBJECT, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", "1.2.3.59", "KO"
    dataset.ValueType = "CONTAINER"
    if title is not None:
        dataset.ConceptNameCodeSequence = [title]
    dataset.ContentSequence = [
        item(RelationshipType="CONTAINS", ValueType="TEXT", TextValue="seen by Dr Doe"),
        *(
            item(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=[it])
            for it in instances
        ),
    ]
    return write(dataset, ExplicitVRLittleEndian)


def segmentation(
    masks: Sequence[np.ndarray],
    sources: Sequence[Sequence[Dataset]],
    *,
    kind: str = "BINARY",
    **elements: object,
) -> bytes:
    """A segmentation with a frame for each of ``masks``, made of the images of ``sources``.

    Binary masks are packed to bits without gaps (PS3.5 8.2), others are bytes as they are.
    """
    stack = np.stack(masks)
    binary = kind == "BINARY"
    cells = np.packbits(stack.ravel() > 0, bitorder="little").tobytes() if binary else stack.tobytes()
    bits = 1 if binary else 8
    groups = [
        item(DerivationImageSequence=[item(SourceImageSequence=list(its))] if its else []) for its in sources
    ]
    settings = {
        "Rows": stack.shape[1], "Columns": stack.shape[2],
        "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "SegmentationType": kind, "SOPInstanceUID": "1.2.66", "BurnedInAnnotation": None, "Modality": "SEG",
        "PerFrameFunctionalGroupsSequence": groups, "SharedFunctionalGroupsSequence": [item()],
    } | elements  # fmt: skip
    return dicom(cells + b"\0" * (len(cells) % 2), sop_class=SEGMENTATION, frames=len(stack), **settings)
