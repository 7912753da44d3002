"""Nothing of a patient leaves the archive: every text is a token, and every output is searched for all.

The search is worth what it finds: a token leaked on purpose, in each carrier and in each form, is found.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archives import ingest
from leaks import Search, digests, files_below, forms, pixels_of
from planted import Tokens, dicom_archive, raster_archive
from stores import build, key_of

from pyrad import cli
from pyrad.ingest import prepare
from pyrad.progress import Reporter
from pyrad.store import manifest, tables
from pyrad.store.reader import open_store
from pyrad.store.verify import verify

SECRET = "the secret of the search"  # noqa: S105


class Planted:
    """The archives, what is looked for, and a place for everything that an ingest may leave behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tokens = Tokens()
        self.dicom = dicom_archive(folder / "dicom", tokens)
        self.raster = raster_archive(folder / "raster", tokens)
        self.search = Search([*tokens.made, SECRET], tokens.contents)
        (folder / "secret").write_text(SECRET)
        (folder / "tmp").mkdir()

    def words(self, store: str, source: Path, *options: str) -> list[str]:
        """The command line of an ingest."""
        private = ["--private", str(self.folder / "private"), "--secret-file", str(self.folder / "secret")]
        budget = ["--max-quarantine", "100%", "--workers", "2"]
        return [str(source), "--store", str(self.folder / store), *private, *budget, *options]

    def start(self, words: list[str]) -> subprocess.Popen:
        """The ingest in a process of its own, whose temporary folder is ours."""
        env = {k: v for k, v in os.environ.items() if k not in ("PYRAD_TRACEBACK", "PYRAD_SECRET")}
        env |= {"TMPDIR": str(self.folder / "tmp"), "XDG_CONFIG_HOME": str(self.folder / "config")}
        command = [sys.executable, "-m", "pyrad.ingest", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, stdout=pipe, stderr=pipe, env=env, cwd=self.folder / "tmp", start_new_session=True
        )

    def run(self, words: list[str]) -> tuple[int, dict[str, bytes]]:
        """Exit code, and the two streams."""
        with self.start(words) as process:
            out, err = process.communicate(timeout=300)
        return process.returncode, {"stdout": out, "stderr": err}

    def left_behind(self, store: str) -> dict[str, bytes]:
        """The store, its working folder, the temporary folder and the audit log."""
        carriers = files_below(self.folder / "tmp")
        for path in (self.folder / store, self.folder / f"{store}.partial"):
            if path.exists():
                carriers |= files_below(path)
        if (self.folder / store / "zarr.json").exists():
            carriers |= pixels_of(self.folder / store)
        for path in (self.folder / "private").glob("audit.*"):
            carriers[path.name] = path.read_bytes()
        return carriers


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return Planted(tmp_path_factory.mktemp("leaks"))


def clean(planted, carriers, *, at_least):
    """Nothing is found in the carriers, and they are not empty."""
    assert sum(len(data) for data in carriers.values()) > at_least
    assert planted.search.find(carriers) == []


def test_nothing_of_a_dicom_archive_leaves_it(planted):
    exit_code, streams = planted.run(planted.words("d.zarr", planted.dicom, "--json"))
    assert exit_code == 3, streams["stderr"]
    record = json.loads(streams["stdout"])
    assert record["images"] >= 8
    assert {"uid-conflict", "bad-rescale", "header-damaged"} <= set(record["quarantined"])
    assert b"quarantined" in streams["stderr"]
    clean(planted, streams | planted.left_behind("d.zarr"), at_least=20_000)
    verify(planted.folder / "d.zarr")


