"""A folder, a zip file, a single file or a bucket -> relative paths with sizes, and a safe opener of bytes.

Nothing outside the archive is ever read. In a folder, symbolic links are listed and not followed, and pipes
and devices are not opened. A zip that names paths outside itself, holds links or inflates past any real data
set is refused whole. Archives are pickled to worker processes by path and open their zip there, once.
"""

from __future__ import annotations

import functools
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyrad.errors import PyradError, UnsafeArchiveError, UsageError
from pyrad.ingest.policy import MAX_FILE_BYTES
from pyrad.ingest.reasons import Rejected
from pyrad.store.bucket import Bucket, url_of

# Deflate inflates at most 1032-fold; images stay far below this one, unless they are small and empty.
MAX_RATIO = 200
RATIO_COUNTS_FROM_BYTES = 64 << 20
MAX_TOTAL_BYTES = 64 << 40

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file of an archive; where ``reason`` is set it must not be read and goes to the ledger as it is."""

    path: str  # relative, forward slashes; bytes that are no UTF-8 are surrogate escapes
    size: int
    reason: str | None = None


class Archive(Protocol):
    """What the rest of ingest knows of a source."""

    def members(self) -> list[Member]:
        """Every file, sorted by the bytes of its path."""
        ...

    def read(self, path: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """The bytes of a member; Rejected where it is larger than ``limit`` or cannot be read."""
        ...

    def read_start(self, path: str, count: int, limit: int = MAX_FILE_BYTES) -> tuple[bytes, int]:
        """The first ``count`` bytes of a member, and how many it has; Rejected as by `read`."""
        ...


def path_bytes(path: str) -> bytes:
    """The bytes that sort a member's path and stand for it under an HMAC."""
    return path.encode("utf-8", "surrogateescape")


def path_text(path: str) -> str:
    """A member's path as text that can be stored and shown: bytes that are no UTF-8 are escaped."""
    return path_bytes(path).decode("utf-8", "backslashreplace")


def open_archive(path: Path) -> Archive:
    """The archive at ``path``: a folder, a zip (known by its content), one file, or s3://bucket/prefix.

    UsageError where nothing is there or it cannot be opened; UnsafeArchiveError for a zip that is refused.
    """
    url = url_of(path)
    if url is not None:
        return BucketArchive(url)
    try:
        path = path.resolve(strict=True)  # a link that the user names is the user's choice
        if path.is_dir():
            return FolderArchive(path)
        if not path.is_file():
            raise UsageError(f"the source {path.name} is neither a folder nor a file; name one of these")
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise UsageError(f"the source {path} does not exist") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise UsageError(f"the source {path} cannot be opened: {getattr(error, 'strerror', error)}") from None
    if magic not in _ZIP_MAGIC:
        return FolderArchive(path.parent, only=path.name)
    archive = ZipArchive(path)
    archive.members()
    return archive


