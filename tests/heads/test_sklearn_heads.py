"""The perceptron, the support vector machine and the nearest neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from featx import heads
from featx.errors import DatasetError
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


def test_nearest_is_blind_to_length() -> None:
    X, y = blobs()
    X -= 5.0
    head = heads.nearest(3).fit(X, y)
    np.testing.assert_array_equal(head.predict(X * 7.0), head.predict(X))


def test_nearest_needs_as_many_embeddings_as_neighbours() -> None:
    X, y = blobs()
    with pytest.raises(DatasetError, match="was given 4 embeddings.*Use k=4 or less"):
        heads.nearest(5).fit(X[:4], ["a", "b", "a", "b"])
