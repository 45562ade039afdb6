"""Weights of samples and of classes, in every head and through scikit-learn's own tools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import AdaBoostClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import featx
from featx import heads
from featx.dense import BatchNorm, Recipe, samples_of
from featx.errors import DatasetError, HeadError, OptionError
from featx.heads import fitting
from tests.heads.blobs import blobs

# With validation samples and early stopping, so that weights must reach these as well.
WATCHED = Recipe((BatchNorm(momentum=0.9),), learning_rate=0.05, epochs=12, patience=2)
SMALL: dict[str, Any] = {
    "logistic": heads.logistic(),
    "logistic, C given": heads.logistic(C=0.1),
    "ridge": heads.ridge(),
    "mlp": heads.mlp((16,)),
    "xgboost": heads.xgboost(n_estimators=20, n_jobs=1),
    "dense": heads.dense(WATCHED),
    "nearest": heads.nearest(),
    "linear_svm": heads.linear_svm(),
}


@pytest.fixture(params=SMALL)
def head(request: pytest.FixtureRequest) -> Any:
    found = clone(SMALL[request.param])
    if request.param == "mlp":
        found[-1].fewest_stopping = 5
    return found


def uneven(n: int = 90, noise: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples that are hard to tell apart, of which one class is rare, and weights 0-3."""
    X, y = blobs(n, noise=noise)
    keep = np.flatnonzero((y != "cedar") | (np.arange(n) % 4 == 0))
    weights = np.random.default_rng(0).integers(0, 4, len(keep))
    weights[:3] = 1, 2, 3
    return X[keep], y[keep], weights


def test_every_head_is_tried_here() -> None:
    assert {name.split(",")[0] for name in SMALL} == set(heads.HEADS)


def test_a_weight_of_2_is_the_sample_twice_and_0_its_absence(head: Any) -> None:
    X, y, weights = uneven()
    order = np.random.default_rng(1).permutation(weights.sum())
    repeated = np.repeat(np.arange(len(y)), weights)[order]
    one = clone(head).fit(X, y, sample_weight=weights)
    two = clone(head).fit(X[repeated], y[repeated])
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), rtol=1e-5, atol=1e-7)
    used = weights > 0
    three = clone(head).fit(X[used], y[used], sample_weight=weights[used])
    np.testing.assert_allclose(one.predict_proba(X), three.predict_proba(X), rtol=1e-5, atol=1e-7)
    assert not np.allclose(one.predict_proba(X), clone(head).fit(X, y).predict_proba(X), atol=1e-3)


def test_weights_of_1_change_nothing(head: Any) -> None:
    X, y, _ = uneven()
    plain = clone(head).fit(X, y).predict_proba(X)
    weighted = clone(head).fit(X, y, sample_weight=np.ones(len(y))).predict_proba(X)
    np.testing.assert_array_equal(weighted, plain)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"logistic, C given"}))
def test_only_the_ratios_of_weights_count(name: str) -> None:
    """AdaBoost's add up to 1: a penalty or a least leaf must not grow by that."""
    X, y, weights = uneven()
    one, two = (
        clone(SMALL[name]).fit(X, y, sample_weight=given)
        for given in (weights, weights / weights.sum())
    )
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), rtol=1e-4, atol=1e-6)


def test_balanced_classes_are_what_their_weights_by_hand_are(head: Any) -> None:
    X, y, weights = uneven()
    names, codes = np.unique(y, return_inverse=True)
    by_hand = weights / np.bincount(codes, weights=weights)[codes]
    by_hand *= weights.sum() / len(names)
    one = clone(head).set_params(class_weight="balanced").fit(X, y, sample_weight=weights)
    two = clone(head).fit(X, y, sample_weight=by_hand)
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), rtol=1e-4, atol=1e-6)
    each = dict(zip(names.tolist(), (1 / np.bincount(codes)).tolist(), strict=True))
    three = clone(head).set_params(class_weight=each).fit(X, y)
    assert three.predict_proba(X)[:, 2].mean() > clone(head).fit(X, y).predict_proba(X)[:, 2].mean()


