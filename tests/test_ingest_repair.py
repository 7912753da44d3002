"""Damaged stores made whole again from their archives, byte for byte, or left as they are with a sentence."""

import shutil
import signal
import subprocess
import sys

import pytest
from archives import dicom, ingest, pixels, png, table, tree

from pyrad.errors import IntegrityError, NotAStoreError, SecretError, UsageError
from pyrad.ingest.privacy.forget import ForgetOptions, forget
from pyrad.ingest.repair import VerifyOptions, repair, verify_store
from pyrad.progress import Reporter
from pyrad.store.verify import verify

pytestmark = pytest.mark.usefixtures("own_secret")

QUIET = Reporter("silent")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of two parts: PNG with masks and a file that does not decode, then DICOM beside them."""
    folder = tmp_path_factory.mktemp("made")
    archive = folder / "archive"
    rows = ["path,label,patient,mask"]
    for n in range(8):
        png(archive / f"{n}.png", pixels(n, rows=16 + n % 2))
        rows.append(f"{n}.png,{'ab'[n % 2]},p{n},{'m.png' if n == 2 else ''}")
    png(archive / "m.png", pixels(9, high=2))
    (archive / "bad.png").write_bytes((archive / "0.png").read_bytes()[:-30])
    table(archive / "labels.csv", "\n".join([*rows, "bad.png,a,p9,"]))
    for n in range(6):
        image = pixels(50 + n, dtype="int16")
        dicom(folder / "second" / f"{n}.dcm", image, uid=f"1.2.{n}", patient=f"P{n}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRAD_SECRET", "of the tests")
        how = {"max_quarantine": "50%", "private": folder / "private"}
        ingest(folder / "s.zarr", archive, columns=("mask=mask",), **how)
        ingest(folder / "s.zarr", folder / "second", split="50/25/25", **how)
    return folder


@pytest.fixture
def damaged(made, tmp_path):
    """A copy of the store and its archives."""
    for name in ("s.zarr", "archive", "second", "private"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def options(folder, **more):
    given = {
        "rewrite_from": (folder / "archive", folder / "second"),
        "private": folder / "private",
        "workers": 1,
    }
    return VerifyOptions(store=folder / "s.zarr", **{**given, **more})


FILES = (
    "parts/000001/images/16x20_u8/c/0/0/0",
    "parts/000001/masks/16x20_u8/c/0/0/0",
    "parts/000001/images/17x20_u8/zarr.json",
    "parts/000001/index.bin",
    "parts/000001/samples.parquet",
    "parts/000002/images/16x20_i16/c/0/0/0",
    "parts/000002/zarr.json",
)


@pytest.mark.parametrize(
    ("name", "how"), [*((name, "flip") for name in FILES), (FILES[0], "cut"), (FILES[1], "delete")]
)
def test_a_damaged_file_is_made_again(damaged, made, name, how):
    file = damaged / "s.zarr" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    if how == "delete":
        file.unlink()
    else:
        file.write_bytes(data if how == "flip" else data[:-3])
    with pytest.raises(IntegrityError):
        verify(damaged / "s.zarr")
    assert repair(options(damaged), QUIET) == 1
    assert tree(damaged / "s.zarr") == tree(made / "s.zarr")
    assert sorted(p.name for p in damaged.iterdir()) == [
        "archive",
        "private",
        "s.zarr",
        "second",
    ]
    verify_store(options(damaged), QUIET)


def test_everything_but_the_root_and_the_ledgers_can_be_lost(damaged, made):
    shutil.rmtree(damaged / "s.zarr" / "parts" / "000001" / "images")
    for file in (damaged / "s.zarr" / "parts" / "000002").rglob("*"):
        if file.is_file() and file.name != "ledger.parquet":
            file.unlink()
    assert repair(options(damaged), QUIET) > 4
    assert tree(damaged / "s.zarr") == tree(made / "s.zarr")


def test_a_part_without_its_ledger_needs_just_its_own_archive(damaged, made):
    (damaged / "s.zarr/parts/000001/ledger.parquet").unlink()
    assert repair(options(damaged, rewrite_from=(damaged / "archive",)), QUIET) == 1
    assert tree(damaged / "s.zarr") == tree(made / "s.zarr")


def test_a_whole_store_is_not_touched(damaged, made):
    assert repair(options(damaged), QUIET) == 0
    assert tree(damaged / "s.zarr") == tree(made / "s.zarr")


def test_another_archive_restores_nothing_and_says_so(damaged):
    file = damaged / "s.zarr" / FILES[0]
    file.write_bytes(b"gone")
    png(damaged / "archive" / "0.png", pixels(77))
    with pytest.raises(IntegrityError, match=r"(?s)1 of 1 damaged files .*16x20_u8/c/0/0/0"):
        repair(options(damaged), QUIET)
    assert file.read_bytes() == b"gone"


def test_a_damaged_root_and_a_wrong_secret_are_refused(damaged, monkeypatch):
    (damaged / "s.zarr" / FILES[0]).unlink()
    with monkeypatch.context() as patch:
        patch.setenv("PYRAD_SECRET", "another")
        with pytest.raises(SecretError):
            repair(options(damaged), QUIET)
    (damaged / "s.zarr/zarr.json").write_bytes(b"{}")
    with pytest.raises(UsageError):
        repair(options(damaged), QUIET)


def test_a_wrong_path_shows_before_damage_does(damaged):
    with pytest.raises(UsageError, match="nosuch"):
        repair(options(damaged, rewrite_from=(damaged / "nosuch",)), QUIET)
    with pytest.raises(NotAStoreError, match="it does not exist"):
        repair(VerifyOptions(store=damaged / "t.zarr", rewrite_from=(damaged / "archive",)), QUIET)
    assert not [*damaged.glob("*.partial")]


KILLED = """
import os, signal, sys
from pathlib import Path
import pyrad.ingest.run as ingest
from pyrad.ingest.repair import VerifyOptions, repair
from pyrad.progress import Reporter

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

