"""Thumbnails -> pairs of images that are near duplicates, without comparing all with all.

Two hashes of 117 bits an image: the signs of its low frequencies, once of the thumbnail as it is, which a
new JPEG or another size hardly changes, once of its ranks, which a window hardly changes. A flip or a turn
changes a sign or exchanges two (DCT-II), so all eight hashes of an image follow from one. Images that agree
in 20 bits of one of 16 tables, in any orientation, are candidates; those that agree in most bits are
compared by `likeness`. The constants were chosen by benchmarks/near.py; docs/decisions.md has the figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyrad.ingest.near.thumbnails import ORIENTATIONS, SIDE, likeness, oriented

LIKE = 0.96  # likeness from which two images count as one

_FREQUENCIES = [(u, v) for u in range(15) for v in range(15) if 2 <= u + v <= 14]
_BITS = len(_FREQUENCIES)
HASH_BYTES = 2 * 16  # of both hashes, each padded to two words
_TABLES = 8  # for each of the hashes
_AGREED = 20  # bits that make a bucket of a table
_APART = 24  # bits in which candidates may differ, in one of the hashes
_NEIGHBOURS = 32  # each side, at most, that an image is compared with in one bucket
_BLOCK = 1 << 12  # images a query
_PAIRS_A_BLOCK = 1 << 7
_BASIS_SCALE = 4096


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Near duplicates: ``first`` in orientation ``turn`` is like ``second``; (n,) each, no pair twice."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    turn: NDArray[np.uint8]
    like: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


class Thumbs(Protocol):
    """Thumbnails by their numbers: an array of them, or a file."""

    def __getitem__(self, numbers: NDArray[np.int64], /) -> NDArray[np.uint16]:
        """(n,) -> (n, 32, 32)."""
        ...


class Comparison(NamedTuple):
    """Pairs of thumbnails, (n, 32, 32) each, to be compared as they are turned."""

    first: NDArray[np.uint16]
    second: NDArray[np.uint16]


# Comparisons and how many pairs these are in all -> (number of a comparison, how alike its pairs are: (n,)).
Compare = Callable[[Iterable[Comparison], int], Iterable[tuple[int, NDArray[np.float64]]]]


def hashes(thumbs: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Thumbnails (n, 32, 32) -> both hashes of each, packed, uint8 (n, HASH_BYTES)."""
    both = np.stack([thumbs.astype(np.float64), _ranks(thumbs)], axis=1)
    basis = _basis()
    spectra = basis @ both @ basis.T  # whole numbers below 2**53: Note [exact thumbnails]
    u, v = np.array(_FREQUENCIES).T
    return _packed(spectra[:, :, u, v] > 0)


def find_pairs(
    thumbs: Thumbs,
    packed: NDArray[np.uint8],
    groups: NDArray[np.int64],
    *,
    new: int,
    places: NDArray[np.int64] | None = None,
    compare: Compare | None = None,
) -> Pairs:
    """Pairs of different ``groups`` of which one at least is among the first ``new`` images.

    ``packed`` (n, HASH_BYTES) comes from `hashes` of ``thumbs``. ``places`` says which of both belongs to
    each image, where they are not as many. A flat image is like none. ``compare`` may have the comparisons
    made elsewhere, in any order.
    """
    places = np.arange(len(groups)) if places is None else places
    packed = packed[places]
    found = np.zeros(0, np.int64)
    exchanged = _exchanged(packed[:new])
    for family in range(2):
        for table in range(_TABLES):
            codes = [found, *_candidates(packed, exchanged, groups, family, table)]
            found = np.unique(np.concatenate(codes))
    return _confirmed(thumbs, places, found, compare or _compare_here)


