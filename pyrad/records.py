"""The nouns of pyrad: what one stage hands to the next. Plain frozen records, no behaviour, no torch.

archive --Source--> plan --Sample--> store --Batch--> model --> evaluation
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Outline = tuple[tuple[float, float], ...]  # a closed polygon of (x, y) in pixels from the upper left corner

VoiFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]  # PS3.3 C.11.2.1.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A VOI window in modality units (HU for CT), after rescale. Source: DICOM PS3.3 C.11.2.1.2."""

    center: float
    width: float
    function: VoiFunction = "LINEAR"


@dataclass(frozen=True, kw_only=True, slots=True, order=True, repr=False)
class Lut:
    """A lookup table: ``first`` becomes the first entry, the next value the next; outside, the nearest end.

    ``entries`` are 1 to 65,536 little-endian uint16; ``bits`` is the depth of what comes out: a VOI LUT shows
    2**bits - 1 as 1. Sources: DICOM PS3.3 C.11.1.1.1 and C.11.2.1.1.
    """

    first: int
    bits: int
    entries: bytes

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.entries).hexdigest()
        return f"Lut(first={self.first}, bits={self.bits}, entries={len(self.entries) // 2}, sha256={digest})"


Rectangle = tuple[int, int, int, int]  # top, left, bottom, right in pixels from 0; the last two just outside


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What is stored of a frame that may show text: ``keep`` (None: all of it), with ``blank`` blanked."""

    rows: int  # of the frame in the file
    columns: int
    keep: Rectangle | None = None
    blank: tuple[Rectangle, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """What an object says of an image: that it is key, that it is rejected, or where its mask is."""

    role: Literal["key", "rejected", "mask"]
    uid: str  # the image's SOP Instance UID; private, as those of a Source
    frame: int | None = None  # from 0; None: every frame
    # of a mask: the segmentation's own SOP Instance UID, its frame and its size
    own_uid: str = ""
    own_frame: int = 0
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """Frames of a segmentation that lie on one image; the union of their segments is its mask."""

    archive: int
    path: str
    frames: tuple[int, ...]


PixelKeyword = Literal["PixelData", "FloatPixelData", "DoubleFloatPixelData"]


class PixelElement(NamedTuple):
    """Where the pixel data of a DICOM file lie; ``length`` None: encapsulated, up to a delimiter."""

    keyword: PixelKeyword
    vr: str  # "" where the encoding is implicit
    offset: int
    length: int | None


class PixelFormat(NamedTuple):
    """The Image Pixel module of a DICOM file (PS3.3 C.7.6.3), checked."""

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    planar: bool  # Planar Configuration 1
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    transfer_syntax: str
    native: bool  # whether the pixels lie uncompressed in the file
    little_endian: bool
    element: PixelElement

    @property
    def is_float(self) -> bool:
        """Whether the pixels are float32 or float64."""
        return self.element.keyword != "PixelData"


class Source(NamedTuple):
    """One frame of one file of an archive, as its headers describe it: what ingest plans with.

    ``patient``, ``study``, ``series``, ``uid`` and ``accession`` are the archive's own identifiers. They are
    private: they are hashed under the store's secret and dropped, and never enter a store, a log or an error.

    A tuple, since there are millions: of so many fields a dataclass takes ten times as long to make and to
    change.
    """

    archive: int  # which of the SRC arguments, from 0
    path: str  # relative to that archive, with forward slashes
    kind: Literal["dicom", "raster", "npy"]
    rows: int
    columns: int
    dtype: Literal["uint8", "int8", "uint16", "int16"]
    frame: int = 0  # from 0
    cut: Cut | None = None  # where rows and columns are of a part of the file's frame
    planes: int = 1  # 3 for true colour that keeps its planes
    patient: str = ""  # empty: unknown
    study: str = ""
    series: str = ""
    uid: str = ""  # SOP Instance UID
    accession: str = ""  # Accession Number, only where a label table joins by it
    sop_class: str = ""  # the standard's name of it
    digest: str = ""  # keyed hash of the file's bytes where no UID settles duplicates
    form: PixelFormat | None = None  # of DICOM pixels, where it is all that decoding needs of the header
    labels: tuple[str, ...] = ()
    split: Split | None = None  # a layout's own split
    masks: tuple[str, ...] = ()  # paths of mask files in the same archive; their union is stored
    mask_from: int = 1  # the lowest value of a mask file that belongs to the mask
    outlines: tuple[Outline, ...] = ()  # masks that are drawn: part of the same union
    segments: tuple[Segments, ...] = ()  # of segmentations: part of the same union
    modality: str | None = None
    anatomy: str | None = None
    slope: float = 1.0
    intercept: float = 0.0
    windows: tuple[Window, ...] = ()
    voi_lut: Lut | None = None
    modality_lut: Lut | None = None  # instead of slope and intercept
    photometric: Literal["MONOCHROME1", "MONOCHROME2", "RGB"] = "MONOCHROME2"  # as stored
    bits_stored: int = 8
    padding: tuple[int, int] | None = None  # inclusive, stored values
    spacing_mm: tuple[float, float] | None = None  # row, column
    slice_index: int | None = None  # rank of the frame in its series, by position
    position_mm: float | None = (
        None  # along the normal of the slice; the plan ranks it, the store never holds it
    )
    instance: int | None = None  # Instance Number, likewise: the order where positions are missing
    laterality: str | None = None
    view: str | None = None
    sex: str | None = None
    age_band: str | None = None
    manufacturer: str | None = None
    lossy: bool = False
    warnings: tuple[str, ...] = ()
    kept: Mapping[str, str] = {}  # the columns named by --keep-columns


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One row of a store's samples table; the columns are specified in docs/format.md."""

    key: str  # 32 hex characters
    bucket: str  # path of the image array in the store
    row: int  # index along the array's first axis
    group: str  # the patient, as an HMAC
    study: str
    series: str
    frame: int
    modality: str | None
    anatomy: str | None
    labels: tuple[str, ...]
    split: Split
    rows: int
    columns: int
    slope: float
    intercept: float
    window_center: tuple[float, ...]
    window_width: tuple[float, ...]
    voi_function: VoiFunction | None
    voi_lut: Lut | None
    modality_lut: Lut | None
    photometric: str
    bits_stored: int
    padding: tuple[int, int] | None
    percentiles: tuple[float, float]  # p1, p99 of the unpadded stored values
    spacing_mm: tuple[float, float] | None
    slice_index: int | None
    laterality: str | None
    view: str | None
    sex: str | None
    age_band: str | None
    manufacturer: str | None
    lossy: bool
    mask: bool
    warnings: tuple[str, ...]
    kept: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What a loader yields.

    ``images`` (N, C, H, W), normalised; ``labels`` int64 (N,) class indices, -1 where a sample has none,
    or float32 (N, K) of zeros and ones in a multi-label store; ``keys`` N strings; ``valid`` bool (N,),
    False on the padding of an evaluation's last batch.
    """

    images: torch.Tensor
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A measured value with its 95 % interval; ``value`` is nan where the metric is undefined."""

    value: float
    interval: tuple[float, float]
    variance: float