def test_the_recall_of_a_rare_class_rises(head: Any) -> None:
    X, y = blobs(400, dim=20, k=2, noise=6.0)
    train, test = np.arange(200), np.arange(200, 400)
    train = train[(y[train] == "ash") | (train % 8 == 1)]
    rare = y[test] == "birch"

    def recall(**options: Any) -> float:
        model = clone(head).set_params(**options).fit(X[train], y[train])
        return float((model.predict(X[test])[rare] == "birch").mean())

    assert recall(class_weight="balanced") > recall()


def test_adaboost(head: Any) -> None:
    X, y, weights = uneven(noise=3.0)
    boosted = AdaBoostClassifier(head, n_estimators=2, random_state=0)
    assert boosted.fit(X, y).score(X, y) > 0.7
    # Above 0: scikit-learn's own takes the logarithm of a weight of 0, and warns of it.
    assert boosted.fit(X, y, sample_weight=weights + 1).predict(X).shape == y.shape


def test_grid_search_over_class_weights_with_weights_of_samples(head: Any) -> None:
    X, y, weights = uneven()
    search = GridSearchCV(head, {"class_weight": [None, "balanced"]}, cv=2, error_score="raise")
    search.fit(X, y, sample_weight=weights)
    expected = clone(search.best_estimator_).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(
        search.predict_proba(X), expected.predict_proba(X), rtol=1e-5, atol=1e-7
    )


def test_inside_a_pipeline_by_the_name_of_its_step_and_by_routing(head: Any) -> None:
    X, y, weights = uneven()
    expected = clone(head).fit(X * np.float32(2), y, sample_weight=weights).predict_proba(X * 2)

    class Doubled(BaseEstimator):
        def fit(self, X: Any, y: Any = None) -> Doubled:
            self.fitted_ = True
            return self

        def transform(self, X: Any) -> Any:
            return X * np.float32(2)

    by_name = Pipeline([("double", Doubled()), ("head", clone(head))])
    by_name.fit(X, y, head__sample_weight=weights)
    np.testing.assert_allclose(by_name.predict_proba(X), expected, rtol=1e-5, atol=1e-7)
    with config_context(enable_metadata_routing=True):
        asked = clone(head).set_fit_request(sample_weight=True)
        routed = Pipeline([("double", Doubled()), ("head", asked)])
        routed.fit(X, y, sample_weight=weights)
        np.testing.assert_allclose(routed.predict_proba(X), expected, rtol=1e-5, atol=1e-7)


def test_the_steps_of_a_pipeline_take_them_by_name_as_in_scikit_learn() -> None:
    X, y, weights = uneven()
    for name in ("mlp", "linear_svm"):
        one, two = clone(SMALL[name]), clone(SMALL[name])
        last = one.steps[-1][0]
        one.fit(X, y, **{f"{last}__sample_weight": weights})
        two.fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_logistic_with_weights_is_plain_logistic_regression() -> None:
    X, y, weights = uneven()
    head = heads.logistic(C=0.1).fit(X.astype(np.float64), y, sample_weight=weights)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=10_000, tol=1e-8))
    plain.fit(
        X.astype(np.float64),
        y,
        standardscaler__sample_weight=weights,
        logisticregression__sample_weight=weights,
    )
    np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=2e-3)


def test_the_choice_of_c_sees_the_weights() -> None:
    """Samples with labels by coin ask for a strong penalty, unless they hardly count."""
    X, y = blobs(120, noise=1.0)
    coin = y.copy()
    half = np.arange(120) % 2 == 0
    coin[half] = np.random.default_rng(0).permutation(coin[half])
    all_alike = heads.logistic().fit(X, coin)
    weighted = heads.logistic().fit(X, coin, sample_weight=np.where(half, 1e-4, 1.0))
    assert weighted.C_ > all_alike.C_
    assert min(weighted.losses_.values()) < min(all_alike.losses_.values())


