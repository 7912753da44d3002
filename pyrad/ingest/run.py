"""Options -> archives scanned, a plan made, shards written, a part committed, a summary.

Resuming is implied: the same command goes on where it was stopped, adds what is new to a store that is
there, and changes nothing where nothing is new.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyrad.errors import UsageError
from pyrad.ingest.assemble import Assembled, assemble
from pyrad.ingest.audit import AuditLog
from pyrad.ingest.cluster import ClusterWorkers, open_workers
from pyrad.ingest.committed import Committed, read_committed
from pyrad.ingest.duplicates import File
from pyrad.ingest.layouts import Selection
from pyrad.ingest.layouts.select import select
from pyrad.ingest.ledger import STORED, Ledger
from pyrad.ingest.names import Names
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.plan import Geometry, Plan, make_plan, recorded_options
from pyrad.ingest.pool import Workers
from pyrad.ingest.prepare import Opened, label_files, open_sources, scan_sources, settle_files
from pyrad.ingest.private import CROSSWALK_FILE, PrivateFolder, Trace
from pyrad.ingest.reasons import REASONS
from pyrad.ingest.scan import FileScan, Share
from pyrad.ingest.secret import Secret, resolve_secret
from pyrad.ingest.summary import IngestSummary
from pyrad.ingest.write import Fact, ShardTask, write_shards
from pyrad.progress import Reporter
from pyrad.records import SPLITS
from pyrad.store import luts, manifest, reader, tables
from pyrad.store.layout import ArrayEntry, Profile
from pyrad.store.writer import StoreWriter

_SHOWN = 10  # quarantined files that are named one by one
_SELF_EVIDENT = frozenset({"not-in-table", "not-an-image", "mask"})


def run(options: IngestOptions, reporter: Reporter | None = None) -> IngestSummary:
    """Bring the archives of ``options`` into its store and return what became of every file.

    UsageError, SecretError, UnsafeArchiveError, StoreBusyError and QuarantineBudgetError commit nothing;
    what was written before a signal or a full disk is taken up by the next run of the same command.
    """
    reporter = reporter or Reporter()
    began_s = time.monotonic()
    sources = open_sources(options)
    selection = select([source.listing for source in sources], options)
    there = manifest.read_manifest(options.store)
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
    )
    private = PrivateFolder(options.private, secret.key_check)
    with (
        StoreWriter.open(
            options.store,
            codec=_profile(options),
            key_check=secret.key_check,
            file_salt=secret.file_salt,
        ) as writer,
        open_workers(
            options, share, sources=[source.path for source in sources], working=writer.partial
        ) as workers,
    ):
        ingest = _Ingest(
            options=options,
            reporter=reporter,
            secret=secret,
            names=Names(secret, options.group_by, there.forgotten if there else ()),
            ledger=Ledger(),
            sources=sources,
            private=private,
            audit=AuditLog(private.path, secret),
            writer=writer,
            workers=workers,
        )
        committed = ingest.committed()
        try:
            return ingest.run(selection, committed, began_s)
        finally:
            if committed.store is not None:
                committed.store.close()


@dataclass(frozen=True, kw_only=True)
class _Ingest:
    """One ingest from its scan to its commit: what its steps share."""

    options: IngestOptions
    reporter: Reporter
    secret: Secret
    names: Names
    ledger: Ledger
    sources: Sequence[Opened]
    private: PrivateFolder
    audit: AuditLog
    writer: StoreWriter
    workers: Workers | ClusterWorkers

    def run(self, selection: Selection, committed: Committed, began_s: float) -> IngestSummary:
        for note in selection.notes:
            self.reporter.say(note)
        scans = scan_sources(self.sources, selection, self.workers, self.reporter, self.ledger)
        files, notes = label_files(scans, self.sources, selection, self.options, self.names, self.ledger)
        new = settle_files(files, committed, self.names, self.workers, self.reporter, self.ledger)
        plan = make_plan(
            new.files,
            slice_index=new.slice_index,
            groups=committed.groups,
            options=self.options,
            names=self.names,
            digest_key=self.secret.subkey("plan digests"),
            base=committed.store.fingerprint if committed.store else "",
        )
        if new.relabelled:
            notes.append(
                f"{new.relabelled} images are stored with other labels than those given now and keep them; "
                "a new store takes the new labels"
            )
        for note in (*notes, *plan.notes):
            self.reporter.say(note)
        self._check_anything(plan)
        self.secret.keep(self.reporter.say)
        with self.audit.event("ingest", **self._audit_facts(plan)) as outcome:
            share = self.options.quarantine_share
            self.ledger.check_budget(share, pending={file.id for file in new.files})
            assembled = self._write(plan, committed) if plan.samples else None
            self.ledger.check_budget(share)
            self._record(scans, files, assembled, plan, committed)
            part = self._commit(plan, assembled, committed) if assembled and assembled.samples else None
            if part is None and plan.samples:
                self.writer.discard()
            outcome |= {"part": part, "files": self.ledger.counts()}
            if self.writer.manifest is not None:
                outcome["fingerprint"] = hashlib.sha256(manifest.read_root(self.writer.path)).hexdigest()
        return self._summarise(assembled, part, began_s)

    def _audit_facts(self, plan: Plan) -> dict[str, Any]:
        options = json.dumps(recorded_options(self.options), sort_keys=True).encode()
        return {
            "store": self.options.store.name,
            "sources": len(self.sources),
            "planned_images": len(plan.samples),
            "options": self.secret.name("options", options),
        }

    def committed(self) -> Committed:
        """What the store holds already."""
        if self.writer.manifest is None:
            return Committed()
        traces = self.private.traces(str(self.writer.path))
        if not traces:
            self.reporter.say(
                f"the private folder {self.private.path} knows nothing of {self.options.store.name}: new "
                f"images that "
                "look exactly like stored ones cannot be told; name the folder of the earlier ingests by "
                "--private"
            )
        return read_committed(reader.open_store(self.options.store), traces)

    def _check_anything(self, plan: Plan) -> None:
        """UsageError where the sources hold nothing that is, was or should have been stored."""
        if plan.samples or self.ledger.candidates:
            return
        reasons = self.ledger.by_reason()["skipped"]
        names = ", ".join(source.path.name for source in self.sources)
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        telling = [reason for reason in reasons if reason not in _SELF_EVIDENT]
        first = (telling or [""])[0]
        hint = f"; {first}: {REASONS[first][1]}" if first else ""
        raise UsageError(f"there is no image to store in {names} ({counts}){hint}")

    def _write(self, plan: Plan, committed: Committed) -> Assembled:
        """Write every shard that an earlier run of this plan did not finish."""
        self.writer.begin(plan.digest)
        arrays: dict[Geometry, ArrayEntry] = {}
        facts: dict[Geometry, list[list[Fact]]] = {}
        tasks: list[ShardTask] = []
        places: list[tuple[Geometry, int]] = []
        with self.reporter.stage("write", len(plan.samples), "images") as stage:
            for geometry, positions in plan.buckets.items():
                entry = self.writer.images(
                    count=len(positions),
                    rows=geometry.rows,
                    columns=geometry.columns,
                    planes=geometry.planes,
                    dtype=geometry.dtype,
                )
                arrays[geometry] = entry
                specs = self.writer.shards(entry)
                sources = (plan.samples[at].source for at in positions)
                masked = any(source.masks or source.outlines or source.segments for source in sources)
                mask_specs = self.writer.shards(self.writer.masks(entry)) if masked else [None] * len(specs)
                facts[geometry] = [[] for _ in specs]
                for spec, mask_spec in zip(specs, mask_specs, strict=True):
                    done = self.writer.finished(spec)
                    if done is not None and (
                        mask_spec is None or self.writer.finished(mask_spec) is not None
                    ):
                        facts[geometry][spec.shard] = [Fact.from_json(values) for values in done.facts]
                        stage.advance(spec.slots, "resumed")
                        continue
                    slots = tuple(plan.samples[at] for at in positions[spec.first : spec.first + spec.slots])
                    tasks.append(ShardTask(images=spec, masks=mask_spec, slots=slots))
                    places.append((geometry, spec.shard))
            for number, result in write_shards(self.workers, tasks, stage):
                geometry, shard = places[number]
                facts[geometry][shard] = result
        flat = {geometry: [fact for its in shards for fact in its] for geometry, shards in facts.items()}
        return assemble(plan, arrays, flat, committed, self.ledger)

    def _record(
        self,
        scans: Iterable[FileScan],
        files: Sequence[File],
        assembled: Assembled | None,
        plan: Plan,
        committed: Committed,
    ) -> None:
        """Leave the way back from keys to files in the private folder, before the store can be seen."""
        frames = {file.id: file for file in files}
        traces = []
        for scan in scans:
            common: dict[str, Any] = {
                "store": str(self.writer.path),
                "source": self.names.source(scan.path),
                "archive": str(self.sources[scan.archive].path),
                "path": scan.path,
                "digest": scan.digest,
                "detail": self.ledger.details.get(scan.id, ""),
            }
            file = frames.get(scan.id)
            reasons = self.ledger.reasons(scan.id)
            whole = next(iter(reasons), "")
            if whole == "forgotten":
                continue  # the way back to them is gone, and stays gone
            if file is None:
                traces.append(Trace(**common, reason=whole))
                continue
            for key, source in zip(file.keys, file.sources, strict=True):
                reason = whole
                if whole not in ("duplicate", "uid-conflict"):
                    reason = STORED if key in committed.index else reason
                    reason = assembled.reasons.get(key, reason) if assembled else reason
                pixels = assembled.pixels.get(key, "") if assembled else ""
                traces.append(Trace(**common, key=key, frame=source.frame, pixels=pixels, reason=reason))
        facts = {
            "store": str(self.writer.path),
            "plan": plan.digest,
            "options": recorded_options(self.options),
            "files": self.ledger.counts(),
        }
        self.private.record(traces, facts)

    def _commit(self, plan: Plan, assembled: Assembled, committed: Committed) -> str:
        part = self.writer.part_id
        masks = [self.writer.masks(entry) for entry in assembled.arrays if entry.path in assembled.masked]
        numbers = luts.number_luts(
            lut for sample in assembled.samples for lut in (sample.voi_lut, sample.modality_lut)
        )
        self.writer.commit(
            [*assembled.arrays, *masks],
            tables.samples_table(assembled.samples, numbers),
            tables.ledger_table(self.ledger.rows(self.names.source, committed.ledger)),
            lookup=luts.luts_table(numbers),
            counts={str(k): v for k, v in self.ledger.totals(self.names.source, committed.ledger).items()},
            split=plan.split,
            options=recorded_options(self.options),
        )
        return part

    def _name_the_quarantined(self) -> None:
        for file in [file for file in self.ledger if self.ledger.outcome(file) == "quarantined"][:_SHOWN]:
            reasons = ", ".join(reason for reason in self.ledger.reasons(file) if reason != STORED)
            detail = self.ledger.details.get(file, "")
            self.reporter.say(
                f"quarantined {self.names.source(file[1])}: {reasons}{f' ({detail})' if detail else ''}"
            )

    def _summarise(self, assembled: Assembled | None, part: str | None, began_s: float) -> IngestSummary:
        self._name_the_quarantined()
        crosswalk = self.private.path / CROSSWALK_FILE
        if self.ledger.by_reason()["quarantined"]:
            self.reporter.say(f"the paths of the quarantined: {crosswalk}, by its column source")
        now = self.writer.manifest
        samples = assembled.samples if assembled and part else ()
        written = next((p for p in now.parts if p.id == part), None) if now else None
        by_reason = self.ledger.by_reason()
        read = {(n, m.path): m.size for n, source in enumerate(self.sources) for m in source.members}
        summary = IngestSummary(
            store=self.options.store.name,
            part=part,
            images=len(samples),
            splits={split: sum(sample.split == split for sample in samples) for split in SPLITS},
            files={str(outcome): count for outcome, count in self.ledger.counts().items()},
            skipped=by_reason["skipped"],
            quarantined=by_reason["quarantined"],
            store_images=now.samples if now else 0,
            source_bytes=sum(
                read.get(file, 0) for file in self.ledger if "not-in-table" not in self.ledger.reasons(file)
            ),
            store_bytes=sum(file.bytes for file in written.files) if written else 0,
            seconds=time.monotonic() - began_s,
        )
        self.reporter.result(summary.as_record(), summary.as_text())
        return summary


def _profile(options: IngestOptions) -> Profile | None:
    return None if options.codec is None else "zstd" if options.codec == "zstd" else "tilepack"
