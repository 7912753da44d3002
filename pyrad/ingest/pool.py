"""Tasks -> results, in worker processes that end with their parent, whichever way it ends.

Workers are started afresh (spawn): they inherit neither the store's lock nor, for their environment is
stripped of it, the secret. A worker that dies (a decoder's segmentation fault, the out-of-memory killer)
costs one retry of what was not finished; the second death is an error.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from pyrad.errors import PyradError
from pyrad.ingest.secret import ENVIRONMENT
from pyrad.progress import Stage

Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_IN_FLIGHT = 2  # a worker: one that runs and one that waits, so that none idles
_POLL_S = 0.2
_ATTEMPTS = 2
_COUNTERS = 1024  # processes of one pool whose numbers agree modulo this share one; only progress suffers

_shared: Any = None  # in a worker: what every task may use
_counters: Any = None  # in a worker: units done, read by the parent; no lock, which a dying worker might keep


def shared() -> Any:
    """In a worker: what `Workers` was given to share."""
    return _shared


def count_done(units: int = 1) -> None:
    """In a worker: report progress within a task."""
    if _counters is not None:
        _counters[os.getpid() % _COUNTERS] += units


class Workers:
    """A pool of processes, used as a context; ``share`` (picklable) reaches every worker once."""

    def __init__(self, count: int, share: Any) -> None:
        self.count = count
        self._share = share
        self._context = multiprocessing.get_context("spawn")
        self._done = self._context.RawArray("q", _COUNTERS)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(at_once=kind is not None)

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], stage: Stage
    ) -> Iterator[tuple[int, Result]]:
        """Yield (number of the task, its result) as they come; ``stage`` advances by what workers report.

        An exception of a task ends the run. PyradError where workers die twice.
        """
        left = dict(enumerate(tasks))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                for number, result in self._attempt(function, left, stage):
                    del left[number]
                    yield number, result
            except BrokenProcessPool:
                self._end(at_once=True)
                if attempt == _ATTEMPTS:
                    raise PyradError(
                        f"a worker process died {_ATTEMPTS} times in {stage.name} with {len(left)} tasks "
                        f"left: a decoder "
                        "crashed or memory ran out; try fewer --workers; the same command resumes"
                    ) from None
            except MemoryError:
                raise PyradError(
                    f"memory ran out in {stage.name}; try fewer --workers; the same command resumes"
                ) from None
            else:
                return

    def _attempt(
        self, function: Callable[[Task], Result], tasks: dict[int, Task], stage: Stage
    ) -> Iterator[tuple[int, Result]]:
        waiting = deque(tasks.items())
        running: dict[Future[Result], int] = {}
        counted = sum(self._done)
        while waiting or running:
            while waiting and len(running) < self.count * _TASKS_IN_FLIGHT:
                number, task = waiting.popleft()
                running[self._submit(function, task)] = number
            finished, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            done = sum(self._done)
            stage.advance(done - counted)
            counted = done
            for future in finished:
                yield running.pop(future), future.result()

    def _submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        with _quiet_birth():  # a submission may start processes
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self.count, self._context, initializer=_begin, initargs=(self._share, self._done)
                )
            return self._pool.submit(function, task)

    def _end(self, *, at_once: bool) -> None:
        if self._pool is None:
            return
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        if at_once:
            for process in processes:
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


@contextmanager
def _quiet_birth() -> Iterator[None]:
    """Start processes without the secret in their environment, and deaf to Ctrl-C: their parent hears it.

    Nor do they run the parent's main module, as spawned processes do: tasks live in modules of their own, and
    a script that ingests needs no ``if __name__ == "__main__"``.
    """
    secret = os.environ.pop(ENVIRONMENT, None)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    main: dict[str, Any] = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        if secret is not None:
            os.environ[ENVIRONMENT] = secret


def _begin(share: Any, counters: Any) -> None:
    global _shared, _counters  # one pool's worker has one share
    _shared, _counters = share, counters
    warnings.simplefilter("ignore")  # a library's warning may quote a patient's data
    logging.disable(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker outlives nobody: when its parent is killed, it ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
