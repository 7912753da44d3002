"""Batches: no bit depends on threads, codec, processor or layout, and damage stays with its image."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from pixels import SAMPLES, Case, batch, render, rendered
from processors import SETS, compiled_for
from tolerances import assert_close, assert_same

from pyrad import ops, voi

SIZE = (19, 23)
COLOUR = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "channels": 3}


def noise(shape, dtype, seed=0):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def mixed():
    """A batch of many sizes, dtypes, windows and places."""
    return [
        Case(pixels=noise((31, 47), "uint8"), function="SIGMOID", flip_x=True),
        Case(pixels=noise((1, 1), "int8"), center=0.0, width=1.0, function="LINEAR"),
        Case(pixels=noise((300, 40), "int16"), center=10.0, width=900.0, box=(3.5, 7.25, 30.0, 290.5)),
        Case(
            pixels=noise((9, 130), "uint16"), slope=-0.5, center=-9000.0, width=20000.0, target=(2, 3, 20, 5)
        ),
        Case(pixels=noise((64, 64), "uint16"), padding=(100, 30000), invert=True, flip_y=True, width=60000.0),
        Case(
            pixels=noise((80, 50), "int16"),
            width=50000.0,
            grid=(25, 21),
            turn=((0.8, -0.5, 4.0), (0.7, 0.9, -6.0)),
            flip_y=True,
        ),
    ]


def through_three():
    """One image, three windows of three kinds."""
    sigmoid = {"center": 5000.0, "width": 9000.0, "function": "SIGMOID"}
    return Case(
        pixels=noise((70, 45), "uint16"),
        width=40000.0,
        padding=(0, 900),
        box=(1.5, 3.0, 40.0, 66.6),
        flip_x=True,
        more=(sigmoid, {"voi_lut": (100, 16, [0, 9000, 65535])}),
    )


# --- twins: bit for bit ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SAMPLES)
@pytest.mark.parametrize("threads", [2, 5, 64])
def test_threads_change_no_bit(threads, dtype):
    cases = mixed() * 3
    alone = rendered(cases, SIZE, dtype=dtype, threads=1, **COLOUR)
    assert_same(rendered(cases, SIZE, dtype=dtype, threads=threads, **COLOUR), alone)


def test_a_batch_is_its_images():
    together = rendered(mixed(), SIZE, **COLOUR)
    for image, case in zip(together, mixed(), strict=True):
        assert_same(rendered([case], SIZE, **COLOUR)[0], image)
        assert_close("whole: oracle", image[2] * 0.225 + 0.406, case.expected(SIZE)[0])


@pytest.mark.parametrize("mode", [None, *ops.MODES])
@pytest.mark.parametrize("crc", [False, True])
def test_the_codec_changes_no_bit(crc, mode):
    assert_same(rendered(mixed(), SIZE, mode=mode, crc=crc, **COLOUR), rendered(mixed(), SIZE, **COLOUR))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ops.MODES),
    st.sampled_from(["uint8", "int16"]),
    st.tuples(st.integers(1, 300), st.integers(1, 600)),
    st.integers(0, 2**32),
)
def test_a_box_of_any_mode_is_that_of_raw_pixels(mode, dtype, shape, seed):
    draw = np.random.default_rng(seed)
    x0, x1 = np.sort(draw.uniform(0, shape[1], 2))
    y0, y1 = np.sort(draw.uniform(0, shape[0], 2))
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 90
    pixels = (smooth + draw.integers(0, 2 ** draw.integers(1, 7), shape)).astype(dtype)
    box = (x0, y0, min(x1 + 0.01, shape[1]), min(y1 + 0.01, shape[0]))
    case = Case(pixels=pixels, box=box, center=60.0, width=200.0)
    assert_same(rendered([case], SIZE, mode=mode), rendered([case], SIZE))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(voi.FUNCTIONS),
    st.sampled_from(SAMPLES),
    st.sampled_from(ops.MODES),
)
def test_the_processor_changes_no_bit(shape, size, function, dtype, mode):
    case = Case(pixels=noise(shape, "uint16"), center=20000.0, width=33333.0, function=function)
    fast = rendered([case], size, dtype=dtype, mode=mode, **COLOUR)
    for name in SETS[1:]:
        with compiled_for(name):
            assert_same(rendered([case], size, dtype=dtype, mode=mode, **COLOUR), fast)


@pytest.mark.parametrize("name", SETS[1:])
def test_the_processor_changes_no_bit_of_a_mixed_batch(name):
    fast = rendered(mixed(), SIZE, **COLOUR)
    with compiled_for(name):
        assert_same(rendered(mixed(), SIZE, **COLOUR), fast)


@pytest.mark.parametrize("dtype", SAMPLES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_layout_changes_no_bit(channels, dtype):
    options = {"mean": 0.4, "std": 0.3, "channels": channels, "dtype": dtype}
    first = rendered(mixed(), SIZE, **options)
    assert_same(rendered(mixed(), SIZE, channels_last=True, **options), first)


def test_chunks_need_no_alignment():
    case = mixed()[3]
    slab, records = batch([case], SIZE)
    moved = np.concatenate([np.zeros(3, np.uint8), slab])
    outs = [np.empty((1, 1, *SIZE), np.float32) for _ in range(2)]
    ops.preprocess(slab, records, outs[0], mean=[0], std=[1], channels=1)
    records["chunk_offset"] += 3
    ops.preprocess(moved, records, outs[1], mean=[0], std=[1], channels=1)
    assert_same(outs[1], outs[0])


# --- three windows: a channel each, of pixels that are decoded once -------------------------------


@pytest.mark.parametrize("mode", [None, *ops.MODES])
@pytest.mark.parametrize("channels_last", [False, True])
def test_three_windows_become_three_channels(channels_last, mode):
    case = through_three()
    options = {"channels": 3, "mode": mode, "channels_last": channels_last}
    together = rendered([*mixed(), case], SIZE, **options)
    for window in range(3):
        alone = rendered([case.alone(window)], SIZE)[0, 0]
        assert_same(together[-1, window], alone)
        assert_close("whole: oracle", alone, case.alone(window).expected(SIZE)[0])
    assert_same(together[:-1], rendered(mixed(), SIZE, channels=3))
    for name in SETS[1:]:
        with compiled_for(name):
            assert_same(rendered([*mixed(), case], SIZE, **options), together)


@pytest.mark.parametrize(
    "changed", [{"windows": 0}, {"windows": 2}, {"windows": 4}, {"voi": [0, 5, 3]}, {"a": [1, np.nan, 1e5]}]
)
def test_impossible_windows_are_refused(changed):
    _, statuses = render([replace(through_three(), changed=changed), through_three()], SIZE, channels=3)
    assert statuses == [ops.Status.RECORD, ops.Status.OK]


def test_three_windows_of_three_planes_or_for_one_channel_are_refused():
    planes = Case(pixels=noise((3, 8, 9), "uint8"), more=({"width": 9.0}, {"width": 8.0}))
    assert render([planes], SIZE, channels=3)[1] == [ops.Status.RECORD]
    assert render([through_three()], SIZE)[1] == [ops.Status.RECORD]


# --- planes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, *ops.MODES])
def test_three_planes_become_three_channels(mode):
    planes = noise((3, 20, 33), "uint8")
    colour = Case(pixels=planes, box=(1.5, 2.0, 30.0, 20.0), flip_x=True)
    out = rendered([colour], SIZE, mode=mode, crc=True, **COLOUR)[0]
    for channel, (plane, mean, std) in enumerate(zip(planes, COLOUR["mean"], COLOUR["std"], strict=True)):
        alone = rendered([replace(colour, pixels=plane)], SIZE, mean=mean, std=std)[0, 0]
        assert_same(out[channel], alone)
        assert_close("whole: oracle", alone * std + mean, colour.expected(SIZE)[channel])


def test_planes_and_grey_share_a_batch():
    grey, colour = Case(pixels=noise((8, 9), "uint8")), Case(pixels=noise((3, 8, 9), "uint8"))
    out = rendered([grey, colour, grey], SIZE, **COLOUR)
    assert_same(out[2], out[0])
    assert_same(out[1], rendered([colour], SIZE, **COLOUR)[0])


def test_planes_without_channels_are_refused():
    _, statuses = render([Case(pixels=noise((3, 8, 9), "uint8"))], SIZE)
    assert statuses == [ops.Status.RECORD]


# --- damage: a status, zeros, and sound neighbours ---------------------------------------------

IMPOSSIBLE = [
    {"rows": 0},
    {"rows": 65536},
    {"columns": 0},
    {"columns": 1 << 31},
    {"dtype": 3},
    {"dtype": 0},
    {"planes": 0},
    {"planes": 2},
    {"codec": 2},
    {"voi": 3},
    {"voi": 5},
    {"voi": 4, "span": 0},
    {"voi": 4, "span": 65536},
    {"x0": -0.001},
    {"x0": 30.0, "x1": 30.0},
    {"x1": 64.001},
    {"x1": np.nan},
    {"x0": np.nan},
    {"y0": -1.0},
    {"y1": 65.0},
    {"y1": np.inf},
    {"y0": np.nan},
    {"dst_w": 0},
    {"dst_h": 0},
    {"dst_w": 24},
    {"dst_h": 20},
    {"dst_x": 1},
    {"dst_y": 1},
    {"dst_x": 0xFFFFFFFF},
    {"dst_y": 0xFFFFFFFF, "dst_h": 1},
    {"s_ref": 1 << 18},
    {"s_ref": -(1 << 31)},
    {"a": np.inf},
    {"b": np.nan},
]


def damaged_between_good(changed, *, status, mode="pack", **options):
    good, other = (Case(pixels=noise((64, 64), "uint16", seed), width=60000.0) for seed in (1, 2))
    bad = replace(good, changed=changed)
    out, statuses = render([good, bad, other], SIZE, mode=mode, crc=True, threads=2, **options)
    assert statuses == [ops.Status.OK, status, ops.Status.OK]
    assert_same(out[[0, 2]], rendered([good, other], SIZE, **options))
    assert not out[1].any()


@pytest.mark.parametrize(
    "changed", IMPOSSIBLE, ids=lambda changed: ",".join(f"{k}={v}" for k, v in changed.items())
)
def test_an_impossible_record(changed):
    damaged_between_good(changed, status=ops.Status.RECORD, mean=0.5, std=0.25)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"chunk_offset": [1 << 63, 0, 0]}, ops.Status.BOUNDS),
        ({"chunk_offset": [(1 << 64) - 1, 0, 0]}, ops.Status.BOUNDS),
        ({"chunk_size": [(1 << 64) - 1, 0, 0]}, ops.Status.BOUNDS),
        ({"chunk_size": [3, 0, 0]}, ops.Status.BOUNDS),
        ({"chunk_size": [0, 0, 0]}, ops.Status.BOUNDS),
        ({"chunk_size": [900, 0, 0]}, ops.Status.CHECKSUM),
        ({"rows": 65535, "columns": 65535}, ops.Status.BOUNDS),
        ({"rows": 128, "y1": 64.0}, ops.Status.GEOMETRY),
        ({"dtype": 0x82}, ops.Status.GEOMETRY),
        ({"codec": 0}, ops.Status.BOUNDS),
    ],
)
def test_a_record_that_does_not_fit_its_chunk(changed, status):
    damaged_between_good(changed, status=status)


@pytest.mark.parametrize("changed", [{"rows": 63, "y1": 63.0}, {"dtype": 1}, {"crc": 0}, {"codec": 1}])
def test_a_record_that_does_not_fit_its_raw_chunk(changed):
    status = ops.Status.HEADER if "codec" in changed else ops.Status.BOUNDS
    damaged_between_good(changed, status=status, mode=None)


@pytest.mark.parametrize("mode", [None, *ops.MODES])
def test_every_flipped_bit_is_a_checksum_error(mode):
    case = Case(pixels=noise((5, 6), "uint16"))
    slab, records = batch([case] * 2, SIZE, mode=mode, crc=True)
    good = rendered([case], SIZE)[0]
    begin, size = int(records["chunk_offset"][0, 0]), int(records["chunk_size"][0, 0])
    out = np.empty((2, 1, *SIZE), np.float32)
    for bit in range(0, 8 * size, 5):
        slab[begin + bit // 8] ^= 1 << bit % 8
        statuses = ops.preprocess(slab, records, out, mean=[0], std=[1], channels=1)
        slab[begin + bit // 8] ^= 1 << bit % 8
        assert statuses.tolist() == [ops.Status.CHECKSUM, ops.Status.OK]
        assert not out[0].any()
        assert_same(out[1], good)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_corrupt_chunk_without_a_checksum_stays_inside_its_image(data):
    case = Case(pixels=noise((20, 17), data.draw(st.sampled_from(["uint8", "uint16"]))))
    slab, records = batch([case] * 3, SIZE, mode=data.draw(st.sampled_from(ops.MODES)))
    begin, size = int(records["chunk_offset"][1, 0]), int(records["chunk_size"][1, 0])
    for _ in range(data.draw(st.integers(1, 4))):
        slab[begin + data.draw(st.integers(0, size - 1))] = data.draw(st.integers(0, 255))
    out = np.empty((3, 1, *SIZE), np.float32)
    statuses = ops.preprocess(slab, records, out, mean=[0], std=[1], channels=1)
    assert statuses[[0, 2]].tolist() == [ops.Status.OK] * 2
    assert_same(out[[0, 2]], rendered([case] * 2, SIZE))
    assert out[1].any() == (statuses[1] == ops.Status.OK)
    assert out[1].min() >= 0
    assert out[1].max() <= 1 + 1e-6


def test_a_plane_that_is_corrupt_empties_the_whole_image():
    colour = Case(pixels=noise((3, 8, 9), "uint8"))
    slab, records = batch([colour], SIZE, mode="pack", crc=True)
    slab[int(records["chunk_offset"][0, 2]) + 20] ^= 1
    out = np.full((1, 3, *SIZE), 77, np.float32)
    statuses = ops.preprocess(slab, records, out, mean=[0.5], std=[1], channels=3)
    assert statuses.tolist() == [ops.Status.CHECKSUM]
    assert not out.any()


# --- the door ----------------------------------------------------------------------------------


def test_the_record_is_the_core_s():
    assert ops._C.record_dtype() == ops.RECORD_DTYPE


def test_no_images_are_no_work():
    out, statuses = render([], SIZE)
    assert (out.shape, statuses) == ((0, 1, *SIZE), [])


GOOD = {"out": np.zeros((1, 1, 4, 5), np.float32), "mean": [0.0], "std": [1.0], "channels": 1}
READ_ONLY = np.zeros((1, 1, 4, 5), np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "wrong",
    [
        {"std": [0.0]},
        {"std": [-1.0]},
        {"std": [1e-40]},
        {"mean": [1e30], "std": [1e-20]},
        {"mean": [np.nan]},
        {"mean": [0.0, 0.0]},
        {"channels": 3},
        {"threads": 0},
        {"out": np.zeros((1, 1, 4, 5), np.float64)},
        {"out": np.zeros((2, 1, 4, 5), np.float32)},
        {"out": np.zeros((1, 4, 5), np.float32)},
        {"out": np.zeros((1, 1, 4, 0), np.float32)},
        {"out": np.zeros((1, 1, 5, 4), np.float32).swapaxes(2, 3)},
        {"out": np.zeros((1, 2, 4, 5), np.float32), "channels": 2},
        {"out": READ_ONLY},
        {"records": np.zeros(1, [("rows", "u4")])},
        {"records": np.zeros((1, 1), ops.RECORD_DTYPE)},
        {"slab": np.zeros(8, np.int16)},
    ],
)
def test_arguments_that_cannot_be(wrong):
    given = {"slab": np.zeros(64, np.uint8), "records": np.zeros(1, ops.RECORD_DTYPE), **GOOD, **wrong}
    with pytest.raises((ValueError, TypeError)):
        ops.preprocess(given.pop("slab"), given.pop("records"), given.pop("out"), **given)


def test_bfloat16_of_the_oracle_rounds_ties_to_even():
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0xBF808000, 0x3F807FFF], np.uint32)
    rounded = reference.bfloat16_bits(bits.view(np.float32))
    assert rounded.tolist() == [0x3F80, 0x3F82, 0x3F81, 0xBF80, 0x3F80]
