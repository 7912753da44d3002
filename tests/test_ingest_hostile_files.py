"""One archive of every hostile file beside good ones, by the command a user types: each has its outcome."""

import itertools
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from archives import Listener, ingest, pixels, png, samples_of, table, tree
from hostile_files import ct, hostile_files, image

from pyrad import cli
from pyrad.ingest import shards
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.store.verify import verify

GOOD = 12
LINKS = {"outside.dcm": "symlink", "loop": "symlink", "fifo.dcm": "not-a-regular-file"}
DEADLINE_S = 120  # seconds on an idle machine; a FIFO, a bomb or a loop that is believed takes for ever


class Archive:
    """The folder, what is expected of it, and the command."""

    def __init__(self, folder):
        self.folder, self.root, self.store = folder, folder / "archive", folder / "s.zarr"
        self.files = {file.name: file for file in hostile_files()}
        (self.root / "a folder.dcm").mkdir(parents=True)
        for file in self.files.values():
            (self.root / file.name).write_bytes(file.data)
        self.good = {f"good {n}.dcm": image() for n in range(GOOD)}
        for name, cells in self.good.items():
            (self.root / "a folder.dcm" / name).write_bytes(ct(cells))
        (folder / "secret file.dcm").write_bytes(ct())
        (self.root / "outside.dcm").symlink_to(folder / "secret file.dcm")
        (self.root / "loop").symlink_to(".")
        os.mkfifo(self.root / "fifo.dcm")

    def ingest(self):
        words = [sys.executable, "-m", "pyrad.ingest", self.root, "--store", self.store, "--workers", "2"]
        words += ["--include", "sc", "--burned-in", "allow", "--max-quarantine", "90%", "--layout", "dicom"]
        words += ["--private", self.folder / "private"]
        return subprocess.run(
            words,
            env={**os.environ, "PYRAD_SECRET": "of the tests", "TMPDIR": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def outcomes(self):
        """File -> its reasons, one a frame."""
        found = {}
        for trace in PrivateFolder(self.folder / "private", "").traces(str(self.store)):
            found.setdefault(trace.path, []).append(trace.reason)
        return found


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    archive = Archive(tmp_path_factory.mktemp("hostile"))
    return archive, archive.ingest()


def test_it_ends_with_3_and_names_no_file(ingested):
    archive, ended = ingested
    said = ended.stdout + ended.stderr
    assert ended.returncode == 3, said
    assert "Traceback" not in said
    stored = b"".join(tree(archive.store).values())
    for name in (*archive.files, *LINKS, *archive.good, "a folder.dcm", "secret file"):
        if "." in name:
            assert name not in said
            assert name.encode() not in stored


def test_every_file_has_its_outcome(ingested):
    archive, _ = ingested
    found = archive.outcomes()
    wrong = {
        name: found.get(name, [])
        for name, file in archive.files.items()
        if not found.get(name) or not set(found[name]) <= set(file.reasons)
    }
    assert wrong == {}
    assert {name: found[name] for name in LINKS} == {name: [reason] for name, reason in LINKS.items()}
    assert sorted(found["one UID first.dcm"] + found["one UID again.dcm"]) == ["duplicate", "stored"]
    assert "unexpected" not in {reason for reasons in found.values() for reason in reasons}
    assert len(found) == len(archive.files) + len(LINKS) + GOOD


def test_good_files_are_stored_bit_for_bit_and_nothing_else(ingested):
    archive, _ = ingested
    expected = Counter(cells.tobytes() for cells in archive.good.values())
    for file in archive.files.values():
        if file.pixels is not None and file.name != "one UID again.dcm":
            cells = np.asarray(file.pixels)
            for frame in cells if cells.ndim == 3 else [cells]:
                expected[frame.astype(np.uint8 if cells.dtype == int else cells.dtype).tobytes()] += 1
    assert Counter(row["image"].tobytes() for row in samples_of(archive.store)) == expected


def test_the_store_is_sound_and_a_second_run_changes_nothing(ingested):
    archive, _ = ingested
    verify(archive.store)
    before, outcomes = tree(archive.store), archive.outcomes()
    ended = archive.ingest()
    assert ended.returncode == 3, ended.stderr
    assert tree(archive.store) == before
    assert archive.outcomes().keys() == outcomes.keys()
    assert not archive.store.with_name("s.zarr.partial").exists()


# ---- a table


ROWS = (  # of the file as an editor counts them: 2 to 9
    "x/0,sick,p0",  # no extension
    "x/1.png,well,p0",  # a patient with two labels
    "x/2.png,NaN,p1",
    "x/3.png,,p2",
    "x/4.png,sick,p3",
    "x/4.png,well,p3",  # a file in two rows
    "x/5.png,a word never seen,p4",
    "x/9.png,sick,p9",  # no such file
)


def test_a_table_of_every_blemish(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    for n in range(7):
        png(tmp_path / f"a/x/{n}.png", pixels(n))
    table(tmp_path / "a/labels.csv", "\r\n".join(["\ufeff path ,label, patient", *ROWS, ""]))
    heard = Listener()
    summary = ingest(tmp_path / "s.zarr", tmp_path / "a", reporter=heard)
    rows = {row["image"].tobytes(): row for row in samples_of(tmp_path / "s.zarr")}
    found = [rows[pixels(n).tobytes()] for n in range(6)]
    labels = (["sick"], ["well"], [], [], ["sick", "well"], ["a word never seen"])
    assert tuple(row["labels"] for row in found) == labels
    assert (summary.exit_code, summary.images, summary.skipped) == (0, 6, {"not-in-table": 2})
    groups = [row["group"] for row in found]
    assert (groups[0], len(set(groups))) == (groups[1], 5)
    assert found[0]["split"] == found[1]["split"]
    said = " ".join(heard.said)
    assert "rows 4, 5 " in said
    assert "row 9 " in said
    assert "p0" not in said


# ---- files that change


def test_files_that_change_between_their_scan_and_their_pixels(tmp_path, monkeypatch):
    """Also of the same length, and also where only pixels change; nothing half-read is stored."""
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    folder = tmp_path / "a"
    for n in range(8):
        png(folder / f"x/{n}.png", pixels(n))
        (folder / f"x/{n}.dcm").write_bytes(ct(10 * n + image()))
    really = shards.write_shards

    def change_first(*work):
        png(folder / "x/0.png", 255 - pixels(0))
        changed = bytearray((folder / "x/0.dcm").read_bytes())
        changed[-1] ^= 1
        (folder / "x/0.dcm").write_bytes(changed)
        (folder / "x/7.dcm").unlink()
        return really(*work)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_shards", change_first)
        summary = ingest(tmp_path / "s.zarr", folder, layout="folder", max_quarantine="50%")
    assert (summary.exit_code, summary.quarantined) == (3, {"file-changed": 2, "unreadable-file": 1})
    stored = {row["image"].tobytes() for row in samples_of(tmp_path / "s.zarr")}
    assert len(stored) == 13
    assert {pixels(n).tobytes() for n in range(1, 8)} < stored
    verify(tmp_path / "s.zarr")


# ---- names


def test_names_that_are_no_text_or_command_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    folders, files = (
        (b"\xff\xfe", b"red\x1b[31m", b"new\nline"),
        (b"\xe9.png", b"\x1b]0;owned\x07.png", b"-rf.png"),
    )
    for n, (folder, file) in enumerate(itertools.product(folders, files)):
        png(tmp_path / "a" / os.fsdecode(folder) / os.fsdecode(file), pixels(n))
    store, private = str(tmp_path / "s.zarr"), str(tmp_path / "private")
    words = [str(tmp_path / "a"), "--store", store, "--private", private, "--workers", "1"]
    assert [cli.main(["ingest", *words, *more]) for more in (["--dry-run"], [])] == [0, 0]
    rows = samples_of(tmp_path / "s.zarr")
    assert Counter(row["labels"][0] for row in rows) == {"\\xff\\xfe": 3, "red\x1b[31m": 3, "new\nline": 3}
    verify(tmp_path / "s.zarr")
    for command in (["info", store], ["card", store]):
        assert cli.main(command) == 0
    shown = capsys.readouterr()
    assert "red\\x1b[31m 3" in shown.out
    assert cli.main(["relink", "--private", private, *(row["key"] for row in rows)]) == 0
    found = capsys.readouterr().out
    assert len(found.splitlines()) == 1 + len(rows)
    assert "new\\nline/-rf" in found
    assert not {"\x1b", "\x07"} & set(shown.out + shown.err + found)
