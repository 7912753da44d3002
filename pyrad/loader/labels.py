"""The store's split and label columns -> who is in a split, the classes, and the target of every sample.

The classes are those of the training split, in byte order, so that every split and every rank agrees on them.
A training sample is a sample of the training split that has a label: an image nobody labelled teaches nothing
and is never taken for an image without findings. Where "no finding" is meant, give it a label of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyrad.errors import IntegrityError, UsageError
from pyrad.records import SPLITS
from pyrad.store.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The labels of every sample of a store, as class indices.

    Sample i has the classes ``members[first[i]:first[i + 1]]``, ascending; labels that are no class are left
    out there but counted in ``label_counts``.
    """

    classes: tuple[str, ...]
    multi_label: bool
    first: NDArray[np.int64]
    members: NDArray[np.int32]
    label_counts: NDArray[np.int32]

    def single(self) -> NDArray[np.int32]:
        """Class of every sample: int32 (n,), -1 where it has no label, several, or one that is no class."""
        alone = (self.label_counts == 1) & (np.diff(self.first) == 1)
        classes = np.full(len(self.label_counts), -1, dtype=np.int32)
        classes[alone] = self.members[self.first[:-1][alone]]
        return classes

    def multi_hot(self, samples: NDArray[np.int64]) -> NDArray[np.float32]:
        """Zeros and ones of some samples: float32 (len(samples), classes)."""
        hot = np.zeros((len(samples), len(self.classes)), dtype=np.float32)
        counts = self.first[samples + 1] - self.first[samples]
        rows = np.repeat(np.arange(len(samples)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        hot[rows, self.members[self.first[samples][rows] + within]] = 1.0
        return hot

    def usable(self) -> NDArray[np.bool_]:
        """Which samples can be learned from: (n,) true where there is a target."""
        known = np.diff(self.first) > 0
        return known if self.multi_label else known & (self.label_counts == 1)

    def class_counts(self, samples: NDArray[np.int64]) -> tuple[int, ...]:
        """How many of ``samples`` have each class, in the order of ``classes``."""
        chosen = np.zeros(len(self.label_counts), dtype=bool)
        chosen[samples] = True
        members = self.members[np.repeat(chosen, np.diff(self.first))]
        return tuple(int(count) for count in np.bincount(members, minlength=len(self.classes)))


def split_codes(samples: Samples) -> NDArray[np.int8]:
    """Read the ``split`` column as the numbers of the splits in `pyrad.records.SPLITS`.

    Raises:
        IntegrityError: it holds something else.

    """
    known = pa.array(SPLITS)
    codes = pc.index_in(samples.read(["split"])["split"], value_set=known)
    if codes.null_count:
        raise IntegrityError(
            f"{codes.null_count} rows of the samples table have a split other than {', '.join(SPLITS)}, "
            "which no ingest writes; run `pyrad verify`"
        )
    return np.asarray(codes.to_numpy(), dtype=np.int8)


def members_of(codes: NDArray[np.int8], split: str) -> NDArray[np.bool_]:
    """Return which samples are in ``split``.

    Raises:
        UsageError: it is none of the three splits, or holds no sample.

    """
    counts = dict(zip(SPLITS, np.bincount(codes, minlength=len(SPLITS)).tolist(), strict=True))
    told = "the store's samples by split: " + ", ".join(f"{name} {count}" for name, count in counts.items())
    if split not in counts:
        raise UsageError(f"split {split!r} is none of {', '.join(SPLITS)}; {told}")
    if not counts[split]:
        raise UsageError(f"split {split!r} holds no sample; {told}")
    return np.asarray(codes == list(counts).index(split))


def read_targets(
    labels: pa.ChunkedArray,
    training: NDArray[np.bool_],
    *,
    classes: Sequence[str] | None = None,
    multi_label: bool | None = None,
) -> Targets:
    """Turn the ``labels`` column (lists of strings) into targets; ``training`` marks the training split.

    ``classes`` and ``multi_label`` come from the training split unless given: the classes are its labels in
    the order of their UTF-8 bytes, and it is single-label if every labelled sample has exactly one.

    Raises:
        UsageError: ``classes`` names one twice.

    """
    count = len(training)
    lengths = pc.fill_null(pc.list_value_length(labels), 0).to_numpy()
    codes, names = _coded(labels)
    samples = np.repeat(np.arange(count), lengths)
    if classes is None:
        present = np.flatnonzero(np.bincount(codes[training[samples]], minlength=len(names)))
        classes = sorted((names[code] for code in present), key=lambda name: name.encode())
    elif len(set(classes)) != len(classes):
        raise UsageError(f"classes names one twice: {', '.join(classes)}")
    # Labels by number: the classes first, in their order, then those that are none.
    number = {name: index for index, name in enumerate([*classes, *sorted(set(names) - set(classes))])}
    numbers = np.array([number[name] for name in names], dtype=np.int64)
    pairs = samples * max(len(number), 1) + (numbers[codes] if len(names) else codes)
    del samples, codes
    # A label given twice to one image is one label.
    if (pairs[1:] <= pairs[:-1]).any():
        pairs.sort()
        pairs = pairs[np.concatenate([[True], pairs[1:] > pairs[:-1]])]
    samples, members = np.divmod(pairs, max(len(number), 1))
    label_counts = np.bincount(samples, minlength=count)
    if multi_label is None:
        multi_label = bool((label_counts[training] > 1).any())
    is_class = members < len(classes)
    first = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(samples[is_class], minlength=count), out=first[1:])
    return Targets(
        classes=tuple(classes),
        multi_label=multi_label,
        first=first,
        members=members[is_class].astype(np.int32),
        label_counts=label_counts.astype(np.int32),
    )


def _coded(labels: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[str]]:
    """All labels, one list behind the other, as numbers of names."""
    flat = [pc.list_flatten(chunk).dictionary_encode() for chunk in labels.chunks]
    coded = pa.chunked_array(flat, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
    codes = [chunk.indices.to_numpy() for chunk in coded.chunks]
    names = coded.chunk(0).dictionary.to_pylist() if codes else []
    return np.concatenate(codes) if codes else np.empty(0, np.int32), names
