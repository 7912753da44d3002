"""WebDataset: .npy in tar files, shuffled by shard and in a buffer, batched in worker processes.

Page: webdataset.github.io, "Sharding, Parallel I/O, and DataLoader": shards in a random order, `.shuffle`
behind them, batches made inside the dataset, and a loader with `batch_size=None`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import webdataset
from corpus import Corpus
from windowing import see

from adapters.torch_workers import Batches

SHARDS = 16
SETTINGS = {"num_workers": "cores", "persistent_workers": True, "shards": SHARDS, "shuffle": 1000}


def write(corpus: Corpus, folder: Path) -> None:
    """Write tar files of equal numbers of images."""
    most = -(-corpus.count // SHARDS)
    with webdataset.ShardWriter(
        str(folder / "%04d.tar"), maxcount=most, maxsize=1 << 40, verbose=0
    ) as writer:
        for number in range(corpus.count):
            writer.write({"__key__": f"{number:06d}", "npy": corpus.image(number)})


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `webdataset.WebDataset`."""
    shards = sorted(str(path) for path in folder.glob("*.tar"))

    def seen(sample: dict[str, object]) -> tuple[torch.Tensor, int]:
        number = int(str(sample["__key__"]))
        return see(np.asarray(sample["npy"]), *corpus.affine[number], corpus.side), number

    dataset = (
        webdataset.WebDataset(shards, shardshuffle=SHARDS)
        .shuffle(SETTINGS["shuffle"])
        .decode()
        .map(seen)
        .batched(corpus.batch, collation_fn=torch.utils.data.default_collate, partial=False)
    )
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=cores, persistent_workers=True)
    while True:
        yield from loader
