"""The perceptron, the support vector machine and the nearest neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from featx import heads
from featx.errors import DatasetError
from featx.heads import primal_svm, sklearn_heads
from tests.heads.blobs import blobs


def test_mlp_stops_early_only_with_enough_samples() -> None:
    X, y = blobs(90)
    few = heads.mlp((8,)).fit(X, y).named_steps["mlp"]
    assert few.validation_scores_ is None
    head = heads.mlp((8,))
    head.named_steps["mlp"].fewest_stopping = 9
    many = head.fit(X, y).named_steps["mlp"]
    assert len(many.validation_scores_) == many.n_iter_
    assert few.early_stopping is many.early_stopping is True


def test_mlp_has_the_hidden_sizes_asked_for() -> None:
    X, y = blobs()
    net = heads.mlp((9, 5)).fit(X, y).named_steps["mlp"]
    assert [w.shape for w in net.coefs_] == [(100, 9), (9, 5), (5, 3)]


def test_linear_svm_is_calibrated() -> None:
    X, y = blobs(400, dim=20)
    rng = np.random.default_rng(1)
    noisy = np.where(rng.random(400) < 0.3, rng.permutation(y), y)
    head = heads.linear_svm(C=1.0).fit(X[:200], noisy[:200])
    machine = head.named_steps["svm"].calibrated_classifiers_[0].estimator
    raw = softmax(10 * machine.decision_function(head[:-1].transform(X[200:])), axis=1)
    calibrated = log_loss(noisy[200:], head.predict_proba(X[200:]))
    assert calibrated < log_loss(noisy[200:], raw)
    assert calibrated < 0.95


def test_probabilities_of_linear_svm_keep_the_order_of_its_scores() -> None:
    X, y = blobs(120, noise=3.0)
    uneven = np.r_[np.flatnonzero(y != y[0]), np.flatnonzero(y == y[0])[:4]]
    X, y = X[uneven], y[uneven]
    head = heads.linear_svm().fit(X, y)
    machine = head[-1].calibrated_classifiers_[0].estimator
    scores = machine.decision_function(head[:-1].transform(X))
    np.testing.assert_array_equal(head.predict_proba(X).argsort(), scores.argsort())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [2, 3])
def test_a_machine_solved_in_the_primal_is_that_of_liblinear(k: int, weighted: bool) -> None:
    class Primal(primal_svm.PrimalSVC):
        small_size = 0

    X, y = blobs(300, dim=20, k=k, noise=4.0)
    X = X.astype(np.float64)
    weight = np.random.default_rng(0).uniform(0.2, 2, 300) if weighted else None
    ours = Primal(C=0.01).fit(X, y, weight)
    exact = LinearSVC(C=0.01, tol=1e-9, max_iter=100_000, dual=False).fit(X, y, weight)
    np.testing.assert_allclose(ours.coef_, exact.coef_, atol=2e-3 * np.abs(exact.coef_).max())
    np.testing.assert_allclose(ours.decision_function(X), exact.decision_function(X), atol=5e-3)
    np.testing.assert_array_equal(ours.predict(X), exact.predict(X))


def test_one_temperature_needs_no_more_than_enough_samples() -> None:
    X, y = blobs(400, dim=20, noise=4.0)
    every, some = heads.linear_svm(), heads.linear_svm()
    some[-1].enough_validation = 100
    every.fit(X[:200], y[:200])
    some.fit(X[:200], y[:200])
    np.testing.assert_array_equal(some.predict(X), every.predict(X))
    beta = [head[-1].calibrated_classifiers_[0].calibrators[0].beta_ for head in (every, some)]
    assert beta[0] != beta[1], "not all folds were asked"
    assert beta[1] == pytest.approx(beta[0], rel=0.5)


def test_predictions_in_blocks_are_the_same() -> None:
    X, y = blobs(90)
    many = np.tile(X, (1 + sklearn_heads.PREDICTED_AT_ONCE // 90, 1))
    for head in (heads.linear_svm(), heads.mlp((8,))):
        head.fit(X, y)
        proba, names = head.predict_proba(X), head.predict(X)
        times = len(many) // 90
        np.testing.assert_allclose(head.predict_proba(many), np.tile(proba, (times, 1)), rtol=1e-5)
        np.testing.assert_array_equal(head.predict(many), np.tile(names, times))


def test_neighbours_in_blocks_are_those_of_scikit_learn() -> None:
    X, y = blobs(120, dim=30, noise=3.0)
    X[7] = 0  # no direction
    asked = np.concatenate([X[:20] + 0.1, np.zeros((1, 30), np.float32)])
    head = heads.nearest(3).fit(X, y)
    head.similarities = 500  # blocks of four
    plain = KNeighborsClassifier(3, metric="cosine", weights="distance").fit(
        X.astype(np.float64), y
    )
    ours, theirs = head.kneighbors(asked), plain.kneighbors(asked)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-12)
    np.testing.assert_array_equal(ours[1][:20], theirs[1][:20])
    np.testing.assert_allclose(head.predict_proba(asked[:20]), plain.predict_proba(asked[:20]))


def test_nearest_is_blind_to_length() -> None:
    X, y = blobs()
    X -= 5.0
    head = heads.nearest(3).fit(X, y)
    np.testing.assert_array_equal(head.predict(X * 7.0), head.predict(X))


def test_nearest_needs_as_many_embeddings_as_neighbours() -> None:
    X, y = blobs()
    with pytest.raises(DatasetError, match="was given 4 embeddings.*Use k=4 or less"):
        heads.nearest(5).fit(X[:4], ["a", "b", "a", "b"])
