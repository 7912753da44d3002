"""Numbers in a random order, batch by batch and epoch by epoch: for peers that leave it to their user."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from corpus import Corpus
from numpy.typing import NDArray


def shuffled_numbers(corpus: Corpus) -> Iterator[NDArray[np.int64]]:
    """Yield (batch,) numbers without end; an epoch holds every image once."""
    rng = np.random.default_rng(0)
    while True:
        yield from rng.permutation(corpus.count).reshape(-1, corpus.batch)
