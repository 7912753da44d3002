"""The functional groups of an enhanced object, or the root of a plain one -> the facts of one frame.

What an enhanced object says of a frame comes from its Per-Frame Functional Groups, then the Shared ones, then
the root; of a plain object the root is all there is (PS3.3 C.7.6.16).
"""

from __future__ import annotations

import math
from typing import TypedDict

from pydicom.dataset import Dataset

from pyrad.ingest import vocabulary
from pyrad.ingest.dicom.luts import read_lut
from pyrad.ingest.dicom.parse import decimals, has, integer, items, text, texts
from pyrad.ingest.reasons import Rejected
from pyrad.records import Lut, VoiFunction, Window

_CENTIMETRES = 3  # PS3.3 C.8.5.5.1.15, Physical Units
_VOI_FUNCTIONS: dict[str, VoiFunction] = {
    "": "LINEAR",
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}

# The sequence of each functional group macro, and what stands in it: PS3.3 C.7.6.16.2.9 and C.7.6.16.2.10
_TRANSFORMATION = (
    "PixelValueTransformationSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
)
_VOI = ("FrameVOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTSequence")


class FrameFacts(TypedDict):
    """The fields of a Source that may differ from frame to frame."""

    slope: float
    intercept: float
    modality_lut: Lut | None
    windows: tuple[Window, ...]
    voi_lut: Lut | None
    spacing_mm: tuple[float, float] | None
    position_mm: float | None
    laterality: str | None


class FrameGroups:
    """The functional groups of each frame, most specific first."""

    def __init__(self, root: Dataset, frames: int, *, required: bool) -> None:
        self._root = root
        self._per_frame = items(root, "PerFrameFunctionalGroupsSequence")
        self._shared = items(root, "SharedFunctionalGroupsSequence")[:1]
        if (self._per_frame or required) and len(self._per_frame) < frames:
            raise Rejected(
                "too-few-frame-items",
                "PerFrameFunctionalGroupsSequence",
                f"{len(self._per_frame)} for {frames} frames",
            )

    @property
    def differ(self) -> bool:
        """Whether frames may differ at all."""
        return bool(self._per_frame)

    def of(self, frame: int) -> list[Dataset]:
        """Per-frame, shared and root data sets, in the order in which they are asked."""
        return [*self._per_frame[frame : frame + 1], *self._shared, self._root]


def frame_facts(
    groups: list[Dataset], modality: str, *, stored: tuple[int, int] | None, warnings: set[str]
) -> FrameFacts:
    """The facts of one frame; ``warnings`` gains what was left out.

    ``stored`` are the least and greatest stored value there can be; None for colour, which has neither
    rescale nor window.
    """
    grey = stored is not None
    modality_lut = _modality_lut(groups, modality, stored, warnings) if stored else None
    slope, intercept = (1.0, 0.0) if modality_lut or not grey else _rescale(groups, modality, warnings)
    values = (0, 0) if modality_lut or not stored else [slope * end + intercept for end in stored]
    return {
        "slope": slope,
        "intercept": intercept,
        "modality_lut": modality_lut,
        "windows": _windows(groups, warnings) if grey else (),
        "voi_lut": _voi_lut(groups, warnings, signed=min(values) < 0) if grey else None,
        "spacing_mm": _spacing(groups, modality, warnings),
        "position_mm": _position(groups),
        "laterality": laterality(groups),
    }


def laterality(groups: list[Dataset]) -> str | None:
    """R, L, B or U, as the frame, the image or the series says."""
    keywords = ("FrameLaterality", "ImageLaterality", "Laterality")
    side = _macro(groups, "FrameAnatomySequence", *keywords)
    words = [text(side, keyword).upper() for keyword in keywords]
    return next((found for word in words if (found := vocabulary.laterality(word))), None)


def slice_thickness_mm(groups: list[Dataset]) -> float | None:
    """Slice Thickness, where it is one number."""
    values = decimals(_macro(groups, "PixelMeasuresSequence", "SliceThickness"), "SliceThickness")
    return values[0] if len(values) == 1 else None


def _macro(groups: list[Dataset], sequence: str, *keywords: str) -> Dataset:
    """The first data set with any of ``keywords``: in ``sequence`` of a functional group, else the root."""
    *functional, root = groups
    for group in functional:
        for item in items(group, sequence)[:1]:
            if any(has(item, keyword) for keyword in keywords):
                return item
    return root


def _rescale(groups: list[Dataset], modality: str, warnings: set[str]) -> tuple[float, float]:
    """Rescale Slope and Intercept (PS3.3 C.11.1); both absent: identity. Zero or no number is refused."""
    source = _macro(groups, *_TRANSFORMATION)
    present = [keyword for keyword in ("RescaleSlope", "RescaleIntercept") if has(source, keyword)]
    found: dict[str, float] = {}
    for keyword in present:
        values = decimals(source, keyword)
        value = values[0] if len(values) == 1 else None
        if value is None or (keyword == "RescaleSlope" and value == 0):
            raise Rejected("bad-rescale", keyword)
        found[keyword] = value
    if len(present) == 1:
        warnings.add("rescale-incomplete")
    kind = text(source, "RescaleType").upper()
    if modality == "CT" and present and kind not in ("", "HU"):
        warnings.add("rescale-type-not-hu")
    return found.get("RescaleSlope", 1.0), found.get("RescaleIntercept", 0.0)


