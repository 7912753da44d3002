"""A picture, its window and its geometry -> a record and a chunk for the core, and the oracle's answer."""

from dataclasses import dataclass, field, replace

import numpy as np
import reference

from pyrad import ops, voi
from pyrad.loader import luts
from pyrad.records import Lut

SAMPLES = ("float32", "bfloat16", "float16")  # what an output may hold
STORED_AS = {"bfloat16": "uint16"}  # its bits: NumPy has no such type


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image: ``pixels`` (rows, columns), or (3, rows, columns); what is None is the whole."""

    pixels: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    center: float = 127.5
    width: float = 255.0
    function: str = "LINEAR_EXACT"
    padding: tuple[int, int] | None = None
    invert: bool = False
    modality_lut: tuple[int, int, list[int]] | None = None  # first, bits, entries
    voi_lut: tuple[int, int, list[int]] | None = None
    box: tuple[float, float, float, float] | None = None  # x0, y0, x1, y1
    target: tuple[int, int, int, int] | None = None  # x, y, width, height
    flip_x: bool = False
    flip_y: bool = False
    grid: tuple[int, int] | None = None  # rows and columns, of what is turned
    turn: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    more: tuple[dict, ...] = ()  # center, width, function or voi_lut of the second and the third window
    changed: dict = field(default_factory=dict)  # fields of the record, to spoil it

    @property
    def planes(self) -> np.ndarray:
        return self.pixels if self.pixels.ndim == 3 else self.pixels[None]

    @property
    def seen(self) -> tuple[float, float, float, float]:
        rows, columns = self.pixels.shape[-2:]
        return self.box or (0, 0, columns, rows)

    def windowed(self) -> np.ndarray:
        """Oracle's y of every stored value, (planes, rows, columns)."""
        return reference.windowed(
            self.planes,
            slope=self.slope,
            intercept=self.intercept,
            center=self.center,
            width=self.width,
            function=self.function,
            padding=self.padding,
            invert=self.invert,
            modality_lut=self.modality_lut,
            voi_lut=self.voi_lut,
        )

    def expected(self, size: tuple[int, int]) -> np.ndarray:
        """Oracle's y of every output pixel, (planes, *size)."""
        x, y, width, height = self.target or (0, 0, size[1], size[0])
        height, width = self.grid or (height, width)
        out = np.zeros((len(self.planes), *size))
        for plane, image in zip(out, self.windowed(), strict=True):
            part = reference.resized(image, self.seen, height, width)
            part = part[:, ::-1] if self.flip_x else part
            part = part[::-1] if self.flip_y else part
            if self.turn is not None:
                plane[...] = reference.turned(part, self.turn, size)
            else:
                plane[y : y + height, x : x + width] = part
        return out

    def alone(self, window: int) -> "Case":
        """The same with one of its windows."""
        return replace(self, more=(), **({} if window == 0 else self.more[window - 1]))


