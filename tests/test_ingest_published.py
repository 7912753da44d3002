"""Published data sets, as their authors lay them out, become stores: labels, groups, splits, masks."""

import csv
import io
import re
import zipfile
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import lookalikes
import numpy as np
import pytest
from archives import Listener, ingest, ledger_of, samples_of, table, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lookalikes import square
from PIL import Image

from pyrad.errors import UsageError
from pyrad.ingest.layouts import Listing
from pyrad.ingest.layouts.published import PUBLISHED
from pyrad.ingest.options import PUBLISHED_LAYOUTS, IngestOptions

pytestmark = pytest.mark.usefixtures("own_secret")

TREES = {
    name: getattr(lookalikes, name.replace("-", "_")) for name in PUBLISHED if name != "rsna-pneumonia"
} | {"rsna-pneumonia": lookalikes.rsna_pneumonia}


def stored(tmp_path, layout, **options):
    """Ingest the look-alike of a data set; its samples by label, and what was said."""
    listener = Listener()
    archive = tmp_path / "data"
    if not archive.exists():
        TREES[layout](archive)
    store = tmp_path / "x.zarr"
    ingest(store, archive, layout=layout, reporter=listener, **options)
    return samples_of(store), " ".join(listener.said)


def rows_of(layout, root):
    """What a layout says of a tree, by path."""
    paths = tuple(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))
    listing = Listing(path=root, paths=paths, read=lambda path: (root / path).read_bytes())
    tables = PUBLISHED[layout](listing)
    return {row.path: row for table in tables for row in table.rows}, tables


def test_every_layout_of_the_options_has_a_function():
    assert set(PUBLISHED) == set(PUBLISHED_LAYOUTS)


def test_the_manual_describes_every_layout():
    manual = (Path(__file__).parents[1] / "docs" / "layouts.md").read_text()
    assert [name for name in PUBLISHED if f"### `{name}`" not in manual] == []


@pytest.mark.parametrize("layout", PUBLISHED)
def test_another_tree_is_refused_with_what_is_expected(layout, tmp_path):
    lookalikes.png(tmp_path / "MUELLER_HANS" / "1.png", lookalikes.pixels(1))
    with pytest.raises(UsageError, match=r"does not look like .*expected are .*layouts.md") as caught:
        rows_of(layout, tmp_path)
    assert "MUELLER" not in str(caught.value)


@pytest.mark.parametrize("layout", PUBLISHED)
def test_no_layout_reads_a_table_of_the_user(layout):
    with pytest.raises(UsageError, match="reads none"):
        IngestOptions(src=(Path("x"),), store=Path("s.zarr"), layout=layout, table=Path("t.csv"))


@pytest.mark.parametrize("layout", PUBLISHED)
def test_a_wrapping_folder_changes_nothing(layout, tmp_path):
    plain, _ = rows_of(layout, TREES[layout](tmp_path / "plain"))
    deep, _ = rows_of(layout, TREES[layout](tmp_path / "deep" / "a" / "b").parents[1])
    assert {f"a/b/{path}": row.labels for path, row in plain.items()} == {
        path: row.labels for path, row in deep.items()
    }
    assert [row.patient for row in plain.values()] == [row.patient for row in deep.values()]


def test_radimagenet_with_its_lists(tmp_path):
    samples, _ = stored(tmp_path, "radimagenet")
    found = {s["labels"][0]: (s["modality"], s["anatomy"], s["split"]) for s in samples}
    assert found == {
        "abd-normal": ("CT", "abdomen", "train"),
        "lung-Nodule": ("CT", "lung", "val"),
        "af-Plantar_plate_tear": ("MR", "anklefoot", "train"),
        "shoulder-ca++_tendinosis": ("MR", "shoulder", "test"),
        "mriabd-liver_disease_": ("MR", "abdomen", "train"),
        "usabd-gb": ("US", "abdomen", "train"),
        "usthyroid-thyroid_nodule": ("US", "thyroid", "test"),
    }


