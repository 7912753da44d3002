"""Copies of an image that differ in size, compression, window, flip or turn are found, and never divided."""

import base64
import csv
import io
import os
import re
import zipfile
from collections import defaultdict

import numpy as np
import pytest
from archives import Listener, dicom, ingest, npy, png, samples_of, table, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyrad.ingest.near import pairs as near
from pyrad.ingest.near import report as near_report
from pyrad.ingest.near.pictures import ThumbnailFile
from pyrad.ingest.near.thumbnails import ORIENTATIONS, SIDE, likeness, oriented, thumbnail
from pyrad.ingest.privacy.forget import ForgetOptions, forget


def scene(seed, rows=96, columns=120):
    """A smooth picture with structure of its own, as no other seed has."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    image = np.zeros((rows, columns))
    for _ in range(25):
        cy, cx, width = *rng.uniform(0, 1, 2), rng.uniform(0.03, 0.15)
        image += rng.uniform(-1, 1) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
    image = (image - image.min()) / np.ptp(image)
    return (20 + 200 * image).astype(np.uint8)


def resaved(image, quality=75, scale=(1.0, 1.0)):
    size = round(image.shape[1] * scale[1]), round(image.shape[0] * scale[0])
    data = io.BytesIO()
    Image.fromarray(image).resize(size, Image.Resampling.BICUBIC).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def turned(image, orientation):
    return np.ascontiguousarray(oriented(image, orientation))


def test_a_thumbnail_is_the_mean_of_equal_areas():
    image = np.random.default_rng(0).integers(0, 4096, (3 * SIDE, 2 * SIDE)).astype(np.uint16)
    means = image.reshape(SIDE, 3, SIDE, 2).mean(axis=(1, 3))
    expected = (means - means.min()) / np.ptp(means) * 65535
    np.testing.assert_allclose(thumbnail(image), expected, atol=0.51)
    np.testing.assert_allclose(thumbnail(image, inverted=True), 65535 - expected, atol=0.51)
    assert not thumbnail(np.full((5, 7), 9, np.int16)).any()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 100),
    st.integers(1, 70),
    st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    st.sampled_from([SIDE, 12]),
    st.integers(0, 9),
)
def test_a_thumbnail_of_any_size_is_exact(rows, columns, dtype, side, seed):
    limits = np.iinfo(dtype)
    image = np.random.default_rng(seed).integers(
        limits.min, limits.max, (rows, columns), dtype, endpoint=True
    )
    # Every value as a square of side x side equal ones: then no edge of a part divides one.
    squares = image.astype(np.int64).repeat(side, axis=0).repeat(side, axis=1)
    sums = squares.reshape(side, rows, side, columns).sum(axis=(1, 3))
    expected = np.floor((sums - sums.min()) / max(np.ptp(sums), 1) * 65535 + 0.5)
    np.testing.assert_array_equal(thumbnail(image, side=side), expected)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 70),
    st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    st.integers(0, 9),
)
def test_a_thumbnail_depends_on_no_order_of_additions(rows, columns, dtype, seed):
    limits = np.iinfo(dtype)
    image = np.random.default_rng(seed).integers(
        limits.min, limits.max, (rows, columns), dtype, endpoint=True
    )
    for orientation in range(ORIENTATIONS):
        np.testing.assert_array_equal(
            thumbnail(turned(image, orientation)), oriented(thumbnail(image), orientation)
        )


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_the_hash_of_a_turned_image_follows_from_the_hash(orientation):
    thumbs = np.stack([thumbnail(scene(seed)) for seed in range(20)])
    packed = near.hashes(thumbs)
    found = (near._exchanged(packed) if orientation & 4 else packed) ^ near._mirrored(orientation)
    np.testing.assert_array_equal(found, near.hashes(np.ascontiguousarray(oriented(thumbs, orientation))))


def test_likeness_does_not_mind_a_monotone_map_and_minds_another_image():
    first = np.stack([thumbnail(scene(seed)) for seed in range(30)])
    levels = np.sort(np.random.default_rng(1).integers(0, 65536, 65536)).astype(np.uint16)
    assert (likeness(first, levels[first]) > 0.999).all()
    clipped = np.clip(first, *np.percentile(first, [10, 90], axis=(1, 2))[..., None, None]).astype(np.uint16)
    assert (likeness(first, clipped) > 0.97).all()
    assert (likeness(first, np.roll(first, 1, axis=0)) < 0.8).all()
    assert (likeness(first, np.zeros_like(first)) < 0.2).all()


def test_copies_are_found_and_no_other_pair(monkeypatch):
    count = 60
    images = [scene(seed) for seed in range(count)]
    rng = np.random.default_rng(2)
    copies = [
        resaved(turned(image, int(rng.integers(8))), int(rng.integers(50, 96)), rng.uniform(0.5, 2, 2))
        for image in images
    ]
    thumbs = np.stack([thumbnail(image) for image in (*copies, *images)])
    pairs = near.find_pairs(thumbs, near.hashes(thumbs), np.arange(2 * count), new=count)
    assert pairs.first.tolist() == list(range(count))
    assert pairs.second.tolist() == list(range(count, 2 * count))
    for first, second, turn in zip(pairs.first, pairs.second, pairs.turn, strict=True):
        assert likeness(oriented(thumbs[[first]], int(turn)), thumbs[[second]])[0] >= near.LIKE
    monkeypatch.setattr(near, "_BLOCK", 7)
    in_blocks = near.find_pairs(thumbs, near.hashes(thumbs), np.arange(2 * count), new=count)
    np.testing.assert_array_equal([in_blocks.first, in_blocks.turn], [pairs.first, pairs.turn])
    monkeypatch.setattr(near, "_PAIRS_A_BLOCK", 5)

    def in_any_order(comparisons, count):
        answers = [(number, likeness(*comparison)) for number, comparison in enumerate(comparisons)]
        assert sum(len(like) for _, like in answers) == count
        return rng.permutation(np.array(answers, object))

    elsewhere = near.find_pairs(
        thumbs, near.hashes(thumbs), np.arange(2 * count), new=count, compare=in_any_order
    )
    np.testing.assert_array_equal(elsewhere.like, pairs.like)
    same = near.find_pairs(thumbs, near.hashes(thumbs), np.arange(2 * count) % count, new=2 * count)
    assert not len(same), "pairs within a group do not matter"


def test_hundreds_of_copies_are_one_cluster_though_a_bucket_is_crowded():
    count = 80
    thumbs = np.stack([thumbnail(resaved(scene(0), quality)) for quality in range(50, 95)] * 2)[:count]
    pairs = near.find_pairs(thumbs, near.hashes(thumbs), np.arange(count), new=count)
    assert len(pairs) < count * (count - 1) // 2, "not every pair is compared"
    assert set(near.clusters(pairs.first, pairs.second, count)) == {0}
    flat = np.zeros((count, SIDE, SIDE), np.uint16)
    assert not len(near.find_pairs(flat, near.hashes(flat), np.arange(count), new=count))


def real_images(archive):
    """Path -> grey picture and row of the manifest, of the images of a zip."""
    with zipfile.ZipFile(archive) as data:
        rows = [*csv.DictReader(io.TextIOWrapper(data.open("manifest.csv"), "utf-8"))]
        for row in rows:
            if row.get("kind", "image") == "image":
                yield np.asarray(Image.open(io.BytesIO(data.read(row["path"]))).convert("L")), row


def test_real_chests_of_different_patients_are_not_alike_and_real_duplicates_are(real_data):
    for name, count in (("cxr_nih", 0), ("busi", 12)):
        images, rows = zip(*real_images(real_data / f"{name}.zip"), strict=True)
        thumbs = np.stack([thumbnail(image) for image in images])
        pairs = near.find_pairs(thumbs, near.hashes(thumbs), np.arange(len(thumbs)), new=len(thumbs))
        assert len(pairs) == count
        for first, second in zip(pairs.first, pairs.second, strict=True):
            assert rows[first]["dup_group"] == rows[second]["dup_group"]


def copies_archive(folder):
    """``a``: 12 pictures; ``b``: a copy of each, flipped, smaller and saved anew; no patient is known."""
    for number in range(12):
        png(folder / "a" / f"{number}.png", scene(number))
        png(folder / "b" / f"{number}.png", resaved(turned(scene(number), number % 8), 70, (0.7, 0.9)))
    return folder


def test_copies_without_a_patient_are_one_group_and_so_in_one_split(tmp_path):
    archive = copies_archive(tmp_path / "in")
    said = Listener()
    summary = ingest(tmp_path / "s.zarr", archive, split="50/25/25", reporter=said)
    rows = samples_of(tmp_path / "s.zarr")
    assert len(rows) == 24
    assert summary.near_duplicates == {"clusters": 12, "images": 24}
    splits = {row["group"]: row["split"] for row in rows}
    assert len(splits) == 12
    assert {row["labels"][0] for row in rows} == {"a", "b"}
    assert any(str(reports(tmp_path / "private")[1]) in text for text in said.said)

    ingest(tmp_path / "two" / "s.zarr", archive, split="50/25/25", workers=3, private=tmp_path / "private")
    assert tree(tmp_path / "two" / "s.zarr") == tree(tmp_path / "s.zarr")


def reports(private):
    """The list of near duplicates and the page."""
    found = sorted(private.glob("near-duplicates-s.zarr-000001.*"))
    assert [path.suffix for path in found] == [".csv", ".html"]
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    return found


def drawn(page):
    """Key -> picture, as a page of near duplicates draws them, in its order."""
    figures = re.findall(r"<figure>.*?base64,([^\"]*)\".*?<br>(\w*)<", page)
    return {key: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data, key in figures}


def test_the_page_draws_each_image_above_its_key_and_loads_nothing(tmp_path):
    archive = copies_archive(tmp_path / "in")
    for number in range(2):  # of another size, so in other shards
        png(archive / "c" / f"{number}.png", resaved(scene(90), 80 + number, (1.5, 1.5)))
    ingest(tmp_path / "s.zarr", archive)
    _, page = reports(tmp_path / "private")
    text = page.read_text()
    pictures = drawn(text)
    rows = samples_of(tmp_path / "s.zarr")
    assert len(rows) == len(pictures) == 26
    for row in rows:
        expected = thumbnail(row["image"], side=128) / 257
        assert np.abs(pictures[row["key"]] - expected).mean() < 3
    assert text.count("<section>") == 13
    assert "images are not" not in text
    assert "Each is in one split." in text
    assert "http" not in text.replace("http-equiv", "")


def test_the_page_has_a_bound_and_the_list_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(near_report, "_CLUSTERS", 5)
    monkeypatch.setattr(near_report, "_MEMBERS", 2)
    archive = copies_archive(tmp_path / "in")
    for number in range(3):
        png(archive / "b" / f"more{number}.png", resaved(scene(3), 80 + number))
    ingest(tmp_path / "s.zarr", archive, split="50/25/25", near_duplicates="list")
    listed, page = reports(tmp_path / "private")
    rows = [*csv.DictReader(io.StringIO(listed.read_text()))]
    split = {row["key"]: row["split"] for row in samples_of(tmp_path / "s.zarr")}
    assert {row["key"]: row["split"] for row in rows} == split
    assert {row["outcome"] for row in rows} == {"no patient known"}
    clusters = defaultdict(list)
    for row in rows:
        clusters[row["cluster"]].append(row)
    divided = [len({row["split"] for row in its}) > 1 for its in clusters.values()]
    assert 0 < sum(divided) < 12
    assert divided == sorted(divided, reverse=True), "what somebody should look at comes first"
    assert sorted(map(len, clusters.values())) == [2] * 11 + [5]
    text = page.read_text()
    assert [*drawn(text)] == [row["key"] for its in [*clusters.values()][:5] for row in its[:2]]
    assert "17 images are not" in text
    assert f"{sum(divided)} of them are in several splits" in text
    assert listed.name in text


def test_a_store_whose_name_is_no_utf8_has_reports_too(tmp_path):
    png(tmp_path / "in" / "1.png", scene(1))
    png(tmp_path / "in" / "2.png", resaved(scene(1)))
    ingest(tmp_path / os.fsdecode(b"s\xff.zarr"), tmp_path / "in")
    found = sorted(path.name for path in (tmp_path / "private").glob("near-duplicates-*"))
    assert found == [rf"near-duplicates-s\xff.zarr-000001.{kind}" for kind in ("csv", "html")]


@pytest.mark.parametrize("choice", ["list", "off"])
def test_copies_are_listed_only_or_not_looked_for(tmp_path, choice):
    archive = copies_archive(tmp_path / "in")
    summary = ingest(tmp_path / "s.zarr", archive, near_duplicates=choice)
    rows = samples_of(tmp_path / "s.zarr")
    assert len({row["group"] for row in rows}) == 24
    assert summary.near_duplicates["clusters"] == (12 if choice == "list" else 0)
    assert len([*(tmp_path / "private").glob("near-duplicates-*")]) == (2 if choice == "list" else 0)


def ct(image):
    """Stored values of a CT for a picture."""
    return image.astype(np.int16) * 4 - 500


def test_nothing_is_compared_where_nothing_is_left(tmp_path):
    image = np.full((8, 8), -2000, np.int16)
    for number in range(2):
        dicom(tmp_path / "in" / f"{number}.dcm", image, uid=f"1.2.{number}", PixelPaddingValue=-2000)
    summary = ingest(tmp_path / "s.zarr", tmp_path / "in", max_quarantine="100%")
    assert (summary.images, summary.quarantined) == (0, {"only-padding": 2})


def test_known_patients_are_never_regrouped_and_a_copy_joins_one(tmp_path):
    folder = tmp_path / "in"
    dicom(folder / "1.dcm", ct(scene(1)), uid="1.2.3.1", patient="P1")
    dicom(folder / "2.dcm", ct(turned(scene(1), 1)), uid="1.2.3.2", patient="P2", study="1.2.2")
    npy(folder / "3.npy", ct(turned(scene(1), 3)))
    summary = ingest(tmp_path / "s.zarr", folder)
    rows = samples_of(tmp_path / "s.zarr")
    assert len(rows) == 3
    assert len({row["group"] for row in rows}) == 2
    assert summary.near_duplicates == {"clusters": 1, "images": 3}


def test_what_is_like_a_committed_image_goes_to_its_split_or_stays_out(tmp_path):
    store = tmp_path / "s.zarr"
    for number in range(12):
        dicom(
            tmp_path / "one" / f"{number}.dcm", ct(scene(number)), uid=f"1.2.1.{number}", patient=f"P{number}"
        )
    ingest(store, tmp_path / "one", split="50/25/25")
    before = {row["key"]: row for row in samples_of(store)}
    split_of = {}
    for row in before.values():
        split_of[next(n for n in range(12) if np.array_equal(row["image"], ct(scene(n))))] = row["split"]
    train = [number for number, split in split_of.items() if split == "train"]
    held_out = [number for number, split in split_of.items() if split == "test"]
    two = tmp_path / "two"
    for number in range(12):  # no patient: each joins the group of what it is like
        npy(two / f"{number}.npy", ct(turned(scene(number), 2)))
    # A new patient who is like one split goes there, with all images; a known one loses the image.
    dicom(two / "n1.dcm", ct(turned(scene(held_out[0]), 1)), uid="1.2.9.1", patient="NEW")
    dicom(two / "n2.dcm", ct(scene(90)), uid="1.2.9.2", patient="NEW")
    dicom(two / "k1.dcm", ct(turned(scene(held_out[0]), 5)), uid="1.2.9.3", patient=f"P{train[0]}")
    dicom(two / "k2.dcm", ct(scene(91)), uid="1.2.9.4", patient=f"P{train[0]}")
    summary = ingest(store, two, max_quarantine="100%")
    assert summary.quarantined == {"near-duplicate": 1}
    rows = samples_of(store)
    new = [row for row in rows if row["key"] not in before]
    assert len(new) == 15
    assert {row["key"]: row["split"] for row in rows if row["key"] in before} == {
        key: row["split"] for key, row in before.items()
    }
    side = {row["group"]: row["split"] for row in rows}
    for row in new:
        assert side[row["group"]] == row["split"]
        for number, split in split_of.items():
            if np.array_equal(row["image"], ct(turned(scene(number), 2))):
                assert row["split"] == split
        if np.array_equal(row["image"], ct(scene(90))):
            assert row["split"] == "test"
    again = tree(store)
    assert ingest(store, two, max_quarantine="100%").part is None
    assert tree(store) == again


def test_a_new_patient_between_two_splits_loses_an_image(tmp_path):
    store = tmp_path / "s.zarr"
    for number in range(8):
        dicom(
            tmp_path / "one" / f"{number}.dcm", ct(scene(number)), uid=f"1.2.1.{number}", patient=f"P{number}"
        )
    ingest(store, tmp_path / "one", split="50/0/50")
    by_split = {row["split"]: row["image"] for row in samples_of(store)}
    dicom(tmp_path / "two" / "1.dcm", turned(by_split["train"], 1), uid="1.2.9.1", patient="NEW")
    dicom(tmp_path / "two" / "2.dcm", turned(by_split["test"], 1), uid="1.2.9.2", patient="NEW")
    summary = ingest(store, tmp_path / "two", max_quarantine="100%")
    assert (summary.images, summary.quarantined) == (1, {"near-duplicate": 1})


def test_who_is_forgotten_takes_along_what_joined_them_and_the_reports_that_show_them(tmp_path):
    folder, store, private = tmp_path / "in", tmp_path / "s.zarr", tmp_path / "private"
    for number in range(4):
        dicom(folder / f"{number}.dcm", ct(scene(number)), uid=f"1.2.3.{number}", patient=f"P{number}")
    npy(folder / "copy.npy", ct(turned(scene(1), 3)))
    ingest(store, folder)
    assert len(reports(private)) == 2
    (private / "near-duplicates-other.csv").write_text("key\n" + "0" * 32)
    patients = table(tmp_path / "who.csv", "P1\n")
    forget(ForgetOptions(store=store, patients=patients, private=private), Listener())
    assert len(samples_of(store)) == 3
    assert [path.name for path in private.glob("near-duplicates-*")] == ["near-duplicates-other.csv"]
    assert ingest(store, folder).skipped == {"already-stored": 3, "forgotten": 2}


def test_thumbnails_in_a_file_are_read_as_they_were_written(tmp_path):
    thumbs = np.random.default_rng(0).integers(0, 1 << 16, (6, 32, 32), np.uint16)
    with (tmp_path / "thumbs").open("w+b") as file:
        kept = ThumbnailFile(file.fileno())
        kept[np.array([4, 1, 5, 0, 2, 3])] = thumbs.transpose(0, 2, 1)  # in another order in memory
        np.testing.assert_array_equal(kept[np.array([3, 1, 1])], thumbs[[5, 1, 1]].transpose(0, 2, 1))
        with pytest.raises(OSError, match="Input/output"):
            kept[np.array([6])]
