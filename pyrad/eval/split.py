"""A store's samples table -> how its patients were divided, and the assertion that none is on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad.errors import RefusedError
from pyrad.records import SPLITS
from pyrad.store.reader import Store


def describe_split(store: Store) -> dict[str, Any]:
    """Return the ratios asked for, images and patients of each split, and the fingerprint of the division.

    The fingerprint is the SHA-256 of the sorted lines ``group<TAB>split``, one a pair, each ended by a
    newline: stores that share it and the secret have the same patients on the same sides.
    """
    groups, splits = _columns(store)
    pairs = sorted(set(zip(groups.tolist(), splits.tolist(), strict=True)))
    text = "".join(f"{group}\t{split}\n" for group, split in pairs)
    return {
        "ratios": list(store.manifest.split.get("ratios") or ()),
        "source": store.manifest.split.get("source"),
        "images": {split: int((splits == split).sum()) for split in SPLITS},
        "patients": {split: sum(pair[1] == split for pair in pairs) for split in SPLITS},
        "patients_in_several": sum(count > 1 for count in Counter(group for group, _ in pairs).values()),
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
    }


def refuse_leaks(store: Store, split: str, trained_on: Store | None = None) -> None:
    """Check that no patient of ``split`` is among the training patients.

    ``trained_on`` is the store the run learned from, where it is another one; its patients can be compared
    only where both stores were made with the same secret.

    Raises:
        RefusedError: some are.

    """
    tested = _groups_of(store, split)
    for source in [store, trained_on] if trained_on and comparable(store, trained_on) else [store]:
        shared = np.intersect1d(tested, _groups_of(source, "train"))
        if shared.size:
            raise RefusedError(
                f"{shared.size} of the {tested.size} patients of split {split!r} of {store.path.name} are "
                f"also in the training split of {source.path.name}: an evaluation on them would flatter. "
                "Divide by patient: ingest again with --group-by patient, or without the layout's own split"
            )


def comparable(store: Store, other: Store | None) -> bool:
    """Whether both stores are there and name a patient alike: they were made with the same secret."""
    return other is not None and other.manifest.key_check == store.manifest.key_check


def _groups_of(store: Store, split: str) -> NDArray[Any]:
    groups, splits = _columns(store)
    return np.unique(groups[splits == split])


def _columns(store: Store) -> tuple[NDArray[Any], NDArray[Any]]:
    """Patient and split of every sample, as strings."""
    groups, splits = (
        pc.fill_null(pc.cast(store.samples[name], "string"), "").to_numpy() for name in ("group", "split")
    )
    return groups.astype(str), splits.astype(str)
