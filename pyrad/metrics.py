"""labels + scores -> values with honest intervals, in plain NumPy and 64-bit floats.

Undefined is a value here: a set with one class has no AUROC, and says so with nan, never with a number.

Sources: DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837 (variance); Sun and Xu, IEEE Signal
Process Lett 2014;21:1389 (its computation from midranks in O(n log n)); Obuchowski, Biometrics 1997;53:567
(several images of one patient); LeDell, Petersen and van der Laan, Electron J Stat 2015;9:1583 (influence
values, by which a mean of several AUROCs gets its variance).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrad.errors import UsageError
from pyrad.records import Report

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_UNDEFINED = Report(value=np.nan, interval=(np.nan, np.nan), variance=np.nan)
_Z95 = NormalDist().inv_cdf(0.975)


def auroc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> Report:
    """Area under the ROC curve of a binary score, with DeLong's or Obuchowski's 95 % interval.

    Args:
        labels: (N,) zeros and ones; one is the class that high scores should mark.
        scores: (N,) finite numbers; ties count one half.
        groups: (N,) patients. Given, the variance is Obuchowski's for clustered data (equal to DeLong's
            where every patient has one image); else DeLong's.

    The interval is symmetric on the logit scale. Where the area is 0 or 1 the variance is zero and says
    nothing: the far bound is then Clopper and Pearson's for a proportion over the patients of the rarer
    class, which is conservative. With one class only, every field is nan.

    Raises:
        UsageError: the shapes differ, a label is neither 0 nor 1, or a score is not finite.

    """
    placements = _placements(*_checked(labels, scores))
    if placements is None:
        return _UNDEFINED
    clusters = _clusters(groups, placements.positive.size)
    value = placements.area
    variance = _obuchowski_variance(placements, clusters)
    rarer = _patients_of_the_rarer_class(placements.positive, clusters)
    return Report(value=value, interval=_interval(value, variance, rarer), variance=variance)


def macro_auroc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> Report:
    """Mean over classes of the one-against-rest AUROC, with a 95 % interval from influence values.

    Args:
        labels: (N,) class indices, or (N, K) zeros and ones.
        scores: (N, K), one column a class.
        groups: (N,) patients, whose images' influence values are summed before they are squared.

    Classes that are absent from ``labels``, or fill it, have no AUROC and are left out of the mean; with no
    class left every field is nan.

    """
    table = _as_score_table(scores)
    truth = one_hot(labels, table.shape[1])
    clusters = _clusters(groups, len(table))
    influence = np.zeros(len(table))
    areas = []
    rarest = len(table)
    for k in range(table.shape[1]):
        placements = _placements(*_checked(truth[:, k], table[:, k]))
        if placements is None:
            continue
        areas.append(placements.area)
        influence += placements.influence
        rarest = min(rarest, _patients_of_the_rarer_class(placements.positive, clusters))
    if not areas:
        return _UNDEFINED
    per_cluster = np.bincount(clusters, weights=influence / len(areas))
    n_clusters = len(per_cluster)
    variance = float(np.sum(per_cluster**2) * n_clusters / max(n_clusters - 1, 1))
    value = float(np.mean(areas))
    return Report(value=value, interval=_interval(value, variance, rarest), variance=variance)


def accuracy(correct: ArrayLike, groups: ArrayLike | None = None) -> Report:
    """Share of ones in ``correct`` (N,), with a 95 % interval.

    Wilson's interval where images are independent. With ``groups`` the number of images in it is divided by
    the design effect, the ratio of the clustered variance of the share to its binomial variance (Kish 1965).
    """
    hits = np.asarray(correct, np.float64).ravel()
    if not hits.size:
        return _UNDEFINED
    value = float(hits.mean())
    binomial = value * (1 - value) / hits.size
    clusters = _clusters(groups, hits.size)
    residual = np.bincount(clusters, weights=hits - value)
    n_clusters = len(residual)
    clustered = float(np.sum(residual**2) / hits.size**2 * n_clusters / max(n_clusters - 1, 1))
    variance = clustered if groups is not None else binomial
    # Without any error the clustered variance is zero too: only the number of patients is then evidence.
    effective = n_clusters if not binomial else hits.size / max(variance / binomial, 1.0)
    return Report(value=value, interval=_wilson(value, effective), variance=variance)


def top_k_hits(labels: ArrayLike, scores: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the ``k`` highest of its row; (N,) indices, (N, K) scores -> (N,).

    A tie counts against the model: a class that scores the same as the true one stands before it.
    """
    table = _as_score_table(scores)
    truth = np.asarray(labels, np.int64)
    own = np.take_along_axis(table, truth[:, None], axis=1)
    not_below: NDArray[np.int64] = (table >= own).sum(axis=1)
    return np.asarray(not_below <= k)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, n_classes: int) -> IntArray:
    """Counts (K, K): row the true class, column the predicted one."""
    pairs = np.asarray(labels, np.int64) * n_classes + np.asarray(predicted, np.int64)
    counts = np.bincount(pairs, minlength=n_classes**2)
    return np.asarray(counts.reshape(n_classes, n_classes), np.int64)


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """False and true positive rates, from (0, 0) to (1, 1), one point a distinct score."""
    positive, values = _checked(labels, scores)
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.diff(values[order]) != 0, True)
    true = np.cumsum(positive[order])[last_of_tie] / max(positive.sum(), 1)
    false = np.cumsum(~positive[order])[last_of_tie] / max((~positive).sum(), 1)
    return np.append(0.0, false), np.append(0.0, true)


