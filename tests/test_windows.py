"""What a loader sees images through: presets, own windows, three at a time, and windows that are drawn."""

import numpy as np
import pytest
from pixels import Case, lut_of
from stores import build
from tolerances import assert_close, assert_same

from pyrad.errors import UsageError
from pyrad.loader.augment import Augment
from pyrad.loader.loader import Loader
from pyrad.loader.presets import BY_ANATOMY, PRESETS, window_of
from pyrad.records import Window
from pyrad.store.reader import open_store

CT = {"modality": "CT", "slope": 2.0, "intercept": -1024.0}
HU = {"slope": 2.0, "intercept": -1024.0}
LUT = (0, 12, list(range(0, 4096, 4)))
TWO = {"window_center": (40.0, 300.0), "window_width": (80.0, 1500.0)}
SECOND = {"center": 300.0, "width": 1500.0, "function": "LINEAR"}
FIRST = {"center": 40.0, "width": 80.0, "function": "LINEAR"}
FACTS = [
    {**CT, **TWO, "anatomy": "head"},
    {**CT, **TWO, "voi_lut": lut_of(LUT), "anatomy": "chest"},
    {**CT, "window_center": (50.0,), "window_width": (400.0,), "anatomy": "liver"},
    {**CT, "anatomy": "breast"},
    {"modality": "MR", **TWO, "voi_function": "SIGMOID"},
    {"modality": "CT", "anatomy": "head"},  # a picture of 8 bits: of no unit
]
IMAGES = [np.random.default_rng(n).integers(0, 1000, (8, 9)).astype(np.int16) for n in range(5)]
IMAGES.append(np.random.default_rng(9).integers(0, 256, (8, 9)).astype(np.uint8))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    facts = [fact | {"labels": ("a",)} for fact in FACTS]
    with open_store(build(tmp_path_factory.mktemp("windows") / "s.zarr", IMAGES, facts)) as opened:
        yield opened


def shown(store, window="auto", **options):
    """All images in the store's order at their own size: (6, channels, 8, 9)."""
    loader = Loader(
        *(store, "train", 6, (8, 9)), window=window, shuffle=False, mean=(0.0,), std=(1.0,), **options
    )
    return next(iter(loader)).images.numpy()


def seen(number, **window):
    """Image ``number`` through a window, by the oracle."""
    case = Case(pixels=IMAGES[number], **(HU if "slope" in FACTS[number] else {}), **window)
    return case.windowed()[0]


def preset(name):
    return {"center": PRESETS[name].center, "width": PRESETS[name].width, "function": "LINEAR"}


def test_an_own_window_is_named_by_its_number(store):
    auto, first, second = (shown(store, window)[:, 0] for window in ("auto", 0, 1))
    assert_close("window: oracle", first[0], seen(0, **FIRST))
    assert_close("window: oracle", second[0], seen(0, **SECOND))
    # In place of a VOI LUT too, which is what auto shows.
    assert_close("lookup tables: oracle", auto[1], seen(1, voi_lut=LUT))
    assert_close("window: oracle", first[1], seen(1, **FIRST))
    assert_close("window: oracle", second[1], seen(1, **SECOND))
    assert_close("window: oracle", second[4], seen(4, **{**SECOND, "function": "SIGMOID"}))
    for number in (2, 3, 5):  # who has no second keeps auto
        assert_same(second[number], auto[number])


@pytest.mark.parametrize("window", [2, -1])
def test_a_number_that_no_image_has_is_refused(store, window):
    with pytest.raises(UsageError, match=f"window {window}: the images of this split have at most 2 windows"):
        Loader(store, window=window)


def test_a_preset_leaves_pictures_of_8_bits_alone(store):
    brain, auto = shown(store, "brain")[:, 0], shown(store)[:, 0]
    for number in range(4):
        assert_close("window: oracle", brain[number], seen(number, **preset("brain")))
    for number in (4, 5):
        assert_same(brain[number], auto[number])


def test_the_preset_of_an_anatomy(store):
    ours, auto = shown(store, "anatomy")[:, 0], shown(store)[:, 0]
    for number, name in enumerate(("brain", "lung", "abdomen")):
        assert BY_ANATOMY[FACTS[number]["anatomy"]] == name
        assert_close("window: oracle", ours[number], seen(number, **preset(name)))
    for number in (3, 4, 5):  # no preset, no CT, no HU
        assert_same(ours[number], auto[number])


def test_every_anatomy_of_a_preset_is_a_word_of_the_store_s():
    from pyrad.ingest.anatomy import packaged

    table = packaged()
    words = {*table.body_parts.values(), *table.codes.values(), *table.descriptions.values()}
    assert set(BY_ANATOMY) <= words


