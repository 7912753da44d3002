"""Ingest from object storage and to it, by the command line, against a server process (moto: an emulator)."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
from archives import dicom, ledger_of, pixels, png, table, tree
from s3server import BUCKET, client, objects, s3_server

from pyrad.cli import main
from pyrad.errors import PyradError, StoreBusyError
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.run import run
from pyrad.store import bucket
from pyrad.store.reader import open_store
from pyrad.store.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # botocore keeps its connections

IMAGES = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as environment:
        yield environment


@pytest.fixture
def machine(server, tmp_path, monkeypatch):
    """The environment of a machine that knows the server, with folders of its own; in this process too."""
    own = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    own |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PYRAD_SECRET": "of the tests", **server}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    bucket._client.cache_clear()
    forkserver._forkserver._stop()  # workers have the environment that it was started in
    s3 = client(server)
    for name in objects(s3, ""):
        s3.delete_object(Bucket=BUCKET, Key=name)
    yield {**os.environ, **own}
    forkserver._forkserver._stop()


def archive(folder, first=0):
    rows = ["path,label,patient"]
    for n in range(first, first + IMAGES):
        png(folder / "images" / f"{n}.png", pixels(n))
        rows.append(f"images/{n}.png,{'ab'[n % 2]},p{n}")
    table(folder / "labels.csv", "\n".join(rows))
    return folder


def upload(environment, folder, prefix):
    s3 = client(environment)
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"{prefix}/{file.relative_to(folder).as_posix()}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())


def ingest(environment, source, store, *more, **how):
    command = [
        sys.executable,
        "-m",
        "pyrad.ingest",
        str(source),
        "--store",
        str(store),
        "--workers",
        "1",
        *more,
    ]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how
    )


def ingested(environment, source, store, *more):
    process = ingest(environment, source, store, *more)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


URL = f"s3://{BUCKET}/stores/chest.zarr"


def test_from_a_bucket_to_a_bucket_is_as_from_disk_to_disk(machine, tmp_path):
    upload(machine, archive(tmp_path / "archive"), "archive")
    upload(machine, archive(tmp_path / "more", first=50), "more")
    for source in ("archive", "more"):
        run(IngestOptions(src=(tmp_path / source,), store=tmp_path / "chest.zarr", workers=1))
        ingested(machine, f"s3://{BUCKET}/{source}", URL)
    assert objects(client(machine), "stores/chest.zarr/") == tree(tmp_path / "chest.zarr")
    assert verify(URL)["samples"] == 2 * IMAGES
    with open_store(URL) as store:
        assert {store.image(index).shape for index in range(len(store))} == {(16, 20)}
    assert "nothing is new" in ingested(machine, f"s3://{BUCKET}/more", URL)


def test_killed_while_it_uploads_and_run_again(machine, tmp_path):
    source = archive(tmp_path / "archive")
    process = ingest(machine, source, URL, start_new_session=True)
    s3 = client(machine)
    end = time.monotonic() + 120
    while not objects(s3, "stores/") and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    ingested(machine, source, URL)
    run(IngestOptions(src=(source,), store=tmp_path / "chest.zarr", workers=1))
    assert objects(s3, "stores/chest.zarr/") == tree(tmp_path / "chest.zarr")
    assert not objects(s3, "stores/chest.zarr.partial/")


# An ingest by the command line that gets a real SIGKILL before or after it writes the root.
_DIES = """
import os, signal, sys
from pyrad.cli import main
from pyrad.store.bucket import Bucket
when, commit = sys.argv.pop(1), Bucket.commit
def dying(*what):
    if when == "after":
        commit(*what)
    os.kill(os.getpid(), signal.SIGKILL)
