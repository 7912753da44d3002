"""Patients, each with its labels -> train, val or test, by ratio, in every stratum and overall.

A stratum is the set of labels that a patient's images have together. Patients of one stratum are ranked by a
keyed hash, so nobody can choose where a patient ends, and the same patient ends there again. Each stratum is
rounded on its own, and what the rounding leaves over is carried to the next one (error diffusion): strata of
one patient each still add up to the ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pyrad.errors import UsageError
from pyrad.records import SPLITS, Split

if TYPE_CHECKING:
    Ratios = tuple[float, float, float]  # of train, val and test; any sum

Stratum = tuple[str, ...]  # sorted labels

DEFAULT_SPLIT = "75/10/15"

_ALIASES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def parse_ratios(text: str) -> Ratios:
    """``75/10/15`` -> (75.0, 10.0, 15.0), of train, val and test; UsageError where it is no such thing."""
    parts = text.split("/")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or any(not math.isfinite(n) or n < 0 for n in numbers) or sum(numbers) <= 0:
        raise UsageError(
            f"--split {text!r} is not three numbers train/val/test, none negative and not all zero; "
            f"for example --split {DEFAULT_SPLIT}"
        )
    return numbers[0], numbers[1], numbers[2]


def parse_split(text: str) -> Split | None:
    """A word for a split (train, Training, valid, dev, testing) -> the split; None for any other word."""
    return _ALIASES.get(text.strip().lower())


def assign_splits(
    strata: Mapping[str, Stratum],
    ratios: Ratios,
    *,
    rank: Callable[[str], bytes],
    committed: Iterable[Split] = (),
) -> dict[str, Split]:
    """Give every group a split; returns group -> split.

    ``strata`` maps each new group to its stratum; ``rank`` orders the groups of one stratum (a keyed hash);
    ``committed`` are the splits of groups that a store has already, which count towards the ratios.

    In every stratum, and in all together, the count of a split differs from its share by at most 1. Where
    there are at least as many groups as splits with a ratio above 0, each of those gets one: the largest
    split gives.
    """
    shares = [ratio / sum(ratios) for ratio in ratios]
    counts = [0, 0, 0]
    for split in committed:
        counts[SPLITS.index(split)] += 1
    # What earlier ingests left over is carried on, but an old imbalance of many is not made good at once.
    carry = [
        min(max(sum(counts) * share - count, -1.0), 1.0) for share, count in zip(shares, counts, strict=True)
    ]
    by_stratum: dict[Stratum, list[str]] = {}
    for group, stratum in strata.items():
        by_stratum.setdefault(stratum, []).append(group)
    ordered: list[str] = []
    assigned: dict[str, Split] = {}
    for stratum in sorted(by_stratum):
        members = sorted(by_stratum[stratum], key=lambda group: (rank(group), group))
        sizes = _round(len(members), shares, carry)
        ordered += members
        names = [split for split, size in zip(SPLITS, sizes, strict=True) for _ in range(size)]
        assigned.update(zip(members, names, strict=True))
    for split in assigned.values():
        counts[SPLITS.index(split)] += 1
    _fill_empty(ordered, assigned, counts, shares)
    return assigned


def _round(count: int, shares: list[float], carry: list[float]) -> list[int]:
    """Share ``count`` groups out; ``carry`` holds what each split is owed, before and after."""
    quotas = [count * share for share in shares]
    sizes = [math.floor(quota + 1e-9) for quota in quotas]
    owed = [c + quota - size for c, quota, size in zip(carry, quotas, sizes, strict=True)]
    takers = sorted((s for s in range(3) if shares[s] > 0), key=lambda s: (-round(owed[s], 9), s))
    for taker in takers[: count - sum(sizes)]:
        sizes[taker] += 1
        owed[taker] -= 1
    carry[:] = owed
    return sizes


def _fill_empty(
    ordered: list[str], assigned: dict[str, Split], counts: list[int], shares: list[float]
) -> None:
    """Move one group into each split that has a ratio and nobody, from the split that has most."""
    if sum(counts) < sum(share > 0 for share in shares):
        return
    for poor, split in enumerate(SPLITS):
        if shares[poor] == 0 or counts[poor] > 0:
            continue
        for rich in sorted(range(3), key=lambda s: -counts[s]):
            movable = [group for group in ordered if assigned[group] == SPLITS[rich]]
            if movable and counts[rich] > 1:
                assigned[movable[-1]] = split
                counts[rich] -= 1
                counts[poor] += 1
                break
