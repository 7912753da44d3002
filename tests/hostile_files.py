"""Every hostile file of the verification list -> its name, its bytes, and what has to become of it.

Pixels and SOP Instance UID of each file are its own: what is stored is known by its pixels.
"""

import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from dicom_matrix import ENCODERS, SYNTAXES, Cell
from dicoms import dicom, item, rle_segments
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian
from test_ingest_luts import table
from test_ingest_palette import palette

RLE = SYNTAXES["RLE"]
CODESTREAMS = ("JPEG baseline", "JPEG lossless SV1", "JPEG-LS", "JPEG 2000", "HTJ2K", "RLE")
BROKEN = ("codestream-damaged", "codestream-mismatch", "decode-failed")
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Hostile:
    """A file; ``reasons`` of which one must be its, ``pixels`` where they are stored."""

    name: str
    data: bytes
    reasons: tuple[str, ...]
    pixels: np.ndarray | None = None


def image(dtype="int16") -> np.ndarray:
    """Pixels that no other file has."""
    low = -1000 if dtype == "int16" else 0
    return np.random.default_rng(next(_NUMBERS)).integers(low, 256, (4, 6)).astype(dtype)


def ct(cells=None, **elements) -> bytes:
    """A CT of its own."""
    uid = f"1.2.826.9.{next(_NUMBERS)}"
    return dicom(image() if cells is None else cells, **{"SOPInstanceUID": uid} | elements)


def hostile_files() -> list[Hostile]:
    """All of them."""
    groups = (
        *(_no_dicom, _sizes, _headers, _encodings, _codestreams, _frames, _tables),
        *(_identities, _preambles, _rasters),
    )
    return [file for group in groups for file in group()]


def refused(name, data, *reasons) -> Hostile:
    return Hostile(name, data, reasons)


def kept(name, data, pixels) -> Hostile:
    return Hostile(name, data, ("stored",), pixels)


def _no_dicom() -> Iterator[Hostile]:
    grey = image("uint8")
    yield refused("empty.dcm", b"", "empty-file")
    yield refused("131 bytes.dcm", bytes(131), "not-dicom")
    yield kept("png.dcm", saved(grey), grey)
    yield refused("pdf.dcm", b"%PDF-1.7" + bytes(300), "not-dicom")
    yield refused("elf.dcm", b"\x7fELF" + bytes(300), "not-dicom")
    yield refused("header cut.dcm", ct()[:300], "header-damaged", "missing-sop-class", "missing-pixel-data")


def _sizes() -> Iterator[Hostile]:
    yield refused("short by a byte.dcm", ct()[:-1], "pixel-data-short")
    yield refused("short by half.dcm", ct(bytes(24)), "pixel-data-short")
    yield refused("long by two frames.dcm", ct(bytes(3 * 48)), "pixel-data-long")
    yield refused("no rows.dcm", ct(Rows=0), "bad-size")
    yield refused("rows missing.dcm", ct(Rows=None), "bad-size")
    cells = image()
    short, wide = b"\x28\0\x10\0US\2\0\4\0", b"\x28\0\x10\0UL\4\0\4\0\0\0"
    yield kept("rows as UL.dcm", ct(cells).replace(short, wide), cells)
    huge = {"Rows": 65535, "Columns": 65535, "NumberOfFrames": "100000"}
    yield refused("huge over 32 bytes.dcm", ct(bytes(32), **huge), "image-too-large")
    for text in ("0", "-1", "1.5", "abc"):
        data = ct(NumberOfFrames="7").replace(b"IS\2\x007 ", b"IS\4\0" + text.ljust(4).encode())
        yield refused(f"{text} frames.dcm", data, "bad-number-of-frames")


def _headers() -> Iterator[Hostile]:
    data = ct()
    at = data.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    yield refused(
        "length FFFFFFF0.dcm", data[:at] + struct.pack("<L", 0xFFFFFFF0) + data[at + 4 :], "pixel-data-short"
    )
    opening = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    for depth in (200, 2000):
        data = ct()
        at = data.index(b"\x28\0\2\0US")
        yield refused(f"{depth} deep.dcm", data[:at] + opening * depth + data[at:], "nesting-too-deep")
    yield refused("deflate bomb.dcm", deflate_bomb(), "inflates-without-end")
    cells = image()
    unknown_vr = ct(cells).replace(b"\2\0\x12\0UI", b"\2\0\x12\0QQ", 1)
    yield kept("unknown VR in the meta.dcm", unknown_vr, cells)


