"""Files to store -> every frame's group, split and place: decided before a pixel is written.

The plan is a pure function of the files, the options, the secret and what is committed. Its digest covers
all that shapes the bytes of the part, so that an interrupted ingest is taken up by the same plan and by no
other.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyrad.errors import UsageError
from pyrad.ingest.duplicates import File
from pyrad.ingest.names import Names
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.selectors import parse_conditions
from pyrad.ingest.split import DEFAULT_SPLIT, assign_splits, parse_ratios
from pyrad.records import Source, Split

# Another version of these may decode or write other bytes.
_SHAPING_PACKAGES = (
    *("pyrad", "numpy", "pillow", "pyarrow", "pydicom"),
    *("pyjpegls", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle"),
)
_LARGE_GROUP = 0.05  # of the images; a patient id that many share is no patient's
_FEW_IMAGES = 200  # among which a large share means nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """What the images of one bucket share."""

    rows: int
    columns: int
    planes: int
    dtype: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One frame to be stored."""

    source: Source
    digest: str  # of its file
    key: str
    group: str
    study: str
    series: str
    split: Split

    @property
    def geometry(self) -> Geometry:
        """The bucket it belongs to."""
        s = self.source
        return Geometry(rows=s.rows, columns=s.columns, planes=s.planes, dtype=s.dtype)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one ingest adds to a store.

    ``samples`` are in the order of their keys, which is a random one; ``buckets`` has, for each geometry, the
    positions in ``samples`` that fill its rows in that order.
    """

    samples: tuple[Planned, ...]
    buckets: Mapping[Geometry, tuple[int, ...]]
    split: Mapping[str, Any]  # for the manifest
    digest: str
    notes: tuple[str, ...]


def make_plan(
    files: Sequence[File],
    *,
    slice_index: Mapping[str, int],
    groups: Mapping[str, Split],
    options: IngestOptions,
    names: Names,
    digest_key: bytes,
    base: str,
) -> Plan:
    """Group, split, permute and place the frames of ``files``.

    ``slice_index`` comes from `rank_slices`; ``groups`` are the splits of the groups that are committed;
    ``base`` identifies the commit that the part will follow. UsageError where a layout's own split divides a
    group.
    """
    frames = [
        (key, source, file) for file in files for key, source in zip(file.keys, file.sources, strict=True)
    ]
    frames.sort(key=lambda frame: frame[0])  # keys are keyed hashes: this is the permutation
    group_of = {key: names.group(source, file.digest) for key, source, file in frames}
    splits, notes = _split(frames, group_of, groups, options, names)
    samples = tuple(
        Planned(
            source=replace(source, slice_index=slice_index[key]) if key in slice_index else source,
            digest=file.digest,
            key=key,
            group=group_of[key],
            study=names.study(source),
            series=names.series(source),
            split=splits[group_of[key]],
        )
        for key, source, file in frames
    )
    buckets: dict[Geometry, list[int]] = defaultdict(list)
    for position, sample in enumerate(samples):
        buckets[sample.geometry].append(position)
    ratios = parse_ratios(options.split or DEFAULT_SPLIT)
    own = options.split is None and any(source.split for _, source, _ in frames)
    return Plan(
        samples=samples,
        buckets={
            geometry: tuple(buckets[geometry])
            for geometry in sorted(buckets, key=lambda g: (g.planes, g.rows, g.columns, g.dtype))
        },
        split={
            "ratios": [int(ratio) if ratio == int(ratio) else ratio for ratio in ratios],
            "source": "layout" if own else "ratios",
        },
        digest=_digest(samples, options, digest_key, base),
        notes=tuple(notes + _large_groups(group_of)),
    )


def rank_slices(files: Sequence[File], names: Names) -> dict[str, int]:
    """Key -> rank of the frame in its series, by position along the slice normal, else by instance number."""
    by_series: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for file in files:
        for key, source in zip(file.keys, file.sources, strict=True):
            if source.kind == "dicom" and source.series:
                place = source.position_mm
                order = (place is None, place or 0.0, source.instance or 0, source.frame, key)
                by_series[names.series(source)].append(order)
    return {order[-1]: rank for orders in by_series.values() for rank, order in enumerate(sorted(orders))}


def shaping_versions() -> dict[str, str]:
    """Package -> version of all that shapes a store's bytes; empty for one that is not installed."""
    return {name: _version(name) for name in _SHAPING_PACKAGES}


