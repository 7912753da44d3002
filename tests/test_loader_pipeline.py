"""Positions -> plans -> batches: what is begun when, who waits for whom, and how it ends."""

import threading
import time

import numpy as np
import pytest
from stores import build
from toy_loading import small

from pyrad.loader.pipeline import Pipeline
from pyrad.store.reader import open_store


def test_plans_are_made_a_batch_a_thread_ahead():
    log = []
    pipeline = Pipeline(
        lambda n: log.append(f"plan {n}") or n, lambda n: log.append(f"make {n}") or -n, workers=1, prefetch=2
    )
    assert list(pipeline.run(range(5))) == [(n, -n) for n in range(5)]
    for number in range(4):
        assert log.index(f"plan {number + 1}") < log.index(f"make {number}")
    assert sorted(log) == sorted(f"{what} {n}" for n in range(5) for what in ("plan", "make"))


def test_no_more_is_begun_than_was_asked_for():
    begun = []
    pipeline = Pipeline(lambda n: n, begun.append, workers=2, prefetch=3)
    run = pipeline.run(range(1000))
    for _ in range(4):
        next(run)
    time.sleep(0.05)
    assert len(begun) <= 4 + 3
    run.close()


@pytest.mark.parametrize("stage", ["plan", "make"])
@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_is_raised_when_its_batch_is_due(stage, workers):
    def fail(name):
        def step(number):
            if name == stage and number == 3:
                raise ValueError(f"{name} {number}")
            return number

        return step

    before = set(threading.enumerate())
    run = Pipeline(fail("plan"), fail("make"), workers=workers, prefetch=3).run(range(9))
    assert [next(run)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match=f"{stage} 3"):
        next(run)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_it_can_be_closed_at_any_moment(workers):
    for moment in range(30):
        pipeline = Pipeline(
            lambda n: time.sleep(0.001) or n, lambda n: time.sleep(0.001) or n, workers=workers, prefetch=4
        )
        run = pipeline.run(range(100))
        for _ in range(moment % 4):
            next(run)
        time.sleep(moment / 10_000)
        pipeline.close()
        run.close()


def test_a_consumer_that_is_slower_never_waits(tmp_path):
    """But for the first batch: while a batch is in use, the next ones are made."""
    images = [np.full((64, 64), n, np.uint16) for n in range(64)]
    with open_store(build(tmp_path / "s.zarr", images)) as store:
        loader = small(store, batch_size=16, size=32)
        batches = loader.batches(range(0, 16 * 30, 16))
        next(batches)
        first_s = loader.report()["wait_s"]
        for _ in batches:
            time.sleep(0.03)
        report = loader.report()
    assert report["consumer_s"] > 29 * 0.03
    assert report["wait_s"] - first_s < 0.05 * report["consumer_s"]


def test_the_report_says_what_was_waited_for(tmp_path):
    """No second is counted twice: reading is part of being busy, and busy and idle are part of it all."""
    images = [np.full((64, 64), n, np.uint16) for n in range(32)]
    with open_store(build(tmp_path / "s.zarr", images)) as store:
        loader = small(store, batch_size=16, size=32, threads=1, prefetch=1)
        began_s = time.perf_counter()
        for _ in loader:
            time.sleep(0.02)
        open_s = time.perf_counter() - began_s
    report = loader.report()
    assert 0 < report["read_s"] < open_s
    assert report["read_s"] + report["preprocess_s"] + report["idle_s"] <= open_s
    assert report["idle_s"] > 0.02
