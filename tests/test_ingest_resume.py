"""Ingests that are killed, stopped or lose a worker: the same command again gives the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archives import ingest, pixels, png, tree
from evils import Twice

from pyrad.errors import PyradError, StoreBusyError
from pyrad.ingest.workers.pool import Workers, count_done, shared
from pyrad.progress import Reporter
from pyrad.store import segments
from pyrad.store.writer import StoreWriter

pytestmark = pytest.mark.usefixtures("own_secret")

SIZES = 12  # each is a bucket, so a shard, so a place to be killed at

# An ingest that gets a real SIGKILL when so many of its shards are done: none when it has begun its plan.
_KILLED = """
import os, signal, sys
from pathlib import Path
from pyrad.ingest import shards
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.run import run
from pyrad.store.writer import StoreWriter
source, store, private = map(Path, sys.argv[1:4])
left = int(sys.argv[4])
def then_die(what):
    def does_and_dies(*its):
        global left
        what(*its)
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return does_and_dies
if left:
    shards.note_facts = then_die(shards.note_facts)
else:
    StoreWriter.begin = then_die(StoreWriter.begin)
run(IngestOptions(src=(source,), store=store, private=private, workers=2))
"""


def many_sizes(folder, sizes=SIZES):
    """Images of many sizes in two classes."""
    for n in range(sizes):
        for label in ("a", "b"):
            png(folder / label / f"{n}.png", pixels(2 * n + (label == "b"), rows=16 + n, columns=16))
    return folder


def finished_shards(store) -> int:
    """Shards that are done in the working folder."""
    return len(list(store.with_name(store.name + ".partial").glob("*/shards/*.json")))


def until(condition, seconds=60):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def group_members(group) -> list[int]:
    """Processes that are alive in a process group."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, members_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(members_group) == group and state != "Z":
            members.append(int(stat.parent.name))
    return members


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The bytes of a store that nothing befell."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRAD_SECRET", "of the tests")
        ingest(folder / "s.zarr", many_sizes(folder / "archive"))
    return tree(folder / "s.zarr")


