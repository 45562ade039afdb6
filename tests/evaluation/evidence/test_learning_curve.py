from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.evaluation.evidence import learning_curve
from featx.evaluation.evidence.learning_curve import LearningCurve, LearningPoint
from featx.evaluation.protocol.splits import Split
from featx.evaluation.protocol.trials import Method
from featx.evaluation.report import findings
from featx.evaluation.report.findings import Outlook
from featx.evaluation.scores import intervals
from featx.evaluation.scores.intervals import Interval

LAST = LearningPoint(60, 120.0, 0.9, Interval(0.8, 1.0), 1)


def split(n: int, seed: int, fold: int | None = None) -> Split:
    rng = np.random.default_rng(seed)
    y = np.array(["a", "b"] * (n // 2), dtype=object)
    X = rng.normal(0, 1, (n, 5)) + 1.2 * (y == "b")[:, None]
    nothing = Dataset([Item(str(i), str(label), b"") for i, label in enumerate(y)])
    return Split(fold, X[:-40], y[:-40], X[-40:], y[-40:], np.arange(40), nothing, nothing)


LOGISTIC = Method("logistic", "head", lambda seed: LogisticRegression())


def curve(method: Method, cuts: list[Split], *, slow: bool = False) -> LearningCurve:
    """Return a curve that no slow machine ends early."""
    unhurried = float("inf")
    return learning_curve.curve(method, "net", cuts, LAST, slow=slow, most_seconds=unhurried)


def test_smaller_draws_are_parts_of_larger_ones_and_classes_stay_even() -> None:
    y = np.array(["a"] * 30 + ["b"] * 4, dtype=object)
    small, large = (set(learning_curve.drawn(y, size, 7)) for size in (2, 10))
    assert small < large
    assert (len(small), len(large)) == (4, 14)  # b has four only
    assert set(learning_curve.drawn(y, 2, 8)) != small


def test_more_images_are_better_and_the_last_point_is_the_table_s() -> None:
    found = curve(LOGISTIC, [split(160, 0)], slow=False)
    assert [point.per_class for point in found.points] == [2, 5, 10, 20, 50, 60]
    assert found.points[-1] is LAST
    assert found.points[0].accuracy < found.points[-2].accuracy
    for point in found.points[:-1]:
        assert point.repeats == learning_curve.REPEATS
        assert point.n_train == 2 * point.per_class
        assert point.interval.low <= point.accuracy <= point.interval.high
    assert not found.note


def test_folds_are_a_draw_each() -> None:
    cuts = [split(160, seed, seed + 1) for seed in range(3)]
    found = curve(LOGISTIC, cuts)
    assert {point.repeats for point in found.points[:-1]} == {3}


@pytest.mark.parametrize("slow", [False, True])
def test_with_many_folds_every_image_is_tested(slow: bool) -> None:
    cuts = [split(160, seed, seed + 1) for seed in range(10)]
    found = curve(LOGISTIC, cuts, slow=slow)
    assert {point.repeats for point in found.points[:-1]} == {10}


@pytest.mark.parametrize(
    ("before", "last", "half", "outlook"),
    [
        (0.80, 0.90, 0.04, Outlook.LIKELY),
        (0.90, 0.91, 0.02, Outlook.UNLIKELY),
        (0.90, 0.94, 0.08, Outlook.UNCLEAR),  # two images of fifty
        (0.90, 0.90, 0.09, Outlook.UNCLEAR),
        (0.90, 0.80, 0.04, Outlook.UNLIKELY),
    ],
)
def test_advice_goes_as_far_as_the_intervals(
    before: float, last: float, half: float, outlook: Outlook
) -> None:
    points = tuple(
        LearningPoint(k, 3.0 * k, a, Interval(a - half, a + half), 1)
        for k, a in ((10, before), (20, last))
    )
    found = findings.gain([LearningCurve("net", "mlp", points, 0.0)])
    assert found is not None
    assert found.outlook is outlook


@dataclass
class Picky:
    """Fails on fewer than 20 rows, as a head with validation rows of its own may."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Picky:
        if len(X) < 20:
            raise ValueError("too few rows")
        self.model = LogisticRegression().fit(X, y)
        return self

    def predict(self, X: np.ndarray) -> Any:
        return self.model.predict(X)


def test_sizes_at_which_a_head_fails_are_left_out() -> None:
    picky = Method("mine", "head", lambda seed: Picky())
    found = curve(picky, [split(160, 0)], slow=False)
    assert [point.per_class for point in found.points] == [10, 20, 50, 60]


def test_a_slow_head_has_every_other_point_the_largest_among_them() -> None:
    found = curve(LOGISTIC, [split(160, 0)], slow=True)
    assert [point.per_class for point in found.points] == [2, 10, 50, 60]
    assert {point.repeats for point in found.points[:-1]} == {learning_curve.FEWER_REPEATS}


def test_a_slow_head_ends_early_and_notes_it() -> None:
    cuts = [split(160, 0)]
    found = learning_curve.curve(LOGISTIC, "net", cuts, LAST, slow=False, most_seconds=-1.0)
    assert found.points == (LAST,)
    assert "No point between 0 and all images" in found.note


def test_the_interval_over_draws_holds_both_kinds_of_luck() -> None:
    rng = np.random.default_rng(0)
    same = np.tile(rng.random(200) < 0.8, (5, 1))
    images_alone = intervals.accuracy_interval(same)
    crossed = intervals.crossed_interval(same)
    assert (crossed.low, crossed.high) == pytest.approx(
        (images_alone.low, images_alone.high), abs=0.02
    )
    # Draws that differ as much as the images do make it wider.
    differing = np.stack([rng.random(200) < share for share in (0.6, 0.7, 0.8, 0.9, 1.0)])
    wide = intervals.crossed_interval(differing)
    alone = intervals.accuracy_interval(differing)
    assert wide.high - wide.low > 1.5 * (alone.high - alone.low)
    assert intervals.crossed_interval(same) == intervals.crossed_interval(same)


def test_the_interval_over_draws_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(60):
        luck = np.clip(0.8 + rng.normal(0, 0.05, 5), 0, 1)
        found = intervals.crossed_interval(rng.random((5, 120)) < luck[:, None])
        inside += found.low <= 0.8 <= found.high
    assert inside >= 51
