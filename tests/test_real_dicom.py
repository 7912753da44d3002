"""Every file of dicom.zip is stored with its manifest's hash, or listed with what decides otherwise.

The list is docs/real-files.md. The manifest gives, for each file that pydicom and its plugins decode, the
hash of pydicom's pixel array. What is not stored is decoded all the same: a policy, never a decoder, stands
between the file and its hash.
"""

import csv
import hashlib
import io
import re
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pydicom
import pytest
from archives import ingest
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import ImplicitVRLittleEndian

from pyrad.ingest.dicom.parse import parse
from pyrad.ingest.dicom.pixels import DicomPixels
from pyrad.ingest.policy import INCLUDES
from pyrad.ingest.privacy.folder import PrivateFolder, Trace
from pyrad.store.reader import open_store

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI"),  # pydicom's, of one file's study
]

DOCUMENT = Path(__file__).parents[1] / "docs" / "real-files.md"
WG04 = "dicom-test-files/WG04"
LIKE_EXTENDED = (
    "cornerstone3D/examplesOld/test-images/"
    "CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm"
)
WHOLE_SLIDE, PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.5.1.4.1.1.30"


@dataclass
class File:
    """One row of the manifest, the file itself, and what the ingest made of it."""

    row: dict[str, str]
    data: bytes
    traces: list[Trace] = field(default_factory=list)  # in the order of frames
    frames: list[np.ndarray] = field(default_factory=list)  # as stored; [] where it is not
    mask: np.ndarray | None = None  # of the first frame

    @property
    def hash(self) -> str:
        """What the manifest says; "" where pydicom cannot decode."""
        return self.row["array_sha256"]

    @cached_property
    def header(self) -> pydicom.Dataset:
        """As pydicom reads it."""
        return pydicom.dcmread(io.BytesIO(self.data), stop_before_pixels=True, force=True)

    @cached_property
    def cells(self) -> list[np.ndarray]:
        """What pyrad decodes, palette indices as they are, whether or not a policy lets it be stored."""
        parsed = parse(self.data)
        if parsed.dataset.PhotometricInterpretation == "PALETTE COLOR":
            parsed.dataset.PhotometricInterpretation = "MONOCHROME2"
        pixels = DicomPixels.of(parsed)
        return [pixels.values(k) for k in range(pixels.form.frames)]

    @property
    def outcome(self) -> str:
        """What decides: the reason for which it is not stored, or the warning that says what was changed."""
        (reason,) = {trace.reason for trace in self.traces}
        if reason != "stored" or not self.hash:
            return reason
        if self.row["photometric"] == "PALETTE COLOR":
            return "palette-applied"
        return "same" if self.hashed(self.frames) == self.hash else "other pixels"

    def hashed(self, frames) -> str:
        """First 16 hex of sha256 of frames in the manifest's shape, type and byte order."""
        shape, dtype = self.row["shape"].split()
        array = np.stack(frames).astype(dtype).reshape([int(side) for side in shape.split("x")])
        return hashlib.sha256(array.tobytes()).hexdigest()[:16]


@pytest.fixture(scope="module")
def files(real_data, tmp_path_factory) -> dict[str, File]:
    """Every file of the manifest, after one ingest that admits as much as policy allows."""
    with zipfile.ZipFile(real_data / "dicom.zip") as archive:
        rows = csv.DictReader(io.StringIO(archive.read("manifest.csv").decode()))
        found = {row["path"]: File(row=row, data=archive.read(row["path"])) for row in rows}
    folder = tmp_path_factory.mktemp("real")
    store = folder / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRAD_SECRET", "of the tests")
        options = {"layout": "dicom", "include": INCLUDES, "burned_in": "allow", "color": "planes"}
        ingest(store, real_data / "dicom.zip", max_quarantine="100%", workers=2, **options)
    for trace in sorted(PrivateFolder(folder / "private", "").traces(str(store)), key=lambda t: t.frame):
        if trace.path in found:
            found[trace.path].traces.append(trace)
    with open_store(store) as opened:
        at = {key: number for number, key in enumerate(opened.samples["key"].to_pylist())}
        for file in found.values():
            numbers = [at[trace.key] for trace in file.traces if trace.reason == "stored"]
            images = [opened.image(number) for number in numbers]
            file.frames = [np.moveaxis(image, 0, -1) if image.ndim == 3 else image for image in images]
            file.mask = opened.mask(numbers[0]) if numbers else None
    return found


def of(files, *outcomes) -> list[File]:
    """The files that pydicom decodes and that ended so; there are some."""
    chosen = [file for file in files.values() if file.hash and file.outcome in outcomes]
    assert chosen
    return chosen


def table(heading) -> list[list[str]]:
    """The rows of the table under a heading of the document, without marks of code."""
    section = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)  # not the one of dashes
    return [[cell.strip(" `") for cell in line.split("|")] for line in lines[1:]]


