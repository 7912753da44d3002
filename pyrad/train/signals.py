"""SIGTERM and Ctrl-C -> a wish that the loop reads between two steps.

Stopping inside a step would lose it; so the handler only notes the signal, and the loop saves a checkpoint
before it leaves. Repeated signals change nothing: `timeout` and batch systems often send two.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopWish:
    """While entered, SIGTERM and SIGINT set ``signum`` and do nothing else; before, it is 0.

    Outside the main thread, where Python gives signals to nobody, it never becomes true.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._former: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self.signum != 0

    def __enter__(self) -> Self:
        try:
            for number in _SIGNALS:
                self._former[number] = signal.signal(number, self._note)
        except ValueError:  # not the main thread
            self._former.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = self.signum or signum
