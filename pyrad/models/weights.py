"""A network's tensors and a few words about them <-> a safetensors file.

The words are one JSON object under the header's key ``pyrad``: a header with several keys would be written in
an order that changes from run to run. Files are read whole and never mapped (a truncated mapping kills the
process), and a pickle is never opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from pyrad.errors import IntegrityError, RefusedError, UsageError

Tensors = dict[str, torch.Tensor]

_KEY = "pyrad"
_PICKLES = (b"PK\x03\x04", b"\x80")  # torch.save's zip of a pickle, and a bare pickle
_NAMED_AT_MOST = 5


def encode_tensors(tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> bytes:
    """Serialise tensors and their description; equal contents give equal bytes."""
    # safetensors stores values in C order: a channels-last tensor is copied into it here.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(plain, {_KEY: json.dumps(description, sort_keys=True)})


def decode_tensors(data: bytes, what: str) -> tuple[Tensors, dict[str, Any]]:
    """Undo `encode_tensors`; the description of a file that pyrad did not write is empty.

    Raises:
        IntegrityError: ``data`` is no whole safetensors file; ``what`` names it.
        RefusedError: it is a pickle.

    """
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        description = json.loads(header.get("__metadata__", {}).get(_KEY, "{}"))
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype that torch has not
        # Only now: a header of 128 bytes, or 384, begins as a pickle does.
        if data.startswith(_PICKLES):
            raise RefusedError(
                f"{what} is a pickle, which can run any program; pyrad loads safetensors only. "
                "Convert it where it came from"
            ) from None
        raise IntegrityError(f"{what} is no whole safetensors file ({len(data):,} bytes)") from error
    if not isinstance(description, dict):
        raise IntegrityError(f"{what}: its header's {_KEY!r} is no JSON object")
    return tensors, description


def read_weights(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read a file of weights: its tensors, and what `encode_tensors` was told about them.

    Raises:
        UsageError: there is no such file.
        IntegrityError, RefusedError: as `decode_tensors`.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"weights {path}: {error.strerror}; give the path of a safetensors file") from None
    return decode_tensors(data, f"weights {path}")


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Put the weights of a file into ``model``, the network called ``name``.

    Raises:
        UsageError: there is no such file, or it holds another network or another number of classes.
        IntegrityError, RefusedError: as `decode_tensors`.

    """
    tensors, description = read_weights(path)
    owner = description.get("model", name)
    if owner != name:
        raise UsageError(f"weights {path} are of model {owner!r}, and {name!r} was asked for")
    fold_input(model, tensors)
    if misfit := describe_misfit(model, tensors):
        raise UsageError(f"weights {path} do not fit {name}: {misfit}")
    model.load_state_dict(tensors)


def fold_input(model: nn.Module, tensors: Tensors) -> None:
    """Change the first convolution in ``tensors`` between 3 and 1 input channels, if ``model`` needs it.

    3 -> 1 sums the kernels over the channels and 1 -> 3 spreads a third over each: exact (up to rounding) for
    an image whose three channels are equal after normalisation.
    """
    key = f"{model.input_layer}.weight"
    kernel = tensors.get(key)
    if kernel is None or kernel.ndim != 4:
        return
    wanted = model.get_parameter(key).shape[1]
    if (kernel.shape[1], wanted) == (3, 1):
        tensors[key] = kernel.sum(dim=1, keepdim=True)
    elif (kernel.shape[1], wanted) == (1, 3):
        tensors[key] = (kernel / 3).repeat(1, 3, 1, 1)


def describe_misfit(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> str:
    """Say how ``tensors`` differ from the model's state dict in names and shapes; empty where they fit."""
    own = model.state_dict()
    parts = []
    if missing := [key for key in own if key not in tensors]:
        parts.append(f"missing {_some(missing)}")
    if unexpected := sorted(key for key in tensors if key not in own):
        parts.append(f"unexpected {_some(unexpected)}")
    shapes = [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if shapes:
        parts.append(_some(shapes))
    return "; ".join(parts)


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
