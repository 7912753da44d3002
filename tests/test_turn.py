"""Rotation and shear: the second stage of the core, what it is told, and the way back to the stored pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pixels import SAMPLES, Case, render, rendered
from processors import SETS, compiled_for
from scipy import ndimage
from stores import build
from tolerances import assert_close, assert_same

from pyrad import geometry, ops
from pyrad.errors import UsageError
from pyrad.loader import augment as augmenting
from pyrad.loader.augment import Augment
from pyrad.loader.loader import Loader
from pyrad.records import Window
from pyrad.store.reader import open_store

quick = settings(max_examples=60, deadline=None)
SIDES = st.integers(1, 24)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)


def case_of(pixels, **more):
    """16 bits as y."""
    return Case(pixels=pixels, center=32767.5, width=65535.0, **more)


@st.composite
def turned(draw):
    """A picture resized to a grid, and any affine map of an output onto it, beyond its edges too."""
    grid = draw(st.tuples(SIDES, SIDES))
    slopes = st.floats(-2, 2) | st.sampled_from((0.0, 1.0, -1.0))
    turn = tuple((draw(slopes), draw(slopes), draw(st.floats(-9, 30))) for _ in range(2))
    case = case_of(
        noise(draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))),
        grid=grid,
        turn=turn,
        flip_x=draw(st.booleans()),
        flip_y=draw(st.booleans()),
        invert=draw(st.booleans()),
    )
    side = st.integers(max(1, (max(grid) + 3) // 4), 24)  # a grid is at most so much larger
    return case, draw(st.tuples(side, side))


@settings(max_examples=150, deadline=None)
@given(turned())
def test_a_turned_picture_against_the_oracle(drawn):
    case, size = drawn
    assert_close("whole: oracle", rendered([case], size)[0], case.expected(size))


@quick
@given(turned())
def test_against_torch_and_scipy(drawn):
    case, size = drawn
    grid = rendered([Case(**{**vars(case), "grid": None, "turn": None})], case.grid)[0, 0].astype(np.float64)
    ours = rendered([case], size)[0, 0]
    m = np.array(case.turn)
    v, u = np.indices(size)
    x, y = (row[0] * u + row[1] * v + row[2] for row in m)
    places = torch.from_numpy(np.stack([(2 * x + 1) / case.grid[1] - 1, (2 * y + 1) / case.grid[0] - 1], -1))
    theirs = torch.nn.functional.grid_sample(
        torch.from_numpy(grid)[None, None], places[None], padding_mode="zeros", align_corners=False
    )
    assert_close("turn: torch", ours, theirs.numpy()[0, 0])
    rows = m[::-1][:, [1, 0, 2]]
    theirs = ndimage.affine_transform(
        grid, rows[:, :2], rows[:, 2], output_shape=size, order=1, mode="grid-constant", cval=0.0
    )
    assert_close("turn: scipy", ours, theirs)


@quick
@given(turned(), st.sampled_from(SAMPLES), st.booleans())
def test_no_processor_thread_or_layout_changes_a_bit(drawn, dtype, channels_last):
    case, size = drawn
    options = {"dtype": dtype, "channels": 3, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.5)}
    alone = rendered([case] * 3, size, **options)
    assert_same(rendered([case] * 3, size, threads=3, channels_last=channels_last, **options), alone)
    for name in SETS[1:]:
        with compiled_for(name):
            assert_same(rendered([case] * 3, size, **options), alone)


def test_the_identity_and_whole_pixels_change_no_bit():
    case = case_of(noise((40, 50)), flip_x=True)
    plain = rendered([case], (12, 15))
    still = Case(**{**vars(case), "grid": (12, 15), "turn": ((1, 0, 0), (0, 1, 0))})
    assert_same(rendered([still], (12, 15)), plain)
    moved = Case(**{**vars(case), "grid": (12, 15), "turn": ((1, 0, -2), (0, 1, 3))})
    out = rendered([moved], (12, 15))[0, 0]
    assert_same(out[:9, 2:], plain[0, 0, 3:, :13])
    assert not out[9:].any()
    assert not out[:, :2].any()
    quarter = Case(**{**vars(case), "grid": (12, 12), "turn": ((0, 1, 0), (-1, 0, 11))})
    assert_same(rendered([quarter], (12, 12))[0, 0], np.rot90(rendered([case], (12, 12))[0, 0], -1))


def test_planes_and_three_windows_turn_alike():
    turn = {"grid": (9, 11), "turn": ((0.8, -0.6, 3.0), (0.6, 0.8, -2.0))}
    planes = np.stack([noise((20, 33), seed) for seed in range(3)])
    out = rendered([case_of(planes, **turn)], (10, 12), channels=3)[0]
    for channel in range(3):
        assert_same(out[channel], rendered([case_of(planes[channel], **turn)], (10, 12))[0, 0])
    more = ({"width": 9000.0}, {"center": 100.0, "function": "SIGMOID"})
    case = case_of(planes[0], more=more, **turn)
    out = rendered([case], (10, 12), channels=3)[0]
    for window in range(3):
        assert_same(out[window], rendered([case.alone(window)], (10, 12))[0, 0])


@pytest.mark.parametrize(
    "changed",
    [
        {"turn": [[np.nan, 0, 0], [0, 1, 0]]},
        {"turn": [[1, 0, 0], [0, 1, np.inf]]},
        {"dst_w": 0},
        {"dst_h": 41},
        {"dst_w": 0xFFFFFFFF},
    ],
)
def test_an_impossible_grid_is_refused(changed):
    good = case_of(noise((8, 8)), grid=(40, 40), turn=((1, 0, 0), (0, 1, 0)))
    bad = Case(**{**vars(good), "changed": changed})
    out, statuses = render([good, bad, good], (10, 10))
    assert statuses == [ops.Status.OK, ops.Status.RECORD, ops.Status.OK]
    assert not out[1].any()
    assert_same(out[0], out[2])


def test_places_far_outside_are_background():
    """Numbers that leave every integer, and what is no number once they have met, read nothing outside."""
    for turn in (((1e300, 1e300, 0), (0, 1, 0)), ((1.7e308, -1.7e308, -1e308), (1, 1, 1))):
        out = rendered([case_of(np.full((8, 8), 65535, np.uint16), grid=(8, 8), turn=turn)], (8, 8))
        assert ((out >= 0) & (out <= 1)).all()


# --- what is drawn, and where it comes from ---------------------------------------------------------


def records_of(shape, size, box=None, **fields):
    """One image that fills its output, before it is turned."""
    records = np.zeros(1, ops.RECORD_DTYPE)
    records["rows"], records["columns"] = shape
    box = box or (0, 0, shape[1], shape[0])
    everything = {
        **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
        **geometry.stretch(*shape, size=size),
        **fields,
    }
    for name, value in everything.items():
        records[name] = value
    return records


@quick
@given(
    st.floats(-180, 180),
    st.floats(-45, 45),
    st.tuples(SIDES, SIDES),
    st.tuples(*[st.floats(0, 0.45)] * 4),
    st.booleans(),
    st.booleans(),
)
def test_the_grid_has_all_that_the_output_looks_at(rotate, shear, size, margins, flip_x, flip_y):
    shape = (50, 70)
    left, right, top, bottom = margins
    box = (70 * left, 50 * top, 70 * (1 - right), 50 * (1 - bottom))
    before = records_of(shape, size, box, flip_x=flip_x, flip_y=flip_y)
    after = before.copy()
    back = augmenting._turns(np.deg2rad([rotate]), np.deg2rad([shear]))
    geometry.turn(after, back, size=size)
    if not after["turned"][0]:
        assert np.array_equal(back[0], np.eye(2))
        return
    # The middle stays, the scale stays, and the stored pixels are those of the same map without a grid.
    middle = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2, 1])
    straight, turned_ = geometry.to_stored(before)[0], geometry.to_stored(after)[0]
    assert np.allclose(straight @ middle, turned_ @ middle)
    wanted = straight[:2, :2] @ back[0][::-1, ::-1]
    assert np.allclose(turned_[:2, :2], wanted)
    # The grid reaches as far as the output looks or as the image goes, but for less than a pixel.
    v, u = np.indices(size)
    places = after["turn"][0] @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    stored = turned_ @ np.stack([v.ravel(), u.ravel(), np.ones(u.size)])
    edge = 1.5 * np.abs(np.diag(straight)[:2, None])
    well_inside = ((stored[:2] > edge - 0.5) & (stored[:2] < np.array([[50], [70]]) - 0.5 - edge)).all(axis=0)
    grid = np.array([after["dst_w"][0], after["dst_h"][0]])[:, None]
    on_grid = ((places > -1e-6) & (places < grid - 1 + 1e-6)).all(axis=0)
    assert on_grid[well_inside].all()
    assert (grid <= 2 * sum(size)).all()
    assert after["x0"] >= 0
    assert after["y0"] >= 0
    assert after["x1"] <= 70
    assert after["y1"] <= 50


def test_a_turn_is_clockwise_and_a_lean_to_the_right_below():
    quarter = augmenting._turns(np.array([np.pi / 2]), np.array([0.0]))[0]
    assert np.allclose(quarter, [[0, 1], [-1, 0]])
    lean = augmenting._turns(np.array([0.0]), np.array([np.pi / 4]))[0]
    assert np.allclose(lean, [[1, -1], [0, 1]])


RANGES = Augment(flip=0.5, flip_vertical=0.5, scale=(0.5, 0.9), rotate=40.0, shear=20.0)
IDENTITY = Window(center=5000.0, width=10000.0, function="LINEAR_EXACT")


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_ramp_says_where_it_was_seen(tmp_path, fit, axis):
    """A ramp's value is its row or column: interpolation keeps it, and so the placement must say the same."""
    shapes = [(60, 90), (90, 60), (80, 80)] * 3
    images = [(100 * np.indices(shape)[axis]).astype(np.uint16) for shape in shapes]
    facts = [{"spacing_mm": (0.5, 0.75), "labels": ("a",)}] * len(images)
    with open_store(build(tmp_path / "s.zarr", images, facts)) as opened:
        loader = Loader(
            *(opened, "train", 9, (100, 120)), fit=fit, augment=RANGES, window=IDENTITY, mean=(0,), std=(1,)
        )
        positions = np.arange(9)
        seen = 100 * loader.at(positions).images.numpy()[:, 0]
        placed = loader.placement(positions)
    v, u = np.indices(seen.shape[1:])
    for image, affine, step, shape in zip(seen, placed.affine, placed.step, placed.shape, strict=True):
        places = np.einsum("ij,jrc->irc", affine, np.stack([v, u, np.ones_like(u)]))[:2] / step[:, None, None]
        margin = np.array([4.0, 4.0])[:, None, None]
        inside = ((places > margin) & (places < shape[:, None, None] - 1 - margin)).all(axis=0)
        assert inside.sum() > 1000
        assert np.abs(places[axis] - image)[inside].max() < 2e-3
        outside = ((places < -margin) | (places > shape[:, None, None] + margin)).any(axis=0)
        assert not image[outside].any()


def test_what_turns_in_comes_from_the_image_around_the_box(tmp_path):
    white = [np.full((64, 64), 255, np.uint8)] * 8
    with open_store(build(tmp_path / "s.zarr", white, [{"labels": ("a",)}] * 8)) as opened:
        options = {"size": 32, "mean": (0.0,), "std": (1.0,), "batch_size": 8}
        small = Augment(scale=(0.2, 0.2), ratio=(1, 1), translate=0.0, rotate=180.0)
        (batch,) = Loader(opened, augment=small, **options)
        assert np.allclose(batch.images, 1.0, atol=1e-6)
        whole = Augment(scale=(1, 1), ratio=(1, 1), rotate=180.0)
        (batch,) = Loader(opened, augment=whole, **options)
        turned_away = (batch.images < 0.5).float().mean(dim=(1, 2, 3))
        assert turned_away.max() > 0.1  # a square of half its diagonal does not cover itself
        assert turned_away.max() < 0.25


@pytest.mark.parametrize("bad", [{"rotate": 181.0}, {"rotate": -1.0}, {"shear": 46.0}, {"shear": np.nan}])
def test_impossible_turns_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        Augment(**bad)
