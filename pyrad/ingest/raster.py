"""A PNG, JPEG, TIFF, BMP, GIF or WebP file -> sources without decoding -> pixels, exact or not at all.

Grey images keep their 8 or 16 bits; 1-bit and palette images are expanded; colour becomes luma or planes. Of
the metadata only the orientation is used, and dropped. The pages of a TIFF are frames; an animation gives its
first.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from pyrad.ingest.color import is_grey, luma, planes
from pyrad.ingest.narrow import StoredType, narrow_type
from pyrad.ingest.policy import MAX_PIXELS, ScanOptions
from pyrad.ingest.reasons import Rejected
from pyrad.records import Source

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # EXIF and TIFF
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT, _COMPRESSION = 258, 262, 339, 259  # TIFF 6.0
_LOSSY_COMPRESSIONS = {6, 7, 50001}  # old and new JPEG, WebP

_GREY = {"1", "L"}
_GREY_16 = {"I;16", "I;16L", "I;16B", "I;16N"}
_WIDE = {"I", "F"}  # 32-bit integers and floats: decoded to see whether 16 bits hold them
_COLOR = {"P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX"}


def scan_raster(archive: int, path: str, data: bytes, options: ScanOptions) -> list[Source]:
    """One source a page; Rejected for the whole file. Decodes only what ``_WIDE`` and planes make it."""
    if data.startswith(_PNG_MAGIC):
        _check_png(data)
    with _opened(data, "raster-damaged") as image:
        lossy_webp = image.format == "WEBP" and b"VP8L" not in data[12:64]
        sources = []
        for page in range(_pages(image)):
            image.seek(page)
            source = _source(image, page, options, archive=archive, path=path)
            sources.append(source._replace(lossy=source.lossy or lossy_webp))
    return sources


def decode_raster(sources: Sequence[Source], data: bytes) -> Iterator[NDArray[Any] | Rejected]:
    """Pixels of each source, (rows, columns) or (3, rows, columns) in its own type, or why not."""
    for source in sources:
        try:
            pixels: NDArray[Any] | Rejected = _page(source, data)
        except Rejected as rejected:
            pixels = rejected
        yield pixels


def _page(source: Source, data: bytes) -> NDArray[Any]:
    with _opened(data, "decode-failed") as image:
        image.seek(source.frame)
        values = _values(image)
    if values.ndim == 3:
        values = planes(values) if source.planes == 3 else luma(values)
    if values.shape[-2:] != (source.rows, source.columns):
        raise Rejected("decode-failed", detail=f"decoded {values.shape}")
    return np.ascontiguousarray(values, np.dtype(source.dtype))


@contextmanager
def _opened(data: bytes, reason: str) -> Iterator[Image.Image]:
    """The image; whatever Pillow raises or warns of in the body becomes ``reason``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a large image is refused below, by our own limit
        try:
            with Image.open(BytesIO(data), formats=_FORMATS) as image:
                yield image
        except (Rejected, MemoryError):
            raise
        except Image.DecompressionBombError:
            raise Rejected("image-too-large") from None
        except Exception:  # noqa: BLE001 - Pillow's plugins raise what they like, and may quote the file
            raise Rejected(reason) from None


def _pages(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1


def _source(image: Image.Image, page: int, options: ScanOptions, *, archive: int, path: str) -> Source:
    columns, rows = image.size
    if rows < 1 or columns < 1:
        raise Rejected("raster-damaged", detail=f"{rows} x {columns}")
    if rows * columns > MAX_PIXELS:
        raise Rejected("image-too-large", detail=f"{rows} x {columns}, limit {MAX_PIXELS} pixels")
    notes: set[str] = set()
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in range(2, 9):
        notes.add("rotated")
        if orientation >= 5 and image.format != "TIFF":  # Pillow has turned a TIFF's size already
            rows, columns = columns, rows
    dtype, kept_planes = _kind(image, options, notes)
    if image.format in ("PNG", "GIF", "WEBP") and getattr(image, "n_frames", 1) > 1:
        notes.add("first-frame-only")
    inverted = image.mode in _GREY_16 and _tiff(image, _PHOTOMETRIC) == 0  # WhiteIsZero, left as it is
    return Source(
        archive=archive,
        path=path,
        kind="raster",
        frame=page,
        rows=rows,
        columns=columns,
        planes=kept_planes,
        dtype=dtype,
        photometric="RGB" if kept_planes == 3 else "MONOCHROME1" if inverted else "MONOCHROME2",
        bits_stored=8 * np.dtype(dtype).itemsize,
        lossy=_is_lossy(image),
        warnings=tuple(sorted(notes)),
    )


def _kind(image: Image.Image, options: ScanOptions, notes: set[str]) -> tuple[StoredType, int]:
    """Stored type and planes of an image of this mode."""
    mode = image.mode
    if mode == "CMYK":
        raise Rejected("cmyk")
    bits = _tiff(image, _BITS_PER_SAMPLE)
    samples = bits if isinstance(bits, tuple) else (bits or 8,)
    signed = 2 in np.atleast_1d(_tiff(image, _SAMPLE_FORMAT) or 1)
    # Pillow drops the low byte of 16-bit colour, and reads signed bytes as unsigned
    if (mode in _COLOR and max(samples) > 8) or (mode == "L" and signed):
        raise Rejected("raster-mode-unsupported", detail=f"{mode} of {max(samples)} bits")
    if mode in _GREY:
        return "uint8", 1
    if mode in _GREY_16:
        return "uint16", 1
    if mode in _WIDE:
        return narrow_type([_values(image)]), 1
    if mode not in _COLOR:
        raise Rejected("raster-mode-unsupported", detail=mode)
    if mode in ("P", "PA"):
        notes.add("palette-applied")
    if options.color == "planes" and not is_grey(_values(image)):
        return "uint8", 3
    notes.add("color-to-luma")
    return "uint8", 1


def _values(image: Image.Image) -> NDArray[Any]:
    """(rows, columns) of grey values, or (rows, columns, 3) of RGB; upright, opaque."""
    if image.format != "TIFF":  # Pillow turns a TIFF upright as it loads it
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        _check_opaque(image)
    if image.mode in _GREY:
        return np.asarray(image.convert("L"))
    if image.mode in _GREY_16 | _WIDE:
        return np.asarray(image)
    return np.asarray(image.convert("RGB"))


def _check_opaque(image: Image.Image) -> None:
    """Alpha is dropped only where it hides nothing."""
    if image.mode in _GREY_16:
        opaque = not (np.asarray(image) == image.info["transparency"]).any()
    else:
        opaque = image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    if not opaque:
        raise Rejected("alpha-not-opaque")


def _tiff(image: Image.Image, tag: int) -> Any:
    """A TIFF tag, or None."""
    return image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def _is_lossy(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO") or _tiff(image, _COMPRESSION) in _LOSSY_COMPRESSIONS


def _check_png(data: bytes) -> None:
    """Walk the chunks: Pillow checks no checksum of pixels, and drops the low byte of 16-bit colour."""
    at = len(_PNG_MAGIC)
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4])
        kind = data[at + 4 : at + 8]
        end = at + 8 + length
        if len(data) < end + 4 or zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(
            data[end : end + 4]
        ):
            raise Rejected("raster-damaged", detail="checksum" if len(data) >= end + 4 else "cut")
        if kind == b"IHDR" and length == 13 and data[at + 16] == 16 and data[at + 17] != 0:
            raise Rejected("raster-mode-unsupported", detail="16-bit colour or alpha")
        at = end + 4
