"""batch (N, C, H, W) -> logits (N, num_classes): the networks, by name.

Each network is one file of plain torch whose state-dict names equal torchvision's and timm's, so that their
weights load as they are. A network offers ``forward_features`` (N, features, h, w) beside ``forward``, and
names its first convolution and its last layer in ``input_layer`` and ``head``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from pyrad.errors import UsageError
from pyrad.models.resnet50 import ResNet50
from pyrad.models.weights import load_weights

# name -> constructor(num_classes=, in_chans=)
MODELS: dict[str, Callable[..., nn.Module]] = {"resnet50": ResNet50}


def create_model(
    name: str, *, num_classes: int, in_chans: int = 1, weights: str | Path | None = None
) -> nn.Module:
    """Build a network with random weights (torch's global generator), or with those of a file.

    ``weights`` is a safetensors file: a ``model.safetensors`` of pyrad, or one with torchvision's or timm's
    names. Its first convolution is folded where it has 3 input channels and 1 is asked for, or the reverse
    (`pyrad.models.weights.fold_input`); everything else must fit as it is.

    Raises:
        UsageError: the name is unknown, a count is below 1, or the weights belong to another network.
        IntegrityError: the file of weights is damaged.
        RefusedError: the file of weights is a pickle.

    """
    if name not in MODELS:
        raise UsageError(f"there is no model {name!r}; models: {', '.join(sorted(MODELS))}")
    if num_classes < 1:
        raise UsageError(f"num_classes is {num_classes}; a model needs at least 1 class")
    if in_chans not in (1, 3):
        raise UsageError(f"in_chans is {in_chans}; allowed are 1 (grey) and 3 (planes or windows)")
    model = MODELS[name](num_classes=num_classes, in_chans=in_chans)
    if weights is not None:
        load_weights(model, Path(weights), name)
    return model
