"""What is read from a DICOM header, from which functional group, and what never leaves the file."""

import logging
import struct

import numpy as np
import pytest
from dicoms import CLASSES, NATIVE, OPTIONS, dicom, item, ramp, refusal
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from pyrad.ingest.files import scan
from pyrad.ingest.reasons import WARNINGS, Rejected
from pyrad.records import Window


def source(data=None, options=OPTIONS, **elements):
    """The first frame of a file of a small CT."""
    return scan(0, "a.dcm", dicom(ramp(), **elements) if data is None else data, options)[0]


def reworded(was, now, **elements):
    """A file whose text ``was`` became ``now``, of the same length: what no library would write."""
    data = dicom(ramp(), **elements)
    assert was in data
    assert len(was) == len(now)
    return data.replace(was, now)


# Rescale, windows, padding, geometry


def test_rescale_is_the_identity_where_absent_and_noted_where_half_there():
    assert (source().slope, source().intercept) == (1.0, 0.0)
    both = source(RescaleSlope="2.5", RescaleIntercept="-1024")
    assert (both.slope, both.intercept, both.warnings) == (2.5, -1024.0, ())
    half = source(RescaleIntercept="-1000")
    assert (half.slope, half.intercept, half.warnings) == (1.0, -1000.0, ("rescale-incomplete",))
    half = source(RescaleSlope="-2")
    assert (half.slope, half.intercept, half.warnings) == (-2.0, 0.0, ("rescale-incomplete",))


@pytest.mark.parametrize("text", [b"0.0", b"NaN", b"inf", b"1,5", b"abc", b"1\\2"])
def test_a_slope_that_is_no_number_but_zero_is_refused(text):
    data = reworded(b"1.5", text, RescaleSlope="1.5", RescaleIntercept="0")
    assert refusal(data) == ("bad-rescale", "RescaleSlope")


def test_ct_in_other_units_than_hu_is_noted():
    elements = {"RescaleSlope": "1", "RescaleIntercept": "0"}
    assert source(**elements, RescaleType="HU").warnings == ()
    assert source(**elements, RescaleType="US").warnings == ("rescale-type-not-hu",)
    assert source(**elements, RescaleType="US", modality="MR").warnings == ()


@pytest.mark.parametrize(
    ("center", "width", "windows"),
    [
        ("40", "400", [(40, 400)]),
        (" 40 ", "4e2 ", [(40, 400)]),
        ("40\\50", "400\\1500", [(40, 400), (50, 1500)]),
        ("-600.5", "1", [(-600.5, 1)]),
    ],
)
def test_windows_are_all_kept_in_their_order(center, width, windows):
    found = source(WindowCenter=center.split("\\"), WindowWidth=width.split("\\"))
    assert found.windows == tuple(Window(center=c, width=w) for c, w in windows)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("center", "width"),
    [(b"40,5", b"0400"), (b"0NaN", b"0400"), (b"text", b"0400"), (b"0040", b"-400"), (b"0040", b"0000")],
)
def test_a_window_that_is_no_window_is_left_out_and_noted(center, width):
    data = reworded(b"1111", center, WindowCenter=["1111", "35"], WindowWidth=["2222", "80"]).replace(
        b"2222", width
    )
    found = source(data)
    assert found.windows == (Window(center=35, width=80),)
    assert found.warnings == ("window-ignored",)
    assert source(WindowWidth="400").windows == ()
    assert source(WindowWidth="400").warnings == ("window-ignored",)


def test_voi_functions_are_kept_and_narrow_linear_windows_are_exact_ones():
    window = {"WindowCenter": "40", "WindowWidth": "400"}
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        assert source(**window, VOILUTFunction=function).windows[0].function == function
    assert source(**window, VOILUTFunction="CUBIC").warnings == ("voi-function-unknown",)
    narrow = source(WindowCenter="0.5", WindowWidth="0.5")
    assert narrow.windows == (Window(center=0.5, width=0.5, function="LINEAR_EXACT"),)
    assert narrow.warnings == ("window-narrow",)


@pytest.mark.parametrize(
    ("dtype", "value", "limit", "padding", "warnings"),
    [
        ("int16", -2000, None, (-2000, -2000), ()),
        ("int16", -2000, -1990, (-2000, -1990), ()),
        ("uint16", 65535, 65000, (65000, 65535), ()),  # reversed, as MONOCHROME1 has it
        ("uint8", 300, None, None, ("padding-ignored",)),
    ],
)
@pytest.mark.parametrize("syntax", NATIVE)
def test_padding_is_an_inclusive_range_of_stored_values(dtype, value, limit, padding, warnings, syntax):
    limits = {} if limit is None else {"PixelPaddingRangeLimit": limit}
    found = source(dicom(ramp(dtype=dtype), syntax=syntax, PixelPaddingValue=value, **limits))
    assert (found.padding, found.warnings) == (padding, warnings)


