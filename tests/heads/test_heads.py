"""Every head: scikit-learn's contract, clear refusals, and what each one promises of itself."""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np
import pytest
import xgboost
from scipy.special import softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from featx import heads
from featx.dense import BatchNorm, Recipe
from featx.errors import DatasetError
from featx.heads.logistic_head import CS, UNTUNED_C

QUICK = Recipe(
    layers=(BatchNorm(momentum=0.9),),
    learning_rate=0.05,
    epochs=8,
    patience=None,
    validation_fraction=0,
)
SMALL: dict[str, Any] = {
    "logistic": heads.logistic(),
    "mlp": heads.mlp((16,)),
    "xgboost": heads.xgboost(n_estimators=20, n_jobs=1),
    "dense": heads.dense(QUICK),
    "nearest": heads.nearest(),
    "linear_svm": heads.linear_svm(),
}

STEPS = "Pipeline.fit replaces its steps by fitted ones; scikit-learn exempts its own Pipeline too"


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    if type(estimator).__name__ != "Pipeline":
        return {}
    return {
        "check_estimators_overwrite_params": STEPS,
        "check_dont_overwrite_parameters": STEPS,
    }


@parametrize_with_checks(
    [*SMALL.values(), heads.logistic(C=1.0)], expected_failed_checks=expected_failed_checks
)
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    check(estimator)


def blobs(
    n: int = 60, dim: int = 100, k: int = 3, noise: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows wider than they are many, as embeddings are, with string labels."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % k
    centres = rng.normal(size=(k, dim))
    rows = centres[codes] + rng.normal(scale=noise, size=(n, dim)) + 5.0
    return rows.astype(np.float32), np.array(["ash", "birch", "cedar", "date"])[codes]


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


def test_same_seed_same_head(head: Any) -> None:
    X, y = blobs()
    first = clone(head).fit(X, y).predict_proba(X)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    np.testing.assert_array_equal(clone(head).fit(X, y).predict_proba(X), first)


@pytest.mark.parametrize("name", set(SMALL) - {"nearest"})
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


def test_rows_that_are_not_finite_are_named(head: Any) -> None:
    X, y = blobs()
    X[[3, 17]] = np.nan
    with pytest.raises(
        DatasetError, match=r"2 of 60 embeddings hold NaN or infinity \(rows 3, 17\)"
    ):
        head.fit(X, y)


def test_a_class_with_one_row_is_learned_like_any_other(head: Any) -> None:
    X, y = blobs(40)
    y = y.astype(object)
    y[7] = "rare"
    head.fit(X, y)
    assert "rare" in head.classes_
    assert head.predict_proba(X).shape == (40, 4)


def test_a_class_absent_from_a_fold_is_no_error(head: Any) -> None:
    X, y = blobs(30)
    present = y != "birch"
    assert list(head.fit(X[present], y[present]).classes_) == ["ash", "cedar"]
    assert set(head.predict(X)) <= {"ash", "cedar"}


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("logistic", {"C": [0.01, 1.0]}),
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


# logistic


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
def test_logistic_coefficients_are_those_of_rows_as_they_come(k: int) -> None:
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
        head.enough_validation = enough  # type: ignore[misc]
        return head.fit(X, y)

    five = searched(750)
    assert searched(81).losses_ == five.losses_
    one = searched(20)
    common = set(one.losses_) & set(five.losses_)
    assert common
    assert all(one.losses_[C] != five.losses_[C] for C in common)


@pytest.mark.parametrize("y", [["a", "b", "c", "d"], ["a", "a", "a", "b"]])
def test_too_few_rows_to_hold_any_out(y: list[str]) -> None:
    X, _ = blobs(4)
    head = heads.logistic().fit(X, y)
    assert head.C_ == UNTUNED_C
    assert set(head.classes_) == set(y)
    with pytest.raises(DatasetError, match="fewer than two classes have two samples.*logistic"):
        heads.linear_svm().fit(X, y)


@pytest.mark.parametrize(
    ("counts", "folds"), [((10, 10), 5), ((10, 3), 3), ((10, 2), 2), ((10, 1), 2)]
)
def test_folds_follow_the_smallest_class(counts: tuple[int, ...], folds: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    splits = list(heads.StratifiedFolds(5).split(np.zeros((len(y), 1)), y))
    assert len(splits) == heads.StratifiedFolds(5).get_n_splits(None, y) == folds
    assert sorted(np.concatenate([valid for _, valid in splits])) == list(range(len(y)))


# the others


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


def test_xgboost_grows_few_rounds_on_few_columns() -> None:
    X, y = blobs()
    head = heads.xgboost(n_estimators=12, columns=10).fit(X, y)
    # The columns of three trees a round, five rounds at a time.
    used = [
        {int(name[1:]) for name in head.model_.get_booster()[begin:end].get_score()}
        for begin, end in ((0, 5), (5, 10), (10, 12))
    ]
    assert all(3 < len(columns) <= 20 for columns in used)
    assert not used[0] & used[1], "all columns had their turn before one comes again"
    assert not used[1] & used[2]


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_estimators", 0), ("n_estimators", 2.5), ("columns", 0), ("columns", -3),
     ("random_state", "a"), ("random_state", -1)],
)  # fmt: skip
def test_xgboost_refuses_what_grows_no_trees(name: str, value: float | None) -> None:
    with pytest.raises(ValueError, match=f"{name}={value!r}: expected a whole number"):
        heads.xgboost(**{name: value}).fit(*blobs())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("columns", [4, 64, 1000])
