"""Commits whose process is killed or whose disk fails, at every call: whole or absent, and resumed."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from parts import MASK, SECRET, add_part, mixed, picture, tree_bytes, write_part

from pyrad.errors import NotAStoreError, PyradError
from pyrad.progress import Reporter
from pyrad.store import durable, layout
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
    with StoreWriter.open(path, codec=None, **SECRET) as writer:
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
