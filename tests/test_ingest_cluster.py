"""Ingest by Ray on this machine: the same bytes as without, nothing that leaks, nothing that is left."""

import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archives import Listener, dicom, ingest, npy, pixels, png, tree, two_classes
from evils import HostileArchive
from test_bundled_dicom import FOLDERS as BUNDLED
from test_ingest_resume import until
from test_ingest_run import mixed

from pyrad.errors import MissingDependencyError, SecretError, UsageError
from pyrad.ingest import prepare
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.policy import INCLUDES
from pyrad.ingest.workers import cluster, nodes

SECRET = "a secret that must not travel 7319"  # noqa: S105 - of the tests
PATIENT = "Planted^Patient7319"


@pytest.fixture(autouse=True)
def _own_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", SECRET)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def short_tmp(monkeypatch):
    """A temporary folder of this test's own; Ray's sockets need a short path."""
    multiprocessing.util.get_temp_dir()  # where workers come from has its socket outside, until we end
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


class Spy(Listener):
    """Looks at Ray's processes and files when the shards are written, the cluster being alive."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.processes = {}
        self.files = {}
        self.listening = set()
        self.dashboard = "unknown"

    def show(self, stage, *, last):
        if stage.name == "write" and last:
            self.processes = with_environment(cluster._token())
            self.listening = listening(self.processes)
            self.dashboard = sys.modules["ray"]._private.worker._global_node.webui_url
            for path in self.folder.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    self.files[path] = path.read_bytes()


def with_environment(word) -> dict[int, bytes]:
    """Environment by process id of every other process whose environment holds a word."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if word.encode() in environment and process.name != str(os.getpid()):
            found[int(process.name)] = environment
    return found


