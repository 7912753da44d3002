"""Which DICOM files are stored by policy, and what hostile ones come to: a reason, quietly and cheaply."""

import struct
import zlib

import numpy as np
import pytest
from dicoms import NATIVE, OPTIONS, dicom, item, pixels, ramp, refusal
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pyrad.ingest.files import scan
from pyrad.ingest.policy import INCLUDES, STORED_CLASSES, ScanOptions
from pyrad.ingest.reasons import Rejected


def source(data=None, options=OPTIONS, **elements):
    """The first frame of a file of a small CT."""
    return scan(0, "a.dcm", dicom(ramp(), **elements) if data is None else data, options)[0]


# Policy


@pytest.mark.parametrize(
    ("sop_class", "outcome", "reason"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.11", "skipped", "class-not-imaging"),  # a report
        ("1.2.840.10008.5.1.4.1.1.88.59", "skipped", "key-object"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "skipped", "class-not-imaging"),  # a presentation state
        ("1.2.840.10008.5.1.4.1.1.481.3", "skipped", "class-not-imaging"),  # RT structures
        ("1.2.840.10008.5.1.4.1.1.104.1", "skipped", "class-not-imaging"),  # a PDF in DICOM
        ("1.2.840.10008.5.1.4.1.1.77.1.6", "skipped", "class-not-included"),  # a whole slide
        ("1.2.840.10008.5.1.4.1.1.30", "skipped", "class-not-included"),  # a parametric map
        ("1.2.840.10008.1.3.10", "skipped", "dicomdir"),
        ("1.2.840.10008.5.1.4.1.1.20", "skipped", "class-not-included"),  # nuclear medicine
        ("1.2.840.10008.5.1.4.1.1.77.1.4", "skipped", "class-not-included"),  # a photograph
        ("1.2.840.10008.5.1.4.1.1.7", "skipped", "secondary-capture"),
        ("1.2.3.4", "skipped", "class-not-imaging"),
    ],
)
def test_objects_that_are_not_stored_are_skipped_by_class(sop_class, outcome, reason):
    with pytest.raises(Rejected) as caught:
        source(sop_class=sop_class, options=ScanOptions())
    assert (caught.value.outcome, caught.value.reason) == (outcome, reason)
    assert sop_class not in caught.value.detail


def test_a_report_without_pixels_is_skipped_and_an_image_without_is_not():
    with pytest.raises(Rejected, match="class-not-imaging"):
        source(sop_class="1.2.840.10008.5.1.4.1.1.88.11", PixelData=None, Rows=None)
    assert refusal(dicom(ramp(), PixelData=None))[0] == "missing-pixel-data"


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "US-MF", "CR", "DX", "MG"])
def test_the_classes_of_radiology_are_stored(modality):
    np.testing.assert_array_equal(pixels(dicom(ramp(), modality=modality)), ramp())


@pytest.mark.parametrize("sop_class", STORED_CLASSES)
def test_enhanced_and_multi_frame_forms_are_stored(sop_class):
    stack = np.stack([ramp(), ramp() + 1])
    groups = {"PerFrameFunctionalGroupsSequence": [item(), item()]}
    data = dicom(stack, frames=2, sop_class=sop_class, Modality=None, **groups)
    np.testing.assert_array_equal(pixels(data), stack)
    assert {found.modality for found in scan(0, "a.dcm", data, OPTIONS)} == {STORED_CLASSES[sop_class]}


@pytest.mark.parametrize(
    ("image_type", "series", "include"),
    [
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "", "localizer"),
        (["DERIVED", "SECONDARY", "LOCALIZER"], "", "localizer"),
        (["ORIGINAL", "SECONDARY", "SCREEN SAVE"], "", "dose"),
        (["ORIGINAL", "PRIMARY"], "Dose Report", "dose"),
        (["DERIVED", "SECONDARY", "MPR"], "", "mpr"),
        (["DERIVED", "PRIMARY", "PROJECTION IMAGE"], "", "mip"),
        (["derived ", "PRIMARY"], "", "derived"),
    ],
)
def test_image_types_are_skipped_unless_included_by_their_name(image_type, series, include):
    elements = {"ImageType": image_type, "SeriesDescription": series}
    with pytest.raises(Rejected, match=f"image-type-{include}"):
        source(**elements, options=ScanOptions(include=tuple(set(INCLUDES) - {include})))
    assert source(**elements, options=ScanOptions(include=(include,)))


def test_derived_says_nothing_against_radiographs_and_captures():
    assert source(ImageType=["DERIVED", "PRIMARY"], modality="DX")
    assert source(ImageType=["DERIVED", "SECONDARY"], modality="SC")


