"""Predictions -> every number of an evaluation, as JSON holds it; undefined is None, never a number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrad import metrics
from pyrad.eval.predictions import Predictions
from pyrad.records import Report

TOP_K = 5
THRESHOLD = 0.5  # of a sigmoid: above or at it, a class is said to be there

# What is measured twice: patients are what generalises, images are what other papers count.
Measured = dict[str, Any]


def measure(predictions: Predictions) -> Measured:
    """Measure the labelled images; the two intervals of each value count patients, or images, as independent.

    ``predictions`` may hold no labelled image: then all is undefined.
    """
    counted = predictions.only(predictions.labelled)
    said = decisions(counted)
    values: Measured = {
        "counts": {
            "images": len(counted.keys),
            "patients": len(np.unique(counted.groups)),
            "left_out": len(predictions.keys) - len(counted.keys),
        },
        "auroc": _twice(metrics.macro_auroc, counted, counted.truth, counted.scores),
        "top1": None,
        "top5": None,
        "balanced_accuracy": None,
        "confusion": None,
        "classes": _per_class(counted, said),
    }
    recalls = [row["recall"] for row in values["classes"] if row["recall"] is not None]
    if not counted.multi_label:
        own = counted.truth.argmax(axis=1)
        for name, k in (("top1", 1), ("top5", TOP_K)):
            if k == 1 or len(counted.classes) > TOP_K:
                hits = metrics.top_k_hits(own, counted.scores, k)
                values[name] = _twice(metrics.accuracy, counted, hits)
        values["balanced_accuracy"] = float(np.mean(recalls)) if recalls else None
        values["confusion"] = metrics.confusion_matrix(
            own, counted.scores.argmax(axis=1), len(counted.classes)
        ).tolist()
    return values


def decisions(predictions: Predictions) -> NDArray[np.bool_]:
    """(N, K) what the model says: its highest class, or all at or above the threshold."""
    if predictions.multi_label:
        return np.asarray(predictions.scores >= THRESHOLD)
    highest = predictions.scores.argmax(axis=1)
    return np.asarray(highest[:, None] == np.arange(len(predictions.classes)))


def _per_class(counted: Predictions, said: NDArray[np.bool_]) -> list[Measured]:
    rows = []
    for k, name in enumerate(counted.classes):
        there = counted.truth[:, k] == 1
        right = int((there & said[:, k]).sum())
        rows.append(
            {
                "class": name,
                "images": int(there.sum()),  # the support
                "patients": len(np.unique(counted.groups[there])),
                "auroc": _twice(metrics.auroc, counted, counted.truth[:, k], counted.scores[:, k]),
                "precision": _share(right, int(said[:, k].sum())),
                "recall": _share(right, int(there.sum())),
            }
        )
    return rows


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _twice(metric: Any, counted: Predictions, *arguments: ArrayLike) -> Measured:
    """Value, and its interval with patients and with images as what is independent."""
    by_patient: Report = metric(*arguments, groups=counted.groups)
    by_image: Report = metric(*arguments)
    return {
        "value": _defined(by_patient.value),
        "by_patient": _interval(by_patient),
        "by_image": _interval(by_image),
    }


def _interval(report: Report) -> list[float] | None:
    low, high = (_defined(bound) for bound in report.interval)
    return None if low is None or high is None else [low, high]


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
