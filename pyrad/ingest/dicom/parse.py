"""Bytes of a DICOM file -> its data set up to the pixels, and typed access to elements that never surprises.

pydicom parses; this module sees that a hostile file costs no more than its size: deflated data inflate
through a cap, deep nesting ends in a reason, warnings and log lines (which may quote the header) go nowhere.
Values are read from the raw bytes, since pydicom's own conversion raises, warns or guesses where the text is
wrong.
"""

from __future__ import annotations

import logging
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pyrad.ingest.reasons import Incomplete, Rejected
from pyrad.records import PixelElement, PixelKeyword

_PIXEL_TAGS: dict[int, PixelKeyword] = {
    0x7FE00010: "PixelData",
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
}
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_INFLATE_FREELY_BYTES = 64 << 20
_INFLATE_RATIO = 200
_UID_PREFIX = "1.2.840.10008."  # every SOP class of the standard

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # PS3.5 6.2, DS; blanks are stripped before
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_BLANKS = "\0 \t\r\n"
_TEXT_NUMBERS = frozenset({"IS", "DS", "LO", "SH", "CS", "LT", "ST", "UT"})
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A DICOM file: the data set up to its pixels, the transfer syntax, and where the pixels are."""

    dataset: Dataset
    transfer_syntax: str
    buffer: bytes  # the file itself or its beginning, or what its deflated part inflates to
    size: int  # of all that ``buffer`` is or begins
    little_endian: bool
    pixels: PixelElement | None  # in ``buffer``
    has_meta: bool


def has_preamble(data: bytes) -> bool:
    """Whether the file calls itself DICOM; a preamble may hold anything, a TIFF or ELF header too."""
    return data[128:132] == b"DICM"


def looks_like_dataset(data: bytes) -> bool:
    """Whether bytes without a preamble may begin a data set: a plausible first element of group 2 or 8."""
    if len(data) < 16:
        return False
    group, element, length = struct.unpack("<HHI", data[:8])
    if group not in (2, 8) or element > 0x0100:
        return False
    return data[4:6].isalpha() and data[4:6].isupper() if data[4:6].isalpha() else length <= 256


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom and the decoders: what they warn of and log may quote values of the header."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "openjpeg")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True  # setLevel would empty the caches of all loggers there are, for every frame
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def parse(data: bytes, size: int | None = None) -> Parsed:
    """Parse a file with a preamble, or without one if its data set names a SOP class; raises Rejected.

    ``data`` may be the beginning of a file of ``size`` bytes: Incomplete where its pixels begin behind that.
    """
    if size is not None and size > len(data):
        return _parse_start(data, size)
    with quiet():
        try:
            parsed = _parse(data)
        except RecursionError:
            raise Rejected("nesting-too-deep") from None
        except (MemoryError, Rejected):
            raise
        except Exception:  # noqa: BLE001 - whatever pydicom raises on a damaged header, it may quote it
            raise Rejected("header-damaged") from None
    if not has_preamble(data) and not text(parsed.dataset, "SOPClassUID").startswith(_UID_PREFIX):
        raise Rejected("not-dicom")
    return parsed


def _parse_start(data: bytes, size: int) -> Parsed:
    try:
        parsed = parse(data)
    except Rejected:  # for the cut, perhaps
        raise Incomplete from None
    if parsed.pixels is None or parsed.buffer is not data or parsed.pixels.offset > len(data):
        raise Incomplete
    return replace(parsed, size=size)


def _parse(data: bytes) -> Parsed:
    stream = BytesIO(data)
    stream.seek(132 if has_preamble(data) else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    syntax = text(meta, "TransferSyntaxUID")
    start = stream.tell()
    if not syntax:
        if len(meta):
            raise Rejected("transfer-syntax-missing", "TransferSyntaxUID")
        # No file meta at all: the letters of a VR tell explicit from implicit encoding
        explicit = data[start + 4 : start + 6].isalpha() and data[start + 4 : start + 6].isupper()
        syntax = str(ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian)
    if syntax == DeflatedExplicitVRLittleEndian:
        data, start = _inflate(memoryview(data)[start:]), 0
        stream = BytesIO(data)
    implicit, little_endian = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset = read_dataset(stream, implicit, little_endian, stop_when=_at_pixels)
    if "SOPClassUID" not in dataset and "MediaStorageSOPClassUID" in meta:
        dataset.SOPClassUID = text(meta, "MediaStorageSOPClassUID")
    found_implicit = bool(dataset.original_encoding[0])
    return Parsed(
        dataset=dataset,
        transfer_syntax=syntax,
        buffer=data,
        size=len(data),
        little_endian=little_endian,
        pixels=_pixel_element(data, stream.tell(), implicit=found_implicit, little_endian=little_endian),
        has_meta=bool(len(meta)),
    )


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) > 0x7FE00002  # behind the Extended Offset Table


def _pixel_element(data: bytes, at: int, *, implicit: bool, little_endian: bool) -> PixelElement | None:
    """The element at ``at``, if it is one of pixels."""
    order: Literal["little", "big"] = "little" if little_endian else "big"
    header = data[at : at + 12]
    if len(header) < 8:
        return None
    tag = int.from_bytes(header[0:2], order) << 16 | int.from_bytes(header[2:4], order)
    if tag not in _PIXEL_TAGS:
        return None
    vr = b"" if implicit or not header[4:6].isalpha() else header[4:6]
    if vr in _LONG_VRS:
        length, offset = int.from_bytes(header[8:12], order), at + 12
    else:
        length, offset = int.from_bytes(header[4:8] if not vr else header[6:8], order), at + 8
    return PixelElement(
        keyword=_PIXEL_TAGS[tag],
        vr=vr.decode(),
        offset=offset,
        length=None if length == _UNDEFINED else length,
    )


def _inflate(packed: memoryview) -> bytes:
    """Undo deflate (PS3.5 A.5) through a cap; measured: 1 MB of it can ask for gigabytes."""
    limit = _INFLATE_FREELY_BYTES + _INFLATE_RATIO * len(packed)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(packed, limit)
    if inflater.unconsumed_tail:
        raise Rejected("inflates-without-end", detail=f"{len(packed)} bytes to more than {limit}")
    return inflated


@cache
def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword  # noqa: S101 - our own misspelling
    return BaseTag(tag)


@cache
def _is_sequence(keyword: str) -> bool:
    return dictionary_VR(_tag(keyword)) == "SQ"


def _raw(dataset: Dataset, keyword: str) -> tuple[str, bytes | str, bool]:
    """VR, value and byte order of an element; a value that pydicom has converted already comes as text."""
    tag = _tag(keyword)
    element: Any = dataset.get_item(tag, keep_deferred=True)
    if element is None:
        return "", b"", True
    if isinstance(element, RawDataElement) and element.VR == "UN":
        # Of a writer that did not know the tag: encoded as in implicit VR little endian (PS3.5 6.2.2)
        return dictionary_VR(tag), element.value or b"", True
    vr = element.VR or dictionary_VR(tag)
    if isinstance(element, RawDataElement):
        return vr, element.value or b"", element.is_little_endian
    value = element.value
    if isinstance(value, bytes):
        return vr, value, True
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return vr, "" if value is None else str(value), True
    return vr, "\\".join(map(str, value)), True


def has(dataset: Dataset, keyword: str) -> bool:
    """Whether the element is present with a value, or a sequence with an item."""
    if _is_sequence(keyword):
        return bool(items(dataset, keyword))
    return bool(_raw(dataset, keyword)[1])


def identifier(dataset: Dataset, keyword: str) -> str:
    """The whole of a text element, stripped, as UTF-8 or else Latin-1: it need only be the same each time."""
    value = _raw(dataset, keyword)[1]
    if isinstance(value, str):
        return value.strip(_BLANKS)
    try:
        return value.decode().strip(_BLANKS)
    except UnicodeDecodeError:
        return value.decode("latin-1").strip(_BLANKS)


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """The values of a text element, stripped of blanks and NULs; [] where absent or empty.

    Bytes are taken as Latin-1, whatever the character set: what pyrad reads so is ASCII by definition.
    """
    value = _raw(dataset, keyword)[1]
    string = value.decode("latin-1") if isinstance(value, bytes) else value
    return [part.strip(_BLANKS) for part in string.split("\\")] if string else []


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of a text element, or ""."""
    values = texts(dataset, keyword)
    return values[0] if values else ""


