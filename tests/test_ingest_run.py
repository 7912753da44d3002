"""Archives to stores, end to end: the same bytes whatever the order, every file accounted for, exit codes."""

import json
from collections import Counter

import numpy as np
import pytest
from archives import (
    Listener,
    dicom,
    ingest,
    ledger_of,
    npy,
    outcomes,
    pixels,
    png,
    samples_of,
    table,
    tree,
    two_classes,
    zipped,
)

from pyrad.errors import SecretError, UsageError
from pyrad.store.reader import open_store
from pyrad.store.verify import verify

pytestmark = pytest.mark.usefixtures("own_secret")


def mixed(folder):
    """DICOM of three patients, PNG, NPY, a text, a broken file, byte and pixel duplicates, several sizes."""
    for n in range(9):
        image = pixels(n, rows=16 + 4 * (n % 2), high=3000, dtype=np.int16)
        dicom(folder / f"d/{n}.dcm", image, uid=f"1.2.3.{n}", patient=f"P{n // 3}", InstanceNumber=9 - n)
    for n in range(6):
        png(folder / f"r/{n}.png", pixels(100 + n))
    npy(folder / "n/0.npy", pixels(200, dtype=np.uint16, high=60000))
    npy(folder / "n/copy.npy", pixels(200, dtype=np.uint16, high=60000))
    png(folder / "r/same pixels.bmp", pixels(100))
    (folder / "README.txt").write_text("hello")
    (folder / "r/broken.png").write_bytes((folder / "r/0.png").read_bytes()[:60])
    return folder


def test_a_folder_becomes_a_store(tmp_path):
    heard = Listener()
    summary = ingest(tmp_path / "s.zarr", two_classes(tmp_path / "a"), reporter=heard)
    rows = samples_of(tmp_path / "s.zarr")
    assert summary.exit_code == 0
    assert summary.files == {"stored": 16, "skipped": 0, "quarantined": 0}
    assert Counter(row["labels"][0] for row in rows) == {"sick": 8, "well": 8}
    assert sorted(row["image"].tobytes() for row in rows) == sorted(
        pixels(n).tobytes() for n in (*range(8), *range(1000, 1008))
    )
    assert Counter(row["split"] for row in rows) == summary.splits
    for row in rows:
        assert row["percentiles"] == pytest.approx(np.percentile(row["image"], [1, 99]), abs=0)
    assert heard.record == json.loads(json.dumps(summary.as_record()))
    assert verify(tmp_path / "s.zarr")["samples"] == 16


def test_the_bytes_depend_on_neither_order_nor_workers_nor_container(tmp_path):
    folder = mixed(tmp_path / "a")
    options = {"max_quarantine": "20%"}
    summary = ingest(tmp_path / "one.zarr", folder, **options)
    ingest(tmp_path / "two.zarr", folder, workers=2, **options)
    ingest(tmp_path / "zip.zarr", zipped(folder, tmp_path / "a.zip"), private=tmp_path / "other", **options)
    assert summary.exit_code == 3
    assert tree(tmp_path / "one.zarr") == tree(tmp_path / "two.zarr") == tree(tmp_path / "zip.zarr")
    assert outcomes(tmp_path / "one.zarr") == {
        ("stored", "stored"): 16,
        ("skipped", "duplicate"): 1,
        ("skipped", "duplicate-pixels"): 1,
        ("skipped", "not-an-image"): 1,
        ("quarantined", "raster-damaged"): 1,
    }
    counts = open_store(tmp_path / "one.zarr").manifest.counts
    assert counts == {"samples": 16, "groups": 10, "stored": 16, "skipped": 3, "quarantined": 1}


def test_several_sources_in_any_order(tmp_path):
    sources = [two_classes(tmp_path / "a"), mixed(tmp_path / "b")]
    for name, order in (("one", sources), ("two", sources[::-1]), ("three", [*sources, sources[0]])):
        ingest(tmp_path / f"{name}.zarr", *order, layout="folder", max_quarantine="20%")
    assert tree(tmp_path / "one.zarr") == tree(tmp_path / "two.zarr") == tree(tmp_path / "three.zarr")


