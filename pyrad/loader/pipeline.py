"""Positions -> plans -> prepared batches, in order, made by a few threads a few batches ahead.

Note [plans]
A plan is made one batch a thread earlier than the batch, in the same queue: it has the system read ahead what
the batch will need, so that the disk is at work while batches before it are decoded.

Note [threads]
A run starts its threads at its first batch and joins them when it ends, is broken off or is dropped. Between
two runs there are none, so what owns a pipeline may cross a fork there (never inside a run).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from pyrad.errors import PyradError

Plan = TypeVar("Plan")
Prepared = TypeVar("Prepared")


class Pipeline(Generic[Plan, Prepared]):
    """Calls ``plan`` and ``prepare`` for one position after another, ``prefetch`` beyond the one in use.

    ``wait_s``, ``consumer_s`` and ``open_s`` sum, over all runs, how long the consumer waited for a batch,
    how long it kept each batch to itself, and both together.
    """

    def __init__(
        self,
        plan: Callable[[int], Plan],
        prepare: Callable[[Plan], Prepared],
        *,
        workers: int,
        prefetch: int,
    ) -> None:
        self._plan = plan
        self._prepare = prepare
        self._workers = workers
        self._prefetch = prefetch
        self._pool: ThreadPoolExecutor | None = None
        self.wait_s = self.consumer_s = self.open_s = 0.0

    def run(self, positions: Iterable[int]) -> Iterator[tuple[int, Prepared]]:
        """Yield (position, prepared) in order; there is one run at a time, so an earlier one ends.

        Raises:
            PyradError: from an earlier run that is asked to go on.

        Whatever ``plan`` and ``prepare`` raise is raised here, when its position is due.

        """
        self.close()
        pool = self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="pyrad-loader")
        todo = self._planned(pool, positions)
        pending: deque[tuple[int, Future[Prepared]]] = deque()
        try:
            self._submit(pool, todo, pending, self._prefetch)
            while pending:
                began_s = time.perf_counter()
                position, future = pending.popleft()
                prepared = future.result()
                self._submit(pool, todo, pending, 1)
                ready_s = time.perf_counter()
                self.wait_s += ready_s - began_s
                yield position, prepared
                del prepared, future  # while the next one is waited for, the last one may be freed
                self.consumer_s += time.perf_counter() - ready_s
                self.open_s += time.perf_counter() - began_s
                if self._pool is not pool:
                    raise PyradError(
                        "this iteration of the loader was ended by close(), load_state_dict() or a newer "
                        "iteration: a loader runs one at a time"
                    )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """End the run that is under way and join its threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _planned(
        self, pool: ThreadPoolExecutor, positions: Iterable[int]
    ) -> Iterator[tuple[int, Future[Plan]]]:
        """Yield positions with their plans, which are begun early: Note [plans]."""
        begun: deque[tuple[int, Future[Plan]]] = deque()
        for position in positions:
            begun.append((position, pool.submit(self._plan, position)))
            if len(begun) > self._workers:
                yield begun.popleft()
        yield from begun

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        todo: Iterator[tuple[int, Future[Plan]]],
        pending: deque[tuple[int, Future[Prepared]]],
        batches: int,
    ) -> None:
        for position, plan in islice(todo, batches):
            pending.append((position, pool.submit(self._prepare_planned, plan)))

    def _prepare_planned(self, plan: Future[Plan]) -> Prepared:
        # The pool begins its jobs in order: a plan that is waited for here is under way.
        return self._prepare(plan.result())
