"""DALI on the CPU over 8-bit JPEG files, which were windowed before they were compressed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import forms
import numpy as np
from corpus import Corpus
from nvidia.dali import fn, types

from adapters import dali
from adapters.torch_workers import Batches

SETTINGS = {**dali.SETTINGS, "quality": forms.JPEG_QUALITY}
TOLERANCE = 0.03  # JPEG is lossy


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `fn.decoders.image`."""
    affine = np.tile(np.float32([1 / 255, 0]), (corpus.count, 1))
    decode = partial(fn.decoders.image, device="cpu", output_type=types.GRAY)
    return dali.batches(corpus, cores, forms.paths(corpus, folder, "jpg"), affine, decode)
