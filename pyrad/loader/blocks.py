"""The samples table, block by block -> arrays of what is made of each sample; the table is not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyrad.store.samples import Samples

_AT_ONCE = 1 << 14  # samples: what is made of them on the way then fits the second cache

Made = dict[str, NDArray[Any]]


def by_block(
    samples: Samples,
    rows: NDArray[np.int64],
    names: list[str],
    make: Callable[[Mapping[str, pa.ChunkedArray], slice], Made],
) -> Made:
    """Join what ``make`` makes of the columns ``names`` of samples ``rows`` (n,), some at a time.

    ``rows`` ascend. ``make`` gets columns with one value for each of ``rows`` in the slice that it gets too,
    and returns arrays of as many rows, by the same names each time.
    """
    made: Made = {}
    begin = 0
    for block in _read_ahead(samples.blocks(names)):
        first, last = np.searchsorted(rows, [begin, begin + len(block)]).tolist()
        for start in range(first, last, _AT_ONCE):
            here = slice(start, min(start + _AT_ONCE, last))
            chosen = block.take(pa.array(rows[here] - begin))
            for name, values in make(dict(zip(names, chosen.columns, strict=True)), here).items():
                if name not in made:
                    made[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
                made[name][here] = values
        begin += len(block)
    return made


def _read_ahead(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same blocks: while one is in use, the next one is read."""
    with ThreadPoolExecutor(1, thread_name_prefix="pyrad-blocks") as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block
