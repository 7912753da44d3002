"""A store -> its data card: what it holds, how it was de-identified, what was left out; Markdown.

Patients are counted, not only images. Where fewer than 5 share a label, a sex or an age the card says "few":
it is made to be published; the one patient above ninety must not stand in it, nor follow from the total.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pyrad import __version__
from pyrad.errors import PyradError
from pyrad.ingest.privacy.deidentification import STATEMENT, copied_texts, methods
from pyrad.progress import Reporter
from pyrad.records import SPLITS
from pyrad.store.reader import Store, open_store

SMALLEST = 5  # patients (groups) that share a value; fewer are not counted aloud
_SHOWN = 200  # labels; more are counted
# What a reader asks for, the column that answers, and whether it says something of a person.
_TALLIES = (
    ("Modality", "modality", False),
    ("Anatomy", "anatomy", False),
    ("Sex", "sex", True),
    ("Age", "age_band", True),
    ("View", "view", False),
    ("Laterality", "laterality", False),
    ("Maker of the device", "manufacturer", False),
)


@dataclass(frozen=True, kw_only=True)
class CardOptions:
    """The options of `pyrad card`."""

    store: Path = field(metadata={"help": "the store, a folder NAME.zarr", "positional": True})
    out: Path | None = field(
        default=None, metadata={"help": "the file to write, Markdown (default: print it)", "metavar": "FILE"}
    )


def card(options: CardOptions, reporter: Reporter) -> None:
    """Write or print the card of a store."""
    with open_store(options.store) as store:
        text = "\n".join(_lines(store))
    if options.out is None:
        reporter.result({"store": options.store.name, "card": text}, text)
        return
    try:
        options.out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise PyradError(f"--out {options.out} cannot be written: {error.strerror}") from None
    reporter.result({"store": options.store.name, "out": str(options.out)}, f"wrote {options.out}")


def _lines(store: Store) -> Iterator[str]:
    options, counts = store.manifest.options, store.manifest.counts
    yield f"# Data card of {store.path.name}"
    yield ""
    yield (
        f"{len(store):,} images of {counts.get('groups', 0):,} groups (a group is what `--group-by "
        f"{options.get('group_by', 'patient')}` says, as far as it is known: one patient as a rule)."
    )
    yield f"Fingerprint `{store.fingerprint}`; format {store.manifest.format}; card by pyrad {__version__}."
    yield ""
    yield STATEMENT
    yield from _held(store)
    yield from _deidentified(store)
    yield from _left_out(store)
    yield from _made(store)


def _held(store: Store) -> Iterator[str]:
    samples = pa.table({name: store.samples[name] for name in ("group", "split", "labels", "mask", "lossy")})
    yield from ("", "## What it holds", "")
    yield from _table(("split", "images", "groups", "with mask"), _splits(samples))
    labels = pa.table(
        {
            "value": pc.list_flatten(samples["labels"]),
            "group": samples["group"].take(pc.list_parent_indices(samples["labels"])),
        }
    )
    rows = _tally(labels, personal=True)
    yield from ("", f'"few" hides fewer than {SMALLEST} groups of one label, sex or age.')
    yield from ("", "### Labels", "")
    if not rows:
        yield "None."
    else:
        yield from _table(("label", "images", "groups"), rows[:_SHOWN])
        if len(rows) > _SHOWN:
            yield f"... and {len(rows) - _SHOWN} more."
    for title, column, personal in _TALLIES:
        values = pa.table({"value": store.samples[column], "group": samples["group"]})
        yield from ("", f"### {title}", "")
        yield from _table((title.lower(), "images", "groups"), _tally(values, personal=personal))
    lossy = pc.sum(samples["lossy"]).as_py() or 0
    yield from ("", "### Pixels", "")
    sizes: dict[str, int] = {}
    for bucket in store.buckets:
        name = f"{bucket.rows} x {bucket.columns} {bucket.dtype.name}" + (
            " RGB" if bucket.planes == 3 else ""
        )
        sizes[name] = sizes.get(name, 0) + bucket.count
    yield (
        f"{len(sizes)} sizes, raw stored values, codec {store.codec} (lossless); {lossy:,} images had been "
        "compressed with loss before."
    )
    yield ""
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    yield from _table(("rows x columns, type", "places"), [(name, f"{n:,}") for name, n in largest[:20]])
    warnings = pa.table(
        {
            "value": pc.list_flatten(store.samples["warnings"]),
            "group": samples["group"].take(pc.list_parent_indices(store.samples["warnings"])),
        }
    )
    if len(warnings):
        yield from ("", "### Reservations", "", "Codes of docs/reasons.md.", "")
        yield from _table(("warning", "images", "groups"), _tally(warnings, personal=False))


def _deidentified(store: Store) -> Iterator[str]:
    parts = {part.id: part.options for part in store.manifest.parts}
    yield from ("", "## How it was de-identified", "")
    yield "The methods of DICOM PS3.15 (PS3.16 CID 7050), and what was done of each:"
    yield ""
    yield from _table(("code", "method", "done"), list(methods(parts)))
    yield from ("", "Every column of the samples table:", "")
    yield ", ".join(f"`{name}`" for name in store.samples.column_names) + "."
    yield ""
    yield from (f"- {sentence}" for sentence in copied_texts(parts))
    if store.manifest.forgotten:
        yield "- Patients have been removed from it since (`pyrad forget`)."


def _left_out(store: Store) -> Iterator[str]:
    counts = store.manifest.counts
    yield from ("", "## What was left out", "")
    yield (
        f"Of the files that were offered, {counts.get('stored', 0):,} are stored, "
        f"{counts.get('skipped', 0):,} were skipped by policy and {counts.get('quarantined', 0):,} "
        "quarantined: they should have been stored and could not."
    )
    found: dict[tuple[str, str], set[str]] = {}
    for part in store.manifest.parts:
        for row in store.ledger(part).to_pylist():
            if row["outcome"] != "stored":
                found.setdefault((row["outcome"], row["reason"]), set()).add(row["source"])
    if found:
        rows = [(*what, f"{len(sources):,}") for what, sources in sorted(found.items())]
        yield ""
        yield from _table(("outcome", "reason", "files"), rows)
        yield from ("", "A file that was tried again and ended otherwise is counted for each reason.")


def _made(store: Store) -> Iterator[str]:
    split = store.manifest.split
    yield from ("", "## How it was made", "")
    ratios = "/".join(f"{ratio:g}" for ratio in split.get("ratios", ()))
    own = split.get("source") == "layout"
    rule = "as the source has it" if own else f"{ratios} of groups (train/val/test), by keyed rank"
    yield f"Split: {rule}."
    yield "No group stands in two splits. Options, by part where ingests differed:"
    yield ""
    yield from _table(("option", "value"), _options(store))


def _options(store: Store) -> list[tuple[str, str]]:
    """(option, value) of every part together; each part's own value where they are not one."""
    parts = store.manifest.parts
    rows = []
    for name in sorted({name for part in parts for name in part.options}):
        values = [f"`{part.options[name]}`" if name in part.options else "none" for part in parts]
        own = "; ".join(f"{part.id}: {value}" for part, value in zip(parts, values, strict=True))
        rows.append((f"`{name}`", own if len(set(values)) > 1 else values[0]))
    return rows