def test_ingesting_again_changes_no_byte(tmp_path):
    folder, store = mixed(tmp_path / "a"), tmp_path / "s.zarr"
    ingest(store, folder, max_quarantine="20%")
    before = tree(store)
    again = ingest(store, folder, max_quarantine="20%")
    assert (again.part, again.exit_code, again.images) == (None, 3, 0)
    assert tree(store) == before
    assert not store.with_name("s.zarr.partial").exists()
    moved = folder.rename(tmp_path / "moved")
    ingest(store, moved, max_quarantine="20%", private=tmp_path / "lost the private folder")
    assert tree(store) == before


def test_appending_keeps_patients_and_adds_a_part(tmp_path):
    store = tmp_path / "s.zarr"
    for n in range(12):
        dicom(tmp_path / f"a/{n}.dcm", pixels(n, dtype=np.int16), uid=f"1.2.3.{n}", patient=f"P{n}")
    ingest(store, tmp_path / "a")
    before = {row["group"]: row["split"] for row in samples_of(store)}
    for n in range(12, 36):
        dicom(tmp_path / f"a/{n}.dcm", pixels(n, dtype=np.int16), uid=f"1.2.3.{n}", patient=f"P{n // 2}")
    (tmp_path / "a/broken.dcm").write_bytes((tmp_path / "a/0.dcm").read_bytes()[:-9])
    summary = ingest(store, tmp_path / "a")
    assert (summary.part, summary.images, summary.exit_code) == ("000002", 24, 3)
    rows = samples_of(store)
    after = {}
    for row in rows:
        after.setdefault(row["group"], set()).add(row["split"])
    assert len(rows) == 36
    assert all(len(splits) == 1 for splits in after.values())
    assert all(after[group] == {split} for group, split in before.items())
    assert sum(len(splits) for splits in after.values()) == 18
    counts = open_store(store).manifest.counts
    assert counts == {"samples": 36, "groups": 18, "stored": 36, "skipped": 0, "quarantined": 1}
    assert verify(store)["samples"] == 36
    (tmp_path / "a/broken.dcm").unlink()
    dicom(tmp_path / "a/broken.dcm", pixels(99, dtype=np.int16), uid="1.2.3.99", patient="P1")
    assert ingest(store, tmp_path / "a").exit_code == 0
    assert open_store(store).manifest.counts["quarantined"] == 0


def test_dicom_attributes_arrive(tmp_path):
    image = pixels(1, high=3000, dtype=np.int16)
    image[0] = -2000
    dicom(
        tmp_path / "a/1.dcm", image, uid="1.2.3", PixelPaddingValue=-2000, PixelSpacing=[0.5, 0.75],
        ImagePositionPatient=[0, 0, 10], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PatientName="Mueller^Anna",
    )  # fmt: skip
    dicom(
        tmp_path / "a/2.dcm", image + 1, uid="1.2.4", ImagePositionPatient=[0, 0, 5],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )  # fmt: skip
    ingest(tmp_path / "s.zarr", tmp_path / "a")
    rows = {row["slice_index"]: row for row in samples_of(tmp_path / "s.zarr")}
    row = rows[1]
    assert np.array_equal(row["image"], image)
    assert (row["modality"], row["slope"], row["intercept"]) == ("CT", 1.0, -1024.0)
    assert (row["window_center"], row["window_width"], row["voi_function"]) == ([40.0], [400.0], "LINEAR")
    assert (row["padding_low"], row["padding_high"], row["spacing_mm"]) == (-2000, -2000, [0.5, 0.75])
    assert row["percentiles"] == pytest.approx(np.percentile(image[1:], [1, 99]), abs=0)
    assert row["study"] == rows[0]["study"] != ""
    everything = b"".join(tree(tmp_path / "s.zarr").values())
    assert b"Mueller" not in everything
    assert b"1.2.3" not in everything


def test_an_image_of_padding_alone_leaves_its_slot_empty(tmp_path):
    for n in range(3):
        dicom(tmp_path / f"a/{n}.dcm", pixels(n, dtype=np.int16), uid=f"1.2.{n}")
    dicom(tmp_path / "a/pad.dcm", np.full((16, 20), -9, np.int16), uid="1.2.9", PixelPaddingValue=-9)
    summary = ingest(tmp_path / "s.zarr", tmp_path / "a", max_quarantine="25%")
    assert summary.quarantined == {"only-padding": 1}
    assert len(samples_of(tmp_path / "s.zarr")) == 3
    assert verify(tmp_path / "s.zarr")["chunks"] == 3


