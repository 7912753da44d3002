"""Windows, lookup tables and what is drawn of them -> the window fields of a batch's records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad import voi
from pyrad.errors import UsageError
from pyrad.loader import luts, windows
from pyrad.loader.augment import Augment, Drawn
from pyrad.loader.blocks import Made, by_block
from pyrad.loader.presets import Asked
from pyrad.store.reader import Store

_COLUMNS = ("padding_low", "padding_high", "photometric")  # beside those of the windows


class Views:
    """What each of n samples is seen through: one window, or three; ``lut_entries`` are of all its tables.

    Every sample has one row of windows, or, where one of its own is drawn, as many as there are to draw.
    """

    def __init__(
        self,
        store: Store,
        samples: NDArray[np.int64],
        is_u8: NDArray[np.bool_],
        window: Asked | tuple[Asked, ...],
        augment: Augment | None,
    ) -> None:
        self._count = np.ones(len(samples), dtype=np.int64)
        numbers: NDArray[np.int64] | None = None
        if augment is not None and augment.any_window:
            if window != "auto":
                raise UsageError(
                    f"augment: any_window draws of an image's own windows, not of {window!r}: give auto"
                )
            self._count, numbers = _to_draw(store, samples)
            samples, is_u8 = np.repeat(samples, self._count), np.repeat(is_u8, self._count)
        self._first = np.cumsum(self._count) - self._count
        self._pool = luts.Pool(store.luts.all())
        choosers = [windows.Chooser(each) for each in (window if isinstance(window, tuple) else (window,))]
        self._ready = augment is None or not augment.changes_windows

        def make(columns: Mapping[str, Any], here: slice) -> Made:
            if numbers is None:
                each = [chooser.choose(columns, is_u8[here], self._pool.luts) for chooser in choosers]
            else:
                each = [windows.choose_numbered(columns, is_u8[here], numbers[here], self._pool.luts)]
            return self._rows_of(columns, windows.side_by_side(each))

        self._rows = by_block(store.samples, samples, [*windows.COLUMNS, *_COLUMNS], make)
        self.lut_entries = self._pool.entries()
        for chooser in choosers:
            chooser.refuse_unused()

    def fields(self, places: NDArray[np.int64], drawn: Drawn | None) -> dict[str, NDArray[Any]]:
        """The fields of the records of the samples at ``places`` (b,), as ``drawn`` changes their windows."""
        rows = self._first[places]
        if drawn is not None:
            rows = rows + (drawn.window * self._count[places]).astype(np.int64)
        seen = {name: values[rows] for name, values in self._rows.items()}
        if self._ready:
            return seen
        if drawn is not None:
            seen["center"] = seen["center"] + seen["width"] * drawn.window_center[:, None]
            seen["width"] = seen["width"] * drawn.window_width[:, None]
        return _fields(seen)

    def _rows_of(self, columns: Mapping[str, Any], chosen: windows.ChosenWindows) -> Made:
        """What is kept of each row: its records' fields, or, where they change, what they are made of."""
        padding = [
            pc.fill_null(columns[name], nothing).to_numpy()
            for name, nothing in zip(("padding_low", "padding_high"), voi.NO_PADDING, strict=True)
        ]
        row = {
            **{name: getattr(chosen, name) for name in ("slope", "intercept", "center", "width", "function")},
            "padding": np.stack(padding, axis=1),
            "invert": pc.equal(columns["photometric"], "MONOCHROME1").to_numpy(),
        }
        if self._pool.luts:
            tables = self._pool.gather(chosen.modality_lut, chosen.voi_lut, chosen.slope, chosen.intercept)
            row |= {
                "modality_lut": tables.modality[:, 0],
                "voi_lut": tables.voi,
                "by_table": chosen.voi_lut >= 0,
                "greatest": tables.greatest,
            }
        return _fields(row) if self._ready else row


def _fields(row: Made) -> Made:
    """The window fields of records, (n,) or (n, windows), of what they are made of."""
    fields = voi.window_params(
        row["slope"],
        row["intercept"],
        row["center"],
        row["width"],
        row["function"],
        padding=row["padding"],
        invert=row["invert"],
    )
    if "by_table" not in row:
        return fields
    by_table = row["by_table"]
    return fields | {
        "modality_lut": row["modality_lut"],
        "voi_lut": row["voi_lut"],
        "voi": np.where(by_table, voi.Voi.TABLE, fields["voi"]).astype(np.uint8),
        "a": np.where(by_table, row["greatest"], fields["a"]),
    }


def _to_draw(store: Store, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many ways each sample may be seen, (n,), and all of them: numbers of own windows, or AUTO.

    A VOI LUT is one of them; so is what ``auto`` makes of an image that has neither.
    """

    def ways(columns: Mapping[str, Any], _: slice) -> Made:
        own = windows.own_counts(columns["window_center"])
        by_table = pc.is_valid(columns["voi_lut"]).to_numpy()
        return {"own": own, "first": np.where(by_table | (own == 0), windows.AUTO, 0)}

    own, first = by_block(store.samples, samples, ["window_center", "voi_lut"], ways).values()
    count = own - first
    numbers = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first, count)
    return count, numbers
