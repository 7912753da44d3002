"""Tasks -> results, in worker processes that may die of a file and that end with their parent.

# Note [strikes]
A decoder may crash, spin, or ask for all memory there is. Code that touches a file's bytes therefore runs
inside ``with guard(file)``, which notes in shared memory what is in hand and limits what it may cost. Where a
worker dies, that worker alone is replaced and its task is done again. The file in hand has a strike; at the
second, the guard refuses it with the reason of the death, and its neighbours are done without it. Strikes
belong to a task: what becomes of it depends on nothing but itself, whoever else works on what.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from traceback import clear_frames
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from pyrad.errors import PyradError
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.workers.limits import Limits, allow_cpu, bound_memory, reason_of_death
from pyrad.ingest.workers.process import (
    ATTEMPTS,
    WORK_BYTES,
    Board,
    Job,
    WorkerProcess,
    fork_server,
    portable,
    take_jobs,
)
from pyrad.progress import Stage

Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_IN_HAND = 2  # a worker's: one that it does and one that waits, so that it never idles
_POLL_S = 0.2
_WATCH_S = 1.0


# ---- in a worker


@dataclass
class _Here:
    """The state of this worker."""

    share: Any
    limits: Limits
    board: Board
    refused: Mapping[bytes, str] = field(default_factory=dict)  # by the task in hand


_here: _Here | None = None


def shared() -> Any:
    """In a worker: what `Workers` was given to share."""
    return _here.share if _here else None


def count_done(units: int = 1) -> None:
    """In a worker: report progress within a task."""
    if _here:
        _here.board.units += units


@contextmanager
def guard(file: tuple[int, str], frames: Sequence[int] = ()) -> Iterator[None]:
    """In a worker: code that touches the bytes of one file (archive, path), or only some of its frames.

    Raises Rejected ("decoder-crashed", "decoder-timeout", "memory-limit") at once where the same piece of
    work has cost this task two workers, and where memory runs out. Note [strikes]. Not to be nested.
    """
    if _here is None:  # no worker: in a test, or in the parent
        yield
        return
    work = _name(file, frames)
    if work in _here.refused:
        raise Rejected(_here.refused[work])
    _here.board.work[:] = work
    _here.board.guarded = 1
    allow_cpu(_here.limits.cpu_s)
    try:
        yield
    except MemoryError as error:
        clear_frames(error.__traceback__)  # what they hold is free now, however long the reason is kept
        raise Rejected("memory-limit") from None
    finally:
        allow_cpu(None)
        _here.board.guarded = 0


def allow_for(size: int) -> None:
    """In a guard: allow the processor time that a file of ``size`` bytes may take, from now on."""
    if _here:
        allow_cpu(_here.limits.cpu_s + _here.limits.cpu_s_per_mib * size / (1 << 20))


def _name(file: tuple[int, str], frames: Sequence[int]) -> bytes:
    archive, path = file
    name = f"{archive}\0{path}\0{','.join(map(str, frames))}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(name, digest_size=WORK_BYTES).digest()


def _serve(pipe: Connection, share: Any, limits: Limits, boards: Any, slot: int) -> None:
    """Do what the parent asks for."""
    global _here  # noqa: PLW0603 - a worker has one parent, and one share
    _here = _Here(share, limits, boards[slot])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for the parent to hear
    _silence()
    bound_memory(limits)
    for function, task, _here.refused in take_jobs(pipe):
        pipe.send((_here.board.units, *_outcome(function, task)))


def _silence() -> None:
    """Libraries warn, log and print; what they say may quote a patient's data."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _outcome(function: Callable[[Task], Result], task: Task) -> tuple[Result | None, Exception | None]:
    try:
        return function(task), None
    except Exception as error:  # noqa: BLE001 - it is raised again in the parent
        return None, portable(error)


# ---- in the parent


