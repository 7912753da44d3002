"""The decision table of DICOM pixels, row by row, with exact numbers: what is shown, noted or refused.

Every file goes the whole way, through an ingest and a loader, where the row speaks of what is seen. Rows of
encodings and transfer syntaxes have a file of their own, `test_dicom_matrix.py`.
"""

import struct
from importlib.metadata import version

import numpy as np
import pydicom
import pytest
from archives import ingest
from dicoms import OPTIONS, RLE, dicom, item, pixels, refusal, rle_segments
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from test_ingest_codestreams import GREY, compressed, jpeg
from test_ingest_luts import table
from test_ingest_palette import indexed, palette

from pyrad.ingest.files import scan
from pyrad.loader.loader import Loader
from pyrad.store.reader import open_store

LINEAR = {"WindowCenter": "40", "WindowWidth": "400"}
EXACT, SIGMOID = ({**LINEAR, "VOILUTFunction": name} for name in ("LINEAR_EXACT", "SIGMOID"))
HU = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}


def row(*values, dtype=np.int16):
    return np.array([values], dtype)


def ct(*values, dtype=np.int16, **elements):
    return dicom(row(*values, dtype=dtype), **elements)


# Eight pixels each; what auto shows of them, from the formulas by hand
RAMP = (-161, -160, -159, 40, 140, 239, 240, 241)
FALLBACK = (0, 0, 10, 20, 30, 40, 50, 100)  # p1 and p99 of these: 0 and 96.5
WIDE = table(np.arange(4096) // 16, 0, 8)
SHOWN = {
    "LINEAR": (
        ct(*RAMP, **LINEAR),
        [0, 0, 0.5 - 198.5 / 399, 0.5 + 0.5 / 399, 0.5 + 100.5 / 399, 1, 1, 1],
    ),
    "LINEAR, width 1 is a threshold at c - 0.5": (
        ct(-5, 0, 39, 39, 40, 41, 42, 99, WindowCenter="40", WindowWidth="1"),
        [0, 0, 0, 0, 1, 1, 1, 1],
    ),
    "LINEAR_EXACT": (ct(*RAMP, **EXACT), [0, 0, 1 / 400, 0.5, 0.75, 0.9975, 1, 1]),
    "SIGMOID": (
        ct(-360, -60, 40, 40, 140, 140, 240, 440, **SIGMOID),
        [1 / (1 + np.exp(-4 * (x - 40) / 400)) for x in (-360, -60, 40, 40, 140, 140, 240, 440)],
    ),
    "the output range is not that of the data": (
        ct(-300, -200, -100, 0, 0, 100, 200, 300, RescaleSlope="-1", RescaleIntercept="0", **EXACT),
        [1, 0.9, 0.65, 0.4, 0.4, 0.15, 0, 0],
    ),
    "LINEAR with 0 < w < 1": (
        ct(0, 0, 0, 1, 1, 2, 2, 2, WindowCenter="1", WindowWidth="0.5"),
        [0, 0, 0, 0.5, 0.5, 1, 1, 1],
    ),
    "w <= 0: the next window": (
        ct(*RAMP, WindowCenter=["0", "40"], WindowWidth=["-3", "400"], VOILUTFunction="LINEAR_EXACT"),
        [0, 0, 1 / 400, 0.5, 0.75, 0.9975, 1, 1],
    ),
    "width without centre: the percentile range": (
        ct(*FALLBACK, WindowWidth="400"),
        [min(x / 96.5, 1) for x in FALLBACK],
    ),
    "the percentile range is of unpadded pixels": (
        ct(-2000, *FALLBACK[1:], PixelPaddingValue=-2000),
        [0, *(np.clip((x - 0.6) / 96.4, 0, 1) for x in FALLBACK[1:])],
    ),
    "several windows: the first is the default": (
        ct(*RAMP, WindowCenter=["40", "0"], WindowWidth=["400", "1"], VOILUTFunction="LINEAR_EXACT"),
        [0, 0, 1 / 400, 0.5, 0.75, 0.9975, 1, 1],
    ),
    "VOI LUT and window: the LUT is preferred": (
        ct(-9, 0, 1, 2, 3, 4, 5, 99, VOILUTSequence=[table([0, 51, 102, 255], 1, 8)], **LINEAR),
        [0, 0, 0, 0.2, 0.4, 1, 1, 1],
    ),
    "LUT descriptor first value 0 means 65,536": (
        ct(
            *(0, 1, 2, 32767, 32768, 65533, 65534, 65535),
            dtype=np.uint16,
            VOILUTSequence=[table(np.arange(65535, -1, -1), count=0)],
        ),
        [(65535 - x) / 65535 for x in (0, 1, 2, 32767, 32768, 65533, 65534, 65535)],
    ),
    "x outside the LUT: first or last entry": (
        ct(-32768, -101, -100, -99, -98, -97, 0, 32767, VOILUTSequence=[table([3, 0, 15, 12], -100, 4)]),
        [0.2, 0.2, 0.2, 0, 1, 0.8, 0.8, 0.8],
    ),
    "8-bit LUT Data with 4,096 entries": (
        ct(0, 15, 16, 255, 256, 4079, 4095, 5000, dtype=np.uint16, VOILUTSequence=[WIDE]),
        [x / 255 for x in (0, 0, 1, 15, 16, 254, 255, 255)],
    ),
    "Modality LUT with negative first value on int16": (
        ct(
            *(-32768, -32767, -1, 0, 1, 2, 32766, 32767),
            ModalityLUTSequence=[table(np.arange(65536), -32768, count=0)],
            WindowCenter="32767.5",
            WindowWidth="65535",
            VOILUTFunction="LINEAR_EXACT",
        ),
        [(x + 32768) / 65535 for x in (-32768, -32767, -1, 0, 1, 2, 32766, 32767)],
    ),
    "rescale: the missing one is 0": (
        ct(-80, -80, 0, 20, 20, 70, 120, 120, RescaleSlope="2", **EXACT),
        [0, 0, 0.4, 0.5, 0.5, 0.75, 1, 1],
    ),
    "BitsStored < BitsAllocated, signed": (
        ct(
            *(0x0FFF, 0x0800, 0x07FF, 0xF001, 0x0FFF, 0x0800, 0x07FF, 0xF001),
            dtype=np.uint16,
            BitsStored=12,
            PixelRepresentation=1,
            WindowCenter="-0.5",
            WindowWidth="4095",
            VOILUTFunction="LINEAR_EXACT",
        ),
        [(x + 2048) / 4095 for x in (-1, -2048, 2047, 1)] * 2,
    ),
    "padding is background in MONOCHROME2": (
        ct(-2000, -2000, -160, 40, 40, 240, 240, 240, PixelPaddingValue=-2000, **EXACT),
        [0, 0, 0, 0.5, 0.5, 1, 1, 1],
    ),
    "padding is background in MONOCHROME1, reversed values too": (
        ct(
            *(-2000, -1990, -160, 40, 40, 240, 240, -1989),
            PhotometricInterpretation="MONOCHROME1",
            PixelPaddingValue=-1990,
            PixelPaddingRangeLimit=-2000,
            **EXACT,
        ),
        [0, 0, 1, 0.5, 0.5, 0, 0, 1],
    ),
    "VOI LUT output depth: the fewer bits": (
        ct(0, 1, 2, 3, 0, 1, 2, 3, VOILUTSequence=[table([0, 819, 2048, 4095], 0, 16)]),
        [0, 0.2, 2048 / 4095, 1] * 2,
    ),
    "Presentation LUT Shape INVERSE with MONOCHROME1": (
        ct(*RAMP, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **EXACT),
        [1, 1, 1 - 1 / 400, 0.5, 0.25, 0.0025, 0, 0],
    ),
    # stored bits -> mask, sign -> padding -> Modality LUT -> VOI LUT -> MONOCHROME1
    "order": (
        ct(
            *(0x1FFF, 0xF800, 0x0000, 0x3001, 0x2002, 0x5003, 0x0004, 0x07FF),
            dtype=np.uint16,
            BitsStored=12,
            PixelRepresentation=1,
            PixelPaddingValue=-2048,
            ModalityLUTSequence=[table([500, 400, 300, 200, 100, 0], -1, 16)],
            VOILUTSequence=[table([255, 204, 153, 102, 51, 0], 0, 8)],
            PhotometricInterpretation="MONOCHROME1",
        ),
        # values -1, padding, 0, 1, 2, 3, 4, 2047 -> 500, ., 400, 300, 200, 100, 0, 0 -> last entry, 0; or 255
        [1, 0, 1, 1, 1, 1, 0, 0],
    ),
    "order, with a rescale": (
        ct(1023, 1024, 1025, 1026, 1027, 1028, 1029, 2000, VOILUTSequence=[table([0, 3, 9, 15], 1, 4)], **HU),
        [0, 0, 0, 0.2, 0.6, 1, 1, 1],
    ),
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What a loader shows of each file, (8,) in [0, 1], by the name of its row."""
    folder = tmp_path_factory.mktemp("table")
    for number, (data, _) in enumerate(SHOWN.values()):
        path = folder / "in" / f"class{number}" / "a.dcm"
        path.parent.mkdir(parents=True)
        path.write_bytes(data.replace(b"1.2.3.4.5\0", b"1.2.3.%d" % (1000 + number)))
    ingest(folder / "a.zarr", folder / "in", layout="folder")
    with open_store(folder / "a.zarr") as store:
        (split,) = set(store.samples["split"].to_pylist())  # one patient
        loader = Loader(
            store, split, len(SHOWN), (1, 8), shuffle=False, mean=(0,), std=(1,), multi_label=True
        )
        batch = next(iter(loader))
        names = list(SHOWN)
        labels = [loader.classes[int(at)] for at in batch.labels.argmax(1)]
        images = batch.images.float().numpy()[:, 0, 0]
        return {names[int(label[5:])]: image for label, image in zip(labels, images, strict=True)}


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown(shown, name):
    np.testing.assert_allclose(shown[name], SHOWN[name][1], rtol=0, atol=2e-7)


def reworded(was, now, **elements):
    data = ct(*RAMP, **elements)
    assert was in data
    return data.replace(was, now)


# A file, and the warnings that record what was done
NOTED = {
    "LINEAR with 0 < w < 1": (ct(1, WindowCenter="1", WindowWidth="0.5"), ["window-narrow"]),
    "w <= 0": (ct(1, WindowCenter="1", WindowWidth="0"), ["window-ignored"]),
    "width without centre": (ct(1, WindowWidth="4"), ["window-ignored"]),
    "40,5 is no number": (
        reworded(b"4000", b"40,5", WindowCenter="4000", WindowWidth="400 "),
        ["window-ignored"],
    ),
    "NaN is no number": (
        reworded(b"4000", b" NaN", WindowCenter="4000", WindowWidth="400 "),
        ["window-ignored"],
    ),
    "rescale: one absent": (ct(1, RescaleSlope="2"), ["rescale-incomplete"]),
    "HighBit != BitsStored - 1": (
        ct(1, dtype=np.uint16, BitsStored=12, HighBit=15),
        ["high-bit-shifted"],
    ),
    "VOI LUT output depth": (ct(1, VOILUTSequence=[table([0, 4095], 0, 16)]), ["voi-lut-bits"]),
    "a damaged VOI LUT": (
        ct(1, VOILUTSequence=[item(LUTDescriptor=[9, 0, 16])]),
        ["voi-lut-ignored"],
    ),
    "Modality LUT and rescale": (ct(1, ModalityLUTSequence=[table([1])], **HU), ["rescale-ignored"]),
    "CT whose rescale type is not HU": (ct(1, RescaleType="US", **HU), ["rescale-type-not-hu"]),
    "a palette shorter than its indices": (
        indexed(row(0, 5, 255, dtype=np.uint8), **palette(3, 5, 16, [1, 2, 3], "<u2")),
        ["color-to-luma", "palette-applied", "palette-short"],
    ),
    "a palette of every index": (
        indexed(row(0, 5, 255, dtype=np.uint8), **palette(256, 0, 16, range(256), "<u2")),
        ["color-to-luma", "palette-applied"],
    ),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_is_recorded(name):
    data, warnings = NOTED[name]
    assert sorted(scan(0, "a.dcm", data, OPTIONS)[0].warnings) == warnings


TWO = [jpeg(GREY), jpeg(255 - GREY)]
SHORT_LUT = [item(LUTDescriptor=[9, 0, 16])]
REFUSED = {
    "rescale: slope 0": (reworded(b"1.5", b"0.0", RescaleSlope="1.5"), "bad-rescale"),
    "rescale: slope NaN": (reworded(b"1.5", b"NaN", RescaleSlope="1.5"), "bad-rescale"),
    "a damaged Modality LUT": (ct(1, ModalityLUTSequence=SHORT_LUT), "bad-modality-lut"),
    "more fragments than frames, no starts": (
        compressed([TWO[0][:200], b"\0\0" + TWO[0][200:], b"\0\0"], NumberOfFrames=2, offsets=False),
        "frame-boundaries",
    ),
    "Pixel Data shorter than the tags say": (dicom(bytes(46)), "pixel-data-short"),
    "Pixel Data longer": (dicom(bytes(50)), "pixel-data-long"),
    "NumberOfFrames 0": (ct(1, NumberOfFrames="0"), "bad-number-of-frames"),
    "NumberOfFrames -1": (ct(1, NumberOfFrames="-1"), "bad-number-of-frames"),
    "BitsAllocated 64": (ct(1, BitsAllocated=64), "bits-unsupported"),
    "32 bits that do not fit 16": (ct(70000, dtype=np.int32), "not-exact-in-16-bits"),
    "unknown transfer syntax": (
        compressed([b"\0\0"]).replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.99"),
        "unknown-transfer-syntax",
    ),
    "JPEG XL without a plugin": (
        compressed([b"\0\0"], syntax="1.2.840.10008.1.2.4.201").replace(b"1.2.4.201", b"1.2.4.110"),
        "unknown-transfer-syntax",
    ),
    "a frame of padding alone": (ct(-5, -5, PixelPaddingValue=-5), "only-padding"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_quarantined(name):
    data, reason = REFUSED[name]
    assert refusal(data)[0] == reason


def test_frames_by_the_extended_offset_table():
    cells = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    frames = [rle_segments([frame.tobytes()]) for frame in cells]
    halves = [part for frame in frames for part in (frame[:70], frame[70:])]
    second = 2 * 8 + len(halves[0]) + len(halves[1])
    size = {"Rows": 3, "Columns": 4, "NumberOfFrames": 2}
    tables = {
        "ExtendedOffsetTable": struct.pack("<2Q", 0, second),
        "ExtendedOffsetTableLengths": struct.pack("<2Q", *map(len, frames)),
    }
    data = compressed(halves, syntax=RLE, offsets=False, **size, **tables)
    np.testing.assert_array_equal(pixels(data), cells)
    assert refusal(compressed(halves, syntax=RLE, offsets=False, **size))[0] == "frame-boundaries"


def test_odd_fragments_are_read():
    good = compressed([TWO[0]])
    at = good.index(TWO[0]) - 4
    length = len(TWO[0]) + len(TWO[0]) % 2
    assert struct.unpack_from("<L", good, at) == (length,)
    cut = TWO[0][: len(TWO[0]) // 2 * 2 - 1]  # an odd number of bytes
    rest = TWO[0][len(cut) :]
    fragments = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<L", len(part)) + part for part in (cut, rest))
    odd = good[: at - 4] + fragments + good[at + 4 + length :]
    np.testing.assert_array_equal(pixels(odd), pixels(good))


def test_an_unsigned_codestream_under_pixel_representation_1():
    with open(get_testdata_file("J2K_pixelrep_mismatch.dcm"), "rb") as file:
        data = file.read()
    found = pixels(data)
    assert (int(found.min()), int(found.max())) == (-2000, 1896)


def test_pydicom_is_no_oracle_for_lookup_tables():
    if pydicom.__version__ != "3.0.2":
        pytest.skip("docs/decoders.md speaks of pydicom 3.0.2")
    wide = item(VOILUTSequence=[WIDE])
    wide.VOILUTSequence[0]["LUTData"].VR = "US"
    wide.VOILUTSequence[0].LUTData = (np.arange(4096) // 16).tolist()
    stored = np.array([0, 255, 256, 4095], np.uint16)
    assert apply_voi_lut(stored, wide).tolist() == [0, 15, 0, 15]  # right: 0, 15, 16, 255
    low = item(ModalityLUTSequence=[table(np.arange(100), -1000)])
    low.ModalityLUTSequence[0]["LUTData"].VR = "US"
    low.ModalityLUTSequence[0].LUTData = list(range(100))
    stored = np.array([-1000, -901, 32767], np.int16)
    assert apply_modality_lut(stored, low).tolist() == [0, 99, 0]  # right: 0, 99, 99


def test_the_decoders_and_their_versions_are_recorded(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(compressed(TWO[:1]))
    ingest(tmp_path / "a.zarr", tmp_path / "in")
    with open_store(tmp_path / "a.zarr") as store:
        versions = store.manifest.options["versions"]
        assert store.samples["lossy"].to_pylist() == [True]
    decoders = ("pillow", "pyjpegls", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle")
    assert {name: version(name) for name in decoders}.items() <= versions.items()
