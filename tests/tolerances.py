"""How far results may lie from each outside oracle, and why: one table, never widened to pass.

Our own twins (threads, codecs, processors, devices) are compared bit for bit and have no row here. What the
tests measured is kept and printed at the end of a test run, beside the bounds.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """A bound on absolute differences in y, on [0, 1], or in steps (ulp) of the compared type."""

    name: str
    bound: float
    unit: str
    reason: str


_FLOAT32 = "float32 against float64: a few roundings of 6e-8, grown by the number of taps"

TABLE = (
    Tolerance(name="window: oracle", bound=1e-5, unit="y", reason=_FLOAT32),
    Tolerance(name="window: pydicom", bound=1e-5, unit="y", reason=_FLOAT32),
    Tolerance(name="lookup tables: oracle", bound=1e-5, unit="y", reason=_FLOAT32),
    Tolerance(name="whole: oracle", bound=1e-5, unit="y", reason=_FLOAT32),
    Tolerance(
        name="resize: Pillow",
        bound=1e-5,
        unit="y",
        reason="Pillow takes a box's width in float32, and rounds to it between its passes",
    ),
    Tolerance(name="resize: torch", bound=1e-5, unit="y", reason=f"torch in double; {_FLOAT32}"),
    Tolerance(name="turn: torch", bound=1e-5, unit="y", reason=f"grid_sample in double; {_FLOAT32}"),
    Tolerance(name="turn: scipy", bound=1e-5, unit="y", reason=f"affine_transform in double; {_FLOAT32}"),
    Tolerance(
        name="bfloat16: oracle",
        bound=1,
        unit="ulp",
        reason="half a step is rounding; float32's own difference may carry it over a tie",
    ),
)
_BY_NAME = {tolerance.name: tolerance for tolerance in TABLE}
_measured: dict[str, float] = {}


def assert_close(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
    """Compare two arrays of one shape under the bound ``name``; say how many, where and what if it fails."""
    tolerance = _BY_NAME[name]
    assert actual.shape == expected.shape
    difference = np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64))
    bad = ~(difference <= tolerance.bound)  # a NaN is bad
    if bad.any():
        worst = np.unravel_index(np.where(bad, np.nan_to_num(difference, nan=np.inf), -1).argmax(), bad.shape)
        at = tuple(int(index) for index in worst)
        raise AssertionError(
            f"{name}: {bad.sum()} of {bad.size} differ by more than {tolerance.bound:g} {tolerance.unit}; "
            f"the worst at {at}: {actual[at]!r}, expected {expected[at]!r}"
        )
    _measured[name] = max(_measured.get(name, 0.0), float(difference.max(initial=0.0)))


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    """Compare two arrays bit for bit; say how many, where and what if they differ."""
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    raw = f"u{actual.itemsize}"
    bad = np.ascontiguousarray(actual).view(raw) != np.ascontiguousarray(expected).view(raw)
    if bad.any():
        at = tuple(int(index) for index in np.argwhere(bad)[0])
        raise AssertionError(
            f"{bad.sum()} of {bad.size} differ in their bits; the first at {at}: "
            f"{actual[at]!r}, expected {expected[at]!r}"
        )


def bfloat16_steps(actual: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in steps of bfloat16 at the expected value, of which a step is 2^-7 of its power of two.

    Below 2^-8 a step no longer shrinks: there float32's own difference, absolute, is larger than a step.
    """
    _, exponent = np.frexp(np.maximum(np.abs(expected), 2.0**-8))
    step = np.ldexp(1.0, exponent - 8)  # frexp's mantissa is in [0.5, 1)
    return actual / step, expected / step


def report() -> list[str]:
    """One line a bound: the largest difference that this run measured beside what is allowed."""
    return [
        f"{t.name:<22} {_measured[t.name]:<9.3g} of {t.bound:g} {t.unit:<4} {t.reason}"
        for t in TABLE
        if t.name in _measured
    ]
