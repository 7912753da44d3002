"""Windows, lookup tables and what is drawn of them -> the window fields of a batch's records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad import voi
from pyrad.errors import UsageError
from pyrad.loader import luts, windows
from pyrad.loader.augment import Augment, Drawn
from pyrad.loader.presets import Asked
from pyrad.store.reader import Store


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
        asked: Sequence[Any] = window if isinstance(window, tuple) else (window,)
        self._count = np.ones(len(samples), dtype=np.int64)
        if augment is not None and augment.any_window:
            if window != "auto":
                raise UsageError(
                    f"augment: any_window draws of an image's own windows, not of {window!r}: give auto"
                )
            self._count, own = _to_draw(store, samples)
            asked = (own,)
        self._first = np.cumsum(self._count) - self._count
        rows = np.repeat(samples, self._count)
        is_u8 = np.repeat(is_u8, self._count)
        tables = store.luts.all()
        self._chosen = windows.side_by_side(
            [windows.choose(store.samples, rows, is_u8, each, tables) for each in asked]
        )
        chosen = self._chosen
        self._tables = luts.gather(
            tables, chosen.modality_lut, chosen.voi_lut, chosen.slope, chosen.intercept
        )
        self.lut_entries = self._tables.entries
        self._padding = np.stack(
            [
                pc.fill_null(store.samples[name].take(rows), nothing).to_numpy()
                for name, nothing in zip(("padding_low", "padding_high"), voi.NO_PADDING, strict=True)
            ],
            axis=1,
        )
        self._invert = pc.equal(store.samples["photometric"].take(rows), "MONOCHROME1").to_numpy()
        self._ready: dict[str, NDArray[Any]] | None = None
        if augment is None or not augment.changes_windows:
            self._ready = self._fields(chosen, np.arange(len(rows)))
            del self._chosen, self._tables, self._padding, self._invert

    def fields(self, places: NDArray[np.int64], drawn: Drawn | None) -> dict[str, NDArray[Any]]:
        """The fields of the records of the samples at ``places`` (b,), as ``drawn`` changes their windows."""
        rows = self._first[places]
        if drawn is not None:
            rows = rows + (drawn.window * self._count[places]).astype(np.int64)
        if self._ready is not None:
            return {name: values[rows] for name, values in self._ready.items()}
        chosen = self._chosen[rows]
        if drawn is not None:
            center = chosen.center + chosen.width * drawn.window_center[:, None]
            chosen = replace(chosen, center=center, width=chosen.width * drawn.window_width[:, None])
        return self._fields(chosen, rows)

    def _fields(self, chosen: windows.ChosenWindows, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        fields = voi.window_params(
            chosen.slope,
            chosen.intercept,
            chosen.center,
            chosen.width,
            chosen.function,
            padding=self._padding[rows],
            invert=self._invert[rows],
        )
        by_table = chosen.voi_lut >= 0
        return fields | {
            "modality_lut": self._tables.modality[rows, 0],
            "voi_lut": self._tables.voi[rows],
            "voi": np.where(by_table, voi.Voi.TABLE, fields["voi"]).astype(np.uint8),
            "a": np.where(by_table, self._tables.greatest[rows], fields["a"]),
        }


def _to_draw(store: Store, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many ways each sample may be seen, (n,), and all of them: numbers of own windows, or AUTO.

    A VOI LUT is one of them; so is what ``auto`` makes of an image that has neither.
    """
    own = windows.own_counts(store.samples["window_center"].take(samples))
    first = np.where(
        pc.is_valid(store.samples["voi_lut"].take(samples)).to_numpy() | (own == 0), windows.AUTO, 0
    )
    count = own - first
    numbers = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first, count)
    return count, numbers