def test_radimagenet_without_its_lists_has_the_same_labels(tmp_path):
    listed, _ = rows_of("radimagenet", lookalikes.radimagenet(tmp_path / "a"))
    bare, tables = rows_of("radimagenet", lookalikes.radimagenet(tmp_path / "b", lists=False))
    assert {path: row.labels for path, row in listed.items()} == {p: row.labels for p, row in bare.items()}
    assert {row.split for row in bare.values()} == {None}
    assert "split by ratio" in tables[0].notes[0]


def test_radimagenet_refuses_a_label_of_no_anatomy_and_an_image_of_two_splits(tmp_path):
    root = lookalikes.radimagenet(tmp_path)
    table(root / "RadiologyAI_val.csv", "filename,label\nradiology_ai/US/gb/usn309850.png,MUELLER-x\n")
    with pytest.raises(UsageError, match="row 2 have a label that begins with none of abd") as caught:
        rows_of("radimagenet", root)
    assert "MUELLER" not in str(caught.value)
    table(root / "RadiologyAI_val.csv", "filename,label\nradiology_ai/US/gb/usn309850.png,usabd-gb\n")
    with pytest.raises(UsageError, match="of one file and differ in split"):
        ingest(tmp_path / "x.zarr", root, layout="radimagenet")


def test_busi_unites_the_masks_of_an_image(tmp_path):
    samples, said = stored(tmp_path, "busi")
    assert Counter(s["labels"][0] for s in samples) == {"benign": 2, "malignant": 2, "normal": 2}
    assert {(s["modality"], s["anatomy"]) for s in samples} == {("US", "breast")}
    assert all(s["mask"] for s in samples)
    areas = sorted((s["labels"][0], int(s["stored_mask"].sum())) for s in samples)
    assert areas == [
        *(("benign", 16), ("benign", 32), ("malignant", 16), ("malignant", 16), ("normal", 0), ("normal", 0))
    ]
    both = next(s for s in samples if s["stored_mask"].sum() == 32)
    np.testing.assert_array_equal(both["stored_mask"] > 0, (square(2, 3) | square(9, 12)) > 0)
    assert "no patients are known" in said


def test_ddti_draws_its_outlines(tmp_path):
    samples, said = stored(tmp_path, "ddti")
    by_label = defaultdict(list)
    for sample in samples:
        by_label["".join(sample["labels"])].append(sample)
    assert {label: len(its) for label, its in by_label.items()} == {"tirads-4a": 2, "tirads-2": 1, "": 1}
    first, second = by_label["tirads-4a"]
    assert first["group"] == second["group"] != by_label["tirads-2"][0]["group"]
    expected = np.zeros((16, 20), bool)
    expected[3:7, 2:8] = True
    np.testing.assert_array_equal(first["stored_mask"] > 0, expected)
    expected[1:4, 12:16] = True
    np.testing.assert_array_equal(by_label["tirads-2"][0]["stored_mask"] > 0, expected)
    assert "1 images are of cases without TI-RADS" in said


BOMB = (
    '<!DOCTYPE c [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<case><tirads>&b;</tirads></case>"
)
MARK = "<case><tirads>3</tirads><mark><image>1</image><svg>{}</svg></mark></case>"


