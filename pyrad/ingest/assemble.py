"""A plan and what its shards taught -> samples rows; equal pixels of different groups become one image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyrad.ingest.committed import Committed
from pyrad.ingest.ledger import STORED, Ledger
from pyrad.ingest.plan import Geometry, Plan, Planned
from pyrad.ingest.write import Fact
from pyrad.records import Sample
from pyrad.store.layout import ArrayEntry


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """What is to be committed."""

    samples: tuple[Sample, ...]
    arrays: tuple[ArrayEntry, ...]  # image arrays to which a row points
    masked: frozenset[str]  # paths of those of which a row has a mask
    reasons: Mapping[str, str]  # key -> "stored", or why the frame is not
    pixels: Mapping[str, str]  # key -> keyed digest of its pixels
    merged: int  # images left out because another group has the same pixels


def assemble(
    plan: Plan,
    arrays: Mapping[Geometry, ArrayEntry],
    facts: Mapping[Geometry, Sequence[Fact]],
    committed: Committed,
    ledger: Ledger,
) -> Assembled:
    """Settle pixel duplicates, note every frame in ``ledger``, and make the rows of those that stay.

    ``facts`` are in the order of each bucket's rows.
    """
    fact_of: dict[int, Fact] = {}
    row_of: dict[int, int] = {}
    for geometry, positions in plan.buckets.items():
        for row, position in enumerate(positions):
            row_of[position] = row
            fact_of[position] = facts[geometry][row]
    labels, dropped = _merge_equal(plan, fact_of, committed)
    rows: list[Sample] = []
    reasons: dict[str, str] = {}
    for position, planned in enumerate(plan.samples):
        fact = fact_of[position]
        reason = fact.reason or ("duplicate-pixels" if position in dropped else STORED)
        reasons[planned.key] = reason
        ledger.add((planned.source.archive, planned.source.path), reason, 1, fact.detail)
        if reason == STORED:
            bucket = arrays[planned.geometry].path
            rows.append(
                _sample(planned, fact, bucket, row_of[position], labels.get(position, planned.source.labels))
            )
    used = {row.bucket for row in rows}
    return Assembled(
        samples=tuple(rows),
        arrays=tuple(entry for entry in arrays.values() if entry.path in used),
        masked=frozenset(row.bucket for row in rows if row.mask),
        reasons=reasons,
        pixels={plan.samples[position].key: fact.pixels for position, fact in fact_of.items()},
        merged=len(dropped),
    )


def _merge_equal(
    plan: Plan, facts: Mapping[int, Fact], committed: Committed
) -> tuple[dict[int, tuple[str, ...]], set[int]]:
    """Positions that stay with more labels than their own, and positions that are left out.

    Equal pixels within one group stay: they cannot get into two splits, and a volume keeps its slices.
    """
    equal: dict[str, list[int]] = defaultdict(list)
    for position in range(len(plan.samples)):
        if facts[position].reason is None:
            equal[facts[position].pixels].append(position)
    labels: dict[int, tuple[str, ...]] = {}
    dropped: set[int] = set()
    for pixels, positions in equal.items():
        before = committed.groups_of_pixels.get(pixels, set())
        if len(before | {plan.samples[position].group for position in positions}) == 1:
            continue
        if before:  # the committed image stays as it is
            dropped.update(positions)
            continue
        first, *others = positions
        labels[first] = tuple(sorted({label for at in positions for label in plan.samples[at].source.labels}))
        dropped.update(others)
    return labels, dropped


def _sample(planned: Planned, fact: Fact, bucket: str, row: int, labels: tuple[str, ...]) -> Sample:
    source = planned.source
    same: dict[str, Any] = {
        name: getattr(source, name)
        for name in (
            *("frame", "modality", "anatomy", "rows", "columns", "slope", "intercept", "photometric"),
            *("voi_lut", "modality_lut"),
            *("bits_stored", "padding", "spacing_mm", "slice_index", "laterality", "view", "sex"),
            *("age_band", "manufacturer", "lossy", "warnings", "kept"),
        )
    }
    return Sample(
        key=planned.key,
        bucket=bucket,
        row=row,
        group=planned.group,
        study=planned.study,
        series=planned.series,
        labels=labels,
        split=planned.split,
        window_center=tuple(window.center for window in source.windows),
        window_width=tuple(window.width for window in source.windows),
        voi_function=source.windows[0].function if source.windows else None,
        percentiles=fact.percentiles,
        mask=fact.mask,
        **same,
    )
