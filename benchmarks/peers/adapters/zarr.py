"""torch's DataLoader over a sharded Zarr array, read by zarr-python image by image.

Page: zarr.readthedocs.io, "Optimizing performance", parallel computing: beside other parallelism keep zarr's
own threads and concurrency low. A store is opened in each worker: its event loop does not survive a fork.
"""

from __future__ import annotations

from pathlib import Path

import zarr
from corpus import Corpus

from adapters import torch_workers

ZARR = {"threading.max_workers": 1, "async.concurrency": 1}
SETTINGS = {**torch_workers.SETTINGS, **ZARR}


def batches(corpus: Corpus, folder: Path, cores: int) -> torch_workers.Batches:
    """Read by `zarr.Array.__getitem__`."""
    zarr.config.set(ZARR)

    def opened():  # noqa: ANN202 - as torch_workers.Images takes it
        return zarr.open_array(str(folder / "images.zarr"), mode="r").__getitem__

    return torch_workers.shuffled(torch_workers.Images(corpus, opened), corpus, cores)
