"""Tasks -> results, by Ray tasks on this machine or on many; the one module that imports ray.

Every Ray worker process works through a local `Workers` of one process, so that a file that crashes, hangs or
inflates costs one file here as it does there. What travels is small: file names and subkeys out, headers and
facts back. Pixels and the secret never do.
"""

from __future__ import annotations

import functools
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

from pyrad.errors import MissingDependencyError, PyradError, RefusedError, UsageError
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.privacy.secret import ENVIRONMENT
from pyrad.ingest.workers import nodes
from pyrad.ingest.workers.nodes import Difference, Expected
from pyrad.ingest.workers.pool import Workers
from pyrad.progress import Reporter, Stage

Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_IN_FLIGHT = 2  # a CPU: one that runs and one that waits, so that none idles
_ATTEMPTS_AFTER_DEATH = 20  # of a task whose Ray worker or node died; a file's own crash never gets here
_POLL_S = 0.2
_CONNECT_S = 10.0  # until an address that does not answer is given up; Ray itself tries for minutes
_NODE_S = 120.0  # until a node that does not answer is given up
_OBJECT_STORE_BYTES = 256 << 20  # of a private cluster: results of tasks in flight, and no pixels
_LOOPBACK = "127.0.0.1"


@contextmanager
def open_workers(
    options: IngestOptions, share: Any, *, sources: Sequence[Path], working: Path
) -> Iterator[Workers | ClusterWorkers]:
    """The workers that ``--ray`` asks for, processes of this machine where it is off.

    ``share`` reaches every worker once. A cluster that is joined must see ``sources`` and the store's
    ``working`` folder on every node: RefusedError with a table where one does not, or has other versions.
    UsageError where there is no such cluster; MissingDependencyError without Ray.
    """
    if options.ray == "off":
        with Workers(options.workers or cores(), share) as workers:
            yield workers
    elif options.ray == "local":
        with _private_cluster(options.workers or cores()) as ray, ClusterWorkers(ray, share) as cluster:
            yield cluster
    else:
        with _joined(options.ray) as ray:
            expected = nodes.expect(sources, working)
            _check_nodes(ray, expected, working)
            with ClusterWorkers(ray, share, expected, most=options.workers) as cluster:
                yield cluster


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class _Context:
    """What every Ray worker process gets once."""

    number: str  # by which a process knows whose context its local workers serve
    share: Any
    expected: Expected | None


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """Why a task failed, in words that are fit for a log: an exception's own text may quote a file."""

    error: type[PyradError]
    message: str


