"""Real files, where they are at hand: pixels against the hashes that another reader recorded."""

import collections
import csv
import hashlib
import io

import numpy as np
import pytest

from pyrad.ingest.archive import open_archive
from pyrad.ingest.files import decode_frames, scan
from pyrad.ingest.policy import INCLUDES, ScanOptions
from pyrad.ingest.reasons import Rejected

pytestmark = pytest.mark.real_data

# What pyrad says of files that the manifest calls ok, and the rule that says so
EXPECTED_REASONS = {
    "class-not-imaging": 27,  # whole slides, segmentations, parametric maps
    "too-few-frame-items": 5,  # enhanced MR without a functional group for each of its frames
    "bits-unsupported": 1,  # 32 bits a colour sample
    "modality-lut-unsupported": 1,
    "segmented-palette-unsupported": 1,
}


def frames_of(archive, path, options):
    data = archive.read(path)
    sources = scan(0, path, data, options)
    frames = list(decode_frames(sources, data))
    for frame in frames:
        if isinstance(frame, Rejected):
            raise frame
    return sources, np.stack(frames) if len(frames) > 1 else frames[0]


def test_every_dicom_file_has_the_recorded_pixels_or_a_known_reason(real_data):
    """Grey files bit for bit; colour by its planes; palettes are recorded unapplied, so only by shape."""
    archive = open_archive(real_data / "dicom.zip")
    options = ScanOptions(include=INCLUDES, burned_in="allow", color="planes")
    reasons = collections.Counter()
    compared = collections.Counter()
    for row in csv.DictReader(io.StringIO(archive.read("manifest.csv").decode())):
        try:
            sources, pixels = frames_of(archive, row["path"], options)
        except Rejected as rejected:
            reasons[rejected.reason] += row["status"] == "ok"
            continue
        if row["status"] != "ok":
            continue
        if row["photometric"] == "PALETTE COLOR":
            assert "palette-applied" in sources[0].warnings
            continue
        if sources[0].planes == 3:
            pixels = np.moveaxis(pixels, -3, -1)
        recorded = pixels.astype(row["shape"].split()[-1])
        digest = hashlib.sha256(recorded.tobytes()).hexdigest()[:16]
        assert digest == row["array_sha256"], (row["ts"], row["photometric"], row["bits"])
        compared[row["ts"]] += 1
    assert +reasons == EXPECTED_REASONS
    assert sum(compared.values()) == 254
    assert len(compared) == 15  # transfer syntaxes


@pytest.mark.parametrize(
    ("name", "stored"),
    [("head_ct_hem", 60), ("covid_ct", 206), ("cxr_covid", 51), ("cxr_nih", 23), ("busi", 204)],
)
def test_real_rasters_are_stored_whatever_their_mode_and_name(real_data, name, stored):
    archive = open_archive(real_data / f"{name}.zip")
    outcomes = collections.Counter()
    for member in archive.members():
        try:
            sources, pixels = frames_of(archive, member.path, ScanOptions())
        except Rejected as rejected:
            outcomes[rejected.reason] += 1
            continue
        assert pixels.shape == (sources[0].rows, sources[0].columns)
        outcomes["stored"] += 1
    assert outcomes == {"stored": stored, "not-an-image": 2}  # the manifest and its source
