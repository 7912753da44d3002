"""Commits: one writer at a time, whole or absent after any crash, and the same bytes in the end."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from parts import DIGEST, MASK, SECRET, add_part, mixed, picture, tree_bytes, write_part
from stores import write_shard

from pyrad.errors import NotAStoreError, PyradError, SecretError, StoreBusyError, UsageError
from pyrad.progress import Reporter
from pyrad.store import durable, layout, manifest
from pyrad.store.reader import open_store
from pyrad.store.verify import verify
from pyrad.store.writer import StoreWriter


@pytest.fixture
def small_shards(monkeypatch):
    """Two images a shard, so that tiny buckets have several."""
    monkeypatch.setattr(layout, "SHARD_IMAGES_LIMIT", 2)


@pytest.fixture
def no_sync(monkeypatch):
    """Nothing waits for the disk; what is flushed in which order is counted, not timed."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)


# --- commits ------------------------------------------------------------------------------------


def test_parts_are_appended_and_an_open_reader_keeps_its_commit(tmp_path):
    one, two = mixed(), [picture(3, 20, 13), picture(4, 30, 30)]
    path = add_part(tmp_path / "a.zarr", one)
    before = open_store(path)
    with StoreWriter.open(path, codec=None, **SECRET) as writer:
        assert writer.part_id == "000002"
        assert writer.codec == "tilepack"
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


# --- who may write ------------------------------------------------------------------------------


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
    with pytest.raises(UsageError, match="has codec tilepack, not zstd"):
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


# --- resuming -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_shards")
def test_finished_shards_are_recognised_by_hash(tmp_path):
    path = tmp_path / "a.zarr"
    images = [picture(n, 8, 8) for n in range(5)]
    with StoreWriter.open(path, codec="tilepack", **SECRET) as writer:
        writer.begin(DIGEST)
        entry = writer.images(count=5, rows=8, columns=8, planes=1, dtype="int16")
        results = [
            write_shard(spec, images[spec.first : spec.first + spec.slots], facts=[{"p1": 0.5}])
            for spec in writer.shards(entry)
        ]
    assert (tmp_path / "a.zarr.partial").is_dir()
    with StoreWriter.open(path, codec="tilepack", **SECRET) as writer:
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
    with StoreWriter.open(tmp_path / "a.zarr", codec="tilepack", **SECRET) as writer:
        writer.begin("ff" * 32)
        entry = writer.images(count=1, rows=8, columns=8, planes=1, dtype="int16")
        write_shard(writer.shards(entry)[0], [picture(0, 8, 8)])
    with StoreWriter.open(tmp_path / "a.zarr", codec="tilepack", **SECRET) as writer:
        writer.begin(DIGEST)
        assert writer.finished(writer.shards(entry)[0]) is None
        writer.discard()
    assert list(tmp_path.iterdir()) == []


class KilledError(BaseException):
    """Stands for SIGKILL: not an Exception, and whoever catches it can do nothing more to the disk."""


CALLS = ("open", "mkdir", "replace", "rename", "fsync", "unlink", "rmdir")


