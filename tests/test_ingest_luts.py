"""Modality and VOI LUTs as a header writes them: exact numbers, from the group that counts."""

import numpy as np
import pytest
from archives import ingest, samples_of
from dicoms import NATIVE, OPTIONS, dicom, item, ramp, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ingest_dicom_header import enhanced, source

from pyrad.ingest.files import scan
from pyrad.ingest.privacy.forget import ForgetOptions, forget
from pyrad.progress import Reporter
from pyrad.records import Lut, Window
from pyrad.store.reader import open_store
from pyrad.store.verify import verify


def table(entries, first=0, bits=16, *, count=None, packed=False, **more):
    """An item of a LUT sequence; ``packed``: two entries of 8 bits in a word."""
    cells = np.array(entries, "u1" if packed else "<u2").tobytes()
    signs = "<h" if first < 0 else "<H"
    descriptor = [(len(entries) if count is None else count) % (1 << 16), first, bits]
    if signs == "<h" and descriptor[0] >= 1 << 15:
        descriptor[0] -= 1 << 16
    made = item(LUTDescriptor=descriptor, **more)
    made["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    made.LUTData = cells + b"\0" * (len(cells) % 2)
    made["LUTData"].VR = "OW"
    return made


def lut(entries, first=0, bits=None):
    depth = max(int(max(entries)).bit_length(), 1) if bits is None else bits
    return Lut(first=first, bits=depth, entries=np.array(entries, "<u2").tobytes())


def test_a_voi_lut_is_kept_beside_the_windows():
    found = source(VOILUTSequence=[table([0, 9, 4095], 5, 12)], WindowCenter="1", WindowWidth="2")
    assert found.voi_lut == lut([0, 9, 4095], 5)
    assert (found.windows, found.warnings) == ((Window(center=1, width=2),), ())


def test_the_first_of_several_luts_is_the_default():
    found = source(VOILUTSequence=[table([1, 3], 0, 2), table([0, 255], 0, 8)])
    assert found.voi_lut == lut([1, 3])


def test_no_entries_mean_65536():
    entries = np.arange(65535, -1, -1)
    made = source(dicom(ramp(dtype="uint16"), VOILUTSequence=[table(entries, count=0)])).voi_lut
    assert made == lut(entries)
    signed = source(ModalityLUTSequence=[table(entries, -32768, count=0)]).modality_lut
    assert signed == lut(entries, -32768)


@pytest.mark.parametrize("packed", [False, True])
def test_8_bit_data_of_4096_entries_do_not_wrap(packed):
    entries = np.arange(4096) // 16
    found = source(dicom(ramp(dtype="uint16"), VOILUTSequence=[table(entries, 0, 8, packed=packed)]))
    assert found.voi_lut == lut(entries)
    assert np.frombuffer(found.voi_lut.entries, "<u2")[[0, 255, 256, 4095]].tolist() == [0, 15, 16, 255]
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("entries", "declared", "bits", "warnings"),
    [
        ([0, 4095], 12, 12, ()),
        ([0, 4095], 16, 12, ("voi-lut-bits",)),
        ([0, 2047], 12, 11, ("voi-lut-bits",)),
        ([0, 4095], 8, 12, ("voi-lut-bits",)),
        ([0, 0], 8, 1, ("voi-lut-bits",)),
        ([255, 0], 8, 8, ()),
    ],
)
def test_the_depth_is_what_the_entries_need(entries, declared, bits, warnings):
    found = source(VOILUTSequence=[table(entries, 0, declared)])
    assert (found.voi_lut.bits, found.warnings) == (bits, warnings)


def test_the_sign_of_the_first_value_is_that_of_what_is_looked_up():
    # PS3.3 C.11.2.1.1: Pixel Representation's without a rescale, signed where a rescale may give less than 0
    def first(dtype, **elements):
        data = dicom(ramp(dtype=dtype), VOILUTSequence=[table([0, 1], 64512, 1)], **elements)
        return source(data).voi_lut.first

    rescale = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    assert first("int16") == -1024
    assert first("uint16") == 64512
    assert first("uint16", **rescale) == -1024
    assert first("int16", RescaleSlope="1", RescaleIntercept="32768") == 64512
    assert first("uint16", RescaleSlope="-1", RescaleIntercept="0") == -1024
    modality = {"ModalityLUTSequence": [table([0, 1], 0, 1)]}
    assert first("int16", **modality) == 64512  # what a Modality LUT gives is unsigned
    assert source(VOILUTSequence=[table([0, 1], -1024, 1)]).voi_lut.first == -1024  # written as SS


def test_a_modality_lut_takes_the_place_of_the_rescale():
    both = {"ModalityLUTSequence": [table([7, 5, 3], -1, 16)], "RescaleSlope": "2", "RescaleIntercept": "1"}
    found = source(**both)
    assert found.modality_lut == lut([7, 5, 3], -1)
    assert (found.slope, found.intercept, found.warnings) == (1.0, 0.0, ("rescale-ignored",))
    other = table([7], ModalityLUTType="OD")
    assert source(ModalityLUTSequence=[other]).warnings == ("rescale-type-not-hu",)
    assert source(ModalityLUTSequence=[other], modality="CR").warnings == ()


