"""Every file that an ingest met leads from its keyed name back to it, and is told by no other name."""

from collections import Counter

import numpy as np
import pytest
from archives import (
    Listener,
    dicom,
    ingest,
    outcomes,
    pixels,
    png,
    table,
    tree,
    two_classes,
)

from pyrad.errors import QuarantineBudgetError
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.store.reader import open_store

pytestmark = pytest.mark.usefixtures("own_secret")


def traced(tmp_path, store):
    """(file name, reason) of every trace of a store."""
    folder = PrivateFolder(tmp_path / "private", "")
    return Counter((trace.path.rpartition("/")[2], trace.reason) for trace in folder.traces(str(store)))


def test_what_exceeds_the_budget_is_named_and_can_be_traced(tmp_path):
    folder, store, heard = two_classes(tmp_path / "a", 2), tmp_path / "s.zarr", Listener()
    (folder / "sick/MUELLER.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with pytest.raises(QuarantineBudgetError):
        ingest(store, folder, reporter=heard)
    (told,) = [text for text in heard.said if text.startswith("quarantined ")]
    name = told.split()[1].rstrip(":")
    assert traced(tmp_path, store) == {("MUELLER.png", "raster-damaged"): 1}
    (trace,) = PrivateFolder(tmp_path / "private", "").find([name])
    assert (trace.path, trace.archive) == ("sick/MUELLER.png", str(folder))
    # So is one that is found out when it is decoded.
    (folder / "sick/MUELLER.png").unlink()
    dicom(folder / "well/pad.dcm", np.full((16, 20), -9, np.int16), uid="1.2.9", PixelPaddingValue=-9)
    with pytest.raises(QuarantineBudgetError):
        ingest(store, folder, layout="folder")
    assert traced(tmp_path, store)["pad.dcm", "only-padding"] == 1


def test_files_that_are_never_read_can_be_traced(tmp_path):
    folder, store = two_classes(tmp_path / "a", 2), tmp_path / "s.zarr"
    (folder / "link.png").symlink_to(folder / "sick/0.png")
    table(folder / "labels.csv", "path,label\nsick/0.png,x\nsick/1.png,y\nwell/0.png,y\n")
    ingest(store, folder)
    assert traced(tmp_path, store) == {
        ("0.png", "stored"): 2, ("1.png", "stored"): 1, ("1.png", "not-in-table"): 1,
        ("labels.csv", "not-in-table"): 1, ("link.png", "symlink"): 1,
    }  # fmt: skip


def test_files_of_one_path_in_two_archives_are_two_sources(tmp_path):
    for name, seeds in (("a", (1, 2)), ("b", (3, 2))):
        for at, seed in enumerate(seeds):
            png(tmp_path / name / f"x/{at}.png", pixels(seed))
            (tmp_path / name / "x/notes.txt").write_text(f"{name} has its own notes, {name * 9}")
    both = tmp_path / "a", tmp_path / "b"
    for name, order in (("one", both), ("two", both[::-1]), ("three", (*both, both[0]))):
        ingest(tmp_path / f"{name}.zarr", *order, layout="folder")
    assert tree(tmp_path / "one.zarr") == tree(tmp_path / "two.zarr") == tree(tmp_path / "three.zarr")
    counts = open_store(tmp_path / "one.zarr").manifest.counts
    assert counts == {"samples": 3, "groups": 3, "stored": 3, "skipped": 1, "quarantined": 0}
    assert outcomes(tmp_path / "one.zarr") == {
        ("stored", "stored"): 3, ("skipped", "duplicate"): 1, ("skipped", "not-an-image"): 1,
    }  # fmt: skip
    before = tree(tmp_path / "one.zarr")
    ingest(tmp_path / "one.zarr", *both, layout="folder")
    assert tree(tmp_path / "one.zarr") == before


def test_the_former_crosswalk_is_told_of_and_left_alone(tmp_path):
    heard, former = Listener(), tmp_path / "private/crosswalk.parquet"
    former.parent.mkdir()
    former.write_bytes(b"of 0.1.0")
    ingest(tmp_path / "s.zarr", two_classes(tmp_path / "a", 2), reporter=heard)
    assert len([text for text in heard.said if str(former) in text]) == 1
    assert former.read_bytes() == b"of 0.1.0"


def test_neither_ledger_nor_messages_name_a_file(tmp_path):
    folder, heard = two_classes(tmp_path / "a"), Listener()
    (folder / "sick/MUELLER-1956.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    ingest(tmp_path / "s.zarr", folder, reporter=heard, max_quarantine="10%")
    assert any(text.startswith("quarantined ") and "raster-damaged" in text for text in heard.said)
    assert "MUELLER" not in " ".join(heard.said)
    assert b"MUELLER" not in b"".join(tree(tmp_path / "s.zarr").values())
    assert b"MUELLER" in (tmp_path / "private/crosswalk.sqlite").read_bytes()
