"""Forgetting that is killed, stopped by a disk or met by a reader: the old store or the new one."""

import errno
import itertools
import os
import shutil

import numpy as np
import pytest
from archives import Listener, ingest, tree
from forgetting import archive, copy_of, images_of, run

from pyrad.errors import CorruptChunkError, IntegrityError, PyradError
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.store.reader import open_store
from pyrad.store.writer import StoreWriter

pytestmark = pytest.mark.usefixtures("own_secret")


@pytest.fixture
def store(tmp_path, four_patients):
    return copy_of(four_patients, tmp_path)


def test_an_open_reader_finds_its_files_gone_and_never_others(store):
    with open_store(store) as late, open_store(store) as early:
        first = early.image(0)
        run(store, "P1\n")
        np.testing.assert_array_equal(early.image(0), first)  # what it has open stays readable
        with pytest.raises(IntegrityError, match="cannot be opened"):
            late.image(0)
    assert len(open_store(store)) == 9


def test_a_damaged_store_is_not_copied(store):
    for path in store.rglob("c/*/*/*"):
        whole = bytearray(path.read_bytes())
        whole[20] ^= 1
        path.write_bytes(whole)
    root = (store / "zarr.json").read_bytes()
    with pytest.raises(CorruptChunkError, match="nothing was changed"):
        run(store, "P1\n")
    assert (store / "zarr.json").read_bytes() == root


@pytest.mark.parametrize("call", [3, 9, 20])
def test_a_full_disk_is_one_sentence_and_changes_nothing(store, monkeypatch, call):
    before, calls, fsync = images_of(store), itertools.count(), os.fsync

    def full(fd):
        if next(calls) == call + 6:  # behind those of the audit log
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(PyradError, match="No space left on device; nothing was committed"):
            run(store, "P1\n")
    assert images_of(store) == before
    assert run(store, "P1\n")["images"] == 3


class Killed(BaseException):
    """Stands for SIGKILL: nothing is caught, nothing is tidied up by us."""


def stop_at(patch, stop):
    """Raise at the ``stop``-th call that changes a folder or waits for the disk."""
    calls = itertools.count(1)
    for name in ("rename", "replace", "link", "unlink", "fsync", "rmdir"):
        original = getattr(os, name)

        def counted(*args, original=original, **more):
            if next(calls) == stop:
                raise Killed
            return original(*args, **more)

        patch.setattr(os, name, counted)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.soak), 11])
def test_killed_anywhere_it_is_the_old_store_or_the_new_one_and_resumes(tmp_path, monkeypatch, step):
    """Stop before the n-th rename, link, unlink or flush, for every n (or every 11th)."""
    origin = tmp_path / "origin"
    ingest(origin / "s.zarr", archive(tmp_path / "a", ["P1", "P2"], images=2))
    ingest(origin / "s.zarr", archive(tmp_path / "b", ["P3", "P1"], images=3))

    def copy(name):
        """The same store in the same place, which the crosswalk knows."""
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        shutil.copytree(origin, tmp_path / "work")
        return tmp_path / "work" / name

    old = images_of(copy("s.zarr"))
    run(copy("s.zarr"), "P1\n")
    whole, new = tree(tmp_path / "work/s.zarr"), images_of(tmp_path / "work/s.zarr")
    assert (len(old), len(new)) == (8, 5)
    seen = {"old": 0, "new": 0}
    for stop in itertools.count(1, step):
        store = copy("s.zarr")
        with monkeypatch.context() as patch:
            stop_at(patch, stop)
            try:
                run(store, "P1\n")
            except Killed:
                pass
            else:
                break
        now = images_of(store)
        assert now in (old, new), f"stopped at {stop}"
        seen["old" if now == old else "new"] += 1
        again = run(store, "P1\n")
        assert again["remembered"] == 1
        assert tree(store) == whole, f"stopped at {stop}"
        assert not (tmp_path / "work/private/forget.pending").exists()
        private = PrivateFolder(tmp_path / "work/private", "")
        assert not list(private.find(set(old) - set(new)))
    assert seen["old"] >= 70 // step, seen
    assert seen["new"] >= 20 // step, seen


def test_what_an_interrupted_ingest_left_goes_too(store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "commit", lambda *_, **__: (_ for _ in ()).throw(PyradError("stopped")))
        with pytest.raises(PyradError, match="stopped"):
            ingest(store, archive(tmp_path / "b", ["P1", "P2"], images=5))
    assert list(store.with_name("s.zarr.partial").rglob("c/*/*/*"))
    run(store, "P1\n")
    assert not store.with_name("s.zarr.partial").exists()
    listener = Listener()
    ingest(store, tmp_path / "b", reporter=listener)
    assert listener.record["skipped"]["forgotten"] == 5
