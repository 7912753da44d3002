"""A picture, its window and its geometry -> a record and a chunk for the core, and the oracle's answer."""

from dataclasses import dataclass, field

import numpy as np
import reference

from pyrad import ops
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
        out = np.zeros((len(self.planes), *size))
        for plane, image in zip(out, self.windowed(), strict=True):
            part = reference.resized(image, self.seen, height, width)
            part = part[:, ::-1] if self.flip_x else part
            plane[y : y + height, x : x + width] = part[::-1] if self.flip_y else part
        return out


def batch(
    cases: list[Case], size: tuple[int, int], *, mode: str | None = None, crc: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return a slab that holds the cases' chunks, and their records."""
    chunks = [[_chunk(plane, mode=mode, crc=crc) for plane in case.planes] for case in cases]
    offsets, total = ops.slab_layout([len(chunk) for planes in chunks for chunk in planes])
    slab = np.full(total, 0xA5, np.uint8)
    records = np.zeros(len(cases), ops.RECORD_DTYPE)
    place = iter(offsets)
    tables = tables_of(cases)
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
            "modality_lut": tables.modality[at],
            "voi_lut": tables.voi[at],
            **({"voi": ops.Voi.TABLE, "a": tables.greatest[at]} if case.voi_lut else {}),
            **case.changed,
        }
        for name, value in fields.items():
            record[name] = value
    return slab, records


def tables_of(cases: list[Case]) -> luts.Tables:
    """Every lookup table of the cases."""
    given = [[case.modality_lut for case in cases], [case.voi_lut for case in cases]]
    every = sorted({lut_of(lut) for luts_ in given for lut in luts_ if lut is not None})
    modality, voi = (
        np.array([-1 if lut is None else every.index(lut_of(lut)) for lut in luts_]) for luts_ in given
    )
    slope, intercept = (
        np.array([(1.0, 0.0)[n] if case.modality_lut else getattr(case, name) for case in cases])
        for n, name in enumerate(("slope", "intercept"))
    )
    return luts.gather(every, modality, voi, slope, intercept)


def lut_of(lut: tuple[int, int, list[int]]) -> Lut:
    first, bits, entries = lut
    return Lut(first=first, bits=bits, entries=np.array(entries, "<u2").tobytes())


def window_of(case: Case) -> dict:
    fields = ops.window_params(
        1.0 if case.modality_lut else case.slope,
        0.0 if case.modality_lut else case.intercept,
        case.center,
        case.width,
        case.function,
        padding=ops.NO_PADDING if case.padding is None else case.padding,
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
        luts=tables_of(cases).entries,
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