def test_three_windows_are_three_channels_of_one_image(store):
    windows = ("brain", 1, Window(center=100.0, width=50.0, function="SIGMOID"))
    ours = shown(store, windows, channels=3)
    for channel, window in enumerate(windows):
        assert_same(ours[:, channel], shown(store, window)[:, 0])
    again = shown(store, list(windows), channels=3)
    assert_same(again, ours)


def test_three_windows_are_part_of_a_state(store):
    brain_first, bone_first = ("brain", "subdural", "bone"), ("bone", "subdural", "brain")
    state = Loader(store, window=brain_first, channels=3, batch_size=2).state_dict()
    Loader(store, window=brain_first, channels=3, batch_size=2).load_state_dict(state)
    with pytest.raises(UsageError, match="saved with settings"):
        Loader(store, window=bone_first, channels=3, batch_size=2).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": ("brain", "bone", "lung")}, "3 windows and 1 channels"),
        ({"window": ("brain", "bone"), "channels": 3}, "2 windows and 3 channels"),
        ({"window": ("brain", "bone", "liver"), "channels": 3}, "'liver' is none of auto"),
        ({"window": "brain", "augment": Augment(any_window=True)}, "any_window"),
    ],
)
def test_windows_that_do_not_fit_are_refused(store, options, said):
    with pytest.raises(UsageError, match=said):
        Loader(store, **options)


def test_three_windows_are_for_grey_images(tmp_path):
    planes = np.zeros((3, 9, 13), np.uint8)
    with (
        open_store(build(tmp_path / "s.zarr", [planes])) as opened,
        pytest.raises(UsageError, match=r"1 of the 1 images keep their colour planes.*--color luma"),
    ):
        Loader(opened, window=("auto", "auto", "auto"), channels=3)


def test_any_window_draws_evenly_among_an_images_own(store):
    augment = Augment(flip=0.0, scale=(1, 1), ratio=(1, 1), any_window=True)
    loader = Loader(
        *(store, "train", 6, (8, 9)), augment=augment, mean=(0.0,), std=(1.0,), shuffle=True, seed=4
    )
    keys = {key: number for number, key in enumerate(store.samples["key"].to_pylist())}
    expected = [
        [seen(0, **FIRST), seen(0, **SECOND)],
        [seen(1, voi_lut=LUT), seen(1, **FIRST), seen(1, **SECOND)],
        [seen(2, center=50.0, width=400.0, function="LINEAR")],
    ]
    counts = [np.zeros(len(ways), int) for ways in expected]
    for _ in range(200):
        for batch in loader:
            for image, key in zip(batch.images.numpy()[:, 0], batch.keys, strict=True):
                number = keys[key]
                if number < 3:
                    far = [np.abs(image - way).max() for way in expected[number]]
                    assert min(far) < 1e-5
                    counts[number][np.argmin(far)] += 1
    for ways in counts:
        assert ways.sum() == 200
        assert (np.abs(ways - 200 / len(ways)) < 45).all()


def test_a_drawn_window_is_the_window_moved_and_widened(store):
    augment = Augment(flip=0.0, scale=(1, 1), ratio=(1, 1), window_width=(0.5, 2.0), window_center=0.4)
    ours = shown(store, 0, augment=augment, seed=3)[:, 0]
    numbers = np.arange(6)
    drawn = augment.draw(np.tile([[0.0, 0, 9, 8]], (6, 1)), seed=3, epochs=np.zeros(6, int), samples=numbers)
    assert len(set(drawn.window_width.tolist())) == 6
    assert (drawn.window_width >= 0.5).all()
    assert (drawn.window_width <= 2.0).all()
    assert (np.abs(drawn.window_center) <= 0.4).all()
    for number in (0, 1):
        moved = {
            "center": 40.0 + 80.0 * drawn.window_center[number],
            "width": 80.0 * drawn.window_width[number],
            "function": "LINEAR",
        }
        assert_close("window: oracle", ours[number], seen(number, **moved))
    lut = shown(store, "auto", augment=augment, seed=3)[1, 0]
    assert_same(lut, shown(store)[1, 0])  # a table stays


@pytest.mark.parametrize(
    "bad", [{"window_width": (0.0, 1.0)}, {"window_width": (2.0, 1.0)}, {"window_center": 1.5}]
)
def test_impossible_draws_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        Augment(**bad)


def test_windows_as_words_of_a_command_line():
    assert window_of("auto") == "auto"
    assert window_of("1") == 1
    assert window_of("brain, subdural,bone") == ("brain", "subdural", "bone")
    for bad in ("liver", "", "brain,,bone", "-1"):
        with pytest.raises(UsageError, match="none of auto"):
            window_of(bad)