def decimals(dataset: Dataset, keyword: str) -> list[float | None]:
    """The values of a DS, IS, FL or FD element; None for each that is no number: "40,5" is not 405."""
    vr, value, little_endian = _raw(dataset, keyword)
    if isinstance(value, bytes) and vr in _BINARY:
        numbers: list[float | None] = [
            float(x) for x in _unpack(_BINARY[vr], value, little_endian=little_endian)
        ]
    else:
        numbers = [float(part) if _DECIMAL.fullmatch(part) else None for part in texts(dataset, keyword)]
    return [number if number is not None and math.isfinite(number) else None for number in numbers]


def integer(dataset: Dataset, keyword: str) -> int | None:
    """The one value of an integer element of any width (Rows as UL too); None where it is not one."""
    values = integers(dataset, keyword)
    return values[0] if len(values) == 1 else None


def integers(dataset: Dataset, keyword: str) -> list[int | None]:
    """The values of an integer element; None for each that is no integer."""
    vr, value, little_endian = _raw(dataset, keyword)
    if isinstance(value, str) or vr in _TEXT_NUMBERS:
        return [int(part) if _INTEGER.fullmatch(part) else None for part in texts(dataset, keyword)]
    code = _BINARY.get(vr, "H")  # "US or SS": unsigned, and the caller knows the sign
    return [None] if code in "fd" else list(_unpack(code, value, little_endian=little_endian))


def _unpack(code: str, value: bytes, *, little_endian: bool) -> tuple[Any, ...]:
    count = len(value) // struct.calcsize(code)
    return struct.unpack_from(("<" if little_endian else ">") + code * count, value)


def raw_bytes(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of an element as they stand in the file; b"" where absent."""
    value = _raw(dataset, keyword)[1]
    return value if isinstance(value, bytes) else b""


def words(dataset: Dataset, keyword: str) -> NDArray[np.uint16]:
    """The 16-bit words of an element, whatever its VR; an odd byte at the end counts as a low one."""
    _vr, value, little_endian = _raw(dataset, keyword)
    data = value if isinstance(value, bytes) else b""
    data += b"\0" * (len(data) % 2)
    return np.frombuffer(data, "<u2" if little_endian else ">u2").astype(np.uint16)


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; [] where absent. Rejected where it cannot be parsed."""
    if dataset.get_item(_tag(keyword), keep_deferred=True) is None:
        return []
    with quiet():
        try:
            value = dataset[keyword].value
        except RecursionError:
            raise Rejected("nesting-too-deep", keyword) from None
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - see parse
            raise Rejected("header-damaged", keyword) from None
    return [item for item in value if isinstance(item, Dataset)] if hasattr(value, "__iter__") else []
