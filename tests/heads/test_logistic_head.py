"""LogisticHead: plain logistic regression, its C found by a shorter search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featx import heads
from featx.errors import DatasetError
from featx.heads.logistic_head import CS, UNTUNED_C
from tests.heads.blobs import blobs


def reference(X: np.ndarray, y: np.ndarray, C: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=10_000, tol=1e-8)).fit(
        X.astype(np.float64), y
    )


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("n", [45, 300], ids=["reduced", "as it comes"])
def test_logistic_is_plain_logistic_regression(n: int, k: int) -> None:
    X, y = blobs(n, k=k)
    X[:, 5] = 1.25  # a constant column
    head = heads.logistic(C=0.1).fit(X.astype(np.float64), y)
    plain = reference(X, y, 0.1)
    np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=2e-3)
    np.testing.assert_array_equal(head.predict(X), plain.predict(X))


@pytest.mark.parametrize("k", [2, 3])
def test_logistic_coefficients_are_those_of_features_as_they_come(k: int) -> None:
    X, y = blobs(45, k=k)
    head = heads.logistic(C=0.1).fit(X, y)
    scores = X.astype(np.float64) @ head.coef_.T + head.intercept_
    if k == 2:
        scores = np.hstack([np.zeros_like(scores), scores])
    np.testing.assert_allclose(softmax(scores, axis=1), head.predict_proba(X), atol=1e-9)
    plain = reference(X, y, 0.1)
    expected = plain[-1].coef_ / plain[0].scale_
    np.testing.assert_allclose(head.coef_, expected, atol=0.02 * np.abs(expected).max())


def test_logistic_chooses_the_c_that_a_full_search_finds() -> None:
    X, y = blobs(90, noise=4.0)
    head = heads.logistic().fit(X, y)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    losses = [
        -cross_val_score(
            make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=5000)),
            X.astype(np.float64),
            y,
            cv=folds,
            scoring="neg_log_loss",
        ).mean()
        for C in CS
    ]
    assert list(CS).index(head.C_) == int(np.argmin(losses))
    for C, loss in head.losses_.items():
        position = int(np.argmin(np.abs(CS - C)))
        assert loss == pytest.approx(losses[position], rel=0.03)
    assert len(head.losses_) < len(CS) / 2, "the far side of the valley is left out"
    assert head.converged_


def test_logistic_with_c_given_searches_nothing() -> None:
    X, y = blobs()
    head = heads.logistic(C=0.5).fit(X, y)
    assert head.C_ == 0.5
    assert head.losses_ == {}


def test_logistic_says_that_it_did_not_converge() -> None:
    X, y = blobs()
    with pytest.warns(Warning, match="failed to converge"):
        head = heads.LogisticHead(C=10.0, max_iter=2).fit(X, y)
    assert not head.converged_


def test_logistic_folds_in_threads_change_nothing() -> None:
    X, y = blobs()
    one, two = (heads.LogisticHead(n_jobs=n).fit(X, y) for n in (1, 2))
    np.testing.assert_array_equal(one.coef_, two.coef_)


def test_logistic_uses_no_more_folds_than_validate_enough_samples() -> None:
    X, y = blobs(100, noise=4.0)

    def searched(enough: int) -> heads.LogisticHead:
        head = heads.logistic()
        head.enough_validation = enough
        return head.fit(X, y)

    five = searched(750)
    assert searched(81).losses_ == five.losses_
    one = searched(20)
    common = set(one.losses_) & set(five.losses_)
    assert common
    assert all(one.losses_[C] != five.losses_[C] for C in common)


@pytest.mark.parametrize("y", [["a", "b", "c", "d"], ["a", "a", "a", "b"]])
def test_too_few_samples_to_hold_any_out(y: list[str]) -> None:
    X, _ = blobs(4)
    head = heads.logistic().fit(X, y)
    assert head.C_ == UNTUNED_C
    assert set(head.classes_) == set(y)
    with pytest.raises(DatasetError, match="fewer than two classes have two samples.*logistic"):
        heads.linear_svm().fit(X, y)


@pytest.mark.weights
def test_tuned_logistic_on_flowers(datasets: Any) -> None:
    import featx

    train, test = (
        featx.extract(datasets / "flowers" / part, "mobilenet_v2", progress=False)
        for part in ("train", "test")
    )
    head = heads.logistic().fit(train.X, train.y)
    assert head.score(test.X, test.y) >= 0.83
    plain = reference(train.X, train.y, 0.01)
    assert plain.score(test.X, test.y) == pytest.approx(0.848, abs=0.01), "DATA.md's reference"
