"""How images are to be seen, and a batch of chunks -> the records that say so for each, and its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrad import geometry, ops
from pyrad.errors import CorruptChunkError, IntegrityError, UsageError
from pyrad.loader import placing
from pyrad.loader.augment import Augment, Drawn
from pyrad.loader.blocks import by_block
from pyrad.loader.fetch import Fetched
from pyrad.loader.placing import FITS, Placement
from pyrad.loader.presets import Asked
from pyrad.loader.views import Views
from pyrad.store.reader import Store

_CHANNELS = (1, 3)
_SIDE_LIMIT = 65_535  # of an output, in pixels


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every image of a loader is seen; `pyrad.loader.loader.Loader` documents the fields.

    ``mean`` and ``std`` hold one number for all channels or one a channel.
    """

    size: tuple[int, int]
    window: Asked | tuple[Asked, ...]
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
        if self.channels not in _CHANNELS:
            raise UsageError(f"channels {self.channels} is neither 1 nor 3")
        if isinstance(self.window, tuple) and not len(self.window) == self.channels == _CHANNELS[-1]:
            raise UsageError(
                f"{len(self.window)} windows and {self.channels} channels: give one window, or three with "
                "channels=3, one for each"
            )
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
        told = f"{colour} of the {len(samples)} images keep their colour planes, and"
        if colour and recipe.channels == 1:
            raise UsageError(
                f"{told} one channel was asked for: give channels=3, or ingest with --color luma"
            )
        if colour and isinstance(recipe.window, tuple):
            raise UsageError(
                f"{told} three windows were asked for, which are the channels of a grey one: give one "
                "window, or ingest with --color luma"
            )
        is_u8 = self._dtypes[bucket] == ops.dtype_code(np.uint8)
        self._views = Views(store, samples, is_u8, recipe.window, recipe.augment)
        self._spacing_mm = by_block(
            store.samples,
            samples,
            ["spacing_mm"],
            lambda columns, _: {"mm": placing.pairs(columns["spacing_mm"])},
        )["mm"]

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
            luts=self._views.lut_entries,
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
        how = self._place(records, drawn, epochs)
        for name, values in self._views.fields(drawn, how).items():
            records[name] = values
        return records

    def placement(self, drawn: NDArray[np.int64], epochs: NDArray[np.int64]) -> Placement:
        """Say where the images that `render` makes of ``drawn`` in ``epochs`` lie in the stored ones."""
        bucket = self._store.buckets_of(self._samples[drawn])
        records = np.zeros(len(drawn), ops.RECORD_DTYPE)
        records["rows"], records["columns"] = self._rows[bucket], self._columns[bucket]
        self._place(records, drawn, epochs)
        return placing.placement(records, self._spacing_mm[drawn])

    def _place(
        self, records: NDArray[np.void], places: NDArray[np.int64], epochs: NDArray[np.int64]
    ) -> Drawn | None:
        """Say which part of each image is seen, and where; return what was drawn."""
        recipe, drawn = self._recipe, None
        boxes = placing.place(records, size=recipe.size, fit=recipe.fit, spacing_mm=self._spacing_mm[places])
        if recipe.augment is not None:
            drawn = recipe.augment.draw(boxes, seed=self._seed, epochs=epochs, samples=self._samples[places])
            boxes, records["flip_x"], records["flip_y"] = drawn.boxes, drawn.flip_x, drawn.flip_y
        for axis, name in enumerate(("x0", "y0", "x1", "y1")):
            records[name] = boxes[:, axis]
        if drawn is not None:
            geometry.turn(records, drawn.turn, size=recipe.size)
        return drawn

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
