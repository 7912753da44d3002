"""A loader -> a map-style dataset of MONAI's dictionaries, whose images know their spacing."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pyrad.errors import MissingDependencyError
from pyrad.loader.loader import Loader

try:
    from monai.data import MetaTensor
except ModuleNotFoundError:
    raise MissingDependencyError("pyrad.loader.monai needs MONAI: pip install 'pyrad[monai]'") from None


class DictView(Dataset[dict[str, Any]]):
    """Item i is the image at position i of the loader's sequence, as `pyrad.loader.datasets.MapView` has it.

    It is a sequence of dictionaries, so MONAI's own datasets take it as their ``data`` and its DataLoader
    takes it as it is:

    - ``image``: a MetaTensor (C, H, W). Its ``affine`` (4, 4) takes (row, column, 0, 1) of the image that is
      seen, crop and flip included, to millimetres along the stored image's rows and columns, from the middle
      of its first pixel; to pixels where the store has no spacing. A store keeps neither position nor
      orientation of an image. Of its ``meta``, ``original_affine`` is that of the stored image,
      ``spatial_shape`` its (rows, columns), ``spacing_mm`` its spacing or nan, ``filename_or_obj`` its key.
    - ``label``: int64 () or float32 (K,), as in a `Batch`; ``key``: the sample's.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader.samples)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        number = operator.index(index)
        if not 0 <= number < len(self):
            raise IndexError(f"image {number} of {len(self)}")
        return self.__getitems__([number])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """Images at ``positions`` for a collation, by one call of the core, without the padding."""
        wanted = np.asarray(positions, np.int64)
        batch, placed = self.loader.at(wanted), self.loader.placement(wanted)
        return [
            {
                "image": MetaTensor(
                    batch.images[number],
                    affine=_in_three_dimensions(placed.affine[number]),
                    meta={
                        "original_affine": _in_three_dimensions(np.diag([*placed.step[number], 1.0])),
                        "spatial_shape": torch.from_numpy(placed.shape[number]),
                        "spacing_mm": torch.from_numpy(placed.spacing_mm[number]),
                        "filename_or_obj": batch.keys[number],
                    },
                ),
                "label": batch.labels[number],
                "key": batch.keys[number],
            }
            for number in np.flatnonzero(batch.valid.numpy())
        ]


def _in_three_dimensions(affine: NDArray[np.float64]) -> torch.Tensor:
    """Turn the affine (3, 3) of an image into MONAI's (4, 4): the third axis is the image's own."""
    whole = torch.eye(4, dtype=torch.float64)
    whole[:2, :2] = torch.from_numpy(affine[:2, :2])
    whole[:2, 3] = torch.from_numpy(affine[:2, 2])
    return whole
