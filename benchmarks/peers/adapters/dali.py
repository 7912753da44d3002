"""DALI on the CPU: files in a random order, decoded, windowed and resized by its own operators.

Page: docs.nvidia.com/deeplearning/dali, "External Source" (names and windows of a batch
at a time) and "Performance Tuning" (defaults are tuned; the prefetch queue holds two batches). Three peers
share it, each with a decoder: adapters.dali_png, adapters.dali_npy, adapters.dali_jpeg.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from corpus import Corpus
from numpy.typing import NDArray
from nvidia.dali import fn, math, pipeline_def, types

from adapters.order import shuffled_numbers
from adapters.torch_workers import Batches

SETTINGS = {"num_threads": "cores", "prefetch_queue_depth": 2, "antialias": True}
TOLERANCE = 1e-3  # beyond an image's edge its filter repeats the last pixel; Pillow's and torch's ends there


def batches(
    corpus: Corpus, cores: int, paths: Sequence[str], affine: NDArray[np.float32], decode: Callable[..., Any]
) -> Batches:
    """Read by a pipeline; ``affine`` (count, 2) turns what ``decode`` gives into [0, 1]."""
    names = [np.frombuffer(path.encode(), np.uint8) for path in paths]
    order = shuffled_numbers(corpus)

    def source() -> tuple[list[NDArray[Any]], ...]:
        numbers = next(order)
        scale, offset = affine[numbers].T
        return [names[number] for number in numbers], list(scale), list(offset), list(numbers)

    @pipeline_def(batch_size=corpus.batch, num_threads=cores, device_id=None, prefetch_queue_depth=2)
    def pipeline() -> tuple[Any, Any]:
        name, scale, offset, number = fn.external_source(source=source, num_outputs=4, batch=True)
        image = fn.reshape(decode(fn.io.file.read(name)), shape=[corpus.rows, corpus.rows, 1], layout="HWC")
        y = math.clamp(fn.cast(image, dtype=types.FLOAT), -offset / scale, (1.0 - offset) / scale)
        y = fn.resize(y, size=(corpus.side, corpus.side), interp_type=types.INTERP_LINEAR, antialias=True)
        return fn.reshape(
            y * (2.0 * scale) + (2.0 * offset - 1.0), shape=[1, corpus.side, corpus.side], layout="CHW"
        ), number

    built = pipeline()
    built.build()
    while True:
        images, numbers = built.run()
        yield torch.from_numpy(np.asarray(images.as_tensor())), np.asarray(numbers.as_tensor()).ravel()
