"""As adapters.zarr, with zarrs (Rust) in place of zarr-python's own pipeline of codecs.

Page: pypi.org/project/zarrs, "Configuration": `threading.max_workers` bounds its threads; beside worker
processes one each.
"""

from __future__ import annotations

from pathlib import Path

import zarr
import zarrs  # noqa: F401 - the pipeline that is named below
from corpus import Corpus

from adapters import torch_workers
from adapters import zarr as zarr_python

ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
SETTINGS = {**zarr_python.SETTINGS, **ZARRS}


def batches(corpus: Corpus, folder: Path, cores: int) -> torch_workers.Batches:
    """Read by `zarr.Array.__getitem__`."""
    zarr.config.set(ZARRS)
    return zarr_python.batches(corpus, folder, cores)