@pytest.mark.parametrize(
    "bad",
    [
        BOMB,
        '<!DOCTYPE c SYSTEM "file:///etc/passwd"><case/>',
        "<case><tirads>3</tirads>",
        "no xml at all",
        b"\xff\xfe<\0c\0",
        "<a>" * 100 + "</a>" * 100,
        f"<case>{'x' * (5 << 20)}</case>",
        MARK.format('[{"points": [{"x": 250, "y": 72}, {"x": 2'),  # as cases 197 and 205 are published
        MARK.format('[{"points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]'),
        MARK.format('[{"points": [{"x": NaN, "y": 2}, {"x": 3, "y": 4}, {"x": 3, "y": 9}]}]'),
        MARK.format('{"points": 3}'),
        MARK.format('[{"points": [{"x": 1e300, "y": 2}, {"x": 3, "y": 4}, {"x": 3, "y": 9}]}]'),
        MARK.format('[{"points": [{"x": 1' + "0" * 400 + ', "y": 2}, {"x": 3, "y": 4}, {"x": 3, "y": 9}]}]'),
        MARK.format("[" * 5000),
    ],
    ids=lambda bad: re.sub(r"\W+", " ", str(bad))[:40],
)
def test_a_case_file_of_ddti_that_cannot_be_read_leaves_the_others_alone(tmp_path, bad):
    rows, (only,) = rows_of("ddti", lookalikes.ddti(tmp_path, bad=bad))
    assert (rows["2_1.jpg"].masks, rows["2_1.jpg"].outlines) == (("2.xml",), ())
    assert [rows[path].masks for path in ("1_1.jpg", "1_2.jpg", "10_1.jpg")] == [()] * 3
    assert len(rows["1_2.jpg"].outlines) == 1
    assert any("1 images have outlines that cannot be read" in note for note in only.notes)


def test_an_image_whose_outlines_cannot_be_read_is_quarantined(tmp_path):
    lookalikes.ddti(tmp_path / "data", bad=MARK.format('[{"points": [{"x": 250, "y'))
    samples, _ = stored(tmp_path, "ddti", max_quarantine="50%")
    assert len(samples) == 3
    assert Counter(row[2] for row in ledger_of(tmp_path / "x.zarr"))["mask-unreadable"] == 1


def test_mrnet_copies_the_findings_of_an_exam_to_its_slices(tmp_path):
    samples, _ = stored(tmp_path, "mrnet")
    found = defaultdict(set)
    for sample in samples:
        found[sample["group"]].add((tuple(sample["labels"]), sample["split"], sample["study"]))
    assert all(len(its) == 1 for its in found.values())
    assert sorted((labels, split) for its in found.values() for labels, split, _ in its) == [
        *((("abnormal", "acl"), "val"), (("abnormal", "meniscus"), "train"), (("normal",), "train"))
    ]
    assert len({sample["series"] for sample in samples}) == 9
    assert len(samples) == sum(2 + seed % 2 for seed in range(1, 10))


@pytest.mark.parametrize("bad", ["0000;1\n", "exam,abnormal\n0000,1\n", "0000,2\n"])
def test_a_table_of_mrnet_that_is_another_is_refused(tmp_path, bad):
    lookalikes.mrnet(tmp_path)
    table(tmp_path / "MRNet-v1.0" / "train-acl.csv", bad)
    rows = "rows? 1"
    if bad.startswith("0000;1"):  # a semicolon is read as well
        assert rows_of("mrnet", tmp_path)
        return
    with pytest.raises(UsageError, match=f"train-acl.csv: {rows}"):
        rows_of("mrnet", tmp_path)


def test_rsna_pneumonia_unites_its_boxes_and_stores_secondary_captures(tmp_path):
    samples, _ = stored(tmp_path, "rsna-pneumonia")
    by_label = {sample["labels"][0]: sample for sample in samples}
    assert set(by_label) == {"Lung Opacity", "No Lung Opacity / Not Normal", "Normal"}
    expected = np.zeros((16, 20), bool)
    expected[2:6, 1:6] = True
    expected[2:8, 10:13] = True
    np.testing.assert_array_equal(by_label["Lung Opacity"]["stored_mask"] > 0, expected)
    assert not by_label["Normal"]["mask"]
    assert by_label["Normal"]["anatomy"] == "chest"


def test_rsna_pneumonia_without_its_detailed_classes(tmp_path):
    rows, _ = rows_of("rsna-pneumonia", lookalikes.rsna_pneumonia(tmp_path, classes=False))
    assert Counter(row.labels[0] for row in rows.values()) == {"Lung Opacity": 1, "No Lung Opacity": 2}