def one_hot(labels: ArrayLike, n_classes: int) -> IntArray:
    """(N,) class indices -> (N, K) zeros and ones; an (N, K) table passes as it is."""
    array: NDArray[Any] = np.asarray(labels)
    if array.ndim == 2:
        return np.asarray(array, np.int64)
    return np.asarray(array[:, None] == np.arange(n_classes), np.int64)


@dataclass(frozen=True, kw_only=True)
class _Placements:
    """Each case's share of the other class that it is rightly ordered against (DeLong's V10 and V01)."""

    positive: NDArray[np.bool_]  # (N,)
    share: FloatArray  # (N,)

    @property
    def area(self) -> float:
        return float(self.share[self.positive].mean())

    @property
    def influence(self) -> FloatArray:
        """(N,) first-order change of the area per case: they sum to zero, their squares to its variance."""
        n_positive = int(self.positive.sum())
        per_class = np.where(self.positive, n_positive, len(self.positive) - n_positive)
        return (self.share - self.area) / per_class


def _placements(positive: NDArray[np.bool_], scores: FloatArray) -> _Placements | None:
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return None
    above_all = _midranks(scores)
    share = np.empty(len(scores))
    share[positive] = (above_all[positive] - _midranks(scores[positive])) / n_negative
    share[~positive] = 1 - (above_all[~positive] - _midranks(scores[~positive])) / n_positive
    return _Placements(positive=positive, share=share)


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def _obuchowski_variance(placements: _Placements, clusters: IntArray) -> float:
    """Variance of the area for clustered cases; DeLong's where every cluster is one case."""
    positive = placements.positive
    deviation = placements.share - placements.area
    n_clusters = int(clusters.max()) + 1
    sums = {}
    total = 0.0
    for sign, member in ((1, positive), (0, ~positive)):
        sums[sign] = np.bincount(clusters[member], weights=deviation[member], minlength=n_clusters)
        having = len(np.unique(clusters[member]))
        if having < 2:
            return float("nan")
        total += float(np.sum(sums[sign] ** 2)) * having / (having - 1) / int(member.sum()) ** 2
    if n_clusters > 1:
        cross = float(np.sum(sums[1] * sums[0])) * n_clusters / (n_clusters - 1)
        total += 2 * cross / (int(positive.sum()) * int((~positive).sum()))
    return max(total, 0.0)


def _patients_of_the_rarer_class(positive: NDArray[np.bool_], clusters: IntArray) -> int:
    return min(len(np.unique(clusters[positive])), len(np.unique(clusters[~positive])))


def _interval(value: float, variance: float, rarer: int) -> tuple[float, float]:
    if np.isnan(variance):
        return (float("nan"), float("nan"))
    if value in (0.0, 1.0):
        far = 0.025 ** (1 / rarer)  # Clopper and Pearson, all of `rarer` trials succeeding
        return (far, 1.0) if value else (0.0, 1 - far)
    logit = np.log(value / (1 - value))
    half = _Z95 * np.sqrt(variance) / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(logit - half))), 1 / (1 + np.exp(-(logit + half)))
    return (float(low), float(high))


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson 1927: the score interval of a proportion."""
    z2 = _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return (max(float(centre - half), 0.0), min(float(centre + half), 1.0))


def _clusters(groups: ArrayLike | None, n: int) -> IntArray:
    """Patients -> 0..G-1; every case its own where none are given."""
    if groups is None:
        return np.arange(n)
    members: NDArray[Any] = np.asarray(groups)
    if members.shape != (n,):
        raise UsageError(f"groups has shape {members.shape}; expected ({n},), one patient a case")
    return np.asarray(np.unique(members, return_inverse=True)[1], np.int64)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    truth: NDArray[Any] = np.asarray(labels)
    values = np.asarray(scores, np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise UsageError(f"labels {truth.shape} and scores {values.shape} must both be (N,)")
    if not np.isin(truth, (0, 1)).all():
        strange = np.unique(truth[~np.isin(truth, (0, 1))])[:3].tolist()
        raise UsageError(f"labels must be 0 or 1; found {strange}")
    if not np.isfinite(values).all():
        raise UsageError(f"{int((~np.isfinite(values)).sum())} of {values.size} scores are not finite")
    return truth.astype(bool), values


def _as_score_table(scores: ArrayLike) -> FloatArray:
    table = np.asarray(scores, np.float64)
    if table.ndim != 2:
        raise UsageError(f"scores has shape {table.shape}; expected (N, K), one column a class")
    return table
