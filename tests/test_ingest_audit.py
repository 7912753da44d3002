"""The audit log: every edit, removal and cut is noticed; a crash is not taken for one."""

import json
import multiprocessing

import pytest
from archives import dicom, ingest, pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrad import cli
from pyrad.errors import IntegrityError, QuarantineBudgetError, SecretError
from pyrad.ingest.privacy.audit import AUDIT_FILE, HEAD_FILE, AuditLog
from pyrad.ingest.privacy.secret import Secret, resolve_secret

SECRET = Secret(b"of the tests", "the test")


@pytest.fixture
def log(tmp_path):
    """A log of four lines."""
    log = AuditLog(tmp_path / "private", SECRET)
    for number in range(4):
        log.note("something", count=number)
    return log


def rewrite(log, lines):
    """Put other lines into a log, its head as it was."""
    (log.folder / AUDIT_FILE).write_bytes(b"".join(line + b"\n" for line in lines))


def lines_of(log):
    """The lines of a log."""
    return (log.folder / AUDIT_FILE).read_bytes().splitlines()


def test_a_log_is_read_back_and_nobody_else_may_read_it(log):
    chain = log.check_chain()
    assert [entry["count"] for entry in chain.entries] == [0, 1, 2, 3]
    assert [entry["number"] for entry in chain.entries] == [1, 2, 3, 4]
    assert chain.head.startswith("4:")
    assert log.folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in log.folder.iterdir()} == {0o600}
    assert AuditLog(log.folder / "none", SECRET).check_chain().entries == ()


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda lines: [lines[0].replace(b'"count":0', b'"count":7'), *lines[1:]], "line 1"),
        (lambda lines: [lines[0], *lines[2:]], "line 2"),
        (lambda lines: lines[1:], "line 1"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2"),
        (lambda lines: [*lines, lines[3]], "line 5"),
        (lambda lines: [*lines, b"{}"], "line 5"),
        (lambda lines: [*lines, b"not json"], "line 5"),
        (lambda lines: lines[:3], "cut off"),
        (lambda lines: lines[:1], "cut off"),
        (lambda _lines: [], "cut off"),
    ],
)
def test_an_edit_a_removal_and_a_cut_are_noticed(log, spoil, line):
    rewrite(log, spoil(lines_of(log)))
    with pytest.raises(IntegrityError, match=line):
        log.check_chain()
    with pytest.raises(IntegrityError, match=line):
        log.note("something else")


def test_a_head_cannot_be_made_for_a_shorter_log(log):
    lines, head = lines_of(log), log.folder / HEAD_FILE
    rewrite(log, lines[:2])
    seals = [json.loads(line)["mac"] for line in lines]
    for forged in (f"2:{seals[1]}", f"2:{head.read_text().split(':')[1]}", "2:", "", "0:" + seals[0]):
        head.write_text(forged)
        with pytest.raises(IntegrityError, match="cut off"):
            log.check_chain()
    head.unlink()
    with pytest.raises(IntegrityError, match="cut off"):
        log.check_chain()
    (log.folder / AUDIT_FILE).unlink()
    head.write_text(log._head(4, seals[3]))
    with pytest.raises(IntegrityError, match="cut off"):
        log.check_chain()


def test_a_log_put_back_to_an_earlier_state_shows_by_a_head_that_is_known(log):
    """The limit that the documentation states: without that head it does not show."""
    before = {file: file.read_bytes() for file in log.folder.iterdir()}
    log.note("what somebody wants to hide")
    head = log.check_chain().head
    assert log.check_chain(known_head=head).head == head
    for file, contents in before.items():
        file.write_bytes(contents)
    assert len(log.check_chain().entries) == 4
    with pytest.raises(IntegrityError, match="does not contain the head"):
        log.check_chain(known_head=head)


def test_another_secret_is_told_from_a_broken_log(log):
    other = AuditLog(log.folder, Secret(b"another", "the test"))
    with pytest.raises(SecretError, match="another secret"):
        other.note("something")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.integers(0, 400), after_head=st.booleans())
