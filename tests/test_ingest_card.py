"""The data card: counts that are true, small ones hidden, and what was done of PS3.15."""

import json
import re

import numpy as np
import pytest
from archives import dicom, ingest, pixels
from pydicom.sr.codedict import codes
from stores import build

from pyrad import cli
from pyrad.ingest.privacy.card import _hidden
from pyrad.ingest.privacy.deidentification import METHODS, copied_texts, methods
from pyrad.store.reader import open_store


@pytest.fixture(scope="module")
def carded(tmp_path_factory):
    """A store of 14 CT slices of 7 patients, one of them above ninety; a broken file and a localizer."""
    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRAD_SECRET", "of the tests")
        for number in range(14):
            age = "095Y" if number < 2 else "041Y"
            elements = {"PatientSex": "F", "PatientAge": age, "BodyPartExamined": "CHEST"}
            image = pixels(number, dtype="int16")
            path = folder / f"a/{number}.dcm"
            dicom(
                path,
                image,
                uid=f"1.2.{number}",
                patient=f"P{number // 2}",
                **elements,
            )
        (folder / "a/broken.dcm").write_bytes(b"")
        scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
        dicom(folder / "a/scout.dcm", pixels(99, dtype="int16"), uid="1.3", **scout)
        ingest(folder / "s.zarr", folder / "a", max_quarantine="50%")
    return folder / "s.zarr"


def text_of(store, capsys):
    """The card, printed."""
    assert cli.main(["card", str(store)]) == 0
    return capsys.readouterr().out


def cells(text, title):
    """The rows of the table below a heading."""
    section = text.split(f"# {title}\n", 1)[1].split("\n#", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return rows[1:]


def test_the_counts_are_those_of_the_store(carded, capsys):
    text = text_of(carded, capsys)
    assert "14 images of 7 groups" in text
    assert cells(text, "Modality") == [["CT", "14", "7"]]
    assert cells(text, "Anatomy") == [["chest", "14", "7"]]
    assert cells(text, "Sex") == [["F", "14", "7"]]
    rows = cells(text, "What it holds")
    assert [row[0] for row in rows] == ["train", "val", "test"]
    assert sum(int(row[1]) for row in rows) == 14
    assert sum(int(row[2]) for row in rows) == 7
    assert ["quarantined", "empty-file", "1"] in cells(text, "What was left out")
    assert ["skipped", "image-type-localizer", "1"] in cells(text, "What was left out")


def test_few_patients_are_not_counted_aloud(carded, capsys):
    """Nor is the one other age, since the total would tell them."""
    assert cells(text_of(carded, capsys), "Age") == [["40-49", "few", "few"], ["90+", "few", "few"]]
    assert _hidden([9, 8, 1]) == {1, 2}
    assert _hidden([9, 8, 3, 2]) == {2, 3}
    assert _hidden([9, 8]) == set()
    assert _hidden([]) == set()


def test_it_says_what_was_done_of_each_method(carded, capsys):
    text = text_of(carded, capsys)
    assert [row[0] for row in cells(text, "How it was de-identified")] == [str(113100 + n) for n in range(13)]
    for words in (
        "Pseudonymised, not anonymous",
        "Faces are not removed",
        "no pixel was changed",
        "`age_band`",
    ):
        assert words in text
    with open_store(carded) as store:
        assert store.fingerprint in text


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("refuse", "no pixel was changed"),
        ("allow", "Names may stand in"),
        ("crop-us-region", "only the region"),
        ("rules", "by rules of the user"),
        ("something new", "Unknown"),
        (None, "Unknown"),
    ],
)
def test_every_policy_on_burned_in_text_has_its_sentence(policy, words):
    done = {code: text for code, _, text in methods({"000001": {"burned_in": policy}})}
    assert words in done["113101"]
    assert all(done.values())
    assert len(done) == len(METHODS) == 13


def test_the_card_answers_for_every_part(tmp_path, capsys, monkeypatch):
    """What the last ingest refused, an earlier one may have stored."""
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    for number, burned_in in enumerate(("allow", "refuse")):
        folder = tmp_path / burned_in
        dicom(folder / "0.dcm", pixels(number, dtype="int16"), uid=f"1.2.{number}", patient=f"P{number}")
        ingest(tmp_path / "s.zarr", folder, burned_in=burned_in)
    text = text_of(tmp_path / "s.zarr", capsys)
    done = {row[0]: row[2] for row in cells(text, "How it was de-identified")}
    assert done["113101"].startswith("Part 000001: Not applied, and not provided for: objects were stored")
    assert "Part 000002: Not applied: no pixel was changed" in done["113101"]
    assert "| `burned_in` | 000001: `allow`; 000002: `refuse` |" in text


def test_what_was_copied_is_told_of_every_part():
    parts = {"000001": {"keep_columns": ["site"], "anatomy_table": True}, "000002": {"keep_columns": ["age"]}}
    told = " ".join(copied_texts(parts))
    assert "`site`, `age`" in told
    assert "user's own table" in told
    done = {code: text for code, _, text in methods(parts)}
    assert "user's own table" in done["113105"]
    del parts["000001"]
    assert "user's own" not in " ".join([*copied_texts(parts), *(text for _, _, text in methods(parts))])


def test_the_codes_and_meanings_are_the_standards():
    """pydicom's dictionary of PS3.16 is the second opinion."""
    every = (getattr(codes.DCM, name) for name in codes.DCM.dir())
    meanings = {code.value: code.meaning for code in every}
    assert {code: meaning for code, meaning, _ in METHODS} == {
        code: meanings[code] for code in (str(113100 + n) for n in range(13))
    }


def test_it_is_a_file_too_and_a_value_cannot_break_its_table(tmp_path, capsys):
    facts = [
        {"labels": ("a|b\n<script>", "c"), "kept": {"site": "x"}, "group": f"{n:032x}"} for n in range(6)
    ]
    images = [np.full((16, 20), n, np.uint8) for n in range(6)]
    store = build(tmp_path / "s.zarr", images, facts)
    assert cli.main(["card", str(store), "--out", str(tmp_path / "card.md"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    assert "<script>" not in text
    labels = text.split("### Labels")[1].split("###")[0]
    assert re.search(r"\| a\\\|b &lt;script> \| 6 \| 6 \|", labels)
    assert "`site`" in text
    assert cli.main(["card", str(store), "--out", str(tmp_path / "none/card.md")]) == 1


def test_an_empty_or_absent_store(tmp_path):
    assert cli.main(["card", str(tmp_path)]) == 2