Bucket.commit = dying
main(["ingest", *sys.argv[1:]])
"""


def dies(environment, when, source):
    """Run an ingest into the bucket until it writes the root."""
    command = [sys.executable, "-c", _DIES, when, str(source), "--store", URL, "--workers", "1"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr


@pytest.mark.parametrize(("part", "where"), [(1, "same machine"), (1, "another"), (2, "another")])
def test_a_writer_that_dies_after_its_root_keeps_nobody_out(machine, tmp_path, monkeypatch, part, where):
    archives = [archive(tmp_path / str(n), first=n) for n in (0, 50, 90)][: part + 1]
    for before in archives[:-2]:
        run(IngestOptions(src=(before,), store=Path(URL), workers=1))
    dies(machine, "after", archives[-2])
    s3 = client(machine)
    assert "stores/chest.zarr/zarr.json" in objects(s3, "")
    assert len(objects(s3, "stores/chest.zarr.partial/")) == 1
    if where == "another":
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    run(IngestOptions(src=(archives[-1],), store=Path(URL), workers=1))
    for source in archives:
        run(IngestOptions(src=(source,), store=tmp_path / "chest.zarr", workers=1))
    assert objects(s3, "stores/chest.zarr/") == tree(tmp_path / "chest.zarr")
    assert not objects(s3, "stores/chest.zarr.partial/")


def test_a_writer_that_dies_before_its_root_is_taken_up_or_its_claim_deleted(machine, tmp_path, monkeypatch):
    source, other = archive(tmp_path / "archive"), archive(tmp_path / "other", first=50)
    dies(machine, "before", source)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    with pytest.raises(StoreBusyError, match="start it again where it ran"):
        run(IngestOptions(src=(other,), store=Path(URL), workers=1))
    assert not any(name.endswith("chest.zarr/zarr.json") for name in objects(client(machine), ""))
    monkeypatch.setenv("XDG_DATA_HOME", machine["XDG_DATA_HOME"])
    run(IngestOptions(src=(source,), store=Path(URL), workers=1))  # as the message says: where it ran
    dies(machine, "before", other)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "third"))
    more = archive(tmp_path / "more", first=90)
    with pytest.raises(StoreBusyError) as told:
        run(IngestOptions(src=(more,), store=Path(URL), workers=1))
    key = re.search(rf"aws s3 rm s3://{BUCKET}/(\S+)\)", str(told.value))[1]
    client(machine).delete_object(Bucket=BUCKET, Key=key)
    run(IngestOptions(src=(more,), store=Path(URL), workers=1))
    for one in (source, more):
        run(IngestOptions(src=(one,), store=tmp_path / "chest.zarr", workers=1))
    assert objects(client(machine), "stores/chest.zarr/") == tree(tmp_path / "chest.zarr")


def test_what_is_missing_is_told(machine, tmp_path):
    process = ingest(machine, f"s3://{BUCKET}/nothing", tmp_path / "chest.zarr")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "nothing" in said
    process = ingest(machine, "s3://no-such-bucket/archive", tmp_path / "chest.zarr")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "no such bucket" in said
    process = ingest(machine, archive(tmp_path / "archive"), "s3://no-such-bucket/chest.zarr")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "no-such-bucket/chest.zarr: there is no such bucket" in said
    assert "Traceback" not in said


def test_an_appended_image_that_looks_like_a_stored_one_is_left_out_as_on_disk(machine, tmp_path, capsys):
    image = pixels(0, high=2000, dtype=np.int16)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    dicom(first / "1.dcm", image, uid="1.2.1", patient="P1")
    dicom(second / "copy.dcm", image, uid="1.2.2", patient="P2")  # another UID, so other bytes
    dicom(third / "same-patient.dcm", image, uid="1.2.3", patient="P1")  # equal images of one group stay
    for store in (tmp_path / "chest.zarr", Path(URL)):
        run(IngestOptions(src=(first,), store=store, workers=1))
        new = dicom(second / "new.dcm", pixels(1), uid="1.2.4", patient="P3")
        summary = run(IngestOptions(src=(second,), store=store, workers=1))
        assert (summary.images, summary.skipped) == (1, {"duplicate-pixels": 1})
        new.unlink()
        summary = run(IngestOptions(src=(second, third), store=store, workers=1))
        assert (summary.images, summary.skipped) == (1, {"duplicate-pixels": 1})
    assert objects(client(machine), "stores/chest.zarr/") == tree(tmp_path / "chest.zarr")
    capsys.readouterr()
    names = [source for source, *_ in ledger_of(tmp_path / "chest.zarr")]
    with open_store(URL) as store:
        keys = store.samples["key"].to_pylist()
    assert main(["relink", *names, *keys, "--json"]) == 0
    found = [row for row in json.loads(capsys.readouterr().out)["found"] if row["store"] == URL]
    by_path = {row["path"]: (row["archive"], row["reason"]) for row in found}
    assert by_path == {
        "1.dcm": (str(first), "stored"),
        "copy.dcm": (str(second), "duplicate-pixels"),
        "new.dcm": (str(second), "stored"),
        "same-patient.dcm": (str(third), "stored"),
    }
    left_out = next(row["key"] for row in found if row["path"] == "copy.dcm")
    assert left_out not in keys
    assert main(["relink", left_out]) == 0


def test_a_dry_run_commits_nothing_and_leaves_the_working_copy(machine, tmp_path, monkeypatch):
    def cut(*_):
        raise PyradError("the line is cut")

    source = archive(tmp_path / "archive")
    with monkeypatch.context() as patch:
        patch.setattr(bucket.Bucket, "commit", cut)
        with pytest.raises(PyradError, match="line is cut"):
            run(IngestOptions(src=(source,), store=Path(URL), workers=1))
    sent, working = objects(client(machine), ""), tree(tmp_path / "data")
    assert "stores/chest.zarr/zarr.json" not in sent
    assert any(name.endswith("chest.zarr/zarr.json") for name in working)
    ingested(machine, source, URL, "--dry-run")
    assert objects(client(machine), "") == sent
    assert tree(tmp_path / "data") == working


def test_forgetting_and_mending_refuse_a_bucket_and_work_through_a_copy(machine, tmp_path, capsys):
    source, copy, s3 = archive(tmp_path / "archive"), tmp_path / "chest.zarr", client(machine)
    run(IngestOptions(src=(source,), store=Path(URL), workers=1))
    before = objects(s3, "")
    (tmp_path / "list").write_text("p0\n")
    forget = ["--patients", str(tmp_path / "list")]
    mend = ["--rewrite-from", str(source), "--workers", "1"]
    for command in (["forget", URL, *forget], ["verify", URL, *mend]):
        capsys.readouterr()
        assert main(command) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"pyrad {command[0]}: {URL} is on object storage")
        assert said.endswith("docs/storage.md says; nothing was changed")
    assert objects(s3, "") == before
    assert not copy.exists()
    for name, data in objects(s3, "stores/chest.zarr/").items():  # aws s3 sync, as the page says
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(data)
    shard = next(copy.glob("parts/*/images/*/c/*/0/0"))
    shard.write_bytes(shard.read_bytes()[::-1])
    assert main(["verify", str(copy), *mend]) == 0
    assert main(["forget", str(copy), *forget]) == 0
    for name in objects(s3, "stores/chest.zarr/"):
        s3.delete_object(Bucket=BUCKET, Key=f"stores/chest.zarr/{name}")
    upload(machine, copy, "stores/chest.zarr")
    assert main(["verify", URL]) == 0
    with open_store(URL) as store:
        assert len(store) == IMAGES - 1
    assert run(IngestOptions(src=(source,), store=Path(URL), workers=1)).images == 0  # it remembers
