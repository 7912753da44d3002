"""A parsed DICOM file -> one Source a frame: what the plan, the window and the samples table need.

The list of what is read is an allow-list: an element that is not named here or in groups never leaves
the file.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pyrad.ingest import vocabulary
from pyrad.ingest.anatomy import AnatomyTable
from pyrad.ingest.color import is_grey
from pyrad.ingest.dicom.burned_in import admit_burned_in
from pyrad.ingest.dicom.classes import class_name
from pyrad.ingest.dicom.codecs import CODECS
from pyrad.ingest.dicom.groups import (
    FrameGroups,
    code_words,
    frame_facts,
    laterality,
    slice_thickness_mm,
)
from pyrad.ingest.dicom.key_objects import KEY_OBJECT, key_images
from pyrad.ingest.dicom.parse import Parsed, has, identifier, integer, integers, items, text, texts
from pyrad.ingest.dicom.pixels import DicomPixels
from pyrad.ingest.dicom.segmentation import SEGMENTATIONS, Segmentation
from pyrad.ingest.narrow import StoredType, narrow_type
from pyrad.ingest.policy import (
    ScanOptions,
    admit_class,
    admit_image_type,
    has_frame_groups,
    is_prone_to_text,
)
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.selectors import Attributes, admit_selected
from pyrad.records import PixelFormat, Source


def scan_dicom(archive: int, path: str, parsed: Parsed, options: ScanOptions) -> list[Source]:
    """The frames of a file as sources; Rejected for the whole file.

    Pixels are decoded only where the header cannot tell what they will be: wider than 16 bits, or
    ``--color planes``.
    """
    name = class_name(identifier(parsed.dataset, "SOPClassUID"))
    try:
        return _scan(archive, path, parsed, name, options)
    except Rejected as rejected:
        rejected.sop_class = name
        raise


def _scan(archive: int, path: str, parsed: Parsed, name: str, options: ScanOptions) -> list[Source]:
    root = parsed.dataset
    sop_class = identifier(root, "SOPClassUID")
    if sop_class == KEY_OBJECT:
        raise Rejected("key-object", references=key_images(root))
    if sop_class in SEGMENTATIONS:
        raise Rejected("segmentation", references=Segmentation(parsed).references())
    implied = admit_class(sop_class, name, options)
    modality = vocabulary.modality(text(root, "Modality").upper()) or implied
    if options.select:
        admit_selected(_attributes(root, name, modality, options.anatomy), options.select)
    image_type = [value.upper() for value in texts(root, "ImageType")]
    series_words = identifier(root, "SeriesDescription")
    admit_image_type(image_type, series_words, sop_class=sop_class, modality=modality, options=options)
    cut, noted_of_text = admit_burned_in(
        root,
        class_name=name,
        prone=is_prone_to_text(sop_class),
        how=options.burned_in,
        rules=options.rules,
    )
    warnings = set(noted_of_text)
    pixels = DicomPixels.of(parsed)
    groups = FrameGroups(root, pixels.form.frames, required=has_frame_groups(sop_class))
    dtype = _stored_type(pixels)
    common = _common_facts(parsed, pixels, dtype, options, warnings)
    common |= {"modality": modality, "sop_class": name}
    if cut is not None:
        common["cut"] = cut
        if cut.keep is not None:
            top, left, bottom, right = cut.keep
            common["rows"], common["columns"] = bottom - top, right - left

    sources: list[Source] = []
    facts = None
    noted: set[str] = set()
    for frame in range(pixels.form.frames):
        if facts is None or groups.differ:
            noted = set(warnings)
            facts = frame_facts(groups.of(frame), modality, stored=pixels.stored_range, warnings=noted)
        planes, photometric, color_notes = _color(pixels, frame, options)
        sources.append(
            Source(
                archive=archive,
                path=path,
                kind="dicom",
                frame=frame,
                planes=planes,
                photometric=photometric,
                warnings=tuple(sorted(noted | color_notes)),
                **common,
                **facts,
            )
        )
    return sources


def _attributes(root: Dataset, sop_class: str, modality: str, table: AnatomyTable) -> Attributes:
    """What `--select` may ask; of an enhanced object, what its first frame says."""
    groups = FrameGroups(root, 1, required=False).of(0)
    maker = text(root, "Manufacturer")
    found: dict[str, str | None] = {
        "modality": modality,
        "anatomy": _anatomy(root, table)[0],
        "body-part": text(root, "BodyPartExamined"),
        "class": sop_class,
        "description": identifier(root, "SeriesDescription"),
        "laterality": laterality(groups),
        "view": _view(root),
    }
    numbers = {
        "rows": integer(root, "Rows"),
        "columns": integer(root, "Columns"),
        "frames": integer(root, "NumberOfFrames") if has(root, "NumberOfFrames") else 1,
        "slice-thickness": slice_thickness_mm(groups),
    }
    return {
        **{name: (word,) if word else None for name, word in found.items()},
        "image-type": texts(root, "ImageType"),
        "manufacturer": (maker, vocabulary.manufacturer(maker) or maker),
        **{name: None if number is None else float(number) for name, number in numbers.items()},
    }


def _stored_type(pixels: DicomPixels) -> StoredType:
    """The type of the store's bucket; wider pixels are decoded to see whether 16 bits hold them all."""
    dtype = pixels.dtype
    if dtype.itemsize <= 2:
        return cast("StoredType", dtype.name)
    return narrow_type(pixels.values(frame) for frame in range(pixels.form.frames))


