"""The samples' own VOI LUTs and windows, or one that was asked for -> what each sample is seen through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad.errors import IntegrityError, UsageError
from pyrad.loader.luts import shown_range
from pyrad.records import Lut, Window

# In HU, for CT. Source: the table of "Windowing (CT)", Radiopaedia.org; subdural is the middle of its range.
PRESETS: Mapping[str, Window] = MappingProxyType(
    {
        "lung": Window(center=-600.0, width=1500.0),
        "brain": Window(center=40.0, width=80.0),
        "bone": Window(center=400.0, width=1800.0),
        "abdomen": Window(center=50.0, width=400.0),
        "subdural": Window(center=75.0, width=215.0),
    }
)
NAMES = ("auto", *PRESETS)

COLUMNS = (
    "modality",
    "slope",
    "intercept",
    "window_center",
    "window_width",
    "voi_function",
    "bits_stored",
    "percentiles",
    "voi_lut",
    "modality_lut",
)


@dataclass(frozen=True, kw_only=True)
class ChosenWindows:
    """One window a sample, (n,) each: rescale by ``slope`` and ``intercept``, then the window behind it.

    ``function`` holds "LINEAR", "LINEAR_EXACT" or "SIGMOID" (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3).
    ``modality_lut`` is the number of the table in place of the rescale, ``voi_lut`` of the one in place of
    the window; -1 for none.
    """

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]
    center: NDArray[np.float64]
    width: NDArray[np.float64]
    function: NDArray[np.str_]
    modality_lut: NDArray[np.int64]
    voi_lut: NDArray[np.int64]


def choose(
    samples: Mapping[str, Any],
    rows: NDArray[np.int64],
    is_u8: NDArray[np.bool_],
    window: str | Window,
    luts: Sequence[Lut],
) -> ChosenWindows:
    """Choose a window for the samples ``rows`` of a store's table; ``is_u8`` says which of them are uint8.

    ``auto``: a sample's own VOI LUT; without one, the first of its windows; without one, 0 to 255 for 8-bit
    images and p1 to p99 of the stored unpadded values for others, or what its Modality LUT makes of them. A
    preset is in HU: it is for CT samples, the others keep ``auto``. A `Window` is for all, in modality units.
    ``luts`` are the tables of the store.

    Raises:
        UsageError: no such preset, a preset without a CT sample, or a width that is no width.
        IntegrityError: a rescale that no ingest writes.

    """
    columns = {name: samples[name].take(rows) for name in COLUMNS}
    chosen = _auto(columns, is_u8, luts)
    if isinstance(window, str):
        if window == "auto":
            return chosen
        if window not in PRESETS:
            raise UsageError(f"window {window!r} is none of {', '.join(NAMES)}; or give a Window")
        everyone = pc.fill_null(pc.equal(columns["modality"], "CT"), fill_value=False).to_numpy()
        if not everyone.any():
            raise UsageError(
                f"window {window!r} is in HU and this split holds no CT; use auto, or give a Window"
            )
        wanted = PRESETS[window]
    else:
        wanted, everyone = window, np.ones(len(rows), dtype=bool)
    if not (np.isfinite(wanted.center) and 0 < wanted.width < np.inf):
        raise UsageError(f"window center {wanted.center}, width {wanted.width}: the width must be above 0")
    return ChosenWindows(
        slope=np.where(everyone, _floats(columns["slope"]), chosen.slope),
        intercept=np.where(everyone, _floats(columns["intercept"]), chosen.intercept),
        center=np.where(everyone, wanted.center, chosen.center),
        width=np.where(everyone, wanted.width, chosen.width),
        function=np.where(everyone, wanted.function, chosen.function),
        modality_lut=chosen.modality_lut,
        voi_lut=np.where(everyone, -1, chosen.voi_lut),
    )


def _auto(columns: Mapping[str, Any], is_u8: NDArray[np.bool_], luts: Sequence[Lut]) -> ChosenWindows:
    slope, intercept = _floats(columns["slope"]), _floats(columns["intercept"])
    center, width = _first(columns["window_center"]), _first(columns["window_width"])
    wrong = ~(np.isfinite(slope) & (slope != 0) & np.isfinite(intercept))
    if wrong.any():
        raise IntegrityError(
            f"{int(wrong.sum())} rows of the samples table have slope 0 or a rescale that is not finite, "
            "which no ingest writes; run `pyrad verify`"
        )
    own = np.isfinite(center) & (width > 0) & np.isfinite(width)
    # An 8-bit image without a window is what a viewer shows as it is: never stretched to its percentiles.
    modality_lut, voi_lut = (
        pc.fill_null(columns[name], -1).to_numpy().astype(np.int64) for name in ("modality_lut", "voi_lut")
    )
    as_is = ~own & is_u8 & (_floats(columns["bits_stored"]) == 8) & (modality_lut < 0)
    percentiles = _floats(pc.list_flatten(columns["percentiles"])).reshape(-1, 2)
    ends = np.sort(percentiles * slope[:, None] + intercept[:, None], axis=1)  # a negative slope swaps them
    for row in np.flatnonzero(modality_lut >= 0):
        ends[row] = shown_range(luts[modality_lut[row]], *percentiles[row])
    spread = ends[:, 1] - ends[:, 0]
    # A flat image has no spread; one stored step keeps its window a window.
    spread = np.where(spread > 0, spread, np.abs(slope))
    functions = pc.fill_null(columns["voi_function"], "LINEAR").to_numpy(zero_copy_only=False).astype(np.str_)
    return ChosenWindows(
        slope=np.where(as_is, 1.0, slope),
        intercept=np.where(as_is, 0.0, intercept),
        center=np.where(own, center, np.where(as_is, 127.5, ends.mean(axis=1))),
        width=np.where(own, width, np.where(as_is, 255.0, spread)),
        function=np.where(own, functions, "LINEAR_EXACT"),
        modality_lut=modality_lut,
        voi_lut=voi_lut,
    )


def _first(lists: Any) -> NDArray[np.float64]:
    """First element of each list, nan where there is none."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    first = np.full(len(lengths), np.nan)
    starts = np.cumsum(lengths) - lengths
    first[lengths > 0] = _floats(pc.list_flatten(lists))[starts[lengths > 0]]
    return first


def _floats(column: Any) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(), dtype=np.float64)
