"""torch's DataLoader over .npy files: raw pixels, nothing to decode."""

from __future__ import annotations

from pathlib import Path

import forms
import numpy as np
from corpus import Corpus

from adapters import torch_workers

SETTINGS = torch_workers.SETTINGS


def batches(corpus: Corpus, folder: Path, cores: int) -> torch_workers.Batches:
    """Read by `numpy.load`."""
    paths = forms.paths(corpus, folder, "npy")
    images = torch_workers.Images(corpus, lambda: lambda number: np.load(paths[number]))
    return torch_workers.shuffled(images, corpus, cores)
