"""A position in the training stream -> the epoch, and which sample that epoch puts there.

Everything here is a pure function of integers: no state, no memory that grows with the data set, and the
answer for one position does not depend on any other. That is what makes resuming O(1) and the sequence the
same for any number of threads and ranks.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pyrad.errors import UsageError

Words = NDArray[np.uint64]

# The golden ratio's odd 64-bit fraction and the two multipliers of the finaliser of SplitMix64
# (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)

# Purposes: two streams drawn for the same (seed, epoch, sample) must not share their bits.
_PERMUTE = 1
_DRAW = 2

_ROUNDS = 8
_RUN = (
    1 << 13
)  # positions whose samples are worked out together: 256 cost a fifth of 8,192, so a batch little
_LEAST_BITS = 6  # a Feistel network over fewer bits reaches too few permutations; walking makes up for it


def epoch_and_index(positions: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split positions of the endless stream over ``count`` samples into epochs and indices within them."""
    epochs, indices = np.divmod(positions, np.int64(count))
    return epochs, indices


def rank_positions(position: int, batch_size: int, rank: int, world_size: int) -> NDArray[np.int64]:
    """Return the positions that ``rank`` takes of the global batch that begins at ``position``.

    Rank r takes the r-th of ``world_size`` equal slices, so the ranks' slices, laid end to end, are the
    global batch whatever the number of ranks.

    Raises:
        UsageError: ``world_size`` does not divide ``batch_size``, or ``rank`` is not one of its ranks.

    """
    if world_size < 1 or not 0 <= rank < world_size:
        raise UsageError(
            f"rank {rank} of {world_size}: ranks count from 0 to world_size - 1, and there is at least one"
        )
    if batch_size < 1 or batch_size % world_size:
        raise UsageError(
            f"batch_size {batch_size} (the global batch) must be a multiple of world_size {world_size}"
        )
    share = batch_size // world_size
    first = position + rank * share
    return np.arange(first, first + share, dtype=np.int64)


def permute(
    indices: NDArray[np.int64], count: int, *, seed: int, epochs: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Map ``indices`` in [0, ``count``) through the permutation of their epoch.

    ``epochs`` (same shape) chooses one bijection of [0, count) for each index. It is an alternating Feistel
    network over the smallest power of two that holds ``count``; what falls outside is sent through again
    until it falls inside (cycle walking), which keeps it a bijection (Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002). O(1) memory; fewer than two passes an index on average.
    """
    if count < 1:
        raise UsageError(f"a permutation of {count} samples was asked for; there must be at least one")
    bits = max((count - 1).bit_length(), _LEAST_BITS)
    keys = _key(seed, epochs, _PERMUTE)
    walking = indices.astype(np.uint64)
    result = walking.copy()
    open_ = np.arange(len(walking))
    while len(open_):
        walking = _feistel(walking, keys, bits)
        inside = walking < np.uint64(count)
        result[open_[inside]] = walking[inside]
        open_, walking, keys = open_[~inside], walking[~inside], keys[~inside]
    return result.astype(np.int64)


def drawn_at(positions: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.int64]:
    """Return the samples, of ``count``, at ``positions`` (n,) of the endless stream.

    They are what `permute` makes of `epoch_and_index`; positions near each other are worked out together.
    """
    if not positions.size or np.ptp(positions) >= _RUN:
        epochs, indices = epoch_and_index(positions, count)
        return permute(indices, count, seed=seed, epochs=epochs)
    first, last = int(positions.min()) // _RUN, int(positions.max()) // _RUN
    near = np.concatenate([_drawn_in(run, count, seed) for run in range(first, last + 1)])
    return near[positions - first * _RUN]


@lru_cache(maxsize=8)
def _drawn_in(run: int, count: int, seed: int) -> NDArray[np.int64]:
    """The samples at a run of positions."""
    epochs, indices = epoch_and_index(np.arange(run * _RUN, (run + 1) * _RUN), count)
    return permute(indices, count, seed=seed, epochs=epochs)


def uniform(
    draws: int, *, seed: int, epochs: NDArray[np.int64], samples: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Draw ``draws`` numbers in [0, 1) for each (seed, epoch, sample): float64 (len(samples), draws).

    A counter-based generator: SplitMix64 started at a hash of the three, so a sample's numbers depend on
    nothing else, neither on its neighbours in the batch nor on who draws them.
    """
    state = _step(_key(seed, epochs, _DRAW), samples)
    words = _step(state[:, None], np.arange(draws)[None, :])
    return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _feistel(words: Words, keys: Words, bits: int) -> Words:
    """One pass of the network over ``bits`` bits, its two halves taking turns (uneven where bits is odd)."""
    low_bits = np.uint64(bits // 2)
    low_mask = np.uint64((1 << (bits // 2)) - 1)
    high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
    low, high = words & low_mask, words >> low_bits
    for turn in range(_ROUNDS):
        round_key = keys + np.uint64((turn + 1) * _GOLDEN % 2**64)
        if turn % 2:
            low = low ^ (_mix(high ^ round_key) & low_mask)
        else:
            high = high ^ (_mix(low ^ round_key) & high_mask)
    return (high << low_bits) | low


def _key(seed: int, epochs: NDArray[np.int64], purpose: int) -> Words:
    """Hash (seed, epoch, purpose) to 64 bits, for each epoch."""
    # Hashes are nested, not xored together: seed 1 in epoch 2 must not equal seed 2 in epoch 1.
    seeded = _step(np.array([seed % 2**64], dtype=np.uint64), np.array([purpose]))
    return _step(seeded, epochs)


def _step(states: Words, steps: NDArray[np.int64]) -> Words:
    """Return the words numbered ``steps`` (from 0) of the SplitMix64 streams that begin at ``states``."""
    return _mix(states + (steps.astype(np.uint64) + np.uint64(1)) * np.array([_GOLDEN], dtype=np.uint64))


def _mix(words: Words) -> Words:
    """SplitMix64's finaliser: a bijection of 64-bit words in which every bit depends on every other."""
    words = (words ^ (words >> np.uint64(30))) * _MIX_A
    words = (words ^ (words >> np.uint64(27))) * _MIX_B
    return words ^ (words >> np.uint64(31))
