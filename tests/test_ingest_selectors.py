"""`--select`: what it chooses, what it refuses, and that the words it was given are not kept."""

import numpy as np
import pytest
from archives import ingest, ledger_of, npy, png, samples_of, tree
from archives import pixels as picture
from dicoms import CLASSES, OPTIONS, dicom, item, ramp, refusal
from hypothesis import given
from hypothesis import strategies as st

from pyrad.errors import UsageError
from pyrad.ingest.files import scan
from pyrad.ingest.policy import ScanOptions
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.selectors import NUMBERS, parse_conditions
from pyrad.store.reader import open_store

KNEE = {
    "BodyPartExamined": "KNEE",
    "Manufacturer": "SIEMENS Healthineers",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "SeriesDescription": "Lunge Weichteil 1,0",
    "SliceThickness": "1.25",
    "Laterality": "L",
}


def chosen(data, *expressions, path="a.dcm"):
    options = ScanOptions(include=OPTIONS.include, burned_in="allow", select=parse_conditions(expressions))
    try:
        return bool(scan(0, path, data, options))
    except Rejected as rejected:
        if rejected.reason != "not-selected":
            raise
        return False


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("modality=CT", True),
        ("modality=ct", True),
        ("modality=MR|CT", True),
        ("modality=MR", False),
        ("!modality=MR", True),
        ("!modality=CT", False),
        ("anatomy=knee", True),
        ("anatomy=chest", False),
        ("body-part=KNEE", True),
        ("body-part~NEE", True),
        ("manufacturer=siemens", True),
        ("manufacturer=siemens healthineers", True),
        ("manufacturer~HEALTH", True),
        ("manufacturer=GE", False),
        ("class=CT Image Storage", True),
        ("class~enhanced", False),
        ("image-type=axial", True),
        ("image-type=AXI", False),
        ("image-type~AXI", True),
        ("description~weichteil", True),
        ("description~kopf|lunge", True),
        ("description=weichteil", False),
        ("laterality=L", True),
        ("laterality=R", False),
        ("view=AP", False),
        ("!view=AP", True),  # not stated: meets no condition
        ("rows=4", True),
        ("rows>=4", True),
        ("rows>4", False),
        ("rows<5", True),
        ("columns<=6", True),
        ("columns=4|6", True),
        ("frames=1", True),
        ("frames>1", False),
        ("slice-thickness<=1.25", True),
        ("slice-thickness<1.25", False),
        ("! rows > 4", True),
    ],
)
def test_each_attribute_and_operator(expression, expected):
    assert chosen(dicom(ramp(), **KNEE), expression) is expected


def test_all_conditions_must_hold_and_what_is_not_stated_meets_none():
    data = dicom(ramp(), **KNEE)
    assert chosen(data, "modality=CT", "rows=4", "!laterality=R")
    assert not chosen(data, "modality=CT", "rows=5")
    silent = dicom(ramp())
    assert not any(chosen(silent, text) for text in ("laterality=L", "slice-thickness<9", "description~lung"))
    assert chosen(silent, "!laterality=L", "!slice-thickness<9", "!description~lung")


def test_an_enhanced_object_says_it_in_its_functional_groups():
    shared = item(
        PixelMeasuresSequence=[item(SliceThickness="3")],
        FrameAnatomySequence=[item(FrameLaterality="R")],
    )
    data = dicom(
        np.stack([ramp(), ramp()]), frames=2, sop_class=CLASSES["ECT"],
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=[item(), item()],
    )  # fmt: skip
    assert chosen(data, "frames=2", "slice-thickness=3", "laterality=R", "class~enhanced")


def test_what_is_not_selected_is_not_looked_at_further():
    short = dicom(ramp().tobytes()[:-2], Modality="MR")
    assert refusal(short)[0] == "pixel-data-short"
    assert not chosen(short, "modality=CT")
    assert not chosen(dicom(ramp(), BurnedInAnnotation="YES"), "modality=MR")


def test_rasters_and_arrays_say_only_their_size(tmp_path):
    data = png(tmp_path / "a.png", picture(1)).read_bytes()
    assert chosen(data, "rows=16", "columns=20", "frames=1", path="a.png")
    assert not chosen(data, "rows>16", path="a.png")
    assert not chosen(data, "modality=CT", path="a.png")
    stack = npy(tmp_path / "a.npy", np.zeros((3, 4, 5), np.uint8)).read_bytes()
    assert chosen(stack, "frames=3", "rows=4", path="a.npy")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("modality", "write NAME=VALUE"),
        ("CT", "write NAME=VALUE"),
        ("modality=", "write NAME=VALUE"),
        ("modality=CT|", "a value is empty"),
        ("study-date>20200101", "there is no 'study-date'.*rows, columns"),
        ("modality>CT", "modality takes = ~"),
        ("rows~2", "rows takes = < <= > >="),
        ("rows>many", "compared with numbers"),
        ("modality=XYZ", "'XYZ' is no modality.*allowed are BMD, CR, CT, DX"),
        ("laterality=left", "'LEFT' is no laterality.*allowed are B, L, R, U"),
        ("class=CT Picture", "no SOP class of the standard"),
    ],
)
def test_what_cannot_be_meant_is_refused(expression, message, tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match=message):
        ingest(tmp_path / "s.zarr", tmp_path / "a", select=(expression,))


@given(
    name=st.sampled_from(NUMBERS),
    comparison=st.sampled_from(["=", "<", "<=", ">", ">="]),
    numbers=st.lists(st.integers(0, 10**5), min_size=1, max_size=3),
    negated=st.booleans(),
)
def test_a_condition_on_numbers_is_recorded_as_it_is(name, comparison, numbers, negated):
    text = f"{'!' * negated}{name}{comparison}{'|'.join(map(str, numbers))}"
    (condition,) = parse_conditions([text])
    (again,) = parse_conditions([condition.recorded()])
    assert again.recorded() == condition.recorded()
    for value in (0.0, *map(float, numbers), 10.0**6):
        assert again.holds({name: value}) == condition.holds({name: value})


def test_words_that_no_list_has_are_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.dcm").write_bytes(dicom(ramp(), **KNEE, PatientName="Doe^John"))
    mr = dicom(ramp(), **(KNEE | {"SOPInstanceUID": "1.2.9", "Modality": "MR"}))
    (tmp_path / "a/2.dcm").write_bytes(mr)
    select = ("modality=CT", "description~weichteil|doe", "body-part=KNEE", "class~ct image", "rows>2")
    ingest(tmp_path / "s.zarr", tmp_path / "a", select=select)
    assert [row["modality"] for row in samples_of(tmp_path / "s.zarr")] == ["CT"]
    assert sorted(row[2] for row in ledger_of(tmp_path / "s.zarr")) == ["not-selected", "stored"]
    assert open_store(tmp_path / "s.zarr").manifest.options["select"] == [
        "modality=ct", "description~...|...", "body-part=...", "class~ct image", "rows>2",
    ]  # fmt: skip
    everything = b"".join(tree(tmp_path / "s.zarr").values()).lower()
    assert b"weichteil" not in everything
    assert b"lunge" not in everything
