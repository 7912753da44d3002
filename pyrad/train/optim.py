"""Parameters -> AdamW; a step's number -> its learning rate; AdamW's state <-> named tensors.

AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. The cosine is that of their
"SGDR", ICLR 2017, without restarts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from pyrad.errors import IntegrityError

_FUSED_ON = ("cpu", "cuda")


def make_adamw(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the model's parameters; matrices and kernels decay, norms and biases do not.

    Its learning rate is 0 until `learning_rate` says more.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(parameter.device.type in _FUSED_ON for parameter in parameters)
    return torch.optim.AdamW(groups, lr=0.0, fused=fused)


def learning_rate(step: int, *, total: int, warmup: float, peak: float) -> float:
    """Return the rate of step ``step`` (from 0) of ``total``: a linear rise, then half a cosine down to 0.

    ``warmup`` is the share of the steps that rise; the first of them is already above 0.
    """
    rising = round(warmup * total)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (total - rising)))


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """Flatten the optimiser's state into ``{"exp_avg/layer1.0.conv1.weight": tensor, ...}``."""
    return {
        f"{kind}/{name}": value
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Undo `optimizer_tensors`.

    IntegrityError where a tensor belongs to no parameter or is not of its shape.
    """
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        parameter = parameters.get(name)
        if parameter is None or tensor.shape not in (parameter.shape, torch.Size()):
            raise IntegrityError(f"the optimiser's {key} {tuple(tensor.shape)} belongs to no parameter")
        if tensor.shape == parameter.shape:
            # The fused kernel walks parameter and state by memory order: both must have the same layout.
            value = torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
        else:
            value = tensor.clone()  # the count of steps
        optimizer.state[parameter][kind] = value