class Workers:
    """A pool of processes, used as a context; ``share`` (picklable) reaches every worker once."""

    def __init__(self, count: int, share: Any, limits: Limits | None = None) -> None:
        self.count = count
        self.deaths = 0  # of workers, so far
        self._share = share
        self._limits = limits or Limits()
        self._context = fork_server()
        self._boards = self._context.RawArray(Board, count)
        self._workers: list[WorkerProcess | None] = [None] * count
        self._watched_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def dismiss(self) -> None:
        """End the processes, whose memory is wanted elsewhere; a later run starts others."""
        self._end()

    @property
    def sharing(self) -> int:
        """How many workers may write parts of one shard."""
        return self.count

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], stage: Stage
    ) -> Iterator[tuple[int, Result]]:
        """Yield (number of the task, its result) as they come; ``stage`` advances by what workers report.

        ``tasks`` is read only as far as workers need it. An exception of a task ends the run; PyradError
        where a task costs two workers outside any guard. Note [strikes].
        """
        fresh = (Job(number, task) for number, task in enumerate(tasks))
        again: deque[Job] = deque()
        try:
            while self._feed(function, fresh, again):
                for slot, worker in self._ready():
                    try:
                        yield from worker.results()
                    except EOFError:
                        self._bury(slot, worker, again, stage)
                stage.advance(sum(worker.progress() for worker in filter(None, self._workers)))
                self._watch(again, stage)
        except MemoryError:
            raise PyradError(
                f"memory ran out in {stage.name}; try fewer --workers; the same command resumes"
            ) from None
        finally:
            if self._busy():  # a consumer that went away leaves no results to the next run
                self._end()

    def _busy(self) -> list[tuple[int, WorkerProcess]]:
        return [(slot, worker) for slot, worker in enumerate(self._workers) if worker and worker.jobs]

    def _feed(self, function: Callable[[Any], Any], fresh: Iterator[Job], again: deque[Job]) -> bool:
        """Give every worker something to do, and then something to do next; whether any has."""
        for depth in range(_TASKS_IN_HAND):
            for slot in range(self.count):
                worker = self._workers[slot]
                if worker is not None and len(worker.jobs) > depth:
                    continue
                job = again.popleft() if again else next(fresh, None)
                if job is None:
                    return bool(self._busy())
                if worker is None:
                    worker = self._workers[slot] = self._start(slot)
                worker.give(function, job)
        return True

    def _start(self, slot: int) -> WorkerProcess:
        args = self._share, self._limits, self._boards, slot
        return WorkerProcess(self._context, self._boards[slot], _serve, args)

    def _ready(self) -> list[tuple[int, WorkerProcess]]:
        """Busy workers that have sent something, or died."""
        busy = self._busy()
        ready = wait([worker.pipe for _, worker in busy], _POLL_S)
        return [(slot, worker) for slot, worker in busy if worker.pipe in ready]

    def _bury(
        self, slot: int, worker: WorkerProcess, again: deque[Job], stage: Stage, *, stalled: bool = False
    ) -> None:
        """Take back the jobs of a worker that is dead, and note what the first of them has cost."""
        guarded, work = worker.board.guarded, bytes(worker.board.work)
        self._workers[slot] = None
        self.deaths += 1
        code = worker.end()
        stage.advance(worker.progress() - worker.lost())
        job = worker.jobs[0]
        if guarded and not stalled:
            job.blame(work, reason_of_death(code))
        else:
            job.deaths += 1
            if job.deaths == ATTEMPTS:
                _give_up(job, stage, stalled=stalled)
        again.extendleft(reversed(worker.jobs))

    def _watch(self, again: deque[Job], stage: Stage) -> None:
        """Replace workers that have done nothing for very long: a file server that does not answer."""
        now_s = time.monotonic()
        if now_s - self._watched_s < _WATCH_S:
            return
        passed_s = min(now_s - self._watched_s, 2 * _WATCH_S)  # a machine that slept is no stalled worker
        self._watched_s = now_s
        for slot, worker in self._busy():
            if worker.stalled_s(passed_s) > self._limits.stall_s:
                self._bury(slot, worker, again, stage, stalled=True)

    def _end(self) -> None:
        for worker in filter(None, self._workers):
            worker.end()
        self._workers = [None] * self.count


def _give_up(job: Job, stage: Stage, *, stalled: bool) -> NoReturn:
    if stalled:
        raise PyradError(
            f"task {job.number} of {stage.name} made no progress for very long, {ATTEMPTS} times: does the "
            "disk or the file server of the archive answer? The same command resumes"
        )
    raise PyradError(
        f"a worker process died {ATTEMPTS} times in task {job.number} of {stage.name}, outside any file: "
        "memory ran out, or this is a fault of pyrad; try fewer --workers; the same command resumes"
    )
