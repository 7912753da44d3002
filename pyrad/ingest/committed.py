"""What a store holds already -> which frames of the archive are new, unchanged or contradict it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pyrad.ingest import pool
from pyrad.ingest.duplicates import File
from pyrad.ingest.ledger import ALREADY_STORED, STORED, Ledger
from pyrad.ingest.names import Names
from pyrad.ingest.private import Trace
from pyrad.ingest.scan import PixelDigests, Share
from pyrad.records import Source, Split
from pyrad.store import reader, tables
from pyrad.store.layout import LEDGER_FILE, PARTS

LedgerRow = tuple[str, str, int]  # outcome, reason, frames

_COMPARED = (
    *("rows", "columns", "slope", "intercept", "photometric", "bits_stored", "lossy"),
    *("laterality", "view", "sex", "age_band", "manufacturer"),
)
_IMAGES_A_TASK = 64


@dataclass(frozen=True, kw_only=True)
class Committed:
    """A store before this ingest; empty for a new one."""

    store: reader.Store | None = None
    traces: Sequence[Trace] = ()  # what the private folder knows of it
    index: Mapping[str, int] = field(default_factory=dict)  # key -> sample
    groups: Mapping[str, Split] = field(default_factory=dict)
    ledger: Mapping[str, frozenset[LedgerRow]] = field(default_factory=dict)  # source -> its latest rows

    @cached_property
    def _proofs(self) -> frozenset[tuple[str, str]]:
        """(key, digest of a file's bytes): files that are known to be the committed image."""
        good = (STORED, "duplicate")
        return frozenset((trace.key, trace.digest) for trace in self.traces if trace.reason in good)

    def proven(self, key: str, digest: str) -> bool:
        """Whether the committed image of ``key`` was made of a file with just these bytes, or equals it."""
        return (key, digest) in self._proofs

    def was_dropped(self, key: str, source: str) -> bool:
        """Whether a committed ingest found the frame to be a pixel duplicate of another and left it out."""
        if all(reason != "duplicate-pixels" for _, reason, _ in self.ledger.get(source, ())):
            return False
        known = [trace for trace in self.traces_of_key.get(key, ()) if trace.reason == "duplicate-pixels"]
        if self.traces:
            return any(trace.pixels in self.groups_of_pixels for trace in known)
        # The private folder is not at hand: the ledger knows the file, though not its bytes.
        return len(self.ledger[source]) == 1

    @cached_property
    def traces_of_key(self) -> dict[str, list[Trace]]:
        """Traces by key."""
        by_key: dict[str, list[Trace]] = defaultdict(list)
        for trace in self.traces:
            by_key[trace.key].append(trace)
        return by_key

    @cached_property
    def groups_of_pixels(self) -> dict[str, set[str]]:
        """Keyed digest of pixels -> groups that have a committed image of them, as far as the traces know."""
        groups: dict[str, set[str]] = defaultdict(set)
        if self.store is not None:
            column = self.store.samples["group"]
            for trace in self.traces:
                if trace.reason == STORED and trace.pixels and trace.key in self.index:
                    groups[trace.pixels].add(column[self.index[trace.key]].as_py())
        return groups

    def row(self, key: str) -> dict[str, Any]:
        """The committed samples row of ``key``."""
        assert self.store is not None  # noqa: S101
        at = self.index[key]
        return {name: self.store.samples[name][at].as_py() for name in self.store.samples.column_names}


def read_committed(store: reader.Store, traces: Sequence[Trace]) -> Committed:
    """Keys, groups and ledger of a store."""
    keys = store.samples["key"].to_pylist()
    groups = zip(store.samples["group"].to_pylist(), store.samples["split"].to_pylist(), strict=True)
    ledger: dict[str, frozenset[LedgerRow]] = {}
    for part in store.manifest.parts:
        name = f"{PARTS}/{part.id}/{LEDGER_FILE}"
        with tables.open_parquet(str(store.path / name), name) as file:
            rows = tables.read_columns(file, None, name).to_pylist()
        latest: dict[str, set[LedgerRow]] = defaultdict(set)
        for row in rows:
            latest[row["source"]].add((row["outcome"], row["reason"], row["frames"]))
        ledger |= {source: frozenset(its) for source, its in latest.items()}
    return Committed(
        store=store,
        traces=traces,
        index={key: at for at, key in enumerate(keys)},
        groups=dict(groups),
        ledger=ledger,
    )


def unproven_keys(files: Sequence[File], committed: Committed) -> set[str]:
    """Keys whose committed image must be compared with the file that claims it now."""
    return {
        key
        for file in files
        if file.has_uid
        for key in file.keys
        if key in committed.index and not committed.proven(key, file.digest)
    }


StoredTask = tuple[str, tuple[int, ...]]


def stored_tasks(keys: set[str], committed: Committed) -> tuple[list[str], list[StoredTask]]:
    """Tasks for `digest_stored`, and the keys in the order of their results."""
    ordered = sorted(keys)
    indices = [committed.index[key] for key in ordered]
    path = str(committed.store.path) if committed.store else ""
    chunks = range(0, len(indices), _IMAGES_A_TASK)
    return ordered, [(path, tuple(indices[at : at + _IMAGES_A_TASK])) for at in chunks]


def digest_stored(task: StoredTask) -> list[str]:
    """In a worker: keyed digests of the pixels of committed samples."""
    share: Share = pool.shared()
    path, indices = task
    with reader.open_store(path) as store:
        digests = [share.pixel_digest(store.image(index)) for index in indices]
    pool.count_done(len(indices))
    return digests


def split_new(
    files: Sequence[File],
    committed: Committed,
    *,
    pixels: Mapping[str, PixelDigests],
    stored_pixels: Mapping[str, str],
    names: Names,
    ledger: Ledger,
) -> list[File]:
    """Files with their new frames only; ``ledger`` learns which others are stored, dropped or in conflict.

    ``pixels`` (by digest of the file's bytes) and ``stored_pixels`` (by key) are of the frames that
    `unproven_keys` named.
    """
    new: list[File] = []
    for file in files:
        known = [position for position, key in enumerate(file.keys) if key in committed.index]
        if not all(_unchanged(file, at, committed, pixels, stored_pixels, names) for at in known):
            ledger.add(file.id, "uid-conflict", len(file.keys))
            continue
        source = names.source(file.id[1])
        dropped = [
            position
            for position, key in enumerate(file.keys)
            if key not in committed.index and committed.was_dropped(key, source)
        ]
        for reason, positions in ((ALREADY_STORED, known), ("duplicate-pixels", dropped)):
            if positions:
                ledger.add(file.id, reason, len(positions))
        left = [at for at in range(len(file.keys)) if at not in {*known, *dropped}]
        if left:
            new.append(
                replace(
                    file,
                    sources=tuple(file.sources[at] for at in left),
                    keys=tuple(file.keys[at] for at in left),
                )
            )
    return new


def relabelled(files: Sequence[File], committed: Committed) -> int:
    """How many frames are stored without a label that a layout gives them now."""
    if committed.store is None:
        return 0
    labels = committed.store.samples["labels"]
    return sum(
        key in committed.index and not set(source.labels) <= set(labels[committed.index[key]].as_py())
        for file in files
        for key, source in zip(file.keys, file.sources, strict=True)
    )


def _unchanged(
    file: File,
    position: int,
    committed: Committed,
    pixels: Mapping[str, PixelDigests],
    stored_pixels: Mapping[str, str],
    names: Names,
) -> bool:
    key = file.keys[position]
    if not file.has_uid or committed.proven(key, file.digest):
        return True
    found = pixels.get(file.digest)
    return (
        found is not None
        and found.frames[position] == stored_pixels[key]
        and _attributes(file.sources[position], names) == _row_attributes(committed.row(key))
    )


def _attributes(source: Source, names: Names) -> dict[str, Any]:
    attributes = {name: getattr(source, name) for name in _COMPARED}
    return attributes | {
        "study": names.study(source),
        "series": names.series(source),
        "window": [(window.center, window.width) for window in source.windows],
        "voi_function": source.windows[0].function if source.windows else None,
        "padding": source.padding,
        "spacing_mm": source.spacing_mm,
    }


def _row_attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    spacing = row["spacing_mm"]
    return {name: row[name] for name in (*_COMPARED, "study", "series", "voi_function")} | {
        "window": list(zip(row["window_center"], row["window_width"], strict=True)),
        "padding": None if row["padding_low"] is None else (row["padding_low"], row["padding_high"]),
        "spacing_mm": None if spacing is None else tuple(spacing),
    }
