"""A store at s3://bucket/NAME.zarr <-> its working copy on this machine.

Reading fetches a file when it is first needed and keeps it in a bounded cache, so that everything else reads
plain files. Writing builds the part in the working copy as it would anywhere, and then sends it up.

# Note [conditional commit]
An object store has no rename and no lock. A writer claims the next part's number by creating an object of
that number that names the root it is about to write (If-None-Match: *), and looks whether the root is still
the one it started from. It sends the part's files, each created only where none is; last it writes the root
document, only if there is none yet (If-None-Match: *) or the one it started from is still there (If-Match).
The loser of a race commits nothing. A store's bytes follow from its sources, so a writer that was killed is
resumed by the same command: its claim names the same root. The claim of a part that is committed keeps nobody
from the next one, so whoever comes across it may delete it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from pyrad.errors import IntegrityError, StoreBusyError
from pyrad.store import durable, layout
from pyrad.store.bucket import Bucket, url_of
from pyrad.store.claim import Claim
from pyrad.store.descriptors import StoreFolder
from pyrad.store.manifest import FileEntry, Manifest, Part, parse_root, read_manifest, was_interrupted

CACHE_BYTES = 20 << 30  # of one store's shards on this machine; PYRAD_CACHE_BYTES changes it
_IDENTITY = "identity"  # in a mirror: which store its files are of
_SENT = "sent"  # in a working copy: the root that is also in the bucket


class Mirror:
    """The files of a remote store on this machine, as far as they were needed."""

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self.bucket = Bucket(url)
        name = url.rpartition("/")[2]
        self.folder = (folder or cache_folder()) / hashlib.sha256(url.encode()).hexdigest()[:16]
        self.path = self.folder / name

    def root(self) -> tuple[bytes, str] | None:
        """The committed root document and its etag; None where there is no store."""
        return self.bucket.read(layout.ROOT_DOCUMENT)

    def open(self, manifest: Manifest) -> StoreFolder:
        """The store's folder, whose files come when they are opened."""
        self.keep_only(manifest)
        return _MirrorFolder(self, os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def keep_only(self, manifest: Manifest | None) -> None:
        """Make the folder, and throw away what another store of the same URL left in it."""
        identity = "" if manifest is None else _identity(manifest)
        mark = self.folder / _IDENTITY
        if mark.is_file() and mark.read_text() != identity:
            shutil.rmtree(self.folder)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.write_text(identity)

    def fetch(self, path: str) -> None:
        """Bring one file of the store here, unless it is here already. IntegrityError where it is gone."""
        target = self.path / path
        if target.is_file():
            os.utime(target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = durable.temporary(self.folder, "fetch")
        try:
            self.bucket.download(path, temporary)
            self._make_room(temporary.stat().st_size)
            temporary.replace(target)
        except FileNotFoundError:
            raise IntegrityError(
                f"{self.path.name}: {path} is not in {self.bucket.url}: it was deleted"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove the shards that were used longest ago, until ``size`` more bytes fit."""
        limit = int(os.environ.get("PYRAD_CACHE_BYTES", CACHE_BYTES))
        shards = [(f.stat(), f) for f in self.path.glob("parts/*/*/*/c/**/*") if f.is_file()]
        used = sum(status.st_size for status, _ in shards)
        for status, shard in sorted(shards, key=lambda found: found[0].st_mtime):
            if used + size <= limit:
                return
            shard.unlink()
            used -= status.st_size


class _MirrorFolder(StoreFolder):
    def __init__(self, mirror: Mirror, fd: int) -> None:
        super().__init__(fd, mirror.path.name)
        self._mirror = mirror

    def open(self, path: str, expected_bytes: int | None = None) -> int:
        self._mirror.fetch(path)
        return super().open(path, expected_bytes)


@dataclass(frozen=True, kw_only=True)
class Working:
    """Where a store is written, and what makes it seen once it is committed there."""

    folder: Path
    publish: Callable[[], None]


def committed(store: Path) -> Manifest | None:
    """What is committed in a store, in a folder or a bucket; None where there is no store. Writes nothing."""
    url = url_of(store)
    if url is None:
        return None if was_interrupted(store) else read_manifest(store)
    found = Mirror(url).root()
    return parse_root(found[0], store.name) if found else None


@contextmanager
def checked_out(store: Path) -> Iterator[Working]:
    """The folder in which a store is written: itself, or the working copy that ``publish`` sends up.

    Note [conditional commit]. StoreBusyError where another writer commits first, has claimed to, or is at
    work on this machine.
    """
    url = url_of(store)
    if url is None:
        yield Working(folder=store, publish=lambda: None)
        return
    mirror = Mirror(url, data_folder())
    with _locked(mirror):
        etag = _pull(mirror)

        def publish() -> None:
            _push(mirror, etag)

        yield Working(folder=mirror.path, publish=publish)


@contextmanager
def _locked(mirror: Mirror) -> Iterator[None]:
    """Keep other processes of this machine from one working copy; the lock outlives the copy's folder."""
    mirror.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(mirror.folder.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusyError(
                f"another process of this machine is writing {mirror.bucket.url}: wait for it to end"
            ) from None
        yield
    finally:
        os.close(fd)


def _pull(mirror: Mirror) -> str | None:
    """Bring the tables of the committed parts here; first send up what an earlier run committed here only."""
    found = mirror.root()
    local = mirror.path / layout.ROOT_DOCUMENT
    there = parse_root(found[0], mirror.path.name) if found else None
    if local.is_file() and (found is None or local.read_bytes() != found[0]):
        here = parse_root(local.read_bytes(), mirror.path.name)
        if not _was_sent(mirror) and here.parts[:-1] == (there.parts if there else ()):
            return _push(mirror, found[1] if found else None)
        shutil.rmtree(mirror.folder)  # somebody else has committed since, or removed the store
    mirror.keep_only(there)
    if found is None or there is None:
        return None
    Claim(mirror.bucket.url, there.parts[-1].id).give_up()  # left by a writer that died after its commit
    for part in there.parts:
        for file in part.files:
            if "/c/" not in file.path:
                mirror.fetch(file.path)
    mirror.fetch(f"{layout.PARTS}/{layout.ROOT_DOCUMENT}")
    local.write_bytes(found[0])
    _mark_sent(mirror, found[0], there)
    return found[1]


def _push(mirror: Mirror, etag: str | None) -> str | None:
    """Send the newest part up, its root last. Note [conditional commit]. Returns the new root's etag."""
    try:
        root = (mirror.path / layout.ROOT_DOCUMENT).read_bytes()
    except FileNotFoundError:  # nothing was committed
        return etag
    found = mirror.root()
    if found is not None and found[0] == root:
        return found[1]
    manifest = parse_root(root, mirror.path.name)
    claim = Claim(mirror.bucket.url, manifest.parts[-1].id, root)
    claim.take()
    found = mirror.root()  # under the claim: nobody else can commit now
    if (found[1] if found else None) != etag:
        _lose(mirror, claim)
    _send(mirror, manifest.parts[-1], manifest.file_salt)
    if not claim.is_held():
        raise StoreBusyError(f"the claim on {mirror.bucket.url} was taken away: nothing was committed")
    if not mirror.bucket.commit(layout.ROOT_DOCUMENT, root, etag):
        found = mirror.root()
        if found is None or found[0] != root:  # it is ours where the answer to the first try was lost
            _lose(mirror, claim)
    claim.give_up()
    (mirror.folder / _IDENTITY).write_text(_identity(manifest))
    _mark_sent(mirror, root, manifest)
    sent = mirror.root()
    return sent[1] if sent else None


def _send(mirror: Mirror, part: Part, file_salt: str) -> None:
    """Send the files of a claimed part up; what a dead writer left of another part of its number goes."""
    folder = f"{layout.PARTS}/{part.id}/"
    names = {file.path for file in part.files}
    for there in Bucket(f"{mirror.bucket.url}/{folder}").list():
        if folder + there.path not in names:
            mirror.bucket.delete(folder + there.path)
    for file in part.files:
        if not mirror.bucket.create(file.path, mirror.path / file.path):
            _settle(mirror, file, file_salt)
    mirror.bucket.create(f"{layout.PARTS}/{layout.ROOT_DOCUMENT}", layout.json_bytes(layout.group_document()))


def _lose(mirror: Mirror, claim: Claim) -> Never:
    """Give up a commit that another has overtaken; the next run starts from what is there."""
    claim.give_up()
    shutil.rmtree(mirror.folder)
    raise StoreBusyError(
        f"another ingest has committed to {mirror.bucket.url} in the meantime: run the same command again"
    )


def _mark_sent(mirror: Mirror, root: bytes, manifest: Manifest) -> None:
    """Note that a root is in the bucket, and drop the shards here: to add a part needs the tables alone."""
    (mirror.folder / _SENT).write_text(hashlib.sha256(root).hexdigest())
    for part in manifest.parts:
        for file in part.files:
            if "/c/" in file.path:
                (mirror.path / file.path).unlink(missing_ok=True)


def _was_sent(mirror: Mirror) -> bool:
    """Whether the root document of the working copy is one that went up, or came down."""
    sent = mirror.folder / _SENT
    root = (mirror.path / layout.ROOT_DOCUMENT).read_bytes()
    return sent.is_file() and sent.read_text() == hashlib.sha256(root).hexdigest()


def _settle(mirror: Mirror, file: FileEntry, file_salt: str) -> None:
    """An object of an uncommitted part is there already: ours from before, or a dead writer's, which goes."""
    there = durable.temporary(mirror.folder, "compare")
    try:
        mirror.bucket.download(file.path, there)
        with there.open("rb") as copy:
            same = durable.file_hash(copy.fileno(), file_salt) == file.sha256
    finally:
        there.unlink(missing_ok=True)
    if not same:
        mirror.bucket.replace(file.path, mirror.path / file.path)


def _identity(manifest: Manifest) -> str:
    """What tells a store from another that takes its place: its salt and its first part."""
    return hashlib.sha256(repr((manifest.file_salt, manifest.parts[0])).encode()).hexdigest()


def cache_folder() -> Path:
    """Where files of remote stores are kept for reading: ``$XDG_CACHE_HOME/pyrad`` or ``~/.cache/pyrad``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrad"


def data_folder() -> Path:
    """Where remote stores are written before they go up: ``$XDG_DATA_HOME/pyrad/working``."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "pyrad" / "working"