def batch(
    cases: list[Case], size: tuple[int, int], *, mode: str | None = None, crc: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return a slab that holds the cases' chunks, and their records."""
    chunks = [[_chunk(plane, mode=mode, crc=crc) for plane in case.planes] for case in cases]
    offsets, total = ops.slab_layout([len(chunk) for planes in chunks for chunk in planes])
    slab = np.full(total, 0xA5, np.uint8)
    records = np.zeros(len(cases), ops.RECORD_DTYPE)
    place = iter(offsets)
    tables, _ = tables_of(cases)
    for at, (case, record, planes) in enumerate(zip(cases, records, chunks, strict=True)):
        for plane, chunk in enumerate(planes):
            offset = int(next(place))
            slab[offset : offset + len(chunk)] = np.frombuffer(chunk, np.uint8)
            record["chunk_offset"][plane], record["chunk_size"][plane] = offset, len(chunk)
        fields = {
            "rows": case.pixels.shape[-2],
            "columns": case.pixels.shape[-1],
            "dtype": ops.dtype_code(case.pixels.dtype),
            "planes": len(planes),
            "codec": ops.Codec.TILEPACK if mode else ops.Codec.RAW,
            "crc": crc,
            "flip_x": case.flip_x,
            "flip_y": case.flip_y,
            **dict(zip(("x0", "y0", "x1", "y1"), case.seen, strict=True)),
            **dict(
                zip(
                    ("dst_x", "dst_y", "dst_w", "dst_h"), case.target or (0, 0, size[1], size[0]), strict=True
                )
            ),
            **window_of(case),
            "modality_lut": tables.modality[at, 0],
            **_voi_luts(case, tables.voi[at], tables.greatest[at]),
            **_turn_of(case),
            **case.changed,
        }
        for name, value in fields.items():
            record[name] = np.array(value, ops.LUT_DTYPE) if name == "voi_lut" else value
    return slab, records


def _turn_of(case: Case) -> dict:
    if case.grid is None:
        return {}
    return {"dst_h": case.grid[0], "dst_w": case.grid[1], "turned": 1, "turn": case.turn}


def tables_of(cases: list[Case]) -> tuple[luts.Tables, np.ndarray]:
    """Every lookup table of the cases, a window each, (n, 3), and all their entries."""
    alone = [[case.alone(w if case.more else 0) for w in range(3)] for case in cases]
    modality, voi = (
        [[getattr(c, name) for c in row] for row in alone] for name in ("modality_lut", "voi_lut")
    )
    every = sorted({lut_of(lut) for row in modality + voi for lut in row if lut is not None})
    numbers = [
        np.array([[-1 if lut is None else every.index(lut_of(lut)) for lut in row] for row in rows], np.int64)
        for rows in (modality, voi)
    ]
    slope, intercept = (
        np.array([[identity if case.modality_lut else getattr(case, name)] * 3 for case in cases])
        for name, identity in (("slope", 1.0), ("intercept", 0.0))
    )
    pool = luts.Pool(every)
    return pool.gather(*numbers, slope, intercept), pool.entries()


def _voi_luts(case: Case, places: np.ndarray, greatest: np.ndarray) -> dict:
    """The fields of a record that say which windows are tables."""
    tables = [case.alone(w if case.more else 0).voi_lut is not None for w in range(3)]
    fields = window_of(case)
    return {
        "voi_lut": places,
        "voi": np.where(tables, voi.Voi.TABLE, fields["voi"]),
        "a": np.where(tables, greatest, fields["a"]),
    }


def lut_of(lut: tuple[int, int, list[int]]) -> Lut:
    first, bits, entries = lut
    return Lut(first=first, bits=bits, entries=np.array(entries, "<u2").tobytes())


def window_of(case: Case) -> dict:
    every = [case.alone(window) for window in range(1 + len(case.more))]
    fields = voi.window_params(
        1.0 if case.modality_lut else case.slope,
        0.0 if case.modality_lut else case.intercept,
        *(np.array([[getattr(each, name) for each in every]]) for name in ("center", "width", "function")),
        padding=voi.NO_PADDING if case.padding is None else case.padding,
        invert=case.invert,
    )
    return {name: values[0] for name, values in fields.items()}


def render(
    cases: list[Case],
    size: tuple[int, int],
    *,
    mean: float | tuple[float, ...] = 0.0,
    std: float | tuple[float, ...] = 1.0,
    channels: int = 1,
    channels_last: bool = False,
    dtype: str = "float32",
    threads: int = 1,
    mode: str | None = None,
    crc: bool = False,
) -> tuple[np.ndarray, list[ops.Status]]:
    """Run the core: (n, channels, *size), whatever the layout in memory, and the statuses.

    ``mode`` is tilepack's, None for raw pixels.
    """
    slab, records = batch(cases, size, mode=mode, crc=crc)
    shape = (len(cases), *size, channels) if channels_last else (len(cases), channels, *size)
    out = np.full(shape, 77, STORED_AS.get(dtype, dtype))  # stale memory, as a loader's is
    statuses = ops.preprocess(
        slab,
        records,
        out,
        mean=np.atleast_1d(mean).tolist(),
        std=np.atleast_1d(std).tolist(),
        channels=channels,
        luts=tables_of(cases)[1],
        channels_last=channels_last,
        threads=threads,
    )
    return (out.transpose(0, 3, 1, 2) if channels_last else out), [ops.Status(s) for s in statuses]


def rendered(cases: list[Case], size: tuple[int, int], **options) -> np.ndarray:
    """The same where every image is sound."""
    out, statuses = render(cases, size, **options)
    assert statuses == [ops.Status.OK] * len(cases)
    return out


def _chunk(plane: np.ndarray, *, mode: str | None, crc: bool) -> bytes:
    pixels = np.ascontiguousarray(plane)
    chunk = ops.tilepack_encode(pixels, mode=mode) if mode else pixels.tobytes()
    return chunk + reference.crc32c(chunk).to_bytes(4, "little") if crc else chunk
