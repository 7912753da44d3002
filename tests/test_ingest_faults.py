"""A fault at each call of an ingest that writes, renames or syncs: the store is the old one or the new one.

SIGKILL before the n-th call, a full disk or a failing one at the n-th; then the same command again, and the
store has the bytes of one that nothing befell. The calls are counted by a preloaded library over all
processes (tests/faults).
"""

import errno
import os
import shutil
import sys

import faulty
import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="faults are injected by LD_PRELOAD, which needs Linux, and cc",
)

EVERY = int(os.environ.get("PYRAD_SOAK_CALLS", "10000"))  # calls that a long run tries, of all there are
SHORT = {faulty.KILL: 3, errno.ENOSPC: 2, errno.EIO: 1}  # faults of each kind in the short run
DISK = {errno.ENOSPC: "No space left on device", errno.EIO: "Input/output error"}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return faulty.build(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module", params=[1, 2], ids=["first commit", "append"])
def scene(request, library, tmp_path_factory):
    return faulty.Scene(tmp_path_factory.mktemp("scene") / "work", library, parts=request.param)


def spread(calls: int, most: int) -> list[int]:
    """Up to ``most`` of the calls 1..``calls``, evenly."""
    if most >= calls:
        return [*range(1, calls + 1)]
    return [1 + (2 * k + 1) * calls // (2 * most) for k in range(most)]


def again(scene) -> None:
    """The same command once more; the store is as if nothing had happened."""
    ended = scene.ingest()
    assert ended.code == 0, ended.said
    assert faulty.tree(scene.store) == scene.whole
    assert not scene.store.with_name(scene.store.name + ".partial").exists()


def sweep_kills(scene, most: int) -> int:
    """Kill at up to ``most`` calls; returns how many were hit."""
    hit = 0
    scene.reset()
    for at in spread(scene.ingest().calls, most):
        scene.reset()
        ended = scene.ingest(at, faulty.KILL, trace=True)
        print(at, *(ended.trace or [("", "")])[-1][:2])  # noqa: T201 - the points that were hit
        assert ended.code in (0, -9), f"call {at}: {ended.said}"  # a run with fewer calls ends well
        hit += ended.code == -9
        scene.check_state()
        again(scene)
    return hit


def sweep_disk(scene, error: int, most: int) -> int:
    """Fail up to ``most`` calls; returns how many runs ended by it."""
    failed = 0
    scene.reset()
    for at in spread(scene.ingest().calls, most):
        scene.reset()
        ended = scene.ingest(at, str(error))
        assert ended.code in (0, 1), f"call {at}: {ended.code} {ended.said}"  # 0: a leftover that could stay
        assert "Traceback" not in ended.said
        assert "internal error" not in ended.said, f"call {at}: {ended.said}"
        if ended.code == 1:
            failed += 1
            assert DISK[error] in ended.said or "disk" in ended.said, f"call {at}: {ended.said}"
        scene.check_state()
        again(scene)
    return failed


def test_a_kill_leaves_the_old_store_or_the_new_one(scene):
    assert sweep_kills(scene, SHORT[faulty.KILL]) >= 2


def test_a_kill_between_the_part_and_its_root_is_resumed(scene):
    scene.reset()
    trace = scene.ingest(trace=True).trace
    root = next(at for at, (_, path, old) in enumerate(trace, 1) if old and path == "s.zarr/zarr.json")
    scene.reset()
    assert scene.ingest(root, faulty.KILL).code == -9
    assert scene.store.is_dir()
    scene.check_state()
    again(scene)


def test_a_full_disk_is_one_sentence_and_no_commit(scene):
    assert sweep_disk(scene, errno.ENOSPC, SHORT[errno.ENOSPC]) >= 1


def test_a_failing_disk_is_one_sentence_and_no_commit(scene):
    assert sweep_disk(scene, errno.EIO, SHORT[errno.EIO]) >= 1


@pytest.mark.soak
def test_a_kill_at_every_call(scene):
    hit = sweep_kills(scene, EVERY)
    assert hit >= min(EVERY, 200) - 5  # a run may have a few calls fewer than the one that was counted
    print(f"killed at {hit} calls")  # noqa: T201 - the count is the result


@pytest.mark.soak
@pytest.mark.parametrize("error", DISK)
def test_a_failing_disk_at_every_call(scene, error):
    failed = sweep_disk(scene, error, EVERY)
    assert failed >= min(EVERY, 200) // 2  # the failure of some calls is no reason to stop
    print(f"{DISK[error]} at {failed} calls")  # noqa: T201 - likewise


def test_every_file_is_synced_before_it_is_renamed_and_its_folder_after(scene):
    scene.reset()
    trace = scene.ingest(trace=True).trace
    synced: dict[str, int] = {}  # path -> when it was last synced
    written: dict[str, int] = {}
    renames = []
    for at, (call, path, old) in enumerate(trace):
        if call in ("write", "pwrite", "writev", "copy_file_range", "sendfile", "ftruncate"):
            written[path] = at
        elif call in ("fsync", "fdatasync"):
            synced[path] = at
        elif call == "rename":
            renames.append((at, old, path))
            synced[path], written[path] = synced.get(old, -1), written.get(old, -1)
    stored = [(at, old, new) for at, old, new in renames if new.startswith("s.zarr")]
    assert len(stored) > 6
    for at, old, new in stored:
        is_folder = old.endswith("/tree")  # its files were synced one by one, and so was it
        assert is_folder or written.get(old, at) < synced.get(old, -1) < at, f"{new} was renamed unsynced"
        folder = new.rpartition("/")[0]
        assert any(call == "fsync" and path == folder for call, path, _ in trace[at:]), (
            f"{folder} was not synced"
        )
    assert stored[-1][2] == "s.zarr/zarr.json"  # Note [manifest last]
    moved = [at for at, old, _ in stored if old.endswith("/tree")]
    assert len(moved) == 1
    assert all(at < moved[0] for at, _, new in stored if "/tree/" in new)