def test_nothing_of_rasters_and_of_a_tables_other_columns_leaves_them(planted):
    options = ("--table", str(planted.folder / "raster.csv"), "--keep-columns", "site", "--codec", "zstd")
    exit_code, streams = planted.run(planted.words("r.zarr", planted.raster, *options))
    assert exit_code == 3, streams["stderr"]
    carriers = streams | planted.left_behind("r.zarr")
    with open_store(planted.folder / "r.zarr") as store:
        assert store.samples.column_names == [*tables.SAMPLES_SCHEMA.names, "site"]
        assert set(store.samples["site"].to_pylist()) == {"wanted"}
    clean(planted, carriers, at_least=20_000)


def test_nothing_is_left_in_the_working_folder_of_an_ingest_that_is_killed(planted):
    store = planted.folder / "k.zarr"
    with planted.start(planted.words("k.zarr", planted.dicom)) as process:
        end_s = time.monotonic() + 60
        while not list(store.with_name("k.zarr.partial").glob("*/shards/*")) and process.poll() is None:
            assert time.monotonic() < end_s
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, "the ingest was over before it was killed"
    carriers = planted.left_behind("k.zarr") | {"stdout": out, "stderr": err}
    assert any(name.startswith("k.zarr.partial") and "/tree/" in name for name in carriers)
    clean(planted, carriers, at_least=1_000)


def test_our_own_bug_tells_nothing(planted, monkeypatch, capfd):
    """The exception of a bug in the parent quotes what it met; the user sees its class and its place."""
    token = next(path.name for path in planted.dicom.iterdir())

    def broken(*_args, **_more):
        raise KeyError(token)

    monkeypatch.delenv("PYRAD_TRACEBACK", raising=False)
    monkeypatch.setattr(prepare, "open_archive", broken)
    assert cli.main(["ingest", *planted.words("b.zarr", planted.dicom)]) == 1
    captured = capfd.readouterr()
    carriers = {"stdout": captured.out.encode(), "stderr": captured.err.encode()}
    assert "internal error KeyError" in captured.err
    clean(planted, carriers | planted.left_behind("b.zarr"), at_least=50)
    monkeypatch.setenv("PYRAD_TRACEBACK", "1")  # whoever asks for a traceback gets it: the search finds it
    with pytest.raises(KeyError, match=token):
        cli.main(["ingest", *planted.words("b.zarr", planted.dicom)])


class Spy(Reporter):
    """Reads every file of a folder while the cluster that writes there is alive."""

    def __init__(self, folder):
        super().__init__("log")
        self.folder = folder
        self.files = {}

    def show(self, stage, *, last):
        super().show(stage, last=last)
        if last:
            self.files |= {
                str(path): path.read_bytes()
                for path in self.folder.rglob("*")
                if path.is_file() and not path.is_symlink()
            }


@pytest.mark.soak
def test_nothing_is_in_rays_logs_and_spill_files(planted, monkeypatch, capfd):
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(dir="/tmp") as short, monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", short)
        patch.setenv("PYRAD_SECRET", SECRET)
        spy = Spy(Path(short))
        options = {"private": planted.folder / "private", "workers": 2, "max_quarantine": "100%"}
        ingest(planted.folder / "y.zarr", planted.dicom, ray="local", reporter=spy, **options)
    captured = capfd.readouterr()
    carriers = {"stdout": captured.out.encode(), "stderr": captured.err.encode()}
    assert any("gcs_server" in name for name in spy.files)
    clean(planted, carriers | spy.files | planted.left_behind("y.zarr"), at_least=50_000)


# ---- what the search is worth

TOKEN = "Qx7kWM3zP4rT"  # noqa: S105


@pytest.mark.parametrize("form", [name for name, _ in forms(TOKEN.encode())])
@pytest.mark.parametrize("offset", [0, 3, 8, 1001])
def test_every_form_is_found_wherever_it_stands(form, offset):
    pattern = dict(forms(TOKEN.encode()))[form]
    noise = np.random.default_rng(offset).integers(0, 256, 2000, dtype=np.uint8).tobytes()
    search = Search([TOKEN, "2.25.1234567890"])
    assert search.find({"x": noise}) == []
    found = search.find({"x": noise[:offset] + pattern + noise[offset:]})
    assert (found[0][:2], form in {form for _, _, form in found}) == (("x", TOKEN), True)