class ClusterWorkers:
    """Ray workers, used as a context like `Workers`.

    Tasks whose worker or node dies are done again elsewhere, which has the same effect as once. ``most``
    bounds the tasks in flight; None means two for each CPU of the cluster, as it grows and shrinks.
    """

    sharing = 0  # a shard: no disk that they share is fast enough to join parts on

    def __init__(
        self, ray: ModuleType, share: Any, expected: Expected | None = None, *, most: int | None = None
    ) -> None:
        self._ray = ray
        self._most = most
        context = _Context(number=secrets.token_hex(8), share=share, expected=expected)
        self._context = ray.put(context)
        self._work = ray.remote(_work).options(num_cpus=1, max_retries=_ATTEMPTS_AFTER_DEATH)
        self._running: dict[Any, int] = {}  # reference of a result -> number of its task
        self._limit = 0
        self._limit_s = -1.0  # when it was last asked for

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def dismiss(self) -> None:
        """Nothing: Ray's workers do not share this process's memory, or are few."""

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], stage: Stage
    ) -> Iterator[tuple[int, Result]]:
        """Yield (number of the task, its result) as they come; ``stage`` advances by whole tasks.

        ``tasks`` is read no further than there is work in flight, ``function`` must be importable on every
        node. An error of a task ends the run, and so does a task whose workers die time and again.
        """
        waiting = enumerate(tasks)
        try:
            while True:
                for number, task in islice(waiting, max(self._in_flight() - len(self._running), 0)):
                    self._running[self._work.remote(self._context, function, task)] = number
                if not self._running:
                    return
                ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_POLL_S)
                stage.advance(0)
                for reference in ready:
                    number = self._running.pop(reference)
                    units, result = self._outcome(reference, stage)
                    stage.advance(units)
                    yield number, result
        finally:
            self._stop()

    def _in_flight(self) -> int:
        """Tasks that may be in flight now."""
        now_s = time.monotonic()
        if self._limit_s < 0 or now_s - self._limit_s > 1:
            limit = max(1, int(self._ray.cluster_resources().get("CPU", 0))) * _TASKS_IN_FLIGHT
            self._limit = min(limit, self._most or limit)
            self._limit_s = now_s
        return self._limit

    def _outcome(self, reference: Any, stage: Stage) -> tuple[int, Any]:
        """Units done and the result of a task that ended."""
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = f"its worker or node died {_ATTEMPTS_AFTER_DEATH} times, or its result was lost as often"
            if isinstance(error, self._ray.exceptions.RayTaskError):  # `_work` itself raises nothing
                cause = "a node cannot read what it is told: the modules of this process are missing there"
            raise PyradError(
                f"the cluster gave up a task of {stage.name} ({type(error).__name__}): {cause}; mend that, "
                "and run the same command again: it resumes"
            ) from None
        if isinstance(outcome, _Failure):
            raise outcome.error(outcome.message)
        return outcome  # type: ignore[no-any-return]  # ray.get knows no types

    def _stop(self) -> None:
        """Forget what is in flight: it ends with our connection, and the next run would redo it.

        Nothing is cancelled: where a task ends meanwhile, Ray aborts the driver (ray-project/ray#54798).
        """
        self._running.clear()


_local: dict[str, Workers] = {}  # in a Ray worker: its isolated process, by the context that it serves


def _work(context: _Context, function: Callable[[Task], Result], task: Task) -> tuple[int, Result] | _Failure:
    """In a Ray worker: do a task in an isolated process; returns the units done and the result."""
    try:
        workers = _local_workers(context)
        with Reporter().stage("a task", 0, "") as stage:
            ((_, result),) = workers.run(function, [task], stage)
    except PyradError as error:
        return _Failure(error=type(error), message=str(error))
    except Exception as error:  # noqa: BLE001 - Ray would log its text, which may quote a file
        last = error.__traceback__
        while last and last.tb_next:
            last = last.tb_next
        place = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else "?"
        text = f"internal error {type(error).__name__} at {place} on a node: a bug"
        return _Failure(error=PyradError, message=text)
    return stage.done, result


def _local_workers(context: _Context) -> Workers:
    """The isolated process of this Ray worker; a worker of a node that joined late is checked here."""
    if context.number not in _local:
        if context.expected is not None:
            _refuse({_node_name(): nodes.differences(context.expected)})
        for former in _local.values():
            former.__exit__(None, None, None)
        _local.clear()
        _local[context.number] = Workers(1, context.share)
    return _local[context.number]


def _check_nodes(ray: ModuleType, expected: Expected, working: Path) -> None:
    """Look at every node that can work. RefusedError with a table of what differs from this process."""
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not alive:
        raise UsageError("the Ray cluster has no node with a CPU; start nodes: ray start --address=...")
    with nodes.probe(working) as probe:
        places = (probe, *expected.places[1:])  # in the stead of the working folder
        look = ray.remote(nodes.differences)
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        found = {
            node["NodeManagerAddress"]: look.options(
                num_cpus=0,
                max_retries=_ATTEMPTS_AFTER_DEATH,
                scheduling_strategy=affinity(node_id=node["NodeID"], soft=False),
            ).remote(Expected(versions=expected.versions, places=places))
            for node in alive
        }
        _refuse({name: _answer(ray, reference) for name, reference in found.items()})


def _answer(ray: ModuleType, reference: Any) -> list[Difference]:
    try:
        return list(ray.get(reference, timeout=_NODE_S))
    except ray.exceptions.RayError as error:
        return [Difference(what="pyrad", here="works", there=f"cannot be asked ({type(error).__name__})")]


