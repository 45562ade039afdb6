from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from featx.datasets.dataset import Dataset
from featx.errors import FeatxError
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import trials
from featx.evaluation.protocol.splits import Split
from featx.evaluation.results import ExtractionCost
from tests.evaluation.seam import QUICK, TEST, TRAIN, Seam, images


class _Fails(ClassifierMixin, BaseEstimator):
    def fit(self, X: Any, y: Any) -> _Fails:
        raise ValueError("this head has had enough")


class _Frets(LogisticRegression):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Frets:
        warnings.warn("did not converge\nin 3 steps", RuntimeWarning, stacklevel=1)
        super().fit(X, y)
        return self


def test_a_head_that_fails_is_reported_and_the_others_go_on(
    seam: Seam, caplog: pytest.LogCaptureFixture
) -> None:
    heads = {"bad": _Fails(), "lr": LogisticRegression()}
    with caplog.at_level(logging.WARNING):
        report = benchmark(images(TRAIN), images(TEST), heads=heads, seeds=2, **QUICK)
    assert {row.method for row in report.results} == {"lr"}
    assert [(f.method, f.seed, f.error, f.reason) for f in report.method_failures] == [
        ("bad", 0, "ValueError", "this head has had enough"),
        ("bad", 1, "ValueError", "this head has had enough"),
    ]
    assert "this head has had enough" in caplog.text  # with its traceback, for whoever must mend it
    assert next(one for one in report.summaries if one.chosen).method == "lr"


def test_if_all_fail_the_reason_is_raised(seam: Seam) -> None:
    with pytest.raises(FeatxError, match="no method gave a result. bad: this head has had enough"):
        benchmark(images(TRAIN), images(TEST), heads={"bad": _Fails()}, **QUICK)


def test_warnings_of_a_fit_stand_in_the_report_once(seam: Seam) -> None:
    report = benchmark(images(TRAIN), images(TEST), heads={"frets": _Frets()}, seeds=2, **QUICK)
    assert report.warnings == ["frets: did not converge [RuntimeWarning]"]


def test_a_head_without_probabilities_has_no_log_loss(seam: Seam) -> None:
    report = benchmark(images(TRAIN), images(TEST), heads={"svm": LinearSVC()}, **QUICK)
    assert report.results[0].log_loss is None
    assert report.results[0].accuracy == 1.0
    assert report.summaries[0].ece is None


def test_given_estimators_are_cloned_and_seeded(seam: Seam) -> None:
    mine = make_pipeline(StandardScaler(), LogisticRegression(solver="saga", max_iter=9000))
    report = benchmark(images(TRAIN), images(TEST), heads=[mine], seeds=[3], **QUICK)
    assert {row.method for row in report.results} == {"LogisticRegression"}
    assert not hasattr(mine[-1], "coef_")
    assert mine[-1].random_state is None


def test_every_head_that_draws_numbers_gets_the_seed() -> None:
    for method in trials.methods(None):
        same = repr(method.make(1).get_params()) == repr(method.make(2).get_params())
        assert same == (method.name in {"nearest", "ridge"}), method.name


def cut(fold: int, fit: list[int], score: list[int], X: np.ndarray, y: np.ndarray) -> Split:
    nothing = Dataset([])
    return Split(fold, X[fit], y[fit], X[score], y[score], np.asarray(score), nothing, nothing)


def test_a_class_that_the_first_fold_never_trained_has_its_column() -> None:
    y = np.array(["a", "b", "a", "b", "c", "c"], dtype=object)
    X = np.array([[0.0], [9], [0], [9], [20], [20]], dtype=np.float32)
    cuts = [
        cut(1, [0, 1, 2, 3], [4, 5], X, y),  # all of c is scored here, and none trains
        cut(2, [0, 1, 4, 5], [2, 3], X, y),
        cut(3, [2, 3, 4, 5], [0, 1], X, y),
    ]
    cost = ExtractionCost("net", 6, 6, 0, 1.0, "fake", 1.0, 1, False, 0.0, 6.0)
    setting = trials.Setting("x", ("a", "b", "c"), tuple("012345"), cost, "featx 0")
    method = trials.Method("tree", "head", lambda seed: DecisionTreeClassifier(random_state=seed))
    found = trials.run(method, 0, cuts, setting)
    assert found.failure is None
    assert found.predictions is not None
    assert found.predictions.proba is not None
    assert found.predictions.proba.shape == (6, 3)
    np.testing.assert_array_equal(found.predictions.proba[4:, 2], [0, 0])
    np.testing.assert_array_equal(found.predictions.proba[:4].argmax(axis=1), [0, 1, 0, 1])
    np.testing.assert_allclose(found.predictions.proba.sum(axis=1), 1)
    assert list(found.predictions.y_true) == list(y)
    assert list(found.predictions.y_pred[:4]) == ["a", "b", "a", "b"]
    assert [one.accuracy for one in found.results] == [0, 1, 1]
    assert all(one.log_loss is not None and np.isfinite(one.log_loss) for one in found.results)
    folds = [([0, 1, 2, 3], [4, 5]), ([0, 1, 4, 5], [2, 3]), ([2, 3, 4, 5], [0, 1])]
    held_out = trials.cross_validate(method, X, y, folds, 0)
    assert held_out is not None
    np.testing.assert_array_equal(held_out.proba, found.predictions.proba)
    assert held_out.accuracy == pytest.approx(4 / 6)


def test_probabilities_that_are_held_out_have_their_columns_in_the_order_of_the_classes() -> None:
    """Whole numbers by value: "10" comes after "9", which numpy and scikit-learn put before it."""
    y = np.array(["2", "9", "10"] * 4, dtype=object)
    X = np.array([[2.0], [9.0], [10.0]] * 4, dtype=np.float32)
    method = trials.Method("tree", "head", lambda seed: DecisionTreeClassifier(random_state=seed))
    folds = [(range(6), range(6, 12)), (range(6, 12), range(6))]
    held_out = trials.cross_validate(method, X, y, [map(list, fold) for fold in folds], 0)
    assert held_out is not None
    np.testing.assert_array_equal(held_out.proba, np.tile(np.eye(3), (4, 1)))


def test_a_method_that_fails_on_a_later_fold_keeps_the_results_before_it() -> None:
    y = np.array(["a", "b"] * 3, dtype=object)
    X = np.arange(6, dtype=np.float32)[:, None]
    cuts = [cut(1, [0, 1, 2, 3], [4, 5], X, y), cut(2, [2, 4], [0, 1], X, y)]  # one class trains
    cost = ExtractionCost("net", 6, 6, 0, 1.0, "fake", 1.0, 1, False, 0.0, 6.0)
    setting = trials.Setting("x", ("a", "b"), tuple("012345"), cost, "featx 0")
    method = trials.Method("lr", "head", lambda seed: LogisticRegression())
    found = trials.run(method, 0, cuts, setting)
    assert [one.fold for one in found.results] == [1]
    assert found.failure is not None
    assert (found.failure.fold, found.failure.error) == (2, "ValueError")
    assert found.predictions is None
    assert found.fitted is None
    assert trials.cross_validate(method, X, y, [([2, 4], [0, 1])], 0) is None
