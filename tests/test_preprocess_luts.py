"""The core's lookup tables: every stored value against the formulas of PS3.3 in float64, and the twins."""

import numpy as np
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pixels import SAMPLES, Case, lut_of, render, rendered
from processors import SETS, compiled_for
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from stores import build
from tolerances import assert_close

from pyrad import ops, voi
from pyrad.loader import luts
from pyrad.loader.loader import Loader
from pyrad.records import Window
from pyrad.store.reader import open_store

DTYPES = ("uint8", "int8", "uint16", "int16")
FALLING, RISING = list(range(65535, -1, -1)), list(range(4096))
quick = settings(max_examples=60, deadline=None)


def every_value(dtype):
    info = np.iinfo(dtype)
    return np.arange(info.min, info.max + 1).astype(dtype).reshape(-1, 256)


@st.composite
def tables(draw):
    """First, bits and entries of a table; the bits are what the entries need, or more."""
    bits = draw(st.integers(1, 16))
    entries = draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=1, max_size=60))
    return draw(st.integers(-400, 400)), bits, entries


@st.composite
def cases(draw):
    dtype = draw(st.sampled_from(DTYPES))
    info = np.iinfo(dtype)
    cells = st.integers(info.min, info.max) | st.integers(max(info.min, -500), min(info.max, 500))
    values = draw(st.lists(cells, min_size=12, max_size=12))
    return Case(
        pixels=np.array(values, dtype).reshape(3, 4),
        slope=draw(st.sampled_from([1.0, -1.0, 0.5, 2.0, 0.1, -0.37])),
        intercept=draw(st.sampled_from([0.0, -1024.0, 0.5, 12.25, 1e9, -1e300])),
        center=draw(st.floats(-500, 500)),
        width=draw(st.sampled_from([1.0, 2.0, 100.0, 4095.0])),
        function=draw(st.sampled_from(voi.FUNCTIONS)),
        padding=draw(st.none() | st.tuples(st.integers(-400, 0), st.integers(0, 400))),
        invert=draw(st.booleans()),
        modality_lut=draw(st.none() | tables()),
        voi_lut=draw(st.none() | tables()),
    )


@quick
@given(cases())
@example(Case(pixels=every_value("int16"), modality_lut=(-32768, 16, FALLING), width=65535))
@example(Case(pixels=every_value("uint16"), voi_lut=(0, 16, FALLING), invert=True))
@example(Case(pixels=every_value("int16"), voi_lut=(-1024, 12, RISING), intercept=-1024, slope=0.5))
def test_tables_follow_the_standard(case):
    shape = case.pixels.shape[-2:]
    assert_close("lookup tables: oracle", rendered([case], shape)[0, 0], case.windowed()[0])


@quick
@given(cases(), st.sampled_from(SAMPLES))
def test_the_processor_changes_no_bit(case, dtype):
    fast = rendered([case], (7, 5), dtype=dtype)
    for name in SETS[1:]:
        with compiled_for(name):
            np.testing.assert_array_equal(fast, rendered([case], (7, 5), dtype=dtype))


def test_exact_numbers():
    stored = np.array([[-32768, -2, -1, 0, 1, 32767]], np.int16)
    modality = (-1, 12, [4095, 100, 7])
    voi = (7, 8, [255, 51, 0])
    through_both = rendered([Case(pixels=stored, modality_lut=modality, voi_lut=voi)], (1, 6))[0, 0, 0]
    assert through_both.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    window = Case(pixels=stored, modality_lut=modality, center=2047.5, width=4095)
    shown = rendered([window], (1, 6))[0, 0, 0]
    np.testing.assert_allclose(shown, np.array([4095, 4095, 4095, 100, 7, 7]) / 4095, rtol=1e-6)
    inverted = Case(pixels=stored, voi_lut=(-1, 8, [0, 51, 255]), invert=True, padding=(32767, 32767))
    np.testing.assert_array_equal(
        rendered([inverted], (1, 6))[0, 0, 0], np.float32([1, 1, 1, 1 - np.float32(0.2), 0, 0])
    )


def test_the_greatest_entry_is_shown_as_1_at_every_depth():
    for bits in range(1, 17):
        case = Case(pixels=np.array([[0, 1]], np.uint8), voi_lut=(0, bits, [0, (1 << bits) - 1]))
        assert rendered([case], (1, 2))[0, 0, 0].tolist() == [0.0, 1.0]


def test_pydicom_agrees_where_it_does_not_overflow():
    stored = every_value("uint16")[:16]
    entries = np.random.default_rng(0).integers(0, 4096, 300).tolist()
    item = Dataset()
    item.LUTDescriptor = [300, 50, 12]
    item.LUTData = entries
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    dataset = Dataset()
    dataset.VOILUTSequence = [item]
    case = Case(pixels=stored, voi_lut=(50, 12, entries))
    np.testing.assert_array_equal(
        rendered([case], stored.shape)[0, 0], (apply_voi_lut(stored, dataset) / 4095).astype(np.float32)
    )
    item.LUTDescriptor = [300, 50, 16]  # pydicom knows 8 and 16
    dataset.ModalityLUTSequence = [item]
    case = Case(pixels=stored, modality_lut=(50, 12, entries), center=2047.5, width=4095)
    theirs = apply_modality_lut(stored, dataset) / 4095
    assert_close("lookup tables: oracle", rendered([case], stored.shape)[0, 0], theirs)


