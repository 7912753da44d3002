"""What runs in the workers of test_ingest_isolation.py, which import this module and little else."""

import ctypes
import os
import re
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyrad.ingest.archive import FolderArchive
from pyrad.ingest.reasons import Rejected
from pyrad.ingest.workers.pool import count_done, guard


def crash():
    """A real segmentation fault."""
    ctypes.string_at(0)


def spin():
    """C code that does not return for ages, and keeps the interpreter's lock."""
    re.fullmatch("(a+)+", "a" * 64 + "b")


def swell():
    """100 GB, as a decoder that believes its header would ask for; each piece is touched."""
    pieces = []
    for _ in range(400):
        pieces.append(np.empty(1 << 28, np.uint8))
        pieces[-1][0] = 1
    return pieces


def be_killed():
    """What the out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


EVILS = {
    "crash": (crash, "decoder-crashed", 2),
    "spin": (spin, "decoder-timeout", 2),
    "swell": (swell, "memory-limit", 0),  # an exception: no worker is lost
    "killed": (be_killed, "memory-limit", 2),
}


class HostileArchive(FolderArchive):
    """A folder in which reading ``evil.png`` is fatal: in the scan, or only when its pixels are wanted."""

    def __init__(self, root, evil, stage):
        super().__init__(root)
        self.evil, self.stage = evil, stage

    def read_start(self, path, *args):
        if path.endswith("evil.png"):
            writing = any(frame.name == "read_unchanged" for frame in traceback.extract_stack())
            if writing == (self.stage == "write"):
                EVILS[self.evil][0]()
        return super().read_start(path, *args)


@dataclass(frozen=True)
class Work:
    """Some files of one task: name -> evil, or "" for an innocent one."""

    files: dict[str, str]


def do(work):
    """What befalls each file, and the process it happened in."""
    fates = {}
    for name, evil in work.files.items():
        try:
            with guard((0, name)):
                if evil:
                    EVILS[evil][0]()
                fates[name] = "done"
        except Rejected as rejected:
            fates[name] = rejected.reason
        count_done()
    return fates, os.getpid()


def sleep_for_ever(_task):
    """A file server that does not answer."""
    time.sleep(1000)


def echo(task):
    """As much back as came."""
    return task


def spin_outside():
    """Seconds of a processor, outside any guard."""
    end = time.process_time() + 3
    while time.process_time() < end:
        pass


def guard_and_spin(_task):
    """A guard's limit ends with it."""
    with guard((0, "a")):
        pass
    spin_outside()
    return "done"


@dataclass(frozen=True)
class Twice:
    """What runs a task, and runs it once more, as after a death just before the answer."""

    function: Callable[[object], object]

    def __call__(self, task):
        self.function(task)
        return self.function(task)
