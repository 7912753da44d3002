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
    pixels,
    png,
    samples_of,
    table,
    tree,
    two_classes,
    zipped,
)

from pyrad.errors import QuarantineBudgetError, SecretError, UsageError
from pyrad.ingest.private import PrivateFolder
from pyrad.store.reader import open_store
from pyrad.store.verify import verify


@pytest.fixture(autouse=True)
def _own_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def outcomes(store):
    """(outcome, reason) -> files, over all parts' ledgers."""
    return Counter(row[1:3] for row in ledger_of(store))


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


# ---- refusals


def test_usage_errors_write_nothing(tmp_path):
    store = tmp_path / "s.zarr"
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.txt").write_text("just words")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("just words")
    for source in ("absent", "empty", "plain.txt", "texts"):
        with pytest.raises(UsageError) as caught:
            ingest(store, tmp_path / source)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
        assert not store.exists()
        assert not store.with_name("s.zarr.partial").exists()


def test_skips_that_leave_nothing_say_what_would_keep_them(tmp_path):
    dicom(tmp_path / "a/1.dcm", pixels(1, dtype=np.int16), uid="1.2.3", BurnedInAnnotation="YES")
    with pytest.raises(UsageError, match=r"burned-in-annotation 1.*--burned-in crop-us-region or.*allow"):
        ingest(tmp_path / "s.zarr", tmp_path / "a")
    assert ingest(tmp_path / "s.zarr", tmp_path / "a", burned_in="allow").images == 1


def test_a_path_that_is_no_store(tmp_path):
    two_classes(tmp_path / "a", 2)
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no pyrad store"):
        ingest(tmp_path / "s.zarr", tmp_path / "a")
    assert tree(tmp_path / "s.zarr") == {"notes.txt": b"mine"}


def test_another_secret_is_refused(tmp_path, monkeypatch):
    store = tmp_path / "s.zarr"
    ingest(store, two_classes(tmp_path / "a", 2))
    before = tree(store)
    monkeypatch.setenv("PYRAD_SECRET", "another")
    with pytest.raises(SecretError, match="another secret") as caught:
        ingest(store, two_classes(tmp_path / "a", 3))
    assert caught.value.exit_code == 6
    monkeypatch.delenv("PYRAD_SECRET")
    with pytest.raises(SecretError, match="none is given"):
        ingest(store, tmp_path / "a")
    assert not (tmp_path / "config").exists()
    assert tree(store) == before


def test_too_much_quarantine_commits_nothing_and_a_larger_budget_resumes(tmp_path):
    folder, store = two_classes(tmp_path / "a"), tmp_path / "s.zarr"
    cut = (folder / "sick/0.png").read_bytes()
    (folder / "sick/cut.png").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(QuarantineBudgetError, match=r"1 of 17 images .*5.9 %") as caught:
        ingest(store, folder)
    assert caught.value.exit_code == 4
    assert not store.exists()
    assert ingest(store, folder, max_quarantine="6%").exit_code == 3
    everything_bad = tmp_path / "b"
    everything_bad.mkdir()
    (everything_bad / "cut.png").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(QuarantineBudgetError):
        ingest(tmp_path / "t.zarr", everything_bad)


@pytest.mark.parametrize(
    ("percent", "budget", "exit_code"), [(1, "5%", 3), (10, "10%", 3), (10, "5%", 4), (100, "5%", 4)]
)
def test_the_share_of_bad_files_decides(tmp_path, percent, budget, exit_code):
    folder, store = tmp_path / "a", tmp_path / "s.zarr"
    for n in range(100):
        file = png(folder / f"{'ab'[n % 2]}/{n}.png", pixels(n))
        if n < percent:
            file.write_bytes(file.read_bytes()[:40])
    if exit_code == 3:
        summary = ingest(store, folder, max_quarantine=budget)
        assert (summary.exit_code, summary.quarantined) == (3, {"raster-damaged": percent})
        stored = {row["image"].tobytes() for row in samples_of(store)}
        assert stored == {pixels(n).tobytes() for n in range(percent, 100)}
    else:
        with pytest.raises(QuarantineBudgetError) as caught:
            ingest(store, folder, max_quarantine=budget)
        assert caught.value.exit_code == 4
        assert not store.exists()


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


def test_a_run_that_is_refused_leaves_no_private_folder(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("just words")
    with pytest.raises(UsageError):
        ingest(tmp_path / "s.zarr", tmp_path / "texts")
    assert not (tmp_path / "private").exists()


def test_neither_ledger_nor_messages_name_a_file(tmp_path):
    folder, heard = two_classes(tmp_path / "a"), Listener()
    (folder / "sick/MUELLER-1956.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    ingest(tmp_path / "s.zarr", folder, reporter=heard, max_quarantine="10%")
    assert any(text.startswith("quarantined ") and "raster-damaged" in text for text in heard.said)
    assert "MUELLER" not in " ".join(heard.said)
    assert b"MUELLER" not in b"".join(tree(tmp_path / "s.zarr").values())
    assert b"MUELLER" in (tmp_path / "private/crosswalk.sqlite").read_bytes()


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