def test_the_same_uid(tmp_path):
    folder, image = tmp_path / "a", pixels(1, dtype=np.int16)
    for name in ("kept", "same"):
        dicom(folder / f"{name}.dcm", image, uid="1.2.1", SeriesDescription=name)
    for name, slope in (("x", "1"), ("y", "2")):
        dicom(folder / f"{name}.dcm", pixels(2, dtype=np.int16), uid="1.2.2", RescaleSlope=slope)
    for n in (3, 4):
        dicom(folder / f"{n}.dcm", pixels(n, dtype=np.int16), uid="1.2.3")
    store = tmp_path / "s.zarr"
    summary = ingest(store, folder, max_quarantine="90%")
    assert summary.quarantined == {"uid-conflict": 4}
    assert summary.skipped == {"duplicate": 1}
    assert [row["image"].tolist() for row in samples_of(store)] == [image.tolist()]
    before = tree(store)
    # Other bytes with the same pixels are the same image; other pixels or attributes put the newcomer out.
    dicom(tmp_path / "b/1.dcm", image, uid="1.2.1", SeriesDescription="other words")
    summary = ingest(store, tmp_path / "b")
    assert (summary.exit_code, summary.skipped) == (0, {"already-stored": 1})
    for change in ({"image": image + 1}, {"RescaleIntercept": "-1000"}):
        dicom(tmp_path / "b/1.dcm", change.pop("image", image), uid="1.2.1", **change)
        summary = ingest(store, tmp_path / "b", max_quarantine="100%")
        assert summary.quarantined == {"uid-conflict": 1}
    assert tree(store) == before


def test_equal_pixels_of_two_patients_become_one_image_with_both_labels(tmp_path):
    folder, store = tmp_path / "a", tmp_path / "s.zarr"
    lines = ["path,label,patient"]
    for n in range(20):
        png(folder / f"{n}.png", pixels(n))
        lines.append(f"{n}.png,{'sick' if n % 2 else 'well'},p{n}")
    png(folder / "again.bmp", pixels(3))
    png(folder / "mine.bmp", pixels(4))
    table(folder / "labels.csv", "\n".join([*lines, "again.bmp,well,q", "mine.bmp,well,p4"]))
    summary = ingest(store, folder)
    assert summary.skipped == {"duplicate-pixels": 1, "not-in-table": 1}
    by_pixels = {}
    for row in samples_of(store):
        by_pixels.setdefault(row["image"].tobytes(), []).append(row)
    (one,) = by_pixels[pixels(3).tobytes()]
    assert one["labels"] == ["sick", "well"]
    assert len({row["group"] for row in by_pixels[pixels(4).tobytes()]}) == 1
    assert len(by_pixels[pixels(4).tobytes()]) == 2
    assert verify(store)["samples"] == 21
    # A later ingest brings the image once more, of a third patient.
    png(tmp_path / "b/third.bmp", pixels(3))
    table(tmp_path / "b/labels.csv", "path,label,patient\nthird.bmp,sick,r\n")
    before = tree(store)
    assert ingest(store, tmp_path / "b").skipped["duplicate-pixels"] == 1
    assert tree(store) == before