@contextmanager
def fail_from(nth, fault, *, forever):
    """Make the ``nth`` call that changes the disk raise; ``forever``: and every one after it."""
    made = [0]
    originals = {name: getattr(os, name) for name in CALLS}

    def patched(name):
        def call(*args, **kwargs):
            writes = name != "open" or (len(args) > 1 and args[1] & os.O_CREAT)
            if writes:
                made[0] += 1
                if made[0] == nth or (forever and made[0] > nth):
                    raise fault
            return None if name == "fsync" else originals[name](*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, patched(name))
    try:
        yield made
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def _append(path, images, masks):
    """What an ingest does, first or second time: nothing where its part is committed already."""
    with StoreWriter.open(path, codec="tilepack", **SECRET) as writer:
        if writer.part_id == "000002":
            write_part(writer, images, masks=masks, first=10)


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A store of one part, the images of a second one, and the store with both."""
    folder = tmp_path_factory.mktemp("crash")
    old = add_part(folder / "a.zarr", mixed())
    images = [picture(n, 20, 13) for n in range(3)]
    new = shutil.copytree(old, folder / "new" / "a.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SHARD_IMAGES_LIMIT", 2)
        with fail_from(0, KilledError(), forever=False) as calls:
            _append(new, images, {0: MASK})
    return old, images, tree_bytes(new), calls[0]


def _check_after(path, expected_old, expected_new):
    """The root is the old one or the new one, and what it names is whole."""
    root = (path / "zarr.json").read_bytes()
    assert root in (expected_old["zarr.json"], expected_new["zarr.json"])
    verify(path)
    return root == expected_new["zarr.json"]


@pytest.mark.usefixtures("small_shards", "no_sync")
def test_killed_at_any_moment_the_rerun_gives_the_same_bytes(tmp_path, committed):
    old, images, expected, calls = committed
    before = tree_bytes(old)
    assert calls > 60
    published = []
    for nth in range(1, calls + 1):
        path = shutil.copytree(old, tmp_path / str(nth) / "a.zarr")
        with pytest.raises(KilledError), fail_from(nth, KilledError(), forever=True):
            _append(path, images, {0: MASK})
        published.append(_check_after(path, before, expected))
        _append(path, images, {0: MASK})
        assert tree_bytes(path) == expected, f"killed at call {nth} of {calls}"
        assert not path.with_name("a.zarr.partial").exists()
        shutil.rmtree(path.parent)
    # The commit is one moment: never published before it, always after it.
    assert published == sorted(published)
    assert any(published)
    assert not all(published)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.usefixtures("small_shards", "no_sync")
def test_a_failing_disk_is_one_clear_error_and_the_rerun_succeeds(tmp_path, committed, number):
    old, images, expected, calls = committed
    before = tree_bytes(old)
    failed = 0
    for nth in range(1 + number % 3, calls + 1, 3):
        path = shutil.copytree(old, tmp_path / str(nth) / "a.zarr")
        error = None
        try:
            with fail_from(nth, OSError(number, os.strerror(number)), forever=False):
                _append(path, images, {0: MASK})
        except PyradError as caught:
            error = caught
        failed += error is not None
        assert error is None or (error.exit_code == 1 and os.strerror(number) in str(error))
        _check_after(path, before, expected)
        _append(path, images, {0: MASK})
        assert tree_bytes(path) == expected, f"failed at call {nth} of {calls}"
        shutil.rmtree(path.parent)
    assert failed > calls // 6


@pytest.mark.usefixtures("small_shards", "no_sync")
def test_a_full_disk_at_any_write_is_one_clear_error(tmp_path, committed, monkeypatch):
    old, images, expected, _ = committed
    create = durable.create
    failed = 0
    for nth in itertools.count():
        path = shutil.copytree(old, tmp_path / str(nth) / "a.zarr")
        numbers = itertools.count()

        def create_or_full(to, nth=nth, numbers=numbers):
            fd = create(to)
            if next(numbers) != nth:
                return fd
            os.close(fd)
            return os.open("/dev/full", os.O_WRONLY)

        monkeypatch.setattr(durable, "create", create_or_full)
        try:
            _append(path, images, {0: MASK})
        except PyradError as error:
            failed += "No space left on device; nothing was committed" in str(error)
        monkeypatch.setattr(durable, "create", create)
        _append(path, images, {0: MASK})
        assert tree_bytes(path) == expected
        if next(numbers) <= nth:  # that many files are not written
            break
    assert failed >= len(expected) - len(tree_bytes(old))


@pytest.mark.usefixtures("small_shards", "no_sync")
def test_a_first_commit_that_was_killed_leaves_no_store(tmp_path):
    images = [picture(n, 8, 8) for n in range(3)]
    expected = tree_bytes(add_part(tmp_path / "good.zarr", images))
    calls = 200
    killed = 0
    for nth in range(1, calls):
        path = tmp_path / str(nth) / "a.zarr"
        path.parent.mkdir()
        try:
            with fail_from(nth, KilledError(), forever=True):
                add_part(path, images)
        except KilledError:
            killed += 1
            if not (path / "zarr.json").exists():
                with pytest.raises(NotAStoreError):
                    open_store(path)
                add_part(path, images)
        assert tree_bytes(path) == expected, f"killed at call {nth}"
        if killed < nth:
            break
    assert 40 < killed < calls - 1


@pytest.mark.usefixtures("small_shards")
def test_a_process_that_dies_between_move_and_commit_is_resumed(tmp_path):
    path = add_part(tmp_path / "a.zarr", mixed())
    images = [picture(n, 20, 13) for n in range(3)]
    script = (
        "import os, sys\nsys.path.insert(0, sys.argv[2])\nfrom parts import add_part, picture\n"
        "from pyrad.store import durable, layout\nlayout.SHARD_IMAGES_LIMIT = 2\n"
        "def die(path, data, temporaries):\n"
        "    if path.parent.name == 'a.zarr': os.kill(os.getpid(), 9)\n"
        "    write(path, data, temporaries)\n"
        "write, durable.write_file = durable.write_file, die\n"
        "add_part(sys.argv[1], [picture(n, 20, 13) for n in range(3)], first=10)\n"
    )
    child = subprocess.run([sys.executable, "-c", script, path, os.path.dirname(__file__)], check=False)  # noqa: PTH120
    assert child.returncode == -9
    assert (path / "parts" / "000002").is_dir()  # moved in, not committed
    warnings = _Lines()
    assert verify(path, warnings)["samples"] == 10
    assert any("parts/000002" in line for line in warnings.lines)
    written = []
    with StoreWriter.open(path, codec=None, **SECRET) as writer:
        write_part(writer, images, first=10, written=written)
    assert written == []  # taken back and recognised, not written again
    assert verify(path)["samples"] == 13


def test_a_part_that_nobody_remembers_is_removed_by_the_next_writer(tmp_path):
    path = add_part(tmp_path / "a.zarr", mixed())
    before = tree_bytes(path)
    shutil.copytree(path / "parts" / "000001", path / "parts" / "000002")
    with StoreWriter.open(path, codec=None, **SECRET):
        pass
    assert tree_bytes(path) == before


class _Lines(Reporter):
    """A reporter that keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def say(self, text):
        self.lines.append(text)
