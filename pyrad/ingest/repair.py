"""A damaged store, and the archives it was made of -> the same bytes again, or what cannot be restored.

A store's bytes follow from its sources, options and secret. So a damaged part is made once more, beside the
store, from the files that its ledger names; where a file of the copy has the hash that the manifest promises,
it takes the damaged one's place. Nothing else is ever replaced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pyrad.errors import IntegrityError, NotAStoreError, UsageError
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.prepare import open_sources
from pyrad.ingest.privacy.audit import AuditLog
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.ingest.privacy.options import PrivateOptions
from pyrad.ingest.privacy.secret import resolve_secret
from pyrad.ingest.run import run
from pyrad.progress import Reporter
from pyrad.store import durable, layout, manifest
from pyrad.store.bucket import url_of
from pyrad.store.manifest import FileEntry, Manifest, Part
from pyrad.store.verify import verify

_SHOWN = 20
_WORK_FOLDER = "repair"  # in the store's working folder, which every writer empties


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(PrivateOptions):
    """The options of `pyrad verify`."""

    store: Path = field(metadata={"help": "the store, a folder NAME.zarr", "positional": True})
    rewrite_from: tuple[Path, ...] = field(
        default=(),
        metadata={"help": "archives the store was made of: what is damaged is made of them again"},
    )
    table: Path | None = field(
        default=None, metadata={"help": "the label table that the ingest was given", "metavar": "FILE"}
    )
    anatomy_table: Path | None = field(
        default=None, metadata={"help": "the anatomy table that the ingest was given", "metavar": "FILE"}
    )
    select: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "what the ingest was given as --select, where it had words in it (default: as recorded)",
            "metavar": "EXPR,...",
        },
    )
    burned_in: str | None = field(
        default=None,
        metadata={
            "help": "what the ingest was given as --burned-in, where it names a file (default: as recorded)",
            "metavar": "rules:FILE",
        },
    )
    workers: int | None = field(default=None, metadata={"help": "processes that read and decode"})

    def __post_init__(self) -> None:
        if self.rewrite_from and (url := url_of(self.store)):
            raise UsageError(
                f"{url} is on object storage, where files cannot be replaced safely: mend a copy on a disk "
                "and put it back, as docs/storage.md says; nothing was changed"
            )


def verify_store(options: VerifyOptions, reporter: Reporter) -> None:
    """Check a store; where archives are given, first restore what is damaged."""
    if options.rewrite_from:
        restored = repair(options, reporter)
        reporter.say(f"{restored} damaged files were restored" if restored else "no file is damaged")
    counts = verify(options.store, reporter=reporter)
    text = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    reporter.result(counts, f"{options.store.name} is whole: {text}")


def repair(options: VerifyOptions, reporter: Reporter) -> int:
    """Restore every damaged file of a store from its archives; returns how many there were.

    IntegrityError where the root itself is damaged, or a file comes out with other bytes than were committed:
    then other archives, options or versions made it, and the store keeps what it has.
    """
    store = options.store.resolve()
    there = manifest.read_manifest(store)
    if there is None:
        what = f"there is no {layout.ROOT_DOCUMENT} in it" if store.exists() else "it does not exist"
        raise NotAStoreError(f"{options.store} is no pyrad store: {what}")
    secret = resolve_secret(options.secret_file, key_check=there.key_check, store=store.name)
    open_sources(
        IngestOptions(src=options.rewrite_from, store=store)
    )  # a wrong path shows before damage does
    private = PrivateFolder(options.private, secret.key_check)
    with _locked(store, private) as folder:
        damaged = {
            number: files
            for number, part in enumerate(there.parts)
            if (files := [file for file in part.files if not _is_whole(store, file, there)])
        }
        if not damaged:
            return 0
        work = _Repair(
            store=store,
            there=there,
            folder=folder,
            private=private.workplace(store),
            options=options,
            reporter=reporter,
        )
        count = sum(map(len, damaged.values()))
        with AuditLog(private.path, secret).event("repair", store=store.name, files=count) as outcome:
            lost = [path for number, files in damaged.items() for path in work.restore(number, files)]
            outcome["lost"] = len(lost)
    if lost:
        raise IntegrityError(_lost_text(store.name, there, lost, count))
    return count


@contextmanager
def _locked(store: Path, private: PrivateFolder) -> Iterator[Path]:
    """Keep writers away; yields a folder to work in. What is in it, and what a killed run left, goes."""
    partial = store.with_name(store.name + ".partial")
    lock = durable.lock_folder(partial, store.name)
    folder = partial / _WORK_FOLDER
    try:
        private.drop_book(store)
        shutil.rmtree(folder, ignore_errors=True)
        yield folder
    finally:
        private.drop_book(store)
        shutil.rmtree(folder, ignore_errors=True)
        if not any(partial.iterdir()):
            partial.rmdir()
        os.close(lock)


def _lost_text(store: str, there: Manifest, lost: Sequence[str], count: int) -> str:
    """Why files could not be restored, and what to do."""
    names = "\n".join(sorted(lost)[:_SHOWN])
    if there.forgotten:
        advice = (
            "pyrad forget has changed this store: parts that it wrote anew, and those before which it took "
            "one away, cannot be made of archives again, whatever is given. Restore these files from a copy "
            "of the store that was made since"
        )
    else:
        advice = (
            "what was made of the archives has other bytes. Give the archives and options of the ingest that "
            "made the part, and install the versions of pyrad and its decoders of that time"
        )
    return f"{len(lost)} of {count} damaged files of {store} could not be restored: {advice}:\n{names}"


@dataclass(frozen=True, kw_only=True)
class _Repair:
    """One repair of a store: what the parts that are made again have in common."""

    store: Path
    there: Manifest
    folder: Path  # beside the store, to make a part in
    private: Path  # folder of the ingest that makes it
    options: VerifyOptions
    reporter: Reporter

    def restore(self, number: int, damaged: Sequence[FileEntry]) -> list[str]:
        """Make one part again and put its files in place; returns those that came out otherwise, by path."""
        part = self.there.parts[number]
        if not _is_next(self.there, number):
            return [file.path for file in damaged]
        self.reporter.say(
            f"part {part.id}: {len(damaged)} files are damaged; it is made again beside the store"
        )
        shutil.rmtree(self.folder, ignore_errors=True)  # of the part before
        twin = self.folder / self.store.name
        self._lay_earlier_parts(number, twin)
        ledger_is_damaged = any(file.path.endswith(layout.LEDGER_FILE) for file in damaged)
        self._ingest(part, twin, only=None if ledger_is_damaged else _ledger(self.store, part))
        if manifest.read_manifest(twin) is None:
            return [file.path for file in damaged]
        whole = [file for file in damaged if _is_whole(twin, file, self.there)]
        for file in whole:
            self._put_in_place(twin, file.path)
        return [file.path for file in damaged if file not in whole]

    def _lay_earlier_parts(self, number: int, twin: Path) -> None:
        """A store of the parts before this one, by hard links: what the part was added to."""
        earlier = self.there.parts[:number]
        if not earlier:
            return
        paths = [file.path for part in earlier for file in part.files]
        for path in [*paths, f"{layout.PARTS}/{layout.ROOT_DOCUMENT}"]:
            (twin / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(self.store / path, twin / path)
        counts = {**self.there.counts, "samples": sum(part.samples for part in earlier)}
        root = manifest.root_bytes(replace(self.there, parts=earlier, counts=counts))
        (twin / layout.ROOT_DOCUMENT).write_bytes(root)

    def _ingest(self, part: Part, twin: Path, only: frozenset[str] | None) -> None:
        """Add the part to the twin as it was added to the store, of the files that ``only`` names."""
        options = self.options
        ingest = IngestOptions(
            src=options.rewrite_from,
            store=twin,
            private=self.private,
            secret_file=options.secret_file,
            workers=options.workers,
            table=options.table,
            anatomy_table=options.anatomy_table,
            max_quarantine="100%",
            codec=self.there.codec,
            **_recorded(part, options),
        )
        run(ingest, Reporter("silent"), only=only, forgotten=self.there.forgotten)

    def _put_in_place(self, twin: Path, path: str) -> None:
        target = self.store / path
        durable.make_folders(self.store, path.rpartition("/")[0])
        (twin / path).replace(target)  # it was synced when it was written
        durable.sync_folder(target.parent)


def _is_next(there: Manifest, number: int) -> bool:
    """Whether an ingest into the parts before would give this number: `pyrad forget` gives others."""
    before = int(there.parts[number - 1].id) if number else 0
    return int(there.parts[number].id) == before + 1


def _recorded(part: Part, options: VerifyOptions) -> dict[str, Any]:
    """The options of the ingest, as far as the manifest has them."""
    known = {
        name: value for name, value in part.options.items() if name in IngestOptions.__dataclass_fields__
    }
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    if options.select or "select" in known:
        known["select"] = options.select or known["select"]
    if options.burned_in is not None:
        known["burned_in"] = options.burned_in
    if known.get("burned_in") == "rules":
        raise UsageError("the ingest had rules for burned-in text: give them by --burned-in rules:FILE")
    if part.split["source"] == "ratios":
        known["split"] = "/".join(str(ratio) for ratio in part.split["ratios"])
    return known


def _ledger(store: Path, part: Part) -> frozenset[str]:
    """What the ledger of a part calls the files of its ingest."""
    path = store / layout.PARTS / part.id / layout.LEDGER_FILE
    return frozenset(pq.read_table(path, columns=["source"])["source"].to_pylist())


def _is_whole(store: Path, file: FileEntry, there: Manifest) -> bool:
    """Whether a file has the size and the hash that the manifest promises."""
    try:
        fd = os.open(store / file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.fstat(fd).st_size == file.bytes and durable.file_hash(fd, there.file_salt) == file.sha256
    except OSError:
        return False
    finally:
        os.close(fd)
