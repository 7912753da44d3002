"""Every cell of bits x sign x photometric x planar x syntax -> a tiny file, and the values it was made of.

Cells that are left out: no encoder is at hand (JPEG of more than 8 bits and three samples by DCT), or the
standard has no such thing (4:2:2 in RLE, signed colour).
"""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jpeg_ls
import numpy as np
from dicoms import NATIVE, dicom, rle_segments
from jpegs import dct, lossless
from openjpeg.utils import encode_array

GREY = ("MONOCHROME2", "MONOCHROME1")
SYNTAXES = {
    "explicit LE": NATIVE[0],
    "implicit LE": NATIVE[1],
    "explicit BE": NATIVE[2],
    "deflated": NATIVE[3],
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG extended": "1.2.840.10008.1.2.4.51",
    "JPEG lossless": "1.2.840.10008.1.2.4.57",
    "JPEG lossless SV1": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG-LS near": "1.2.840.10008.1.2.4.81",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "JPEG 2000 lossy": "1.2.840.10008.1.2.4.91",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
}
UNCOMPRESSED = tuple(SYNTAXES)[:4]
LOSSY = {"JPEG baseline": 2, "JPEG extended": 2, "JPEG-LS near": 2, "JPEG 2000 lossy": 2}  # of the values
CONVERTED = 1  # YBR to RGB, of 8 bits: how the last digit is rounded
# Made by imagecodecs 2026.3.6 (OpenJPH 0.26.3), which is no OpenJPEG, of `source` of the same cell
HTJ2K = json.loads((Path(__file__).parent / "htj2k_codestreams.json").read_text())


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One file of the matrix."""

    syntax: str
    photometric: str
    bits: int
    signed: bool = False
    planar: int = 0
    tolerance: int = 0

    @property
    def name(self) -> str:
        sign = "signed" if self.signed else "unsigned"
        return f"{self.syntax}-{self.photometric}-{self.bits}-{sign}-{self.planar}".replace(" ", "_")

    @property
    def grey(self) -> bool:
        return self.photometric in GREY

    @property
    def shape(self) -> tuple[int, int]:
        """Odd sides; OpenJPEG's encoder asks for 32 at least."""
        return (33, 37) if self.syntax.startswith("JPEG 2000") else (11, 13)

    @property
    def dtype(self) -> str:
        return f"{'i' if self.signed else 'u'}{1 if self.bits <= 8 else 2}"

    def stored(self) -> np.ndarray:
        """What stands in the pixel cells: grey, indices, or (rows, columns, 3) before any conversion."""
        if self.photometric.startswith("YBR_FULL"):
            return ybr_of(self.rgb(), halved=self.photometric == "YBR_FULL_422")
        if self.photometric in ("RGB", "YBR_RCT", "YBR_ICT"):
            return self.rgb()
        values = source(self.shape, self.bits, signed=self.signed, smooth=self.syntax in LOSSY)
        return values.astype(self.dtype)

    def rgb(self) -> np.ndarray:
        smooth = self.syntax in LOSSY or self.photometric.startswith("YBR_FULL")
        plane = source(self.shape, self.bits, signed=False, smooth=smooth)
        top = (1 << self.bits) - 1
        return np.stack([plane, top - plane, plane // 2], -1).astype(self.dtype)

    def expected(self) -> np.ndarray:
        """What pyrad should store with ``--color planes``."""
        stored = self.stored()
        if self.photometric == "PALETTE COLOR":
            return np.moveaxis(palette_of(self.bits)[stored], -1, 0)
        if self.photometric.startswith("YBR_FULL"):
            return np.moveaxis(rgb_of(stored), -1, 0)
        return stored if self.grey else np.moveaxis(stored, -1, 0)

    def file(self) -> bytes:
        """The DICOM file."""
        stored = self.stored()
        codestream = ENCODERS.get(self.syntax)
        cells = native(self, stored) if codestream is None else [codestream(self, stored)]
        samples = 3 if stored.ndim == 3 else 1
        elements = {
            "Rows": self.shape[0],
            "Columns": self.shape[1],
            "SamplesPerPixel": samples,
            "PhotometricInterpretation": self.photometric,
            "BitsAllocated": 8 * stored.dtype.itemsize,
            "BitsStored": self.bits,
            "HighBit": self.bits - 1,
            "PixelRepresentation": int(self.signed),
            **({"PlanarConfiguration": self.planar} if samples == 3 else {}),
        }
        if self.photometric == "PALETTE COLOR":
            for n, color in enumerate(("Red", "Green", "Blue")):
                table = f"{color}PaletteColorLookupTable"
                elements[table + "Descriptor"] = [(1 << self.bits) % (1 << 16), 0, 16]
                order = ">u2" if self.syntax == "explicit BE" else "<u2"
                elements[table + "Data"] = palette_of(self.bits)[:, n].astype(order).tobytes()
        modality = "CT" if self.grey else "SC"
        return dicom(cells, modality=modality, syntax=SYNTAXES[self.syntax], **elements)


def source(shape: tuple[int, int], bits: int, *, signed: bool, smooth: bool) -> np.ndarray:
    """Grey values that meet both ends of their range: a slope, or the slope with noise over it."""
    span = 1 << bits
    slope = np.arange(shape[0] * shape[1]).reshape(shape) * (span - 1) // (shape[0] * shape[1] - 1)
    noise = np.random.default_rng(bits).integers(0, span, slope.shape)
    values = slope if smooth else np.where(np.indices(slope.shape).sum(0) % 3 == 0, noise, slope)
    values[0, 0], values[-1, -1] = 0, span - 1
    return values - (span // 2 if signed else 0)


def ybr_of(rgb: np.ndarray, *, halved: bool) -> np.ndarray:
    """Full-range Y, Cb, Cr (T.871, 7); ``halved``: each pair of a row has the first one's chroma."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    ybr = np.stack([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402], -1)
    full = np.clip(np.floor(ybr + 0.5), 0, 255).astype(np.uint8)
    if halved:
        full[:, 1::2, 1:] = full[:, 0:-1:2, 1:]
    return full


def rgb_of(ybr: np.ndarray) -> np.ndarray:
    """The inverse, from the same formulas."""
    y, cb, cr = np.moveaxis(ybr.astype(float), -1, 0)
    r, b = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    g = (y - 0.299 * r - 0.114 * b) / 0.587
    return np.clip(np.floor(np.stack([r, g, b], -1) + 0.5), 0, 255).astype(np.uint8)


def palette_of(bits: int) -> np.ndarray:
    """A colour for every index, (entries, 3) of 16 bits, no two channels alike."""
    index = np.arange(1 << bits)
    return np.stack([65535 - index, index * 7 % 65536, index // 2 + 9], -1).astype(np.uint16)


def cells_of(cell: Cell, stored: np.ndarray) -> np.ndarray:
    """Two's complement of the stored bits, the unused ones 0."""
    wide = stored.astype(f"u{stored.dtype.itemsize}")
    return wide & wide.dtype.type((1 << cell.bits) - 1)


def native(cell: Cell, stored: np.ndarray) -> bytes:
    cells = cells_of(cell, stored)
    if cell.photometric == "YBR_FULL_422":
        wide = np.pad(cells, ((0, 0), (0, cells.shape[1] % 2), (0, 0)), mode="edge")
        cells = np.stack([wide[:, ::2, 0], wide[:, 1::2, 0], wide[:, ::2, 1], wide[:, ::2, 2]], -1)
    if cell.planar:
        cells = np.moveaxis(cells, -1, 0)
    data = cells.astype(cells.dtype.newbyteorder("<")).tobytes()
    if cell.syntax != "explicit BE":
        return data
    # Pixel Data are written as OW: cells of 8 bits stand two in a big-endian word (PS3.5 8.2)
    return np.frombuffer(data + b"\0" * (len(data) % 2), "<u2").astype(">u2").tobytes()


def rle(cell: Cell, stored: np.ndarray) -> bytes:
    cells = cells_of(cell, stored)
    planes = [cells] if cells.ndim == 2 else list(np.moveaxis(cells, -1, 0))
    width = cells.dtype.itemsize
    shifts = range(8 * (width - 1), -1, -8)
    return rle_segments([(p >> shift & 255).astype(np.uint8).tobytes() for p in planes for shift in shifts])


def ls(cell: Cell, stored: np.ndarray) -> bytes:
    cells = np.ascontiguousarray(cells_of(cell, stored))
    samples, mode = (3, 2) if cells.ndim == 3 else (1, 0)
    size = {"rows": cells.shape[0], "columns": cells.shape[1], "samples_per_pixel": samples}
    error = LOSSY.get(cell.syntax, 0)
    return bytes(
        jpeg_ls.encode_buffer(
            cells.tobytes(), **size, bits_stored=cell.bits, lossy_error=error, interleave_mode=mode
        )
    )


def j2k(cell: Cell, stored: np.ndarray) -> bytes:
    rate = {"compression_ratios": [2.0]} if cell.syntax == "JPEG 2000 lossy" else {}
    kind = 2 if stored.ndim == 2 else 1
    mct = cell.photometric in ("YBR_RCT", "YBR_ICT")
    return encode_array(stored, bits_stored=cell.bits, photometric_interpretation=kind, use_mct=mct, **rate)


ENCODERS: dict[str, Callable[[Cell, np.ndarray], bytes]] = {
    "RLE": rle,
    "JPEG baseline": lambda cell, stored: dct(stored, cell.bits),
    "JPEG extended": lambda cell, stored: dct(stored, cell.bits),
    "JPEG lossless": lambda cell, stored: lossless(cells_of(cell, stored), cell.bits, 1 + cell.bits % 7),
    "JPEG lossless SV1": lambda cell, stored: lossless(cells_of(cell, stored), cell.bits),
    "JPEG-LS": ls,
    "JPEG-LS near": ls,
    "JPEG 2000": j2k,
    "JPEG 2000 lossy": j2k,
    "HTJ2K": lambda cell, _: base64.b64decode(HTJ2K[f"{cell.photometric}-{cell.dtype}-{cell.bits}"]),
}


# Neither the DCT nor a small difference of a two's complement is one of the image
_UNSIGNED = ("JPEG baseline", "JPEG extended", "JPEG-LS near")
_REVERSIBLE = ("JPEG lossless", "JPEG lossless SV1", "JPEG-LS", "JPEG 2000", "HTJ2K")


def every_cell() -> list[Cell]:
    return [*_grey(), *_palettes(), *_color()]


def _grey() -> Iterator[Cell]:
    for syntax in SYNTAXES:
        depths = {"JPEG baseline": (8,), "JPEG extended": (8, 12)}.get(syntax, (8, 10, 12, 16))
        for bits in depths:
            for signed in (False,) if syntax in _UNSIGNED else (False, True):
                for photometric in GREY:
                    tolerance = LOSSY.get(syntax, 0)
                    yield Cell(
                        syntax=syntax, photometric=photometric, bits=bits, signed=signed, tolerance=tolerance
                    )


def _palettes() -> Iterator[Cell]:
    for syntax in (*UNCOMPRESSED, "RLE", *_REVERSIBLE):
        for bits in (8, 10, 12, 16):
            yield Cell(syntax=syntax, photometric="PALETTE COLOR", bits=bits)


def _color() -> Iterator[Cell]:
    for syntax in (*UNCOMPRESSED, "RLE"):
        for planar in (0, 1):
            for bits in (8, 10, 12, 16):
                yield Cell(syntax=syntax, photometric="RGB", bits=bits, planar=planar)
            yield Cell(syntax=syntax, photometric="YBR_FULL", bits=8, planar=planar, tolerance=CONVERTED)
    for syntax in UNCOMPRESSED:
        yield Cell(syntax=syntax, photometric="YBR_FULL_422", bits=8, tolerance=CONVERTED)
    for syntax in _REVERSIBLE:
        for bits in (8, 16):
            yield Cell(syntax=syntax, photometric="RGB", bits=bits)
    for bits in (8, 16):
        yield Cell(syntax="JPEG 2000", photometric="YBR_RCT", bits=bits)
    yield Cell(syntax="JPEG 2000 lossy", photometric="YBR_ICT", bits=8, tolerance=2)
    for syntax in ("JPEG baseline", "JPEG extended"):
        yield Cell(syntax=syntax, photometric="YBR_FULL", bits=8, tolerance=3 * CONVERTED)
