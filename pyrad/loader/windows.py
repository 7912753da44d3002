"""The samples' own VOI LUTs and windows, or one that was asked for -> what each sample is seen through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad.errors import IntegrityError, UsageError
from pyrad.loader.luts import shown_range
from pyrad.loader.presets import BY_ANATOMY, NAMES, PRESETS, Asked
from pyrad.records import Lut, Window

COLUMNS = (
    "modality",
    "anatomy",
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
AUTO = -1  # in the place of the number of an own window


@dataclass(frozen=True, kw_only=True)
class ChosenWindows:
    """One window a sample, (n,) each: rescale by ``slope`` and ``intercept``, then the window behind it.

    ``function`` holds "LINEAR", "LINEAR_EXACT" or "SIGMOID" (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3).
    ``modality_lut`` is the number of the table in place of the rescale, ``voi_lut`` of the one in place of
    the window; -1 for none. Of several windows a sample, every field is (n, windows).
    """

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]
    center: NDArray[np.float64]
    width: NDArray[np.float64]
    function: NDArray[np.str_]
    modality_lut: NDArray[np.int64]
    voi_lut: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.int64]) -> Self:
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def where(self, there: NDArray[np.bool_], other: Mapping[str, Any]) -> Self:
        """The same with the fields of ``other`` for those samples that are ``there``."""
        changed = {name: np.where(there, value, getattr(self, name)) for name, value in other.items()}
        return replace(self, **changed)


def side_by_side(chosen: Sequence[ChosenWindows]) -> ChosenWindows:
    """Several windows for the same samples: (n, windows)."""
    return ChosenWindows(
        **{
            field.name: np.stack([getattr(each, field.name) for each in chosen], axis=1)
            for field in fields(ChosenWindows)
        }
    )


class Chooser:
    """Chooses a window for every sample, some samples at a time.

    ``auto``: a sample's own VOI LUT; without one, the first of its windows; without one, 0 to 255 for 8-bit
    images and p1 to p99 of the stored unpadded values for others (of an MR image's whole series), or what its
    Modality LUT makes of them. A preset is in HU, ``anatomy`` is the preset for a sample's anatomy: they are
    for CT whose values are HU, so not for 8-bit rasters; the others keep ``auto``. A number is that of one of
    a sample's own windows, from 0; who has fewer keeps ``auto``. A `Window` is for all, in modality units.

    Raises:
        UsageError: no such preset, or a width that is no width.

    """

    def __init__(self, window: Asked) -> None:
        if isinstance(window, str) and window not in NAMES:
            raise UsageError(
                f"window {window!r} is none of {', '.join(NAMES)}; or give the number of one of the images' "
                "own, from 0, or a Window"
            )
        if isinstance(window, Window) and not (np.isfinite(window.center) and 0 < window.width < np.inf):
            raise UsageError(
                f"window center {window.center}, width {window.width}: the width must be above 0"
            )
        self._window = window
        self._found = False  # whether any sample so far is seen through a preset
        self._most = 0  # windows of its own that a sample so far has

    def choose(
        self, columns: Mapping[str, Any], is_u8: NDArray[np.bool_], luts: Sequence[Lut]
    ) -> ChosenWindows:
        """Choose for n samples with these ``columns``; ``is_u8`` says which of them are uint8.

        ``luts`` are the tables of the store.

        Raises:
            IntegrityError: a rescale that no ingest writes.

        """
        chosen, window = _auto(columns, is_u8, luts), self._window
        if isinstance(window, int):
            self._most = max(self._most, int(own_counts(columns["window_center"]).max(initial=0)))
            return _own(columns, chosen, np.full(len(is_u8), window))
        if isinstance(window, Window):
            return _through(columns, chosen, window, np.ones(len(is_u8), dtype=np.bool_))
        return chosen if window == "auto" else self._preset(columns, chosen, is_u8, window)

    def refuse_unused(self) -> None:
        """Raise UsageError where no sample at all is seen through what was asked for."""
        window = self._window
        if isinstance(window, int) and not 0 <= window < self._most:
            raise UsageError(
                f"window {window}: the images of this split have at most {self._most} windows of their own, "
                "and they count from 0; use auto, a preset or a Window"
            )
        if isinstance(window, str) and window != "auto" and not self._found:
            of_which = " of an anatomy with a preset" if window == "anatomy" else ""
            raise UsageError(
                f"window {window!r} is for CT in HU, and this split holds no CT in HU{of_which}; use auto, "
                "or give a Window"
            )

    def _preset(
        self, columns: Mapping[str, Any], chosen: ChosenWindows, is_u8: NDArray[np.bool_], window: str
    ) -> ChosenWindows:
        """One preset, or that for the anatomy, where the values are HU."""
        is_ct = pc.fill_null(pc.equal(columns["modality"], "CT"), fill_value=False).to_numpy()
        as_they_are = (chosen.slope == 1) & (chosen.intercept == 0) & is_u8  # a picture's values, of whatever
        in_hu = is_ct & ~as_they_are
        for name, preset in PRESETS.items() if window == "anatomy" else ((window, PRESETS[window]),):
            there = in_hu
            if window == "anatomy":
                words = pa.array([word for word, its in BY_ANATOMY.items() if its == name], pa.string())
                there = there & pc.is_in(columns["anatomy"].cast(pa.string()), value_set=words).to_numpy()
            chosen = _through(columns, chosen, preset, there)
            self._found = self._found or bool(there.any())
        return chosen


def choose_numbered(
    columns: Mapping[str, Any], is_u8: NDArray[np.bool_], number: NDArray[np.int64], luts: Sequence[Lut]
) -> ChosenWindows:
    """Choose, for each of n samples, its own window of that ``number`` (n,), or ``auto`` for AUTO."""
    return _own(columns, _auto(columns, is_u8, luts), number)


def own_counts(window_center: Any) -> NDArray[np.int64]:
    """How many windows of their own samples have, of the column ``window_center``: (n,)."""
    return np.asarray(pc.fill_null(pc.list_value_length(window_center), 0).to_numpy(), dtype=np.int64)


def _own(columns: Mapping[str, Any], chosen: ChosenWindows, number: NDArray[np.int64]) -> ChosenWindows:
    """The own window of that number (n,) where there is one, and in place of a VOI LUT."""
    center, width = (_nth(columns[name], number) for name in ("window_center", "window_width"))
    return chosen.where(
        _is_window(center, width),
        {
            "slope": _floats(columns["slope"]),
            "intercept": _floats(columns["intercept"]),
            "center": center,
            "width": width,
            "function": _functions(columns),
            "voi_lut": -1,
        },
    )


def _through(
    columns: Mapping[str, Any], chosen: ChosenWindows, window: Window, there: NDArray[np.bool_]
) -> ChosenWindows:
    """One window for all that are ``there``."""
    return chosen.where(
        there,
        {
            "slope": _floats(columns["slope"]),
            "intercept": _floats(columns["intercept"]),
            "center": window.center,
            "width": window.width,
            "function": window.function,
            "voi_lut": -1,
        },
    )


def _auto(columns: Mapping[str, Any], is_u8: NDArray[np.bool_], luts: Sequence[Lut]) -> ChosenWindows:
    slope, intercept = _floats(columns["slope"]), _floats(columns["intercept"])
    wrong = ~(np.isfinite(slope) & (slope != 0) & np.isfinite(intercept))
    if wrong.any():
        raise IntegrityError(
            f"{int(wrong.sum())} rows of the samples table have slope 0 or a rescale that is not finite, "
            "which no ingest writes; run `pyrad verify`"
        )
    first = np.zeros(len(slope), dtype=np.int64)
    center, width = (_nth(columns[name], first) for name in ("window_center", "window_width"))
    own = _is_window(center, width)
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
    return ChosenWindows(
        slope=np.where(as_is, 1.0, slope),
        intercept=np.where(as_is, 0.0, intercept),
        center=np.where(own, center, np.where(as_is, 127.5, ends.mean(axis=1))),
        width=np.where(own, width, np.where(as_is, 255.0, spread)),
        function=np.where(own, _functions(columns), "LINEAR_EXACT"),
        modality_lut=modality_lut,
        voi_lut=voi_lut,
    )


def _is_window(center: NDArray[np.float64], width: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(center) & (width > 0) & np.isfinite(width)


def _functions(columns: Mapping[str, Any]) -> NDArray[np.str_]:
    functions = pc.fill_null(columns["voi_function"], "LINEAR").to_numpy(zero_copy_only=False)
    return np.asarray(functions.astype(np.str_))


def _nth(lists: Any, number: NDArray[np.int64]) -> NDArray[np.float64]:
    """Element ``number`` (n,) of each list, nan where there is none."""
    lengths = own_counts(lists)
    nth = np.full(len(lengths), np.nan)
    starts = np.cumsum(lengths) - lengths
    there = (number >= 0) & (number < lengths)
    nth[there] = _floats(pc.list_flatten(lists))[(starts + number)[there]]
    return nth


def _floats(column: Any) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(), dtype=np.float64)
