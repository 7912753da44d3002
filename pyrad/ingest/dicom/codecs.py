"""A compressed frame -> its cells, by a table of decoders by transfer syntax.

Decoders are chosen for correctness: Pillow (libjpeg-turbo) for 8-bit DCT, libjpeg for 12 bits and for
lossless JPEG, CharLS for JPEG-LS, OpenJPEG for JPEG 2000 and HTJ2K. Each is called only for a codestream
whose own header agrees with the data set's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any, Literal

import jpeg_ls
import numpy as np
from libjpeg.utils import decode as libjpeg_decode
from numpy.typing import NDArray
from openjpeg.utils import decode as openjpeg_decode
from PIL import Image
from rle.rle import decode_segment

from pyrad.ingest.dicom.codestream import Codestream, read_jpeg, read_jpeg_2000, whole_spectrum
from pyrad.ingest.reasons import Rejected
from pyrad.records import PixelFormat


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What a decoder gave: (rows, columns) or (rows, columns, 3) of integers, not yet interpreted."""

    array: NDArray[Any]
    precision: int  # bits that count
    signed: bool = False  # whether the codestream says so
    color: Literal["RGB", "YBR"] | None = None  # where the codestream decides


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A row of the table."""

    decode: Callable[[bytes, PixelFormat], Cells]
    lossy: bool = False


def _jpeg(data: bytes, form: PixelFormat) -> Cells:
    """T.81: baseline, extended, progressive and lossless; no colour transform is undone here."""
    facts = _agreeing(read_jpeg(data), form)
    if facts.dct and facts.precision == 8:
        image = Image.open(BytesIO(data), formats=("JPEG",))
        if facts.components == 3 and facts.decoder_assumes == "YBR":
            image.draft("YCbCr", image.size)  # as coded; whether it is YBR is decided elsewhere
        array = np.asarray(image)
    else:
        array = libjpeg_decode(whole_spectrum(data) if facts.dct else data, colour_transform=0)
    return Cells(array=_shaped(array, form), precision=facts.precision, color=facts.color)


def _jpeg_ls(data: bytes, form: PixelFormat) -> Cells:
    """T.87, lossless and near-lossless."""
    facts = _agreeing(read_jpeg(data), form)
    try:
        buffer, info = jpeg_ls.decode_buffer(data)
    except RuntimeError:
        # Some encoders leave a zero byte between the last code and the end marker, which CharLS refuses
        end = data.rfind(b"\xff\xd9")
        if data[end - 1 : end] != b"\0":
            raise
        buffer, info = jpeg_ls.decode_buffer(data[: end - 1] + data[end:])
    flat = np.frombuffer(buffer, np.uint8 if facts.precision <= 8 else "<u2")
    if form.samples == 3 and info["interleave_mode"] == 0:
        array = np.moveaxis(flat.reshape(3, form.rows, form.columns), 0, -1)
    else:
        array = flat.reshape((form.rows, form.columns, 3)[: 2 + (form.samples == 3)])
    return Cells(array=array, precision=facts.precision, color=facts.color)


def _jpeg_2000(data: bytes, form: PixelFormat) -> Cells:
    """T.800 and T.814; the decoder undoes the codestream's own colour transform."""
    facts = _agreeing(read_jpeg_2000(data), form)
    array = _shaped(openjpeg_decode(data), form)
    # PS3.3 C.7.6.3.1.2: YBR_RCT and YBR_ICT are that transform, so what comes out is RGB; YBR_FULL is not
    full = form.photometric.startswith("YBR_FULL") and not facts.transform
    return Cells(array=array, precision=facts.precision, signed=facts.signed, color="YBR" if full else "RGB")