def test_nearest_votes_with_the_weights() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 6)).astype(np.float32)
    y = np.array(["left", "right"])[np.arange(40) % 2]
    weights = rng.uniform(0.1, 4, 40)
    for form in ("uniform", "distance"):
        head = heads.NearestHead(5, metric="cosine", weights=form)
        head.fit(X, y, sample_weight=weights)
        plain = KNeighborsClassifier(5, metric="cosine", weights=form).fit(X, y)
        distances, nearest = plain.kneighbors(X + 0.1)
        votes = weights[nearest] / (distances if form == "distance" else 1)
        expected = (votes * (y[nearest] == "right")).sum(axis=1) / votes.sum(axis=1)
        np.testing.assert_allclose(head.predict_proba(X + 0.1)[:, 1], expected, rtol=1e-4)


def test_fewer_different_samples_than_neighbours_are_all_asked() -> None:
    X = np.repeat(np.array([[1.0, 0.0], [0.0, 1.0]]), 4, axis=0)
    y = np.repeat(["low", "high"], 4)
    head = heads.nearest(k=5).fit(X, y)
    assert head.predict([[0.9, 0.2], [0.1, 0.8]]).tolist() == ["low", "high"]
    with pytest.raises(DatasetError, match=r"nearest\(k=5\) was given 4 embeddings"):
        heads.nearest(k=5).fit(X, y, sample_weight=[1, 1, 0, 0] * 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([-1] + [1] * 59, r"1 of 60 weights are below zero or not finite \(weight 0 is -1\)"),
        ([1] * 59 + [np.nan], r"weight 59 is nan"),
        ([1] * 59, r"has the shape \(59,\); expected \(60,\)"),
        (["much"] * 60, "sample_weight is not numbers"),
        ([0] * 60, "all weights are zero"),
        ([1, 0, 0] * 20, r"only one class in y: 'ash' \(20 embeddings with a weight above zero\)"),
    ],
)
def test_weights_that_cannot_be(head: Any, weights: list[Any], message: str) -> None:
    X, y = blobs(60)
    with pytest.raises(DatasetError, match=message):
        head.fit(X, y, sample_weight=weights)


def test_a_class_weight_that_is_none(head: Any) -> None:
    X, y = blobs(60)
    with pytest.raises(OptionError, match="class_weight='balance': expected None, 'balanced'"):
        head.set_params(class_weight="balance").fit(X, y)
    with pytest.raises(ValueError, match="oak|not in class_weight"):
        head.set_params(class_weight={"oak": 2}).fit(X, y)


def test_every_head_of_the_table_takes_class_weight() -> None:
    for make in heads.HEADS.values():
        assert make(class_weight="balanced").get_params()["class_weight"] == "balanced"


def test_equal_samples_are_joined_in_an_order_of_their_own() -> None:
    X = np.array([[1.0], [2.0], [1.0], [2.0], [1.0]])
    y = ["a", "a", "a", "b", "b"]
    found = samples_of(BaseEstimator(), X, y)
    assert found.weight is not None
    rows = zip(found.y.tolist(), found.X[:, 0].tolist(), found.weight.tolist(), strict=True)
    assert sorted(rows) == [("a", 1, 2), ("a", 2, 1), ("b", 1, 1), ("b", 2, 1)]
    again = samples_of(BaseEstimator(), X[::-1], y[::-1])
    np.testing.assert_array_equal(again.X, found.X)
    apart = samples_of(BaseEstimator(), X, y, groups=["p", "p", "q", "q", "q"])
    assert apart.weight is None
    assert len(apart.y) == 5
    untouched = samples_of(BaseEstimator(), X[:2], ["b", "a"])
    assert untouched.y.tolist() == ["b", "a"], "without equal ones nothing moves"


