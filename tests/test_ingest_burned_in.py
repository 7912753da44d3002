"""Burned-in text: what is refused, what is cut away, and what of the rules is recorded."""

import numpy as np
import pytest
from archives import ingest, ledger_of, png, samples_of, table, tree
from dicoms import dicom, item, pixels, ramp, refusal

from pyrad.errors import UsageError
from pyrad.ingest.dicom.burned_in import read_rules
from pyrad.ingest.files import scan
from pyrad.ingest.policy import ScanOptions
from pyrad.store.reader import open_store

REFUSE = ScanOptions(include=("sc",))
CROP = ScanOptions(include=("sc",), burned_in="crop-us-region")
IMAGE = np.arange(8 * 10, dtype=np.uint8).reshape(8, 10) + 7


def region(top, left, bottom, right, spatial_format=1, **elements):
    return item(
        RegionSpatialFormat=spatial_format, RegionDataType=1,
        RegionLocationMinX0=left, RegionLocationMinY0=top,
        RegionLocationMaxX1=right, RegionLocationMaxY1=bottom, **elements,
    )  # fmt: skip


def ultrasound(*regions, image=IMAGE, annotation="YES", **elements):
    return dicom(
        image,
        modality="US",
        BurnedInAnnotation=annotation,
        SequenceOfUltrasoundRegions=list(regions),
        **elements,
    )


def rules(tmp_path, text):
    (tmp_path / "rules.toml").write_text(text)
    found = read_rules(tmp_path / "rules.toml")
    return ScanOptions(include=("sc",), burned_in="rules", rules=found)


# ---- crop-us-region


@pytest.mark.parametrize("annotation", ["YES", "NO", None])
def test_only_the_region_is_kept_its_bounds_included(annotation):
    units = {"PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3}
    area = region(2, 3, 6, 8, **units, PhysicalDeltaX=0.02, PhysicalDeltaY=0.03)
    data = ultrasound(area, annotation=annotation)
    (source,) = scan(0, "a.dcm", data, CROP)
    assert (source.rows, source.columns) == (5, 6)
    assert source.spacing_mm == pytest.approx((0.3, 0.2))
    assert "cropped" in source.warnings
    assert np.array_equal(pixels(data, CROP), IMAGE[2:7, 3:9])


def test_other_kinds_of_regions_are_cut_away_with_the_rest():
    data = ultrasound(region(0, 0, 3, 4), region(4, 0, 7, 9, spatial_format=3))
    assert np.array_equal(pixels(data, CROP), IMAGE[:4, :5])
    assert np.array_equal(pixels(ultrasound(region(0, 0, 7, 9)), CROP), IMAGE)


@pytest.mark.parametrize(
    "regions",
    [
        [],
        [region(0, 0, 3, 4), region(4, 0, 7, 4)],  # which one?
        [region(0, 0, 8, 4)],  # beyond the last row
        [region(0, 0, 3, 10)],
        [region(5, 0, 3, 4)],
        [region(0, 0, 3, 4, spatial_format=2)],  # M-mode
        [item(RegionSpatialFormat=1)],
    ],
)
def test_without_one_region_that_fits_it_stays_refused(regions):
    assert refusal(ultrasound(*regions), CROP) == ("burned-in-annotation", "BurnedInAnnotation")
    assert refusal(ultrasound(*regions, annotation=None), CROP) == ("burned-in-unknown", "BurnedInAnnotation")
    assert np.array_equal(pixels(ultrasound(*regions, annotation="NO"), CROP), IMAGE)


def test_frames_of_a_loop_and_colour_planes_are_cropped_alike():
    loop = np.stack([IMAGE, IMAGE + 1, IMAGE + 2])
    data = ultrasound(region(2, 3, 6, 8), image=loop, frames=3)
    assert np.array_equal(pixels(data, CROP), loop[:, 2:7, 3:9])
    color = np.stack([IMAGE, IMAGE + 1, IMAGE + 90], axis=-1)
    options = ScanOptions(burned_in="crop-us-region", color="planes")
    found = pixels(ultrasound(region(2, 3, 6, 8), image=color), options)
    assert np.array_equal(found, np.moveaxis(color[2:7, 3:9], -1, 0))


# ---- rules


def test_a_rule_blanks_to_what_is_darkest_outside(tmp_path):
    options = rules(tmp_path, "[[rule]]\nrows = 8\nblank = [[0, 0, 2, 10], [6, 6, 8, 10]]\n")
    image = IMAGE.copy()
    image[0, 0] = 0  # darker than all that stays: it must not show through
    expected = image.copy()
    expected[:2] = expected[6:, 6:] = image[2, 0]
    data = ultrasound(image=image)
    assert np.array_equal(pixels(data, options), expected)
    assert scan(0, "a.dcm", data, options)[0].warnings == ("blanked",)
    inverted = dicom(ramp(8, 10), BurnedInAnnotation="YES", PhotometricInterpretation="MONOCHROME1")
    assert set(pixels(inverted, options)[:2].ravel()) == {ramp(8, 10)[7, 5]}  # the brightest is shown black
    padded = dicom(ramp(8, 10), BurnedInAnnotation="YES", PixelPaddingValue=-2000)
    assert set(pixels(padded, options)[:2].ravel()) == {-2000}


def test_a_rule_keeps_a_rectangle_and_blanks_in_it(tmp_path):
    options = rules(tmp_path, "[[rule]]\ncolumns = 10\nkeep = [1, 2, 7, 9]\nblank = [[0, 0, 2, 4]]\n")
    expected = IMAGE.copy()
    expected[0:2, 0:4] = IMAGE[1, 4]
    (source,) = scan(0, "a.dcm", ultrasound(), options)
    assert (source.rows, source.columns, source.warnings) == (6, 7, ("blanked", "cropped"))
    assert np.array_equal(pixels(ultrasound(), options), expected[1:7, 2:9])


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        ('manufacturer = "ge"', True),
        ('manufacturer = "GE Medical Systems"', True),
        ('manufacturer = "Philips"', False),
        ('model = "logiq e9"', True),
        ('model = "LOGIQ"', False),
        ('class = "Ultrasound Image Storage"', True),
        ('class = "CT Image Storage"', False),
        ("rows = 8\ncolumns = 10", True),
        ("rows = 8\ncolumns = 11", False),
        ("rows = 8\nkeep = [0, 0, 9, 10]", False),  # does not lie in the image
    ],
)
def test_what_a_rule_matches(tmp_path, matcher, expected):
    options = rules(tmp_path, f"[[rule]]\n{matcher}\nblank = [[0, 0, 1, 1]]\n")
    data = ultrasound(Manufacturer="GE Medical Systems", ManufacturerModelName="LOGIQ E9")
    if expected:
        assert pixels(data, options)[0, 0] == IMAGE[0, 1]
    else:
        assert refusal(data, options)[0] == "burned-in-annotation"


