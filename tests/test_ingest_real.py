"""Real archives become stores: patients undivided, masks in place, every file accounted for."""

import csv
import io
import zipfile
from collections import Counter, defaultdict

import numpy as np
import pydicom
import pytest
from archives import ingest, samples_of
from PIL import Image

from pyrad.store.reader import open_store
from pyrad.store.verify import verify

pytestmark = [pytest.mark.real_data, pytest.mark.usefixtures("own_secret")]


def rows_of(store):
    """The samples table of a store."""
    with open_store(store) as opened:
        return opened.samples.to_arrow().to_pylist()


def manifest_of(archive):
    """The rows of a zip's own table."""
    with zipfile.ZipFile(archive) as file:
        return list(csv.DictReader(io.StringIO(file.read("manifest.csv").decode())))


def test_knees_of_one_patient_stay_together(real_data, tmp_path):
    store, archive = tmp_path / "knee.zarr", real_data / "knee_oa.zip"
    summary = ingest(
        store, archive, columns=("label=kl_grade", "group=patient_id"), keep_columns=("side",), workers=2
    )
    rows = manifest_of(archive)
    samples = rows_of(store)
    assert (summary.images, summary.exit_code) == (len(rows), 0)
    splits = defaultdict(set)
    for sample in samples:
        splits[sample["group"]].add(sample["split"])
    assert all(len(its) == 1 for its in splits.values())
    assert len(splits) == len({row["patient_id"] for row in rows})
    assert Counter((s["labels"][0], s["side"]) for s in samples) == Counter(
        (row["kl_grade"], row["side"]) for row in rows
    )
    shares = Counter(next(iter(its)) for its in splits.values())
    for split, share in (("train", 0.75), ("val", 0.10), ("test", 0.15)):
        assert abs(shares[split] - share * len(splits)) <= 1


def test_masks_of_ultrasound_lie_on_their_images(real_data, tmp_path):
    store, archive = tmp_path / "busi.zarr", real_data / "busi.zip"
    ingest(store, archive, columns=("group=dup_group", "mask=masks"), workers=2)
    expected = set()
    with zipfile.ZipFile(archive) as file:
        names = {name.rpartition("/")[2]: name for name in file.namelist()}
        for row in manifest_of(archive):
            if row["kind"] == "image":
                masks = [
                    np.asarray(Image.open(file.open(names[name])).convert("L")) > 0
                    for name in row["masks"].split("|")
                ]
                expected.add(np.any(masks, axis=0).astype(np.uint8).tobytes())
    samples = samples_of(store)
    assert all(sample["mask"] for sample in samples)
    found = {sample["stored_mask"].tobytes() for sample in samples}
    assert found <= expected
    assert len(expected - found) <= 1  # one image is filed twice, with two masks


def test_every_file_of_a_hostile_zip_is_accounted_for(real_data, tmp_path):
    store, archive = tmp_path / "dicom.zarr", real_data / "dicom.zip"
    summary = ingest(
        store, archive, burned_in="allow", include=("sc",), max_quarantine="25%", group_by="study", workers=2
    )
    assert summary.exit_code == 3
    assert sum(summary.files.values()) == len(manifest_of(archive)) + 2
    assert summary.files["stored"] >= 200
    assert verify(store)["samples"] == summary.images
    splits = defaultdict(set)
    for sample in rows_of(store):
        splits[sample["study"] or sample["group"]].add(sample["split"])
    assert all(len(its) == 1 for its in splits.values())


def test_a_segmentation_of_highdicom_is_the_mask_of_its_image(real_data, tmp_path):
    names = ("ct_image.dcm", "seg_image_ct_binary_single_frame.dcm")
    (tmp_path / "a").mkdir()
    with zipfile.ZipFile(real_data / "dicom.zip") as file:
        for name in names:
            (tmp_path / "a" / name).write_bytes(file.read(f"highdicom/{name}"))
    ingest(tmp_path / "s.zarr", tmp_path / "a", include=("derived",))
    (row,) = samples_of(tmp_path / "s.zarr")
    image, segments = (pydicom.dcmread(tmp_path / "a" / name).pixel_array for name in names)
    assert np.array_equal(row["image"], image)
    assert segments.any()
    assert np.array_equal(row["stored_mask"], segments > 0)
