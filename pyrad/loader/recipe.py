"""How images are to be seen, and a batch of chunks -> the records that say so for each, and its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad import geometry, ops
from pyrad.errors import CorruptChunkError, IntegrityError, UsageError
from pyrad.loader import luts, windows
from pyrad.loader.augment import Augment
from pyrad.loader.fetch import Fetched
from pyrad.records import Window
from pyrad.store.reader import Store

FITS = ("stretch", "letterbox", "crop")
_SIDE_LIMIT = 65_535  # of an output, in pixels


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every image of a loader is seen; `pyrad.loader.loader.Loader` documents the fields.

    ``mean`` and ``std`` hold one number for all channels or one a channel.
    """

    size: tuple[int, int]
    window: str | Window
    fit: str
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels_last: bool
    augment: Augment | None

    def __post_init__(self) -> None:
        """Refuse what no image can be seen through."""
        if len(self.size) != 2 or not all(1 <= side <= _SIDE_LIMIT for side in self.size):
            raise UsageError(f"size {self.size} must be (height, width), each from 1 to {_SIDE_LIMIT} pixels")
        if self.fit not in FITS:
            raise UsageError(f"fit {self.fit!r} is none of {', '.join(FITS)}")
        if self.channels not in (1, 3):
            raise UsageError(f"channels {self.channels} is neither 1 nor 3")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels) or not np.isfinite(values).all():
                raise UsageError(
                    f"{name} {values} must be one number, or one for each of the {self.channels} channels"
                )
        if min(self.std) <= 0:
            raise UsageError(f"std {self.std} must be above 0")

    def per_channel(self, values: Sequence[float]) -> tuple[float, ...]:
        """Return one value a channel."""
        return tuple(values) if len(values) == self.channels else tuple(values) * self.channels


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where n images that are seen lie in their stored images.

    ``shape`` int64 (n, 2) is the rows and columns that are stored, ``spacing_mm`` (n, 2) the distance of rows
    and of columns, nan where unknown; ``affine`` (n, 3, 3) takes (row, column, 1) of the output to those of
    the stored image, times ``step`` (n, 2): the spacing, or 1 where it is unknown.
    """

    shape: NDArray[np.int64]
    spacing_mm: NDArray[np.float64]
    step: NDArray[np.float64]
    affine: NDArray[np.float64]


class Renderer:
    """Turns fetched chunks into images; everything that follows from the table is computed once, here.

    ``samples`` (n,) are the store indices that may be drawn: batches name them by their place in it.
    """

    def __init__(
        self, store: Store, samples: NDArray[np.int64], recipe: Recipe, *, seed: int, threads: int
    ) -> None:
        self._store = store
        self._samples = samples
        self._recipe = recipe
        self._seed = seed
        self._threads = threads
        buckets = store.buckets
        self._rows = np.array([bucket.rows for bucket in buckets], dtype=np.int64)
        self._columns = np.array([bucket.columns for bucket in buckets], dtype=np.int64)
        self._planes = np.array([bucket.planes for bucket in buckets], dtype=np.uint8)
        self._dtypes = np.array([ops.dtype_code(bucket.dtype) for bucket in buckets], dtype=np.uint8)
        bucket = store.buckets_of(samples)
        colour = int((self._planes[bucket] > 1).sum())
        if colour and recipe.channels == 1:
            raise UsageError(
                f"{colour} of the {len(samples)} images keep their colour planes, and one channel was asked "
                "for: give channels=3, or ingest with --color luma"
            )
        is_u8 = self._dtypes[bucket] == ops.dtype_code(np.uint8)
        tables = store.luts.all()
        chosen = windows.choose(store.samples, samples, is_u8, recipe.window, tables)
        seen = luts.gather(tables, chosen.modality_lut, chosen.voi_lut, chosen.slope, chosen.intercept)
        self._lut_entries = seen.entries
        self._windows = _window_fields(store, samples, chosen, seen)
        self._spacing_mm = _pairs(store.samples["spacing_mm"].take(samples))

    def render(
        self, fetched: Fetched, drawn: NDArray[np.int64], epochs: NDArray[np.int64], out: NDArray[Any]
    ) -> float:
        """Read, decode, window, resize and normalise the images of ``fetched`` into ``out``.

        Returns the seconds that each thread, on average, spent reading.

        ``drawn`` (b,) are places in ``samples``, ``epochs`` (b,) the epochs they are seen in; ``out`` is
        float32, float16 or uint16 (bfloat16 bits), (b, channels, height, width), or (b, height, width,
        channels).

        Raises:
            CorruptChunkError: a chunk is damaged; the message names array and chunk.
            IntegrityError: a shard cannot be read or ends too early; likewise.

        """
        recipe = self._recipe
        read_ns = np.zeros(len(drawn), np.int64)
        statuses = ops.preprocess(
            fetched.slab,
            self.records(fetched, drawn, epochs),
            out,
            mean=recipe.per_channel(recipe.mean),
            std=recipe.per_channel(recipe.std),
            channels=recipe.channels,
            luts=self._lut_entries,
            files=fetched.files,
            read_ns=read_ns,
            channels_last=recipe.channels_last,
            threads=self._threads,
        )
        for image in np.flatnonzero(statuses):
            raise self._fault(int(self._samples[drawn[image]]), int(statuses[image]))
        return float(read_ns.sum()) / 1e9 / min(self._threads, max(1, len(drawn)))

    def records(
        self, fetched: Fetched, drawn: NDArray[np.int64], epochs: NDArray[np.int64]
    ) -> NDArray[np.void]:
        """Return one record of `ops.RECORD_DTYPE` an image."""
        located, bucket = fetched.located, fetched.located.bucket
        records = np.zeros(len(drawn), ops.RECORD_DTYPE)
        image = np.repeat(np.arange(len(drawn)), np.diff(located.first))
        plane = np.arange(len(image)) - located.first[image]
        records["chunk_offset"][image, plane] = fetched.offset
        records["chunk_size"][image, plane] = fetched.size
        records["codec"] = ops.Codec.RAW if fetched.raw else ops.Codec.TILEPACK
        records["crc"] = not fetched.raw
        records["rows"], records["columns"] = self._rows[bucket], self._columns[bucket]
        records["dtype"], records["planes"] = self._dtypes[bucket], self._planes[bucket]
        for name, values in self._windows.items():
            records[name] = values[drawn]
        self._place(records, drawn, epochs)
        return records

    def placement(self, drawn: NDArray[np.int64], epochs: NDArray[np.int64]) -> Placement:
        """Say where the images that `render` makes of ``drawn`` in ``epochs`` lie in the stored ones."""
        bucket = self._store.buckets_of(self._samples[drawn])
        shape = np.stack([self._rows[bucket], self._columns[bucket]], axis=1)
        records = np.zeros(len(drawn), ops.RECORD_DTYPE)
        records["rows"], records["columns"] = shape.T
        self._place(records, drawn, epochs)
        spacing_mm = self._spacing_mm[drawn]
        step = _steps(spacing_mm)
        affine = geometry.to_stored(records)
        affine[:, :2] *= step[:, :, None]
        return Placement(shape=shape, spacing_mm=spacing_mm, step=step, affine=affine)

    def _place(self, records: NDArray[np.void], drawn: NDArray[np.int64], epochs: NDArray[np.int64]) -> None:
        """Say which part of each image is seen, and which rectangle of the output it fills."""
        recipe, spacing_mm = self._recipe, self._spacing_mm[drawn]
        rows, columns = (records[name].astype(np.float64) for name in ("rows", "columns"))
        boxes = np.stack([np.zeros_like(rows), np.zeros_like(rows), columns, rows], axis=1)
        target = geometry.stretch(rows, columns, size=recipe.size)
        if recipe.fit == "letterbox":
            target = geometry.letterbox(rows, columns, size=recipe.size, spacing_mm=spacing_mm)
        elif recipe.fit == "crop":
            boxes = middle(boxes, size=recipe.size, spacing_mm=spacing_mm)
        for name, values in target.items():
            records[name] = values
        if recipe.augment is not None:
            boxes, records["flip_x"], records["flip_y"] = recipe.augment.draw(
                boxes, seed=self._seed, epochs=epochs, samples=self._samples[drawn]
            )
        for axis, name in enumerate(("x0", "y0", "x1", "y1")):
            records[name] = boxes[:, axis]

    def _fault(self, sample: int, status: int) -> IntegrityError:
        """Name the chunk at fault; of three planes it is the first that cannot be read by itself."""
        try:
            self._store.image(sample)
        except IntegrityError as error:
            return error
        if status < 0 or status == ops.Status.TRUNCATED:
            return self._store.read_error(sample, 0, status)
        return CorruptChunkError(
            f"{self._store.chunk_name(sample)} cannot be made an image: {ops.Status(status).sentence}"
        )


def middle(
    boxes: NDArray[np.float64], *, size: tuple[int, int], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the largest box in the middle of each of ``boxes`` that has the aspect of ``size``.

    ``boxes`` (n, 4) are x0, y0, x1, y1 in source pixels, ``size`` is (height, width), and ``spacing_mm``
    (n, 2) is the distance of rows and of columns: the aspect is one of millimetres where both are known
    (above 0), else of pixels.
    """
    step_y, step_x = _steps(spacing_mm).T
    wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    # Of the output, one pixel shows this many millimetres (or pixels) where the tighter side fills it.
    shown = np.minimum(wide * step_x / size[1], tall * step_y / size[0])
    cut_x = np.maximum(wide - shown * size[1] / step_x, 0.0) / 2
    cut_y = np.maximum(tall - shown * size[0] / step_y, 0.0) / 2
    return np.asarray(boxes + np.stack([cut_x, cut_y, -cut_x, -cut_y], axis=1))