@pytest.mark.parametrize(
    ("file", "rows", "says"),
    [
        ("stage_2_train_labels.csv", "0004cfab,,,,,1", "row 6 have neither Target 1 with a box"),
        ("stage_2_train_labels.csv", "0004cfab,1,1,5,5,0", "row 6 have neither Target 1 with a box"),
        ("stage_2_train_labels.csv", "0004cfab,1,1,nan,5,1", "row 6 have neither Target 1 with a box"),
        ("stage_2_train_labels.csv", "0004cfab,1,1,-5,5,1", "row 6 have neither Target 1 with a box"),
        ("stage_2_detailed_class_info.csv", "00313ee0,Lung Opacity", "row 6 contradict stage_2_train_labels"),
        ("stage_2_detailed_class_info.csv", "0004cfab,Normal", "row 6 contradict stage_2_train_labels"),
        ("stage_2_detailed_class_info.csv", "00322d4d,", "row 6 contradict"),
    ],
)
def test_rows_of_rsna_pneumonia_that_contradict_each_other(tmp_path, file, rows, says):
    lookalikes.rsna_pneumonia(tmp_path)
    with (tmp_path / file).open("a") as out:
        out.write(rows + "\n")
    with pytest.raises(UsageError, match=says) as caught:
        rows_of("rsna-pneumonia", tmp_path)
    assert "0004cfab" not in str(caught.value)


def test_rsna_ich_is_multi_label_and_grouped_by_patient(tmp_path):
    samples, _ = stored(tmp_path, "rsna-ich")
    assert sorted(tuple(s["labels"]) for s in samples) == [
        *(("any", "epidural", "subdural"), ("any", "subarachnoid"), ("none",))
    ]
    assert len({s["group"] for s in samples}) == 2
    assert {s["anatomy"] for s in samples} == {"head"}


@pytest.mark.parametrize(
    "row", ["ID_0a1_subdural,0", "ID_0a1_epidural,2", "ID_0a1_sub,1", "nonsense,1", "ID_0a1_any,"]
)
def test_rows_of_rsna_ich_that_make_no_sense(tmp_path, row):
    lookalikes.rsna_ich(tmp_path)
    with (tmp_path / "stage_2_train.csv").open("a") as out:
        out.write(row + "\n")
    with pytest.raises(UsageError, match=r"stage_2_train.csv: row 21 are no slice with a kind"):
        rows_of("rsna-ich", tmp_path)


def test_covid_ct_honours_the_authors_lists(tmp_path):
    samples, _ = stored(tmp_path, "covid-ct")
    assert Counter((s["labels"][0], s["split"]) for s in samples) == {
        ("COVID", "train"): 2,
        ("COVID", "test"): 1,
        ("NonCOVID", "val"): 1,
        ("NonCOVID", "train"): 1,
    }
    assert len({s["group"] for s in samples}) == 4  # Patient 2 of one class is not Patient 2 of the other


def test_covid_ct_says_what_is_missing(tmp_path):
    _, (only,) = rows_of("covid-ct", lookalikes.covid_ct(tmp_path / "a", meta=False, lists=False))
    assert only.notes == ("a: 5 images have no patient in a MetaInfo.csv",)
    root = lookalikes.covid_ct(tmp_path / "b")
    (root / "Images-processed/CT_NonCOVID/0.jpg").unlink()
    _, (only,) = rows_of("covid-ct", root)
    assert only.notes == ("b: 1 files that Data-split lists are not there",)
    table(root / "Data-split/COVID/valCT_COVID.txt", "2020.03.04-p23-97.png\n")
    with pytest.raises(UsageError, match="1 files stand in two lists"):
        rows_of("covid-ct", root)


def test_an_own_split_gives_way_to_split(tmp_path):
    samples, _ = stored(tmp_path, "covid-ct", split="0/0/100")
    assert {s["split"] for s in samples} == {"test"}