@pytest.mark.parametrize(
    ("modality", "annotation", "reason"),
    [
        ("CT", "YES", "burned-in-annotation"),
        ("US", "YES", "burned-in-annotation"),
        ("US", None, "burned-in-unknown"),
        ("US", "", "burned-in-unknown"),
        ("SC", None, "burned-in-unknown"),
        ("US", "NO", None),
        ("CT", None, None),
    ],
)
def test_burned_in_text_is_refused_unless_allowed(modality, annotation, reason):
    elements = {"modality": modality, "BurnedInAnnotation": annotation}
    strict = ScanOptions(include=("sc",))
    if reason:
        with pytest.raises(Rejected) as caught:
            source(**elements, options=strict)
        assert caught.value.reason == reason
    else:
        assert source(**elements, options=strict)
    noted = source(**elements, options=ScanOptions(include=("sc",), burned_in="allow")).warnings
    assert ("burned-in-annotation" in noted) == (annotation == "YES")


# Hostile files


def test_files_without_a_preamble_need_a_sop_class():
    whole = dicom(ramp())
    for bare in (whole[132:], dicom(ramp(), syntax=NATIVE[1])[132:]):
        np.testing.assert_array_equal(pixels(bare), ramp())
    assert refusal(dicom(ramp(), SOPClassUID="")[132:])[0] == "not-dicom"
    after_meta = whole[whole.index(b"\x08\x00\x08\x00CS") :]
    assert source(after_meta).warnings == ("no-meta",)


@pytest.mark.parametrize("name", ["x.dcm", "x"])
@pytest.mark.parametrize(
    "content",
    [b"\x7fELF" + bytes(200), b"%PDF-1.7" + bytes(300), bytes(131), b"\x08\0\0\0" * 40, b"text " * 50],
)
def test_what_is_not_dicom_is_never_forced(name, content):
    with pytest.raises(Rejected) as caught:
        scan(0, name, content, OPTIONS)
    assert caught.value.reason == ("not-dicom" if name == "x.dcm" else "not-an-image")


def test_a_program_in_the_preamble_changes_nothing():
    data = b"\x7fELF" + bytes(124) + dicom(ramp())[128:]
    np.testing.assert_array_equal(pixels(data), ramp())


def test_a_file_cut_anywhere_is_rejected_quietly(recwarn, caplog):
    whole = dicom(ramp(), WindowCenter="40", SequenceOfUltrasoundRegions=[item(PhysicalDeltaX=1.0)])
    reasons = set()
    for end in range(len(whole) - 1):
        with pytest.raises(Rejected) as caught:
            scan(0, "x.dcm", whole[:end], OPTIONS)
        reasons.add(caught.value.reason)
    assert not {"unexpected", "not-an-image"} & reasons
    assert {"empty-file", "not-dicom", "missing-pixel-data", "pixel-data-short"} <= reasons
    assert not recwarn.list
    assert not caplog.records


def test_an_unknown_vr_is_read_as_its_bytes():
    data = dicom(ramp(), PatientAge="063Y").replace(b"\x10\x00\x10\x10AS", b"\x10\x00\x10\x10Ad")
    assert source(data).age_band == "60-69"


def test_a_transfer_syntax_must_be_there():
    data = dicom(ramp())
    meta = data.index(b"\x02\x00\x10\x00UI")
    length = struct.unpack_from("<H", data, meta + 6)[0]
    assert refusal(data[:meta] + data[meta + 8 + length :]) == (
        "transfer-syntax-missing",
        "TransferSyntaxUID",
    )


@pytest.mark.parametrize("length", [0xFFFFFFF0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_element_lengths_beyond_the_file_are_refused(length):
    data = dicom(ramp(), IconImageSequence=[item(Rows=1)])
    at = data.index(b"\x88\x00\x00\x02SQ\0\0") + 8
    assert refusal(data[:at] + struct.pack("<L", length) + data[at + 4 :])[0] in {
        "missing-pixel-data",
        "header-damaged",
    }
    at = data.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    assert refusal(data[:at] + struct.pack("<L", length) + data[at + 4 :])[0] in {
        "pixel-data-short",
        "encapsulation-damaged",
    }


@pytest.mark.parametrize("depth", [200, 2000, 100_000])
def test_deep_nesting_is_a_reason_not_a_crash(depth):
    opening = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data = dicom(ramp())
    at = data.index(b"\x28\x00\x02\x00US")
    assert refusal(data[:at] + opening * depth + data[at:])[0] in {"nesting-too-deep", "header-damaged"}


def test_a_deflate_bomb_ends_at_its_cap():
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(12)) + packer.flush()
    meta = dicom(ramp(), syntax=DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack_from("<L", meta, 140)[0]
    assert len(bomb) < 1 << 18
    assert refusal(meta[:start] + bomb)[0] == "inflates-without-end"
    assert refusal(meta[: start + 40])[0] in {"header-damaged", "missing-sop-class", "missing-pixel-data"}


def test_an_unknown_vr_in_the_meta_is_no_crash():
    data = dicom(ramp()).replace(b"\x02\x00\x12\x00UI", b"\x02\x00\x12\x00QQ", 1)
    np.testing.assert_array_equal(pixels(data), ramp())
