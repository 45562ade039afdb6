"""RidgeHead: scikit-learn's ridge regression, in one pass, and again when images arrive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss

from featx import heads
from featx.classifier.file import head_state
from featx.errors import DatasetError, HeadError, ModelFormatError, OptionError
from featx.heads import ridge_head
from tests.heads.blobs import blobs


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("n", [60, 300], ids=["fewer rows than columns", "more"])
def test_ridge_is_ridge_regression(n: int, k: int) -> None:
    X, y = blobs(n, k=k, noise=3.0)
    X, y = X[5:].astype(np.float64), y[5:]  # uneven classes
    head = heads.ridge(0.3).fit(X, y)
    standardised = (X - X.mean(axis=0)) / X.std(axis=0)
    targets = np.eye(k)[np.unique(y, return_inverse=True)[1]]
    variance = standardised.var(axis=0).mean()
    exact = Ridge(alpha=0.3 / 0.7 * variance * len(y)).fit(standardised, targets)
    theirs = exact.predict(standardised) / head.temperature_
    if k == 2:
        theirs = theirs[:, 1] - theirs[:, 0]
    np.testing.assert_allclose(head.decision_function(X), theirs, rtol=1e-6, atol=1e-7)
    if k == 3:
        np.testing.assert_allclose(head.predict_proba(X), softmax(theirs, axis=1), atol=1e-7)


@pytest.mark.parametrize("cuts", [[100], [7, 20, 130], [1, 2, 3]])
def test_images_that_arrive_give_what_all_at_once_would(cuts: list[int]) -> None:
    X, y = blobs(300, dim=40, k=4, noise=3.0)
    whole = heads.ridge().fit(X, y)
    head = heads.ridge()
    for part in np.split(np.arange(300), cuts):
        head.partial_fit(X[part], y[part])
    assert list(head.classes_) == list(whole.classes_)
    assert head.shrinkage_ == whole.shrinkage_
    np.testing.assert_allclose(head.predict_proba(X), whole.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("dim", [40, 200], ids=["more rows than columns", "fewer"])
def test_fit_may_go_on_by_partial_fit(dim: int) -> None:
    X, y = blobs(150, dim=dim, noise=3.0)
    weight = np.random.default_rng(0).integers(1, 3, 150)
    head = heads.ridge().fit(X[:90], y[:90], sample_weight=weight[:90])
    head.partial_fit(X[90:], y[90:], sample_weight=weight[90:])
    whole = heads.ridge(head.shrinkage_).fit(X, y, sample_weight=weight)
    scores, expected = (one.decision_function(X) * one.temperature_ for one in (head, whole))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_a_class_that_comes_later() -> None:
    X, y = blobs(120, dim=40)
    early = y != "birch"
    head = heads.ridge().partial_fit(X[early][:1], y[early][:1])
    with pytest.raises(NotFittedError):
        head.predict(X)
    head.partial_fit(X[early][1:], y[early][1:], classes=["ash", "cedar"])
    assert list(head.classes_) == ["ash", "cedar"]
    head.partial_fit(X[~early], y[~early])
    assert list(head.classes_) == ["ash", "birch", "cedar"]
    np.testing.assert_allclose(
        head.predict_proba(X), heads.ridge().fit(X, y).predict_proba(X), atol=1e-5
    )
    with pytest.raises(DatasetError, match="'date' is not among the classes"):
        head.partial_fit(X[:1], ["date"], classes=["ash"])


def test_what_cannot_be_added_to() -> None:
    X, y = blobs(60)
    state = head_state.state_of(heads.ridge().fit(X, y))
    loaded = head_state.head_of(state, head_state.Shape(100, np.unique(y)))
    with pytest.raises(HeadError, match="saved after fit, without the sums"):
        loaded.partial_fit(X, y)
    with pytest.raises(OptionError, match="needs all samples at once"):
        heads.ridge(class_weight="balanced").partial_fit(X, y)
    with pytest.raises(OptionError, match="expected 0 < shrinkage < 1"):
        heads.ridge(shrinkage=2).fit(X, y)


def test_shrinkage_and_temperature_are_those_of_rows_held_out() -> None:
    X, y = blobs(400, dim=60, noise=4.0)
    head = heads.ridge().fit(X[:200], y[:200])
    least = log_loss(y[200:], head.predict_proba(X[200:]))
    assert least < log_loss(
        y[200:], heads.ridge(0.001).fit(X[:200], y[:200]).predict_proba(X[200:])
    )
    raw = head.decision_function(X[200:]) * head.temperature_
    assert least < log_loss(y[200:], softmax(raw, axis=1))
    assert set(head.losses_) == set(ridge_head.SHRINKAGES)
    assert min(head.losses_, key=head.losses_.__getitem__) == head.shrinkage_


def test_few_of_many_rows_are_kept_whatever_their_order() -> None:
    class Few(heads.RidgeHead):
        kept = 50

    X, y = blobs(400, dim=20, noise=3.0)
    order = np.random.default_rng(0).permutation(400)
    one, two = Few().fit(X, y), Few().fit(X[order], y[order])
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-5)
    groups = np.arange(400) // 10
    grouped = Few().fit(X, y, groups=groups)
    assert grouped.losses_ != one.losses_


def test_a_saved_head_goes_on_learning() -> None:
    X, y = blobs(200, dim=30, noise=3.0)
    head = heads.ridge().partial_fit(X[:100], y[:100])
    shape = head_state.Shape(30, head.classes_)
    again = head_state.head_of(head_state.state_of(head), shape)
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    one, two = (found.partial_fit(X[100:], y[100:]).predict_proba(X) for found in (head, again))
    np.testing.assert_array_equal(one, two)
    fitted = head_state.state_of(heads.ridge().fit(X, y))
    assert set(fitted.arrays) == {"coef", "intercept"}, "sums that nobody asked for"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kept_codes", np.full(100, 3)),
        ("kept_codes", np.full(99, 0)),
        ("squares", np.zeros(30)),
        ("sums", np.zeros((4, 30))),
        ("kept_order", np.zeros(100)),
    ],
)
def test_saved_sums_that_cannot_be(name: str, value: np.ndarray) -> None:
    X, y = blobs(100, dim=30)
    head = heads.ridge().partial_fit(X, y)
    state = head_state.state_of(head)
    state.arrays[name] = value
    with pytest.raises(ModelFormatError):
        head_state.head_of(state, head_state.Shape(30, head.classes_))


def test_many_classes() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(3000) % 300
    X = (rng.normal(size=(300, 50))[codes] + 0.3 * rng.normal(size=(3000, 50))).astype(np.float32)
    head: Any = heads.ridge().fit(X, codes)
    assert head.score(X, codes) > 0.95
    np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)