def test_cc_ccii_groups_by_patient_and_counts_lesions_alone_as_mask(tmp_path):
    samples, _ = stored(tmp_path, "cc-ccii")
    assert Counter(s["labels"][0] for s in samples) == {"NCP": 8, "CP": 2, "Normal": 2}
    assert len({s["group"] for s in samples}) == 5
    masked = [s for s in samples if s["mask"]]
    expected = np.zeros((16, 20), bool)
    expected[4:7, 4:8] = True
    assert len(masked) == 2
    for sample in masked:
        np.testing.assert_array_equal(sample["stored_mask"] > 0, expected)


PIECES = (
    *("filename", "label", "patientId", "x", "y", "width", "height", "Target", "class", "ID", "Label"),
    *("File name", "Patient ID", "image name", "patient id", "\n", ",", ";", '"', "\0", "\r", "nan", "-1"),
    *("1", "0", "0000", "ID_0a1_any", "abd-normal", "radiology_ai/US/gb/usn309850.png", " ", "<", "&", "é"),
)
CSV = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@pytest.mark.parametrize("layout", PUBLISHED)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=CSV | st.binary(max_size=60), which=st.integers(0, 10))
def test_whatever_a_table_holds_the_answer_is_rows_or_one_message(layout, tmp_path, text, which):
    root = tmp_path / "data"
    if not root.exists():
        TREES[layout](root)
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    tables = sorted(path for path in files if path.endswith((".csv", ".txt", ".xml")))
    bad = tables[which % len(tables)] if tables else ""
    data = text.encode() if isinstance(text, str) else text
    listing = Listing(
        path=root,
        paths=tuple(sorted(files)),
        read=lambda path: data if path == bad else files[path].read_bytes(),
    )
    with suppress(UsageError):
        assert PUBLISHED[layout](listing)


# ---- real images


@pytest.mark.real_data
def test_busi_itself(real_data, tmp_path):
    store, archive = tmp_path / "busi.zarr", real_data / "busi.zip"
    ingest(store, archive, layout="busi", workers=2)
    expected = Counter()
    with zipfile.ZipFile(archive) as file:
        names = {name.rpartition("/")[2]: name for name in file.namelist()}
        for row in csv.DictReader(io.StringIO(file.read("manifest.csv").decode())):
            if row["kind"] == "image":
                masks = [
                    np.asarray(Image.open(file.open(names[mask])).convert("L")) > 0
                    for mask in row["masks"].split("|")
                ]
                expected[row["label"], int(np.any(masks, axis=0).sum())] += 1
    found = Counter((s["labels"][0], int(s["stored_mask"].sum())) for s in samples_of(store))
    assert sum((expected - found).values()) <= 1  # one image is filed twice
    assert found <= expected


@pytest.mark.real_data
def test_covid_ct_itself_in_its_authors_tree(real_data, tmp_path):
    tree = tmp_path / "tree"
    with zipfile.ZipFile(real_data / "covid_ct.zip") as file:
        rows = list(csv.DictReader(io.StringIO(file.read("manifest.csv").decode())))
        for row in rows:
            target = tree / "Images-processed" / row["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read(row["path"]))
    for label, title, head in (
        ("COVID", "COVID-CT-MetaInfo.csv", "File name,Patient ID"),
        ("NonCOVID", "NonCOVID-CT-MetaInfo.csv", "image name,patient id"),
    ):
        lines = [f'"{r["path"].rpartition("/")[2]}",{r["patient_id"]}' for r in rows if r["label"] == label]
        table(tree / title, "\n".join([head, *lines]))
    store = tmp_path / "covid.zarr"
    summary = ingest(
        store, zipped(tree, tmp_path / "covid.zip"), layout="covid-ct", workers=2, max_quarantine="20%"
    )
    samples = samples_of(store)
    assert summary.files["stored"] + summary.files["quarantined"] + summary.skipped.get("duplicate", 0) + (
        summary.skipped.get("duplicate-pixels", 0)
    ) == len(rows)
    splits = defaultdict(set)
    for sample in samples:
        splits[sample["group"]].add(sample["split"])
    assert all(len(its) == 1 for its in splits.values())
    assert 0 < len(splits) <= len({(row["label"], row["patient_id"]) for row in rows})
