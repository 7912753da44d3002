"""A Ray head on loopback, by `ray start`, without root: its workers are killed, and the store is the same."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from archives import ingest, pixels, png, tree
from test_ingest_cluster import command, with_environment
from test_ingest_resume import finished_shards, until

SECRET = "a secret of one node 5812"  # noqa: S105 - of the tests
SHARDS = 12
DEADLINE_S = 300

pytestmark = pytest.mark.soak


def free_ports(count):
    """Ports of loopback that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def head(token):
    """Start a head of two CPUs, as an administrator would; yields its address, and ends it all."""
    port, agent_port = free_ports(2)
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    environment.pop("PYRAD_SECRET", None)
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2"]
    words += ["--node-ip-address", "127.0.0.1", "--port", str(port), "--include-dashboard", "false"]
    words += ["--dashboard-agent-listen-port", str(agent_port), "--object-store-memory", "100000000"]
    words += ["--disable-usage-stats"]
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:  # a short path
        log = Path(folder, "log")
        with log.open("wb") as output:
            ray = subprocess.Popen(
                [*words, "--temp-dir", f"{folder}/ray"], env=environment, stdout=output, stderr=output
            )
        try:
            until(lambda: b"Ray runtime started" in log.read_bytes() or ray.poll() is not None, 120)
            assert ray.poll() is None, log.read_text()
            yield f"127.0.0.1:{port}"
        finally:
            ray.terminate()
            with suppress(subprocess.TimeoutExpired):
                ray.wait(30)
            while left := with_environment(token):
                for process in left:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                ray.poll()
                time.sleep(0.05)


def test_a_head_on_loopback_whose_workers_are_killed_stores_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", SECRET)
    archive, store, token = tmp_path / "archive", tmp_path / "s.zarr", secrets.token_hex(32)
    for n in range(SHARDS):  # images of many sizes: each is a bucket, so a shard, so a task
        for label in ("a", "b"):
            png(archive / label / f"{n}.png", pixels(2 * n + (label == "b"), rows=800 + n, columns=900))
    ingest(tmp_path / "undisturbed.zarr", archive, workers=2)
    with head(token) as address:
        words = [sys.executable, "-m", "pyrad.ingest", archive, "--store", store, "--ray", address]
        words += ["--private", tmp_path / "private"]
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as driver:
            killed = 0
            for done in (1, SHARDS // 2):
                until(
                    lambda done=done: finished_shards(store) >= done or driver.poll() is not None, DEADLINE_S
                )
                assert driver.poll() is None, "nothing was left to be killed"
                for process in with_environment(token):
                    if command(process).startswith(b"ray::_work"):
                        os.kill(process, signal.SIGKILL)
                        killed += 1
            _, said = driver.communicate(timeout=DEADLINE_S)
        assert driver.returncode == 0, said
        assert killed >= 2
    assert tree(store) == tree(tmp_path / "undisturbed.zarr")
    assert not store.with_name("s.zarr.partial").exists()
    assert not with_environment(token)