def _rle(data: bytes, form: PixelFormat) -> Cells:
    """PS3.5 G: one PackBits segment for each byte of each sample, most significant byte first."""
    width = form.bits_allocated // 8
    count = width * form.samples
    pixels = form.rows * form.columns
    header = struct.unpack_from("<16L", data) if len(data) >= 64 else ()
    if form.bits_allocated not in (8, 16, 32):
        raise Rejected("bits-unsupported", "BitsAllocated", f"{form.bits_allocated} bits in RLE")
    if not header or header[0] != count:
        raise Rejected("codestream-mismatch", "PixelData", f"{header[:1]} segments, expected {count}")
    bounds = [*header[1 : 1 + count], len(data)]
    if bounds[0] < 64 or any(a >= b for a, b in pairwise(bounds)):
        raise Rejected("codestream-damaged", "PixelData", "segment offsets")
    cells = np.empty((form.samples, pixels, width), np.uint8)
    for number in range(count):
        segment = decode_segment(data[bounds[number] : bounds[number + 1]])
        # A byte of padding at the end of a segment may decode to one more (G.3.1)
        if not pixels <= len(segment) <= pixels + 2:
            raise Rejected("codestream-mismatch", "PixelData", f"{len(segment)} pixels, expected {pixels}")
        sample, byte = divmod(number, width)
        cells[sample, :, width - 1 - byte] = np.frombuffer(segment, np.uint8, pixels)
    planes = cells.view(f"<u{width}").reshape(form.samples, form.rows, form.columns)
    array = planes[0] if form.samples == 1 else np.moveaxis(planes, 0, -1)
    return Cells(array=array, precision=form.bits_allocated)


def _agreeing(facts: Codestream, form: PixelFormat) -> Codestream:
    """The facts, if size and samples are the header's and the depth fits its cells."""
    if (facts.rows, facts.columns) != (form.rows, form.columns):
        raise Rejected(
            "codestream-mismatch",
            "Rows",
            f"{facts.rows} x {facts.columns}, expected {form.rows} x {form.columns}",
        )
    if facts.components != form.samples:
        raise Rejected(
            "codestream-mismatch", "SamplesPerPixel", f"{facts.components}, expected {form.samples}"
        )
    if not 1 <= facts.precision <= form.bits_allocated:
        raise Rejected(
            "codestream-mismatch", "BitsAllocated", f"{facts.precision} of {form.bits_allocated} bits"
        )
    return facts


def _shaped(array: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """The decoder's array, if it has the shape that is due."""
    expected = (form.rows, form.columns, 3)[: 2 + (form.samples == 3)]
    if array.shape != expected:
        raise Rejected("codestream-mismatch", "Rows", f"decoded {array.shape}, expected {expected}")
    return array


_SYNTAX = "1.2.840.10008.1.2."
CODECS = {
    _SYNTAX + "4.50": Codec(decode=_jpeg, lossy=True),  # baseline
    _SYNTAX + "4.51": Codec(decode=_jpeg, lossy=True),  # extended
    _SYNTAX + "4.53": Codec(decode=_jpeg, lossy=True),  # spectral selection, retired
    _SYNTAX + "4.55": Codec(decode=_jpeg, lossy=True),  # full progression, retired
    _SYNTAX + "4.57": Codec(decode=_jpeg),  # lossless, any predictor
    _SYNTAX + "4.70": Codec(decode=_jpeg),  # lossless, first predictor
    _SYNTAX + "4.80": Codec(decode=_jpeg_ls),
    _SYNTAX + "4.81": Codec(decode=_jpeg_ls, lossy=True),
    _SYNTAX + "4.90": Codec(decode=_jpeg_2000),
    _SYNTAX + "4.91": Codec(decode=_jpeg_2000, lossy=True),
    _SYNTAX + "4.201": Codec(decode=_jpeg_2000),  # HTJ2K
    _SYNTAX + "4.202": Codec(decode=_jpeg_2000),
    _SYNTAX + "4.203": Codec(decode=_jpeg_2000, lossy=True),
    _SYNTAX + "5": Codec(decode=_rle),
}
