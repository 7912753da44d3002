"""The number of a pass -> which of a loader's batches it has, one after another, with a state to save.

Note [passes]
torch's DataLoader asks for batches ahead of the step that uses them, in processes that do not know how far
training has come. What it is given therefore follows from the number of the pass alone: pass e of a training
loader is batches e * L to e * L + L - 1 of its stream, where L is len(loader), however the pass before ended;
every pass of an evaluation is all of it. Of W workers, worker w makes every W-th batch from the w-th on:
DataLoader takes turns among its workers, so for any W the batches come in the loader's own order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch

from pyrad.errors import UsageError
from pyrad.loader.loader import Loader

Made = TypeVar("Made")


class Pass(Iterator[Made], Generic[Made]):
    """One worker's share of one pass; its state is torchdata's, so that `StatefulDataLoader` resumes it.

    ``epoch`` (an int64 of no dimensions) holds the number of the pass, and with ``advance`` that of the next
    one from the first batch on. ``make`` turns the positions at which batches begin into what is yielded.
    """

    def __init__(
        self,
        loader: Loader,
        epoch: torch.Tensor,
        make: Callable[[Iterable[int]], Iterator[Made]],
        *,
        worker: int = 0,
        workers: int = 1,
        advance: bool = False,
    ) -> None:
        self._loader = loader
        self._epoch = epoch
        self._make = make
        self._share = (worker, workers)
        self._advance = advance
        self._number = int(epoch)
        self._todo = self._batches(self._number)
        self._made: Iterator[Made] | None = None

    def __next__(self) -> Made:
        if self._made is None:
            self._begin()
            self._made = self._make(batch * self._loader.batch_size for batch in self._todo)
        made = next(self._made)
        self._todo = self._todo[1:]
        return made

    def state_dict(self) -> dict[str, int]:
        """Return the loader's state with the number of the pass and where the share's next batch begins."""
        batch = self._todo[0] if self._todo else self._batches(self._number).stop
        return {
            **self._loader.state_dict(),
            "position": batch * self._loader.batch_size,
            "epoch": self._number,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the pass, and in it the batch, where ``state`` was saved.

        Raises:
            UsageError: the state is of another store or other settings, or of another number of workers.

        """
        batch = self._loader.position_of(state) // self._loader.batch_size
        share = self._batches(state["epoch"])
        if batch != share.stop and batch not in share:
            raise UsageError(
                f"the state's next batch, number {batch}, is not one of worker {self._share[0]} of "
                f"{self._share[1]} in pass {state['epoch']}: resume with the number of workers that it was "
                "saved with"
            )
        self._number = state["epoch"]
        self._todo = range(batch, share.stop, share.step)
        self._begin()

    def _begin(self) -> None:
        if self._advance:
            self._epoch.fill_(self._number + 1)

    def _batches(self, number: int) -> range:
        """Return the numbers, from the loader's first batch, of this share of a pass."""
        worker, workers = self._share
        first = number * len(self._loader) if self._loader.shuffle else 0
        return range(first + worker, first + len(self._loader), workers)