def _splits(samples: pa.Table) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for split in SPLITS:
        mine = samples.filter(pc.equal(samples["split"], split))
        groups = pc.count_distinct(mine["group"]).as_py()
        masks = pc.sum(mine["mask"]).as_py() or 0
        rows.append((split, f"{len(mine):,}", f"{groups:,}", f"{masks:,}"))
    return rows


def _tally(values: pa.Table, *, personal: bool) -> list[tuple[str, str, str]]:
    """(value, images, groups) of a table of columns value and group, the most frequent first."""
    whole = values.group_by("value").aggregate([("group", "count"), ("group", "count_distinct")])
    rows = sorted(whole.to_pylist(), key=lambda row: (-row["group_count"], row["value"] or ""))
    hidden = _hidden([row["group_count_distinct"] for row in rows]) if personal else set()
    return [
        (
            row["value"] or "(unknown)",
            "few" if at in hidden else f"{row['group_count']:,}",
            "few" if at in hidden else f"{row['group_count_distinct']:,}",
        )
        for at, row in enumerate(rows)
    ]


def _hidden(groups: Sequence[int]) -> set[int]:
    """Which counts of groups are not told: small ones, and one more where the total would tell them."""
    order = sorted(range(len(groups)), key=lambda at: groups[at])
    hidden = {at for at in order if groups[at] < SMALLEST}
    for at in order:
        if not hidden or sum(groups[at] for at in hidden) >= SMALLEST:
            break
        hidden.add(at)
    return hidden


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table; what a cell holds is text."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(_escaped(cell) for cell in row) + " |"


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
