"""Why a file was not stored, or was stored with a reservation: one table of codes each.

A reason's outcome is *skipped* (by a stated policy) or *quarantined* (it should have been stored and could
not). ``docs/reasons.md`` shows the same tables to a reader; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from pyrad.records import Reference

Outcome = Literal["skipped", "quarantined"]

_SKIPPED = {
    # files
    "not-an-image": "The content is no image: a text, a table, a document, a program.",
    "nested-archive": "An archive inside an archive is not opened; unpack it, or name it as a source itself.",
    "symlink": "Symbolic links are not followed; name the folder they lead to as a source itself.",
    "not-a-regular-file": "A pipe, a socket or a device is not a file of an archive.",
    # DICOM objects
    "dicomdir": "A DICOMDIR lists files and holds no pixels; it is never followed.",
    "class-not-imaging": "The object holds no image: a report, a presentation state, a plan, a document.",
    "key-object": "A Key Object Selection holds no image; --frames key stores those that it names.",
    "segmentation": "No image of its size that the segmentation was made of is to be stored.",
    "class-not-included": "An image of a kind that is not stored: only CT, MR, US, CR, DX and MG are.",
    "secondary-capture": "A secondary capture; --include sc stores them.",
    "image-type-localizer": "A localizer (scout view); --include localizer stores them.",
    "image-type-dose": "A dose or protocol screen; --include dose stores them.",
    "image-type-mpr": "A reformatted view of other images; --include mpr stores them.",
    "image-type-mip": "A projection of other images; --include mip stores them.",
    "image-type-derived": "An image derived from other images; --include derived stores them.",
    "not-selected": "The file does not meet --select.",
    "burned-in-annotation": (
        "The header declares text burned into the pixels; --burned-in crop-us-region or rules:FILE cuts it "
        "out, allow stores it."
    ),
    "burned-in-unknown": (
        "The header does not say that the pixels are free of burned-in text, which ultrasound and secondary "
        "captures must; --burned-in crop-us-region or rules:FILE cuts it out, allow stores it."
    ),
    # plan
    "not-in-table": "The label table, or the published data set, does not list the file.",
    "mask": "The file is the mask of another image and is stored as that.",
    "frame-not-chosen": "A frame that --frames leaves out.",
    "not-a-key-image": "No Key Object Selection names the image; --frames all stores it.",
    "rejected-by-note": "A rejection note names the image: quality, patient safety, worklist, retention.",
    "already-stored": "The store holds the image already, unchanged.",
    "forgotten": "`pyrad forget` removed the patient from the store, for good.",
    "duplicate": "Another file is the same image, by UID or bytes; one is stored, with all labels.",
    "duplicate-pixels": "Another group has an image of the same pixels; one is stored, with all labels.",
}

# What stores all the same what a policy skips.
KEPT_BY: Mapping[str, str] = MappingProxyType(
    {
        "secondary-capture": "--include sc",
        **{
            f"image-type-{kind}": f"--include {kind}"
            for kind in ("localizer", "dose", "mpr", "mip", "derived")
        },
        "not-selected": "another --select",
        "burned-in-annotation": "--burned-in crop-us-region, rules:FILE or allow",
        "burned-in-unknown": "--burned-in crop-us-region, rules:FILE or allow",
        "frame-not-chosen": "--frames all",
        "not-a-key-image": "--frames all",
    }
)

_QUARANTINED = {
    # files
    "empty-file": "The name claims an image and the file is empty.",
    "not-dicom": "The name claims DICOM and the content is something else.",
    "not-a-raster": "The name claims a raster image and the content is something else.",
    "not-npy": "The name claims an NPY array and the content is something else.",
    "unreadable-file": "The file cannot be opened or read.",
    "unreadable-folder": "The folder cannot be listed.",
    "file-changed": "The file changed while it was read.",
    "file-too-large": "The file is larger than pyrad reads into memory.",
    "encrypted-member": "The file is encrypted inside its zip archive.",
    "damaged-member": "The file cannot be unpacked from its zip archive, or its checksum is wrong.",
    # DICOM headers
    "header-damaged": "The header cannot be parsed.",
    "nesting-too-deep": "Sequences are nested deeper than any real header nests them.",
    "inflates-without-end": "The deflated data set inflates past its limit.",
    "transfer-syntax-missing": "The file does not say how it is encoded.",
    "unknown-transfer-syntax": "No decoder is known for this transfer syntax.",
    "missing-sop-class": "The file does not say what kind of object it is.",
    "missing-pixel-data": "An image without Pixel Data: the file is cut, or the pixels were removed.",
    "bad-size": "Rows or Columns is missing, zero or no number.",
    "image-too-large": "The image has more pixels than pyrad decodes.",
    "bad-number-of-frames": "Number of Frames is no whole number from 1 up.",
    "too-few-frame-items": "The header describes fewer frames than it announces.",
    "bad-samples": "Samples per Pixel is neither 1 nor 3, or does not fit the photometric interpretation.",
    "bad-photometric": "The photometric interpretation is missing or is none that pyrad converts.",
    "bad-bits": "Bits Allocated, Bits Stored, High Bit and Pixel Representation contradict each other.",
    "bits-unsupported": "Pixels of this many bits are not supported.",
    "bad-rescale": "Rescale Slope or Intercept is zero or no finite number where it must be one.",
    "bad-modality-lut": "The Modality LUT has no valid descriptor, or fewer entries than that says.",
    "bad-palette": "The colour palette is missing, or is not as its own descriptor says.",
    "bad-segmentation": "A segmentation of an unknown type, or without the maximum of its fractions.",
    # pixels
    "pixel-data-short": "Pixel Data is shorter than the header says.",
    "pixel-data-long": "Pixel Data is longer than the header says.",
    "encapsulation-damaged": "The fragments of the compressed Pixel Data cannot be followed.",
    "frame-boundaries": "The fragments of the compressed Pixel Data do not make the number of frames.",
    "codestream-damaged": "A compressed frame is cut, or its own header cannot be parsed.",
    "codestream-mismatch": "A compressed frame has another size, or other samples, than the header says.",
    "decode-failed": "The decoder refused the pixels.",
    "decoder-crashed": "Reading or decoding the file ended a worker process, twice.",
    "decoder-timeout": "Reading or decoding the file used more processor time than its size warrants, twice.",
    "memory-limit": "Reading or decoding the file takes more memory than a worker may have, or there is.",
    "not-exact-in-16-bits": "Wider integers or floats that do not all fit 16-bit integers exactly.",
    "only-padding": "Every pixel of the frame is padding.",
    # rasters and arrays
    "raster-damaged": "The raster's header cannot be parsed, or a checksum is wrong.",
    "raster-mode-unsupported": "A raster of a colour space or depth that cannot be stored exactly.",
    "cmyk": "A CMYK raster: a print, not an image of a patient.",
    "alpha-not-opaque": "A raster with an alpha channel that hides pixels.",
    "npy-damaged": "The header of the NPY array cannot be parsed.",
    "npy-pickle": "The NPY array holds Python objects, which are never unpickled.",
    "npy-dtype": "The NPY array holds no numbers that can be pixels.",
    "npy-shape": "The NPY array is neither an image nor a stack of frames; a last axis of 3 or 4 is neither.",
    # plan
    "near-duplicate": "A committed image in another split is the same but for its size, window or turn.",
    "uid-conflict": "Another image has the same SOP Instance UID and other pixels or attributes.",
    "ambiguous-row": "The table's row for its study or accession number fits files of several patients.",
    "mask-missing": "The label table names a mask that is not there.",
    "mask-size": "The mask does not have the size of its image, or the file has several frames.",
    "mask-unreadable": "The mask is no image that can be read.",
    # ourselves
    "unexpected": "pyrad met a case that it does not know; please report it.",
}

REASONS: Mapping[str, tuple[Outcome, str]] = MappingProxyType(
    {code: ("skipped", text) for code, text in _SKIPPED.items()}
    | {code: ("quarantined", text) for code, text in _QUARANTINED.items()}
)

WARNINGS: Mapping[str, str] = MappingProxyType(
    {
        "extension-lies": "The name's extension is that of another format than the content.",
        "color-to-luma": "Three samples a pixel became one by BT.601 luma; equal samples keep their value.",
        "first-frame-only": "An animation; only its first frame is stored.",
        "rotated": "The orientation that the file's EXIF data asks for was applied.",
        "burned-in-annotation": "The header declares text burned in; --burned-in allow was given.",
        "cropped": "Only the rectangle that --burned-in names is kept: an ultrasound region, or a rule's.",
        "blanked": "Rectangles that a rule of --burned-in names were blanked.",
        "no-sop-instance-uid": "The object has no SOP Instance UID; it is known by its path and its bytes.",
        "no-meta": "The file has no DICOM preamble; it was accepted for its SOP Class UID.",
        "high-bit-shifted": "High Bit is not Bits Stored - 1; the cells were shifted right.",
        "rescale-incomplete": "Only one of Rescale Slope and Intercept is there; the other counts as 1 or 0.",
        "rescale-type-not-hu": "A CT whose Rescale Type is not HU.",
        "window-ignored": "A window without a positive width, a centre, or numbers that parse was left out.",
        "window-narrow": "A LINEAR window narrower than 1 is applied as LINEAR_EXACT.",
        "voi-function-unknown": "An unknown VOI LUT Function counts as LINEAR.",
        "rescale-ignored": "A rescale beside a Modality LUT, which takes its place, was left out.",
        "voi-lut-bits": "The VOI LUT's entries need other bits than it declares; what they need counts.",
        "voi-lut-ignored": "A damaged VOI LUT was left out; windows are kept, where present.",
        "padding-ignored": "The pixel padding value lies outside the stored values and was left out.",
        "presentation-shape-ignored": "Presentation LUT Shape contradicts the photometric interpretation.",
        "palette-applied": "Palette indices became colours, and these luma or planes.",
        "palette-short": "The palette has not every index that the pixels may hold; others take its ends.",
        "anatomy-unknown": "Body Part Examined is no term of the anatomy table and was left out.",
        "anatomy-from-description": "The anatomy was taken from words of Series Description.",
        "spacing-ignored": "Pixel Spacing is no pair of positive numbers and was left out.",
    }
)


def outcome(reason: str) -> Outcome:
    """Whether a reason means skipped or quarantined; KeyError for a code that is not in the table."""
    return REASONS[reason][0]


class Rejected(Exception):  # noqa: N818 - an outcome of a file, not an error of pyrad
    """One file, or one frame of it, that is not stored.

    ``reason`` is a code of ``REASONS``; ``tag`` the keyword of the DICOM element at fault, or ""; ``detail``
    figures or registered names for the ledger, never a value that could identify a patient; ``references``
    what the file says of others.
    """

    def __init__(
        self, reason: str, tag: str = "", detail: str = "", references: Iterable[Reference] = ()
    ) -> None:
        assert reason in REASONS, reason  # noqa: S101 - our own invariant
        super().__init__(reason, tag, detail)
        self.reason = reason
        self.tag = tag
        self.detail = detail
        self.references = tuple(references)
        self.sop_class = ""  # the standard's name of the object's class, as far as it is known

    @property
    def outcome(self) -> Outcome:
        """Skipped or quarantined."""
        return outcome(self.reason)

    def __str__(self) -> str:
        tag = f" ({self.tag})" if self.tag else ""
        detail = f" [{self.detail}]" if self.detail else ""
        return f"{self.reason}{tag}: {REASONS[self.reason][1]}{detail}"


class Incomplete(Exception):  # noqa: N818 - likewise
    """The beginning of a file does not tell what is asked: read all of it, and ask again."""
