"""A segmentation, parsed -> which image each of its frames belongs to; some frames -> one mask (PS3.3 A.51).

Segments are united: a store's mask says where any is. A frame belongs to an image where it was made of that
one alone, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pyrad.ingest.dicom.groups import FrameGroups
from pyrad.ingest.dicom.key_objects import referenced_instance
from pyrad.ingest.dicom.parse import Parsed, identifier, integer, items, text
from pyrad.ingest.dicom.pixels import DicomPixels
from pyrad.ingest.reasons import Rejected
from pyrad.records import Reference

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # and label maps
_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


class Segmentation:
    """One segmentation; Rejected where it cannot be read."""

    def __init__(self, parsed: Parsed) -> None:
        self._root = parsed.dataset
        if text(self._root, "PhotometricInterpretation") == "PALETTE COLOR":
            self._root.PhotometricInterpretation = "MONOCHROME2"  # labels, whatever colour they are shown in
        self._pixels = DicomPixels.of(parsed)
        self._kind = text(self._root, "SegmentationType").upper()
        self._maximum = integer(self._root, "MaximumFractionalValue") or 0
        self._background = [0, integer(self._root, "PixelPaddingValue") or 0]
        if self._kind not in _KINDS or self._pixels.is_color:
            raise Rejected("bad-segmentation", "SegmentationType")
        if self._kind == "FRACTIONAL" and self._maximum < 1:
            raise Rejected("bad-segmentation", "MaximumFractionalValue")

    def references(self) -> Iterator[Reference]:
        """The image that each frame lies on: the one it was made of, or one frame of it, in its place.

        A frame that was made of none, of several, or not pixel by pixel, has a reference without a UID.
        """
        form = self._pixels.form
        groups = FrameGroups(self._root, form.frames, required=False)
        own_uid = identifier(self._root, "SOPInstanceUID")
        for own_frame in range(form.frames):
            images = _sources(groups.of(own_frame))
            alone = len(images) == 1 and len(images[0][1]) <= 1
            uid, frames = images[0] if alone else ("", [])
            yield Reference(
                role="mask",
                uid=uid,
                frame=frames[0] if frames else None,
                own_uid=own_uid,
                own_frame=own_frame,
                rows=form.rows,
                columns=form.columns,
            )

    def mask(self, frames: Iterable[int]) -> NDArray[np.bool_]:
        """(rows, columns): where any of ``frames`` has a segment."""
        masks = [self._inside(self._pixels.values(frame)) for frame in frames]
        union: NDArray[np.bool_] = np.logical_or.reduce(masks)
        return union

    def _inside(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        if self._kind == "FRACTIONAL":  # half of the maximum or more (PS3.3 C.8.20.2.3)
            return values.astype(np.int64) * 2 >= self._maximum
        return np.isin(values, self._background, invert=True)


def _sources(groups: list[Dataset]) -> list[tuple[str, list[int]]]:
    """The images of which a frame was made; the first of its functional groups that knows any tells."""
    for group in groups:
        found = [
            source
            for derivation in items(group, "DerivationImageSequence")
            for source in items(derivation, "SourceImageSequence")
        ]
        if found:
            in_place = [text(source, "SpatialLocationsPreserved") in ("", "YES") for source in found]
            return [referenced_instance(source) for source in found] if all(in_place) else []
    return []
