"""torch's DataLoader over 16-bit PNG files, decoded by Pillow."""

from __future__ import annotations

from pathlib import Path

import forms
import numpy as np
import PIL.Image
from corpus import Corpus
from numpy.typing import NDArray

from adapters import torch_workers

SETTINGS = torch_workers.SETTINGS


def batches(corpus: Corpus, folder: Path, cores: int) -> torch_workers.Batches:
    """Read by `PIL.Image.open`."""
    paths = forms.paths(corpus, folder, "png")

    def read(number: int) -> NDArray[np.uint16]:
        with PIL.Image.open(paths[number]) as image:
            return np.asarray(image)

    return torch_workers.shuffled(torch_workers.Images(corpus, lambda: read), corpus, cores)
