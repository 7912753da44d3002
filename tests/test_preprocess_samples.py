"""Samples of the output: normalised, in float32, bfloat16 and float16, against NumPy and torch."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pixels import Case, rendered
from processors import SETS, compiled_for
from test_preprocess import boxed
from tolerances import assert_close, assert_same, bfloat16_steps

quick = settings(max_examples=60, deadline=None)


@quick
@given(boxed(), st.floats(0, 1), st.floats(0.05, 2))
def test_normalised_channels(drawn, mean, std):
    case, size = drawn
    means, stds = (mean, 0.5, 0.0), (std, 0.25, 1.0)
    out = rendered([case], size, mean=means, std=stds, channels=3)[0]
    for channel in range(3):
        assert_close("whole: oracle", out[channel] * stds[channel] + means[channel], case.expected(size)[0])


@quick
@given(boxed())
def test_bfloat16_is_the_float32_rounded_to_nearest_even(drawn):
    case, size = drawn
    options = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "channels": 3}
    wide = rendered([case], size, **options)
    narrow = rendered([case], size, dtype="bfloat16", **options)
    assert_same(narrow, reference.bfloat16_bits(wide))
    as_torch = torch.from_numpy(narrow.view(np.int16)).view(torch.bfloat16)
    assert torch.equal(as_torch, torch.from_numpy(wide).bfloat16())
    mean, std = (np.array(options[name])[:, None, None] for name in ("mean", "std"))
    expected = (case.expected(size) - mean) / std
    assert_close("bfloat16: oracle", *bfloat16_steps(as_torch.float().numpy()[0], expected))


@quick
@given(boxed(), st.sampled_from((0.225, 3e-5, 1e-6)))
def test_float16_is_the_float32_rounded_to_nearest_even(drawn, std):
    case, size = drawn
    options = {"mean": (0.485, 0.456, 0.406), "std": (std, 1.0, 0.25), "channels": 3}
    wide = rendered([case], size, **options)
    narrow = rendered([case], size, dtype="float16", **options)
    assert_same(narrow, reference.float16_bits(wide).view(np.float16))
    assert torch.equal(torch.from_numpy(narrow), torch.from_numpy(wide).half())


EDGES_OF_FLOAT16 = (
    0.0,
    2**-25,
    2**-24,
    3 * 2**-25,
    2**-14,
    1.0,
    1 + 2**-11,
    65503.9,
    65504.0,
    65519.99,
    65520.0,
)


@pytest.mark.parametrize("name", SETS)
def test_float16_at_its_edges(name):
    """Ties, subnormal numbers, the largest and infinity: y = 1 becomes exactly the number wanted."""
    pixels = np.full((3, 17), 255, np.uint8)
    for value in [sign * edge for edge in EDGES_OF_FLOAT16 for sign in (1, -1)]:
        wanted = np.float32(value)
        with compiled_for(
            name
        ):  # y - (1 - value) would round: mean = -value, std so large that y adds nothing
            out = rendered(
                [Case(pixels=pixels)], (3, 17), mean=-value * 2.0**126, std=2.0**126, dtype="float16"
            )
        expected = wanted if value else np.float32(2.0**-126)
        with np.errstate(over="ignore"):
            assert_same(out, np.full(out.shape, expected.astype(np.float16)))
        assert_same(out, np.full(out.shape, reference.float16_bits(expected[None]).view(np.float16)[0]))
