"""Bytes -> files that survive a power cut, and one writer at a time.

# Note [durable]
A file is written under a temporary name, flushed to the disk, renamed, and its folder is flushed: whoever
sees the final name sees the whole contents, before and after a crash. Temporary names live in a folder of
their own, so that a writer killed half-way leaves nothing in the tree that is about to be committed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyrad.errors import PyradError, StoreBusyError

_HASH_BLOCK_BYTES = 4 << 20


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an OSError (a full disk, a failing one) into one clear sentence; ``what`` is being written."""
    try:
        yield
    except OSError as error:
        raise PyradError(
            f"cannot write {what}: {error.strerror or error}; nothing was committed. "
            "Mend the cause (free space, permissions) and run the same command again: it resumes"
        ) from error


def temporary(folder: Path, name: str) -> Path:
    """A name in ``folder`` that no other process uses."""
    return folder / f"{name}-{os.getpid()}-{os.urandom(4).hex()}"


def create(path: Path) -> int:
    """Open a new file for writing; it must not exist."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def write_file(path: Path, data: bytes, temporaries: Path) -> None:
    """Put ``data`` under ``path`` as a whole (Note [durable]), replacing what was there."""
    partial = temporary(temporaries, path.name)
    with open(create(partial), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folders(root: Path, relative: str) -> Path:
    """Make ``root / relative`` folder by folder, durably; ``root`` itself must be there."""
    folder = root
    for name in relative.split("/"):
        child = folder / name
        try:
            child.mkdir()
            sync_folder(folder)
        except FileExistsError:
            pass
        folder = child
    return folder


def salted_hash(salt_hex: str) -> hashlib._Hash:
    """SHA-256 that has swallowed the store's salt, so that its values cannot be looked up elsewhere."""
    return hashlib.sha256(bytes.fromhex(salt_hex))


def file_hash(fd: int, salt_hex: str) -> str:
    """Salted SHA-256 of an open file from its beginning, in hex."""
    digest = salted_hash(salt_hex)
    at = 0
    while block := os.pread(fd, _HASH_BLOCK_BYTES, at):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


def lock_folder(path: Path, store: str) -> int:
    """Make the folder if need be and lock it; returns the descriptor that holds the lock until it is closed.

    StoreBusyError where another process holds it. The holder removes the folder when it is done, under the
    lock: whoever then locks the folder that is gone finds another one, or none, under its name, and tries
    again.
    """
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(fd, path):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise StoreBusyError(
                f"{store} is being written by another process (it holds {path.name}); wait for it to end"
            ) from None
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def _is_same(fd: int, path: Path) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
