"""Metrics against scikit-learn, brute force and their published properties."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from pyrad import metrics
from pyrad.errors import UsageError


def cases(n, seed, levels=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    labels[:2] = 0, 1
    scores = rng.normal(labels * 0.8, 1.0)
    return labels, np.round(scores * levels) / levels if levels else scores


def delong_brute_force(labels, scores):
    """Variance straight from the definition: all pairs, sample variances of the two placements."""
    pos, neg = scores[labels == 1], scores[labels == 0]
    psi = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
    return psi.mean(), psi.mean(1).var(ddof=1) / len(pos) + psi.mean(0).var(ddof=1) / len(neg)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(6, 200), seed=st.integers(0, 10_000), levels=st.sampled_from([0, 1, 3]))
def test_auroc_equals_sklearn_and_delongs_definition(n, seed, levels):
    labels, scores = cases(n, seed, levels)
    labels[2:4] = 0, 1  # two of each, or a variance is undefined
    report = metrics.auroc(labels, scores)
    area, variance = delong_brute_force(labels, scores)
    assert report.value == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    assert report.value == pytest.approx(area, abs=1e-12)
    assert report.variance == pytest.approx(variance, abs=1e-12)
    assert report.interval[0] <= report.value <= report.interval[1]


def test_singleton_groups_equal_delong_exactly():
    labels, scores = cases(300, 1)
    alone = metrics.auroc(labels, scores, groups=np.arange(300))
    assert alone == metrics.auroc(labels, scores)


def test_duplicated_rows_of_a_patient_change_nothing_but_the_small_sample_factor():
    labels, scores = cases(400, 2)
    once = metrics.auroc(labels, scores, groups=np.arange(400))
    thrice = metrics.auroc(np.repeat(labels, 3), np.repeat(scores, 3), groups=np.repeat(np.arange(400), 3))
    assert thrice.value == pytest.approx(once.value, abs=1e-12)
    assert thrice.variance == pytest.approx(once.variance, rel=1e-9)


def test_clustered_interval_covers_where_the_naive_one_does_not():
    rng = np.random.default_rng(3)
    covered = {"naive": 0, "clustered": 0}
    truth = 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt(2))
    for _ in range(300):
        label = rng.integers(0, 2, 60)
        label[:4] = 0, 0, 1, 1
        patient = rng.normal(label, 0.95)
        scores = (patient[:, None] + rng.normal(0, np.sqrt(1 - 0.95**2), (60, 4))).ravel()
        labels, groups = np.repeat(label, 4), np.repeat(np.arange(60), 4)
        for name, report in (
            ("naive", metrics.auroc(labels, scores)),
            ("clustered", metrics.auroc(labels, scores, groups)),
        ):
            covered[name] += report.interval[0] <= truth <= report.interval[1]
    assert covered["clustered"] / 300 >= 0.91
    assert covered["naive"] / 300 <= 0.85


def test_one_class_is_undefined_and_never_a_number():
    report = metrics.auroc([1, 1, 1], [0.1, 0.5, 0.9])
    assert np.isnan([report.value, report.variance, *report.interval]).all()
    assert np.isnan(metrics.macro_auroc([0, 0], [[0.2, 0.8], [0.4, 0.6]]).value)


def test_a_perfect_score_keeps_a_wide_interval():
    report = metrics.auroc([0] * 10 + [1] * 5, list(range(15)))
    assert report.value == 1.0
    assert report.interval[1] == 1.0
    assert report.interval[0] == pytest.approx(0.025 ** (1 / 5))


def test_patients_not_images_carry_the_interval_of_a_perfect_score():
    labels, scores = [0] * 10 + [1] * 6, np.arange(16.0)
    groups = [*range(10), 10, 10, 10, 11, 11, 11]
    two_columns = np.stack([-scores, scores], axis=1)
    for report in (metrics.auroc(labels, scores, groups), metrics.macro_auroc(labels, two_columns, groups)):
        assert report.value == 1.0
        assert report.interval[0] == pytest.approx(0.025 ** (1 / 2))


def test_macro_auroc_equals_sklearn_and_the_binary_case():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 300)
    scores = rng.normal(size=(300, 4)) + np.eye(4)[labels]
    scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = sk.roc_auc_score(labels, scores, multi_class="ovr", average="macro")
    assert metrics.macro_auroc(labels, scores).value == pytest.approx(expected, abs=1e-12)
    two = np.stack([1 - scores[:, 1], scores[:, 1]], axis=1)
    binary = metrics.auroc(labels == 1, scores[:, 1])
    macro = metrics.macro_auroc(labels == 1, two)
    assert macro.value == pytest.approx(binary.value, abs=1e-12)
    assert macro.variance == pytest.approx(binary.variance, rel=0.03)


def test_macro_auroc_leaves_absent_classes_out():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0], [0.3, 0.7, 0.0]])
    assert metrics.macro_auroc([0, 1, 0, 1], scores).value == 1.0


def test_top_k_counts_ties_against_the_model():
    scores = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.4, 0.4, 0.4]])
    assert metrics.top_k_hits([0, 2, 0], scores, 1).tolist() == [False, True, False]
    assert metrics.top_k_hits([0, 2, 0], scores, 2).tolist() == [True, True, False]


def test_confusion_matrix_and_roc_equal_sklearn():
    rng = np.random.default_rng(5)
    truth, predicted = rng.integers(0, 5, 100), rng.integers(0, 5, 100)
    assert (metrics.confusion_matrix(truth, predicted, 5) == sk.confusion_matrix(truth, predicted)).all()
    labels, scores = cases(80, 6, levels=2)
    false, true = metrics.roc_curve(labels, scores)
    sk_false, sk_true, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, sk_false)
    np.testing.assert_allclose(true, sk_true)


def test_accuracy_interval_widens_with_clusters():
    rng = np.random.default_rng(7)
    patient = rng.random(50) < 0.8
    hits, groups = np.repeat(patient, 6), np.repeat(np.arange(50), 6)
    naive, clustered = metrics.accuracy(hits), metrics.accuracy(hits, groups)
    width = [report.interval[1] - report.interval[0] for report in (naive, clustered)]
    assert naive.value == clustered.value == hits.mean()
    assert width[1] > 2 * width[0]
    assert metrics.accuracy(np.ones(12)).interval == pytest.approx((0.757504, 1.0), abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "scores", "word"),
    [
        ([0, 2], [0.1, 0.2], "0 or 1"),
        ([0, 1], [0.1, np.nan], "finite"),
        ([0, 1, 1], [0.1, 0.2], "shape|must both"),
    ],
)
def test_nonsense_is_refused(labels, scores, word):
    with pytest.raises(UsageError, match=word):
        metrics.auroc(labels, scores)


def test_importing_metrics_loads_no_torch():
    code = "import sys, pyrad.metrics; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