def _modality_lut(
    groups: list[Dataset], modality: str, stored: tuple[int, int], warnings: set[str]
) -> Lut | None:
    """The Modality LUT (PS3.3 C.11.1.1), which stands in place of a rescale; damaged, it is refused."""
    source = _macro(groups, *_TRANSFORMATION)
    sequence = items(source, "ModalityLUTSequence")
    if not sequence:
        return None
    found = read_lut(sequence[0], signed=stored[0] < 0)  # C.11.1.1.1: as Pixel Representation
    if found is None:
        raise Rejected("bad-modality-lut", "ModalityLUTSequence")
    if has(source, "RescaleSlope") or has(source, "RescaleIntercept"):
        warnings.add("rescale-ignored")
    if modality == "CT" and text(sequence[0], "ModalityLUTType").upper() not in ("", "HU"):
        warnings.add("rescale-type-not-hu")
    return found[0]


def _voi_lut(groups: list[Dataset], warnings: set[str], *, signed: bool) -> Lut | None:
    """The first VOI LUT (PS3.3 C.11.2.1.1); ``signed`` says whether a modality value may be negative."""
    sequence = items(_macro(groups, *_VOI), "VOILUTSequence")
    if not sequence:
        return None
    found = read_lut(sequence[0], signed=signed)
    if found is None:
        warnings.add("voi-lut-ignored")
        return None
    lut, declared_bits = found
    if lut.bits != declared_bits:
        warnings.add("voi-lut-bits")
    return lut


def _windows(groups: list[Dataset], warnings: set[str]) -> tuple[Window, ...]:
    """The windows that can be applied, in their order (PS3.3 C.11.2.1.2)."""
    source = _macro(groups, *_VOI)
    centers, widths = decimals(source, "WindowCenter"), decimals(source, "WindowWidth")
    name = text(source, "VOILUTFunction").upper()
    function = _VOI_FUNCTIONS.get(name, "LINEAR")
    windows: list[Window] = []
    if len(centers) != len(widths):
        warnings.add("window-ignored")
    for center, width in zip(centers, widths, strict=False):
        if center is None or width is None or width <= 0:
            warnings.add("window-ignored")
        elif function == "LINEAR" and width < 1:
            warnings.add("window-narrow")
            windows.append(Window(center=center, width=width, function="LINEAR_EXACT"))
        else:
            windows.append(Window(center=center, width=width, function=function))
    if windows and name not in _VOI_FUNCTIONS:
        warnings.add("voi-function-unknown")
    return tuple(windows)


def _spacing(groups: list[Dataset], modality: str, warnings: set[str]) -> tuple[float, float] | None:
    """Row and column spacing in mm; missing stays missing, and Imager Pixel Spacing is another thing."""
    if modality == "US":
        return _ultrasound_spacing(groups[-1])
    values = decimals(_macro(groups, "PixelMeasuresSequence", "PixelSpacing"), "PixelSpacing")
    if not values:
        return None
    if len(values) == 2 and values[0] and values[1] and values[0] > 0 and values[1] > 0:
        return values[0], values[1]
    warnings.add("spacing-ignored")
    return None


def _ultrasound_spacing(root: Dataset) -> tuple[float, float] | None:
    """The spacing of the one region whose both axes are lengths (PS3.3 C.8.5.5); of several, none."""
    found: list[tuple[float, float]] = []
    for region in items(root, "SequenceOfUltrasoundRegions"):
        units = [integer(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
        y, x = ((decimals(region, f"PhysicalDelta{axis}") or [None])[0] for axis in "YX")
        if units == [_CENTIMETRES, _CENTIMETRES] and x and y:
            found.append((abs(y) * 10, abs(x) * 10))
    return found[0] if len(found) == 1 else None


def _position(groups: list[Dataset]) -> float | None:
    """Image Position along the normal of the image plane, in mm (PS3.3 C.7.6.2.1.1)."""
    keyword = "ImageOrientationPatient"
    axes = decimals(_macro(groups, "PlaneOrientationSequence", keyword), keyword)
    keyword = "ImagePositionPatient"
    point = decimals(_macro(groups, "PlanePositionSequence", keyword), keyword)
    if len(axes) != 6 or len(point) != 3 or None in axes or None in point:
        return None
    (rx, ry, rz, cx, cy, cz), (x, y, z) = ([value or 0.0 for value in values] for values in (axes, point))
    normal = (ry * cz - rz * cy, rz * cx - rx * cz, rx * cy - ry * cx)
    position = normal[0] * x + normal[1] * y + normal[2] * z
    return position if math.isfinite(position) else None


def code_words(dataset: Dataset, sequence: str) -> list[tuple[str, str]]:
    """Code Value and Code Meaning of each item of a code sequence (PS3.3 8.1)."""
    return [
        (text(item, "CodeValue"), " ".join(texts(item, "CodeMeaning"))) for item in items(dataset, sequence)
    ]