def command(process) -> bytes:
    """The command line of a process, empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def listening(processes) -> set[str]:
    """Addresses, in the kernel's hexadecimal, at which any of some processes listens."""
    inodes = set()
    for process in processes:
        for fd in Path(f"/proc/{process}/fd").glob("*"):
            try:
                inodes.add(str(fd.readlink()).removeprefix("socket:[").rstrip("]"))
            except OSError:
                continue
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    return {row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_a_private_cluster_stores_the_same_bytes_and_leaks_nothing(tmp_path, short_tmp, monkeypatch):
    folder = mixed(tmp_path / "a")
    png(folder / "r/evil.png", pixels(78))  # crashes its decoder
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where Ray's workers find HostileArchive
    monkeypatch.setattr(prepare, "open_archive", lambda path: HostileArchive(path, "crash", "write"))
    dicom(
        folder / "named.dcm", pixels(77, dtype=np.int16), uid="1.2.3.77", patient=PATIENT, PatientName=PATIENT
    )
    spy = Spy(short_tmp)
    handler = signal.getsignal(signal.SIGTERM)
    ingest(tmp_path / "one.zarr", folder, max_quarantine="20%", workers=2)
    by_ray = ingest(tmp_path / "ray.zarr", folder, max_quarantine="20%", workers=2, ray="local", reporter=spy)
    assert by_ray.quarantined == {"decoder-crashed": 1, "raster-damaged": 1}
    assert tree(tmp_path / "one.zarr") == tree(tmp_path / "ray.zarr")
    assert not (tmp_path / "ray.zarr.partial").exists()

    assert any(path.name == "gcs_server.out" for path in spy.files)  # it looked at the right place
    planted = SECRET.encode(), PATIENT.encode()
    assert [path.name for path, data in spy.files.items() if any(word in data for word in planted)] == []
    assert len(spy.processes) > 7  # Ray's own, its two workers, and an isolated process of each
    assert [number for number, it in spy.processes.items() if SECRET.encode() in it] == []
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # in IPv4, and as IPv6 has it
    assert spy.listening
    assert spy.listening <= loopback
    assert not spy.dashboard

    assert os.environ["PYRAD_SECRET"] == SECRET
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
    assert list(short_tmp.iterdir()) == []
    assert with_environment(cluster._token()) == {}


def test_bundled_files_of_pydicom_are_stored_alike(tmp_path):
    summary = check_alike(tmp_path, *BUNDLED)
    assert summary.images == 91


@pytest.mark.soak
@pytest.mark.real_data
def test_all_real_files_are_stored_alike(tmp_path, real_data):
    check_alike(tmp_path, real_data / "dicom.zip", *BUNDLED)


def check_alike(folder, *sources):
    """The same bytes, the ledger among them, by one worker, by two, and by Ray; all that policy can admit."""
    options = {"layout": "dicom", "include": INCLUDES, "burned_in": "allow", "max_quarantine": "100%"}
    one = ingest(folder / "one.zarr", *sources, workers=1, **options)
    two = ingest(folder / "two.zarr", *sources, workers=2, **options)
    ray = ingest(folder / "ray.zarr", *sources, workers=2, ray="local", **options)
    for other in (two, ray):
        assert (one.files, one.skipped, one.quarantined) == (other.files, other.skipped, other.quarantined)
    assert tree(folder / "one.zarr") == tree(folder / "two.zarr") == tree(folder / "ray.zarr")
    return one


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_ingest_leaves_no_process_and_resumes(tmp_path, number):
    for n in range(24):
        png(tmp_path / "a" / "x" / f"{n}.png", pixels(n, rows=700 + n, columns=900))
    ingest(tmp_path / "one.zarr", tmp_path / "a", workers=2)
    store, mark = tmp_path / "s.zarr", f"{tmp_path.name}-{os.getpid()}-{number}"
    words = [sys.executable, "-m", "pyrad.ingest", tmp_path / "a", "--store", store, "--ray", "local"]
    words += ["--private", tmp_path / "private"]
    driver = subprocess.Popen(
        words, env={**os.environ, "PYRAD_MARK": mark}, stderr=subprocess.PIPE, start_new_session=True
    )
    working = store.with_name("s.zarr.partial")
    until(lambda: len(list(working.glob("*/shards/*.json"))) >= 3)
    assert len(with_environment(mark)) > 7
    began_s = time.monotonic()
    os.killpg(driver.pid, number) if number == signal.SIGINT else driver.kill()  # a terminal tells them all
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[number], errors
    # Killed, it cannot end Ray's two agents, which do nothing and miss it after a minute or two.
    late = b"Agent" if number == signal.SIGKILL else None
    until(lambda: all(late and late in command(process) for process in with_environment(mark)))
    assert time.monotonic() - began_s < 30
    ingest(store, tmp_path / "a", ray="local", workers=2)
    assert tree(store) == tree(tmp_path / "one.zarr")
    assert not working.exists()


@pytest.mark.parametrize("word", ["", "on", "ray://head:10001", "head", "head:", ":6379", "10.0.0.1:port"])
def test_what_is_no_address_is_refused(tmp_path, word):
    with pytest.raises(UsageError, match="--ray"):
        IngestOptions(src=(tmp_path,), store=tmp_path / "s.zarr", ray=word)


def test_a_dry_run_does_not_pass_over_a_cluster(tmp_path):
    with pytest.raises(UsageError, match="--dry-run is given and --ray local"):
        IngestOptions(src=(tmp_path,), store=tmp_path / "s.zarr", dry_run=True, ray="local")


def test_a_shared_cluster_needs_a_secret_that_is_given(tmp_path, monkeypatch):
    monkeypatch.delenv("PYRAD_SECRET")
    ingest(tmp_path / "s.zarr", two_classes(tmp_path / "a", 1))  # makes one in the user's folder
    with pytest.raises(SecretError, match="--secret-file"):
        ingest(tmp_path / "s.zarr", tmp_path / "a", ray="auto")


def test_a_cluster_that_does_not_answer_is_named_at_once(tmp_path):
    with pytest.raises(UsageError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        ingest(tmp_path / "s.zarr", two_classes(tmp_path / "a", 1), ray="127.0.0.1:1")
    assert not (tmp_path / "s.zarr.partial").exists()


def test_without_ray_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'pyrad\[cluster\]'"):
        ingest(tmp_path / "s.zarr", two_classes(tmp_path / "a", 1), ray="local")


def test_a_node_that_differs_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.delenv("PYRAD_SECRET")
    archive, working = two_classes(tmp_path / "patient Doe", 1), tmp_path / "s.zarr.partial"
    working.mkdir()
    npy(tmp_path / "one.npy", pixels(1))
    expected = nodes.expect([archive, tmp_path / "one.npy"], working)
    assert nodes.differences(expected) == []
    assert list(working.iterdir()) == []

    other = replace(expected, versions={**expected.versions, "numpy": "1.0"})
    assert [(it.what, it.here) for it in nodes.differences(other)] == [("numpy", "1.0")]
    for file in [*archive.rglob("*.png"), tmp_path / "one.npy"]:
        file.write_bytes(b"")
    assert Counter(it.there for it in nodes.differences(expected)) == {"another size": 2}
    (tmp_path / "one.npy").unlink()
    archive.rename(tmp_path / "b")
    working.rmdir()
    found = nodes.differences(expected)
    assert Counter((it.what, it.there) for it in found) == {
        ("a source", "not seen"): 2,
        ("a store", "not seen"): 1,
    }
    monkeypatch.setenv("PYRAD_SECRET", SECRET)
    table = nodes.as_table({"10.0.0.7": nodes.differences(other)})
    assert "numpy         1.0" in table
    assert "in Ray's environment" in table
    assert SECRET not in table
    assert "Doe" not in table
