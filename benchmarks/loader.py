"""The whole loader beside the kernel that it feeds: images a second from the same chunks, shuffled.

The kernel is one call of the core a batch, over chunks that lie in memory in another order than they are
asked for, many times what a cache holds, into memory that is used again: what a loader can lose is reading,
ordering and handing over. The loader reads a store of the same images from the disk ("cold": the system is
told to drop the files before each epoch), or as that left them in the system's memory ("stream"), or keeps
the chunks in its own ("ram"). Every batch of both is float32 or bfloat16 (256, 1, 224, 224), windowed,
resized and normalised.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import preprocess
import timing
from numpy.typing import NDArray

from pyrad import ops
from pyrad.loader.loader import Loader
from pyrad.store.reader import Store, open_store

sys.path.append(str(Path(__file__).parent / "peers"))

import corpus  # the peers' images
from adapters import pyrad as adapter  # who writes them into a store

THREADS = (1, 2)


def main() -> None:
    """Measure both on every number of threads, print the table, save the result."""
    parser = timing.arguments(__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4096, help="of the store (default: %(default)s)")
    options = parser.parse_args()
    if options.smoke:
        options.images = 16
    batch, side = (8, 32) if options.smoke else (256, 224)
    with tempfile.TemporaryDirectory() as folder:
        images = corpus.make_corpus(
            Path(folder) / "images", count=options.images, batch=batch, side=side, smoke=options.smoke
        )
        (Path(folder) / "data").mkdir()
        adapter.write(images, Path(folder) / "data")
        with open_store(Path(folder) / "data" / "store.zarr") as store:
            rows = measure(store, images, repetitions=2 if options.smoke else options.repetitions)
    print(timing.table(rows))
    facts = {
        images.name: {"images": images.unique, "copied to": images.count, "fingerprint": images.fingerprint}
    }
    path = timing.save("loader", rows, options, corpora=facts)
    if path:
        print(f"saved {path.name}")


def measure(store: Store, images: corpus.Corpus, *, repetitions: int) -> list[dict[str, Any]]:
    """Return one row a case; ``share`` is of the kernel on as many threads, by the medians."""
    core = chunks_of(images)
    shape = (images.batch, 1, images.side, images.side)
    cases: dict[tuple[str, str, int], Callable[[], object]] = {}
    for dtype in ("float32", "bfloat16"):
        for threads in THREADS:
            out = np.zeros(shape, np.float32 if dtype == "float32" else np.uint16)
            cases[dtype, "kernel", threads] = partial(kernel, images, core, out, threads)
            for case, residency in (("cold", "stream"), ("stream", "stream"), ("ram", "ram")):
                loader = Loader(
                    store,
                    batch_size=images.batch,
                    size=images.side,
                    dtype=dtype,
                    threads=threads,
                    residency=residency,
                )
                cases[dtype, f"loader, {case}", threads] = partial(drain, loader, drop=case == "cold")
    seconds = timing.interleaved({str(name): case for name, case in cases.items()}, repetitions=repetitions)
    rows = []
    for name in cases:
        dtype, case, threads = name
        taken, alone = (np.median(seconds[str(key)]) for key in (name, (dtype, "kernel", threads)))
        rows.append(
            {
                "output": dtype,
                "case": case,
                "threads": threads,
                "images/s": timing.rate(seconds[str(name)], work=images.count, unit="images"),
                "share": round(float(alone / taken), 3),
            }
        )
    return rows


def drain(loader: Loader, *, drop: bool) -> None:
    """One epoch, from the disk if the system is to ``drop`` the store's files first."""
    for shard in loader.store.path.rglob("c/**/0") if drop else ():
        if shard.is_file():
            with shard.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    for batch in loader:
        assert len(batch.keys) == loader.batch_size  # noqa: S101 - whole batches only


def chunks_of(images: corpus.Corpus) -> preprocess.Core:
    """Chunks and records of all images, as the core takes them."""
    job = preprocess.Job(
        images=[images.image(number) for number in range(images.count)],
        centers=np.resize(images.windows[:, 0], images.count),
        widths=np.resize(images.windows[:, 1], images.count),
        side=images.side,
    )
    return preprocess.Core(job, tilepack=True, bfloat16=True)


def kernel(images: corpus.Corpus, core: preprocess.Core, out: NDArray[Any], threads: int) -> None:
    """An epoch of calls of the core."""
    for places in np.random.default_rng(0).permutation(images.count).reshape(-1, images.batch):
        statuses = ops.preprocess(
            core.slab, core.records[places], out, mean=[0.5], std=[0.5], channels=1, threads=threads
        )
        if statuses.any():
            raise AssertionError(f"statuses {statuses[statuses != 0].tolist()}")


if __name__ == "__main__":
    main()
