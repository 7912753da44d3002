"""model + loader -> one row of scores an image; and that table <-> predictions.parquet.

Every image of the split has a row. Those without a usable label have scores too, but count in no metric.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import nn

from pyrad.errors import IntegrityError, PyradError
from pyrad.loader.loader import Loader
from pyrad.progress import Stage

_SCORE = "score:"  # before a class's name: no class can collide with another column


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """N images of one split, in the store's order, and K classes.

    ``scores`` float64 (N, K): softmax probabilities, or one sigmoid a class where ``multi_label``. ``truth``
    int64 (N, K): zeros and ones; a row of zeros has no usable label.
    """

    classes: tuple[str, ...]
    multi_label: bool
    keys: NDArray[Any]
    groups: NDArray[Any]
    truth: NDArray[np.int64]
    scores: NDArray[np.float64]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(N,) which images count."""
        return np.asarray(self.truth.any(axis=1))

    def only(self, rows: NDArray[Any]) -> Predictions:
        """Return those of ``rows``, a mask or indices."""
        return Predictions(
            classes=self.classes,
            multi_label=self.multi_label,
            keys=self.keys[rows],
            groups=self.groups[rows],
            truth=self.truth[rows],
            scores=self.scores[rows],
        )


def predict(model: nn.Module, loader: Loader, stage: Stage) -> Predictions:
    """Run ``model`` once over an evaluation loader, without gradients.

    Raises:
        PyradError: a score is not finite.

    """
    keys: list[str] = []
    truth, scores = [], []
    model.eval()
    with torch.inference_mode():
        for batch in loader:
            rows = batch.valid
            # In double: a confident float32 softmax rounds to 1, and the order, AUROC's all, is lost.
            logits = model(batch.images[rows].float()).double()
            scores.append((torch.sigmoid(logits) if loader.multi_label else logits.softmax(dim=1)).numpy())
            labels = batch.labels[rows]
            one_hot = labels if loader.multi_label else labels[:, None] == torch.arange(len(loader.classes))
            truth.append(one_hot.long().numpy())
            keys += [key for key, valid in zip(batch.keys, rows.tolist(), strict=True) if valid]
            stage.advance(int(rows.sum()))
    table = np.concatenate(scores)
    if strange := int((~np.isfinite(table)).any(axis=1).sum()):
        raise PyradError(
            f"the model gives scores that are not finite for {strange} of {len(table)} images; its weights "
            "are not usable: train again with a lower --lr"
        )
    groups = pc.cast(loader.store.samples["group"].take(pa.array(loader.samples)), "string")
    return Predictions(
        classes=loader.classes,
        multi_label=loader.multi_label,
        keys=np.array(keys),
        groups=pc.fill_null(groups, "").to_numpy().astype(str),
        truth=np.concatenate(truth),
        scores=table,
    )


def to_parquet(predictions: Predictions) -> bytes:
    """Columns key, group, label (or labels, a list, where there may be several), then ``score:CLASS``."""
    names = [
        [predictions.classes[k] for k in np.flatnonzero(row)]  # of the model's classes only
        for row in predictions.truth
    ]
    columns = {"key": pa.array(predictions.keys.tolist()), "group": pa.array(predictions.groups.tolist())}
    if predictions.multi_label:
        columns["labels"] = pa.array(names, pa.list_(pa.string()))
    else:
        columns["label"] = pa.array([own[0] if own else None for own in names], pa.string())
    for k, name in enumerate(predictions.classes):
        columns[_SCORE + name] = pa.array(predictions.scores[:, k])
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def from_parquet(data: bytes, classes: tuple[str, ...], *, multi_label: bool) -> Predictions:
    """Undo `to_parquet`.

    Raises:
        IntegrityError: the table is damaged, or is of other classes.

    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        own = table["labels" if multi_label else "label"].to_pylist()
        index = {name: k for k, name in enumerate(classes)}
        truth = np.zeros((len(own), len(classes)), np.int64)
        for row, names in enumerate(own):
            for name in names if multi_label else () if names is None else (names,):
                truth[row, index[name]] = 1
        return Predictions(
            classes=classes,
            multi_label=multi_label,
            keys=table["key"].to_numpy().astype(str),
            groups=table["group"].to_numpy().astype(str),
            truth=truth,
            scores=np.stack([table[_SCORE + name].to_numpy() for name in classes], axis=1),
        )
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            "predictions.parquet is damaged or of other classes; run pyrad evaluate again"
        ) from error