def _steps(spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """``spacing_mm`` (n, 2) where both are known (above 0), else 1: millimetres, or pixels."""
    known = (np.isfinite(spacing_mm) & (spacing_mm > 0)).all(axis=1, keepdims=True)
    return np.where(known, spacing_mm, 1.0)


def _window_fields(
    store: Store, samples: NDArray[np.int64], chosen: windows.ChosenWindows, tables: luts.Tables
) -> dict[str, NDArray[Any]]:
    """Return the fields of records that follow from each sample's window, tables, padding and polarity."""
    low, high = (
        pc.fill_null(store.samples[name].take(samples), nothing).to_numpy()
        for name, nothing in zip(("padding_low", "padding_high"), ops.NO_PADDING, strict=True)
    )
    fields = ops.window_params(
        chosen.slope,
        chosen.intercept,
        chosen.center,
        chosen.width,
        chosen.function,
        padding=np.stack([low, high], axis=1),
        invert=pc.equal(store.samples["photometric"].take(samples), "MONOCHROME1").to_numpy(),
    )
    by_table = chosen.voi_lut >= 0
    return fields | {
        "modality_lut": tables.modality,
        "voi_lut": tables.voi,
        "voi": np.where(by_table, ops.Voi.TABLE, fields["voi"]).astype(np.uint8),
        "a": np.where(by_table, tables.greatest, fields["a"]),
    }


def _pairs(column: Any) -> NDArray[np.float64]:
    """(n, 2) of a column of pairs, nan where there is none."""
    pairs = np.full((len(column), 2), np.nan)
    there = pc.is_valid(column).to_numpy()
    pairs[there] = pc.list_flatten(column).to_numpy().reshape(-1, 2)
    return pairs
