"""MosaicML Streaming: raw arrays in MDS shards on the local disk, windowed and resized in worker processes.

Page: docs.mosaicml.com/projects/streaming, "Performance Tuning": the defaults are tuned, `batch_size` must be
given; "Dataset Format": MDS is the most performant, an array of known shape and dtype needs no header.
"""

from __future__ import annotations

from pathlib import Path

from adapters import torchvision_schemas  # noqa: F401 - before streaming, which imports torchvision

# isort: split
import torch
from corpus import Corpus
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader
from windowing import see

from adapters import torch_workers
from adapters.torch_workers import Batches

SETTINGS = {**torch_workers.SETTINGS, "shuffle_algo": "py1e", "compression": None, "num_canonical_nodes": 1}


def write(corpus: Corpus, folder: Path) -> None:
    """Write shards of the default size, 64 MiB."""
    columns = {"image": f"ndarray:uint16:{corpus.rows},{corpus.rows}", "number": "int"}
    with MDSWriter(out=str(folder / "mds"), columns=columns) as writer:
        for number in range(corpus.count):
            writer.write({"image": corpus.image(number), "number": number})


class Seen(StreamingDataset):
    """A streaming dataset of windowed and resized images."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        super().__init__(
            local=str(folder / "mds"), shuffle=True, batch_size=corpus.batch, num_canonical_nodes=1
        )
        self.affine, self.side = corpus.affine, corpus.side

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        sample = super().__getitem__(at)
        number = sample["number"]
        return see(sample["image"], *self.affine[number], self.side), number


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `streaming.StreamingDataset`."""
    clean_stale_shared_memory()
    loader = DataLoader(
        Seen(corpus, folder),
        batch_size=corpus.batch,
        drop_last=True,
        num_workers=cores,
        persistent_workers=True,
        prefetch_factor=2,
    )
    while True:
        yield from loader