def test_every_file_is_stored_with_its_hash_or_listed(files):
    unlike = {
        path: [file.row["status"] or "not DICOM", file.outcome]
        for path, file in files.items()
        if file.outcome != "same"
    }
    assert {path: rest for path, *rest in table("File by file")} == unlike
    decided = Counter((file.row["status"] or "not DICOM", file.outcome) for file in files.values())
    assert {(status, code): int(count) for status, code, count, *_ in table("In all")} == decided


def test_what_policy_leaves_out_decodes_to_its_hash_too(files):
    decoded = [file for file in files.values() if file.hash and file.outcome != "bits-unsupported"]
    assert len(decoded) == 291
    assert [file.row["path"] for file in decoded if file.hashed(file.cells) != file.hash] == []


def test_palettes_are_applied_as_pydicom_applies_them(files):
    for file in of(files, "palette-applied"):
        (stored,), (index,) = file.frames, file.cells
        assert np.array_equal(stored, apply_color_lut(index, file.header))


def test_what_pydicom_cannot_decode_is_stored_rightly(files):
    stored = {path: file for path, file in files.items() if file.frames and not file.hash}
    for name in (LIKE_EXTENDED, LIKE_EXTENDED.replace("10_12", "6_8").replace("4.55", "4.53")):
        twin = files[LIKE_EXTENDED.replace("10_12", "2_4").replace("4.55", "4.51")]
        assert np.array_equal(stored.pop(name).frames, twin.frames)  # the same coefficients, in other scans
    for name in ("MR1", "MR3", "NM1"):
        lossy = stored.pop(f"{WG04}/JPLY/{name}_JPLY").frames[0].astype(float)
        (lossless,) = files[f"{WG04}/J2KR/{name}_J2KR"].frames
        assert np.abs(lossy - lossless).mean() < 0.01 * lossless.max()
    face = stored.pop("pydicom-data/OT-PAL-8-face.dcm")  # without file meta information
    whole = pydicom.dcmread(io.BytesIO(face.data), force=True)
    whole.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert np.array_equal(face.frames[0], apply_color_lut(whole.pixel_array, whole))
    assert not stored


def test_files_of_one_uid_with_other_pixels_are_all_out(files):
    conflicting = of(files, "uid-conflict")
    uids = {file.header.SOPInstanceUID for file in conflicting}
    stored = [file for file in files.values() if file.frames]
    assert not uids & {file.header.get("SOPInstanceUID") for file in stored}
    assert len({file.cells[0].tobytes() for file in conflicting}) == len(conflicting) == 2 * len(uids)


def test_of_equal_images_one_is_stored(files):
    kept = defaultdict(list)
    for file in of(files, "same"):
        kept[np.stack(file.frames).tobytes()].append(file)
    for file in of(files, "duplicate"):
        twins = kept[np.stack(file.cells).tobytes()]
        assert file.header.SOPInstanceUID in {twin.header.SOPInstanceUID for twin in twins}
    for file in of(files, "duplicate-pixels"):
        assert len(kept[np.stack(file.cells).tobytes()]) == 1


def test_segmentations_are_masks_of_stored_images_or_of_none(files):
    (made,) = of(files, "mask")
    (named,) = named_by(made)
    sizes = {}
    for file in of(files, "same", "palette-applied"):
        uid = file.header.get("SOPInstanceUID")
        sizes[uid] = file.header.Rows, file.header.Columns
        if uid == named:
            assert np.array_equal(file.mask, made.cells[0] > 0)
    assert named in sizes
    for file in of(files, "segmentation"):
        own = file.header.Rows, file.header.Columns
        assert [uid for uid in named_by(file) if sizes.get(uid) == own] == []


def named_by(file) -> set[str]:
    """SOP Instance UIDs of the images that the frames of a segmentation were made of."""
    groups = [
        *file.header.get("PerFrameFunctionalGroupsSequence", []),
        *file.header.get("SharedFunctionalGroupsSequence", []),
    ]
    return {
        source.ReferencedSOPInstanceUID
        for group in groups
        for derivation in group.get("DerivationImageSequence", [])
        for source in derivation.get("SourceImageSequence", [])
    }


def test_other_reasons_stand_in_the_headers(files):
    for file in of(files, "class-not-included"):
        assert file.header.SOPClassUID in (WHOLE_SLIDE, PARAMETRIC_MAP)
    for file in of(files, "too-few-frame-items"):
        described = len(file.header.get("PerFrameFunctionalGroupsSequence", []))
        assert described < int(file.header.NumberOfFrames)
    for file in of(files, "bits-unsupported"):
        assert (file.header.BitsAllocated, file.header.SamplesPerPixel) == (32, 3)
