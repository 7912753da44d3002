"""Window, resize and normalise: the compiled core against the oracle, Pillow, torch and pydicom."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pixels import Case, rendered
from pydicom import Dataset
from pydicom.pixels import apply_rescale, apply_windowing
from tolerances import assert_close, assert_same

from pyrad import geometry, voi

DTYPES = ("uint8", "int8", "uint16", "int16")
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
quick = settings(max_examples=60, deadline=None)


@st.composite
def pictures(draw):
    """Noise about a level, in all or in a part of the dtype's range."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    info = np.iinfo(dtype)
    level = draw(st.integers(info.min, info.max))
    spread = draw(st.sampled_from((1, 20, 500, 65535)))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    noise = rng.integers(level - spread, level + spread, draw(SIZES), endpoint=True)
    return np.clip(noise, info.min, info.max).astype(dtype)


@st.composite
def cases(draw, **fixed):
    """Draw a case near its pixels' values: every function, polarity and padding, slopes of either sign."""
    pixels = draw(pictures())
    slope = draw(st.sampled_from((1.0, -1.0, 0.1, 2.5, -0.37)))
    intercept = draw(st.sampled_from((0.0, -1024.0, 12.5)))
    level = int(pixels.flat[draw(st.integers(0, pixels.size - 1))])
    padding = (level - 3, level + 2) if draw(st.booleans()) else None
    function = draw(st.sampled_from(voi.FUNCTIONS))
    return Case(
        pixels=pixels,
        slope=slope,
        intercept=intercept,
        center=slope * level + intercept + draw(st.floats(-5, 5)),
        width=draw(st.one_of(st.sampled_from((0.4, 1.0, 1.25, 2.0, 255.0, 1e5)), st.floats(1.5, 4000))),
        function=function,
        padding=padding,
        invert=draw(st.booleans()),
        **fixed,
    )


@st.composite
def boxed(draw):
    """The same with a fractional box inside the image, flips, and a rectangle inside an output."""
    case = draw(cases())
    rows, columns = case.pixels.shape
    height, width = size = draw(SIZES)
    inside = st.floats(0, 1)
    x0, x1 = _interval(draw(inside), draw(inside), columns)
    y0, y1 = _interval(draw(inside), draw(inside), rows)
    target_h, target_w = draw(st.integers(1, height)), draw(st.integers(1, width))
    target = (
        draw(st.integers(0, width - target_w)),
        draw(st.integers(0, height - target_h)),
        target_w,
        target_h,
    )
    placed = Case(
        **{
            **vars(case),
            "box": (x0, y0, x1, y1),
            "target": target,
            "flip_x": draw(st.booleans()),
            "flip_y": draw(st.booleans()),
        }
    )
    return placed, size


def _interval(a, b, size):
    low, high = sorted((a * size, b * size))
    return (low, high) if high - low > 1e-3 else (0.0, float(size))


# --- windows: an output of the image's own size is not resized ------------------------------------


