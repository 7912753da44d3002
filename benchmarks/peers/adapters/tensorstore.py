"""A sharded Zarr array by tensorstore, a batch ahead, windowed and resized by torch in the same process.

Page: google.github.io/tensorstore, "Context framework": `data_copy_concurrency` bounds the threads that
decode, `file_io_concurrency` the reads under way, `cache_pool` holds the shards' indices; what is
cached is not looked at again (`recheck_cached_data`: open).
"""

from __future__ import annotations

from pathlib import Path

import tensorstore
from corpus import Corpus
from windowing import pool_of, see_batch

from adapters.order import shuffled_numbers
from adapters.torch_workers import Batches

SETTINGS = {
    "file_io_concurrency": 32,
    "data_copy_concurrency": "cores",
    "cache_pool.total_bytes_limit": 16 << 20,
    "batches ahead": 1,
}


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read a batch by one index array, while torch works on the last one."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(folder / "images.zarr")},
        "recheck_cached_data": "open",
        "recheck_cached_metadata": "open",
        "context": {
            "cache_pool": {"total_bytes_limit": SETTINGS["cache_pool.total_bytes_limit"]},
            "data_copy_concurrency": {"limit": cores},
            "file_io_concurrency": {"limit": SETTINGS["file_io_concurrency"]},
        },
    }
    array = tensorstore.open(spec, read=True).result()
    pool = pool_of(cores)
    order = shuffled_numbers(corpus)
    numbers = next(order)
    read = array[numbers].read()
    while True:
        following = next(order)
        ahead = array[following].read()
        yield see_batch(read.result(), corpus.affine[numbers], corpus.side, pool), numbers
        numbers, read = following, ahead
