"""The frames of a parsed file -> stored values: masked, sign-extended, palettes applied, colour as RGB.

The bits that count are cut out of each cell by Bits Stored, High Bit and Pixel Representation, so overlays in
unused bits never reach the store; nothing is rescaled, windowed or inverted.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import convert_color_space

from pyrad.ingest.color import luma, planes
from pyrad.ingest.dicom.codecs import CODECS, Cells
from pyrad.ingest.dicom.format import pixel_format
from pyrad.ingest.dicom.frames import Frames, extended_offsets
from pyrad.ingest.dicom.palette import Palette, read_palette
from pyrad.ingest.dicom.parse import Parsed, quiet
from pyrad.ingest.reasons import Incomplete, Rejected
from pyrad.records import PixelFormat, Source


class DicomPixels:
    """The pixels of one file; making one checks everything that can be checked without decoding."""

    def __init__(self, form: PixelFormat, frames: Frames, palette: Palette | None = None) -> None:
        self.form = form
        self._frames = frames
        self._palette = palette

    @classmethod
    def of(cls, parsed: Parsed) -> Self:
        """The pixels that a header describes; Rejected where it contradicts itself or the file's length.

        Incomplete where ``parsed`` has only the beginning of a file, and that does not tell.
        """
        form = pixel_format(parsed)
        if not form.native and form.transfer_syntax not in CODECS:
            raise Rejected(
                "unknown-transfer-syntax", "TransferSyntaxUID", _printable_uid(form.transfer_syntax)
            )
        frames = Frames(parsed.buffer, form, extended_offsets(parsed), size=parsed.size)
        grey_index = form.photometric == "PALETTE COLOR"
        return cls(form, frames, read_palette(parsed.dataset, signed=form.signed) if grey_index else None)

    @property
    def is_color(self) -> bool:
        """Whether ``values`` has three samples a pixel."""
        return self.form.samples == 3 or self._palette is not None

    @property
    def palette_notes(self) -> set[str]:
        """What is to be recorded of the palette: that there is one, and that it has not every index."""
        if self._palette is None:
            return set()
        low, high = self._cell_range
        first, entries = self._palette.first, len(self._palette.colors)
        whole = first <= low and high < first + entries
        return {"palette-applied"} if whole else {"palette-applied", "palette-short"}

    @property
    def stored_range(self) -> tuple[int, int] | None:
        """The least and greatest of ``values`` that there can be; None where ``is_color``."""
        return None if self.is_color else self._cell_range

    @property
    def _cell_range(self) -> tuple[int, int]:
        """The least and greatest value that the stored bits can have."""
        span = 1 << self.form.bits_stored
        return (-span // 2, span // 2 - 1) if self.form.signed else (0, span - 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of ``values``: of the header's own width, or float."""
        if self._palette is not None:
            return self._palette.colors.dtype
        width = max(self.form.bits_allocated // 8, 1)
        return np.dtype(f"{'f' if self.form.is_float else 'iu'[not self.form.signed]}{width}")

    def values(self, k: int) -> NDArray[Any]:
        """Stored values of frame ``k``: (rows, columns), or (rows, columns, 3) of RGB where ``is_color``."""
        with quiet():
            try:
                return self._values(k)
            except (Rejected, Incomplete, MemoryError):
                raise
            except Exception:  # noqa: BLE001 - decoders raise what they like, and may quote what they read
                raise Rejected("decode-failed", "PixelData") from None

    def _values(self, k: int) -> NDArray[Any]:
        form = self.form
        data = self._frames.frame(k)
        cells = (
            self._native(data, k) if form.native else CODECS[form.transfer_syntax].decode(bytes(data), form)
        )
        if form.is_float:
            return cells.array
        values = interpret(cells, form)
        if self._palette is not None:
            index = values.astype(np.int64) - self._palette.first
            return self._palette.colors[np.clip(index, 0, len(self._palette.colors) - 1)]
        if form.samples == 3 and (cells.color or ("YBR" if form.photometric != "RGB" else "RGB")) == "YBR":
            if values.dtype != np.uint8:
                raise Rejected("bits-unsupported", "BitsAllocated", "YBR of more than 8 bits")
            return convert_color_space(values, "YBR_FULL", "RGB")  # PS3.3 C.7.6.3.1.2
        return values

    def _native(self, data: bytes | memoryview, k: int) -> Cells:
        """Uncompressed cells of frame ``k``, planes interleaved, 4:2:2 expanded."""
        form = self.form
        shape: tuple[int, ...] = (form.rows, form.columns)
        order = "<" if form.little_endian else ">"
        if form.is_float:
            return Cells(
                array=np.frombuffer(data, f"{order}f{form.bits_allocated // 8}").reshape(shape), precision=0
            )
        if form.bits_allocated == 1:  # PS3.5 8.2: packed from the least significant bit, without gaps
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            first = self._frames.first_bit(k)
            return Cells(array=bits[first : first + form.rows * form.columns].reshape(shape), precision=1)
        flat: NDArray[Any] = np.frombuffer(data, f"{order}u{form.bits_allocated // 8}")
        if form.samples == 1:
            array = flat.reshape(shape)
        elif form.photometric == "YBR_FULL_422":
            array = expand_422(flat, form.rows, form.columns)
        elif form.planar:
            array = np.moveaxis(flat.reshape(3, *shape), 0, -1)
        else:
            array = flat.reshape(*shape, 3)
        return Cells(array=array, precision=form.bits_allocated)


def interpret(cells: Cells, form: PixelFormat) -> NDArray[Any]:
    """Cells -> stored values in the header's width: shifted, masked, sign-extended.

    Signed 12-bit [0x0FFF, 0x0800, 0x07FF, 0xF001] -> [-1, -2048, 2047, 1]; unsigned 0xF005 -> 5. A
    codestream of another sign than the header's is taken for its low min(precision, Bits Stored) bits.
    """
    width = max(form.bits_allocated // 8, 1)
    bits = min(cells.precision, form.bits_stored)
    shift = form.high_bit + 1 - form.bits_stored if cells.precision > form.high_bit else 0
    values = cells.array.astype(f"u{width}")  # two's complement, native byte order, our own copy
    if shift:
        values >>= shift
    unused = 8 * width - bits
    if form.signed:
        signed = values.view(f"i{width}")
        return (signed << unused) >> unused if unused else signed
    if unused:
        values &= (1 << bits) - 1
    return values


def expand_422(flat: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Y1 Y2 Cb Cr of each pair -> (rows, columns, 3) of Y, Cb, Cr (PS3.3 C.7.6.3.1.2).

    With an odd number of columns, rows either end with a whole pair, whose second pixel is dropped, or pairs
    run on from row to row; the number of cells tells which.
    """
    pairs = flat.reshape(-1, 4)
    full = np.empty((len(pairs), 2, 3), flat.dtype)
    full[:, :, 0] = pairs[:, :2]
    full[:, :, 1:] = pairs[:, None, 2:]
    if len(pairs) == rows * ((columns + 1) // 2):
        return full.reshape(rows, -1, 3)[:, :columns]
    return full.reshape(-1, 3)[: rows * columns].reshape(rows, columns, 3)


def frame_values(pixels: DicomPixels, source: Source) -> NDArray[Any]:
    """Pixels of ``source`` in its own shape and type: (rows, columns) or (3, rows, columns), contiguous."""
    values = pixels.values(source.frame)
    if values.ndim == 3:
        values = planes(values) if source.planes == 3 else luma(values)
    with np.errstate(invalid="ignore"):
        exact = np.ascontiguousarray(values, np.dtype(source.dtype))
    if exact.dtype.itemsize < values.dtype.itemsize and not np.array_equal(exact, values):
        raise Rejected("not-exact-in-16-bits", pixels.form.element.keyword)
    if source.padding is not None:
        low, high = source.padding
        if low <= exact.min() and exact.max() <= high:
            raise Rejected("only-padding", "PixelPaddingValue")
    return exact


def _printable_uid(uid: str) -> str:
    """A UID for the ledger, if it is one."""
    return uid if len(uid) <= 64 and uid.replace(".", "").isdigit() and uid.isascii() else ""
