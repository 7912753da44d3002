"""torch's DataLoader over uncompressed DICOM files, read by pydicom.

Page: pydicom.github.io, "pydicom.pixels.pixel_array": given a path it reads only the elements it needs. The
window is not read again: everybody is given it.
"""

from __future__ import annotations

from pathlib import Path

import forms
from corpus import Corpus
from pydicom.pixels import pixel_array

from adapters import torch_workers

SETTINGS = {**torch_workers.SETTINGS, "pydicom": "pixels.pixel_array(path)"}


def batches(corpus: Corpus, folder: Path, cores: int) -> torch_workers.Batches:
    """Read by `pydicom.pixels.pixel_array`."""
    paths = forms.paths(corpus, folder, "dcm")
    images = torch_workers.Images(corpus, lambda: lambda number: pixel_array(paths[number]))
    return torch_workers.shuffled(images, corpus, cores)
