"""From a key, or a name of the ledger, back to the file; every question stands in the audit log."""

import io
import json

import pytest
from archives import ingest, ledger_of, npy, pixels, png, samples_of

from pyrad import cli
from pyrad.ingest.privacy.audit import AuditLog
from pyrad.ingest.privacy.secret import own_secret


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A store of three images, one of them of three frames, and a file that was quarantined."""
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    for number in range(2):
        png(tmp_path / f"archive/c/{number}.png", pixels(number))
    npy(tmp_path / "archive/c/volume.npy", pixels(7, rows=48).reshape(3, 16, 20))
    (tmp_path / "archive/c/broken.png").write_bytes(b"")
    ingest(tmp_path / "s.zarr", tmp_path / "archive", max_quarantine="50%")
    return tmp_path / "s.zarr"


def relink(stored, *words):
    """The command; returns its exit code."""
    return cli.main(["relink", "--private", str(stored.parent / "private"), *words])


def test_keys_and_names_lead_back_to_files(stored, capsys):
    keys = {row["key"]: row for row in samples_of(stored)}
    quarantined = [source for source, outcome, _, _ in ledger_of(stored) if outcome == "quarantined"]
    assert relink(stored, *keys, *quarantined, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["asked"] for row in answer["found"]] == [*keys, *quarantined]
    assert answer["unknown"] == []
    for row in answer["found"]:
        assert row["archive"] == str(stored.parent / "archive")
        assert row["store"] == str(stored)
        if row["asked"] in keys:
            assert row["frame"] == keys[row["asked"]]["frame"]
            assert row["reason"] == "stored"
    volume = sorted(row["frame"] for row in answer["found"] if row["path"] == "c/volume.npy")
    assert volume == [0, 1, 2]
    assert [row["reason"] for row in answer["found"] if row["path"] == "c/broken.png"] == ["empty-file"]


def test_a_group_leads_to_all_its_files(stored, capsys):
    row = next(row for row in samples_of(stored) if row["frame"] == 2)
    assert relink(stored, row["group"], "--json") == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert [(row["path"], row["frame"]) for row in found] == [("c/volume.npy", n) for n in range(3)]


def test_keys_come_from_a_file_or_standard_input_too(stored, tmp_path, capsys, monkeypatch):
    keys = [row["key"] for row in samples_of(stored)]
    (tmp_path / "keys").write_text(f"{keys[0].upper()} \r\n\n{keys[1]}\n{keys[0]}\n")
    assert relink(stored, keys[2], "--keys-from", str(tmp_path / "keys")) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split("\t")[:4] == ["asked", "store", "archive", "path"]
    assert [row.split("\t")[0] for row in rows] == [keys[2], keys[0], keys[1]]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(keys)))
    assert relink(stored, "--keys-from", "-") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(keys)


def test_unknown_keys_are_listed_and_the_others_answered(stored, capsys):
    key = samples_of(stored)[0]["key"]
    assert relink(stored, "0" * 32, key) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith(key)
    assert out[-1] == "0" * 32 + "\tunknown"


@pytest.mark.parametrize("words", [["MRN-4711"], ["0" * 31], [], ["--keys-from", "none"], ["0" * 32, "Doe"]])
def test_what_is_no_key_is_refused_and_not_repeated(stored, capsys, words):
    assert relink(stored, *words) == 2
    assert not [word for word in ("MRN", "Doe") if word in capsys.readouterr().err]


def test_without_the_secret_there_is_no_answer(stored, capsys, monkeypatch):
    key = samples_of(stored)[0]["key"]
    for secret in ("another", ""):
        monkeypatch.setenv("PYRAD_SECRET", secret)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(stored.parent / "config"))
        assert relink(stored, key) == 6
        assert capsys.readouterr().out == ""


def test_every_question_is_noted_before_it_is_answered(stored, capsys):
    keys = [row["key"] for row in samples_of(stored)]
    relink(stored, keys[0], "0" * 32)
    log = AuditLog(stored.parent / "private", own_secret(None))
    entry = log.check_chain().entries[-1]
    assert (entry["event"], entry["asked"], entry["found"]) == ("relink", 2, [keys[0]])
    capsys.readouterr()
    (log.folder / "audit.head").unlink()
    assert relink(stored, keys[0]) == 5  # what cannot be noted is not told
    assert capsys.readouterr().out == ""