def deflate_bomb() -> bytes:
    """1 GiB of zeros in 1 MB of deflate."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    meta = ct(syntax=DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack_from("<L", meta, 140)[0]
    bomb = meta[:start] + block * 64 + packer.flush()
    assert len(bomb) < 1 << 21
    return bomb


def _encodings() -> Iterator[Hostile]:
    data = ct()
    at = data.index(b"\2\0\x10\0UI")
    length = struct.unpack_from("<H", data, at + 6)[0]
    yield refused("no transfer syntax.dcm", data[:at] + data[at + 8 + length :], "transfer-syntax-missing")
    for name, syntax in (("unknown", b"1.2.840.10008.1.2.4.99"), ("private", b"1.2.3.4.5.6.7.8.9.10.1")):
        data = frames("JPEG baseline").replace(SYNTAXES["JPEG baseline"].encode(), syntax)
        yield refused(f"{name} transfer syntax.dcm", data, "unknown-transfer-syntax")


def frames(name: str, change=lambda stream: [stream], **elements) -> bytes:
    """A compressed file of 8 bits; ``change`` makes its fragments of its codestream."""
    cell = Cell(syntax=name, photometric="MONOCHROME2", bits=8)
    stream = ENCODERS[name](cell, cell.stored())
    rows, columns = cell.shape
    size = {"Rows": rows, "Columns": columns, "BitsAllocated": 8, "BitsStored": 8}
    return ct(change(stream), syntax=SYNTAXES[name], **size | elements)


def _codestreams() -> Iterator[Hostile]:
    for name in CODESTREAMS:
        half = frames(name, lambda stream: [stream[: len(stream) // 4 * 2]])
        random = frames(name, lambda stream: [np.random.default_rng(len(stream)).bytes(600)])
        yield refused(f"half of {name}.dcm", half, *BROKEN)
        yield refused(f"random for {name}.dcm", random, *BROKEN)
        yield refused(f"other size in {name}.dcm", frames(name, Rows=9), "codestream-mismatch", *BROKEN)


def _frames() -> Iterator[Hostile]:
    size = {"syntax": RLE, "BitsAllocated": 8, "BitsStored": 8, "Rows": 4, "Columns": 6}
    both = np.stack([image("uint8"), image("uint8")])
    streams = [rle_segments([cells.tobytes()]) for cells in both]
    second = struct.pack("<L", len(streams[0]) + 8)
    data = ct(streams, NumberOfFrames=2, **size)
    assert data.count(second) == 1
    yield kept("wrong offset table.dcm", data.replace(second, struct.pack("<L", 1234)), both)
    cells = image("uint8")
    stream = rle_segments([cells.tobytes()])
    whole = ct([stream], **size)
    at = whole.index(b"\xfe\xff\x00\xe0" + struct.pack("<L", len(stream)))
    pieces = b"".join(
        b"\xfe\xff\x00\xe0" + struct.pack("<L", len(part)) + part for part in (stream[:65], stream[65:])
    )
    yield kept("odd fragments.dcm", whole[:at] + pieces + whole[at + 8 + len(stream) :], cells)
    cells = image("uint8")
    whole = ct([rle_segments([cells.tobytes()])], **size)
    assert whole.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    yield kept("no sequence delimiter.dcm", whole[:-8], cells)


def _tables() -> Iterator[Hostile]:
    index = np.array([[0, 5, 6, 7, 8, 255]], np.uint8)
    colored = {"modality": "SC", "PhotometricInterpretation": "PALETTE COLOR"}
    past = palette(3, 5, 8, [0, 10, 255], "u1")
    yield kept("index past the palette.dcm", ct(index, **colored, **past), [[0, 0, 10, 255, 255, 255]])
    yield refused("short palette.dcm", ct(index, **colored, **palette(9, 0, 16, [1], "<u2")), "bad-palette")
    cells, short = image(), [table([1, 2], count=9)]
    yield kept("short VOI LUT.dcm", ct(cells, VOILUTSequence=short), cells)
    yield refused("short Modality LUT.dcm", ct(ModalityLUTSequence=short), "bad-modality-lut")


def _identities() -> Iterator[Hostile]:
    cells = image()
    for name in ("first", "again"):
        data = ct(cells, SOPInstanceUID="1.2.826.9.0.1", SeriesDescription=name)
        yield Hostile(f"one UID {name}.dcm", data, ("stored", "duplicate"), cells)
    for number in (1, 2):
        yield refused(f"two of a UID {number}.dcm", ct(SOPInstanceUID="1.2.826.9.0.2"), "uid-conflict")
    names = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID")
    for name, value in {
        "climbing": "../../x",
        "NUL": "a\0b",
        "long": "5" * 5000,
        "emoji": "\N{SKULL}".encode().decode("latin-1"),
    }.items():
        cells, elements = image(), dict.fromkeys(names, value)
        data = ct(cells, SpecificCharacterSet="ISO_IR 100", **elements)
        yield kept(f"{name} ids.dcm", data.replace(b"ISO_IR 100", b"ISO_IR 192"), cells)
    outside = item(ReferencedFileID=["UP", "UP", "ETC", "PASSWD"], DirectoryRecordType="IMAGE")
    data = ct(sop_class="1.2.840.10008.1.3.10", PixelData=None, DirectoryRecordSequence=[outside])
    yield refused("DICOMDIR", data.replace(b"UP\\UP", b"..\\.."), "dicomdir")


def _preambles() -> Iterator[Hostile]:
    for name, magic in (("PE", b"MZ"), ("ELF", b"\x7fELF")):
        cells = image()
        yield kept(f"{name} in the preamble.dcm", magic.ljust(128, b"\0") + ct(cells)[128:], cells)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.dcm", ct())
    yield refused("nested.zip", stream.getvalue(), "nested-archive")


def saved(pixels, kind="PNG", **options) -> bytes:
    """A raster file."""
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png(rows, columns, *, interlaced, data) -> bytes:
    """A grey PNG of these filtered bytes."""
    header = struct.pack(">2I5B", columns, rows, 8, 0, 0, 0, int(interlaced))
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def interlaced(cells) -> bytes:
    """The seven passes of Adam7 (PNG 8.2), each row unfiltered."""
    passes = (cells[top::down, left::right] for top, left, down, right in ADAM7)
    rows = (row for part in passes if part.size for row in part)
    return png(*cells.shape, interlaced=True, data=b"".join(b"\0" + row.tobytes() for row in rows))


def _rasters() -> Iterator[Hostile]:
    deep, grey = image("uint16") * 250, image("uint8")
    yield kept("16 bit.png", saved(deep), deep)
    yield kept("1 bit.png", saved(grey > 100), (grey > 100) * np.uint8(255))
    grey = image("uint8")
    yield kept("palette.png", saved(Image.fromarray(grey).convert("P")), grey)
    hidden = np.stack([image("uint8")] * 3 + [np.arange(24, dtype=np.uint8).reshape(4, 6)], -1)
    yield refused("alpha.png", saved(hidden), "alpha-not-opaque")
    grey = np.random.default_rng(next(_NUMBERS)).integers(0, 256, (11, 13), np.uint8)
    yield kept("interlaced.png", interlaced(grey), grey)
    whole = saved(image("uint8"))
    at = whole.index(b"IDAT") + 8
    yield refused("bad CRC.png", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "raster-damaged")
    yield refused("cut.png", whole[: len(whole) // 2], "raster-damaged")
    yield refused("20000x20000.png", png(20000, 20000, interlaced=False, data=bytes(9)), "image-too-large")
    turned = Image.Exif()
    turned[0x0112] = 3
    jpeg = saved(np.full((8, 8), 77, np.uint8), "JPEG", exif=turned)
    yield kept("EXIF.jpg", jpeg, np.full((8, 8), 77, np.uint8))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8))
    yield refused("CMYK.jpg", saved(noise.convert("CMYK"), "JPEG"), "cmyk")
    whole = saved(noise, "JPEG")
    yield refused("cut.jpg", whole[: len(whole) // 2], "raster-damaged", "decode-failed")
