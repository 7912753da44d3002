"""What one file may cost -> limits that the kernel enforces on a worker; how a worker died -> the reason.

CPU time is limited, not time on the wall: however busy the machine is, the same files end the same way. The
memory limit is on address space, so that an allocation fails in the process that asks for too much.
"""

from __future__ import annotations

import math
import resource
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CLOCK_TICKS = 100  # a second, of /proc/PID/stat: USER_HZ, which is 100 on every architecture of Linux
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a worker may use."""

    memory_bytes: int = 8 << 30  # beyond what it has when it starts; twice the largest file that is read
    cpu_s: float = 60.0  # for a file of no size
    cpu_s_per_mib: float = 2.0  # and for each MiB of it; JPEG 2000 takes less than a tenth
    stall_s: float = 600.0  # on the wall, without using the processor or finishing a file


def bound_memory(limits: Limits) -> None:
    """Bound this process's address space, and leave no core dump: it would hold a patient's pixels."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # no /proc, or a kernel that does not limit address space
        now = int(_STATM.read_text().split()[0]) * resource.getpagesize()
        _soften(resource.RLIMIT_AS, now + limits.memory_bytes)


def allow_cpu(seconds: float | None) -> None:
    """Let this process use so many more seconds of processor time; SIGXCPU ends it. None: no end."""
    end = None if seconds is None else math.ceil(time.process_time() + seconds)
    _soften(resource.RLIMIT_CPU, end)


def reason_of_death(exit_code: int | None) -> str:
    """The reason code for a file that a worker died of. ``exit_code``: -N for signal N."""
    if exit_code == -signal.SIGXCPU:
        return "decoder-timeout"
    return "memory-limit" if exit_code == -signal.SIGKILL else "decoder-crashed"  # the out-of-memory killer


def cpu_seconds(process: int | None) -> float | None:
    """Processor time that another process has used, None where that is not known. Source: proc(5)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def _soften(kind: int, wanted: int | None) -> None:
    _, hard = resource.getrlimit(kind)
    if wanted is None:
        wanted = hard
    elif hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(kind, (wanted, hard))
