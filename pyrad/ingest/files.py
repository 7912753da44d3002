"""Bytes of one file -> its kind, by content -> sources, and later the pixels: the one door to every format.

A name is a claim, not a fact: a PNG called .dcm is a PNG. Only where the content is no image does the name
matter: a file that claims to be an image is quarantined, any other is skipped.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import PurePosixPath
from typing import Any, Literal

from numpy.typing import NDArray

from pyrad.ingest.cut import apply_cut
from pyrad.ingest.dicom.frames import Frames
from pyrad.ingest.dicom.header import scan_dicom
from pyrad.ingest.dicom.parse import has_preamble, looks_like_dataset, parse
from pyrad.ingest.dicom.pixels import DicomPixels, frame_values
from pyrad.ingest.npy import decode_npy, scan_npy
from pyrad.ingest.policy import ScanOptions
from pyrad.ingest.raster import decode_raster, scan_raster
from pyrad.ingest.reasons import Incomplete, Rejected
from pyrad.ingest.selectors import admit_selected
from pyrad.records import Source

Kind = Literal["dicom", "dicom-without-preamble", "raster", "npy", "zip", "other"]

_CLAIMS = {
    "not-dicom": {".dcm", ".dicom", ".ima"},
    "not-a-raster": {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"},
    "not-npy": {".npy"},
}
_CLAIMED_KIND = {"dicom": "dicom", "raster": "a-raster", "npy": "npy"}
_CLAIM_OF = {suffix: reason for reason, suffixes in _CLAIMS.items() for suffix in suffixes}

_RASTER_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",  # BigTIFF
    b"MM\0+",
)
_BMP_HEADER_BYTES = {12, 40, 52, 56, 64, 108, 124}
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_APPLE_DOUBLE = b"\x00\x05\x16\x07"  # what macOS leaves beside a file: ._NAME


def detect(data: bytes) -> Kind:
    """What the content is; a DICOM prefix counts before anything that its preamble may hold."""
    if has_preamble(data):
        return "dicom"
    if data.startswith(_RASTER_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return "raster"
    if data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _BMP_HEADER_BYTES:
        return "raster"
    if data.startswith(b"\x93NUMPY"):
        return "npy"
    if data.startswith(_ZIP_MAGIC):
        return "zip"
    return "dicom-without-preamble" if looks_like_dataset(data) else "other"


def file_digest(data: bytes, key: bytes) -> str:
    """What stands for a file's bytes where no UID does: HMAC-SHA256, 32 hex characters.

    Keyed, since an unsalted hash of a file leads back to the file, and to its patient.
    """
    mac = hmac.new(key, b"digest\0", "sha256")
    mac.update(data)
    return mac.digest()[:16].hex()


@contextmanager
def contained() -> Iterator[None]:
    """One file never ends an ingest: what nobody foresaw rejects it. The name of a class is no secret."""
    try:
        yield
    except (Rejected, Incomplete, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - see above
        raise Rejected("unexpected", detail=type(error).__name__) from None


def scan(archive: int, path: str, data: bytes, options: ScanOptions, size: int | None = None) -> list[Source]:
    """The frames of a file, one Source each, from its headers; Rejected says why there are none.

    ``data`` may be the beginning of a file of ``size`` bytes: Incomplete asks for all of them.
    """
    size = len(data) if size is None else size
    with contained():
        sources = _scan(archive, path, data, size, options)
        if sources[0].kind != "dicom":  # these say nothing else of themselves
            frame = sources[0]
            sizes = {"rows": frame.rows, "columns": frame.columns, "frames": len(sources)}
            admit_selected({name: float(size) for name, size in sizes.items()}, options.select)
    if not sources[0].uid and size > len(data):
        raise Incomplete
    digest = "" if sources[0].uid else file_digest(data, options.digest_key)
    claim = _CLAIM_OF.get(PurePosixPath(path).suffix.lower())
    lies = claim is not None and claim != f"not-{_CLAIMED_KIND[sources[0].kind]}"
    if not digest and not lies:
        return sources
    return [
        source._replace(
            digest=digest,
            warnings=tuple(sorted({*source.warnings, "extension-lies"})) if lies else source.warnings,
        )
        for source in sources
    ]


def _scan(archive: int, path: str, data: bytes, size: int, options: ScanOptions) -> list[Source]:
    kind = detect(data)
    if kind != "dicom" and size > len(data):
        raise Incomplete
    if kind == "raster":
        return scan_raster(archive, path, data, options)
    if kind == "npy":
        return scan_npy(archive, path, data)
    if kind == "dicom":
        return scan_dicom(archive, path, parse(data, size), options)
    if kind == "zip":
        raise Rejected("nested-archive")
    claim = _CLAIM_OF.get(PurePosixPath(path).suffix.lower())
    if claim is None or data.startswith(_APPLE_DOUBLE):
        claim = "not-an-image"
    elif not data:
        claim = "empty-file"
    if kind == "other":
        raise Rejected(claim)
    try:
        parsed = parse(data)
    except Rejected:  # it only looked like a data set
        raise Rejected(claim) from None
    return scan_dicom(archive, path, parsed, options)


def decode(source: Source, data: bytes) -> NDArray[Any]:
    """Stored values of one frame: (rows, columns) or (3, rows, columns) in ``source.dtype``, contiguous.

    Raises Rejected, also where the frame is nothing but padding.
    """
    (pixels,) = decode_frames([source], data)
    if isinstance(pixels, Rejected):
        raise pixels
    return pixels


def decode_frames(sources: Sequence[Source], data: bytes) -> Iterator[NDArray[Any] | Rejected]:
    """The frames of one file in the order of ``sources``; its header is parsed only where they lack its form.

    A frame that cannot be decoded comes as its Rejected, and its neighbours are unharmed.
    """
    frames = _decoder(sources, data)
    for source in sources:
        try:
            pixels: NDArray[Any] | Rejected = next(frames)
            if not isinstance(pixels, Rejected):
                pixels = apply_cut(pixels, source)
        except Rejected as rejected:
            pixels, frames = rejected, repeat(rejected)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - see contained
            pixels = Rejected("unexpected", detail=type(error).__name__)
            frames = repeat(pixels)
        yield pixels


def _decoder(sources: Sequence[Source], data: bytes) -> Iterator[NDArray[Any] | Rejected]:
    if sources[0].kind == "raster":
        yield from decode_raster(sources, data)
    elif sources[0].kind == "npy":
        yield from decode_npy(sources, data)
    else:
        form = sources[0].form
        pixels = DicomPixels.of(parse(data)) if form is None else DicomPixels(form, Frames(data, form))
        for source in sources:
            yield _dicom_frame(pixels, source)


def _dicom_frame(pixels: DicomPixels, source: Source) -> NDArray[Any] | Rejected:
    try:
        return frame_values(pixels, source)
    except Rejected as rejected:
        return rejected
