"""Percentiles of stored values: bit for bit those of the oracle, and NumPy's."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of

from pyrad import ops

DTYPES = ("uint8", "int8", "uint16", "int16")
FRACTIONS = [0.0, 0.01, 0.25, 0.5, 0.99, 1.0]


@st.composite
def cases(draw):
    """An image of any dtype, few or many different values, and a padding range or none."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    info = np.iinfo(dtype)
    values = of.from_dtype(dtype)
    if draw(st.booleans()):
        values = st.sampled_from([info.min, info.min + 1, 0, info.max])
    shape = draw(of.array_shapes(min_dims=1, max_dims=3, max_side=12))
    ends = st.integers(info.min - 2, info.max + 2)
    padding = draw(st.none() | st.tuples(ends, ends).map(lambda pair: tuple(sorted(pair))))
    return draw(of.arrays(dtype, shape, elements=values)), padding


@settings(max_examples=300, deadline=None)
@given(cases())
def test_they_are_the_oracle_s(case):
    image, padding = case
    found = ops.percentiles(image, FRACTIONS, padding=padding)
    assert list(found) == reference.percentiles(image, FRACTIONS, padding)
    if padding is None:
        expected = np.percentile(image.astype(np.float64), [100 * fraction for fraction in FRACTIONS])
        assert found == pytest.approx(tuple(expected), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_and_a_large_image(dtype):
    info = np.iinfo(dtype)
    image = np.random.default_rng(1).integers(info.min, info.max, (513, 700), dtype, endpoint=True)
    assert list(ops.percentiles(image, FRACTIONS)) == reference.percentiles(image, FRACTIONS, None)
    swap = image[::-1, ::2]  # not contiguous
    assert ops.percentiles(swap, FRACTIONS) == ops.percentiles(swap.copy(), FRACTIONS)


def test_padding_alone_and_no_pixels_have_none():
    assert ops.percentiles(np.full((4, 4), -9, np.int16), [0.5], padding=(-9, -9)) == ()
    assert ops.percentiles(np.zeros((0, 4), np.uint8), [0.5]) == ()


def test_what_is_refused():
    with pytest.raises(ValueError, match="fractions from 0 to 1"):
        ops.percentiles(np.zeros((2, 2), np.uint8), [1.5])
    with pytest.raises(TypeError, match="float32"):
        ops.percentiles(np.zeros((2, 2), np.float32), [0.5])