def test_samples_are_joined_by_all_columns_though_some_tell_most_apart() -> None:
    X = np.random.default_rng(0).normal(size=(6, 40))
    X[3:] = X[:3]
    X[3, 1] += 1  # columns 0, 2, 4, ... are the ones that are looked at first
    found = samples_of(BaseEstimator(), X, ["a", "b", "a"] * 2)
    assert len(found.y) == 4
    assert found.weight is not None
    assert sorted(found.weight) == [1, 1, 2, 2]
    again = samples_of(BaseEstimator(), X[::-1], (["a", "b", "a"] * 2)[::-1])
    np.testing.assert_array_equal(again.X, found.X)
    alone = samples_of(BaseEstimator(), X[:4], ["a", "b", "a", "a"])
    assert alone.weight is None
    np.testing.assert_array_equal(alone.X, X[:4])


def test_any_classifier_gets_what_it_takes() -> None:
    X, y, weights = uneven()
    pipeline = make_pipeline(StandardScaler(), PCA(5, random_state=0), LogisticRegression())
    one = fitting.fit(clone(pipeline), X, y, weights)
    two = clone(pipeline).fit(
        X, y, standardscaler__sample_weight=weights, logisticregression__sample_weight=weights
    )
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    search = GridSearchCV(clone(pipeline), {"pca__n_components": [2, 5]}, cv=2)
    assert fitting.fit(search, X, y, weights).best_score_ > 0
    with pytest.raises(HeadError, match="KNeighborsClassifier takes no weights of samples"):
        fitting.fit(KNeighborsClassifier(), X, y, weights)
    fitting.fit(KNeighborsClassifier(), X, y, groups=y)


@pytest.mark.weights
def test_balanced_flowers(datasets: Any) -> None:
    """One flower made rare among 600 photographs: the balanced head finds more of it again."""
    train, test = (
        featx.extract(datasets / "flowers" / part, "mobilenet_v2", progress=False)
        for part in ("train", "test")
    )
    assert train.y is not None
    assert test.y is not None
    rare = train.classes[0]
    keep = np.flatnonzero(train.y != rare).tolist() + np.flatnonzero(train.y == rare)[:6].tolist()
    X, y = train.X[keep], train.y[keep]

    def recall(name: str, **options: Any) -> float:
        # Six images are few: one draw of XGBoost's columns finds 3 of 50 again, another 7.
        draws = [{"random_state": seed} for seed in range(4)] if name == "xgboost" else [{}]
        fitted = [heads.HEADS[name](**options, **draw).fit(X, y) for draw in draws]
        found = [head.predict(test.X)[test.y == rare] == rare for head in fitted]
        return float(np.mean(found))

    for name in ("logistic", "xgboost", "nearest"):
        assert recall(name, class_weight="balanced") > recall(name), name


def test_a_parameter_that_xgboost_alone_knows_is_answered_with_ours() -> None:
    with pytest.raises(HeadError, match="no parameter scale_pos_weight.*class_weight='balanced'"):
        heads.xgboost(scale_pos_weight=4)


def test_cross_validation_hands_on_weights_and_groups(head: Any) -> None:
    X, y, weights = uneven()
    groups = np.arange(len(y)) // 2
    params: dict[str, Any] = {"sample_weight": weights}
    if not isinstance(head, heads.XGBoostHead | heads.NearestHead):
        params["groups"] = groups
    folds = GroupKFold(3)
    found = cross_val_score(head, X, y, groups=groups, cv=folds, params=params, error_score="raise")
    fit, score = next(iter(folds.split(X, y, groups)))
    alone = clone(head).fit(X[fit], y[fit], **{name: part[fit] for name, part in params.items()})
    assert found[0] == alone.score(X[score], y[score])


@pytest.mark.parametrize("name", heads.HEADS)
def test_weights_by_label_whatever_the_label_looks_like(name: str) -> None:
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    y = np.array(["9", "10"] * 20, dtype=object)
    X[y == "9"] += 3
    predicted = [
        heads.find(name).set_params(class_weight=weights).fit(X, y).predict(X).tolist()
        for weights in ({"9": 1, "10": 5}, {9: 1, 10: 5})
    ]
    assert predicted[0] == predicted[1]
    assert set(predicted[0]) == {"9", "10"}
    with pytest.raises(OptionError, match="has weights for '11', which is not a class"):
        heads.find(name).set_params(class_weight={"9": 1, "11": 5}).fit(X, y)
