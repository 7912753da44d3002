"""Options -> archives scanned, a plan made, shards written, a part committed, a summary.

Resuming is implied: the same command goes on where it was stopped, adds what is new to a store that is
there, and changes nothing where nothing is new.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

from pyrad.errors import QuarantineBudgetError, UsageError
from pyrad.ingest.assemble import Assembled, assemble, ledger_table, merge_equal, samples_table
from pyrad.ingest.book import Book
from pyrad.ingest.committed import other_labels, read_committed
from pyrad.ingest.grouping import assign, check_groups, recorded_split
from pyrad.ingest.layouts import Selection
from pyrad.ingest.layouts.arrange import Census
from pyrad.ingest.layouts.select import select
from pyrad.ingest.ledger import Ledger, quarantined_files, read_ledger, totals
from pyrad.ingest.memory import give_back
from pyrad.ingest.near.groups import find_near, join_groups, leave_out, take_sides
from pyrad.ingest.near.pictures import Thumbnails
from pyrad.ingest.near.report import Member, find_clusters, leave_report
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.plan import Bucket, Plan, make_plan, recorded_options, shaping_versions
from pyrad.ingest.prepare import Opened, label_files, list_sources, open_sources, scan_sources
from pyrad.ingest.preview import Preview, preview
from pyrad.ingest.privacy.audit import AuditLog
from pyrad.ingest.privacy.crosswalk import traces
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.ingest.privacy.names import Names
from pyrad.ingest.privacy.secret import Secret, resolve_secret
from pyrad.ingest.reasons import REASONS
from pyrad.ingest.scan import Share
from pyrad.ingest.series_percentiles import share_percentiles
from pyrad.ingest.settle import settle_files
from pyrad.ingest.shards import write_plan
from pyrad.ingest.summary import IngestSummary
from pyrad.ingest.workers.cluster import ClusterWorkers, cores, open_workers
from pyrad.ingest.workers.pool import Workers
from pyrad.progress import Reporter
from pyrad.records import SPLITS
from pyrad.store import luts, manifest, reader
from pyrad.store.bucket import place_of
from pyrad.store.layout import Profile
from pyrad.store.remote import Working, checked_out, committed
from pyrad.store.shard import ShardSpec
from pyrad.store.writer import StoreWriter

_SHOWN = 10  # quarantined files that are named one by one
_SELF_EVIDENT = frozenset({"not-in-table", "not-an-image", "mask"})


def run(
    options: IngestOptions,
    reporter: Reporter | None = None,
    only: Collection[str] | None = None,
    forgotten: Collection[str] = (),
) -> IngestSummary | Preview:
    """Bring the archives of ``options`` into its store and return what became of every file.

    With ``dry_run``, nothing is written but the cache of a remote store, and what would become of them is
    returned. Where ``only`` is given, other files than those that the ledger calls so are passed over: a part
    is made again as it was. The path of a file in two archives counts for both. ``forgotten`` are marks
    beside those of the store.

    UsageError, SecretError, UnsafeArchiveError, StoreBusyError and QuarantineBudgetError commit nothing;
    what was written before a signal or a full disk is taken up by the next run of the same command.
    """
    if options.dry_run:  # a working copy is left alone: checking it out may commit what is not yet sent
        return _run(options, None, reporter or Reporter(), only, forgotten)
    with checked_out(options.store) as working:
        return _run(options, working, reporter or Reporter(), only, forgotten)


def _run(
    options: IngestOptions,
    working: Working | None,
    reporter: Reporter,
    only: Collection[str] | None,
    forgotten: Collection[str],
) -> IngestSummary | Preview:
    began_s = time.monotonic()
    sources = open_sources(options)
    selection = select([source.listing for source in sources], options)
    there = committed(options.store)
    secret = resolve_secret(
        options.secret_file,
        key_check=there.key_check if there else None,
        store=options.store.name,
        must_be_given=options.on_shared_cluster,
    )
    share = Share(
        archives=tuple(source.archive for source in sources),
        options=options.scan_options(secret.subkey("file digests")),
        pixels_key=secret.subkey("pixel digests"),
        pictured=options.near_duplicates != "off",
    )
    private = PrivateFolder(options.private, secret.key_check)
    planning: dict[str, Any] = {
        "options": options,
        "reporter": reporter,
        "secret": secret,
        "names": Names(secret, options.group_by, [*(there.forgotten if there else ()), *forgotten]),
        "sources": sources,
        "only": only,
        "private": private,
    }
    if (
        working is None
    ):  # a dry run, always with this machine's processes: a cluster wants a folder to write in
        with (
            Workers(options.workers or cores(), share) as workers,
            Book() as book,
            nullcontext() if there is None else reader.open_store(options.store) as store,
        ):
            return _Planning(**planning, book=book, store=store, workers=workers).preview(selection)
    with (
        StoreWriter.open(
            working.folder,
            codec=cast("Profile | None", options.codec),
            key_check=secret.key_check,
            file_salt=secret.file_salt,
        ) as writer,
        open_workers(
            options, share, sources=[source.path for source in sources], working=writer.partial
        ) as workers,
        private.book(writer.path) as book,
        nullcontext() if writer.manifest is None else reader.open_store(options.store) as store,
    ):
        audit = AuditLog(private.path, secret)
        ingest = _Ingest(
            **planning,
            book=book,
            store=store,
            workers=workers,
            audit=audit,
            writer=writer,
            publish=working.publish,
        )
        return ingest.run(selection, began_s)


@dataclass(frozen=True, kw_only=True)
class _Planning:
    """One ingest until its pixels are read: what its steps share. Nothing but the book is written."""

    options: IngestOptions
    reporter: Reporter
    secret: Secret
    names: Names
    book: Book
    sources: Sequence[Opened]
    only: Collection[str] | None
    private: PrivateFolder
    store: reader.Store | None  # as it was before
    workers: Workers | ClusterWorkers

    def preview(self, selection: Selection) -> Preview:
        """Say what an ingest would do."""
        self.plan(selection)
        self._say(assign(self.book, self.options, self.names))
        result = preview(
            self.book,
            read_ledger(self.book),
            store=self.options.store.name,
            quarantine_share=self.options.quarantine_share,
        )
        self.reporter.result(result.as_record(), result.as_text())
        return result

    def plan(self, selection: Selection) -> Plan:
        """Scan, label and settle the files, and give each new frame its place."""
        self._say(selection.notes)
        if self.private.former.exists():
            self.reporter.say(
                f"{self.private.former} is of pyrad 0.1.0 and is not read: what it traces cannot be "
                f"found through {self.private.crosswalk.name}, which takes its place; keep both"
            )
        self._read_committed()
        found = self._scan(selection)
        listings = [source.listing for source in self.sources]
        self._say(label_files(self.book, found, listings, selection, self.options, self.names))
        settle_files(self.book, self.store, self.names, self.workers, self.reporter)
        plan = make_plan(
            self.book,
            options=self.options,
            digest_key=self.secret.subkey("plan digests"),
            base=self.store.fingerprint if self.store else "",
        )
        self._say(check_groups(self.book, self.options))
        self._say(other_labels(self.book))
        self._check_anything(plan)
        give_back()
        return plan

    def _say(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.reporter.say(note)

    def _read_committed(self) -> None:
        """Enter what the store holds already."""
        if self.store is None:
            return
        traces = self.private.traces(place_of(self.options.store))
        if not read_committed(self.book, self.store, traces):
            self.reporter.say(
                f"the private folder {self.private.path} knows nothing of {self.options.store.name}: new "
                f"images that "
                "look exactly like stored ones cannot be told; name the folder of the earlier ingests by "
                "--private"
            )

    def _scan(self, selection: Selection) -> list[Census]:
        sources = self.sources
        if self.only is not None:
            sources = [_chosen(source, self.names, self.only) for source in sources]
        list_sources(self.book, sources, selection, self.names)
        return scan_sources(self.book, sources, selection, self.names, self.workers, self.reporter)

    def _check_anything(self, plan: Plan) -> None:
        """UsageError where the sources hold nothing that is, was or should have been stored."""
        ledger = read_ledger(self.book)
        if plan.buckets or ledger.candidates:
            return
        reasons = ledger.by_reason()["skipped"]
        names = ", ".join(source.path.name for source in self.sources)
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        telling = [reason for reason in reasons if reason not in _SELF_EVIDENT]
        first = (telling or [""])[0]
        hint = f"; {first}: {REASONS[first][1]}" if first else ""
        raise UsageError(f"there is no image to store in {names} ({counts}){hint}")


@dataclass(frozen=True, kw_only=True)
class _Ingest(_Planning):
    """One ingest from its scan to its commit."""

    audit: AuditLog
    writer: StoreWriter
    publish: Callable[[], None]

    def run(self, selection: Selection, began_s: float) -> IngestSummary:
        """Plan, write, commit."""
        plan = self.plan(selection)
        self.secret.keep(self.reporter.say)
        with self.audit.event("ingest", **self._audit_facts(plan)) as outcome:
            self._check_budget()
            assembled, near = self._write(plan) if plan.buckets else (None, [])
            ledger = self._check_budget()
            self._record()
            part = self._commit(assembled) if assembled and assembled.images else None
            if part is None and plan.buckets:
                self.writer.discard()
            outcome |= {"part": part, "files": ledger.counts()}
            if self.writer.manifest is not None:
                outcome["fingerprint"] = hashlib.sha256(manifest.read_root(self.writer.path)).hexdigest()
        return self._summarise(ledger, assembled, near, part, began_s)

    def _audit_facts(self, plan: Plan) -> dict[str, Any]:
        options = json.dumps(recorded_options(self.options), sort_keys=True)
        return {
            "store": self.options.store.name,
            "sources": len(self.sources),
            "planned_images": plan.count,
            "options": self.secret.name("options", options),
        }

    def _check_budget(self) -> Ledger:
        """The ledger as it is; QuarantineBudgetError where too much is quarantined, whose files are told."""
        ledger = read_ledger(self.book)
        try:
            ledger.check_budget(self.options.quarantine_share)
        except QuarantineBudgetError:
            self._record()
            self._name_the_quarantined()
            raise
        return ledger

    def _write(self, plan: Plan) -> tuple[Assembled, list[list[Member]]]:
        """Write the shards and settle what follows from them: what is to be committed then is in the book.

        Also returns the clusters of near duplicates.
        """
        self.writer.begin(plan.digest)
        with self._thumbnails(plan) as thumbnails:
            with self.reporter.stage("write", plan.count, "images") as stage:
                arrays = write_plan(self.book, plan, self.writer, self.workers, thumbnails, stage)
            merge_equal(self.book)
            buckets = [(bucket, self.writer.shards(arrays[bucket.id])) for bucket in plan.buckets]
            near = self._split([(bucket, spec) for bucket, specs in buckets for spec in specs], thumbnails)
        share_percentiles(self.book, arrays, self.writer, self.workers, self.reporter)
        self.workers.dismiss()
        give_back()
        return assemble(self.book, arrays), near

    def _thumbnails(self, plan: Plan) -> AbstractContextManager[Thumbnails | None]:
        """Where near duplicates are looked for: room for what they are told by."""
        if self.options.near_duplicates == "off":
            return nullcontext()
        return Thumbnails(self.writer.partial, plan.count, len(self.store or ()))

    def _split(
        self, shards: Sequence[tuple[Bucket, ShardSpec]], thumbnails: Thumbnails | None
    ) -> list[list[Member]]:
        """Give every group its split; near duplicates are of one. Returns their clusters."""
        near = None
        if thumbnails is not None:
            near = find_near(self.book, thumbnails, shards, self.store, self.workers, self.reporter)
        group = self.options.near_duplicates == "group"
        if near is not None and group:
            join_groups(self.book, near)
            take_sides(self.book, near, own_splits=self.options.split is None)
        self._say(assign(self.book, self.options, self.names))
        if near is None:
            return []
        if group:
            leave_out(self.book, near)
        clusters = find_clusters(self.book, near, shards, self.store)
        if clusters:
            at = leave_report(self.private, self.options.store.name, self.writer.part_id, clusters)
            self.reporter.say(f"the near duplicates can be looked at: {at}")
        return clusters

    def _record(self) -> None:
        """Leave the way back from keys to files in the private folder, before the store can be seen."""
        archives = [source.path for source in self.sources]
        self.private.record(traces(self.book, place_of(self.options.store), archives))

    def _commit(self, assembled: Assembled) -> str:
        part = self.writer.part_id
        entries = list(assembled.arrays.values())
        masks = [self.writer.masks(assembled.arrays[bucket]) for bucket in sorted(assembled.masked)]
        rows = samples_table(self.book, assembled, self.options.keep_columns)
        self.writer.commit(
            [*entries, *masks],
            rows,
            ledger_table(self.book),
            lookup=luts.luts_table(assembled.luts),
            counts={str(outcome): count for outcome, count in totals(self.book).items()},
            split=recorded_split(self.book, self.options),
            options={**recorded_options(self.options), "versions": shaping_versions()},
        )
        self.publish()
        return part

    def _name_the_quarantined(self) -> None:
        named = [*quarantined_files(self.book, _SHOWN)]
        for name, reasons, detail in named:
            self.reporter.say(f"quarantined {name}: {reasons}{f' ({detail})' if detail else ''}")
        if named:
            self.reporter.say(
                f"pyrad relink names the files of the quarantined, from {self.private.crosswalk}"
            )

    def _summarise(
        self,
        ledger: Ledger,
        assembled: Assembled | None,
        near: Sequence[Sequence[Member]],
        part: str | None,
        began_s: float,
    ) -> IngestSummary:
        self._name_the_quarantined()
        now = self.writer.manifest
        splits = assembled.splits if assembled and part else dict.fromkeys(SPLITS, 0)
        written = next((p for p in now.parts if p.id == part), None) if now else None
        by_reason = ledger.by_reason()
        summary = IngestSummary(
            store=self.options.store.name,
            part=part,
            images=sum(splits.values()),
            splits={str(split): count for split, count in splits.items()},
            files={str(outcome): count for outcome, count in ledger.counts().items()},
            skipped=by_reason["skipped"],
            quarantined=by_reason["quarantined"],
            near_duplicates={"clusters": len(near), "images": sum(map(len, near))},
            store_images=now.samples if now else 0,
            source_bytes=self.book.one("SELECT sum(size) FROM file WHERE reason IS NOT 'not-in-table'") or 0,
            store_bytes=sum(file.bytes for file in written.files) if written else 0,
            seconds=time.monotonic() - began_s,
        )
        self.reporter.result(summary.as_record(), summary.as_text())
        return summary


def _chosen(source: Opened, names: Names, only: Collection[str]) -> Opened:
    members = tuple(member for member in source.members if names.source(member.path) in only)
    return replace(source, members=members)