@quick
@given(cases())
def test_windows_follow_the_standard(case):
    assert_close("window: oracle", rendered([case], case.pixels.shape)[0], case.windowed())


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("slope", [1.0, -1.0, 0.1, -2.5])
@pytest.mark.parametrize("function", voi.FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_stored_value(dtype, function, slope, invert):
    info = np.iinfo(dtype)
    pixels = np.arange(info.min, info.max + 1).astype(dtype).reshape(-1, 256)
    for width in (0.3, 1.0, 1.01, 2.0, 350.0, 90000.0):
        case = Case(
            pixels=pixels,
            slope=slope,
            intercept=-7.0,
            center=40.0,
            width=width,
            function=function,
            invert=invert,
        )
        assert_close("window: oracle", rendered([case], pixels.shape)[0], case.windowed())


@pytest.mark.parametrize("center", [29999.5, 30000.0, 30000.3, 65534.0, -5000.0, 1e9])
@pytest.mark.parametrize("width", [0.05, 0.5, 1.0, 1.5, 3.0, 40.0])
def test_a_narrow_window_far_from_zero_does_not_cancel(center, width):
    pixels = np.arange(29900, 65536, 7, dtype=np.uint16)[None]
    for function in voi.FUNCTIONS:
        case = Case(pixels=pixels, slope=1.0, center=center, width=width, function=function)
        assert_close("window: oracle", rendered([case], pixels.shape)[0], case.windowed())


def test_a_linear_window_of_width_1_is_a_threshold():
    pixels = np.array([[38, 39, 40, 41]], np.int16)
    up = Case(pixels=pixels, center=40.0, width=1.0, function="LINEAR")  # at 39.5
    assert rendered([up], (1, 4)).ravel().tolist() == [0, 0, 1, 1]
    at_a_value = Case(pixels=pixels, center=40.5, width=1.0, function="LINEAR")  # x <= 40 is below
    assert rendered([at_a_value], (1, 4)).ravel().tolist() == [0, 0, 0, 1]
    down = Case(pixels=pixels, slope=-1.0, intercept=80.0, center=40.5, width=1.0, function="LINEAR")
    assert rendered([down], (1, 4)).ravel().tolist() == [1, 1, 0, 0]


def test_a_linear_window_narrower_than_1_is_linear_exact():
    pixels = np.arange(20, dtype=np.uint8)[None]
    linear, exact = (
        Case(pixels=pixels, center=9.9, width=0.5, function=f) for f in ("LINEAR", "LINEAR_EXACT")
    )
    assert_same(rendered([linear], pixels.shape), rendered([exact], pixels.shape))


@given(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    low=st.integers(-40000, 70000),
    steps=st.integers(1, 65535),
    slope=st.sampled_from([1.0, -1.0, 0.5, -2.0]),
    invert=st.booleans(),
)
@example(dtype="int16", low=-160, steps=400, slope=1.0, invert=False)
@example(dtype="uint16", low=65536, steps=5, slope=1.0, invert=False)
def test_a_window_between_stored_values_clamps_integers(dtype, low, steps, slope, invert):
    info = np.iinfo(dtype)
    near = np.arange(-3, 3) + np.array([low, low + steps, info.min, info.max, 0])[:, None]
    pixels = np.tile(np.clip(near.ravel(), info.min, info.max), 2).astype(dtype)[None]
    window = {"slope": slope, "intercept": 7.0, "center": (low + steps / 2) * slope + 7.0}
    window |= {"width": steps * abs(slope), "function": "LINEAR_EXACT"}
    assert voi.window_params(*window.values())["voi"] == voi.Voi.CLIP
    case = Case(pixels=pixels, invert=invert, **window)
    y = rendered([case], pixels.shape)[0]
    assert_close("window: oracle", y, case.windowed())
    black = case.windowed() == 0
    assert (y[black] == 0).all()


def test_a_window_that_ends_between_stored_values_is_no_clip():
    for width in (399.0, 400.5, 0.5, 65537.0):
        assert voi.window_params(1.0, 0.0, 40.0, width, "LINEAR_EXACT")["voi"] == voi.Voi.RAMP


def test_8_bits_as_they_are():
    pixels = np.arange(256, dtype=np.uint8)[None]
    out = rendered([Case(pixels=pixels)], pixels.shape)[0, 0]
    assert (out[0, 0], out[0, 255]) == (0.0, 1.0)
    assert_close("window: oracle", out, pixels / 255.0)


def test_padding_is_background_in_both_polarities():
    pixels = np.array([[-2000, -1999, 0, 100]], np.int16)
    for invert in (False, True):
        case = Case(
            pixels=pixels,
            center=0.0,
            width=200.0,
            padding=(-2000, -1999),
            invert=invert,
            function="LINEAR_EXACT",
        )
        y = rendered([case], pixels.shape).ravel().tolist()
        assert y == ([0, 0, 0.5, 0] if invert else [0, 0, 0.5, 1])


def test_a_sigmoid_does_not_overflow():
    pixels = np.array([[0, 1000, 65535]], np.uint16)
    case = Case(pixels=pixels, center=1000.0, width=0.01, function="SIGMOID")
    y = rendered([case], pixels.shape).ravel()
    assert (y[1], y[2]) == (0.5, 1.0)
    assert 0 <= y[0] < 1e-30


@pytest.mark.parametrize("function", voi.FUNCTIONS)
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_windows_against_pydicom(dtype, function):
    pixels = np.random.default_rng(1).integers(-400, 4000, (33, 21)).clip(0).astype(dtype)
    for center, width in ((40.0, 400.0), (-600.5, 1500.0), (300.25, 1.5), (20.0, 2.0)):
        header = Dataset()
        header.PhotometricInterpretation = "MONOCHROME2"
        header.BitsStored, header.PixelRepresentation = 16, int(dtype == "int16")
        header.RescaleSlope, header.RescaleIntercept = 0.5, -1000.0
        header.WindowCenter, header.WindowWidth, header.VOILUTFunction = center, width, function
        info = np.iinfo(dtype)
        low, high = (limit * 0.5 - 1000.0 for limit in (info.min, info.max))  # pydicom's output range
        with np.errstate(over="ignore"):
            peer = (apply_windowing(apply_rescale(pixels, header), header) - low) / (high - low)
        case = Case(
            pixels=pixels, slope=0.5, intercept=-1000.0, center=center, width=width, function=function
        )
        assert_close("window: pydicom", rendered([case], pixels.shape)[0, 0], peer)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 0.0),
        ("width", -1.0),
        ("width", np.nan),
        ("slope", 0.0),
        ("center", np.inf),
        ("function", "LUT"),
    ],
)
def test_a_window_that_is_none_is_refused(name, value):
    window = {"slope": 1.0, "intercept": 0.0, "center": 1.0, "width": 2.0, "function": "LINEAR", name: value}
    with pytest.raises(ValueError, match="a window needs"):
        voi.window_params(**window)


# --- resize ---------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(boxed())
def test_the_whole_against_the_oracle(drawn):
    case, size = drawn
    assert_close("whole: oracle", rendered([case], size)[0], case.expected(size))


def ramp(pixels):
    """See 16-bit noise as y, in float32 as Pillow takes it."""
    return Case(pixels=pixels, center=32767.5, width=65535.0, function="LINEAR_EXACT")