def test_the_sign_of_padding_is_pixel_representations():
    data = dicom(ramp(), PixelPaddingValue=-2000)
    assert b"SS\x02\x00" + struct.pack("<h", -2000) in data
    assert source(data.replace(b"SS\x02\x00", b"US\x02\x00")).padding == (-2000, -2000)


@pytest.mark.parametrize(("syntax", "order"), [(ExplicitVRLittleEndian, "<"), (ExplicitVRBigEndian, ">")])
def test_what_a_writer_left_without_a_type_has_the_dictionarys(syntax, order):
    data = dicom(ramp(), syntax=syntax, InstanceNumber="12", WindowCenter="40", WindowWidth="400")
    rows, columns = ramp().shape
    for group, element, vr, value, unknown in [
        (0x20, 0x13, b"IS", b"12", b"12"),
        (0x28, 0x10, b"US", struct.pack(order + "H", rows), struct.pack("<H", rows)),
        (0x28, 0x1050, b"DS", b"40", b"40"),
    ]:
        tag = struct.pack(order + "HH", group, element)
        was = tag + vr + struct.pack(order + "H", len(value)) + value
        assert was in data
        data = data.replace(was, tag + b"UN\0\0" + struct.pack(order + "I", len(value)) + unknown)
    found = source(data)
    assert (found.instance, found.rows, found.columns) == (12, rows, columns)
    assert found.windows == (Window(center=40, width=400),)


def test_spacing_is_rows_then_columns_and_missing_stays_missing():
    assert source(PixelSpacing=["0.5", "0.7"]).spacing_mm == (0.5, 0.7)
    assert source(ImagerPixelSpacing=["0.5", "0.7"], modality="DX").spacing_mm is None
    bad = source(PixelSpacing=["0", "0.7"])
    assert (bad.spacing_mm, bad.warnings) == (None, ("spacing-ignored",))


def region(units=3, dx=0.02, dy=0.03):
    return item(
        PhysicalUnitsXDirection=units, PhysicalUnitsYDirection=units, PhysicalDeltaX=dx, PhysicalDeltaY=dy
    )


def test_ultrasound_takes_the_spacing_of_its_one_spatial_region():
    def spacing(*regions):
        return source(modality="US", SequenceOfUltrasoundRegions=list(regions)).spacing_mm

    assert spacing(region()) == pytest.approx((0.3, 0.2))
    assert spacing(region(dx=-0.02), region(units=4)) == pytest.approx((0.3, 0.2))  # the other is a spectrum
    assert spacing(region(), region()) is None
    assert source(modality="US", PixelSpacing=["1", "1"]).spacing_mm is None


def test_position_is_along_the_normal_of_the_slice():
    found = source(
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0], ImagePositionPatient=[5, 6, -7.5], InstanceNumber=12
    )
    assert (found.position_mm, found.instance) == (-7.5, 12)
    sagittal = source(ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=[5, 6, 7])
    assert sagittal.position_mm == -5
    assert source(ImagePositionPatient=[5, 6, 7]).position_mm is None


# Functional groups


def enhanced(per_frame, shared=None, **root):
    stack = np.stack([ramp(), ramp() + 1, ramp() + 2])
    groups = {
        "PerFrameFunctionalGroupsSequence": per_frame,
        "SharedFunctionalGroupsSequence": [shared or item()],
    }
    return scan(0, "a", dicom(stack, frames=3, sop_class=CLASSES["ECT"], **groups, **root), OPTIONS)


def transform(slope, intercept):
    return {"PixelValueTransformationSequence": [item(RescaleSlope=slope, RescaleIntercept=intercept)]}


