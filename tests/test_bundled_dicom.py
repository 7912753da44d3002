"""Every file that pydicom's wheel brings along: decoded as pydicom does, or refused by a rule."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from pyrad.ingest.dicom.parse import parse, quiet
from pyrad.ingest.dicom.pixels import DicomPixels
from pyrad.ingest.reasons import Rejected

FOLDERS = [Path(pydicom.__file__).parent / "data" / name for name in ("charset_files", "test_files")]
REFUSED = {
    "MR_small_padded.dcm": "pixel-data-long",  # by 128 bytes; one is fine
    "SC_rgb_rle_32bit.dcm": "bits-unsupported",  # colour of 32 bits a sample
    "SC_rgb_rle_32bit_2frame.dcm": "bits-unsupported",
}


def by_pydicom(path) -> np.ndarray | None:
    """Its pixel array; None where it has none."""
    with quiet():  # it warns of many
        try:
            return pydicom.dcmread(path, force=True).pixel_array
        except Exception:  # noqa: BLE001 - of many kinds
            return None


def by_pyrad(path) -> np.ndarray | str:
    """The same by pyrad, palette indices as they are; or the reason why not."""
    try:
        parsed = parse(path.read_bytes())
        if parsed.dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            parsed.dataset.PhotometricInterpretation = "MONOCHROME2"
        pixels = DicomPixels.of(parsed)
        return np.stack([pixels.values(k) for k in range(pixels.form.frames)])
    except Rejected as rejected:
        return rejected.reason


def test_what_pydicom_decodes_is_decoded_alike_or_refused_by_a_rule():
    if pydicom.__version__ != "3.0.2":
        pytest.skip("counted with pydicom 3.0.2")
    refused, unlike, only_pyrad, equal = {}, [], [], 0
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()):
        theirs, ours = by_pydicom(path), by_pyrad(path)
        if theirs is None:
            only_pyrad += [path.name] * (not isinstance(ours, str))
        elif isinstance(ours, str):
            refused[path.name] = ours
        elif np.array_equal(ours.reshape(theirs.shape), theirs):
            equal += 1
        else:
            unlike.append(path.name)
    assert (unlike, refused, only_pyrad) == ([], REFUSED, ["JPEG-lossy.dcm"])
    assert equal == 98
