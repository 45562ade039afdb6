from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from featx.evaluation import metrics

CLASSES = ["daisy", "rose", "tulip"]


def labels(text: str) -> np.ndarray:
    """Return labels from initials: "drt" is daisy, rose, tulip."""
    return np.array([next(name for name in CLASSES if name[0] == c) for c in text], dtype=object)


def hits(right: int, wrong: int) -> np.ndarray:
    return np.array([True] * right + [False] * wrong)


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


def test_confusion_has_a_row_for_a_class_without_pictures() -> None:
    counts = metrics.confusion(labels("ddr"), labels("drr"), CLASSES)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(150):
        found = metrics.accuracy_interval(rng.random(120) < 0.8)
        inside += found.low <= 0.8 <= found.high
    # 95 % of 150 with its own error; an interval of half the width would cover about 0.67.
    assert 0.89 <= inside / 150 <= 1.0


def test_interval_is_that_of_the_binomial() -> None:
    # The bootstrap of a share is a binomial draw: its normal form is a reference of its own.
    found = metrics.accuracy_interval(hits(200, 50))
    half = 1.96 * np.sqrt(0.8 * 0.2 / 250)
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.01)
    assert found.method == "percentile bootstrap"


def test_interval_is_the_same_each_time() -> None:
    assert metrics.accuracy_interval(hits(30, 9)) == metrics.accuracy_interval(hits(30, 9))


@pytest.mark.parametrize("right", [0, 60])
def test_without_a_single_exception_the_interval_claims_no_certainty(right: int) -> None:
    found = metrics.accuracy_interval(hits(right, 60 - right))
    width = 1 - 0.025 ** (1 / 60)  # Clopper-Pearson in closed form
    expected = (0.0, width) if right == 0 else (1 - width, 1.0)
    assert (found.low, found.high) == pytest.approx(expected)
    assert "exact" in found.method


def test_several_seeds_share_their_pictures() -> None:
    one = hits(80, 20)
    alone, thrice = metrics.accuracy_interval(one), metrics.accuracy_interval(np.stack([one] * 3))
    assert alone == thrice  # three times the same answers are no new evidence


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (6, 0, 2 * 0.5**6),
        (10, 2, 2 * sum((1, 12, 66)) / 2**12),
        (5, 5, 1.0),
    ],
)
def test_mcnemar_by_hand(first: int, second: int, p: float) -> None:
    assert metrics.mcnemar(first, second) == pytest.approx(p)
    assert metrics.mcnemar(second, first) == pytest.approx(p)


def test_comparison_counts_who_alone_is_right() -> None:
    first = np.array([1, 1, 1, 1, 0, 0, 1, 1], dtype=bool)
    second = np.array([1, 0, 0, 0, 1, 0, 1, 1], dtype=bool)
    found = metrics.compare(first, second)
    assert (found.only_first, found.only_second) == (3, 1)
    assert found.difference == pytest.approx(2 / 8)
    assert found.interval.low <= found.difference <= found.interval.high
    assert found.p_value == pytest.approx(metrics.mcnemar(3, 1))
    assert found.test == "exact McNemar test"


def test_comparison_is_paired() -> None:
    # 84 % against 80 % of 200: unpaired nobody could tell; the same 160 pictures and 8 more can.
    first, second = hits(168, 32), hits(160, 40)
    found = metrics.compare(first, second)
    assert found.p_value < 0.01
    assert found.interval.low > 0


def test_equal_methods_are_not_told_apart() -> None:
    found = metrics.compare(hits(50, 50), hits(50, 50))
    assert found.difference == 0
    assert found.p_value == 1
    assert (found.interval.low, found.interval.high) == (-0.03, 0.03)


def test_one_seed_repeated_tests_as_that_seed() -> None:
    first, second = hits(168, 32), hits(160, 40)
    found = metrics.compare(np.stack([first] * 2), np.stack([second] * 2))
    assert found.test.startswith("sign-flip permutation")
    assert found.p_value == pytest.approx(metrics.mcnemar(8, 0), abs=0.005)


def test_comparison_wants_the_same_pictures() -> None:
    with pytest.raises(ValueError, match="3 and 4 pictures.*same pictures"):
        metrics.compare(hits(2, 1), hits(3, 1))


def test_holm_by_hand() -> None:
    assert metrics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert metrics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert metrics.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_holm_never_lowers_and_keeps_the_order(values: list[float]) -> None:
    adjusted = metrics.holm(values)
    assert all(a >= p for a, p in zip(adjusted, values, strict=True))
    assert max(adjusted) <= 1
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


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
def test_every_picture_is_in_one_bin(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet([0.1, 0.1, 0.1], n)
    truth = np.array(CLASSES, dtype=object)[rng.integers(0, 3, n)]
    curve = metrics.reliability(truth, proba, CLASSES)
    assert sum(bin_.count for bin_ in curve) == n
    assert all(bin_.low <= bin_.confidence <= bin_.high + 1e-12 for bin_ in curve)
