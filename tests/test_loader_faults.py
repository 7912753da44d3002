"""Shards that fail, shrink or change while they are read -> errors that name the chunk."""

import os

import numpy as np
import pytest
from stores import build
from toy_loading import open_small, same, small, take

from pyrad.errors import CorruptChunkError, IntegrityError
from pyrad.loader.augment import Augment
from pyrad.loader.loader import Loader
from pyrad.store.reader import open_store

ONE_SHARD = "parts/000001/images/33x20_u8"


def shards(path):
    return sorted(file for file in path.rglob("c/**/0") if file.is_file())


@pytest.fixture(params=["tilepack", "zstd"])
def path(request, tmp_path):
    open_small(tmp_path / "s.zarr", request.param).close()
    return tmp_path / "s.zarr"


def spoil(path, change):
    """Rewrite every shard in place by ``change``, of its bytes, unknown to those who have it open."""
    for shard in shards(path):
        data = bytearray(shard.read_bytes())
        with shard.open("r+b") as file:
            file.write(change(data))
            file.truncate()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_cold_disk_changes_no_bit(path, threads):
    with open_store(path) as store:
        hot = take(small(store, augment=Augment()), 9)
    for shard in shards(path):
        with shard.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open_store(path) as store:
        same(take(small(store, augment=Augment(), threads=threads), 9), hot)


def test_a_shard_that_shrinks_between_opening_and_reading(path):
    with open_store(path) as store:
        loader = small(store, shuffle=False)
        list(loader)
        spoil(path, lambda data: data[:70])
        with pytest.raises(
            IntegrityError, match=r"parts/000001/images/\d+x\d+_[ui]\d+ chunk \d+ ends too early"
        ):
            list(loader)


def test_a_shard_that_changes_after_it_was_opened(path):
    with open_store(path) as store:
        loader = small(store, shuffle=False)
        list(loader)
        spoil(path, lambda data: bytes(byte ^ 8 for byte in data))
        with pytest.raises(CorruptChunkError, match=r"parts/000001/images/.* chunk 0 "):
            list(loader)


def test_a_shard_that_is_replaced_after_it_was_opened_is_still_read(path):
    with open_store(path) as store:
        loader = small(store, shuffle=False)
        expected = list(loader)
        for shard in shards(path):
            shard.with_name("new").write_bytes(b"of another store")
            shard.with_name("new").replace(shard)
        same(list(loader), expected)


def test_a_disk_that_fails(path):
    """A descriptor whose reads end in EIO: this process's memory, of whose first page there is none."""
    with open_store(path) as store:
        loader = small(store, shuffle=False)
        list(loader)
        failing = os.open("/proc/self/mem", os.O_RDONLY)
        with store.pinned(np.arange(3, dtype=np.int32)) as fds:
            for fd in fds:
                os.dup2(failing, int(fd), inheritable=False)
        os.close(failing)
        with pytest.raises(IntegrityError, match=r"chunk 0 cannot be read: Input/output error"):
            list(loader)


def test_after_an_error_the_rest_can_be_read(path):
    with open_store(path) as store:
        loader = small(store, shuffle=False, batch_size=1)
        expected = list(loader)
        shard = path / ONE_SHARD / "c/0/0/0"
        sound = shard.read_bytes()
        with shard.open("r+b") as file:
            file.write(bytes(100))
        batches = iter(loader)
        same([next(batches)], expected[:1])
        with pytest.raises(CorruptChunkError, match=f"{ONE_SHARD} chunk 0"):
            next(batches)
        state = loader.state_dict()
        with shard.open("r+b") as file:
            file.write(sound)
        resumed = small(store, shuffle=False, batch_size=1)
        resumed.load_state_dict(state)
        same(list(resumed), expected[1:])


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_of_three_planes_the_one_at_fault_is_named(tmp_path, plane):
    colour = [np.random.default_rng(n).integers(0, 256, (3, 20, 24), np.uint8) for n in range(4)]
    path = build(tmp_path / "s.zarr", colour)
    with open_store(path) as store:
        located = store.locate(np.array([2]))
        shard = path / store.buckets[0].path / "c/0/0/0/0"
        data = bytearray(shard.read_bytes())
        data[int(located.offset[plane]) + 30] ^= 1
        shard.write_bytes(data)
        name = store.chunk_name(2, plane)
        with pytest.raises(CorruptChunkError, match=f"{name} "):
            list(Loader(store, batch_size=4, size=8, channels=3, shuffle=False))


def test_what_is_resident_outlives_its_files(path):
    with open_store(path) as store:
        loader = small(store, residency="ram", resident_bytes=4000, shuffle=False, batch_size=1)
        held = loader.resident.holds(np.arange(37))
        assert held.any()
        assert not held.all()
        expected = list(loader)
        spoil(path, lambda data: data[:3])
        here, away = np.flatnonzero(held).tolist(), np.flatnonzero(~held).tolist()
        same(list(loader.batches(here)), [expected[number] for number in here])
        with pytest.raises(IntegrityError, match="ends too early"):
            list(loader.batches(away))
