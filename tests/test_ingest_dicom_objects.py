"""What key objects and segmentations say of images, and the masks that segmentations hold."""

import numpy as np
import pytest
from dicom_objects import LABEL_MAP, OF_INTEREST, REJECTED, code, instance, key_object, segmentation
from dicoms import item, refusal

from pyrad.ingest.dicom.parse import parse
from pyrad.ingest.dicom.segmentation import Segmentation
from pyrad.ingest.files import scan
from pyrad.ingest.policy import ScanOptions
from pyrad.ingest.reasons import Rejected

A, B = np.zeros((5, 7), np.uint8), np.zeros((5, 7), np.uint8)
A[1:3, 2:5] = 1
B[2:4, 4:7] = 1


def references(data):
    """(role, uid, frame) of all that an object says."""
    with pytest.raises(Rejected) as caught:
        scan(0, "a.dcm", data, ScanOptions())
    assert caught.value.reason in ("key-object", "segmentation")
    return [(it.role, it.uid, it.frame) for it in caught.value.references]


def mask(data, *frames):
    return Segmentation(parse(data)).mask(frames)


# ---- key objects


def test_key_images_and_their_frames_counted_from_zero():
    data = key_object(code(OF_INTEREST), instance("1.2.3.1"), instance("1.2.3.2", [1, 4]))
    assert references(data) == [("key", "1.2.3.1", None), ("key", "1.2.3.2", 0), ("key", "1.2.3.2", 3)]


@pytest.mark.parametrize("title", REJECTED)
def test_a_rejection_note_rejects(title):
    assert references(key_object(code(title), instance("1.2.3.1"))) == [("rejected", "1.2.3.1", None)]


@pytest.mark.parametrize("title", [None, code("113001", scheme="99LOCAL"), code("113009")])
def test_other_titles_call_images_key(title):
    assert references(key_object(title, instance("1.2.3.1"))) == [("key", "1.2.3.1", None)]


@pytest.mark.parametrize("title", ["113010", "113030", "113031", "113035", "113036"])
def test_a_manifest_or_a_quality_issue_chooses_nothing(title):
    assert references(key_object(code(title), instance("1.2.3.1"))) == []


def test_a_document_without_content_says_nothing():
    assert references(key_object(code(OF_INTEREST))) == []


# ---- segmentations


def test_each_frame_belongs_to_the_image_it_was_made_of():
    data = segmentation([A, B, A], [[instance("1.2.3.1")], [instance("1.2.3.2", [2])], []])
    assert references(data) == [("mask", "1.2.3.1", None), ("mask", "1.2.3.2", 1), ("mask", "", None)]


def test_what_all_frames_share_stands_in_the_shared_group():
    shared = item(DerivationImageSequence=[item(SourceImageSequence=[instance("1.2.3.1")])])
    data = segmentation([A, B], [[], []], SharedFunctionalGroupsSequence=[shared])
    assert references(data) == [("mask", "1.2.3.1", None)] * 2


@pytest.mark.parametrize(
    "sources",
    [
        [instance("1.2.3.1"), instance("1.2.3.2")],  # of which is it?
        [instance("1.2.3.1", [1, 2])],
        [instance("1.2.3.1", SpatialLocationsPreserved="NO")],
        [instance("1.2.3.1", SpatialLocationsPreserved="REORIENTED_ONLY")],
    ],
)
def test_a_frame_that_lies_on_no_one_image_belongs_to_none(sources):
    assert references(segmentation([A], [sources])) == [("mask", "", None)]


def test_binary_masks_are_packed_without_gaps_and_united():
    data = segmentation([A, B, A], [[]] * 3)
    assert np.array_equal(mask(data, 0), A > 0)
    assert np.array_equal(mask(data, 1), B > 0)
    assert np.array_equal(mask(data, 0, 1), (A | B) > 0)
    assert mask(data, 2).dtype == np.bool_


def test_fractions_count_from_half_of_their_maximum():
    values = np.array([[0, 99, 100], [101, 200, 1]], np.uint8)
    data = segmentation([values], [[]], kind="FRACTIONAL", MaximumFractionalValue=200)
    assert mask(data, 0).tolist() == [[False, False, True], [True, True, False]]
    odd = segmentation([values], [[]], kind="FRACTIONAL", MaximumFractionalValue=201)
    assert mask(odd, 0).tolist() == [[False, False, False], [True, True, False]]


def test_a_label_map_is_where_it_is_not_background():
    values = np.array([[0, 1], [2, 255]], np.uint8)
    data = segmentation([values], [[instance("1.2.3.1")]], kind="LABELMAP", SOPClassUID=LABEL_MAP)
    assert references(data) == [("mask", "1.2.3.1", None)]
    assert mask(data, 0).tolist() == [[False, True], [True, True]]
    colored = segmentation(
        [values], [[]], kind="LABELMAP", SOPClassUID=LABEL_MAP, PhotometricInterpretation="PALETTE COLOR"
    )
    assert mask(colored, 0).tolist() == [[False, True], [True, True]]
    padded = segmentation([values], [[]], kind="LABELMAP", SOPClassUID=LABEL_MAP, PixelPaddingValue=255)
    assert mask(padded, 0).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"kind": "GUESSED"}, "bad-segmentation"),
        ({"kind": "FRACTIONAL"}, "bad-segmentation"),
        ({"kind": "FRACTIONAL", "MaximumFractionalValue": 0}, "bad-segmentation"),
        ({"NumberOfFrames": 3}, "pixel-data-short"),
        ({"PerFrameFunctionalGroupsSequence": [item()]}, "too-few-frame-items"),
        ({"Rows": 0}, "bad-size"),
        ({"PixelData": None}, "missing-pixel-data"),
    ],
)
def test_a_segmentation_that_cannot_be_read_is_quarantined(elements, reason):
    assert refusal(segmentation([A, B], [[], []], **elements), ScanOptions())[0] == reason
