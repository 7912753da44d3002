"""A list of patients -> a store without them, and a memory of that which only the secret can read.

# Note [forgetting]
1. The parts that held a patient are written anew without (`pyrad.store.remove`), under new numbers, and one
   replacement of the root commits them. Readers that hold the old root find their files gone, never others.
2. The old parts are deleted, and whatever an interrupted ingest had left in the working folder.
3. The rows of the crosswalk go.
A command that was stopped is run again with the same list: before the commit it begins anew, after it it
does what is left. Until then ``forget.pending`` in the private folder holds the keys and groups whose rows
must go.

What the store remembers is, for each line of the list, HMAC-SHA256 of the group's name under the secret
(`Names.mark`): an ingest that has the secret knows the patient again and skips the files as ``forgotten``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad.errors import UsageError
from pyrad.ingest.csvfile import row_list
from pyrad.ingest.privacy.audit import AuditLog
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.ingest.privacy.names import mark
from pyrad.ingest.privacy.options import PrivateOptions
from pyrad.ingest.privacy.patients import find_patients, read_list
from pyrad.ingest.privacy.secret import resolve_secret
from pyrad.ingest.privacy.trained import find_runs
from pyrad.progress import Reporter
from pyrad.store import durable, remove, shard
from pyrad.store.bucket import url_of
from pyrad.store.manifest import read_manifest
from pyrad.store.reader import Store, open_store
from pyrad.store.writer import StoreWriter

PENDING_FILE = "forget.pending"


@dataclass(frozen=True, kw_only=True)
class ForgetOptions(PrivateOptions):
    """The options of `pyrad forget`."""

    store: Path = field(metadata={"help": "the store, a folder NAME.zarr", "positional": True})
    patients: Path = field(
        metadata={
            "help": "whom to forget, one a line: a patient's id, or ID,ISSUER where it was stored with an "
            "issuer, or a group key of the store",
            "metavar": "FILE",
        }
    )
    unknown: str = field(
        default="refuse",
        metadata={
            "help": "lines that name nobody in the store: refuse them all, or remember them, so that they "
            "never enter it",
            "choices": ("refuse", "remember"),
        },
    )
    runs: tuple[Path, ...] = field(
        default=(),
        metadata={"help": "folders to search for models that were trained on the store", "metavar": "DIR"},
    )

    def __post_init__(self) -> None:
        choices = self.__dataclass_fields__["unknown"].metadata["choices"]
        if self.unknown not in choices:
            raise UsageError(f"--unknown {self.unknown!r}: allowed are {', '.join(choices)}")


def forget(options: ForgetOptions, reporter: Reporter) -> dict[str, Any]:
    """Remove patients from a store for good; returns what was done, as it is reported.

    UsageError where a line names nobody (by number, never by its text); SecretError, StoreBusyError. Nothing
    is changed unless all lines are settled.
    """
    if (url := url_of(options.store)) is not None:
        raise UsageError(
            f"{url} is on object storage, where old versions may outlive a deletion: forget in a copy on a "
            "disk and put it back, as docs/storage.md says; nothing was changed"
        )
    there = read_manifest(options.store)
    if there is None:
        raise UsageError(f"there is no store {options.store.name}")
    secret = resolve_secret(options.secret_file, key_check=there.key_check, store=options.store.name)
    private = PrivateFolder(options.private, secret.key_check)
    audit = AuditLog(private.path, secret)
    lines = read_list(options.patients)
    with (
        StoreWriter.open(
            options.store, codec=None, key_check=secret.key_check, file_salt=secret.file_salt
        ) as writer,
        open_store(options.store) as store,
    ):
        groups = store.samples["group"].combine_chunks()
        patients = find_patients(lines, pc.unique(groups).to_pylist(), store.manifest.forgotten, secret)
        if patients.unknown and options.unknown == "refuse":
            raise UsageError(
                f"--patients {options.patients}: {row_list(patients.unknown)} name nobody in "
                f"{options.store.name}, and nothing was changed; an id that was stored with its issuer needs "
                "it (ID,ISSUER); --unknown remember goes on, and keeps them out of the store in future"
            )
        with audit.event("forget", store=options.store.name, lines=len(lines)) as outcome:
            runs = tuple(find_runs(options.runs, store, _fingerprints(audit, options.store.name)))
            gone = _is_among(groups, patients.groups)
            # Images that only their key leads to: named by it, or near duplicates that joined the patient.
            by_key = _is_among(groups, patients.by_key) | (gone & _is_nameless(store))
            marked_images = {mark(secret, key) for key in _chosen(store, "key", by_key)}
            forgotten = sorted({*patients.marks, *marked_images, *store.manifest.forgotten})
            names = _note_pending(private, [*patients.groups, *_chosen(store, "key", gone)])
            writer.discard()  # what an interrupted ingest left may hold them
            private.drop_book(writer.path)  # likewise
            if gone.any() or forgotten != list(store.manifest.forgotten):
                sources = {trace.source for trace in private.find(names)}
                _commit_without(writer, store, gone, sources, forgotten, reporter)
            private.remove(names)
            (private.path / PENDING_FILE).unlink(missing_ok=True)
            outcome |= {
                "images": int(gone.sum()),
                "groups": len(patients.groups),
                "marked_groups": len(patients.marks),
                "marked_images": len(marked_images),
                "remembered": len(forgotten),
            }
    record = {"store": options.store.name, **outcome, "trained_on_it": list(runs)}
    reporter.result(record, _as_text(record))
    return record


def _is_among(groups: pa.Array, some: Collection[str]) -> NDArray[np.bool_]:
    chosen: NDArray[np.bool_] = pc.is_in(groups, pa.array(sorted(some), pa.string())).to_numpy(
        zero_copy_only=False
    )
    return chosen


def _is_nameless(store: Store) -> NDArray[np.bool_]:
    """Samples without a study and a series, so perhaps without a patient."""
    study, series = (_is_among(store.samples[name].combine_chunks(), [""]) for name in ("study", "series"))
    return study & series


def _chosen(store: Store, column: str, chosen: NDArray[np.bool_]) -> list[str]:
    values: list[str] = store.samples[column].filter(pa.array(chosen)).to_pylist()
    return values


def _commit_without(
    writer: StoreWriter,
    store: Store,
    gone: NDArray[np.bool_],
    sources: Collection[str],
    forgotten: Sequence[str],
    reporter: Reporter,
) -> None:
    """Write the parts that held something of it anew, and commit. Note [forgetting]."""
    ledgers = _ledgers(store, sources)
    ends = np.cumsum([part.samples for part in store.manifest.parts])
    keeps = np.split(~gone, ends[:-1])
    held = [
        not keep.all() or ledgers[part.id].names_them
        for part, keep in zip(store.manifest.parts, keeps, strict=True)
    ]
    parts = [part for part, is_held in zip(store.manifest.parts, held, strict=True) if not is_held]
    trees: dict[str, Path] = {}
    whole = zip(store.manifest.parts, keeps, held, strict=True)
    todo = [(part, keep) for part, keep, is_held in whole if is_held]
    shards = sum(entry.shards for part, _ in todo for entry in part.arrays)
    with reporter.stage("forget", shards, "shards") as stage, durable.disk_errors(store.path.name):
        for part, keep in todo:
            part_id = f"{int(writer.part_id) + len(trees):06d}"
            folder = writer.work_folder() / part_id
            ledger = ledgers[part.id].latest
            parts.append(
                remove.part_without(
                    store, part, keep, part_id=part_id, ledger=ledger, folder=folder, stage=stage
                )
            )
            trees[part_id] = folder / shard.TREE
    left = store.samples["group"].filter(pa.array(~gone))
    counts = _outcomes([ledger.latest for ledger in ledgers.values()])
    counts["groups"] = pc.count_distinct(left).as_py()
    writer.replace(parts, trees, counts=counts, forgotten=forgotten)


@dataclass(frozen=True, kw_only=True)
class _Ledger:
    """A part's ledger without the files that are forgotten."""

    latest: pa.Table  # rows of sources that no later part says more of: these may stand behind all others
    names_them: bool  # whether it named a file that is forgotten