def test_xgboost_trees_grown_in_parts_are_one_model(
    classes: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = blobs()
    train, made = xgboost.train, []

    def noted(parameters: dict[str, Any], data: Any, rounds: int) -> Any:
        made.append((train(parameters, data, rounds), data))
        return made[-1][0]

    monkeypatch.setattr(xgboost, "train", noted)
    if classes == 2:
        X, y = X[y != y[0]], y[y != y[0]]
    whole = heads.xgboost(n_estimators=13, columns=columns).fit(X, y)
    last, data = made[-1]
    assert len(made) == (3 if 2 * columns < X.shape[1] else 1)
    np.testing.assert_array_equal(
        whole.model_.predict(X, output_margin=True), last.predict(data, output_margin=True)
    )
    start = heads.xgboost(n_estimators=5, columns=columns).fit(X, y)
    assert whole.model_.get_booster().num_boosted_rounds() == 13
    assert whole.model_.get_booster().num_features() == X.shape[1]
    np.testing.assert_array_equal(
        whole.model_.predict_proba(X, iteration_range=(0, 5)), start.predict_proba(X)
    )
    losses = [
        log_loss(y, whole.model_.predict_proba(X, iteration_range=(0, end))) for end in (5, 10, 13)
    ]
    assert losses[0] > losses[1] > losses[2]


def test_xgboost_grows_on_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    asked: list[str] = []
    train = xgboost.train

    def noted(parameters: dict[str, Any], *rest: Any) -> Any:
        asked.append(parameters["device"])
        # No GPU is needed to see which device is asked for.
        return train({**parameters, "device": "cpu"}, *rest)

    monkeypatch.setattr(xgboost, "train", noted)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    there = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/nvidiactl" or there(path))
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": True})

    def grown(small_size: int) -> heads.XGBoostHead:
        head = heads.xgboost(n_estimators=2)
        head.small_size = small_size  # type: ignore[misc]
        return head.fit(X, y)

    head = grown(100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    grown(100)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    grown(1 << 20)
    heads.xgboost(n_estimators=2, device="cuda").fit(X, y)
    assert asked == ["cuda", "cpu", "cpu", "cuda"]
    assert '"device":"cpu"' in head.model_.get_booster().save_config()


def test_xgboost_does_not_hang_on_the_last_bits_of_its_training_rows() -> None:
    X, y = blobs()
    plain = xgboost.XGBClassifier(
        n_estimators=20, max_depth=3, max_bin=32, learning_rate=0.2, n_jobs=1, random_state=0
    )
    codes = np.unique(y, return_inverse=True)[1]
    expected = plain.fit(X, codes).predict_proba(X)
    head = heads.xgboost(n_estimators=20, columns=X.shape[1]).fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(X), expected)
    lower = np.nextafter(X.astype(np.float32), np.float32(-np.inf))
    np.testing.assert_array_equal(head.predict_proba(lower), expected)
    assert np.abs(plain.predict_proba(lower) - expected).max() > 1e-3, "what is guarded against"


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


def test_nearest_needs_as_many_rows_as_neighbours() -> None:
    X, y = blobs()
    with pytest.raises(DatasetError, match="was given 4 embeddings.*Take k=4 or less"):
        heads.nearest(5).fit(X[:4], ["a", "b", "a", "b"])


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
