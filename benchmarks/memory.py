"""Peak memory of an ingest, all its processes together, for few files and for ten times as many.

The files are uncompressed CT of 64 x 64, so that what is counted is what pyrad keeps of a file, not its
pixels. Memory is the proportional set size (a page that processes share counts once), read every few
hundredths of a second from /proc.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timing
from ingest import write_archive

COUNTS = (10_000, 100_000)
_POLL_S = 0.05


def main() -> None:
    """Ingest, print and save."""
    parser = timing.arguments(__doc__ or "", repetitions=1)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    options = parser.parse_args()
    rows = []
    for count in (40, 80) if options.smoke else COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            write_archive(Path(folder, "archive"), size=64, count=count)
            peak_mib, seconds = peak_of(Path(folder), options.workers)
        rows.append({"files": count, "peak_mib": round(peak_mib, 1), "seconds": round(seconds, 1)})
    print(timing.table(rows))
    print(f"ten times the files take {rows[1]['peak_mib'] / rows[0]['peak_mib']:.2f} times the memory")
    timing.save("memory", rows, options)


def peak_of(folder: Path, workers: int) -> tuple[float, float]:
    """MiB at the peak of one ingest, and its seconds."""
    words = [
        "--store",
        str(folder / "s.zarr"),
        "--private",
        str(folder / "private"),
        "--workers",
        str(workers),
    ]
    began_s = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "pyrad.ingest", str(folder / "archive"), *words],
        env={**os.environ, "PYRAD_SECRET": "of the benchmark"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        peak_kib = 0
        while process.poll() is None:
            peak_kib = max(peak_kib, sum(map(proportional_kib, session(process.pid))))
            time.sleep(_POLL_S)
    if process.returncode:
        raise SystemExit(f"the ingest ended with {process.returncode}")
    return peak_kib / 1024, time.perf_counter() - began_s


def session(leader: int) -> list[Path]:
    """The /proc folders of a session's processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == leader:
            found.append(stat.parent)
    return found


def proportional_kib(process: Path) -> int:
    """Proportional set size of a process; 0 of one that has ended."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
