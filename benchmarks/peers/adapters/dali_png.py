"""DALI on the CPU over 16-bit PNG files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import forms
from corpus import Corpus
from nvidia.dali import fn, types

from adapters import dali
from adapters.torch_workers import Batches

SETTINGS = dali.SETTINGS
TOLERANCE = dali.TOLERANCE


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `fn.decoders.image`, which keeps 16 bits where it is asked to."""
    decode = partial(fn.decoders.image, device="cpu", output_type=types.ANY_DATA, dtype=types.UINT16)
    return dali.batches(corpus, cores, forms.paths(corpus, folder, "png"), corpus.affine, decode)
