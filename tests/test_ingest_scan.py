"""The beginning of a large file is scanned alone, and says what the whole says; and what comes of it."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from archives import Listener, dicom, ingest, pixels, samples_of, tree, zipped
from dicom_matrix import every_cell
from dicoms import OPTIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrad.ingest import scan as scanning
from pyrad.ingest.archive import open_archive
from pyrad.ingest.files import scan
from pyrad.ingest.reasons import Incomplete, Rejected
from pyrad.ingest.scan import HEAD_BYTES, Share

BUNDLED = sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))
LARGE = (256, 256)  # of 16 bits: 128 KiB


def answer(data, size=None):
    """What the scan says of bytes that are all, or the beginning of ``size``."""
    try:
        return scan(0, "a.dcm", data, OPTIONS, size)
    except Rejected as rejected:
        return rejected.reason, rejected.tag, rejected.detail, rejected.references
    except Incomplete:
        return None


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.name)
def test_the_beginning_of_a_file_tells_what_the_whole_tells_or_asks_for_it(path):
    data = path.read_bytes()
    whole = answer(data)
    for count in {*range(0, min(len(data), 8192), 509), *(len(data) * n // 8 for n in range(8))}:
        assert answer(data[:count], len(data)) in (None, whole), count


@given(cell=st.sampled_from(every_cell()), share=st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_of_every_cell_of_the_matrix(cell, share):
    data = cell.file()
    assert answer(data[: int(share * len(data))], len(data)) in (None, answer(data))


def large(path, seed=0, **elements):
    """A file of which the scan reads the beginning alone."""
    elements = {"uid": "1.2.1", **elements}
    written = dicom(path, pixels(seed, *LARGE, dtype=np.int16), **elements)
    assert written.stat().st_size > 2 * HEAD_BYTES
    return written


class Counting:
    """An archive that notes how many bytes are read of each file."""

    def __init__(self, path):
        self._archive = open_archive(path)
        self.read_bytes = []

    def read(self, path):
        data = self._archive.read(path)
        self.read_bytes.append(len(data))
        return data

    def read_start(self, path, count):
        data, size = self._archive.read_start(path, count)
        self.read_bytes.append(len(data))
        return data, size


@pytest.mark.parametrize(
    ("elements", "reads"),
    [
        ({}, 1),
        ({"SOPInstanceUID": ""}, 2),  # its bytes are its identity
        ({"TextValue": "x" * HEAD_BYTES}, 2),  # the pixels begin behind what was read
    ],
)
def test_no_more_is_read_than_is_needed(tmp_path, monkeypatch, elements, reads):
    file = large(tmp_path / "a/1.dcm", **elements)
    archive = Counting(tmp_path / "a")
    share = Share(archives=(archive,), options=OPTIONS, pixels_key=b"key")
    monkeypatch.setattr(scanning.pool, "shared", lambda: share)
    (found,) = scanning.scan_files([(0, "1.dcm")])
    assert found.reason is None
    assert archive.read_bytes == [HEAD_BYTES, file.stat().st_size][:reads]
    assert bool(found.digest) == (reads == 2)


def test_a_file_cut_short_is_found_by_its_size(tmp_path):
    whole = large(tmp_path / "a/1.dcm").read_bytes()
    (tmp_path / "a/1.dcm").write_bytes(whole[:-2])
    (tmp_path / "a/2.dcm").write_bytes(whole + b"\0\0")  # an element that is none, behind the pixels
    large(tmp_path / "a/3.dcm", 3, uid="1.2.3")
    summary = ingest(tmp_path / "s.zarr", tmp_path / "a", max_quarantine="90%")
    assert summary.quarantined == {"pixel-data-short": 1}


def test_the_same_uid_in_large_files(tmp_path):
    folder, store = tmp_path / "a", tmp_path / "s.zarr"
    large(folder / "1.dcm")
    (folder / "same.dcm").write_bytes((folder / "1.dcm").read_bytes())
    for seed in (2, 3):  # the same header, other pixels
        large(folder / f"{seed}.dcm", seed, uid="1.2.2")
    summary = ingest(store, folder, max_quarantine="90%")
    assert (summary.quarantined, summary.skipped) == ({"uid-conflict": 2}, {"duplicate": 1})
    assert [row["image"].tolist() for row in samples_of(store)] == [pixels(0, *LARGE).tolist()]


def test_a_large_file_again_and_changed_in_its_pixels_alone(tmp_path):
    folder, store = tmp_path / "a", tmp_path / "s.zarr"
    for number in (1, 2):
        large(folder / f"{number}.dcm", number, uid=f"1.2.{number}")
    ingest(store, folder)
    before = tree(store)
    listener = Listener()
    assert ingest(store, folder, reporter=listener).skipped == {"already-stored": 2}
    assert tree(store) == before
    large(folder / "2.dcm", 5, uid="1.2.2")
    summary = ingest(store, folder, max_quarantine="90%")
    assert (summary.quarantined, summary.skipped) == ({"uid-conflict": 1}, {"already-stored": 1})


def test_a_file_that_changed_between_scan_and_write_is_told_by_its_beginning_and_its_size(tmp_path):
    path = large(tmp_path / "a/1.dcm")
    share = Share(archives=(open_archive(tmp_path / "a"),), options=OPTIONS, pixels_key=b"key")
    mark = share.mark(*share.read_start(0, "1.dcm"))
    data = path.read_bytes()
    assert share.is_marked(data, mark)
    assert not share.is_marked(data + b"\0", mark)
    assert not share.is_marked(data[:400] + b"?" + data[401:], mark)
    assert not share.is_marked(data[:HEAD_BYTES], mark)


def test_a_zip_gives_the_beginning_of_a_member_too(tmp_path):
    path = large(tmp_path / "a/1.dcm")
    archive = open_archive(zipped(tmp_path / "a", tmp_path / "a.zip"))
    data = path.read_bytes()
    assert archive.read_start("1.dcm", 1000) == (data[:1000], len(data))
    assert archive.read_start("1.dcm", 1 << 20) == (data, len(data))