def test_a_frame_takes_its_own_group_then_the_shared_one_then_the_root():
    own = item(
        **transform("2", "-5"),
        FrameVOILUTSequence=[item(WindowCenter="30", WindowWidth="60")],
        PixelMeasuresSequence=[item(PixelSpacing=["0.1", "0.2"])],
        PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 9])],
    )
    shared = item(
        **transform("3", "-6"), PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    )
    root = {"RescaleSlope": "4", "RescaleIntercept": "-7", "WindowCenter": "1", "WindowWidth": "2"}
    first, second, third = enhanced([own, item(), item()], shared, **root)
    assert (first.slope, first.intercept, first.spacing_mm, first.position_mm) == (2, -5, (0.1, 0.2), 9)
    assert first.windows == (Window(center=30, width=60),)
    assert (second.slope, second.intercept, second.spacing_mm) == (3, -6, None)
    assert second.windows == third.windows == (Window(center=1, width=2),)
    (alone, *_) = enhanced([item(), item(), item()], **root)
    assert (alone.slope, alone.intercept) == (4, -7)


@pytest.mark.parametrize("count", [0, 2])
def test_fewer_groups_than_frames_are_refused(count):
    with pytest.raises(Rejected) as caught:
        enhanced([item() for _ in range(count)])
    assert (caught.value.reason, caught.value.detail) == ("too-few-frame-items", f"{count} for 3 frames")


# Words


def test_words_of_the_allow_lists_are_read():
    found = source(
        BodyPartExamined="CHEST",
        ImageLaterality="L",
        ViewPosition="PA",
        PatientSex="F",
        PatientAge="063Y",
        Manufacturer="Philips Medical Systems",
        IssuerOfPatientID="hospital",
        modality="DX",
        LossyImageCompression="01",
        PresentationLUTShape="INVERSE",
        PhotometricInterpretation="MONOCHROME1",
    )
    assert (found.anatomy, found.laterality, found.view, found.sex) == ("chest", "L", "PA", "F")
    assert (found.age_band, found.manufacturer, found.modality) == ("60-69", "PHILIPS", "DX")
    assert (found.patient, found.study, found.series, found.uid) == (
        "patient\0hospital",
        "1.2.3",
        "1.2.3.4",
        "1.2.3.4.5",
    )
    assert (found.lossy, found.photometric, found.warnings) == (True, "MONOCHROME1", ())


@pytest.mark.parametrize(
    ("age", "band"),
    [("090Y", "90+"), ("112Y", "90+"), ("009Y", "0-9"), ("011M", "0-9"), ("400W", "0-9"), ("63", None)],
)
def test_ages_become_decades(age, band):
    assert source(PatientAge=age).age_band == band


def test_codes_speak_where_the_text_is_silent():
    knee = item(CodeValue="72696002", CodingSchemeDesignator="SCT", CodeMeaning="Knee")
    mlo = item(CodeValue="399368009", CodingSchemeDesignator="SCT", CodeMeaning="medio-lateral oblique")
    found = source(AnatomicRegionSequence=[knee], ViewCodeSequence=[mlo])
    assert (found.anatomy, found.view) == ("knee", "MLO")


def test_a_patient_without_an_id_is_unknown():
    assert source(PatientID=None, IssuerOfPatientID="hospital").patient == ""
    assert source(PatientID="").patient == ""


def test_free_text_never_leaves_the_file():
    token = "TOKENJANEDOE"  # noqa: S105 - a planted name
    where = [
        *("BodyPartExamined", "Laterality", "ViewPosition", "PatientSex", "PatientAge", "Manufacturer"),
        *("Modality", "ImageType", "PatientName", "StudyDescription", "InstitutionName", "RescaleType"),
        *("SeriesDescription", "ImageComments"),
    ]
    found = source(**dict.fromkeys(where, token), RescaleSlope="1", RescaleIntercept="0")
    assert token.lower() not in repr(found).lower()
    assert "anatomy-unknown" in found.warnings
    assert found.modality == "CT"
    bad = reworded(b"111111111111", token.encode(), **dict.fromkeys(where, token), RescaleSlope="1" * 12)
    with pytest.raises(Rejected) as caught:
        source(bad)
    assert token not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("value", ["../../x", "a\0b", "5" * 5000, "\xf0\x9f\x92\x80", "*", ""])
def test_identifiers_may_be_anything(value, caplog):
    names = ("PatientID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    with caplog.at_level(logging.DEBUG):
        found = source(**dict.fromkeys(names, value), SpecificCharacterSet="ISO_IR 100")
    assert found.study == found.series == found.uid
    assert found.patient in ("", found.study + "\0")
    assert bool(found.digest) == (not found.uid)
    assert not caplog.records


def test_every_warning_is_in_the_table():
    loud = source(
        RescaleSlope="1", RescaleType="X", WindowWidth="1", BodyPartExamined="?", PixelSpacing=["0", "0"]
    )
    assert set(loud.warnings) <= set(WARNINGS)
    assert len(loud.warnings) == 5