def _refuse(by_node: Mapping[str, Sequence[Difference]]) -> None:
    """RefusedError where any node differs."""
    bad = {name: its for name, its in by_node.items() if its}
    if bad:
        raise RefusedError(
            f"{len(bad)} of {len(by_node)} nodes differ from this process, and would store other bytes or "
            f"none; give all the same packages, the same paths and no {ENVIRONMENT} (docs/cluster.md):\n"
            + nodes.as_table(bad)
        )


def _node_name() -> str:
    """How Ray names the node that runs this."""
    return str(_import_ray().util.get_node_ip_address())


@contextmanager
def _private_cluster(count: int) -> Iterator[ModuleType]:
    """A fresh cluster of ``count`` workers on loopback, with a token of its own; nothing remains of it."""
    with tempfile.TemporaryDirectory(prefix="pyrad-ray-", ignore_cleanup_errors=True) as folder:
        settings = {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or Ray replaces the loopback address by a public one
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": _token(),  # or Ray leaves one in the user's home
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with _environment(settings), _own_handlers():
            ray = _import_ray()
            _connect(
                ray,
                address="local",
                num_cpus=count,
                num_gpus=0,
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                _node_ip_address=_LOOPBACK,
                _temp_dir=str(Path(folder, "ray")),  # Ray lets everyone write there: it lies in a private one
            )
        try:
            if ray.util.get_node_ip_address() != _LOOPBACK:
                raise RefusedError(
                    "Ray was imported before pyrad could bind it to loopback, and listens on every network: "
                    "run the ingest in a process of its own"
                )
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _joined(address: str) -> Iterator[ModuleType]:
    """The running cluster at ``address``. UsageError where there is none."""
    with _environment({}), _own_handlers():
        ray = _import_ray()
        _check_answers(_find() if address == "auto" else address)
        _connect(ray, address=address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: ModuleType, **settings: Any) -> None:
    if ray.is_initialized():
        raise UsageError("this process uses a Ray cluster already: call ray.shutdown(), or ingest in another")
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **settings)
    except (ray.exceptions.AuthenticationError, ConnectionError):  # it answers, as we know
        raise RefusedError(
            f"what answers at {settings['address']} does not let us in: it is no Ray head, or wants a token: "
            "set RAY_AUTH_MODE=token and the RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH that its nodes have"
        ) from None
    except Exception as error:  # noqa: BLE001 - Ray raises whatever its parts raise
        raise PyradError(f"Ray cannot be used: {type(error).__name__}: {str(error).strip() or '?'}") from None


def _check_answers(address: str) -> None:
    """UsageError where nothing listens at an address, for Ray would try for five minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError):
        raise UsageError(
            f"no Ray cluster answers at {address}: give HOST:PORT of its head (ray start --head prints it), "
            "or --ray local"
        ) from None


def _find() -> str:
    """The address that ``auto`` means: RAY_ADDRESS, else the cluster that runs on this machine."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(canonicalize_bootstrap_address("auto"))
    except (ConnectionError, ValueError):
        raise UsageError(
            "--ray auto finds no Ray cluster: set RAY_ADDRESS=HOST:PORT, start one by ray start --head, or "
            "use --ray local"
        ) from None


def _import_ray() -> ModuleType:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise MissingDependencyError(
            "--ray needs Ray, which is not installed; install it by: pip install 'pyrad[cluster]'"
        ) from None
    return ray


@functools.cache
def _token() -> str:
    """The token of this process's private clusters, one for all: Ray reads it once a process."""
    return secrets.token_hex(32)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Start Ray's processes with ``settings`` and without the secret in their environment."""
    former = {name: os.environ.pop(name, None) for name in (*settings, ENVIRONMENT)}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in former.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep our own handler of SIGTERM and our hook for exceptions, which Ray replaces by its own."""
    hook = sys.excepthook
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    finally:
        sys.excepthook = hook
        if main:
            signal.signal(signal.SIGTERM, handler)