def test_masks(tmp_path):
    folder = tmp_path / "a"
    squares = np.zeros((2, 16, 20), np.uint8)
    squares[0, 2:5, 3:9], squares[1, 4:8, 4:6] = 255, 1
    for n in range(6):
        png(folder / f"image/{n}.png", pixels(n))
    for n, square in enumerate(squares):
        png(folder / f"mask/{n}.png", square)
    png(folder / "mask/empty.png", np.zeros((16, 20), np.uint8))
    png(folder / "mask/small.png", np.zeros((8, 8), np.uint8))
    (folder / "mask/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    masks = ["mask/0.png|mask/1.png", "empty", "small.png", "broken.png", "absent.png", ""]
    lines = [f"image/{n}.png,x,{mask}" for n, mask in enumerate(masks)]
    table(folder / "labels.csv", "path,label,mask\n" + "\n".join(lines))
    summary = ingest(tmp_path / "s.zarr", folder, columns=("mask=mask",), max_quarantine="60%")
    assert summary.quarantined == {"mask-missing": 1, "mask-size": 1, "mask-unreadable": 1}
    assert summary.skipped == {"mask": 5, "not-in-table": 1}
    rows = {row["image"].tobytes(): row for row in samples_of(tmp_path / "s.zarr")}
    both = rows[pixels(0).tobytes()]
    assert np.array_equal(both["stored_mask"], (squares.sum(0) > 0).astype(np.uint8))
    assert rows[pixels(1).tobytes()]["stored_mask"].sum() == 0
    assert (rows[pixels(1).tobytes()]["mask"], rows[pixels(5).tobytes()]["mask"]) == (True, False)
    assert rows[pixels(5).tobytes()]["stored_mask"] is None
    assert verify(tmp_path / "s.zarr")["samples"] == 3


def test_frames_of_an_array(tmp_path):
    stack = np.stack([pixels(n) for n in range(7)])
    npy(tmp_path / "a/cine.npy", stack)
    ingest(tmp_path / "s.zarr", tmp_path / "a", frames="every:3")
    rows = sorted(samples_of(tmp_path / "s.zarr"), key=lambda row: row["frame"])
    assert [row["frame"] for row in rows] == [0, 3, 6]
    assert all(np.array_equal(row["image"], stack[row["frame"]]) for row in rows)
    assert len({row["group"] for row in rows}) == 1
    assert sorted(row[1:] for row in ledger_of(tmp_path / "s.zarr")) == [
        ("skipped", "frame-not-chosen", 4),
        ("stored", "stored", 3),
    ]


def test_kept_columns_and_roles_of_a_table(tmp_path):
    for n in range(4):
        png(tmp_path / f"a/{n}.png", pixels(n))
    table(
        tmp_path / "t.csv",
        "path,grade,pid,side,site\n" + "".join(f"{n},{n},p{n // 2},L,x\n" for n in range(4)),
    )
    ingest(
        tmp_path / "s.zarr", tmp_path / "a", layout="table", table=tmp_path / "t.csv", split="1/1/0",
        columns=("label=grade", "group=pid"), keep_columns=("side",),
    )  # fmt: skip
    rows = samples_of(tmp_path / "s.zarr")
    assert {row["side"] for row in rows} == {"L"}
    assert "site" not in rows[0]
    assert len({row["group"] for row in rows}) == 2
    assert sorted(row["labels"][0] for row in rows) == ["0", "1", "2", "3"]
    manifest = open_store(tmp_path / "s.zarr").manifest
    assert manifest.split == {"ratios": [1, 1, 0], "source": "ratios"}
    assert manifest.options["columns"] == ["label=grade", "group=pid"]


def test_a_store_inside_its_own_source_is_left_out(tmp_path):
    folder = two_classes(tmp_path / "a", 3)
    ingest(folder / "s.zarr", folder, private=tmp_path / "private")
    before = tree(folder / "s.zarr")
    assert ingest(folder / "s.zarr", folder, private=tmp_path / "private").part is None
    assert tree(folder / "s.zarr") == before


def test_a_secret_is_made_for_a_new_store_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("PYRAD_SECRET")
    made, heard = tmp_path / "config/pyrad/secret", Listener()
    (tmp_path / "plain.txt").write_text("just words")
    with pytest.raises(UsageError):
        ingest(tmp_path / "s.zarr", tmp_path / "plain.txt")
    assert not made.exists()
    ingest(tmp_path / "s.zarr", two_classes(tmp_path / "a", 2), reporter=heard)
    assert any(str(made) in text for text in heard.said)
    assert ingest(tmp_path / "s.zarr", two_classes(tmp_path / "a", 3)).images == 2
    made.unlink()
    with pytest.raises(SecretError, match="none is given"):
        ingest(tmp_path / "s.zarr", two_classes(tmp_path / "a", 4))
    assert not made.exists()
