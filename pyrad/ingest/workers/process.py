"""Jobs -> one worker process that its parent may lose -> answers: its birth, the pipe to it, its end.

Workers are forked from a process that has nothing but their modules (forkserver): they inherit neither the
store's lock nor, for its environment is stripped of it, the secret, and one that dies is replaced at once.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from queue import SimpleQueue
from typing import Any

from pyrad.errors import PyradError
from pyrad.ingest.privacy.secret import ENVIRONMENT
from pyrad.ingest.workers.limits import cpu_seconds

ATTEMPTS = 2
WORK_BYTES = 16
_MODULES = ["pyrad.ingest.write"]  # and all that it imports: what tasks are made of


def fork_server() -> ForkServerContext:
    """Where workers come from; it lives as long as this process and is shared by all pools of it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    return context


class Board(ctypes.Structure):
    """What a worker shows its parent, which can read it after the worker's death too; no lock to be kept."""

    _fields_ = (
        ("units", ctypes.c_int64),  # done since the worker began
        ("guarded", ctypes.c_int64),  # whether `work` is in hand
        ("work", ctypes.c_ubyte * WORK_BYTES),
    )


@dataclass(eq=False)
class Job:
    """A task, and what it has cost."""

    number: int
    task: Any
    deaths: int = 0  # outside any guard
    strikes: dict[bytes, list[str]] = field(default_factory=dict)

    def blame(self, work: bytes, reason: str) -> None:
        """Note that a worker died with ``work`` in hand."""
        self.strikes.setdefault(work, []).append(reason)

    @property
    def refused(self) -> dict[bytes, str]:
        """What must not be tried again, and why."""
        return {work: reasons[-1] for work, reasons in self.strikes.items() if len(reasons) >= ATTEMPTS}


class WorkerProcess:
    """One process, the pipe to it, and the jobs it was given, the one in hand first."""

    def __init__(
        self, context: ForkServerContext, board: Board, main: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        self.board = board
        ctypes.memset(ctypes.byref(self.board), 0, ctypes.sizeof(Board))
        self.jobs: deque[Job] = deque()
        self.counted = 0  # units that the stage knows of
        self._finished = 0  # units of tasks that are finished
        self._stall_s = 0.0
        self._pace: tuple[float | None, int] = None, 0
        self.pipe, theirs = context.Pipe()
        with theirs, _quiet_birth():
            self.process = context.Process(target=main, args=(theirs, *args), daemon=True)
            self.process.start()

    def give(self, function: Callable[[Any], Any], job: Job) -> None:
        """Send a job; it waits behind those that were given before."""
        self.jobs.append(job)
        with suppress(OSError):  # it is dead: that shows when its pipe is read
            self.pipe.send_bytes(pickle.dumps((function, job.task, job.refused)))

    def results(self) -> Iterator[tuple[int, Any]]:
        """What it has sent, (number of the task, result); EOFError where it is dead."""
        while self.pipe.poll():
            try:
                self._finished, result, error = self.pipe.recv()
            except OSError:
                raise EOFError from None
            job = self.jobs.popleft()
            if error is not None:
                raise error
            yield job.number, result

    def progress(self) -> int:
        """Units done since the last call."""
        new: int = self.board.units - self.counted
        self.counted += new
        return new

    def lost(self) -> int:
        """Units that were counted and must be done again."""
        return self.counted - self._finished

    def stalled_s(self, passed_s: float) -> float:
        """Seconds for which it has neither used the processor nor finished anything."""
        pace = cpu_seconds(self.process.pid), self.board.units
        stalls = pace == self._pace and pace[0] is not None and self.jobs
        self._pace, self._stall_s = pace, self._stall_s + passed_s if stalls else 0.0
        return self._stall_s

    def end(self) -> int | None:
        """End it whatever it does; its exit code (-N: signal N), None where even that does not end it."""
        if self.process.exitcode is None:
            self.process.kill()
        self.pipe.close()
        self.process.join(timeout=5)
        code: int | None = self.process.exitcode
        return code


def take_jobs(pipe: Connection) -> Iterator[tuple[Callable[[Any], Any], Any, dict[bytes, str]]]:
    """In the process: yield (function, task, what it must not try again) for as long as there is a parent.

    A thread takes messages as they come, so that the parent never waits to send one.
    """
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, messages), daemon=True).start()
    while True:
        yield pickle.loads(messages.get())  # noqa: S301 - our parent's


def _receive(pipe: Connection, messages: SimpleQueue[bytes]) -> None:
    """Pass messages on; a worker outlives no parent, whichever way that ends."""
    try:
        while True:
            messages.put(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)


def portable(error: Exception) -> Exception:
    """An exception that can be sent, with the lines of code that it came from as a note."""
    error.add_note("in a worker:\n" + "".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - a class of a library that cannot be rebuilt from its arguments
        return PyradError(f"a task ended with {type(error).__name__}")
    return error


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