def clusters(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Chain pairs of ``count`` members to clusters: the least member of the cluster of each, (count,)."""
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = at = parent[parent[at]]
        return at

    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(at) for at in range(count)], np.int64)


@cache
def _basis() -> NDArray[np.float64]:
    """15 rows of a DCT-II of 32 points, as whole numbers; a mirrored input changes signs exactly."""
    angles = np.outer(np.arange(15), 2 * np.arange(SIDE) + 1) * (np.pi / (2 * SIDE))
    basis: NDArray[np.float64] = np.rint(_BASIS_SCALE * np.cos(angles))
    return basis


def _ranks(thumbs: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The rank of every value in its picture, twice, equal values sharing theirs."""
    flat = thumbs.reshape(len(thumbs), -1)
    order = np.argsort(flat, axis=1, kind="stable")
    ordered = np.take_along_axis(flat, order, 1)
    place = np.broadcast_to(np.arange(flat.shape[1]), flat.shape)
    begins = np.pad(ordered[:, 1:] != ordered[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    ends = np.roll(begins, -1, axis=1)
    last = np.minimum.accumulate(np.where(ends, place, flat.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(flat.shape)
    np.put_along_axis(ranks, order, (first + last).astype(np.float64), 1)
    return ranks.reshape(thumbs.shape)


def _packed(bits: NDArray[np.bool_ | np.uint8]) -> NDArray[np.uint8]:
    """(n, 2, _BITS) -> (n, HASH_BYTES)."""
    return np.packbits(np.pad(bits, ((0, 0), (0, 0), (0, HASH_BYTES * 4 - _BITS))), axis=-1).reshape(
        len(bits), -1
    )


def _exchanged(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hashes of images -> hashes of the same images with rows and columns exchanged."""
    across = [_FREQUENCIES.index((v, u)) for u, v in _FREQUENCIES]
    exchanged = np.empty_like(packed)
    for at in range(0, len(packed), _BLOCK):
        both = packed[at : at + _BLOCK].reshape(-1, 2, HASH_BYTES // 2)
        exchanged[at : at + _BLOCK] = _packed(np.unpackbits(both, axis=-1)[:, :, across])
    return exchanged


@cache
def _mirrored(orientation: int) -> NDArray[np.uint8]:
    """The bits of hashes that the mirrors of an orientation turn round, packed (1, HASH_BYTES)."""
    u, v = np.array(_FREQUENCIES).T
    bits = ((v & 1) * (orientation & 1)) ^ ((u & 1) * (orientation >> 1 & 1))
    return _packed(np.broadcast_to(bits.astype(np.uint8), (1, 2, _BITS)))


@cache
def _table_bits(table: int) -> NDArray[np.int64]:
    """64 bits of a hash in the order of a table, drawn by a hash so that they never change."""
    order = sorted(range(_BITS), key=lambda bit: hashlib.sha256(f"{table} {bit}".encode()).digest())
    return np.array(order[:64])


def _keys(packed: NDArray[np.uint8], family: int, table: int) -> NDArray[np.uint64]:
    """Where each image stands in a table: the first _AGREED bits are its bucket."""
    keys = np.empty((len(packed), 8), np.uint8)
    for at in range(0, len(packed), _BLOCK):
        block = packed[at : at + _BLOCK].reshape(-1, 2, HASH_BYTES // 2)[:, family]
        bits = np.unpackbits(block, axis=1).take(_table_bits(table), axis=1)
        keys[at : at + _BLOCK] = np.packbits(bits, axis=1)
    return keys.view(">u8")[:, 0].astype(np.uint64)


def _candidates(
    packed: NDArray[np.uint8],
    exchanged: NDArray[np.uint8],
    groups: NDArray[np.int64],
    family: int,
    table: int,
) -> Iterator[NDArray[np.int64]]:
    """Codes of candidates that one table finds; see `_confirmed`. Only new images were ``exchanged``."""
    new = len(exchanged)
    words = packed.view(np.uint64), exchanged.view(np.uint64)
    keys = _keys(packed, family, table), _keys(exchanged, family, table)
    order = np.argsort(keys[0], kind="stable")
    stood = keys[0][order]
    # In the order of their keys, mirrored or not, neighbours are looked up beside each other: in the cache.
    visits = order[order < new], np.argsort(keys[1], kind="stable")
    for turn, at in product(range(ORIENTATIONS), range(0, new, _BLOCK)):
        visit, mirrored = visits[turn >> 2][at : at + _BLOCK], _mirrored(turn)
        number, place = _neighbours(stood, keys[turn >> 2][visit] ^ _keys(mirrored, family, table))
        first, second = visit[number], order[place]
        # Two new images meet twice, once each way; a group is never divided, so its pairs do not matter.
        wanted = ((second > first) | (second >= new)) & (groups[first] != groups[second])
        first, second = first[wanted], second[wanted]
        differing = np.bitwise_count(words[turn >> 2][first] ^ mirrored.view(np.uint64) ^ words[0][second])
        apart = differing.reshape(len(first), 2, 2).sum(axis=2).min(axis=1)
        near = apart <= _APART
        yield (first[near] * len(packed) + second[near]) * ORIENTATIONS + turn


def _neighbours(
    stood: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(number of the key, place in ``stood``) of all that share a bucket with one of ``keys``.

    In a crowded bucket, of blank images or of hundreds of copies, only the nearest places count: copies of
    one image stand side by side, and are chained to one cluster.
    """
    rest = np.uint64((1 << 64 - _AGREED) - 1)
    place = np.searchsorted(stood, keys)
    low = np.maximum(np.searchsorted(stood, keys & ~rest), place - _NEIGHBOURS)
    high = np.minimum(np.searchsorted(stood, keys | rest, "right"), place + _NEIGHBOURS)
    counts = high - low
    number = np.repeat(np.arange(len(keys)), counts)
    within = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
    return number, low[number] + within


def _compare_here(
    comparisons: Iterable[Comparison], _pairs: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    return enumerate(likeness(first, second) for first, second in comparisons)


def _confirmed(
    thumbs: Thumbs,
    places: NDArray[np.int64],
    codes: NDArray[np.int64],
    compare: Compare,
) -> Pairs:
    """Compare candidates; a code is (first * count + second) * ORIENTATIONS + turn, in ascending order."""
    count = len(places)
    pairs, turn = codes // ORIENTATIONS, codes % ORIENTATIONS
    like = np.zeros(len(codes))
    blocks: list[NDArray[np.int64]] = []

    def comparisons() -> Iterator[Comparison]:
        for orientation in range(ORIENTATIONS):
            those = np.flatnonzero(turn == orientation)
            for at in range(0, len(those), _PAIRS_A_BLOCK):
                blocks.append(those[at : at + _PAIRS_A_BLOCK])
                first, second = places[pairs[blocks[-1]] // count], places[pairs[blocks[-1]] % count]
                yield Comparison(oriented(thumbs[first], orientation), thumbs[second])

    for number, answer in compare(comparisons(), len(codes)):
        like[blocks[number]] = answer
    best = np.lexsort((turn, -like, pairs))  # the best orientation of each pair comes first
    best = (
        best[np.r_[True, pairs[best][1:] != pairs[best][:-1]] & (like[best] >= LIKE)] if len(best) else best
    )
    return Pairs(
        first=pairs[best] // count,
        second=pairs[best] % count,
        turn=turn[best].astype(np.uint8),
        like=like[best],
    )
