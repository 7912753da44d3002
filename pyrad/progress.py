"""What a long command is doing -> a bar on a terminal, plain lines in a log, JSON lines for a machine.

Progress goes to stderr and results to stdout, so that a result can be piped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO

Mode = Literal["silent", "terminal", "log", "json"]

_SECONDS_BETWEEN: dict[Mode, float] = {"silent": 0.0, "terminal": 0.1, "log": 10.0, "json": 1.0}


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with every character that a terminal would not show, but those of ``keep``, escaped.

    Labels and paths come from archives, whose names may hold control sequences, or bytes that are no text.
    """
    return "".join(c if c in keep or c.isprintable() else ascii(c)[1:-1] for c in text)


class Stage:
    """One countable piece of work; ``advance`` as often as you like, it prints only now and then."""

    def __init__(self, reporter: Reporter, name: str, total: int, unit: str) -> None:
        self._reporter = reporter
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0
        self.note = ""
        self._began_s = time.monotonic()
        self._printed_s = self._began_s

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count ``count`` more units as done; ``note`` (a few words) stands behind the figures."""
        self.done += count
        self.note = note or self.note
        now_s = time.monotonic()
        if now_s - self._printed_s >= _SECONDS_BETWEEN[self._reporter.mode]:
            self._printed_s = now_s
            self._reporter.show(self, last=False)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._began_s

    @property
    def rate(self) -> float:
        """Units a second since the stage began."""
        return self.done / max(self.elapsed_s, 1e-9)

    @property
    def eta_s(self) -> float:
        """Seconds left at the present rate."""
        return max(self.total - self.done, 0) / max(self.rate, 1e-9)


class Reporter:
    """Where a command speaks to its user; the default is silent, for use as a library."""

    def __init__(self, mode: Mode = "silent", err: TextIO | None = None, out: TextIO | None = None) -> None:
        self.mode = mode
        self._err = sys.stderr if err is None else err
        self._out = sys.stdout if out is None else out

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Stage]:
        """Run a stage of ``total`` units, named in the plural (``images``, ``steps``)."""
        stage = Stage(self, name, total, unit)
        yield stage
        self.show(stage, last=True)

    def say(self, text: str) -> None:
        """Tell the user one sentence."""
        if self.mode == "json":
            self._line(self._err, {"event": "say", "text": text})
        elif self.mode != "silent":
            clear = "\r\x1b[2K" if self.mode == "terminal" else ""  # a stage's bar may stand in this line
            print(f"{clear}{printable(text)}", file=self._err, flush=True)

    def result(self, record: Mapping[str, Any], text: str) -> None:
        """Give the command's result: ``record`` to a machine, ``text`` to a person, on stdout."""
        if self.mode == "json":
            self._line(self._out, {"event": "result", **record})
        elif self.mode != "silent":
            print(printable(text), file=self._out, flush=True)

    def show(self, stage: Stage, *, last: bool) -> None:
        """Print a stage's progress in the reporter's way."""
        if self.mode == "silent":
            return
        if self.mode == "json":
            self._line(
                self._err,
                {
                    "event": "progress",
                    "stage": stage.name,
                    "done": stage.done,
                    "total": stage.total,
                    "unit": stage.unit,
                    "per_second": round(stage.rate, 2),
                    "eta_s": round(stage.eta_s, 1),
                    "note": stage.note,
                },
            )
            return
        text = (
            f"{stage.name:<9} {stage.done:,}/{stage.total:,} {stage.unit}  {stage.rate:,.1f} {stage.unit}/s  "
            + (f"took {_clock(stage.elapsed_s)}" if last else f"ETA {_clock(stage.eta_s)}")
            + (f"  {stage.note}" if stage.note else "")
        )
        if self.mode == "terminal":
            print(f"\r\x1b[2K{text}", end="\n" if last else "", file=self._err, flush=True)
        else:
            print(text, file=self._err, flush=True)

    @staticmethod
    def _line(stream: TextIO, record: Mapping[str, Any]) -> None:
        print(json.dumps(record, sort_keys=True), file=stream, flush=True)


def _clock(seconds: float) -> str:
    """3725.2 -> '1:02:05'."""
    minutes, whole_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole_s:02d}" if hours else f"{minutes}:{whole_s:02d}"
