"""What headers call a body region becomes one word of a table that a user can edit; nothing else passes."""

import pickle
from pathlib import Path

import pytest
from archives import dicom, ingest, pixels, samples_of, table
from dicoms import OPTIONS, item
from dicoms import dicom as dicom_bytes
from hypothesis import given
from hypothesis import strategies as st

from pyrad.errors import UsageError
from pyrad.ingest.anatomy import packaged, parse_anatomy, read_anatomy
from pyrad.ingest.files import scan
from pyrad.ingest.layouts.radimagenet import ANATOMIES
from pyrad.ingest.options import IngestOptions
from pyrad.store.reader import open_store


def source(**elements):
    """The source of a file with these elements."""
    return scan(0, "x.dcm", dicom_bytes(pixels(1), **elements), OPTIONS)[0]


WORDS = {*packaged().body_parts.values(), *packaged().codes.values(), *packaged().descriptions.values()}


@pytest.mark.parametrize(
    ("said", "word"),
    [
        *(("CHEST", "chest"), ("Thorax", "chest"), ("L SPINE", "lspine"), ("L-Spine", "lspine")),
        *(("Abdomen^Pelvis", "abdomenpelvis"), ("LWS", "lspine"), ("Genou", "knee"), ("rodilla", "knee")),
        *(("ANKLE JOINT", "ankle"), ("Ribs", "rib"), ("HeartX", None), ("", None), ("^", None)),
    ],
)
def test_body_parts(said, word):
    assert packaged().of_text(said) == word


@pytest.mark.parametrize(
    ("code", "word"),
    [
        *(("72696002", "knee"), ("T-D9200", "knee"), ("t-d9200", "knee"), ("T-D4000", "abdomen")),
        *(("818981001", "abdomen"), ("122496007", "lspine"), ("7832008", "aorta"), ("0", None), ("", None)),
    ],
)
def test_codes(code, word):
    assert packaged().of_code(code) == word


@pytest.mark.parametrize(
    ("said", "word"),
    [
        *(("t2_tse_sag_L-Spine", "lspine"), ("CT Chest/Abdomen/Pelvis 5.0", "chestabdpelvis")),
        *(("ABD PEL W CONTRAST", "abdomenpelvis"), ("AX T1 BRAIN +C", "brain"), ("Knie re. PD fs", "knee")),
        *(("Chest 1.0 LUNG", "chest"), ("head first supine knee", None), ("kneecap", None), ("AX T2", None)),
        *((" " * 64 + "knee", None), ("", None)),
    ],
)
def test_descriptions(said, word):
    assert packaged().of_description(said) == word


@given(st.text(max_size=80))
def test_no_text_passes_that_is_no_word_of_the_table(text):
    table_ = packaged()
    found = {table_.of_text(text), table_.of_code(text), table_.of_description(text)}
    assert found <= WORDS | {None}


def test_every_word_of_the_table_is_understood_where_a_table_of_labels_uses_it():
    assert [word for word in WORDS - {""} if packaged().of_text(word) != word] == []
    assert set(ANATOMIES.values()) <= WORDS


def test_the_first_that_speaks_counts():
    knee = item(CodeValue="T-D9200", CodingSchemeDesignator="SRT", CodeMeaning="nothing known")
    meaning = item(CodeValue="X1", CodingSchemeDesignator="99LOCAL", CodeMeaning="Hip joint")
    told = {"AnatomicRegionSequence": [knee], "SeriesDescription": "t1 brain"}
    assert source(BodyPartExamined="HIP", **told).anatomy == "hip"
    found = source(BodyPartExamined="MUELLER", **told)
    assert (found.anatomy, found.warnings) == ("knee", ())
    assert source(AnatomicRegionSequence=[meaning]).anatomy == "hip"
    described = source(SeriesDescription="MUELLER^HANS t1 brain")
    assert (described.anatomy, described.warnings) == ("brain", ("anatomy-from-description",))
    assert "MUELLER" not in repr(described)


def test_a_user_adds_and_overrides(tmp_path):
    file = table(
        tmp_path / "mine.csv",
        "kind,pattern,anatomy\nbody-part,Mittelfuss,forefoot\nbody-part,CHEST,thorax\ncode,99-1,knee\n"
        "description,lung screening,lungscreening\ndescription,brain,\n",
    )
    found = read_anatomy(file)
    assert (found.of_text("mittelfuss"), found.of_text("Chest"), found.of_text("hip")) == (
        *("forefoot", "thorax", "hip"),
    )
    assert (found.of_code("99-1"), found.of_code("T-D9200")) == ("knee", "knee")
    assert found.of_description("lung screening low dose") == "lungscreening"
    assert found.of_description("t1 brain") is None
    assert found.of_text("forefoot") == "forefoot"
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - as worker processes get it


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind,pattern\nbody-part,x\n", "mine.csv has no column anatomy"),
        ("kind,pattern,anatomy\nbody part,x,knee\n", "row 2 are not a kind of body-part, code, description"),
        ("kind,pattern,anatomy\nbody-part,^,knee\n", "row 2 are not"),
        ("kind,pattern,anatomy\nbody-part,x,Hans Mueller\n", "row 2 are not"),
        ("kind,pattern,anatomy\nbody-part,x,k\n", "row 2 are not"),
        ("", "is empty"),
    ],
)
def test_a_table_that_is_none(text, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse_anatomy(text.encode(), "mine.csv")
    assert "Mueller" not in str(caught.value)


def test_options_check_the_table_at_the_door(tmp_path):
    with pytest.raises(UsageError, match=r"--anatomy-table .* cannot be read"):
        IngestOptions(src=(Path("x"),), store=Path("s.zarr"), anatomy_table=tmp_path / "absent.csv")


def test_an_ingest_uses_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    file = table(tmp_path / "mine.csv", "kind,pattern,anatomy\nbody-part,Mittelfuss,forefoot\n")
    dicom(tmp_path / "a/1.dcm", pixels(1), uid="1.2.3", BodyPartExamined="MITTELFUSS")
    ingest(tmp_path / "x.zarr", tmp_path / "a", anatomy_table=file)
    assert samples_of(tmp_path / "x.zarr")[0]["anatomy"] == "forefoot"
    with open_store(tmp_path / "x.zarr") as store:
        assert store.manifest.options["anatomy_table"] == "own"
