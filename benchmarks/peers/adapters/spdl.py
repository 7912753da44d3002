"""SPDL: .npy files read, windowed and resized by threads.

Page: facebookresearch.github.io/spdl, "Data Format and Performance": raw arrays, `spdl.io.load_npy` in
place of `numpy.load`, threads in place of processes; "Concurrency": as many threads as cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forms
import torch
from corpus import Corpus
from spdl.io import load_npy
from spdl.pipeline import PipelineBuilder
from windowing import see

from adapters.order import shuffled_numbers
from adapters.torch_workers import Batches

SETTINGS = {"num_threads": "cores", "concurrency": "cores", "buffer_size": 2}


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by a pipeline that never ends."""
    paths = [Path(path) for path in forms.paths(corpus, folder, "npy")]
    torch.set_num_threads(1)  # the pipeline has the threads

    def seen(number: int) -> tuple[torch.Tensor, int]:
        stored = load_npy(paths[number].read_bytes())
        return see(stored, *corpus.affine[number], corpus.side), number

    def collate(samples: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, Any]:
        images, numbers = zip(*samples, strict=True)
        return torch.stack(images), numbers

    pipeline = (
        PipelineBuilder()
        .add_source(int(number) for numbers in shuffled_numbers(corpus) for number in numbers)
        .pipe(seen, concurrency=cores)
        .aggregate(corpus.batch)
        .pipe(collate)
        .add_sink(SETTINGS["buffer_size"])
        .build(num_threads=cores)
    )
    with pipeline.auto_stop():
        yield from pipeline
