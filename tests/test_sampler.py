"""The order of samples and their augmentation: pure functions of (seed, epoch, sample)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pyrad.errors import UsageError
from pyrad.loader import sampler
from pyrad.loader.augment import Augment


def epoch_order(count, seed=0, epoch=0):
    return sampler.permute(np.arange(count), count, seed=seed, epochs=np.full(count, epoch))


def test_every_small_count_is_a_bijection():
    for count in range(1, 201):
        assert np.array_equal(np.sort(epoch_order(count, seed=count)), np.arange(count)), count


@pytest.mark.parametrize("count", [255, 256, 257, 1021, 4096, 4097, 10007, 65536, 100_003])
def test_primes_and_powers_of_two_are_bijections(count):
    assert np.array_equal(np.sort(epoch_order(count)), np.arange(count))


def test_a_million_sampled():
    count = 1_000_000
    indices = np.random.default_rng(0).choice(count, 50_000, replace=False)
    image = sampler.permute(indices, count, seed=3, epochs=np.full(len(indices), 7))
    assert len(np.unique(image)) == len(indices)
    assert image.min() >= 0
    assert image.max() < count
    assert abs(np.corrcoef(indices, image)[0, 1]) < 0.02


def test_a_permutation_of_nothing_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        sampler.permute(np.arange(0), 0, seed=0, epochs=np.arange(0))


def test_seeds_and_epochs_give_different_orders():
    orders = {epoch_order(50, seed, epoch).tobytes() for seed in range(8) for epoch in range(8)}
    assert len(orders) == 64
    assert epoch_order(50, seed=-1).tobytes() != epoch_order(50, seed=1).tobytes()


@given(
    count=st.integers(1, 5000),
    seed=st.integers(-(2**63), 2**64),
    position=st.integers(0, 2**40),
    length=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_one_index_does_not_depend_on_its_neighbours(count, seed, position, length):
    epochs, indices = sampler.epoch_and_index(np.arange(position, position + length), count)
    together = sampler.permute(indices, count, seed=seed, epochs=epochs)
    alone = [
        int(sampler.permute(indices[i : i + 1], count, seed=seed, epochs=epochs[i : i + 1])[0])
        for i in range(length)
    ]
    assert together.tolist() == alone
    assert all(0 <= index < count for index in alone)


@pytest.mark.parametrize("count", [2, 3, 5, 16, 100])
def test_every_place_is_equally_likely(count):
    """Where index 0 and the last index land over many epochs is uniform (chi-square, fixed seed)."""
    epochs = np.arange(400 * count)
    for index in (0, count - 1):
        places = sampler.permute(np.full(len(epochs), index), count, seed=11, epochs=epochs)
        assert stats.chisquare(np.bincount(places, minlength=count)).pvalue > 1e-3


def test_all_orders_of_four_are_equally_likely():
    epochs = 24 * 400
    indices = np.tile(np.arange(4), epochs)
    orders = sampler.permute(indices, 4, seed=5, epochs=np.repeat(np.arange(epochs), 4)).reshape(-1, 4)
    counts = np.unique(orders @ np.array([64, 16, 4, 1]), return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_ranks_share_out_the_global_batch():
    for world_size in (1, 2, 3, 4, 6, 12):
        shares = [sampler.rank_positions(36, 12, rank, world_size) for rank in range(world_size)]
        assert np.concatenate(shares).tolist() == list(range(36, 48))
    with pytest.raises(UsageError, match="multiple of world_size 5"):
        sampler.rank_positions(0, 12, 0, 5)
    with pytest.raises(UsageError, match="rank 2 of 2"):
        sampler.rank_positions(0, 12, 2, 2)


def test_uniform_is_uniform_and_keyed():
    epochs, samples = np.zeros(4000, np.int64), np.arange(4000)
    draws = sampler.uniform(4, seed=1, epochs=epochs, samples=samples)
    assert draws.shape == (4000, 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.06
    again = sampler.uniform(6, seed=1, epochs=epochs[:3], samples=samples[[7, 0, 9]])
    assert np.array_equal(again[:, :4], draws[[7, 0, 9]])
    for other in (
        sampler.uniform(4, seed=2, epochs=epochs, samples=samples),
        sampler.uniform(4, seed=1, epochs=epochs + 1, samples=samples),
        sampler.uniform(4, seed=1, epochs=epochs, samples=samples + 4000),
    ):
        assert not np.isin(other, draws).any()


@given(
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: tuple(sorted(pair))),
    ratio=st.tuples(st.floats(0.25, 4), st.floats(0.25, 4)).map(lambda pair: tuple(sorted(pair))),
    translate=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_boxes_stay_inside_and_in_range(scale, ratio, translate, seed):
    augment = Augment(scale=scale, ratio=ratio, translate=translate)
    whole = np.tile([[3.0, 0.0, 515.0, 77.5]], (64, 1))
    drawn = augment.draw(whole, seed=seed, epochs=np.zeros(64, np.int64), samples=np.arange(64))
    boxes, flip_x, flip_y = drawn.boxes, drawn.flip_x, drawn.flip_y
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes[:, :2] >= whole[:, :2]).all()
    assert (boxes[:, 2:] <= whole[:, 2:]).all()
    assert (width > 0).all()
    assert (height > 0).all()
    assert (width * height / (512 * 77.5) <= scale[1] + 1e-9).all()
    free = (width < 511.999) & (height < 77.499)  # where neither side was cut to the image
    assert (width * height / (512 * 77.5) >= scale[0] - 1e-9)[free].all()
    aspect = (width / 512) / (height / 77.5)
    assert ((aspect > ratio[0] - 1e-6) & (aspect < ratio[1] + 1e-6))[free].all()
    assert flip_x.any()
    assert not flip_x.all()
    assert not flip_y.any()


def test_without_translation_the_box_is_centred_and_without_scale_it_is_the_image():
    whole = np.tile([[0.0, 0.0, 40.0, 20.0]], (32, 1))
    key = {"seed": 0, "epochs": np.zeros(32, np.int64), "samples": np.arange(32)}
    boxes = Augment(translate=0.0).draw(whole, **key).boxes
    assert np.allclose(boxes[:, 0] + boxes[:, 2], 40)
    assert np.allclose(boxes[:, 1] + boxes[:, 3], 20)
    drawn = Augment(scale=(1, 1), ratio=(1, 1), flip=0.0, flip_vertical=1.0).draw(whole, **key)
    assert np.array_equal(drawn.boxes, whole)
    assert not drawn.flip_x.any()
    assert drawn.flip_y.all()


@pytest.mark.parametrize(
    "bad",
    [{"flip": 1.5}, {"translate": -0.1}, {"scale": (0.0, 1.0)}, {"scale": (0.9, 0.8)}, {"ratio": (2.0, 1.0)}],
)
def test_impossible_augmentations_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        Augment(**bad)


def test_the_order_never_changes_between_versions():
    """A saved position means the same samples for ever: frozen values."""
    assert epoch_order(10, seed=7, epoch=2).tolist() == [8, 1, 7, 5, 0, 9, 6, 2, 4, 3]
    far = sampler.permute(np.array([0, 1, 1349999]), 1350000, seed=7, epochs=np.array([0, 1, 2]))
    assert far.tolist() == [165485, 196725, 440099]
    draws = sampler.uniform(2, seed=7, epochs=np.array([3]), samples=np.array([5]))[0]
    assert [draw.hex() for draw in draws] == ["0x1.e15d4d6d83230p-4", "0x1.f2b3ccd53c2b7p-1"]
    published = sampler._step(np.array([1234567], dtype=np.uint64), np.arange(3))  # SplitMix64's test vector
    assert published.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("count", [1, 37, 1_350_000])
def test_near_positions_are_drawn_together_and_come_out_the_same(count):
    for positions in (
        np.arange(256),
        np.arange(256) + sampler._RUN - 100,  # across two runs
        np.arange(5 * sampler._RUN, 3 * sampler._RUN, -37),  # too far apart, and backwards
        np.array([2**61, 2**61 + 5, 2**61 - 7]),
        np.array([0, 10**12]),
        np.empty(0, np.int64),
    ):
        epochs, indices = sampler.epoch_and_index(positions, count)
        expected = sampler.permute(indices, count, seed=3, epochs=epochs)
        np.testing.assert_array_equal(sampler.drawn_at(positions, count, seed=3), expected)
