"""DALI on the CPU over .npy files: raw pixels."""

from __future__ import annotations

from pathlib import Path

import forms
from corpus import Corpus
from nvidia.dali import fn

from adapters import dali
from adapters.torch_workers import Batches

SETTINGS = dali.SETTINGS
TOLERANCE = dali.TOLERANCE


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `fn.decoders.numpy`."""
    paths = forms.paths(corpus, folder, "npy")
    return dali.batches(corpus, cores, paths, corpus.affine, fn.decoders.numpy)
