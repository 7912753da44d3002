"""Paths of a store's files -> open descriptors: symlinks refused, sizes checked, few open at a time."""

from __future__ import annotations

import errno
import os
import stat
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from pyrad.errors import IntegrityError, PyradError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # non-blocking: a FIFO must not hang us


class StoreFolder:
    """A store's folder, held open: whatever is renamed above it, its files stay the same ones.

    It closes with the last one who holds it, so that a table taken from a store outlives the store's name.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self._closing = weakref.finalize(self, os.close, fd)
        self._folders: set[str] = set()  # known to be real folders

    def open(self, path: str, expected_bytes: int | None = None) -> int:
        """Open a regular file by its path in the store. IntegrityError where it is not what was committed."""
        try:
            self._check_folders(path)
            fd = os.open(path, _FLAGS, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            what = (
                "is a symbolic link, and links are refused" if error.errno == errno.ELOOP else error.strerror
            )
            raise IntegrityError(f"{self.name}: {path} cannot be opened: {what}") from None
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and expected_bytes in (None, status.st_size):
            return fd
        os.close(fd)
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityError(f"{self.name}: {path} is no regular file")
        raise IntegrityError(
            f"{self.name}: {path} has {status.st_size} bytes instead of {expected_bytes}: "
            "it was truncated or replaced; restore it from a copy"
        )

    def read(self, path: str, expected_bytes: int) -> bytes:
        """The contents of a file of known size."""
        with open(self.open(path, expected_bytes), "rb") as file:
            return file.read(expected_bytes)

    def close(self) -> None:
        """Close the folder; once is enough."""
        self._closing()

    def _check_folders(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        while folder and folder not in self._folders:
            if not stat.S_ISDIR(os.stat(folder, dir_fd=self.fd, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]


class ShardFiles:
    """Descriptors of shards by number, at most ``max_open`` idle ones; safe to share between threads.

    ``open_shard`` opens and checks one shard. A descriptor in use is never closed: the number that a read was
    given cannot come to mean another file half-way.
    """

    def __init__(self, open_shard: Callable[[int], int], max_open: int) -> None:
        self.max_open = max_open
        self._open_shard = open_shard
        self._lock = threading.Lock()
        self._fds: OrderedDict[int, int] = OrderedDict()  # least recently used first
        self._users: dict[int, int] = {}

    @contextmanager
    def pinned(self, shards: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
        """One descriptor for each of ``shards`` (any may repeat), all open until the block ends."""
        unique, inverse = np.unique(shards, return_inverse=True)
        taken: list[int] = []
        try:
            with self._lock:
                fds = np.array([self._take(int(shard), taken) for shard in unique], np.int32)
            yield fds[inverse]
        finally:
            with self._lock:
                for shard in taken:
                    if shard in self._users:  # unless close() came in between
                        self._users[shard] -= 1
                self._evict(self.max_open)

    def close(self) -> None:
        """Close every descriptor."""
        with self._lock:
            self._users.clear()
            self._evict(0)

    def _take(self, shard: int, taken: list[int]) -> int:
        if shard in self._fds:
            self._fds.move_to_end(shard)
        else:
            self._fds[shard] = self._opened(shard)
        self._users[shard] = self._users.get(shard, 0) + 1
        taken.append(shard)
        return self._fds[shard]

    def _opened(self, shard: int) -> int:
        with suppress(OSError):
            return self._open_shard(shard)
        self._evict(0)
        try:
            return self._open_shard(shard)
        except OSError as error:
            raise PyradError(
                f"cannot open a shard: {error.strerror}; raise the limit of open files (ulimit -n) or read "
                "fewer samples at a time"
            ) from None

    def _evict(self, keep: int) -> None:
        if len(self._fds) <= keep:
            return
        idle = [shard for shard in self._fds if not self._users.get(shard)]
        for shard in idle[: max(len(idle) - keep, 0)]:
            os.close(self._fds.pop(shard))
            self._users.pop(shard, None)
