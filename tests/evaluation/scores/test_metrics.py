from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from featx.evaluation.scores import metrics

CLASSES = ["daisy", "rose", "tulip"]


def labels(text: str) -> np.ndarray:
    """Return labels from initials: "drt" is daisy, rose, tulip."""
    return np.array([next(name for name in CLASSES if name[0] == c) for c in text], dtype=object)


def test_scores_by_hand() -> None:
    found = metrics.scores(labels("ddddrrtt"), labels("ddddrtdd"))
    assert found.accuracy == 5 / 8
    assert found.balanced_accuracy == pytest.approx((1 + 1 / 2 + 0) / 3)
    # F1: daisy 2*4/(6+4), rose 2*1/(1+2), tulip 0.
    assert found.macro_f1 == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert found.log_loss is None
    assert found.ece is None


def test_scores_of_probabilities_by_hand() -> None:
    proba = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    found = metrics.scores(labels("dr"), labels("dd"), proba, CLASSES)
    assert found.log_loss == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2)
    assert found.ece == pytest.approx(abs(0.5 - 0.5))


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    y_true, y_pred = (np.array(CLASSES, dtype=object)[rng.integers(0, 3, 200)] for _ in range(2))
    proba = rng.dirichlet([1, 1, 1], 200)
    found = metrics.scores(y_true, y_pred, proba, CLASSES)
    assert found.accuracy == sk.accuracy_score(y_true, y_pred)
    assert found.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(y_true, y_pred))
    assert found.macro_f1 == pytest.approx(sk.f1_score(y_true, y_pred, average="macro"))
    assert found.log_loss == pytest.approx(sk.log_loss(y_true, proba, labels=CLASSES))


def test_a_class_given_but_never_true_warns_of_nothing() -> None:
    found = metrics.scores(labels("dd"), labels("dt"), np.full((2, 3), 1 / 3), CLASSES)
    assert found.balanced_accuracy == 0.5


def test_float32_rows_that_nearly_sum_to_one_are_scaled() -> None:
    rows = np.array([[0.7, 0.2, 0.1001]], dtype=np.float32)
    assert metrics.normalised(rows).sum() == pytest.approx(1, abs=1e-12)
    assert metrics.normalised(np.zeros((1, 4))).tolist() == [[0.25] * 4]


def test_classification_text_is_scikit_learns() -> None:
    y_true, y_pred = labels("ddrrtt"), labels("ddrrtd")
    assert metrics.classification_text(y_true, y_pred) == sk.classification_report(
        y_true, y_pred, digits=3
    )


def test_classification_text_has_whole_numbers_in_the_order_of_the_classes() -> None:
    numbers = np.array(["10", "9", "2"], dtype=object)
    lines = metrics.classification_text(numbers, numbers).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["2", "9", "10"]


def test_confusion_has_a_row_for_a_class_without_images() -> None:
    counts = metrics.confusion(labels("ddr"), labels("drr"), CLASSES)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_reliability_by_hand() -> None:
    proba = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.0, 1.0]])
    truth = np.array(["a", "b", "a", "b"], dtype=object)
    curve = metrics.reliability(truth, proba, ["a", "b"], bins=10)
    np.testing.assert_allclose([(b.low, b.high) for b in curve], [(0.5, 0.6), (0.9, 1.0)])
    low, high = curve
    assert (low.count, low.confidence, low.accuracy) == (1, pytest.approx(0.6), 1.0)
    assert (high.count, high.confidence) == (3, pytest.approx((0.95 + 0.95 + 1) / 3))
    assert high.accuracy == pytest.approx(2 / 3)
    by_hand = (1 * 0.4 + 3 * abs(2 / 3 - 2.9 / 3)) / 4
    assert metrics.calibration_error(curve) == pytest.approx(by_hand)


def test_an_honest_forecaster_is_calibrated_and_a_boaster_is_not() -> None:
    rng = np.random.default_rng(2)
    proba = rng.dirichlet([1, 1, 1], 6000)
    truth = np.array([CLASSES[rng.choice(3, p=row)] for row in proba], dtype=object)
    honest = metrics.calibration_error(metrics.reliability(truth, proba, CLASSES))
    boast = metrics.normalised(proba**4)
    loud = metrics.calibration_error(metrics.reliability(truth, boast, CLASSES))
    assert honest < 0.025
    assert loud > 0.15


@given(st.integers(1, 60), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_every_image_is_in_one_bin(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet([0.1, 0.1, 0.1], n)
    truth = np.array(CLASSES, dtype=object)[rng.integers(0, 3, n)]
    curve = metrics.reliability(truth, proba, CLASSES)
    assert sum(bin_.count for bin_ in curve) == n
    assert all(bin_.low <= bin_.confidence <= bin_.high + 1e-12 for bin_ in curve)


def test_log_loss_of_classes_in_the_order_of_their_values() -> None:
    """scikit-learn takes the columns to be in the order of the characters: "10" before "9"."""
    y = np.array(["9", "10", "2", "9"], dtype=object)
    classes = ("2", "9", "10")
    proba = np.array([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.9, 0.05, 0.05], [0.2, 0.6, 0.2]])
    expected = -np.mean(np.log([0.8, 0.7, 0.9, 0.6]))
    assert metrics.log_loss(y, proba, classes) == pytest.approx(expected)
    assert metrics.scores(y, y, proba, classes).log_loss == pytest.approx(expected)
