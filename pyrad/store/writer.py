"""Finished shards, a samples table and a ledger -> one more part of a store, committed by one rename.

# Note [manifest last]
A part is built in NAME.zarr.partial, moved into NAME.zarr/parts as a whole, and only then does the root
``zarr.json`` that names it replace the one before. A reader sees the old commit or the new one, never a
mixture; a writer killed at any moment leaves the old root valid, and what it had finished is taken up by
the next run.

    NAME.zarr.partial/            locked (flock) while a writer lives
        plan.json                 the plan that is being carried out, by digest, and the part it makes
        <digest>/tree/            the part as it will be committed
        <digest>/shards/          a sidecar for each finished shard
        <digest>/temporary/       files that are not whole yet
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from pyrad.errors import IntegrityError, NotAStoreError, PyradError, SecretError, UsageError
from pyrad.store import durable, layout, luts, manifest, part, shard, tables
from pyrad.store.layout import ArrayEntry, Profile
from pyrad.store.manifest import Manifest, Part
from pyrad.store.shard import ShardResult, ShardSpec

PLAN_FILE = "plan.json"
DEFAULT_CODEC: Profile = "tilepack-mixed"
_UNPLANNED = "0" * 16  # beside the folders that are named after a plan's digest
_PLAN_FOLDER = re.compile(r"[0-9a-f]{16}")


class StoreWriter:
    """The one writer of a store, from its lock to its commit; made by `StoreWriter.open`, used as a context.

    Leaving the context without a commit keeps the working folder where a plan was begun, so that the same
    plan resumes, and removes it otherwise.
    """

    def __init__(self, path: Path, lock_fd: int, codec: Profile, key_check: str, file_salt: str) -> None:
        self.path = path
        self.partial = _partial_of(path)
        self.codec = codec
        self.manifest: Manifest | None = None
        self.part_id = "000001"
        self._lock_fd = lock_fd
        self._key_check = key_check
        self._file_salt = file_salt
        self._folder: Path | None = None  # the plan's working folder

    @classmethod
    def open(cls, path: str | Path, *, codec: Profile | None, key_check: str, file_salt: str) -> Self:
        """Lock the store at ``path``, new or not, for writing.

        ``codec`` None means the store's own, or tilepack-mixed for a new one. ``key_check`` (16 hex) and
        ``file_salt`` (32 hex) follow from the secret. StoreBusyError where another process writes it;
        SecretError where the store was made with another secret; UsageError where it has another codec;
        NotAStoreError where the path holds something else.
        """
        store = Path(path).resolve()
        with durable.disk_errors(f"beside {store.name}"):
            resuming = manifest.was_interrupted(store)
            lock_fd = durable.lock_folder(_partial_of(store), store.name)
        writer = cls(store, lock_fd, codec or DEFAULT_CODEC, key_check, file_salt)
        try:
            with durable.disk_errors(store.name):
                writer._load(codec, resuming=resuming)
        except BaseException:
            writer._close()
            raise
        return writer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def begin(self, plan_digest: str) -> None:
        """Start or resume the plan of this digest (16 hex characters or more); another plan's work goes.

        The digest must cover everything that shapes the part's bytes and is not the store's own: sources,
        options and what is already committed.
        """
        if re.fullmatch(r"[0-9a-f]{16,128}", plan_digest) is None:
            raise PyradError("a plan's digest is at least 16 hexadecimal characters")
        plan = {"digest": plan_digest, "part": self.part_id}
        with durable.disk_errors(f"{self.path.name}'s plan"):
            if self._plan() != plan:
                self._empty()
            folder = self.partial / plan_digest[:16]
            for name in ("", shard.TREE, shard.SIDECARS, shard.TEMPORARIES):
                (folder / name).mkdir(exist_ok=True)
            for leftover in (folder / shard.TEMPORARIES).iterdir():
                leftover.unlink()
            if self._plan() != plan:
                durable.write_file(
                    self.partial / PLAN_FILE, layout.json_bytes(plan), folder / shard.TEMPORARIES
                )
        self._folder = folder

    def images(self, *, count: int, rows: int, columns: int, planes: int, dtype: str) -> ArrayEntry:
        """Name the bucket for ``count`` images of one geometry. UsageError where it breaks a limit."""
        entry = layout.image_array(
            self.part_id, count=count, rows=rows, columns=columns, planes=planes, dtype=dtype
        )
        for fault in layout.array_faults(entry, self.part_id):
            raise UsageError(f"a store cannot hold images of {rows} x {columns} {dtype}: {fault}")
        return entry

    def masks(self, entry: ArrayEntry) -> ArrayEntry:
        """The array for the masks of a bucket: uint8, the same rows in the same shards."""
        return layout.masks_of(entry)

    def shards(self, entry: ArrayEntry) -> list[ShardSpec]:
        """The shards of an array, each to be written by `store.segments`."""
        if self._folder is None:
            raise PyradError("begin() names the plan before its shards can be written")
        return shard.specs_of(entry, folder=self._folder, profile=self.codec, file_salt=self._file_salt)

    def finished(self, spec: ShardSpec) -> ShardResult | None:
        """What an earlier run of the same plan made of this shard, or None; recognised by its hash."""
        return shard.finished_shard(spec)

    def discard(self) -> None:
        """Throw away whatever is not committed."""
        with durable.disk_errors(self.partial.name):
            self._empty()
        self._folder = None

    def commit(
        self,
        arrays: Iterable[ArrayEntry],
        samples: pa.Table,
        ledger: pa.Table,
        *,
        lookup: pa.Table | None = None,
        counts: Mapping[str, int],
        split: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Manifest:
        """Add the part to the store: every shard of ``arrays`` must be finished. Returns the new manifest.

        ``lookup`` are the tables that samples rows name (`luts.luts_table`), None where they name none.
        ``counts`` are the store's totals after this commit (stored, skipped, quarantined); samples and
        groups are counted here. ``split`` and ``options`` replace the manifest's. PyradError where a table
        is not fit.
        """
        if self._folder is None:
            raise PyradError("begin() names the plan before it can be committed")
        entries = part.with_offsets(arrays)
        results = [(spec, part.result_of(spec)) for entry in entries for spec in self.shards(entry)]
        tables.checked_ledger(ledger)
        tables.checked_samples(samples)
        luts.checked_luts(lookup, samples)
        part.check_rows(samples, entries, results)
        groups = part.check_keys(samples, self.path, () if self.manifest is None else self.manifest.parts)
        with durable.disk_errors(self.path.name):
            files = part.write_files(
                self._folder,
                part_id=self.part_id,
                codec=self.codec,
                file_salt=self._file_salt,
                entries=entries,
                results=results,
                samples=samples,
                ledger=ledger,
                lookup=lookup,
            )
            old = () if self.manifest is None else self.manifest.parts
            forgotten = () if self.manifest is None else self.manifest.forgotten
            added = Part(
                id=self.part_id,
                samples=len(samples),
                arrays=entries,
                files=files,
                split=dict(split),
                options=dict(options),
            )
            new = Manifest(
                format=manifest.FORMAT,
                codec=self.codec,
                key_check=self._key_check,
                file_salt=self._file_salt,
                counts={**counts, "samples": sum(p.samples for p in old) + len(samples), "groups": groups},
                parts=(*old, added),
                forgotten=forgotten,
            )
            tree = self._folder / shard.TREE
            self._publish(new, {self.part_id: tree}, self._folder / shard.TEMPORARIES)
            self._empty()
        self._folder = None
        self.manifest = new
        self.part_id = f"{int(self.part_id) + 1:06d}"
        return new

    def replace(
        self,
        parts: Sequence[Part],
        trees: Mapping[str, Path],
        *,
        counts: Mapping[str, int],
        forgotten: Sequence[str],
    ) -> Manifest:
        """Commit ``parts`` in the place of all that there are, then delete those that are gone.

        ``trees`` holds, by id, the folder with the files of each new part. ``counts`` are the store's totals.
        A crash leaves the old commit or the new one; what it left over goes when the store is next opened for
        writing.
        """
        assert self.manifest is not None  # noqa: S101 - only what is there can be replaced
        new = dataclasses.replace(
            self.manifest,
            format=manifest.FORMAT,
            parts=tuple(parts),
            counts={**counts, "samples": sum(part.samples for part in parts)},
            forgotten=tuple(forgotten),
        )
        with durable.disk_errors(self.path.name):
            self._publish(new, trees, self.work_folder())
            self.manifest = new
            self.part_id = f"{int(new.parts[-1].id) + 1:06d}"
            self._take_back()  # nothing names the old parts now
            self._empty()
        return new

    def work_folder(self) -> Path:
        """A folder for work that is never resumed; it goes with whatever else is not committed."""
        folder = self.partial / _UNPLANNED
        folder.mkdir(exist_ok=True)
        return folder

    def _load(self, codec: Profile | None, *, resuming: bool) -> None:
        """Read what is committed and take back a part that a crash left between move and commit."""
        try:
            self.manifest = manifest.read_manifest(self.path)
        except NotAStoreError:
            if not resuming:
                raise
        if self.manifest is not None:
            old = self.manifest
            if (old.key_check, old.file_salt) != (self._key_check, self._file_salt):
                raise SecretError(
                    f"{self.path.name} was made with another secret: give that one (--secret-file or "
                    "PYRAD_SECRET), or ingest into a new store"
                )
            if codec is not None and codec != old.codec:
                raise UsageError(f"{self.path.name} has codec {old.codec}, not {codec}: leave --codec out")
            self.codec = old.codec
            self.part_id = f"{int(old.parts[-1].id) + 1:06d}"
        self._take_back()

    def _take_back(self) -> None:
        committed = set() if self.manifest is None else {done.id for done in self.manifest.parts}
        parts = self.path / layout.PARTS
        if parts.is_dir():
            for entry in sorted(os.scandir(parts), key=lambda found: found.name):
                if layout.PART_ID.fullmatch(entry.name) is None or entry.name in committed:
                    continue
                plan = self._plan()
                tree = self.partial / str((plan or {}).get("digest", ""))[:16] / shard.TREE
                if (
                    plan is not None
                    and plan["part"] == entry.name
                    and tree.parent.is_dir()
                    and not tree.exists()
                ):
                    Path(entry.path).rename(tree)
                    durable.sync_folder(tree.parent)
                else:
                    durable.remove_tree(Path(entry.path))
                durable.sync_folder(parts)
        plan = self._plan()
        if plan is not None and plan["part"] != self.part_id:  # its commit had succeeded
            self._empty()

    def _publish(self, new: Manifest, trees: Mapping[str, Path], temporaries: Path) -> None:
        """Move each new part's tree in, then replace the root. Note [manifest last]."""
        root = manifest.root_bytes(new)
        try:
            manifest.parse_root(root, self.path.name)
        except IntegrityError as error:  # refused here, before anything moves
            raise PyradError(f"the commit could not be read back: {error}") from None
        if not self.path.is_dir():
            self.path.mkdir()
            durable.sync_folder(self.path.parent)
        parts = durable.make_folders(self.path, layout.PARTS)
        group = parts / layout.ROOT_DOCUMENT
        if not group.exists():
            durable.write_file(group, layout.json_bytes(layout.group_document()), temporaries)
        for part_id, tree in trees.items():
            tree.rename(parts / part_id)
            durable.sync_folder(parts)
            durable.sync_folder(tree.parent)
        durable.write_file(self.path / layout.ROOT_DOCUMENT, root, temporaries)

    def _plan(self) -> dict[str, str] | None:
        try:
            plan = json.loads((self.partial / PLAN_FILE).read_bytes())
        except (OSError, ValueError):
            return None
        return plan if isinstance(plan, dict) and set(plan) == {"digest", "part"} else None

    def _empty(self) -> None:
        """Remove all work in progress, the plan first: without it nothing else is taken up."""
        (self.partial / PLAN_FILE).unlink(missing_ok=True)
        for entry in sorted(os.scandir(self.partial), key=lambda found: found.name):
            if _PLAN_FOLDER.fullmatch(entry.name):  # nothing but our own folders
                durable.remove_tree(Path(entry.path))

    def _close(self) -> None:
        """Give the lock back; a working folder without a plan goes first."""
        if self._lock_fd < 0:
            return
        try:
            if not (self.partial / PLAN_FILE).exists():
                self._empty()
                self.partial.rmdir()
        except OSError:
            pass  # it is only a leftover; the next writer takes it
        finally:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _partial_of(path: Path) -> Path:
    return path.with_name(path.name + layout.PARTIAL)