def test_base64_is_found_within_a_longer_text():
    for shift in range(7):
        text = base64.b64encode(b"The patient"[:shift] + TOKEN.encode() + b" and more")
        assert Search([TOKEN]).find({"x": text}), shift


def leaky_store(folder, *, labels=(), kept=None, pixels=None):
    """A tiny store in which somebody forgot to drop a value."""
    image = np.arange(320, dtype=np.uint8).reshape(16, 20) if pixels is None else pixels
    facts = {"labels": labels, "kept": kept or {}}
    return build(folder / "leaky.zarr", [image], [facts])


@pytest.mark.parametrize("column", ["labels", "kept"])
def test_a_token_in_the_samples_table_is_found(tmp_path, column):
    what = {"labels": (TOKEN,)} if column == "labels" else {"kept": {"note": TOKEN}}
    store = leaky_store(tmp_path, **what)
    found = {name for name, *_ in Search([TOKEN]).find(files_below(store))}
    assert "leaky.zarr/parts/000001/samples.parquet, decoded" in found


def test_a_token_in_pixels_is_found_though_the_store_is_compressed(tmp_path):
    image = np.zeros((16, 20), np.uint8)
    image[3, 4 : 4 + len(TOKEN)] = np.frombuffer(TOKEN.encode(), np.uint8)
    store = leaky_store(tmp_path, pixels=image)
    assert [name for name, *_ in Search([TOKEN]).find(pixels_of(store))] == ["image 0"]
    wide = np.zeros((16, 20), np.uint16)
    wide.view(np.uint8)[3, 4 : 4 + len(TOKEN)] = np.frombuffer(TOKEN.encode(), np.uint8)
    (tmp_path / "wide").mkdir()
    assert Search([TOKEN]).find(pixels_of(leaky_store(tmp_path / "wide", pixels=wide)))


def test_a_token_in_the_manifest_in_a_name_and_beside_the_store_is_found(tmp_path):
    store = leaky_store(tmp_path)
    assert Search([TOKEN]).find(files_below(store)) == []
    whole = manifest.read_manifest(store)
    leaky = replace(whole, parts=(replace(whole.parts[0], options={"table": TOKEN}),))
    (store / "zarr.json").write_bytes(manifest.root_bytes(leaky))
    names = {name for name, *_ in Search([TOKEN]).find(files_below(store))}
    assert names == {"leaky.zarr/zarr.json", "leaky.zarr/zarr.json, decoded"}
    (tmp_path / "leaky.zarr.partial" / TOKEN).mkdir(parents=True)
    assert [name for name, *_ in Search([TOKEN]).find(files_below(tmp_path / "leaky.zarr.partial"))] == [
        "names"
    ]


def test_the_hash_of_a_file_is_found_in_a_ledger(tmp_path):
    file = b"the bytes of a file"
    key = next(pattern for form, pattern in digests(file) if form == "md5 in hexadecimal").decode()
    image = np.arange(320, dtype=np.uint8).reshape(16, 20)
    store = build(tmp_path / "leaky.zarr", [image], [{"key": key}])
    assert Search([TOKEN], [file]).find(files_below(store))
    assert key_of(0) != key


def test_a_planted_token_that_is_let_through_is_found(planted):
    """The column ``comment`` of the planted table, kept on purpose: the whole chain finds it."""
    options = ("--table", str(planted.folder / "raster.csv"), "--keep-columns", "comment")
    exit_code, streams = planted.run(planted.words("c.zarr", planted.raster, *options))
    assert exit_code == 3, streams["stderr"]
    found = planted.search.find(streams | planted.left_behind("c.zarr"))
    assert len({token for _, token, _ in found}) >= 5
    assert {name for name, *_ in found if "decoded" in name} == {
        "c.zarr/parts/000001/samples.parquet, decoded"
    }
