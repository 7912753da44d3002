"""Network namespaces -> a Ray cluster of machines that can be killed: they share the disk and nothing else.

Each machine is a network namespace with an address of its own on one bridge; Ray is started in it by
``ray start``, as an administrator would. Needs root and iproute2.
"""

import itertools
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

PORT = 6379
TOKEN = "a-token-of-the-tests-" + "0" * 32
_RAY = [sys.executable, "-m", "ray.scripts.scripts"]
_NAMES = itertools.count()
_COUNT_NODES = """
import ray, sys, time
ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
end = time.monotonic() + 90
while sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[2]):
    assert time.monotonic() < end, ray.nodes()
    time.sleep(0.2)
"""


def possible() -> bool:
    """Whether this machine lets us make network namespaces."""
    name = f"pyrad-{os.getpid()}-try"
    try:
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Machine:
    """One machine: a network namespace with an address."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.name = f"pyrad-{os.getpid()}-{next(_NAMES)}"
        self.address = f"10.77.0.{number}"
        self.ray = None  # the process of `ray start`
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words):
        """Run ``ip`` in the machine."""
        _ip("-n", self.name, *words)

    def plug(self, head):
        """Connect it to the bridge of ``head``."""
        cable = f"p{os.getpid()}-{self.address.rpartition('.')[2]}"
        _ip("link", "add", cable, "netns", head.name, "type", "veth", "peer", "eth0", "netns", self.name)
        head.ip("link", "set", cable, "master", "bridge", "up")
        self.ip("address", "add", f"{self.address}/24", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")

    def run(self, words, *, before="true", **settings) -> subprocess.Popen:
        """Start a command in the machine; the shell command ``before`` may change how its disk looks."""
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_health_check_timeout_ms": "2000",  # or a dead node is waited for
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            **settings.pop("env", {}),
        }
        environment = {name: value for name, value in environment.items() if value is not None}
        shell = f"{before} && exec {shlex.join(map(str, words))}"
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, "sh", "-c", shell], env=environment, **settings
        )

    def start_ray(self, *, cpus, before="true", env=None):
        """Start Ray: the head of the cluster in the first machine, a node of it in the others."""
        head = self is self.cluster.head
        where = ["--address", self.cluster.address]
        if head:
            where = ["--head", "--port", PORT, "--include-dashboard", "false"]
        words = [*_RAY, "start", *where, "--node-ip-address", self.address, "--num-cpus", cpus, "--block"]
        words += ["--temp-dir", self.cluster.folder / f"ray{self.address}"]
        words += ["--object-store-memory", 100_000_000, "--disable-usage-stats"]
        environment = {"PYRAD_SECRET": None, **(env or {})}
        with (self.cluster.folder / f"{self.address}.log").open("ab") as log:
            settings = {"stdout": log, "stderr": log, "start_new_session": True}
            self.ray = self.run(words, before=before, env=environment, **settings)

    def processes(self, kind=b"") -> list[int]:
        """Processes of the machine whose command line holds ``kind``."""
        ran = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        found = []
        for process in ran.stdout.split():
            with suppress(OSError):
                if kind in Path(f"/proc/{process}/cmdline").read_bytes():
                    found.append(int(process))
        return found

    def kill(self, kind=b""):
        """SIGKILL them."""
        for process in self.processes(kind):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def remove(self):
        """The power is cut and the machine is gone."""
        while self.processes():
            self.kill()
            time.sleep(0.05)
        if self.ray:
            self.ray.wait()
        _ip("netns", "del", self.name)


class Cluster:
    """A head, on which drivers run and no work is done, and nodes of one CPU each."""

    def __init__(self, folder):
        self.folder = folder
        self.machines = []
        self.head = self._add()
        self.head.ip("link", "add", "bridge", "type", "bridge")
        self.head.ip("address", "add", f"{self.head.address}/24", "dev", "bridge")
        self.head.ip("link", "set", "bridge", "up")
        self.address = f"{self.head.address}:{PORT}"
        self.head.start_ray(cpus=0)
        self.wait(1)

    def _add(self):
        self.machines.append(Machine(self, len(self.machines) + 1))
        return self.machines[-1]

    def add_node(self, **settings) -> Machine:
        """Start one more node."""
        machine = self._add()
        machine.plug(self.head)
        machine.start_ray(cpus=1, **settings)
        return machine

    def wait(self, nodes):
        """Until so many nodes are alive, the head included."""
        words = [sys.executable, "-c", _COUNT_NODES, self.address, nodes]
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if self.head.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait() == 0:
                return
            time.sleep(1)
        raise AssertionError("\n".join(log.read_text() for log in self.folder.glob("*.log")))

    def ingest(self, archive, store, *words, **settings) -> subprocess.Popen:
        """An ingest by this cluster, run on its head."""
        command = [sys.executable, "-m", "pyrad.ingest", archive, "--store", store, "--ray", self.address]
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **settings}
        return self.head.run([*command, "--private", f"{store}.private", *words], **settings)


@contextmanager
def cluster(nodes):
    """A cluster with so many nodes, up and connected."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:  # a short path
        made = Cluster.__new__(Cluster)
        try:
            made.__init__(Path(folder))
            for _ in range(nodes):
                made.add_node()
            made.wait(1 + nodes)
            yield made
        finally:
            for machine in reversed(made.machines):
                machine.remove()


def _ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True)
