"""Predictions -> the images worth looking at, drawn as the network saw them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pyrad.errors import IntegrityError
from pyrad.eval.measure import decisions
from pyrad.eval.predictions import Predictions
from pyrad.loader.loader import Loader


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One image to show: ``row`` of the predictions, and what the model said of it."""

    row: int
    key: str
    truth: str  # the true class, or classes
    said: str
    score: float  # of the class that is right or wrong here


def worst_mistakes(predictions: Predictions, most: int) -> list[Choice]:
    """Return the labelled images whose wrong answer was most confident, the worst first.

    Confidence is the score of the predicted class; with several labels, how far the score of a class is on
    the wrong side. Equal ones stand in the order of their keys.
    """
    said = decisions(predictions)
    wrong = predictions.labelled[:, None] & (said != (predictions.truth == 1))
    if not predictions.multi_label:
        wrong &= said  # the class that was said, not the one that was missed
    confidence = np.where(wrong, np.abs(predictions.scores - predictions.truth), -1.0)
    worst = confidence.max(axis=1, initial=-1.0)
    order = np.lexsort((predictions.keys, -worst))[:most]
    return [
        _choice(predictions, said, int(row), int(confidence[row].argmax()))
        for row in order
        if worst[row] >= 0
    ]


def right_ones(predictions: Predictions, most: int) -> list[Choice]:
    """Return the images that were most confidently right, the classes in turn."""
    said = decisions(predictions)
    right = said & (predictions.truth == 1)
    by_class = []
    for k in range(len(predictions.classes)):
        rows = np.flatnonzero(right[:, k])
        best = rows[np.lexsort((predictions.keys[rows], -predictions.scores[rows, k]))][:most]
        by_class.append([(int(row), k) for row in best])
    chosen: dict[int, int] = {}
    for turn in zip_longest(*by_class):
        for place in turn:
            if place is not None and len(chosen) < most:
                chosen.setdefault(*place)
    return [_choice(predictions, said, row, k) for row, k in chosen.items()]


def draw(loader: Loader, choices: Sequence[Choice]) -> list[bytes]:
    """Return a PNG of each choice as the network saw it: windowed, at the run's size, not full resolution.

    ``loader`` is an evaluation loader of one image a batch over the split that was predicted.

    Raises:
        IntegrityError: the split is not the one that was predicted, or a chunk is damaged.

    """
    pictures = []
    for choice in choices:
        loader.load_state_dict({**loader.state_dict(), "position": choice.row})
        batch = next(iter(loader))
        if batch.keys[0] != choice.key:
            raise IntegrityError(
                f"image {choice.row} of split {loader.split!r} is not the one that was predicted; run pyrad "
                "evaluate again"
            )
        pictures.append(_png(_as_seen(batch.images[0], loader)))
    loader.close()
    return pictures


def _as_seen(image: torch.Tensor, loader: Loader) -> NDArray[np.uint8]:
    """(C, H, W) normalised -> (H, W, C) from 0 to 255."""
    recipe = loader.recipe
    mean, std = (
        torch.tensor(recipe.per_channel(values))[:, None, None] for values in (recipe.mean, recipe.std)
    )
    grey = (image.float() * std + mean).clamp(0, 1)
    return np.asarray((grey * 255).round().permute(1, 2, 0).numpy(), np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _choice(predictions: Predictions, said: NDArray[np.bool_], row: int, k: int) -> Choice:
    names = predictions.classes
    answer = ", ".join(names[c] for c in np.flatnonzero(said[row])) or "none"
    if predictions.multi_label:
        answer += f" ({names[k]} in question)"
    return Choice(
        row=row,
        key=str(predictions.keys[row]),
        truth=", ".join(names[c] for c in np.flatnonzero(predictions.truth[row])),
        said=answer,
        score=float(predictions.scores[row, k]),
    )
