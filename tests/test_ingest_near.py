"""Copies of an image that differ in size, compression, window, flip or turn are found, and never divided."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyrad.ingest import near
from pyrad.ingest.thumbnails import ORIENTATIONS, SIDE, likeness, oriented, thumbnail


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
    found = near._packed(near._turned(near.hashes(thumbs), orientation))
    np.testing.assert_array_equal(found, near.hashes(np.ascontiguousarray(oriented(thumbs, orientation))))


def test_likeness_does_not_mind_a_monotone_map_and_minds_another_image():
    first = np.stack([thumbnail(scene(seed)) for seed in range(30)])
    levels = np.sort(np.random.default_rng(1).integers(0, 65536, 65536)).astype(np.uint16)
    assert (likeness(first, levels[first]) > 0.999).all()
    clipped = np.clip(first, *np.percentile(first, [10, 90], axis=(1, 2))[..., None, None]).astype(np.uint16)
    assert (likeness(first, clipped) > 0.97).all()
    assert (likeness(first, np.roll(first, 1, axis=0)) < 0.8).all()
    assert (likeness(first, np.zeros_like(first)) < 0.2).all()


def test_copies_are_found_and_no_other_pair():
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