DAMAGED = {
    "short": item(LUTDescriptor=[4, 0, 16], LUTData=b"\0\0\1\0"),
    "no data": item(LUTDescriptor=[4, 0, 16]),
    "no descriptor": item(LUTData=b"\0\0\1\0"),
    "two values": item(LUTDescriptor=[2, 0], LUTData=b"\0\0\1\0"),
    "17 bits": item(LUTDescriptor=[2, 0, 17], LUTData=b"\0\0\1\0"),
    "no bits": item(LUTDescriptor=[2, 0, 0], LUTData=b"\0\0\1\0"),
    "empty": item(),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_lut_is_left_out_or_refused(damage):
    broken = DAMAGED[damage]
    if "LUTData" in broken:
        broken["LUTData"].VR = "OW"
    found = source(VOILUTSequence=[broken], WindowCenter="1", WindowWidth="2")
    assert (found.voi_lut, found.warnings, len(found.windows)) == (None, ("voi-lut-ignored",), 1)
    assert refusal(dicom(ramp(), ModalityLUTSequence=[broken])) == ("bad-modality-lut", "ModalityLUTSequence")


def test_a_frame_takes_the_lut_of_its_own_group_then_the_shared_one_then_the_root():
    def voi(first):
        return item(FrameVOILUTSequence=[item(VOILUTSequence=[table([0, 1], first, 1)])])

    window = item(FrameVOILUTSequence=[item(WindowCenter="1", WindowWidth="2")])
    root = {"VOILUTSequence": [table([0, 1], 9, 1)]}
    sources = enhanced([voi(3), item(), window], voi(5), **root)
    assert [s.voi_lut and s.voi_lut.first for s in sources] == [3, 5, None]
    assert [len(s.windows) for s in sources] == [0, 0, 1]
    assert [s.voi_lut.first for s in enhanced([item()] * 3, item(), **root)] == [9, 9, 9]
    own = item(PixelValueTransformationSequence=[item(RescaleSlope="2", RescaleIntercept="0")])
    sources = enhanced([own, item(), item()], item(), ModalityLUTSequence=[table([4, 2])])
    assert [s.modality_lut for s in sources] == [None, lut([4, 2]), lut([4, 2])]
    assert [s.slope for s in sources] == [2.0, 1.0, 1.0]


@given(
    st.lists(st.integers(0, 65535), min_size=1, max_size=40),
    st.integers(-40, 40),
    st.sampled_from(NATIVE),
)
@settings(max_examples=40, deadline=None)
def test_every_encoding_gives_the_same_table(entries, first, syntax):
    item_ = table(entries, first)
    data = dicom(ramp(), syntax=syntax, VOILUTSequence=[big_endian(item_, syntax)])
    assert source(data).voi_lut == lut(entries, first)


def big_endian(made, syntax):
    """pydicom writes the bytes of OW as they are given."""
    if syntax == NATIVE[2]:
        made.LUTData = np.frombuffer(made.LUTData, "<u2").astype(">u2").tobytes()
        made["LUTData"].VR = "OW"
    return made


def test_colour_has_no_lut():
    color = np.zeros((4, 6, 3), np.uint8)
    color[0, 0, 0] = 9
    found = source(dicom(color, modality="SC", VOILUTSequence=[table([0, 1])]), OPTIONS)
    assert (found.voi_lut, found.modality_lut) == (None, None)


def test_an_ingest_keeps_the_luts_of_its_images(tmp_path):
    luts = {
        "a": {"VOILUTSequence": [table([0, 4095], 3, 12)]},
        "b": {"ModalityLUTSequence": [table([7, 5, 3], -1, 16)], "VOILUTSequence": [table([0, 4095], 3, 12)]},
        "c": {},
    }
    for number, (name, elements) in enumerate(luts.items()):
        data = dicom(ramp() + number, SOPInstanceUID=f"1.2.{number + 3}", **elements)
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.dcm").write_bytes(data)
        assert len(scan(0, name, data, OPTIONS)) == 1
    store = tmp_path / "a.zarr"
    ingest(store, tmp_path / "in")
    verify(store)
    rows = {int(row["image"].min()) + 1000: row for row in samples_of(store)}
    assert [(rows[n]["voi_lut"], rows[n]["modality_lut"]) for n in range(3)] == [
        (1, None),
        (1, 0),
        (None, None),
    ]
    with open_store(store) as opened:
        assert opened.luts.all() == (lut([7, 5, 3], -1), lut([0, 4095], 3))


def test_who_is_forgotten_takes_their_tables_along(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    own, shared = table([0, 4095], 3, 12), table([0, 255], 1, 8)
    for number, (patient, voi) in enumerate([("P1", own), ("P1", shared), ("P2", shared), ("P3", None)]):
        elements = {"VOILUTSequence": [voi]} if voi else {}
        uid = f"1.2.{number + 3}"
        data = dicom(ramp() + number, SOPInstanceUID=uid, PatientID=patient, **elements)
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number}.dcm").write_bytes(data)
    store = tmp_path / "a.zarr"
    ingest(store, tmp_path / "in")
    (tmp_path / "list.txt").write_text("P1\n")
    settings = {"patients": tmp_path / "list.txt", "private": tmp_path / "private"}
    forget(ForgetOptions(store=store, **settings), Reporter("silent"))
    assert verify(store)["samples"] == 2
    with open_store(store) as opened:
        assert opened.luts.all() == (lut([0, 255], 1),)
        assert sorted(opened.samples["voi_lut"].to_pylist(), key=str) == [0, None]
