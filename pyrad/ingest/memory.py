"""Memory that a stage of an ingest has freed -> given back to the system before the next begins."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return free pages; without it the peaks of the stages add up. Does nothing where libc cannot."""
    with suppress(AttributeError, OSError):  # malloc_trim is glibc's
        ctypes.CDLL(None).malloc_trim(0)
