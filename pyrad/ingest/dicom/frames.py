"""Where a file's pixels lie -> the bytes of each frame, native or compressed, or the reason why not.

Lengths are compared before anything is sliced: a frame that is not all there is never made up with zeros, and
the number of frames is the header's, whatever the bytes would allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pyrad.ingest.dicom.parse import Parsed, raw_bytes
from pyrad.ingest.reasons import Incomplete, Rejected
from pyrad.records import PixelFormat

_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0"
_RLE = "1.2.840.10008.1.2.5"
# First bytes of a frame: SOI of JPEG and JPEG-LS, SOC of JPEG 2000, the JP2 signature box
_FRAME_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP")

Span = tuple[int, int]  # offset and length in the buffer


class Frames:
    """The frames of one file; ``frame(k)`` gives the bytes of the k-th, from 0.

    ``offsets`` is the Extended Offset Table, empty where there is none. ``buffer`` may be the beginning of
    ``size`` bytes. Rejected where the bytes do not fit, Incomplete where more of them are needed.
    """

    def __init__(
        self, buffer: bytes, form: PixelFormat, offsets: Sequence[int] = (), *, size: int | None = None
    ) -> None:
        self._buffer = buffer
        self._form = form
        self._size = len(buffer) if size is None else size
        whole = self._size == len(buffer)
        if form.native:
            expected = _native_bytes(self._size, form)
            self._pixels = _native_pixels(buffer, form, expected) if whole else None
        elif whole:
            self._spans = _encapsulated_frames(buffer, form, offsets)
        else:
            raise Incomplete

    def frame(self, k: int) -> bytes | memoryview:
        """The bytes of frame ``k``; of 1-bit pixels, whole bytes that hold it (see ``first_bit``)."""
        if not self._form.native:
            return b"".join(self._buffer[at : at + length] for at, length in self._spans[k])
        if self._pixels is None:
            raise Incomplete
        bits = frame_bits(self._form, len(self._pixels))
        return self._pixels[k * bits // 8 : -(-(k + 1) * bits // 8)]

    def first_bit(self, k: int) -> int:
        """Where frame ``k`` of 1-bit pixels begins in its first byte: frames are packed without gaps."""
        return k * self._form.rows * self._form.columns % 8


def frame_bits(form: PixelFormat, total_bytes: int) -> int:
    """Bits of one native frame; ``total_bytes`` settles how 4:2:2 rows of odd width are written."""
    if form.photometric != "YBR_FULL_422":
        return form.rows * form.columns * form.samples * form.bits_allocated
    padded = form.rows * -(-form.columns // 2) * 4 * form.bits_allocated  # each row ends with a whole pair
    packed = form.rows * form.columns * 2 * form.bits_allocated  # pairs run on over the ends of rows
    return padded if 0 <= total_bytes - -(-padded * form.frames // 8) <= 1 else packed


def _native_bytes(size: int, form: PixelFormat) -> int:
    """How many bytes all frames take, of a buffer of ``size`` bytes that holds them.

    One byte of padding behind them is fine, all else is refused (PS3.5 8.1.1).
    """
    at, length = form.element.offset, form.element.length
    if length is None:
        raise Rejected("encapsulation-damaged", form.element.keyword, "undefined length without compression")
    present = min(length, size - at)
    expected = -(-frame_bits(form, length) * form.frames // 8)
    if present < expected or present < length:
        raise Rejected(
            "pixel-data-short", form.element.keyword, f"{present} bytes of {max(expected, length)}"
        )
    if present > expected + 1:
        raise Rejected("pixel-data-long", form.element.keyword, f"{present} bytes, expected {expected}")
    return expected


def _native_pixels(buffer: bytes, form: PixelFormat, expected: int) -> memoryview:
    """The bytes of all frames."""
    at, length = form.element.offset, form.element.length or 0
    if not form.little_endian and form.bits_allocated == 8 and form.element.vr == "OW" and length % 2 == 0:
        # 8-bit cells in big endian words (PS3.5 8.2): swap, or every other pixel changes places
        words = np.frombuffer(buffer, ">u2", length // 2, at)
        return memoryview(words.astype("<u2").tobytes())[:expected]
    return memoryview(buffer)[at : at + expected]


def _encapsulated_frames(buffer: bytes, form: PixelFormat, offsets: Sequence[int]) -> list[list[Span]]:
    """The fragments of each frame (PS3.5 A.4)."""
    table, fragments = _fragments(buffer, form)
    frames = _by_offsets(offsets, fragments, form.frames)
    frames = frames or _by_offsets(list(np.frombuffer(table, "<u4")), fragments, form.frames)
    if not frames and len(fragments) == form.frames:
        frames = [[span] for span in fragments]
    if not frames and form.transfer_syntax != _RLE:  # RLE: one fragment a frame (A.4.2)
        frames = _by_starts(buffer, fragments)
    if len(frames) != form.frames:
        raise Rejected(
            "frame-boundaries", "NumberOfFrames", f"{len(fragments)} fragments for {form.frames} frames"
        )
    return frames


def _fragments(buffer: bytes, form: PixelFormat) -> tuple[bytes, list[Span]]:
    """Basic Offset Table and fragments; a missing sequence delimiter is fine at the very end of the data."""
    at = form.element.offset
    end = len(buffer) if form.element.length is None else min(len(buffer), at + form.element.length)
    spans: list[Span] = []
    while at + 8 <= end:
        tag = buffer[at : at + 4]
        if tag == _DELIMITER:
            break
        length = int.from_bytes(buffer[at + 4 : at + 8], "little")
        if tag != _ITEM:
            raise Rejected("encapsulation-damaged", "PixelData", "no item where one is due")
        if at + 8 + length > end:
            raise Rejected("pixel-data-short", "PixelData", f"{end - at - 8} bytes of {length} of a fragment")
        spans.append((at + 8, length))
        at += 8 + length
    if not spans:
        raise Rejected("encapsulation-damaged", "PixelData", "no items")
    (table_at, table_length), *fragments = spans
    return buffer[table_at : table_at + table_length // 4 * 4], fragments


def extended_offsets(parsed: Parsed) -> list[int]:
    """The Extended Offset Table (PS3.3 C.7.6.3.1.8), [] where absent."""
    raw = raw_bytes(parsed.dataset, "ExtendedOffsetTable")
    return [int(offset) for offset in np.frombuffer(raw[: len(raw) // 8 * 8], "<u8")]


def _by_offsets(offsets: Sequence[int], fragments: list[Span], frames: int) -> list[list[Span]]:
    """Fragments grouped by a table of the frames' first items; [] where the table does not fit them."""
    if len(offsets) != frames or not fragments:
        return []
    origin = fragments[0][0] - 8
    index = {at - 8 - origin: number for number, (at, _length) in enumerate(fragments)}
    firsts = [index.get(int(offset), -1) for offset in offsets] + [len(fragments)]
    if firsts[0] != 0 or any(first < 0 for first in firsts) or any(a >= b for a, b in pairwise(firsts)):
        return []
    return [fragments[a:b] for a, b in pairwise(firsts)]


def _by_starts(buffer: bytes, fragments: list[Span]) -> list[list[Span]]:
    """Fragments grouped by the markers that begin a frame; these cannot occur inside one."""
    frames: list[list[Span]] = []
    for at, length in fragments:
        if not frames or buffer[at : at + 6].startswith(_FRAME_STARTS):
            frames.append([])
        frames[-1].append((at, length))
    return frames
