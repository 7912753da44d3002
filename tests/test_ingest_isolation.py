"""Files that crash, spin or swell, in real worker processes: each costs one file, and nothing else."""

from collections import Counter

import pytest
from archives import ingest, pixels, png, samples_of, tree, two_classes
from evils import EVILS, HostileArchive, Work, do, echo, guard_and_spin, sleep_for_ever

from pyrad.errors import PyradError
from pyrad.ingest import prepare
from pyrad.ingest.workers import cluster
from pyrad.ingest.workers.limits import Limits
from pyrad.ingest.workers.pool import Workers
from pyrad.progress import Reporter
from pyrad.store import segments
from pyrad.store.verify import verify

pytestmark = pytest.mark.usefixtures("own_secret")

LIMITS = Limits(memory_bytes=1 << 30, cpu_s=1, stall_s=2)


# ---- whole ingests


@pytest.fixture
def pools(monkeypatch):
    """The pools that ingests made, with limits that a test can reach."""
    made = []

    def workers(count, share):
        made.append(Workers(count, share, LIMITS))
        return made[-1]

    monkeypatch.setattr(cluster, "Workers", workers)
    return made


@pytest.mark.parametrize(
    ("evil", "stage"), [("crash", "scan"), ("crash", "write"), ("spin", "write"), ("swell", "write")]
)
def test_an_evil_file_costs_itself_alone(tmp_path, monkeypatch, pools, evil, stage):
    folder = two_classes(tmp_path / "a", 6)
    png(folder / "sick/evil.png", pixels(77))
    monkeypatch.setattr(prepare, "open_archive", lambda path: HostileArchive(path, evil, stage))
    _, reason, deaths = EVILS[evil]
    for workers in (1, 2):
        summary = ingest(tmp_path / f"{workers}.zarr", folder, workers=workers, max_quarantine="10%")
        assert (summary.exit_code, summary.quarantined) == (3, {reason: 1})
    assert [pool.deaths for pool in pools] == [deaths, deaths]
    assert tree(tmp_path / "1.zarr") == tree(tmp_path / "2.zarr")
    stored = sorted(row["image"].tobytes() for row in samples_of(tmp_path / "1.zarr"))
    assert stored == sorted(pixels(n).tobytes() for n in (*range(6), *range(1000, 1006)))
    assert verify(tmp_path / "1.zarr")["samples"] == 12


# ---- the pool


def results(function, tasks, *, count=2, limits=LIMITS, units=0):
    """Every result by number, the deaths, and the units that were counted."""
    with Workers(count, None, limits) as workers, Reporter().stage("test", units, "files") as stage:
        return dict(workers.run(function, tasks, stage)), workers.deaths, stage.done


@pytest.mark.parametrize("evil", EVILS)
def test_one_task_with_an_evil_file(evil):
    files = {"a": "", "b": "", "evil": evil, "c": ""}
    got, deaths, done = results(do, [Work(files), Work({"d": ""})], units=5)
    _, reason, expected_deaths = EVILS[evil]
    assert got[0][0] == {"a": "done", "b": "done", "evil": reason, "c": "done"}
    assert got[1][0] == {"d": "done"}
    assert deaths == expected_deaths
    assert done == 5  # what is done again is not counted again


def test_several_evil_files_in_one_task():
    files = {"a": "crash", "b": "", "c": "killed", "d": "swell", "e": ""}
    got, deaths, done = results(do, [Work(files)])
    assert list(got[0][0].values()) == ["decoder-crashed", "done", "memory-limit", "memory-limit", "done"]
    assert (deaths, done) == (4, 5)


def test_only_the_worker_that_died_is_replaced():
    tasks = [Work({f"{n}": "crash" if n == 0 else ""}) for n in range(40)]
    got, deaths, _ = results(do, tasks)
    assert deaths == 2
    assert [fates for fates, _ in got.values()].count({"0": "decoder-crashed"}) == 1
    assert len(Counter(process for _, process in got.values())) == 2  # neither of them died


def test_the_limit_of_a_guard_ends_with_it():
    assert results(guard_and_spin, [0])[:2] == ({0: "done"}, 0)


def test_a_worker_that_hangs_is_an_error_and_no_quarantine():
    with pytest.raises(PyradError, match="task 0 of test made no progress for very long, 2 times"):
        results(sleep_for_ever, [0])


def test_large_messages_both_ways_do_not_block():
    tasks = [bytes([n]) * (8 << 20) for n in range(8)]
    assert results(echo, tasks)[0] == dict(enumerate(tasks))


def test_tasks_are_taken_as_they_are_needed():
    taken = []

    def tasks():
        for n in range(100):
            taken.append(n)
            yield n

    with Workers(2, None) as workers, Reporter().stage("test", 100, "tasks") as stage:
        for returned, _ in enumerate(workers.run(echo, tasks(), stage)):
            assert len(taken) <= returned + 1 + 2 * 2
        assert taken == list(range(100))


def test_a_run_that_is_given_up_leaves_nothing_to_the_next():
    with Workers(2, None) as workers, Reporter().stage("test", 100, "tasks") as stage:
        for _ in workers.run(echo, range(100), stage):
            break
        assert dict(workers.run(echo, ["x", "y"], stage)) == {0: "x", 1: "y"}


# ---- segments


def test_workers_share_a_shard_whose_bytes_do_not_depend_on_them(tmp_path, monkeypatch):
    folder = two_classes(tmp_path / "a", 24)  # 48 images of one size: one shard, one segment
    ingest(tmp_path / "whole.zarr", folder)
    steps = []
    really = Workers.run

    def spy(self, function, tasks, stage):
        def seen():
            for task in tasks:
                steps.append((stage.name, type(task).__name__))
                yield task

        return really(self, function, seen(), stage)

    monkeypatch.setattr(Workers, "run", spy)
    monkeypatch.setattr(segments, "SEGMENT_SLOTS", 5)  # where shards are cut is decided in this process
    ingest(tmp_path / "two.zarr", folder, workers=2)
    counts = Counter(kind for stage, kind in steps if stage == "write")
    assert counts == {"_WriteStep": 10, "_JoinStep": 1}
    monkeypatch.setattr(Workers, "sharing", 0)
    ingest(tmp_path / "cluster.zarr", folder)
    assert tree(tmp_path / "whole.zarr") == tree(tmp_path / "two.zarr") == tree(tmp_path / "cluster.zarr")