class FolderArchive:
    """A folder and everything below it, or (``only``) one file of it."""

    def __init__(self, root: Path, *, only: str | None = None) -> None:
        self.root = root
        self.only = only

    def members(self) -> list[Member]:
        """Every file below the root, sorted by the bytes of its path."""
        if self.only is not None:
            return [Member(path=self.only, size=(self.root / self.only).lstat().st_size)]
        return sorted(self._walk(), key=lambda member: path_bytes(member.path))

    def _walk(self) -> Iterator[Member]:
        folders = [""]
        while folders:
            prefix = folders.pop()
            try:
                with os.scandir(self.root / prefix) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{prefix}{entry.name}/")
                        else:
                            yield _member(prefix + entry.name, entry)
            except OSError:
                yield Member(path=prefix.rstrip("/") or ".", size=0, reason="unreadable-folder")

    def read(self, path: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """The bytes of a regular file; a pipe cannot block this and a link is not followed."""
        return self.read_start(path, limit, limit)[0]

    def read_start(self, path: str, count: int, limit: int = MAX_FILE_BYTES) -> tuple[bytes, int]:
        """The first bytes of a regular file, and how many it has, likewise."""
        try:
            handle = os.open(self.root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise Rejected("unreadable-file") from None
        try:
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode):
                raise Rejected("not-a-regular-file")
            if before.st_size > limit:
                raise Rejected("file-too-large", detail=f"{before.st_size} bytes, limit {limit}")
            # One more than there are, by which a file that grew is noticed
            data = _read_up_to(handle, min(before.st_size + 1, count))
            after = os.fstat(handle)
        except OSError:
            raise Rejected("unreadable-file") from None
        finally:
            os.close(handle)
        if len(data) != min(before.st_size, count) or (after.st_size, after.st_mtime_ns) != (
            before.st_size,
            before.st_mtime_ns,
        ):
            raise Rejected("file-changed")
        return data, before.st_size


def _member(path: str, entry: os.DirEntry[str]) -> Member:
    """What a folder has that is no folder."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return Member(path=path, size=0, reason="unreadable-file")
    if stat.S_ISREG(status.st_mode):
        return Member(path=path, size=status.st_size)
    link = stat.S_ISLNK(status.st_mode)
    return Member(path=path, size=0, reason="symlink" if link else "not-a-regular-file")


class ZipArchive:
    """A zip file; the handle is opened on first use in each process and kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        status = path.stat()
        self._version = (status.st_size, status.st_mtime_ns)  # a file replaced by another is opened anew

    def members(self) -> list[Member]:
        """Every file of the zip, sorted by the bytes of its path; of two with one path the later counts."""
        entries = _entries(self.path, self._version)
        return [
            Member(path=path, size=info.file_size, reason="encrypted-member" if info.flag_bits & 1 else None)
            for path, info in sorted(entries.items(), key=lambda item: path_bytes(item[0]))
        ]

    def read(self, path: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """The bytes of a member, its checksum verified, never more than its directory entry declares."""
        return self.read_start(path, limit, limit)[0]

    def read_start(self, path: str, count: int, limit: int = MAX_FILE_BYTES) -> tuple[bytes, int]:
        """The first bytes of a member, and how many it has; its checksum verified where these are all."""
        info = _entries(self.path, self._version)[path]
        if info.flag_bits & 1:
            raise Rejected("encrypted-member")
        if info.file_size > limit:
            raise Rejected("file-too-large", detail=f"{info.file_size} bytes, limit {limit}")
        try:
            with _zip(self.path, self._version, os.getpid()).open(info) as file:
                data = file.read(min(info.file_size + 1, count))
        except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, EOFError, ValueError, NotImplementedError):
            raise Rejected("damaged-member") from None
        except Exception as error:  # zlib.error, lzma.LZMAError and their like share no base but this
            if type(error).__name__ not in {"error", "LZMAError"}:
                raise
            raise Rejected("damaged-member") from None
        if len(data) != min(info.file_size, count):
            raise Rejected("damaged-member", detail=f"{len(data)} bytes of {info.file_size}")
        return data, info.file_size


def _read_up_to(handle: int, count: int) -> bytes:
    """``count`` bytes, or what there are."""
    with open(handle, "rb", closefd=False, buffering=0) as file:
        data = file.read(count)
        while len(data) < count and (more := file.read(count - len(data))):  # the system gives 2 GiB at once
            data += more
    return data


@functools.lru_cache(maxsize=64)
def _zip(path: Path, version: tuple[int, int], process: int) -> zipfile.ZipFile:  # noqa: ARG001 - cache keys
    """The open zip of this process; a forked child must not share its parent's file offset."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        raise UsageError(
            f"{path.name} begins like a zip file and cannot be read as one; it may be cut"
        ) from None


@functools.lru_cache(maxsize=64)
def _entries(path: Path, version: tuple[int, int]) -> dict[str, zipfile.ZipInfo]:
    """Normalised path -> directory entry of every file; UnsafeArchiveError where the zip is refused."""
    entries: dict[str, zipfile.ZipInfo] = {}
    packed = inflated = 0
    for number, info in enumerate(_zip(path, version, os.getpid()).infolist()):
        parts = [part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".")]
        where = f"entry {number} of {path.name}"
        if info.filename.startswith(("/", "\\")) or ".." in parts or (parts and parts[0][1:2] == ":"):
            raise UnsafeArchiveError(
                f"{where} names a path outside the archive; unpack and inspect it by hand"
            )
        mode = info.external_attr >> 16
        if info.create_system == 3 and stat.S_ISLNK(mode):
            raise UnsafeArchiveError(f"{where} is a symbolic link; unpack and inspect the archive by hand")
        if info.is_dir() or not parts:
            continue
        if info.file_size > max(MAX_RATIO * info.compress_size, RATIO_COUNTS_FROM_BYTES):
            raise UnsafeArchiveError(
                f"{where} inflates from {info.compress_size} to {info.file_size} bytes, more than "
                f"{MAX_RATIO}-fold; if that is right, unpack it by hand and name the folder"
            )
        packed += info.compress_size
        inflated += info.file_size
        entries["/".join(parts)] = info
    if packed > version[0] or inflated > MAX_TOTAL_BYTES:
        raise UnsafeArchiveError(
            f"the entries of {path.name} overlap or inflate to {inflated} bytes; inspect it by hand"
        )
    return entries


class BucketArchive:
    """Objects as files, read on any machine that has credentials of its own."""

    def __init__(self, url: str) -> None:
        self._bucket = Bucket(url)

    def members(self) -> list[Member]:
        """Every object, sorted by the bytes of its path."""
        found = sorted(self._bucket.list(), key=lambda file: path_bytes(file.path))
        return [Member(path=file.path, size=file.bytes) for file in found]

    def read(self, path: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """The bytes of an object; Rejected where it is larger than ``limit`` or cannot be read."""
        return self.read_start(path, limit, limit)[0]

    def read_start(self, path: str, count: int, limit: int = MAX_FILE_BYTES) -> tuple[bytes, int]:
        """The first bytes of an object, and how many it has, likewise."""
        try:
            got = self._bucket.read_start(path, count)
        except PyradError:
            raise Rejected("unreadable-file") from None
        if got is None:
            raise Rejected("unreadable-file")
        if got[1] > limit:
            raise Rejected("file-too-large", detail=f"{got[1]} bytes, limit {limit}")
        return got