def _color(
    pixels: DicomPixels, frame: int, options: ScanOptions
) -> tuple[int, Literal["MONOCHROME1", "MONOCHROME2", "RGB"], set[str]]:
    """Planes and photometric interpretation of a frame as it will be stored, and what was done to it."""
    if not pixels.is_color:
        return 1, "MONOCHROME1" if pixels.form.photometric == "MONOCHROME1" else "MONOCHROME2", set()
    notes = pixels.palette_notes
    if options.color == "planes" and not is_grey(pixels.values(frame)):
        return 3, "RGB", notes
    return 1, "MONOCHROME2", notes | {"color-to-luma"}


def _common_facts(
    parsed: Parsed, pixels: DicomPixels, dtype: StoredType, options: ScanOptions, warnings: set[str]
) -> dict[str, Any]:
    """The fields of a Source that are the same for every frame; ``warnings`` gains what was noticed."""
    root, form = parsed.dataset, pixels.form
    shape = text(root, "PresentationLUTShape").upper()
    uid = identifier(root, "SOPInstanceUID")
    body_part = text(root, "BodyPartExamined")
    anatomy, described = _anatomy(root, options.anatomy)
    noticed = {
        "no-meta": not parsed.has_meta,
        "no-sop-instance-uid": not uid,
        "high-bit-shifted": form.high_bit != form.bits_stored - 1,
        # PS3.3 C.11.6.1.2: INVERSE belongs to MONOCHROME1, whose inversion is done once, by that name
        "presentation-shape-ignored": form.photometric
        == {"INVERSE": "MONOCHROME2", "IDENTITY": "MONOCHROME1"}.get(shape),
        "anatomy-unknown": bool(body_part) and anatomy is None,
        "anatomy-from-description": described,
    }
    warnings |= {code for code, is_so in noticed.items() if is_so}
    wide = np.dtype(dtype).itemsize * 8
    codec = CODECS.get(form.transfer_syntax)
    patient = identifier(root, "PatientID")
    return {
        "rows": form.rows,
        "columns": form.columns,
        "dtype": dtype,
        "bits_stored": wide if pixels.is_color or form.is_float else min(form.bits_stored, wide),
        "padding": None if pixels.is_color else _padding(root, pixels, dtype, warnings),
        "uid": uid,
        "accession": identifier(root, "AccessionNumber") if options.accession else "",
        "patient": f"{patient}\0{identifier(root, 'IssuerOfPatientID')}" if patient else "",
        "study": identifier(root, "StudyInstanceUID"),
        "series": identifier(root, "SeriesInstanceUID"),
        "instance": integer(root, "InstanceNumber"),
        "anatomy": anatomy,
        "view": _view(root),
        "sex": vocabulary.sex(text(root, "PatientSex").upper()),
        "age_band": vocabulary.age_band(text(root, "PatientAge").upper()),
        "manufacturer": vocabulary.manufacturer(text(root, "Manufacturer")),
        "form": None if _needs_header(parsed, pixels.form) else pixels.form,
        "lossy": text(root, "LossyImageCompression") == "01" or (codec is not None and codec.lossy),
    }


def _needs_header(parsed: Parsed, form: PixelFormat) -> bool:
    """Whether decoding takes more than the file's bytes and the format of its pixels."""
    return (
        form.photometric == "PALETTE COLOR"
        or parsed.transfer_syntax == DeflatedExplicitVRLittleEndian
        or has(parsed.dataset, "ExtendedOffsetTable")
    )


def _padding(
    root: Dataset, pixels: DicomPixels, dtype: StoredType, warnings: set[str]
) -> tuple[int, int] | None:
    """The inclusive range of padding in stored values (PS3.3 C.7.5.1.1.2); either bound may come first.

    The value's sign is Pixel Representation's, whatever VR it was written with.
    """
    ends = [
        value - (1 << 16) if pixels.form.signed and value >= 1 << 15 else value
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        for value in integers(root, keyword)[:1]
        if value is not None
    ]
    if not ends or not integers(root, "PixelPaddingValue"):
        return None
    if not pixels.form.signed:
        ends = [value + (1 << 16) if value < 0 else value for value in ends]
    info = np.iinfo(dtype)
    low, high = max(min(ends), int(info.min)), min(max(ends), int(info.max))
    if low > high:
        warnings.add("padding-ignored")
        return None
    return low, high


def _anatomy(root: Dataset, table: AnatomyTable) -> tuple[str | None, bool]:
    """Body Part Examined, else the anatomic region's code, in the root or the shared group; else the series.

    Also whether only the series' description says it.
    """
    groups = items(root, "SharedFunctionalGroupsSequence")[:1]
    places = [root, *(place for group in groups for place in items(group, "FrameAnatomySequence"))]
    regions = [region for place in places for region in code_words(place, "AnatomicRegionSequence")]
    stated = [table.of_text(text(root, "BodyPartExamined"))]
    stated += [table.of_code(code) or table.of_text(meaning) for code, meaning in regions]
    found = next((word for word in stated if word), None)
    described = None if found else table.of_description(identifier(root, "SeriesDescription"))
    return found or described, described is not None


def _view(root: Dataset) -> str | None:
    """View Position, else the mammographic view by its code."""
    position = vocabulary.view(text(root, "ViewPosition").upper())
    if position:
        return position
    codes = [code for code, _word in code_words(root, "ViewCodeSequence")]
    return next((found for code in codes if (found := vocabulary.view_of_code(code))), None)
