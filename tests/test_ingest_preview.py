"""`--dry-run`: the counts of the real run, and not a byte written."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from archives import Listener, dicom, ingest, pixels, png, table, tree, two_classes
from dicoms import dicom as dicom_bytes
from dicoms import ramp

from pyrad import cli
from pyrad.errors import SecretError, UsageError
from pyrad.ingest.book import Book
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.reasons import KEPT_BY, REASONS


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.delenv("PYRAD_SECRET", raising=False)


def mixed(folder):
    for n in range(9):
        image = pixels(n, rows=16 + 4 * (n % 2), high=3000, dtype=np.int16)
        dicom(folder / f"d/{n}.dcm", image, uid=f"1.2.3.{n}", patient=f"P{n // 3}")
    kinds = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    dicom(folder / "d/scout.dcm", pixels(50, dtype=np.int16), uid="1.2.3.50", **kinds)
    (folder / "d/us.dcm").write_bytes(
        dicom_bytes(ramp(dtype="uint8"), modality="US", SOPInstanceUID="1.2.3.60", BurnedInAnnotation=None)
    )
    (folder / "d/cut.dcm").write_bytes((folder / "d/0.dcm").read_bytes()[:-9])
    (folder / "README.txt").write_text("hello")
    return folder


def files_below(folder):
    return {path for path in folder.rglob("*") if path.is_file() or path.is_dir()}


def test_nothing_is_written_and_the_counts_are_those_of_the_run(tmp_path):
    folder = mixed(tmp_path / "a")
    before, heard = files_below(tmp_path), Listener()
    seen = ingest(tmp_path / "s.zarr", folder, dry_run=True, max_quarantine="20%", reporter=heard)
    assert files_below(tmp_path) == before
    assert heard.record == json.loads(json.dumps(seen.as_record()))
    done = ingest(tmp_path / "s.zarr", folder, max_quarantine="20%")
    assert (seen.images, seen.splits, seen.exit_code) == (done.images, done.splits, done.exit_code)
    assert (seen.files, seen.skipped, seen.quarantined) == (done.files, done.skipped, done.quarantined)
    assert seen.classes == {
        "": {"not-an-image": 1},
        "CT Image Storage": {"stored": 9, "image-type-localizer": 1, "pixel-data-short": 1},
        "Ultrasound Image Storage": {"burned-in-unknown": 1},
    }
    assert seen.modalities == {"CT": 9}
    assert seen.sizes == {"16x20 int16": 5, "20x20 int16": 4}
    assert seen.kept_by == {
        "image-type-localizer": "--include localizer",
        "burned-in-unknown": "--burned-in crop-us-region, rules:FILE or allow",
    }
    for words in (
        "nothing was written",
        "CT Image Storage (files): stored 9",
        "20x20 int16 4",
        "--include loc",
    ):
        assert words in heard.said[-1]


def test_labels_of_a_table_and_of_folders(tmp_path):
    for n in range(4):
        png(tmp_path / f"a/{n}.png", pixels(n))
    table(tmp_path / "a/labels.csv", "path,label\n0,x|y\n1,x\n2,z\n")
    seen = ingest(tmp_path / "s.zarr", tmp_path / "a", dry_run=True)
    assert seen.labels == {"x": 2, "y": 1, "z": 1}
    assert seen.classes == {"raster": {"stored": 3}, "": {"not-in-table": 2}}
    assert seen.modalities == {"unknown": 3}
    seen = ingest(tmp_path / "t.zarr", two_classes(tmp_path / "b"), dry_run=True)
    assert seen.labels == {"sick": 8, "well": 8}
    assert sum(seen.splits.values()) == 16


def test_an_existing_store_is_compared_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    store = tmp_path / "s.zarr"
    folder = two_classes(tmp_path / "a", 3)
    ingest(store, folder)
    two_classes(folder, 4)
    before = tree(tmp_path)
    seen = ingest(store, folder, dry_run=True)
    assert tree(tmp_path) == before
    assert (seen.images, seen.skipped) == (2, {"already-stored": 6})
    assert ingest(store, folder, dry_run=True, private=tmp_path / "none").images == 2
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("PYRAD_SECRET", "another")
    with pytest.raises(SecretError):
        ingest(store, folder, dry_run=True)


def test_the_exit_code_is_that_of_the_run(tmp_path, capsys):
    folder = mixed(tmp_path / "a")
    command = ["ingest", str(folder), "--store", str(tmp_path / "s.zarr"), "--workers", "1", "--dry-run"]
    assert cli.main(command) == 4
    assert "more than --max-quarantine allows" in capsys.readouterr().out
    assert cli.main([*command, "--max-quarantine", "20%"]) == 3
    (folder / "d/cut.dcm").unlink()
    assert cli.main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["event"], record["dry_run"], record["images"]) == ("result", True, 9)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("just words")
    with pytest.raises(UsageError, match="no image to store"):
        ingest(tmp_path / "s.zarr", tmp_path / "texts", dry_run=True)
    assert not (tmp_path / "s.zarr").exists()
    assert os.listdir(tmp_path / "tmp") == []  # noqa: PTH208 - names are enough


def test_every_option_that_keeps_something_exists():
    flags = {f"--{name.replace('_', '-')}" for name in IngestOptions.__dataclass_fields__}
    for reason, option in KEPT_BY.items():
        assert REASONS[reason][0] == "skipped"
        assert {word for word in option.split() if word.startswith("--")} <= flags


def test_a_book_of_any_size_stays_in_memory():
    """SQLite would spill a nameless one beyond its cache of 64 MiB into a deleted file."""
    with Book() as book:
        blobs = ((n, bytes(4 << 20)) for n in range(24))
        book.many("INSERT INTO header(file, source) VALUES (?, ?)", blobs)
        book.run("CREATE TEMP TABLE sorted AS SELECT * FROM header ORDER BY file DESC")
        names = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert not [name for name in names if "etilqs" in name]
