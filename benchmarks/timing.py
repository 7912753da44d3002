"""Callables -> seconds, medians and spread: the only stopwatch of the benchmarks.

Cases are interleaved, one repetition of each a round, and every round starts with another case, so that a
machine that slows down slows them all alike. Every repetition is kept; a table shows the median and the whole
range. A result says on what machine (never its name), on what revision and with what options it was taken.

Run by itself it prints the machine and what the stopwatch costs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast a case did its ``work``: the median of its repetitions and the slowest and fastest of them."""

    unit: str  # a second is understood: "GB" for GB/s, "images" for images/s
    median: float
    slowest: float
    fastest: float
    seconds: tuple[float, ...]  # of every repetition, in the order taken

    def __str__(self) -> str:
        """'1.52 (1.40-1.61)'."""
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 3 if self.median < 1 else 2
        return f"{self.median:.{digits}f} ({self.slowest:.{digits}f}-{self.fastest:.{digits}f})"


def arguments(description: str, *, repetitions: int = 9) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes; a script may add its own arguments."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--smoke", action="store_true", help="tiny inputs, nothing saved: does it run?")
    parser.add_argument("--repetitions", type=int, default=repetitions, help="rounds (default: %(default)s)")
    parser.add_argument("--tag", default="", help="save as results/NAME-TAG.json, not results/NAME.json")
    parser.set_defaults(load_before=round(os.getloadavg()[0], 2))
    return parser


def interleaved(
    cases: Mapping[str, Callable[[], object]], *, repetitions: int
) -> dict[str, tuple[float, ...]]:
    """Time every case ``repetitions`` times, after one untimed call of each; return their seconds."""
    for case in cases.values():
        case()
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(repetitions):
        start = repetition % max(len(names), 1)
        for name in names[start:] + names[:start]:
            gc.collect()
            began_s = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - began_s)
    return {name: tuple(taken) for name, taken in seconds.items()}


def rate(seconds: Sequence[float], *, work: float, unit: str) -> Rate:
    """Turn the seconds of one case into a rate; ``work`` is what one repetition does, in ``unit``."""
    return Rate(
        unit=unit,
        median=work / statistics.median(seconds),
        slowest=work / max(seconds),
        fastest=work / min(seconds),
        seconds=tuple(seconds),
    )


def machine() -> dict[str, Any]:
    """Describe what the figures depend on, without anything that names this machine or its owner."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(
            os.getloadavg()[0], 2
        ),  # of other work: figures taken beside much of it mean little
    }
    for module in ("numpy", "torch"):
        if module in sys.modules:
            facts[module] = sys.modules[module].__version__
    return facts


def save(
    name: str, rows: Sequence[Mapping[str, Any]], options: argparse.Namespace, **facts: Any
) -> Path | None:
    """Write ``rows`` and ``facts`` to results/NAME[-TAG].json with machine and revision; not a smoke run."""
    if options.smoke:
        return None
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}{'-' if options.tag else ''}{options.tag}.json"
    document = {
        "benchmark": name,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": _revision(),
        "machine": machine(),
        "load_before": options.load_before,  # of other work: figures taken beside much of it mean little
        "options": {
            key: value for key, value in vars(options).items() if key not in ("smoke", "tag", "load_before")
        },
        **facts,
        "rows": [{key: _plain(value) for key, value in row.items()} for row in rows],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay rows with the same keys out as aligned text; a Rate shows as median (slowest-fastest)."""
    if not rows:
        return "(nothing measured)"
    lines = [[*rows[0]], *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _plain(value: Any) -> Any:
    if not isinstance(value, Rate):
        return value
    return {
        "unit": f"{value.unit}/s",
        "median": _round(value.median),
        "slowest": _round(value.slowest),
        "fastest": _round(value.fastest),
        "seconds": [_round(second) for second in value.seconds],
    }


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _revision() -> str:
    """Return the commit that was measured, with '+' behind it if the tree differs; '' outside git."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        command = ["git", *words]
        run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + (
            "+" if commit and git("status", "--porcelain", "csrc", "pyrad", "benchmarks/*.py") else ""
        )
    except OSError:
        return ""


def main() -> None:
    """Print the machine and the cost of the stopwatch itself."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    seconds = interleaved({"nothing": lambda: None}, repetitions=2 if options.smoke else 101)["nothing"]
    for key, value in machine().items():
        print(f"{key:<12} {value}")
    print(f"{'stopwatch':<12} {statistics.median(seconds) * 1e9:.0f} ns")


if __name__ == "__main__":
    main()
