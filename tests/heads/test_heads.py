"""Every head: scikit-learn's contract, clear refusals, and what all of them promise."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from featx import heads
from featx.dense import DEFAULT_RECIPE, BatchNorm, DenseClassifier, Recipe
from featx.dense.classifier import default_recipe
from featx.dense.recipe import CosineDecay
from featx.errors import DatasetError
from tests.heads.blobs import blobs

QUICK = Recipe(
    layers=(BatchNorm(momentum=0.9),),
    learning_rate=0.05,
    epochs=8,
    patience=None,
    validation_fraction=0,
)
SMALL: dict[str, Any] = {
    "logistic": heads.logistic(),
    "ridge": heads.ridge(),
    "mlp": heads.mlp((16,)),
    "xgboost": heads.xgboost(n_estimators=20, n_jobs=1),
    "dense": heads.dense(QUICK),
    "nearest": heads.nearest(),
    "linear_svm": heads.linear_svm(),
}

STEPS = "Pipeline.fit replaces its steps by fitted ones; scikit-learn exempts its own Pipeline too"


FLOAT32 = (
    "asks for 1e-7, which is less than one unit of float32: TensorFlow's threads cut a batch"
    " anew at each call; test_the_order_of_samples_does_not_matter asks for 1e-5"
)


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    if not isinstance(estimator, Pipeline):
        return {}
    return {
        "check_estimators_overwrite_params": STEPS,
        "check_dont_overwrite_parameters": STEPS,
    }


@parametrize_with_checks(
    [*SMALL.values(), heads.logistic(C=1.0)], expected_failed_checks=expected_failed_checks
)
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    order = check.func.__name__ == "check_methods_sample_order_invariance"
    if order and isinstance(estimator, DenseClassifier):
        pytest.skip(FLOAT32)
    check(estimator)


@pytest.fixture(params=SMALL)
def head(request: pytest.FixtureRequest) -> Any:
    return clone(SMALL[request.param])


def test_every_head_is_tried_here() -> None:
    assert set(SMALL) == set(heads.HEADS)
    assert all(type(make()) is type(SMALL[name]) for name, make in heads.HEADS.items())


def test_string_labels_probabilities_and_pickle(head: Any) -> None:
    X, y = blobs(90)
    before = X.copy()
    head.fit(X[:60], y[:60])
    proba = head.predict_proba(X[60:])
    assert list(head.classes_) == ["ash", "birch", "cedar"]
    assert proba.shape == (30, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(head.predict(X[60:]), head.classes_[proba.argmax(axis=1)])
    assert head.score(X[60:], y[60:]) > 0.9
    again = pickle.loads(pickle.dumps(head))  # noqa: S301
    np.testing.assert_array_equal(again.predict_proba(X[60:]), proba)
    np.testing.assert_array_equal(X, before)


def test_the_order_of_samples_does_not_matter(head: Any) -> None:
    X, y = blobs(90)
    head.fit(X, y)
    order = np.random.default_rng(0).permutation(90)
    np.testing.assert_allclose(
        head.predict_proba(X[order]), head.predict_proba(X)[order], rtol=1e-5, atol=1e-9
    )


def test_same_seed_same_head(head: Any) -> None:
    X, y = blobs()
    first = clone(head).fit(X, y).predict_proba(X)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    np.testing.assert_array_equal(clone(head).fit(X, y).predict_proba(X), first)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"nearest", "ridge"}))
def test_random_state_is_one_of_scikit_learns(name: str) -> None:
    X, y = blobs(noise=3.0)
    make = {**heads.HEADS, "xgboost": lambda **state: heads.xgboost(n_estimators=20, **state)}[name]
    make = {"dense": lambda **state: heads.dense(QUICK, **state)}.get(name, make)

    def scores(state: Any) -> np.ndarray:
        return make(random_state=state).fit(X, y).predict_proba(X)

    drawn, again = (scores(np.random.RandomState(7)) for _ in range(2))  # noqa: NPY002
    np.testing.assert_array_equal(drawn, again)
    if name in ("mlp", "dense", "xgboost"):  # the others draw nothing but folds
        assert not np.array_equal(scores(None), scores(None))


def test_one_class_is_refused(head: Any) -> None:
    X, _ = blobs(10)
    with pytest.raises(
        DatasetError, match=r"only one class in y: .*'ash'.* \(10 embeddings\).*folder"
    ):
        head.fit(X, ["ash"] * 10)


def test_features_that_are_not_finite_are_named(head: Any) -> None:
    X, y = blobs()
    X[[3, 17]] = np.nan
    with pytest.raises(DatasetError, match=r"2 of 60 embeddings hold NaN or infinity \(at 3, 17\)"):
        head.fit(X, y)


def test_a_class_with_one_sample_is_learned_like_any_other(head: Any) -> None:
    X, y = blobs(40)
    y = y.astype(object)
    y[7] = "rare"
    head.fit(X, y)
    assert "rare" in head.classes_
    assert head.predict_proba(X).shape == (40, 4)


def test_a_class_absent_from_a_fold_is_not_an_error(head: Any) -> None:
    X, y = blobs(30)
    present = y != "birch"
    assert list(head.fit(X[present], y[present]).classes_) == ["ash", "cedar"]
    assert set(head.predict(X)) <= {"ash", "cedar"}


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("logistic", {"C": [0.01, 1.0]}),
        ("ridge", {"shrinkage": [0.1, 0.5]}),
        ("mlp", {"mlp__alpha": [0.1, 1.0]}),
        ("xgboost", {"max_depth": [2, 3]}),
        ("dense", {"recipe": [QUICK, Recipe(epochs=1, layers=())]}),
        ("nearest", {"n_neighbors": [1, 3]}),
        ("linear_svm", {"svm__estimator__C": [1e-3, 1e-2]}),
    ],
)
def test_grid_search(name: str, grid: dict[str, list[Any]]) -> None:
    X, y = blobs()
    search = GridSearchCV(clone(SMALL[name]), grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.8


def test_batches_of_the_default_layers_grow_with_the_samples() -> None:
    sizes = [default_recipe(n).batch_size for n in (600, 5_759, 5_760, 50_000, 10**6)]
    assert sizes == [32, 32, 64, 512, 512]
    assert default_recipe(1_999) == DEFAULT_RECIPE
    rate = default_recipe(50_000).learning_rate
    assert isinstance(rate, CosineDecay)
    assert rate.initial == pytest.approx(4e-3)
    assert rate.steps == 22 * 88, "it reaches 0 with the last batch of 45,000 samples"