def _ledgers(store: Store, sources: Collection[str]) -> dict[str, _Ledger]:
    """Each part's ledger without ``sources``; the newest word on a source counts, wherever it ends up."""
    forgotten = pa.array(sorted(sources), pa.string())
    said: set[str] = set()
    ledgers = {}
    for part in reversed(store.manifest.parts):
        whole = store.ledger(part)
        is_gone = pc.is_in(whole["source"], forgotten)
        is_old = pc.is_in(whole["source"], pa.array(sorted(said), pa.string()))
        latest = whole.filter(pc.invert(pc.or_(is_gone, is_old)))
        ledgers[part.id] = _Ledger(latest=latest, names_them=bool(pc.any(is_gone).as_py()))
        said |= set(whole["source"].to_pylist())
    return ledgers


def _outcomes(ledgers: Sequence[pa.Table]) -> dict[str, int]:
    """Sources by the worst outcome of their frames."""
    outcomes: dict[str, set[str]] = {}
    for table in ledgers:
        for source, outcome in zip(table["source"].to_pylist(), table["outcome"].to_pylist(), strict=True):
            outcomes.setdefault(source, set()).add(outcome)
    order = ("quarantined", "stored", "skipped")
    worst = [next(outcome for outcome in order if outcome in its) for its in outcomes.values()]
    return {outcome: worst.count(outcome) for outcome in ("stored", "skipped", "quarantined")}


def _note_pending(private: PrivateFolder, names: Sequence[str]) -> list[str]:
    """Note on the disk whose traces must go, with what a run that was stopped had noted; returns all."""
    pending = private.path / PENDING_FILE
    every = sorted({*names, *(json.loads(pending.read_bytes()) if pending.is_file() else ())})
    if every:
        durable.write_file(pending, json.dumps(every).encode(), private.path)
    return every


def _fingerprints(audit: AuditLog, store: str) -> frozenset[str]:
    """What the store has been, as far as the audit log knows."""
    entries = audit.check_chain().entries
    return frozenset(
        str(entry["fingerprint"])
        for entry in entries
        if entry.get("store") == store and "fingerprint" in entry
    )


def _as_text(record: Mapping[str, Any]) -> str:
    marks = f"{record['marked_groups']:,} groups and {record['marked_images']:,} single images"
    lines = [
        f"{record['store']} forgot {record['images']:,} images of {record['groups']:,} groups (patients)",
        f"marked against coming back: {marks}; with earlier ones {record['remembered']:,} marks",
    ]
    lines += [f"trained on it ({run['by']}): {run['run']}" for run in record["trained_on_it"]]
    return "\n".join(lines)
