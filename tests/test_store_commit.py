"""Commits: one writer at a time, resumed by what is finished, and the same bytes in the end."""

import os
import subprocess
import sys

import numpy as np
import pytest
from parts import DIGEST, MASK, SECRET, add_part, mixed, picture, tree_bytes, write_part
from stores import write_shard

from pyrad.errors import NotAStoreError, SecretError, StoreBusyError, UsageError
from pyrad.store import durable, layout, manifest
from pyrad.store.reader import open_store
from pyrad.store.verify import verify
from pyrad.store.writer import StoreWriter


@pytest.fixture
def small_shards(monkeypatch):
    """Two images a shard, so that tiny buckets have several."""
    monkeypatch.setattr(layout, "SHARD_IMAGES_LIMIT", 2)


def test_parts_are_appended_and_an_open_reader_keeps_its_commit(tmp_path):
    one, two = mixed(), [picture(3, 20, 13), picture(4, 30, 30)]
    path = add_part(tmp_path / "a.zarr", one)
    before = open_store(path)
    with StoreWriter.open(path, codec=None, **SECRET) as writer:
        assert writer.part_id == "000002"
        assert writer.codec == "tilepack-mixed"
        written = []
        new = write_part(writer, two, first=len(one), written=written)
        assert len(written) == 2
    assert [part.id for part in new.parts] == ["000001", "000002"]
    assert new.counts["samples"] == len(one) + len(two)
    assert new == manifest.read_manifest(path)
    assert verify(path)["groups"] == 6
    with before, open_store(path) as after:
        assert (len(before), len(after)) == (10, 12)
        assert before.fingerprint != after.fingerprint
        for store in (before, after):
            np.testing.assert_array_equal(store.image(9), one[9])
        np.testing.assert_array_equal(after.image(10), two[0])
        assert after.samples["bucket"][10].as_py() == "parts/000002/images/20x13_i16"


def test_a_reader_during_a_write_sees_the_old_commit(tmp_path, monkeypatch):
    path = add_part(tmp_path / "a.zarr", mixed())
    seen = []
    replace = type(path).replace

    def look(source, target):
        with open_store(path) as store:
            seen.append(len(store))
            store.image(9)
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", look)
        add_part(path, [picture(3, 20, 13)], first=10)
    assert set(seen) == {10}
    assert len(seen) > 5
    assert len(open_store(path)) == 11


@pytest.mark.parametrize("profile", layout.PROFILES)
@pytest.mark.usefixtures("small_shards")
def test_the_same_images_give_the_same_bytes(tmp_path, profile):
    one = add_part(tmp_path / "one" / "a.zarr", mixed(), masks={1: MASK}, codec=profile)
    two = add_part(tmp_path / "two" / "b.zarr", mixed(), masks={1: MASK}, codec=profile)
    assert tree_bytes(one) == tree_bytes(two)
    assert len(tree_bytes(one)) == 20


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "a.zarr"
    with StoreWriter.open(path, codec="tilepack", **SECRET) as writer:
        with pytest.raises(StoreBusyError, match=r"a\.zarr is being written by another process"):
            StoreWriter.open(path, codec="tilepack", **SECRET)
        script = (
            "import sys\nfrom pyrad.errors import StoreBusyError\n"
            "from pyrad.store.writer import StoreWriter\n"
            "try: StoreWriter.open(sys.argv[1], codec=None, key_check='ab' * 8, file_salt='cd' * 16)\n"
            "except StoreBusyError: sys.exit(7)"
        )
        child = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
        assert child.returncode == 7
        write_part(writer, mixed())
    assert verify(path)["samples"] == 10
    add_part(path, [picture(9, 8, 8)], first=10)


