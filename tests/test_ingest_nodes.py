"""A real Ray cluster in network namespaces: nodes, workers, drivers die, and the store is the same bytes."""

import os
import signal
import time
from pathlib import Path

import machines
import numpy as np
import pytest
from archives import ingest, pixels, png, tree

SECRET = "a secret of the cluster 4711"  # noqa: S105 - of the tests
SHARDS = 30
DEADLINE_S = 300

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not machines.possible(), reason="needs root and network namespaces (ip netns)"),
]


@pytest.fixture(autouse=True)
def _own_secret(monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", SECRET)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Images of many sizes: each is a bucket, so a shard, so a task."""
    folder = tmp_path_factory.mktemp("nodes") / "archive"
    for n in range(SHARDS):
        for label in ("a", "b"):
            png(folder / label / f"{n}.png", pixels(2 * n + (label == "b"), rows=800 + n, columns=900))
    return folder


@pytest.fixture(scope="module")
def undisturbed(archive):
    """The bytes of a store that nothing befell, made without Ray."""
    store = archive.with_name("undisturbed.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRAD_SECRET", SECRET)
        ingest(store, archive, workers=2)
    return tree(store)


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs and two nodes of one each."""
    with machines.cluster(nodes=2) as made:
        yield made


@pytest.fixture
def nodes(cluster):
    """The two nodes of the cluster, alive; those that a test has killed are replaced."""
    alive = [machine for machine in cluster.machines[1:] if machine.processes(b"raylet")]
    while len(alive) < 2:
        alive.append(cluster.add_node())
    cluster.wait(3)
    return alive


def finished_shards(store) -> list[Path]:
    """Shards that are done in the working folder, by their sidecars."""
    return sorted(store.with_name(store.name + ".partial").glob("*/shards/*.json"))


def until_shards(store, driver, count):
    """Wait until so many shards are finished."""
    end = time.monotonic() + DEADLINE_S
    while len(finished_shards(store)) < count:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def end(driver, code=0) -> str:
    """Wait for an ingest to end as it should; what it said."""
    out, errors = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == code, errors
    assert "Traceback" not in errors
    return out + errors


def check(store, undisturbed):
    assert tree(store) == undisturbed
    assert not store.with_name(store.name + ".partial").exists()


def test_many_nodes_store_the_same_bytes(tmp_path, archive, undisturbed, cluster, nodes):
    driver = cluster.ingest(archive, tmp_path / "s.zarr")
    working = set()
    while driver.poll() is None:
        working |= {node.address for node in nodes if node.processes(b"forkserver")}  # of isolated workers
        time.sleep(0.1)
    assert len(working) == 2
    end(driver)
    check(tmp_path / "s.zarr", undisturbed)


def test_the_secret_is_in_no_file_of_ray(cluster):
    """After the test before this one; the address stands in the logs, so they are the right ones."""
    logs = [path for path in cluster.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(cluster.address.encode() in path.read_bytes() for path in logs)
    assert [path for path in logs if SECRET.encode() in path.read_bytes()] == []
    for machine in cluster.machines:
        for process in machine.processes():
            assert SECRET.encode() not in Path(f"/proc/{process}/environ").read_bytes()


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_node_dies(tmp_path, archive, undisturbed, cluster, nodes, percent):
    driver = cluster.ingest(archive, tmp_path / "s.zarr")
    until_shards(tmp_path / "s.zarr", driver, SHARDS * percent // 100)
    nodes[1].kill()
    end(driver)
    check(tmp_path / "s.zarr", undisturbed)


def test_workers_are_killed_time_and_again(tmp_path, archive, undisturbed, cluster, nodes):
    driver = cluster.ingest(archive, tmp_path / "s.zarr")
    for count in range(2, SHARDS - 2, 4):
        until_shards(tmp_path / "s.zarr", driver, count)
        for node in nodes:
            node.kill(b"ray::_work")
    end(driver)
    check(tmp_path / "s.zarr", undisturbed)


def test_the_driver_dies_and_the_same_command_resumes(tmp_path, archive, undisturbed, cluster, nodes):  # noqa: ARG001
    store = tmp_path / "s.zarr"
    driver = cluster.ingest(archive, store)
    until_shards(store, driver, SHARDS // 2)
    driver.kill()
    driver.communicate(timeout=DEADLINE_S)
    time.sleep(3)  # until tasks that it has left behind are ended
    done = {path.name: path.stat().st_mtime_ns for path in finished_shards(store)}
    assert SHARDS // 2 <= len(done) < SHARDS
    driver = cluster.ingest(archive, store)
    redone = set()
    while driver.poll() is None:
        redone |= {
            path.name for path in finished_shards(store) if done.get(path.name, 0) not in (0, mtime(path))
        }
        time.sleep(0.01)
    end(driver)
    assert redone == set()
    check(store, undisturbed)


def mtime(path) -> int:
    """Of a file that may be gone by now."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def test_ctrl_c_ends_at_once_and_can_be_resumed(tmp_path, archive, undisturbed, cluster, nodes):
    store = tmp_path / "s.zarr"
    driver = cluster.ingest(archive, store)
    until_shards(store, driver, 3)
    began_s = time.monotonic()
    driver.send_signal(signal.SIGINT)
    assert "resumes" in end(driver, 130)
    assert time.monotonic() - began_s < 20
    time.sleep(3)
    assert [node.processes(b"forkserver") for node in nodes] == [[], []]
    end(cluster.ingest(archive, store))
    check(store, undisturbed)


def test_nodes_that_differ_are_refused_by_name(tmp_path, archive, cluster, nodes):
    for node in nodes:
        node.kill()
    package = tmp_path / "other" / "numpy-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    store = tmp_path / "stores" / "s.zarr"
    store.parent.mkdir()
    older = cluster.add_node(env={"PYTHONPATH": str(package.parent)})
    blind = cluster.add_node(before=f"mount -t tmpfs none {archive} && mount -t tmpfs none {store.parent}")
    careless = cluster.add_node(env={"PYRAD_SECRET": SECRET})
    cluster.wait(4)
    said = end(cluster.ingest(archive, store), 6)
    rows = [line.split() for line in said.splitlines()]
    assert [older.address, "numpy", np.__version__, "1.0"] in rows
    assert [blind.address, "a", "source", "seen", "not", "seen"] in rows
    assert [blind.address, "a", "store", "seen", "not", "seen"] in rows
    assert [careless.address, "PYRAD_SECRET", "not", "passed", "on", "in", "Ray's", "environment"] in rows
    assert len([row for row in rows if row[:1] and row[0].startswith("10.77.")]) == 4
    assert SECRET not in said
    assert list(store.parent.iterdir()) == []
    for node in (older, blind, careless):
        node.kill()


def test_without_the_token_nobody_is_let_in(tmp_path, archive, cluster, nodes):  # noqa: ARG001
    for token in ("another-token-" + "0" * 32, None):
        environment = {"RAY_AUTH_TOKEN": token, "HOME": str(tmp_path)}
        said = end(cluster.ingest(archive, tmp_path / "s.zarr", env=environment), 6)
        assert "RAY_AUTH_TOKEN" in said


def test_the_head_dies_and_another_cluster_resumes(tmp_path, archive, undisturbed):
    store = tmp_path / "s.zarr"
    with machines.cluster(nodes=1) as first:
        driver = first.ingest(archive, store)
        until_shards(store, driver, SHARDS // 3)
        for process in set(first.head.processes()) - {driver.pid}:
            os.kill(process, signal.SIGKILL)
        driver.communicate(timeout=DEADLINE_S)
        assert driver.returncode != 0
    assert not store.exists()
    with machines.cluster(nodes=1) as second:
        end(second.ingest(archive, store))
    check(store, undisturbed)
