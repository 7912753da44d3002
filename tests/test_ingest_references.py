"""Key images, rejection notes and segmentations, from an archive to a store."""

from collections import Counter

import numpy as np
import pytest
from archives import Listener, ingest, ledger_of, samples_of, tree
from dicom_objects import OF_INTEREST, REJECTED, code, instance, key_object, segmentation
from dicoms import CLASSES, dicom, item

from pyrad.errors import UsageError
from pyrad.store.verify import verify

pytestmark = pytest.mark.usefixtures("own_secret")

KEY = code(OF_INTEREST)
SHAPE = 5, 7


def slices(count=4, shape=SHAPE):
    """Images of UIDs 1.2.3.1 and on; image n holds n * 100 and more."""
    step = np.arange(shape[0] * shape[1], dtype=np.int16).reshape(shape)
    return {f"{n}.dcm": dicom(step + 100 * n, SOPInstanceUID=f"1.2.3.{n}") for n in range(1, count + 1)}


def loop(frames=4, **elements):
    step = np.arange(35, dtype=np.int16).reshape(SHAPE)
    cells = np.stack([step + 1000 * (k + 1) for k in range(frames)])
    return dicom(cells, frames=frames, SOPInstanceUID="1.2.3.90", **elements)


def archive(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def stored(tmp_path, files, heard=None, **options):
    """First pixels of what is stored, by the order of size, and (reason, frames) of the ledger."""
    store = tmp_path / "s.zarr"
    ingest(store, archive(tmp_path / "a", files), reporter=heard, **options)
    assert verify(store)
    rows = {int(row["image"][0, 0]): row for row in samples_of(store)}
    return dict(sorted(rows.items())), Counter({row[2]: row[3] for row in ledger_of(store)})


def reasons(store):
    counts = Counter()
    for _, _, reason, frames in ledger_of(store):
        counts[reason] += frames
    return dict(counts)


# ---- key images


def test_key_images_alone_are_stored_on_request(tmp_path):
    files = slices() | {"k.dcm": key_object(KEY, instance("1.2.3.2"), instance("1.2.3.4"))}
    rows, _ = stored(tmp_path, files, frames="key")
    assert list(rows) == [200, 400]
    assert reasons(tmp_path / "s.zarr") == {"stored": 2, "not-a-key-image": 2, "key-object": 1}


def test_without_the_option_they_change_nothing(tmp_path):
    files = slices() | {"k.dcm": key_object(KEY, instance("1.2.3.2"))}
    rows, _ = stored(tmp_path, files)
    assert list(rows) == [100, 200, 300, 400]


def test_key_frames_of_a_loop(tmp_path):
    files = slices(1) | {"l.dcm": loop(), "k.dcm": key_object(KEY, instance("1.2.3.90", [2, 4]))}
    rows, _ = stored(tmp_path, files, frames="key")
    assert {first: row["frame"] for first, row in rows.items()} == {2000: 1, 4000: 3}
    assert reasons(tmp_path / "s.zarr") == {
        "stored": 2, "frame-not-chosen": 2, "not-a-key-image": 1, "key-object": 1,
    }  # fmt: skip


def test_several_documents_add_up_wherever_they_lie(tmp_path):
    first = archive(tmp_path / "a", slices() | {"l.dcm": loop()})
    second = archive(
        tmp_path / "b",
        {
            "0.dcm": key_object(KEY, instance("1.2.3.90", [1]), uid="1.2.59.1"),
            "1.dcm": key_object(KEY, instance("1.2.3.90"), uid="1.2.59.2"),
            "2.dcm": key_object(code("113030"), instance("1.2.3.1"), uid="1.2.59.3"),  # a manifest
        },
    )
    for name, order in (("one", (first, second)), ("two", (second, first))):
        ingest(tmp_path / f"{name}.zarr", *order, frames="key", layout="dicom")
        assert len(samples_of(tmp_path / f"{name}.zarr")) == 4
    assert tree(tmp_path / "one.zarr") == tree(tmp_path / "two.zarr")


def test_without_any_key_image_there_is_nothing_to_store(tmp_path):
    with pytest.raises(UsageError, match=r"not-a-key-image 4.*--frames all"):
        stored(tmp_path, slices(), frames="key")


# ---- rejection notes


@pytest.mark.parametrize("frames", ["all", "key", "every:2"])
def test_what_a_note_rejects_is_never_stored(tmp_path, frames):
    files = slices() | {
        "k.dcm": key_object(KEY, *(instance(f"1.2.3.{n}") for n in range(1, 5))),
        "r.dcm": key_object(code(REJECTED[3]), instance("1.2.3.2"), uid="1.2.59.1"),
    }
    rows, _ = stored(tmp_path, files, frames=frames)
    assert list(rows) == [100, 300, 400]
    assert reasons(tmp_path / "s.zarr") == {"stored": 3, "rejected-by-note": 1, "key-object": 2}


def test_a_note_may_reject_single_frames(tmp_path):
    note = key_object(code(REJECTED[0]), instance("1.2.3.90", [1, 3]))
    rows, _ = stored(tmp_path, {"l.dcm": loop(), "r.dcm": note})
    assert list(rows) == [2000, 4000]


def test_every_nth_frame_of_a_loop_and_all_single_images(tmp_path):
    rows, _ = stored(tmp_path, slices(1) | {"l.dcm": loop(5)}, frames="every:2")
    assert list(rows) == [100, 1000, 3000, 5000]
    assert reasons(tmp_path / "s.zarr") == {"stored": 4, "frame-not-chosen": 2}


# ---- segmentations


def square(top, left, bottom, right, shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


A, B, C = square(0, 0, 2, 2), square(1, 1, 4, 4), square(4, 5, 5, 7)


def test_the_segments_of_an_image_are_its_mask(tmp_path):
    data = segmentation([A, B, C], [[instance("1.2.3.1")], [instance("1.2.3.2")], [instance("1.2.3.1")]])
    heard = Listener()
    rows, _ = stored(tmp_path, slices() | {"s.dcm": data}, heard)
    assert np.array_equal(rows[100]["stored_mask"], (A | C) > 0)
    assert np.array_equal(rows[200]["stored_mask"], B > 0)
    assert [row["mask"] for row in rows.values()] == [True, True, False, False]
    assert reasons(tmp_path / "s.zarr") == {"stored": 4, "mask": 1}
    assert not any("segmentations" in text for text in heard.said)


def test_several_segmentations_are_united_and_frames_of_a_loop_have_their_own(tmp_path):
    files = {
        "l.dcm": loop(3),
        "s.dcm": segmentation([A, B], [[instance("1.2.3.90", [1])], [instance("1.2.3.90", [3])]]),
        "t.dcm": segmentation(
            [C * 255], [[instance("1.2.3.90", [1])]], kind="FRACTIONAL", MaximumFractionalValue=255,
            SOPInstanceUID="1.2.66.1",
        ),
    }  # fmt: skip
    rows, _ = stored(tmp_path, files)
    assert np.array_equal(rows[1000]["stored_mask"], (A | C) > 0)
    assert not rows[2000]["mask"]
    assert np.array_equal(rows[3000]["stored_mask"], B > 0)


def test_segments_that_lie_on_nothing_are_counted_by_cause(tmp_path):
    large = segmentation([square(0, 0, 3, 3, (6, 7))], [[instance("1.2.3.1")]], SOPInstanceUID="1.2.66.1")
    strange = segmentation([A], [[instance("1.2.9")]], SOPInstanceUID="1.2.66.2")
    mixed = segmentation([A, B, C], [[], [instance("1.2.3.2")], [instance("1.2.3.1"), instance("1.2.3.2")]])
    heard = Listener()
    files = slices() | {"s.dcm": large, "t.dcm": strange, "u.dcm": mixed}
    rows, _ = stored(tmp_path, files, heard)
    assert [row["mask"] for row in rows.values()] == [False, True, False, False]
    assert reasons(tmp_path / "s.zarr") == {"stored": 4, "segmentation": 2, "mask": 1}
    (said,) = (text for text in heard.said if "segmentations" in text)
    assert said == (
        "frames of segmentations: 1 became masks, 2 were made of no one image, pixel by pixel, "
        "1 name images that are not to be stored, 1 are of another size than their images"
    )


def test_a_rejected_segmentation_is_no_mask_and_a_rejected_image_has_none(tmp_path):
    files = slices(2) | {
        "s.dcm": segmentation([A], [[instance("1.2.3.1")]]),
        "t.dcm": segmentation([B], [[instance("1.2.3.2")]], SOPInstanceUID="1.2.66.1"),
        "r.dcm": key_object(code(REJECTED[0]), instance("1.2.66"), instance("1.2.3.2")),
    }
    rows, _ = stored(tmp_path, files)
    assert [row["mask"] for row in rows.values()] == [False]
    assert reasons(tmp_path / "s.zarr") == {
        "stored": 1, "rejected-by-note": 2, "segmentation": 1, "key-object": 1,
    }  # fmt: skip


def test_a_damaged_segmentation_is_quarantined_and_its_image_stored(tmp_path):
    data = segmentation([A], [[instance("1.2.3.1")]], NumberOfFrames=3)
    rows, _ = stored(tmp_path, slices(2) | {"s.dcm": data}, max_quarantine="50%")
    assert [row["mask"] for row in rows.values()] == [False, False]
    assert reasons(tmp_path / "s.zarr") == {"stored": 2, "pixel-data-short": 1}


def test_the_mask_of_a_cut_image_is_cut(tmp_path):
    region = item(
        RegionSpatialFormat=1, RegionLocationMinX0=1, RegionLocationMinY0=1,
        RegionLocationMaxX1=5, RegionLocationMaxY1=3,
    )  # fmt: skip
    image = dicom(
        np.arange(35, dtype=np.uint8).reshape(SHAPE), sop_class=CLASSES["US"], Modality="US",
        SOPInstanceUID="1.2.3.1", SequenceOfUltrasoundRegions=[region],
    )  # fmt: skip
    files = {"1.dcm": image, "s.dcm": segmentation([B], [[instance("1.2.3.1")]])}
    rows, _ = stored(tmp_path, files, burned_in="crop-us-region")
    assert np.array_equal(rows[8]["stored_mask"], B[1:4, 1:6] > 0)


def test_the_store_is_the_same_whatever_the_order_and_nothing_changes_again(tmp_path):
    files = slices() | {
        "s.dcm": segmentation([A, B], [[instance("1.2.3.1")], [instance("1.2.3.2")]]),
        "t.dcm": segmentation([C], [[instance("1.2.3.1")]], SOPInstanceUID="1.2.66.1"),
        "r.dcm": key_object(code(REJECTED[1]), instance("1.2.3.3")),
    }
    one, two = archive(tmp_path / "a", files), archive(tmp_path / "b", files)
    ingest(tmp_path / "one.zarr", one)
    for name in ("s.dcm", "t.dcm", "r.dcm"):
        (two / name).rename(two / f"0{name}")
    ingest(tmp_path / "two.zarr", two, workers=2)
    rows = [
        {
            row["key"]: row["stored_mask"].tobytes()
            for row in samples_of(tmp_path / f"{name}.zarr")
            if row["mask"]
        }
        for name in ("one", "two")
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2
    before = tree(tmp_path / "one.zarr")
    assert ingest(tmp_path / "one.zarr", one).part is None
    assert tree(tmp_path / "one.zarr") == before
