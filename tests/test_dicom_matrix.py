"""Every cell of the matrix is stored with its source's values; what GDCM and pydicom say is on record.

`docs/decoders.md` holds what these tests count: a table that no longer says what was measured fails, and the
message is the table that does.
"""

import subprocess
import sys
import warnings
from collections import defaultdict
from importlib.metadata import version
from io import BytesIO
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from dicom_matrix import SYNTAXES, every_cell
from dicoms import pixels
from pydicom import dcmread
from pydicom.pixels import pixel_array

from pyrad.ingest.policy import ScanOptions

DOCUMENT = Path(__file__).parents[1] / "docs" / "decoders.md"
PLANES = ScanOptions(include=("sc",), color="planes")
CELLS = every_cell()
PHOTOMETRICS = (
    *("MONOCHROME2", "MONOCHROME1", "PALETTE COLOR", "RGB"),
    *("YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"),
)


def table_below(heading):
    """The rows of the table under a heading of the document, header and rule left out."""
    text = DOCUMENT.read_text().split(f"## {heading}\n", 1)[1]
    lines = [line for line in text.split("\n## ", 1)[0].splitlines() if line.startswith("|")]
    return lines[2:]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_cell_is_stored_with_the_values_it_was_made_of(syntax, record_property):
    cells = [cell for cell in CELLS if cell.syntax == syntax]
    for cell in cells:
        found, expected = pixels(cell.file(), PLANES), cell.expected()
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), cell.name
        apart = int(np.abs(found.astype(int) - expected.astype(int)).max())
        assert apart <= cell.tolerance, f"{cell.name}: {apart}"
    record_property("accepted", len(cells))


def test_what_was_accepted_is_on_record():
    counts = defaultdict(int)
    for cell in CELLS:
        counts[cell.syntax, cell.photometric] += 1
    rows = [
        f"| {syntax} | " + " | ".join(str(counts[syntax, name] or "-") for name in PHOTOMETRICS) + " |"
        for syntax in SYNTAXES
    ]
    assert table_below("What is accepted") == rows, "\n" + "\n".join(rows)


def test_lossless_grey_is_never_quarantined():
    exact = {(cell.syntax, cell.bits, cell.signed, cell.photometric) for cell in CELLS if not cell.tolerance}
    for syntax in set(SYNTAXES) - {"JPEG baseline", "JPEG extended", "JPEG-LS near", "JPEG 2000 lossy"}:
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            for signed in (False, True):
                assert {(syntax, bits, signed, photometric) for bits in (8, 10, 12, 16)} <= exact


@pytest.fixture(scope="module")
def by_gdcm(tmp_path_factory):
    """What GDCM decodes of each cell, by name; it runs in a process of its own."""
    pytest.importorskip("gdcm")
    folder = tmp_path_factory.mktemp("gdcm")
    for cell in CELLS:
        (folder / f"{cell.name}.dcm").write_bytes(cell.file())
    script = Path(__file__).parent / "gdcm_reader.py"
    subprocess.run([sys.executable, script, folder], check=True, cwd=folder, capture_output=True)
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def by_pydicom(cell):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pixel_array(dcmread(BytesIO(cell.file())), raw=True)
        except Exception:  # noqa: BLE001 - that it has no opinion is all we ask
            return None


def verdict(cell, found):
    """Whether another decoder finds what stands in the pixel cells."""
    stored = cell.stored()
    if found is None or found.shape != stored.shape:
        return "fails"
    return "agrees" if np.abs(found.astype(int) - stored.astype(int)).max() <= cell.tolerance else "wrong"


def kind_of(opinion):
    cell, gdcm, pydicom = opinion
    return cell.syntax, cell.photometric, cell.signed, cell.planar, gdcm, pydicom


def test_other_decoders_are_right_or_on_record(by_gdcm):
    rows = []
    opinions = [
        (cell, verdict(cell, by_gdcm.get(cell.name)), verdict(cell, by_pydicom(cell))) for cell in CELLS
    ]
    others = [o for o in opinions if o[1:] != ("agrees", "agrees")]
    kinds = groupby(sorted(others, key=kind_of), kind_of)
    for (syntax, photometric, signed, planar, gdcm, pydicom), group in kinds:
        bits = ", ".join(str(bits) for bits in sorted({cell.bits for cell, *_ in group}))
        what = f"{bits} bits {'signed' if signed else 'unsigned'}{', by plane' if planar else ''}"
        rows.append(f"| {syntax} | {photometric} | {what} | {gdcm} | {pydicom} |")
    written = [line.rsplit("|", 2)[0] + "|" for line in table_below("Where others differ")]
    versions = f"GDCM {version('python-gdcm')}, pydicom {version('pydicom')}"
    if versions not in DOCUMENT.read_text():
        pytest.skip(f"docs/decoders.md speaks of other versions than {versions}")
    assert sorted(written) == sorted(set(rows)), "\n" + "\n".join(rows)
    agreeing = len(opinions) - len(others)
    assert f"{agreeing} of {len(CELLS)} cells" in DOCUMENT.read_text(), f"{agreeing} of {len(CELLS)} cells"
