"""LitData: raw arrays in chunks on the local disk, windowed and resized in worker processes.

Page: github.com/Lightning-AI/litdata, README: `optimize` with chunks of 64 MB,
`StreamingDataset(shuffle=True)`, `StreamingDataLoader` with workers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from corpus import Corpus, open_corpus
from litdata import StreamingDataLoader, StreamingDataset, optimize
from windowing import see

from adapters import torch_workers
from adapters.torch_workers import Batches

SETTINGS = {**torch_workers.SETTINGS, "chunk_bytes": "64MB"}


class FromCorpus:
    """A number becomes what is to be stored; opened in the process that writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.corpus: Corpus | None = None

    def __call__(self, number: int) -> dict[str, Any]:
        """Return a sample."""
        self.corpus = self.corpus or open_corpus(self.folder)
        return {"image": self.corpus.image(number), "number": number}


class Seen(StreamingDataset):
    """A streaming dataset of windowed and resized images."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        super().__init__(str(folder / "chunks"), shuffle=True, drop_last=True)
        self.affine, self.pixels_side = corpus.affine, corpus.side

    def __getitem__(self, at: Any) -> tuple[torch.Tensor, int]:
        sample = super().__getitem__(at)
        number = sample["number"]
        return see(sample["image"], *self.affine[number], self.pixels_side), number


def write(corpus: Corpus, folder: Path) -> None:
    """Write the chunks."""
    optimize(
        fn=FromCorpus(corpus.folder),
        inputs=list(range(corpus.count)),
        output_dir=str(folder / "chunks"),
        chunk_bytes=SETTINGS["chunk_bytes"],
        num_workers=1,
    )


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `litdata.StreamingDataLoader`."""
    loader = StreamingDataLoader(
        Seen(corpus, folder),
        batch_size=corpus.batch,
        num_workers=cores,
        persistent_workers=True,
        prefetch_factor=2,
        drop_last=True,
    )
    while True:
        yield from loader