def recorded_options(options: IngestOptions) -> dict[str, Any]:
    """The options that shape a store's content, for its manifest."""
    names = ("layout", "columns", "keep_columns", "group_by", "color", "frames", "include", "burned_in")
    values = {name: getattr(options, name) for name in names}
    if options.rules:
        values["burned_in"] = "rules"
        values["burned_in_rules"] = [rule.recorded() for rule in options.rules]
    values["select"] = [condition.recorded() for condition in parse_conditions(options.select)]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _split(
    frames: Sequence[tuple[str, Source, File]],
    group_of: Mapping[str, str],
    committed: Mapping[str, Split],
    options: IngestOptions,
    names: Names,
) -> tuple[dict[str, Split], list[str]]:
    """Group -> split: as committed, else as the layout says, else by ratio."""
    labels: dict[str, set[str]] = defaultdict(set)
    own: dict[str, set[Split]] = defaultdict(set)
    images: Counter[str] = Counter()
    for key, source, _ in frames:
        group = group_of[key]
        labels[group].update(source.labels)
        images[group] += 1
        if source.split is not None and options.split is None:
            own[group].add(source.split)
    divided = [group for group, its in own.items() if len(its) > 1]
    if divided:
        raise UsageError(
            f"the split of the table or folders divides {len(divided)} {options.group_by} groups "
            f"({sum(images[group] for group in divided)} images) between train, val and test; "
            f"correct it, or split anew by --split {DEFAULT_SPLIT}"
        )
    splits: dict[str, Split] = {group: committed[group] for group in labels if group in committed}
    moved = sum(next(iter(own[group])) != split for group, split in splits.items() if own.get(group))
    given = {group: next(iter(its)) for group, its in own.items() if group not in committed}
    splits |= given
    strata = {group: tuple(sorted(its)) for group, its in labels.items() if group not in splits}
    splits |= assign_splits(
        strata,
        parse_ratios(options.split or DEFAULT_SPLIT),
        rank=names.rank,
        committed=[*committed.values(), *given.values()],
    )
    notes = (
        [f"{moved} groups stay in the split in which they are stored, not in the one given now"]
        if moved
        else []
    )
    alone = sum(names.is_alone(source) for _, source, _ in frames)
    if alone:
        notes.append(
            f"{alone} images have no {options.group_by}: each is split on its own, and images of one "
            f"person may "
            "be in train and in test"
        )
    return splits, notes


def _large_groups(group_of: Mapping[str, str]) -> list[str]:
    if len(group_of) < _FEW_IMAGES:
        return []
    sizes = Counter(group_of.values())
    large = [size for size in sizes.values() if size > _LARGE_GROUP * len(group_of)]
    if not large:
        return []
    return [
        (
            f"{len(large)} groups hold more than {100 * _LARGE_GROUP:g} % of the images each (the largest "
            f"{max(large)} of {len(group_of)}): if that is no single patient, use --group-by study"
        )
    ]


def _digest(samples: Sequence[Planned], options: IngestOptions, digest_key: bytes, base: str) -> str:
    """Keyed digest of everything that shapes the part."""
    head = json.dumps([base, shaping_versions(), recorded_options(options), options.split], sort_keys=True)
    mac = hmac.new(digest_key, head.encode(), hashlib.sha256)
    for sample in samples:
        mac.update(repr(sample).encode("utf-8", "backslashreplace"))
    return mac.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