ingest.write_plan = die  # every header is in the book by then
folder = Path(sys.argv[1])
archives = (folder / "archive", folder / "second")
options = VerifyOptions(store=folder / "s.zarr", rewrite_from=archives, private=folder / "private", workers=1)
repair(options, Reporter("silent"))
"""


def test_a_killed_run_leaves_headers_in_the_private_folder_alone_and_the_next_removes_them(damaged, made):
    (damaged / "s.zarr" / FILES[5]).unlink()
    done = subprocess.run([sys.executable, "-c", KILLED, damaged], check=False)
    assert done.returncode == -signal.SIGKILL
    books = [*damaged.rglob("book-*.sqlite")]
    assert [book.parent.parent for book in books] == [damaged / "private"]
    assert [*damaged.rglob("*.sqlite*")] != []
    assert not {path.name for path in damaged.iterdir()} - {
        *("archive", "private", "s.zarr", "s.zarr.partial", "second")
    }
    assert repair(options(damaged), QUIET) == 1
    assert tree(damaged / "s.zarr") == tree(made / "s.zarr")
    assert not [*(damaged / "private").glob("repair-*"), *damaged.glob("*.partial")]


def test_what_forget_wrote_is_not_made_again_but_what_came_later_is(tmp_path):
    """A forgotten patient's files in the later archive are passed over, as they were."""
    store, how = tmp_path / "s.zarr", {"private": tmp_path / "private"}
    for n in range(6):
        folder = tmp_path / ("first" if n < 3 else "second")
        dicom(folder / f"{n}.dcm", pixels(n, dtype="int16"), uid=f"1.2.{n}", patient=f"P{n % 3}")
    ingest(store, tmp_path / "first", **how)
    (tmp_path / "list").write_text("P1\n")
    forget(ForgetOptions(store=store, patients=tmp_path / "list", **how), QUIET)
    ingest(store, tmp_path / "second", **how)
    whole = tree(store)
    later = options(tmp_path, rewrite_from=(tmp_path / "first", tmp_path / "second"))
    (store / "parts/000003/samples.parquet").unlink()
    (store / "parts/000003/images/16x20_i16/c/0/0/0").unlink()
    assert repair(later, QUIET) == 2
    assert tree(store) == whole
    (store / "parts/000002/samples.parquet").unlink()
    with pytest.raises(IntegrityError, match="forget has changed this store"):
        repair(later, QUIET)