@pytest.mark.parametrize("shards", [0, 3, SIZES - 2, SIZES])
def test_killed_and_run_again_is_as_never_killed(tmp_path, undisturbed, shards):
    archive, killed = many_sizes(tmp_path / "archive"), tmp_path / "killed.zarr"
    words = [sys.executable, "-c", _KILLED, archive, killed, tmp_path / "private", str(shards)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said
    assert not (killed / "zarr.json").exists()  # it came before the commit
    until(lambda: not group_members(process.pid))  # the workers follow their parent
    assert finished_shards(killed) >= shards
    assert ingest(killed, archive, workers=2).images == 2 * SIZES
    assert tree(killed) == undisturbed
    assert not killed.with_name("killed.zarr.partial").exists()


def test_what_is_finished_is_not_done_again(tmp_path, monkeypatch):
    many_sizes(tmp_path / "archive")
    store, times = tmp_path / "s.zarr", []

    class Interrupted(Exception):  # noqa: N818 - stands for a signal
        pass

    def interrupt(*_, **__):
        times.extend(
            f.stat().st_mtime_ns for f in sorted(store.with_name("s.zarr.partial").glob("*/tree/**/c/*/0/0"))
        )
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "commit", interrupt)
        with pytest.raises(Interrupted):
            ingest(store, tmp_path / "archive")
    ingest(store, tmp_path / "archive")
    assert len(times) == SIZES
    assert [f.stat().st_mtime_ns for f in sorted(store.glob("parts/*/images/*/c/*/0/0"))] == times


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_command_has_its_exit_code_and_resumes(tmp_path, number, code):
    many_sizes(tmp_path / "archive", 30)  # so that there is time to stop it
    store = tmp_path / "s.zarr"
    words = [sys.executable, "-m", "pyrad.ingest", tmp_path / "archive", "--store", store, "--workers", "2"]
    words += ["--private", tmp_path / "private"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        until(lambda: finished_shards(store) >= 1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "the same command resumes" in errors
    assert "Traceback" not in errors
    assert not store.exists()
    until(lambda: not group_members(process.pid))
    assert subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0
    ingest(tmp_path / "undisturbed.zarr", tmp_path / "archive")
    assert tree(store) == tree(tmp_path / "undisturbed.zarr")


def test_two_ingests_at_once(tmp_path):
    png(tmp_path / "a/x/1.png", pixels(1))
    ingest(tmp_path / "s.zarr", tmp_path / "a")
    before = tree(tmp_path / "s.zarr")
    with (
        StoreWriter.open(tmp_path / "t.zarr", codec=None, key_check="0" * 16, file_salt="0" * 32),
        pytest.raises(StoreBusyError),
    ):
        ingest(tmp_path / "t.zarr", tmp_path / "a")
    assert tree(tmp_path / "s.zarr") == before
    assert ingest(tmp_path / "t.zarr", tmp_path / "a").images == 1


# ---- workers: what follows runs in spawned processes, which import this module


def die_once(task):
    """End the process at its first call ever."""
    marker, number = task
    count_done()
    if number == 5 and not marker.exists():
        marker.write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def always_die(_task):
    """End the process."""
    os._exit(9)


def what_is_there(_task):
    """What a worker sees."""
    return (
        os.environ.get("PYRAD_SECRET"),
        shared(),
        signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    )


def run_out_of_memory(_task):
    """Raise what a decoder raises."""
    raise MemoryError


def fail(_task):
    """Raise in a worker."""
    raise PyradError("as it should")


def test_a_worker_that_dies_costs_one_retry(tmp_path):
    tasks = [(tmp_path / "marker", number) for number in range(12)]
    with Workers(2, None) as workers, Reporter().stage("test", 12, "tasks") as stage:
        assert dict(workers.run(die_once, tasks, stage)) == {n: n * n for n in range(12)}
    assert (tmp_path / "marker").exists()


def test_workers_that_keep_dying_end_the_run():
    with (
        pytest.raises(PyradError, match="died 2 times in task 0 of test"),
        Workers(1, None) as workers,
        Reporter().stage("test", 3, "tasks") as stage,
    ):
        list(workers.run(always_die, [0, 1, 2], stage))


@pytest.mark.parametrize(
    ("task", "says"), [(fail, "as it should"), (run_out_of_memory, "memory ran out in test")]
)
def test_an_exception_of_a_task_comes_through(task, says):
    with (
        pytest.raises(PyradError, match=says),
        Workers(1, None) as workers,
        Reporter().stage("test", 1, "tasks") as stage,
    ):
        list(workers.run(task, [0], stage))


def test_workers_do_not_see_the_secret_and_do_not_hear_ctrl_c():
    with Workers(1, "share") as workers, Reporter().stage("test", 1, "tasks") as stage:
        ((_, seen),) = workers.run(what_is_there, [0], stage)
    assert seen == (None, "share", True)
    assert "PYRAD_SECRET" in os.environ


def test_progress_is_counted_within_tasks(tmp_path):
    with Workers(1, None) as workers, Reporter().stage("test", 12, "tasks") as stage:
        list(workers.run(die_once, [(tmp_path / "marker", number) for number in (1, 2, 3)], stage))
    assert stage.done == 3


@pytest.mark.parametrize("sharing", [2, 0])
def test_a_task_that_runs_twice_is_done_once(tmp_path, monkeypatch, undisturbed, sharing):
    many_sizes(tmp_path / "archive")
    really = Workers.run
    monkeypatch.setattr(Workers, "run", lambda self, do, *rest: really(self, Twice(do), *rest))
    monkeypatch.setattr(Workers, "sharing", sharing)
    monkeypatch.setattr(segments, "SEGMENT_SLOTS", 1)  # every shard has two segments and is joined
    ingest(tmp_path / "s.zarr", tmp_path / "archive", workers=2)
    assert tree(tmp_path / "s.zarr") == undisturbed
