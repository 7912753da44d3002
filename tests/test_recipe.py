"""How a loader sees each image: windows, polarity, geometry, channels; against NumPy and Pillow."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from stores import build

from pyrad.errors import CorruptChunkError, IntegrityError, UsageError
from pyrad.loader import placing, presets
from pyrad.loader.augment import Augment
from pyrad.loader.loader import Loader
from pyrad.records import Window
from pyrad.store.reader import open_store

TOLERANCE = 1e-5  # against Pillow, on [0, 1] in float32: its sums run in another order

CT = {"modality": "CT", "slope": 2.0, "intercept": -1024.0}
FACTS = [
    {**CT, "window_center": (40.0, 0.0), "window_width": (400.0, 1.0), "spacing_mm": (0.5, 1.0)},
    {**CT, "window_center": (40.0,), "window_width": (300.5,), "voi_function": "LINEAR_EXACT"},
    {**CT, "window_center": (40.0,), "window_width": (80.0,), "voi_function": "SIGMOID"},
    {"window_center": (600.0,), "window_width": (500.0,), "photometric": "MONOCHROME1", "padding": (0, 40)},
    {"modality": "MR", "spacing_mm": (2.0, 1.0)},
    {"modality": "MR", "slope": -1.0, "photometric": "MONOCHROME1"},
    {},
    {"photometric": "MONOCHROME1"},
    {"bits_stored": 6},
]


def pictures():
    rng = np.random.default_rng(5)
    shapes = [(21, 34), (40, 17), (16, 16)]
    wide = [rng.integers(0, 1200, shapes[number % 3]).astype("int16") for number in range(4)]
    wide += [rng.integers(100, 900, shapes[number % 3]).astype("uint16") for number in range(2)]
    return wide + [rng.integers(0, 256, shapes[number % 3]).astype("uint8") for number in range(3)]


@pytest.fixture(scope="module", params=["tilepack", "zstd"])
def store(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / f"{request.param}.zarr"
    with open_store(build(path, pictures(), FACTS, codec=request.param)) as opened:
        yield opened


def seen(store, number, window=None):
    """What sample ``number`` shows, full size, in [0, 1]: the formulas of PS3.3 C.11.2 in float64."""
    facts, stored = FACTS[number], store.image(number).astype(np.float64)
    slope, intercept = facts.get("slope", 1.0), facts.get("intercept", 0.0)
    values = slope * stored + intercept
    if window is None and "window_center" in facts:
        window = Window(
            center=facts["window_center"][0],
            width=facts["window_width"][0],
            function=facts.get("voi_function", "LINEAR"),
        )
    if window is not None:
        c, w = window.center, window.width
        if window.function == "LINEAR":
            y = np.clip((values - (c - 0.5)) / (w - 1) + 0.5, 0, 1)
        elif window.function == "LINEAR_EXACT":
            y = np.clip((values - c) / w + 0.5, 0, 1)
        else:
            y = 1 / (1 + np.exp(-4 * (values - c) / w))
    elif store.image(number).dtype == np.uint8 and facts.get("bits_stored", 8) == 8:
        y = stored / 255
    else:
        low, high = np.sort(slope * np.percentile(stored, [1, 99]) + intercept)
        y = np.clip((values - low) / (high - low), 0, 1)
    if facts.get("photometric") == "MONOCHROME1":
        y = 1 - y
    if "padding" in facts:
        y[(stored >= facts["padding"][0]) & (stored <= facts["padding"][1])] = 0
    return y.astype(np.float32)


def resized(image, size, box=None):
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))


def images_of(store, **options):
    """All images of the store in order, mapped back to [0, 1]: (n, channels, height, width)."""
    options = {"batch_size": 4, "size": (11, 14), "shuffle": False, "mean": (0.25,), "std": (0.5,), **options}
    batches = list(Loader(store, **options))
    return torch.cat([batch.images for batch in batches])[: len(store)].numpy() * 0.5 + 0.25


@pytest.mark.parametrize("window", [None, Window(center=500.0, width=700.0)])
def test_auto_and_given_windows_stretched(store, window):
    ours = images_of(store, window=window or "auto")
    for number in range(len(store)):
        theirs = resized(seen(store, number, window), (11, 14))
        assert np.abs(ours[number, 0] - theirs).max() < TOLERANCE, number


def test_a_preset_is_for_ct_and_leaves_the_others_alone(store):
    brain, auto = images_of(store, window="brain"), images_of(store)
    for number in range(3):
        theirs = resized(seen(store, number, presets.PRESETS["brain"]), (11, 14))
        assert np.abs(brain[number, 0] - theirs).max() < TOLERANCE, number
    assert np.array_equal(brain[3:], auto[3:])


def test_letterbox_keeps_the_aspect_in_millimetres(store):
    ours = images_of(store, fit="letterbox", size=(20, 20))
    # Image 0 has 21 rows of 0.5 mm and 34 columns of 1 mm: 10.5 mm x 34 mm, so 6 of 20 rows are filled.
    assert np.abs(ours[0, 0, 7:13] - resized(seen(store, 0), (6, 20))).max() < TOLERANCE
    assert (np.abs(ours[0, 0, :7]) < TOLERANCE).all()
    assert (np.abs(ours[0, 0, 13:]) < TOLERANCE).all()
    # Image 3, of unknown spacing, has 21 x 34 pixels: 12 rows; bars are background in MONOCHROME1 too.
    assert np.abs(ours[3, 0, 4:16] - resized(seen(store, 3), (12, 20))).max() < TOLERANCE
    assert (np.abs(ours[3, 0, :4]) < TOLERANCE).all()


def test_crop_shows_the_middle_in_its_own_aspect(store):
    ours = images_of(store, fit="crop", size=(16, 16))
    square_mm = resized(seen(store, 0), (16, 16), box=(17 - 5.25, 0, 17 + 5.25, 21))
    assert np.abs(ours[0, 0] - square_mm).max() < TOLERANCE
    square = resized(seen(store, 1), (16, 16), box=(0, 11.5, 17, 28.5))
    assert np.abs(ours[1, 0] - square).max() < TOLERANCE
    assert np.abs(ours[2, 0] - seen(store, 2)).max() < TOLERANCE
    tall = resized(seen(store, 8), (16, 8), box=(4, 0, 12, 16))
    assert np.abs(images_of(store, fit="crop", size=(16, 8))[8, 0] - tall).max() < TOLERANCE


def test_augmentation_is_one_box_and_two_flips(store):
    augment = Augment(flip=0.5, flip_vertical=0.5, scale=(0.3, 1.0), ratio=(0.7, 1.4))
    ours = images_of(store, augment=augment, seed=9)
    numbers = np.arange(len(store))
    shapes = [store.image(number).shape for number in numbers]
    whole = np.array([[0, 0, columns, rows] for rows, columns in shapes], dtype=np.float64)
    drawn = augment.draw(whole, seed=9, epochs=np.zeros_like(numbers), samples=numbers)
    boxes, flip_x, flip_y = drawn.boxes, drawn.flip_x, drawn.flip_y
    assert len({*zip(flip_x.tolist(), flip_y.tolist(), strict=True)}) > 1
    for number in numbers:
        theirs = resized(seen(store, number), (11, 14), box=tuple(boxes[number]))
        theirs = theirs[:: -1 if flip_y[number] else 1, :: -1 if flip_x[number] else 1]
        assert np.abs(ours[number, 0] - theirs).max() < TOLERANCE, number


def test_channels_layout_and_precision(store):
    one = images_of(store)
    three = images_of(store, channels=3)
    assert three.shape[1] == 3
    for channel in range(3):
        assert np.array_equal(three[:, channel], one[:, 0])
    own = Loader(store, "train", 9, 12, shuffle=False, channels=3, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))
    plain = Loader(store, "train", 9, 12, shuffle=False, mean=(0.0,), std=(1.0,))
    (batch,), (y,) = own, plain
    for channel, (mean, std) in enumerate([(0.1, 1.0), (0.2, 2.0), (0.3, 4.0)]):
        assert torch.allclose(batch.images[:, channel], (y.images[:, 0] - mean) / std, atol=1e-6)
    (last,) = Loader(store, "train", 9, 12, shuffle=False, channels=3, channels_last=True)
    (first,) = Loader(store, "train", 9, 12, shuffle=False, channels=3)
    assert last.images.shape == first.images.shape
    assert last.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last.images, first.images)
    for dtype in (torch.bfloat16, torch.float16):
        for channels_last in (False, True):
            short = Loader(
                *(store, "train", 9, 12),
                shuffle=False,
                channels=3,
                channels_last=channels_last,
                dtype=str(dtype).removeprefix("torch."),
            )
            (batch,) = short
            assert batch.images.dtype == dtype
            assert torch.equal(batch.images, first.images.to(dtype))


@pytest.mark.parametrize("codec", ["tilepack", "zstd"])
def test_colour_planes_become_channels(tmp_path, codec):
    rng = np.random.default_rng(1)
    planes = [rng.integers(0, 256, (3, 9, 13)).astype("uint8") for _ in range(2)]
    grey = rng.integers(0, 256, (10, 10)).astype("uint8")
    path = build(tmp_path / "s.zarr", [planes[0], grey, planes[1]], codec=codec)
    with open_store(path) as opened:
        ours = images_of(opened, channels=3, size=(7, 8), batch_size=3)
        for number, image in ((0, planes[0]), (2, planes[1])):
            for channel in range(3):
                theirs = resized((image[channel] / 255).astype(np.float32), (7, 8))
                assert np.abs(ours[number, channel] - theirs).max() < TOLERANCE
        assert np.array_equal(ours[1, 0], ours[1, 2])
        with pytest.raises(UsageError, match=r"2 of the 3 images keep their colour planes.*--color luma"):
            Loader(opened, channels=1)


@pytest.mark.parametrize("codec", ["tilepack", "zstd"])
def test_the_damaged_plane_is_named(tmp_path, codec):
    planes = np.random.default_rng(1).integers(0, 256, (3, 9, 13)).astype("uint8")
    path = build(tmp_path / "s.zarr", [planes, planes], codec=codec)
    with open_store(path) as opened:
        located = opened.locate(np.array([1]))
    shard = path / "parts/000001/images/3x9x13_u8/c/0/0/0/0"
    data = bytearray(shard.read_bytes())
    data[int(located.offset[2]) + 24] ^= 1
    shard.write_bytes(data)
    with (
        open_store(path) as opened,
        pytest.raises(CorruptChunkError, match="3x9x13_u8 chunk 1 plane 2 is damaged"),
    ):
        list(Loader(opened, "train", 2, 12, channels=3))


def test_a_flat_image_and_an_8_bit_one_with_a_window(tmp_path):
    flat, eight = np.full((8, 8), 300, np.int16), np.full((8, 8), 100, np.uint8)
    facts = [{}, {"window_center": (100.0,), "window_width": (50.0,), "voi_function": "LINEAR_EXACT"}]
    with open_store(build(tmp_path / "s.zarr", [flat, eight], facts)) as opened:
        ours = images_of(opened, batch_size=2, size=(4, 4))
    assert np.allclose(ours, 0.5, atol=1e-6)


def test_a_rescale_that_no_ingest_writes_is_refused(tmp_path):
    path = build(tmp_path / "s.zarr", [np.ones((8, 8), np.int16)] * 2, [{}, {"slope": 0.0}])
    with (
        open_store(path) as opened,
        pytest.raises(IntegrityError, match="1 rows of the samples table have slope 0"),
    ):
        Loader(opened)


@pytest.mark.parametrize("window", [Window(center=0.0, width=0.0), Window(center=np.nan, width=1.0)])
def test_a_window_that_is_none_is_refused(store, window):
    with pytest.raises(UsageError, match="width must be above 0"):
        Loader(store, window=window)


def test_middle_of_any_aspect_lies_inside():
    rng = np.random.default_rng(0)
    boxes = np.zeros((200, 4))
    boxes[:, 2:] = rng.integers(1, 3000, (200, 2))
    spacing = np.where(rng.random((200, 1)) < 0.3, np.nan, rng.uniform(0.01, 5, (200, 2)))
    ours = placing.middle(boxes, size=(31, 47), spacing_mm=spacing)
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 2:] <= boxes[:, 2:]).all()
    wide, tall = ours[:, 2] - ours[:, 0], ours[:, 3] - ours[:, 1]
    known = np.where(np.isfinite(spacing), spacing, 1.0)
    assert np.allclose(wide * known[:, 1] / (tall * known[:, 0]), 47 / 31)
    full = np.isclose(wide, boxes[:, 2]) | np.isclose(tall, boxes[:, 3])
    assert full.all()


def test_pairs_with_gaps():
    pairs = placing.pairs(pa.chunked_array([[None, (1.0, 2.0)], [(3.0, 4.0)]], pa.list_(pa.float64(), 2)))
    assert np.array_equal(pairs, [[np.nan, np.nan], [1, 2], [3, 4]], equal_nan=True)
