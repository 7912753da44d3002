"""The phantom archive: what it writes, that it can be learned from pixels alone, and what it refuses."""

import csv
import io
import json
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from pyrad.errors import UsageError
from pyrad.phantom import PhantomOptions, write
from pyrad.phantom.canvas import Canvas
from pyrad.phantom.cohort import BROKEN, plan
from pyrad.phantom.dicom import SYNTAXES
from pyrad.phantom.lesion import LABELS, LESIONS, NORMAL
from pyrad.phantom.render import render
from pyrad.phantom.scanner import PADDING, SCANNERS
from pyrad.progress import Reporter

PATIENTS, SEED = 64, 5


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("phantom") / "archive"
    write(PhantomOptions(directory=directory, patients=PATIENTS, seed=SEED))
    return directory


@pytest.fixture(scope="module")
def images():
    return plan(PATIENTS, SEED)


@pytest.fixture(scope="module")
def datasets(archive, images):
    return {image.path: pydicom.dcmread(archive / image.path) for image in images if image.broken is None}


def files_of(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def all_uids(files: dict[str, bytes]) -> set[str]:
    heads = (pydicom.dcmread(io.BytesIO(b), stop_before_pixels=True) for p, b in files.items() if ".dcm" in p)
    return {str(uid) for head in heads for uid in (head.SOPInstanceUID, head.StudyInstanceUID)}


def test_the_same_options_write_the_same_bytes_and_another_seed_shares_nothing(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(PhantomOptions(directory=tmp_path / name, patients=3, seed=seed))
    first, again, other = (files_of(tmp_path / name) for name in "abc")
    assert first == again
    assert not all_uids(first) & all_uids(other)
    shared = set(first) & set(other)
    assert not [path for path in shared if path.endswith(".dcm") and first[path] == other[path]]
    assert not {row["patient"] for row in table(tmp_path / "a" / "labels.csv")} & {
        row["patient"] for row in table(tmp_path / "c" / "labels.csv")
    }


def test_a_larger_archive_has_the_same_first_patients():
    large = [replace(image, broken=None) for image in plan(40, 3)]
    small = [replace(image, broken=None) for image in plan(7, 3)]
    assert large[: len(small)] == small


def test_the_table_names_every_file_once(archive, images):
    text = (archive / "labels.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "path,label,patient"
    rows = table(archive / "labels.csv")
    on_disk = {p.relative_to(archive).as_posix() for p in archive.rglob("*.dcm")}
    assert {row["path"] for row in rows} == on_disk
    assert len(rows) == len(on_disk) == len(images)
    assert {row["label"] for row in rows} == set(LABELS)
    assert [row["label"] for row in rows] == [image.label for image in images]


def test_every_whole_file_decodes_to_the_planned_values(datasets, images):
    seen = Counter()
    for image in images:
        if image.broken is not None:
            continue
        dataset, expected = datasets[image.path], render(image, SEED).pixels
        decoded = dataset.pixel_array
        if image.series.scanner.colour:
            assert (decoded == decoded[..., :1]).all()
            decoded = decoded[..., 0]
        decoded = decoded.reshape(expected.shape)
        assert decoded.dtype.newbyteorder("=") == expected.dtype
        assert np.array_equal(decoded, expected), image.path
        assert dataset.file_meta.TransferSyntaxUID == SYNTAXES[image.series.syntax]
        seen[image.series.syntax] += 1
    assert set(seen) == set(SYNTAXES)


def test_headers_are_those_of_a_real_archive(archive, datasets):
    rows = {row["path"]: row for row in table(archive / "labels.csv")}
    modality_of_series, patient_of_study, places = {}, {}, defaultdict(set)
    assert len({dataset.SOPInstanceUID for dataset in datasets.values()}) == len(datasets)
    for path, dataset in datasets.items():
        assert dataset.PatientID == rows[path]["patient"]
        assert dataset.BurnedInAnnotation == "NO"
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID
        assert modality_of_series.setdefault(dataset.SeriesInstanceUID, dataset.Modality) == dataset.Modality
        assert patient_of_study.setdefault(dataset.StudyInstanceUID, dataset.PatientID) == dataset.PatientID
        assert dataset.PatientSex in "FM"
        assert 18 <= int(dataset.PatientAge[:3]) < 90
        for keyword in ("BodyPartExamined", "Manufacturer", "StudyDate", "SeriesNumber", "InstanceNumber"):
            assert dataset.get(keyword), keyword
        assert all(uid.is_valid for uid in (dataset.SOPInstanceUID, dataset.SeriesInstanceUID))
        assert all(
            len(str(item)) <= 16
            for keyword in ("PixelSpacing", "WindowCenter", "WindowWidth", "AccessionNumber")
            for item in np.atleast_1d(dataset.get(keyword, ""))
        )
        if dataset.Modality in ("CT", "MR"):
            place = tuple(dataset.ImagePositionPatient)
            assert place not in places[dataset.SeriesInstanceUID]
            places[dataset.SeriesInstanceUID].add(place)


def test_kinds_of_image_are_mixed(datasets):
    every = list(datasets.values())
    assert len({(d.Rows, d.Columns) for d in every}) >= 10
    assert any(d.Rows != d.Columns for d in every)
    assert {d.Modality for d in every} == {"CT", "MR", "US", "DX"}
    assert len({d.BodyPartExamined for d in every}) >= 5
    assert {(d.BitsAllocated, d.BitsStored, d.PixelRepresentation) for d in every} == {
        (8, 8, 0),
        (16, 12, 0),
        (16, 16, 1),
    }
    photometric = {d.PhotometricInterpretation for d in every}
    assert {"MONOCHROME1", "MONOCHROME2", "RGB"} <= photometric
    assert {np.size(d.get("WindowCenter", [])) for d in every} == {0, 1, 2}
    spacings = [d.PixelSpacing for d in every if "PixelSpacing" in d]
    assert {row == column for row, column in spacings} == {True, False}
    assert {float(d.get("RescaleIntercept", 0)) for d in every} == {0.0, -1024.0}
    assert any("NumberOfFrames" in d and d.NumberOfFrames > 1 for d in every)
    assert len({d.StudyInstanceUID for d in every}) > len({d.PatientID for d in every})


def test_padding_lies_outside_the_circle_and_only_there(datasets):
    padded = [d for d in datasets.values() if "PixelPaddingValue" in d]
    assert padded
    for dataset in padded:
        canvas = Canvas.blank(dataset.Rows, dataset.Columns, *[np.random.default_rng(0)] * 2)
        outside = canvas.y**2 + canvas.x**2 > 1
        assert dataset.PixelPaddingValue == PADDING
        assert np.array_equal(dataset.pixel_array == PADDING, outside)


def test_masks_lie_beside_exactly_the_images_with_a_lesion(archive, images):
    rows = table(archive / "lesions.csv")
    expected = {image.path for image in images if image.label != NORMAL and image.broken is None}
    assert {row["path"] for row in rows} == expected
    masks = {path.relative_to(archive).as_posix() for path in (archive / "masks").rglob("*.*")}
    assert {row["mask"] for row in rows} == masks
    by_path = {image.path: image for image in images}
    assert any(by_path[row["path"]].frames > 1 for row in rows)
    for row in rows:
        image = by_path[row["path"]]
        assert row["label"] == image.label
        with Picture.open(archive / row["mask"]) as picture:
            assert getattr(picture, "n_frames", 1) == image.frames
            for frame in range(image.frames):
                picture.seek(frame)
                mask = np.asarray(picture)
                assert mask.shape == (image.series.rows, image.series.columns)
                assert set(np.unique(mask)) == {0, 255}
                assert 0.004 < (mask > 0).mean() < 0.12, row


def test_a_lesion_changes_the_pixels_of_its_mask_as_its_label_says(images):
    """The same slice without its lesion differs from it around the mask alone."""
    checked = Counter()
    for image in images:
        drawing = render(image, SEED)
        if drawing.lesion is None or drawing.lesion.contrast < 0.2 or image.series.scanner.modality == "US":
            continue
        twin = render(replace(image, label=NORMAL), SEED)
        scanner = image.series.scanner
        sign = -1 if image.series.inverted else 1
        change = (drawing.pixels[0].astype(float) - twin.pixels[0]) * scanner.slope * sign / scanner.window[1]
        mask = drawing.masks[0]
        grown = np.zeros_like(mask)
        reach = mask.shape[0] // 5
        rows, columns = np.nonzero(mask)
        grown[
            max(rows.min() - reach, 0) : rows.max() + reach,
            max(columns.min() - reach, 0) : columns.max() + reach,
        ] = True
        assert not change[~grown].any(), image.path
        mean, spread = change[mask].mean(), change[mask].std()
        if image.label == "mass":
            assert mean > 0.1, image.path
        elif image.label == "cyst":
            assert mean < -0.05, image.path
        else:
            assert abs(mean) < 0.2, image.path
            assert spread > 0.05, image.path
        checked[image.label] += 1
    assert set(checked) == set(LESIONS)


def test_an_affected_patient_has_normal_slices_too():
    by_patient = defaultdict(Counter)
    for image in plan(200, 0):
        by_patient[image.series.patient.number][image.label] += 1
    mixed = sum(NORMAL in labels and len(labels) == 2 for labels in by_patient.values())
    assert mixed > 80
    assert all(len(set(labels) - {NORMAL}) <= 1 for labels in by_patient.values())
    assert sum(labels.keys() == {NORMAL} for labels in by_patient.values()) > 15


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_label_occurs_in_every_scanner_and_syntax(seed):
    files = plan(PhantomOptions.patients, seed)
    for attribute, least in (
        (lambda image: image.series.scanner.modality, 8),
        (lambda image: image.series.scanner.draw.__name__, 8),
        (lambda image: image.series.syntax, 8),
        (lambda image: (image.series.rows, image.series.columns), 3),
    ):
        counts = Counter((attribute(image), image.label) for image in files)
        for value in {attribute(image) for image in files}:
            for label in LABELS:
                assert counts[value, label] >= least, (value, label)


def test_the_label_cannot_be_told_from_a_files_attributes():
    """A forest that sees every header but no pixel does hardly better than chance, patients kept apart."""
    files = plan(600, 9)
    scanners, syntaxes = list(SCANNERS.values()), list(SYNTAXES)
    features = [
        (
            scanners.index(image.series.scanner),
            syntaxes.index(image.series.syntax),
            image.series.rows,
            image.series.columns,
            image.series.window_factor[0],
            image.series.window_factor[1],
            image.series.padded,
            image.series.inverted,
            image.series.many_windows,
            image.series.study,
            image.series.patient.age,
            image.series.patient.sex == "F",
            image.frames,
            image.count,
        )
        for image in files
    ]
    labels = np.array([LABELS.index(image.label) for image in files])
    groups = [image.series.patient.number for image in files]
    forest = RandomForestClassifier(60, min_samples_leaf=10, random_state=0)
    scores = cross_val_predict(
        forest, features, labels, groups=groups, cv=GroupKFold(4), method="predict_proba"
    )
    assert roc_auc_score(labels, scores, multi_class="ovr") < 0.58


@pytest.mark.parametrize("patients", [1, 2, 5, 10, 34, 60])
def test_few_files_are_broken_and_from_34_files_up_at_least_one(patients):
    for seed in range(12):
        files = plan(patients, seed)
        broken = sum(image.broken is not None for image in files)
        assert 0.03 * len(files) >= broken >= (len(files) >= 34), seed
        assert len(files) <= 12 * patients


@settings(max_examples=25, deadline=None)
@given(patients=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_any_archive_keeps_to_the_share_of_broken_files(patients, seed):
    files = plan(patients, seed)
    broken = [image.broken for image in files if image.broken is not None]
    assert len(files) * 0.03 >= len(broken) >= (len(files) >= 34)
    assert not broken or broken[0] in BROKEN
    assert len({image.path for image in files}) == len(files)


def test_broken_files_cannot_be_decoded(archive, images):
    broken = [image for image in images if image.broken is not None]
    assert {image.broken for image in broken} == set(BROKEN)
    for image in broken:
        with pytest.raises(Exception):  # noqa: B017, PT011 - each kind fails in its own way
            pydicom.dcmread(archive / image.path).pixel_array  # noqa: B018


@pytest.mark.parametrize("name", SCANNERS)
def test_pixels_stay_float32_so_that_they_are_the_same_on_every_machine(name):
    canvas = Canvas.blank(24, 36, np.random.default_rng(1), np.random.default_rng(2))
    tissue = SCANNERS[name].draw(canvas, 0.3)
    assert tissue.pixels.dtype == tissue.organ.dtype == np.float32
    assert tissue.pixels.shape == tissue.organ.shape == (24, 36)
    assert canvas.clouds(5).dtype == canvas.speckle(5).dtype == np.float32


def test_clouds_fill_their_range_and_never_leave_it():
    canvas = Canvas.blank(64, 48, np.random.default_rng(1), np.random.default_rng(2))
    for cells in (1.5, 4, 30.7):
        clouds = canvas.clouds(cells, stretch=1.3)
        assert -1 <= clouds.min() < clouds.max() <= 1
    assert canvas.speckle(20).mean() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("values", "words"),
    [({"patients": 0}, "--patients 0"), ({"patients": 10_000}, "9999"), ({"seed": -1}, "--seed -1")],
)
def test_impossible_options_are_refused(values, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        PhantomOptions(directory=tmp_path / "new", **values)


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write(PhantomOptions(directory=tmp_path, patients=1))
    with pytest.raises(UsageError, match="is a file"):
        write(PhantomOptions(directory=tmp_path / "notes.txt", patients=1))
    assert files_of(tmp_path) == {"notes.txt": b"mine"}


def test_an_archive_of_other_options_is_refused(tmp_path):
    write(PhantomOptions(directory=tmp_path, patients=1))
    before = files_of(tmp_path)
    with pytest.raises(UsageError, match="--patients 1 --seed 0"):
        write(PhantomOptions(directory=tmp_path, patients=2))
    assert files_of(tmp_path) == before


def test_a_repeated_command_leaves_a_whole_archive_and_completes_a_damaged_one(tmp_path):
    options = PhantomOptions(directory=tmp_path / "a", patients=2, seed=4)
    assert write(options).written
    before = files_of(options.directory)
    assert not write(options).written
    victim = next(options.directory.rglob("*.dcm"))
    for damage in (victim.unlink, lambda: victim.write_bytes(b"x"), lambda: shutil.rmtree(victim.parent)):
        damage()
        assert write(options).written
        assert files_of(options.directory) == before


def test_an_interrupted_archive_is_completed(tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    options = PhantomOptions(directory=tmp_path, patients=1, seed=4)
    with monkeypatch.context() as patch:
        patch.setattr("pyrad.phantom._as_csv", stop)
        with pytest.raises(StopError):
            write(options)
    assert not (tmp_path / "labels.csv").exists()
    assert write(options).written
    assert not write(options).written


def test_the_summary_is_reported(tmp_path):
    out = io.StringIO()
    options = PhantomOptions(directory=tmp_path, patients=8)
    summary = write(options, Reporter("json", err=io.StringIO(), out=out))
    record = json.loads(out.getvalue())
    assert record["files"] == summary.files == len(table(tmp_path / "labels.csv"))
    assert record["broken"] == summary.broken >= (summary.files >= 34)
    assert sum(record["labels"].values()) == summary.files