def test_a_folder_that_vanishes_under_the_lock_is_locked_again(tmp_path, monkeypatch):
    folder = tmp_path / "a.zarr.partial"
    flock = durable.fcntl.flock
    taken = []

    def slow_flock(fd, how):
        flock(fd, how)
        if not taken:  # the holder before us removed the folder between our open and our lock
            folder.rmdir()
        taken.append(fd)

    monkeypatch.setattr(durable.fcntl, "flock", slow_flock)
    fd = durable.lock_folder(folder, "a.zarr")
    assert len(taken) == 2
    assert os.fstat(fd).st_ino == folder.stat().st_ino
    os.close(fd)


def test_another_secret_or_codec_is_refused(tmp_path):
    path = add_part(tmp_path / "a.zarr", mixed())
    before = tree_bytes(path)
    with pytest.raises(SecretError, match=r"a\.zarr was made with another secret"):
        StoreWriter.open(path, codec=None, key_check="00" * 8, file_salt="cd" * 16)
    with pytest.raises(UsageError, match="has codec tilepack-mixed, not zstd"):
        StoreWriter.open(path, codec="zstd", **SECRET)
    assert tree_bytes(path) == before
    assert not (tmp_path / "a.zarr.partial").exists()


def test_what_is_no_store_is_named_so(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"x")
    (tmp_path / "parts_only" / "parts").mkdir(parents=True)
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr" / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{}}')
    for name in ("file", "photos", "zarr", "parts_only"):
        with pytest.raises(NotAStoreError, match=f"{name} is no pyrad store"):
            StoreWriter.open(tmp_path / name, codec=None, **SECRET)
        with pytest.raises(NotAStoreError, match=f"{name} is no pyrad store"):
            open_store(tmp_path / name)
    with pytest.raises(NotAStoreError, match="it does not exist"):
        open_store(tmp_path / "nothing")
    with pytest.raises(NotAStoreError):
        verify(tmp_path / "nothing")
    assert manifest.read_manifest(tmp_path / "nothing") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "parts_only", "photos", "zarr"]
    (tmp_path / "empty").mkdir()
    add_part(tmp_path / "empty", mixed())
    assert verify(tmp_path / "empty")["parts"] == 1


@pytest.mark.usefixtures("small_shards")
def test_finished_shards_are_recognised_by_hash(tmp_path):
    path = tmp_path / "a.zarr"
    images = [picture(n, 8, 8) for n in range(5)]
    with StoreWriter.open(path, codec=None, **SECRET) as writer:
        writer.begin(DIGEST)
        entry = writer.images(count=5, rows=8, columns=8, planes=1, dtype="int16")
        results = [
            write_shard(spec, images[spec.first : spec.first + spec.slots], facts=[{"p1": 0.5}])
            for spec in writer.shards(entry)
        ]
    assert (tmp_path / "a.zarr.partial").is_dir()
    with StoreWriter.open(path, codec=None, **SECRET) as writer:
        writer.begin(DIGEST)
        specs = writer.shards(entry)
        assert [writer.finished(spec) for spec in specs] == results
        damaged = specs[1].folder / "tree" / specs[1].file
        data = bytearray(damaged.read_bytes())
        data[70] ^= 1
        damaged.write_bytes(data)
        (specs[2].folder / "tree" / specs[2].file).unlink()
        assert [writer.finished(spec) is not None for spec in specs] == [True, False, False]
        written = []
        write_part(writer, images, written=written)
        assert written == [spec.file for spec in specs[1:]]
    assert tree_bytes(path) == tree_bytes(add_part(tmp_path / "b.zarr", images))


def test_another_plan_discards_the_work_of_the_first(tmp_path):
    with StoreWriter.open(tmp_path / "a.zarr", codec=None, **SECRET) as writer:
        writer.begin("ff" * 32)
        entry = writer.images(count=1, rows=8, columns=8, planes=1, dtype="int16")
        write_shard(writer.shards(entry)[0], [picture(0, 8, 8)])
    with StoreWriter.open(tmp_path / "a.zarr", codec=None, **SECRET) as writer:
        writer.begin(DIGEST)
        assert writer.finished(writer.shards(entry)[0]) is None
        writer.discard()
    assert list(tmp_path.iterdir()) == []
