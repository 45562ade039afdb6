"""XGBoostHead: trees grown in parts, on few columns, safe from rounding."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.metrics import log_loss

from featx import heads
from tests.heads.blobs import blobs


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
        head.small_size = small_size
        return head.fit(X, y)

    head = grown(100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    grown(100)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    grown(1 << 20)
    heads.xgboost(n_estimators=2, device="cuda").fit(X, y)
    assert asked == ["cuda", "cpu", "cpu", "cuda"]
    assert '"device":"cpu"' in head.model_.get_booster().save_config()


def test_xgboost_does_not_hang_on_the_last_bits_of_its_training_samples() -> None:
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