def test_a_crash_at_any_byte_of_a_line_loses_that_line_at_most(tmp_path_factory, kept, after_head):
    log = AuditLog(tmp_path_factory.mktemp("crash"), SECRET)
    log.note("first")
    head = (log.folder / HEAD_FILE).read_bytes()
    whole = (log.folder / AUDIT_FILE).read_bytes()
    log.note("second")
    line = (log.folder / AUDIT_FILE).read_bytes()[len(whole) :]
    kept = min(kept, len(line))
    if kept < len(line) or not after_head:  # the head is replaced only once the line is on the disk
        (log.folder / HEAD_FILE).write_bytes(head)
    (log.folder / AUDIT_FILE).write_bytes(whole + line[:kept])
    log.note("third")
    events = [entry["event"] for entry in log.check_chain().entries]
    assert events == (["first", "second", "third"] if kept == len(line) else ["first", "third"])


def test_a_block_is_noted_with_its_end(log):
    with log.event("work", store="s.zarr") as done:
        done["images"] = 3
    with pytest.raises(QuarantineBudgetError), log.event("work", store="s.zarr"):
        raise QuarantineBudgetError("Doe^John")
    *_, begun, ended, again, failed = log.check_chain().entries
    assert [entry["event"] for entry in (begun, ended, again, failed)] == [
        *("work begun", "work done", "work begun", "work failed")
    ]
    assert (ended["images"], ended["store"]) == (3, "s.zarr")
    assert failed["error"] == "QuarantineBudgetError"
    assert b"Doe" not in (log.folder / AUDIT_FILE).read_bytes()


def note_some(folder):
    """In a process of its own."""
    for number in range(5):
        AuditLog(folder, SECRET).note("something", count=number)


def test_several_processes_write_one_log(tmp_path):
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=note_some, args=(tmp_path / "p",)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert len(AuditLog(tmp_path / "p", SECRET).check_chain().entries) == 15


def test_an_ingest_is_noted_and_names_no_patient(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    for number in range(3):
        image = pixels(number, dtype="int16")
        dicom(tmp_path / f"a/Doe/{number}.dcm", image, uid=f"1.2.3.{number}", patient="MRN-4711")
    (tmp_path / "a/Doe/broken.dcm").write_bytes(b"")
    with pytest.raises(QuarantineBudgetError):
        ingest(tmp_path / "s.zarr", tmp_path / "a")
    ingest(tmp_path / "s.zarr", tmp_path / "a", max_quarantine="50%")
    secret = resolve_secret(None, key_check=None, store="s.zarr")
    log = AuditLog(tmp_path / "private", secret)
    entries = log.check_chain().entries
    assert [entry["event"] for entry in entries] == [
        *("ingest begun", "ingest failed", "ingest begun", "ingest done")
    ]
    assert entries[1]["error"] == "QuarantineBudgetError"
    done = entries[3]
    assert (done["store"], done["part"]) == ("s.zarr", "000001")
    assert done["files"] == {"stored": 3, "skipped": 0, "quarantined": 1}
    text = (tmp_path / "private" / AUDIT_FILE).read_text()
    assert not [word for word in ("Doe", "MRN-4711", "1.2.3", ".dcm", str(tmp_path)) if word in text]


def test_the_command_prints_the_log_and_compares_a_head(log, capsys, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    words = ["audit", "--private", str(log.folder)]
    assert cli.main(words) == 0
    head = capsys.readouterr().out.split()[-1]
    assert head == log.check_chain().head
    log.note("more")
    assert cli.main([*words, "--head", head, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["entries"]) == 5
    assert cli.main([*words, "--head", "4:" + "0" * 64]) == 5
    assert cli.main([*words, "--head", "4:abc"]) == 2
    assert "'4:abc' is no head: give COUNT:SEAL" in capsys.readouterr().err
    monkeypatch.setenv("PYRAD_SECRET", "another")
    assert cli.main(words) == 6
    monkeypatch.delenv("PYRAD_SECRET")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(log.folder / "none"))
    assert cli.main(words) == 6
    assert "no secret is given" in capsys.readouterr().err
    assert not (log.folder / "none").exists()


def test_a_folder_without_a_log_passes_no_audit(log, capsys, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    empty = log.folder.with_name("empty")
    empty.mkdir()
    for folder in (empty, log.folder.with_name("mistyped")):
        assert cli.main(["audit", "--private", str(folder)]) == 2
        assert f"there is no audit log in {folder}" in capsys.readouterr().err
    assert list(empty.iterdir()) == []
    (log.folder / AUDIT_FILE).unlink()  # its head is left: this one was taken away
    assert cli.main(["audit", "--private", str(log.folder)]) == 5