def test_the_first_rule_that_matches_counts(tmp_path):
    text = "".join(
        f"[[rule]]\n{match}\nkeep = [0, 0, {n}, 1]\n" for match, n in (("rows = 7", 1), ("rows = 8", 2))
    )
    options = rules(tmp_path, text + "[[rule]]\ncolumns = 10\nkeep = [0, 0, 3, 1]\n")
    assert pixels(ultrasound(), options).shape == (2, 1)
    assert pixels(ultrasound(image=IMAGE[:6]), options).shape == (3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule = 3", r"must hold tables \[\[rule\]\]"),
        ("[[rule]", "not valid TOML"),
        ("[[rule]]\nkeep = [0, 0, 1, 1]", "matches every image"),
        ("[[rule]]\nrows = 3", "neither keep nor blank"),
        ("[[rule]]\nrow = 3\nkeep = [0, 0, 1, 1]", "no key 'row'; allowed: manufacturer"),
        ("[[rule]]\nrows = true\nkeep = [0, 0, 1, 1]", "rows must be a number"),
        ("[[rule]]\nrows = 3\nkeep = [0, 0, 0, 1]", r"must be \[top, left, bottom, right\]"),
        ("[[rule]]\nrows = 3\nkeep = [0, 0, 1.5, 1]", r"must be \[top, left, bottom, right\]"),
        ("[[rule]]\nrows = 3\nblank = [0, 0, 1, 1]", r"must be \[top, left, bottom, right\]"),
        ('[[rule]]\nclass = "Echo"\nkeep = [0, 0, 1, 1]', "no SOP class"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        ingest(tmp_path / "s.zarr", tmp_path, burned_in=f"rules:{tmp_path / 'r.toml'}")


def test_an_unknown_way_and_an_absent_file_are_refused(tmp_path):
    with pytest.raises(UsageError, match="allowed are refuse, allow, crop-us-region and rules:FILE"):
        ingest(tmp_path / "s.zarr", tmp_path, burned_in="crop")
    with pytest.raises(UsageError, match="No such file"):
        ingest(tmp_path / "s.zarr", tmp_path, burned_in="rules:none.toml")


# ---- in a store


def test_the_store_has_the_cut_image_its_cut_mask_and_no_name_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    archive = tmp_path / "a"
    archive.mkdir()
    (archive / "1.dcm").write_bytes(ultrasound(ManufacturerModelName="Voluson Doe", Manufacturer="GE"))
    (archive / "2.dcm").write_bytes(ultrasound(image=IMAGE[:7], SOPInstanceUID="1.2.9"))
    mask = np.zeros(IMAGE.shape, np.uint8)
    mask[3:5, 3:5] = 255
    png(archive / "m.png", mask)
    table(archive / "labels.csv", "path,label,mask\n1.dcm,x,m.png\n2.dcm,x,\n")
    (tmp_path / "r.toml").write_text(
        '[[rule]]\nmanufacturer = "GE"\nmodel = "Voluson Doe"\nkeep = [2, 3, 8, 10]\nblank=[[7, 9, 8, 10]]\n'
    )
    store = tmp_path / "s.zarr"
    ingest(store, archive, burned_in=f"rules:{tmp_path / 'r.toml'}", columns=("mask=mask",))
    (row,) = samples_of(store)
    expected = IMAGE[2:, 3:].copy()
    expected[5, 6] = expected[0, 0]
    assert np.array_equal(row["image"], expected)
    assert np.array_equal(row["stored_mask"], mask[2:, 3:] > 0)
    assert (row["rows"], row["columns"], row["bucket"].rpartition("/")[2]) == (6, 7, "6x7_u8")
    assert ("skipped", "burned-in-annotation") in [line[1:3] for line in ledger_of(store)]
    recorded = open_store(store).manifest.options
    assert recorded["burned_in"] == "rules"
    assert recorded["burned_in_rules"] == [
        {"manufacturer": "GE", "model": "...", "keep": [2, 3, 8, 10], "blank": [[7, 9, 8, 10]]}
    ]
    assert b"Voluson" not in b"".join(tree(store).values())