IMPOSSIBLE = [
    {"voi": voi.Voi.RAMP},
    {"voi": 4},
    {"a": 0.5},
    {"a": np.nan},
    {"voi_lut": (0, 4, 0)},
    {"voi_lut": (4, 1, 0)},
    {"voi_lut": (1 << 63, 3, 0)},
    {"voi_lut": (0, 3, (1 << 17) + 1)},
    {"voi_lut": (0, 0, 0)},
    {"modality_lut": (0, 4, 0)},
    {"modality_lut": (2**64 - 1, 2, 0)},
    {"modality_lut": (0, 2**32 - 1, 0)},
    {"modality_lut": (0, 3, -(1 << 17) - 1)},
]


@pytest.mark.parametrize("changed", IMPOSSIBLE)
def test_a_record_that_leaves_the_tables_is_refused(changed):
    case = {"pixels": np.ones((4, 4), np.uint8), "voi_lut": (0, 8, [1, 2, 3])}
    out, statuses = render([Case(**case), Case(**case, changed=changed), Case(**case)], (2, 2))
    assert statuses == [ops.Status.OK, ops.Status.RECORD, ops.Status.OK]
    assert not out[1].any()
    np.testing.assert_array_equal(out[0], out[2])


# From a store


IMAGE = np.arange(64, dtype=np.int16).reshape(8, 8) * 16 - 512
VOI = (-512, 12, list(range(0, 4096, 4)))
DEEP = (0, 11, list(range(2001)))
MODALITY = (-512, 16, list(range(2000, 0, -2)))
CT = {"modality": "CT"}
PADDED = {"padding": (-512, -480)}
WINDOW = Window(center=40.0, width=80.0)  # the preset "brain"


def percentile_window():
    """What the Modality LUT makes of all stored values from p1 to p99."""
    low, high = np.percentile(IMAGE, [1, 99])
    values = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    made = [reference.looked_up(value, *MODALITY) for value in values]
    return {"center": (max(made) + min(made)) / 2, "width": max(made) - min(made)}


# Facts in the store; what "auto" shows; whether a preset for CT changes it
STORED = [
    ({"voi_lut": VOI, "window_center": (0.0,), "window_width": (100.0,)}, {"voi_lut": VOI}),
    (
        {"voi_lut": VOI, "slope": 2.0, "intercept": -3.5, **CT},
        {"voi_lut": VOI, "slope": 2.0, "intercept": -3.5},
    ),
    (
        {"modality_lut": MODALITY, "window_center": (1500.0,), "window_width": (800.0,), **CT},
        {"modality_lut": MODALITY, "center": 1500.0, "width": 800.0, "function": "LINEAR"},
    ),
    ({"modality_lut": MODALITY}, {"modality_lut": MODALITY, **percentile_window()}),
    ({"modality_lut": MODALITY, "voi_lut": DEEP, **CT}, {"modality_lut": MODALITY, "voi_lut": DEEP}),
    (
        {"window_center": (0.0,), "window_width": (100.0,)},
        {"center": 0.0, "width": 100.0, "function": "LINEAR"},
    ),
    (
        {"voi_lut": VOI, "photometric": "MONOCHROME1", **PADDED},
        {"voi_lut": VOI, "invert": True, **PADDED},
    ),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    facts = [
        fact | {name: lut_of(fact[name]) for name in ("voi_lut", "modality_lut") if name in fact}
        for fact, _ in STORED
    ]
    path = build(tmp_path_factory.mktemp("luts") / "a.zarr", [IMAGE] * len(facts), facts)
    with open_store(path) as opened:
        yield opened


def shown(store, window):
    loader = Loader(store, batch_size=len(STORED), size=8, window=window, shuffle=False, mean=(0,), std=(1,))
    return next(iter(loader)).images.float().numpy()[:, 0]


def test_auto_prefers_the_voi_lut(store):
    for image, (_, case) in zip(shown(store, "auto"), STORED, strict=True):
        assert_close("lookup tables: oracle", image, Case(pixels=IMAGE, **case).windowed()[0])


@pytest.mark.parametrize("window", ["brain", WINDOW])
def test_presets_and_windows_take_the_place_of_a_voi_lut_but_not_of_a_modality_lut(store, window):
    for image, (fact, case) in zip(shown(store, window), STORED, strict=True):
        if window is WINDOW or "modality" in fact:
            other = {"voi_lut": None, "center": 40.0, "width": 80.0, "function": "LINEAR"}
            case = case | other  # noqa: PLW2901 - the rest of the case stays
        assert_close("lookup tables: oracle", image, Case(pixels=IMAGE, **case).windowed()[0])


def test_a_table_is_laid_out_once_for_all_its_samples():
    every = [lut_of(VOI), lut_of(DEEP)]
    voi = np.array([0, 0, 1, 0, -1])
    slope, intercept = np.array([1.0, 1, 1, 2, 1]), np.array([0.0, -1024, 0, 0, 5])
    pool = luts.Pool(every)
    tables = pool.gather(np.full(5, -1), voi, slope, intercept)
    entries = pool.entries()
    assert len(entries) == len(VOI[2]) + len(DEEP[2]) + (1 << 16) + (1 << 15)
    assert tables.voi["first"].tolist() == [-512, 512, 0, -32768, 0]
    assert tables.voi["count"].tolist() == [1024, 1024, 2001, 98304, 0]
    assert tables.greatest.tolist() == [4095, 4095, 2047, 4095, 1]
    again = pool.gather(np.full(5, -1), voi, slope, intercept)
    assert again.voi.tolist() == tables.voi.tolist()
    assert len(pool.entries()) == len(entries), "and once for all that come later"
