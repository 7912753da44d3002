"""What an ingest was told -> which images it stores: limits, object classes, image types, text in pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from pyrad.errors import UsageError
from pyrad.ingest.anatomy import AnatomyTable, packaged
from pyrad.ingest.dicom.burned_in import Rule
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.selectors import Condition

MAX_FILE_BYTES = 4 << 30  # a whole file is read into memory; native Pixel Data ends at 4 GiB
MAX_PIXELS = 1 << 27  # of one frame: four times the largest radiograph, below Pillow's own refusal

INCLUDES = ("sc", "localizer", "dose", "derived", "mpr", "mip")
COLORS = ("luma", "planes")

# PS3.4 B.5 and PS3.6 A: what is stored, by SOP Class UID, and the modality where the header names none.
STORED_CLASSES = {
    f"1.2.840.10008.5.1.4.1.1.{suffix}": modality
    for suffix, modality in {
        "1": "CR",
        "1.1": "DX",
        "1.1.1": "DX",
        "1.2": "MG",
        "1.2.1": "MG",
        "1.3": "DX",  # intra-oral
        "1.3.1": "DX",
        "2": "CT",
        "2.1": "CT",
        "2.2": "CT",  # legacy converted
        "3": "US",  # multi-frame, retired
        "3.1": "US",
        "4": "MR",
        "4.1": "MR",
        "4.3": "MR",  # colour
        "4.4": "MR",  # legacy converted
        "6": "US",  # retired
        "6.1": "US",
        "6.2": "US",  # enhanced volume
        "13.1.3": "MG",  # tomosynthesis
        "13.1.4": "MG",
        "13.1.5": "MG",
    }.items()
}
SECONDARY_CAPTURE = frozenset(
    f"1.2.840.10008.5.1.4.1.1.7{suffix}" for suffix in ("", ".1", ".2", ".3", ".4")
)  # modality OT unless the header says
DICOMDIR = "1.2.840.10008.1.3.10"

# Images of other kinds: nuclear medicine, angiography, PET, endoscopy, photographs, slides, OCT, maps.
_OTHER_IMAGES = re.compile(
    r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(5|12\.\d.*|14\..*|20|128.*|130|30|77\.1\.[1-6](\..*)?|481\.1)"
)
_FRAME_GROUPS = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{suffix}" for suffix in ("2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "13.1.3")
)

_PROJECTION = frozenset({"CR", "DX", "MG"})
_DOSE_TYPES = frozenset({"DOSE", "DOSE_INFO", "DOSE REPORT", "SCREEN SAVE", "SCREENSAVE", "CT_SOM5 PROT"})
_DOSE_SERIES = re.compile(r"\bdose (report|info|record)\b|\bpatient protocol\b", re.IGNORECASE)
_MIP_TYPES = frozenset({"MIP", "MINIP", "PROJECTION IMAGE", "AVERAGE", "VOLREN", "VOLUME RENDERING", "VRT"})
_MPR_TYPES = frozenset({"MPR", "REFORMATTED", "MPR_THICK", "CSA MPR", "CSAPARALLEL"})


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """What shapes the sources of a file; ``digest_key`` is the key of the digests of files."""

    include: tuple[str, ...] = ()
    select: tuple[Condition, ...] = ()
    burned_in: str = "refuse"  # or allow, crop-us-region, rules
    rules: tuple[Rule, ...] = ()
    color: Literal["luma", "planes"] = "luma"
    anatomy: AnatomyTable = field(default_factory=packaged)
    accession: bool = False  # whether Accession Number is read
    digest_key: bytes = b""

    def __post_init__(self) -> None:
        for word in self.include:
            if word not in INCLUDES:
                raise UsageError(f"--include {word!r}: allowed are {', '.join(INCLUDES)}")
        if self.color not in COLORS:
            raise UsageError(f"--color {self.color!r}: allowed are {', '.join(COLORS)}")


def has_frame_groups(sop_class: str) -> bool:
    """Whether objects of the class must describe every frame by a functional group (PS3.3 C.7.6.16)."""
    return sop_class in _FRAME_GROUPS


def admit_class(sop_class: str, name: str, options: ScanOptions) -> str:
    """The modality that the class implies; Rejected with ``name`` (the standard's) if it is not stored."""
    if sop_class in STORED_CLASSES:
        return STORED_CLASSES[sop_class]
    if sop_class in SECONDARY_CAPTURE:
        if "sc" in options.include:
            return "OT"
        raise Rejected("secondary-capture", "SOPClassUID", name)
    if sop_class == DICOMDIR:
        raise Rejected("dicomdir")
    if not sop_class:
        raise Rejected("missing-sop-class", "SOPClassUID")
    if _OTHER_IMAGES.fullmatch(sop_class):
        raise Rejected("class-not-included", "SOPClassUID", name)
    raise Rejected("class-not-imaging", "SOPClassUID", name)


def admit_image_type(
    image_type: list[str], series: str, *, sop_class: str, modality: str, options: ScanOptions
) -> None:
    """Refuse localizers, dose screens, reformats, projections and derived images unless included.

    ``image_type`` are the values of Image Type in upper case, ``series`` the Series Description, which is
    looked at and dropped. The most telling name decides: an MPR is DERIVED too, and ``--include mpr`` is
    enough for it.
    """
    types = set(image_type)
    kind = ""
    if "LOCALIZER" in types:
        kind = "localizer"
    elif types & _DOSE_TYPES or _DOSE_SERIES.search(series):
        kind = "dose"
    elif types & _MPR_TYPES:
        kind = "mpr"
    elif types & _MIP_TYPES:
        kind = "mip"
    # A secondary capture is derived by nature, and the presentation image of a radiograph is derived from its
    # raw detector image: there the word says nothing against it.
    elif image_type[:1] == ["DERIVED"] and sop_class not in SECONDARY_CAPTURE and modality not in _PROJECTION:
        kind = "derived"
    if kind and kind not in options.include:
        raise Rejected(f"image-type-{kind}", "ImageType")


def is_prone_to_text(sop_class: str) -> bool:
    """Whether silence about burned-in text means nothing: it is common in objects of the class."""
    return sop_class in SECONDARY_CAPTURE or STORED_CLASSES.get(sop_class) == "US"
