"""A store in memory -> the batches that streaming gives, from whatever part of it is there."""

import shutil

import numpy as np
import pytest
from stores import build
from toy_loading import open_small, same, small, take

from pyrad.errors import IntegrityError, UsageError
from pyrad.loader import resident
from pyrad.loader.loader import Loader
from pyrad.loader.resident import Resident
from pyrad.store.reader import open_store


@pytest.fixture(scope="module", params=["tilepack", "zstd"])
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / f"{request.param}.zarr"
    open_small(path, request.param).close()
    return path


@pytest.mark.parametrize("budget", [None, 0, 3000, 9000])
def test_what_is_resident_changes_no_bit(path, budget):
    with open_store(path) as store:
        loader = small(store, residency="ram", resident_bytes=budget, threads=2)
        assert (loader.resident.share == 1) == (budget is None)
        assert (loader.resident.share == 0) == (budget == 0)
        same(take(loader, 20), take(small(store), 20))


def test_planes_are_resident_too(tmp_path):
    rng = np.random.default_rng(0)
    colour = [rng.integers(0, 256, (3, 20, 24), np.uint8) for _ in range(9)]
    grey = [rng.integers(0, 4096, (30, 21), np.uint16) for _ in range(9)]
    build(tmp_path / "s.zarr", [image for pair in zip(colour, grey, strict=True) for image in pair])
    with open_store(tmp_path / "s.zarr") as store:
        seen = [
            list(Loader(store, batch_size=6, size=8, channels=3, residency=residency))
            for residency in ("stream", "ram")
        ]
    same(*seen)


def test_batches_come_from_memory_alone(path, tmp_path):
    shutil.copytree(path, tmp_path / "s.zarr")
    with open_store(tmp_path / "s.zarr") as store:
        loader = small(store, residency="ram")
        expected = take(small(store), 5)
    with open_store(tmp_path / "s.zarr") as store:
        loader = small(store, residency="ram")
        for shard in (tmp_path / "s.zarr").rglob("c/**/0"):
            if shard.is_file():
                shard.write_bytes(b"")
        same(take(loader, 5), expected)


def test_a_budget_is_kept_by_the_same_samples_whoever_asks(path):
    with open_store(path) as store:
        samples = np.arange(len(store))
        whole = Resident(store, samples, budget_bytes=None, threads=1)
        half = len(whole.memory) // 2
        kept = [Resident(store, samples, budget_bytes=half, threads=threads) for threads in (1, 3)]
        assert len(kept[0].memory) <= half + 64
        assert 0.3 < kept[0].share < 0.7
        np.testing.assert_array_equal(kept[0].holds(samples), kept[1].holds(samples))


def test_a_shard_that_ends_early_is_named(path, tmp_path):
    shutil.copytree(path, tmp_path / "s.zarr")
    shard = next(file for file in (tmp_path / "s.zarr").rglob("c/0/0/0") if file.is_file())
    with open_store(tmp_path / "s.zarr") as store:
        shard.write_bytes(shard.read_bytes()[:100])
        with pytest.raises(IntegrityError, match="it was truncated or replaced"):
            small(store, residency="ram")


def test_what_cannot_be_asked_for(path):
    with open_store(path) as store:
        with pytest.raises(UsageError, match="residency 'disk' is none of stream, ram"):
            small(store, residency="disk")
        with pytest.raises(UsageError, match="resident_bytes is -1"):
            small(store, residency="ram", resident_bytes=-1)


def test_free_memory_is_what_the_control_group_leaves(monkeypatch, tmp_path):
    free = resident.free_bytes()
    assert 2**20 < free < 2**50
    monkeypatch.setattr(resident, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert resident.free_bytes() == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert resident.free_bytes() > 3000
