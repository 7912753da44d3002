"""The first bytes of a compressed frame -> its own size, depth and colour, before any decoder sees it.

What a codestream says of itself is compared with the header first, so that a frame of another size allocates
nothing. Sources: ITU-T T.81 (JPEG), T.87 (JPEG-LS), T.800 and T.814 (JPEG 2000, HTJ2K), T.871 (JFIF).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyrad.ingest.reasons import Rejected

_END = b"\xff\xd9"  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000
_TAIL_BYTES = 16  # padding behind the end: a byte to make it even, at times more of them
_RGB_IDS = {(82, 71, 66), (114, 103, 98)}  # "RGB", "rgb"

# SOF markers (T.81 Table B.1, T.87); DHT, JPG and DAC share their range
_STARTS_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_DCT_BY_HUFFMAN = {0xC0, 0xC1, 0xC2}


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """What a compressed frame says of itself."""

    rows: int
    columns: int
    components: int
    precision: int  # bits a sample
    signed: bool = False
    dct: bool = False  # Huffman-coded DCT: what every JPEG library decodes
    color: Literal["RGB", "YBR"] | None = None  # where the codestream itself says
    decoder_assumes: Literal["RGB", "YBR"] = "YBR"  # what libjpeg takes three components for
    transform: bool = False  # JPEG 2000: the decoder undoes a colour transform


def read_jpeg(data: bytes) -> Codestream:
    """The facts of a JPEG or JPEG-LS frame; Rejected where it is cut or is no such frame."""
    _check_end(data)
    jfif = False
    adobe: int | None = None
    at = 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4])
        body = data[at + 4 : at + 2 + length]
        if length < 2 or marker in (0xDA, 0xD9):
            break
        if marker == 0xE0 and body.startswith(b"JFIF"):
            jfif = True
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        elif marker in _STARTS_OF_FRAME and len(body) >= 6 + 3 * body[5]:
            ids = tuple(body[6 + 3 * k] for k in range(body[5]))
            return Codestream(
                rows=int.from_bytes(body[1:3]),
                columns=int.from_bytes(body[3:5]),
                components=body[5],
                precision=body[0],
                dct=marker in _DCT_BY_HUFFMAN,
                color=_jpeg_color(ids, jfif=jfif, adobe=adobe),
                # libjpeg believes JFIF before Adobe, which DICOM does not
                decoder_assumes="YBR" if jfif else _jpeg_color(ids, jfif=False, adobe=adobe) or "YBR",
            )
        at += 2 + length
    raise Rejected("codestream-damaged")


def whole_spectrum(data: bytes) -> bytes:
    """A JPEG frame whose first scan, if its mode is sequential, says that it has all 64 coefficients.

    It cannot have fewer (T.81 B.2.3), but some encoders wrote 0 to 0, which libjpeg refuses.
    """
    at = 2
    sequential = False
    while at + 4 <= len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4])
        sequential |= data[at + 1] in (0xC0, 0xC1)
        if data[at + 1] == 0xDA and sequential:
            return data[: at + length - 1] + b"\x00\x3f\x00" + data[at + 2 + length :]
        at += 1 if data[at + 1] == 0xFF else 2 + length
    return data


def _jpeg_color(ids: tuple[int, ...], *, jfif: bool, adobe: int | None) -> Literal["RGB", "YBR"] | None:
    """What three components are: Adobe's marker decides, JFIF means YBR, components may be called R, G, B."""
    if adobe is not None:
        return "RGB" if adobe == 0 else "YBR"
    if jfif:
        return "YBR"
    return "RGB" if ids in _RGB_IDS else None


def read_jpeg_2000(data: bytes) -> Codestream:
    """The facts of a JPEG 2000 or HTJ2K frame, bare or in a JP2 box; Rejected where it is cut or none."""
    _check_end(data)
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # SOC, SIZ
    size = data[start + 6 : start + 6 + 36]  # Rsiz ... Csiz
    if start < 0 or len(size) < 36:
        raise Rejected("codestream-damaged")
    x1, y1, x0, y0 = (int.from_bytes(size[2 + 4 * k : 6 + 4 * k]) for k in range(4))
    components = int.from_bytes(size[34:36])
    parts = data[start + 42 : start + 42 + 3 * components]  # Ssiz, XRsiz, YRsiz of each
    if not 1 <= components <= 4 or len(parts) < 3 * components:
        raise Rejected("codestream-damaged")
    if len({parts[3 * k : 3 * k + 3] for k in range(components)}) > 1 or parts[1:3] != b"\x01\x01":
        raise Rejected("codestream-mismatch", detail="components of unequal depth or size")
    return Codestream(
        rows=y1 - y0,
        columns=x1 - x0,
        components=components,
        precision=(parts[0] & 0x7F) + 1,
        signed=bool(parts[0] & 0x80),
        transform=_has_transform(data, start + 4),
    )


def _has_transform(data: bytes, at: int) -> bool:
    """Whether COD asks for a multiple component transform; ``at`` is the length of SIZ."""
    while at + 2 <= len(data):
        at += int.from_bytes(data[at : at + 2])  # to the next marker
        marker = data[at : at + 2]
        if marker == b"\xff\x52":
            return data[at + 8 : at + 9] == b"\x01"  # Lcod, Scod, progression, layers, MCT
        if marker in (b"\xff\x90", b"") or marker[0] != 0xFF:
            break
        at += 2
    raise Rejected("codestream-damaged")


def _check_end(data: bytes) -> None:
    """Decoders fill a cut frame with grey or zeros and say nothing: the end marker must be there."""
    if data.rfind(_END, max(0, len(data) - _TAIL_BYTES)) < 0:
        raise Rejected("codestream-damaged", detail="no end marker")
