"""Model and a loader of a held-out split -> mean loss and top-1, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from pyrad.progress import Stage
from pyrad.records import Batch


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Means over ``samples`` labelled images; ``accuracy`` is top-1, None in a multi-label store."""

    loss: float
    accuracy: float | None
    samples: int


def class_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, multi_label: bool, smoothing: float = 0.0
) -> torch.Tensor:
    """Mean loss of a batch: cross-entropy, or binary cross-entropy averaged over the classes.

    ``logits`` (N, K); ``labels`` int64 (N,), or float32 (N, K) where ``multi_label``. ``smoothing`` moves
    each target that share of the way to 1 / K, or to 1 / 2.
    """
    if multi_label:
        smooth = labels * (1.0 - smoothing) + 0.5 * smoothing
        return functional.binary_cross_entropy_with_logits(logits, smooth)
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def labelled_rows(batch: Batch, *, multi_label: bool) -> torch.Tensor:
    """Which rows of a batch are no padding and have a target: bool (N,).

    An image without any label says nothing; "no finding" is a label of its own.
    """
    has_target = batch.labels.sum(dim=1) > 0 if multi_label else batch.labels >= 0
    return batch.valid & has_target


def validate(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    multi_label: bool,
    stage: Stage,
    stop: Callable[[], bool],
) -> Validation | None:
    """Run the model over ``batches`` once, without gradients; None where ``stop`` said so half-way.

    The loss is nan where no sample has a target. The model is left in training mode.
    """
    loss_sum, hits, samples = 0.0, 0, 0
    model.eval()
    try:
        for batch in batches:
            if stop():
                return None
            rows = labelled_rows(batch, multi_label=multi_label)
            count = int(rows.sum())
            if count:
                labels = batch.labels[rows]
                with torch.inference_mode():
                    logits = model(batch.images[rows])
                loss_sum += count * class_loss(logits, labels, multi_label=multi_label).item()
                if not multi_label:
                    hits += int((logits.argmax(dim=1) == labels).sum())
                samples += count
            stage.advance(int(batch.valid.sum()))
    finally:
        model.train()
    return Validation(
        loss=loss_sum / samples if samples else float("nan"),
        accuracy=hits / samples if samples and not multi_label else None,
        samples=samples,
    )
