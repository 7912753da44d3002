"""A process and its descendants -> what they have used: processor time, memory, bytes read from the disk.

Linux tells it in /proc. Memory is PSS: a page that several processes share is counted once among them, which
is what a loader with worker processes needs; where the kernel does not tell, the greatest RSS of this
process alone takes its place, and is named so.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def tree(pid: int | None = None) -> Iterator[int]:
    """Yield a process (this one) and all that descend from it."""
    pid = os.getpid() if pid is None else pid
    yield pid
    try:
        tasks = list((PROC / str(pid) / "task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has just ended
        return
    for child in children:
        yield from tree(child)


def cpu_seconds() -> float:
    """User and system time of all of them, and of descendants that ended and were waited for."""
    ticks = 0
    for pid in tree():
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime of proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory() -> tuple[int, str]:
    """Bytes that they hold now, and what kind of figure it is."""
    total = 0
    try:
        for pid in tree():
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "RSS of the main process"
    return total, "PSS"


def bytes_read() -> int:
    """Bytes that they had the disk deliver: next to none where the page cache was hot."""
    total = 0
    for pid in tree():
        try:
            lines = (PROC / str(pid) / "io").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))
    return total