@quick
@given(SIZES, SIZES, st.tuples(*[st.floats(0, 1)] * 4))
@example((1, 1), (7, 5), (0, 1, 0, 1))
@example((40, 40), (1, 1), (0, 1, 0, 1))
@example((37, 23), (37, 23), (0.1, 0.9, 0.2, 0.7))
def test_resize_against_pillow(shape, size, ends):
    pixels = np.random.default_rng(shape).integers(0, 65536, shape, dtype=np.uint16)
    rows, columns = shape
    # Pillow keeps a box in float32: what is not exact there would be another box.
    x0, x1, y0, y1 = np.float32([*_interval(*ends[:2], columns), *_interval(*ends[2:], rows)]).tolist()
    y = rendered([ramp(pixels)], shape)[0, 0]
    peer = Image.fromarray(y).resize(size[::-1], Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))
    case = Case(**{**vars(ramp(pixels)), "box": (x0, y0, x1, y1)})
    assert_close("resize: Pillow", rendered([case], size)[0, 0], np.asarray(peer))


# torch 2.13 repeats the first row where the output is one column wide: Pillow and the oracle cover that.
@quick
@given(SIZES, st.tuples(st.integers(1, 40), st.integers(2, 40)))
def test_resize_against_torch(shape, size):
    pixels = np.random.default_rng(shape).integers(0, 65536, shape, dtype=np.uint16)
    y = torch.from_numpy(rendered([ramp(pixels)], shape)).double()
    peer = torch.nn.functional.interpolate(y, size, mode="bilinear", antialias=True, align_corners=False)
    assert_close("resize: torch", rendered([ramp(pixels)], size), peer.numpy())


@pytest.mark.parametrize(
    ("shape", "size"), [((512, 512), (224, 224)), ((700, 300), (64, 48)), ((300, 7), (9, 90))]
)
def test_large_pictures_in_many_segments(shape, size):
    pixels = np.random.default_rng(2).integers(0, 65536, shape, dtype=np.uint16)
    case = Case(**{**vars(ramp(pixels)), "box": (0.5, 130.25, shape[1] - 0.75, shape[0] - 3.5)})
    out = rendered([case], size, mode="pack")
    assert_close("whole: oracle", out[0], case.expected(size))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (64, 2)])
def test_a_flat_picture_stays_flat(shape):
    case = Case(pixels=np.full(shape, 51, np.uint8))
    out = rendered([case], (13, 17))
    assert_close("whole: oracle", out, np.full(out.shape, 0.2))


@quick
@given(boxed())
def test_a_flip_mirrors_the_same_bits(drawn):
    case, size = drawn
    plain, flipped = (
        Case(**{**vars(case), "target": None, "flip_x": flip, "flip_y": flip}) for flip in (False, True)
    )
    assert_same(rendered([flipped], size)[..., ::-1, ::-1], rendered([plain], size))


# --- geometry -------------------------------------------------------------------------------------


@quick
@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.tuples(*[st.sampled_from((0.25, 0.5, 1.0, 1.25, 3.0))] * 2),
    SIZES,
)
@example((3, 2), (1.0, 1.0), (3, 1))  # half a pixel
def test_letterbox_keeps_the_aspect_in_millimetres(shape, spacing_mm, size):
    fields = geometry.letterbox([shape[0]], [shape[1]], size=size, spacing_mm=[spacing_mm])
    found = tuple(int(fields[name][0]) for name in ("dst_x", "dst_y", "dst_w", "dst_h"))
    assert found == reference.letterbox(*shape, spacing_mm, size)


def test_letterbox_without_both_spacings_keeps_the_aspect_in_pixels():
    fields = geometry.letterbox(
        [50] * 4, [100] * 4, size=(32, 32), spacing_mm=[[np.nan, 2], [0, 1], [1, -1], [2, 1]]
    )
    assert fields["dst_h"].tolist() == [16, 16, 16, 32]
    assert fields["dst_y"].tolist() == [8, 8, 8, 0]


def test_stretch_fills_the_output():
    fields = geometry.stretch([5, 6], [7, 8], size=(10, 20))
    assert {name: values.tolist() for name, values in fields.items()} == {
        "dst_x": [0, 0],
        "dst_y": [0, 0],
        "dst_w": [20, 20],
        "dst_h": [10, 10],
    }


def test_letterbox_bars_are_background():
    pixels = np.full((40, 20), 255, np.uint8)
    size = (24, 24)
    target = reference.letterbox(40, 20, (0.5, 2.0), size)  # wide on the patient: bars above and below
    case = Case(pixels=pixels, target=target)
    out = rendered([case], size, mean=(0.25, 0.5, 0.75), std=(0.5, 1.0, 2.0), channels=3)[0]
    assert target == (0, 6, 24, 12)
    assert_same(out[:, 0, 0], np.array([-0.5, -0.5, -0.375], np.float32))
    assert_same(out[:, 23, 23], np.array([-0.5, -0.5, -0.375], np.float32))
    assert_close("whole: oracle", out[0] * 0.5 + 0.25, case.expected(size)[0])
