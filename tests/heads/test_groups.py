"""Groups of samples: no head holds out a part of one while it learns from the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold

from featx import heads
from featx.dense import BatchNorm, Recipe, split
from featx.errors import DatasetError
from featx.heads import fitting
from featx.heads.folds import apart_where_alone, can_be_folded
from tests.heads.blobs import blobs


def patients(
    n: int = 24, each: int = 6, dim: int = 40, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples that tell their patient and nothing of their label, which a coin decided."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n), each)
    label = rng.permutation(np.arange(n) % 2)
    X = rng.normal(size=(n, dim))[groups] + rng.normal(scale=0.2, size=(n * each, dim))
    return X.astype(np.float32), np.array(["benign", "malignant"])[label[groups]], groups


@pytest.mark.parametrize("seed", range(20))
def test_folds_divide_no_group_and_every_class_trains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, rng.integers(3, 12), 60)
    y = rng.choice(["a", "b", "c"], 60, p=[0.6, 0.3, 0.1])
    folds = list(heads.StratifiedFolds(5, seed).split(np.zeros((60, 1)), y, groups))
    assert sorted(np.concatenate([valid for _, valid in folds])) == list(range(60))
    elsewhere = [name for name in np.unique(y) if len(np.unique(groups[y == name])) > 1]
    for fit, valid in folds:
        assert not set(groups[fit]) & set(groups[valid])
        assert set(elsewhere) <= set(y[fit])


def test_classes_in_few_groups_that_no_two_folds_can_part() -> None:
    """Each class in two of three groups: only three folds let every one train each time."""
    groups = np.repeat([0, 1, 2], 4)
    y = np.array(["a", "a", "c", "c", "a", "a", "b", "b", "b", "b", "c", "c"])
    folds = list(heads.StratifiedFolds(2).split(np.zeros((12, 1)), y, groups))
    assert len(folds) == 3
    assert all(set(y[fit]) == {"a", "b", "c"} for fit, _ in folds)


def test_a_class_in_one_group_alone() -> None:
    y = np.array(["a", "a", "b", "b", "b"])
    groups = np.array([7, 7, 7, 8, 9])
    assert not can_be_folded(y, groups)
    assert can_be_folded(y)
    found = apart_where_alone(y, groups)
    assert len(set(found)) == 5, "its two samples are two groups beside those of b"
    assert found[2] not in found[[0, 1, 3, 4]]


def test_c_is_chosen_by_group() -> None:
    X, y, groups = patients()
    by_sample = heads.logistic().fit(X, y)
    by_group = heads.logistic().fit(X, y, groups=groups)
    assert by_group.C_ < by_sample.C_
    chance = np.log(2)
    assert min(by_sample.losses_.values()) < chance / 2
    assert min(by_group.losses_.values()) > 0.9 * chance, "there is nothing to learn"


def test_a_machine_is_as_sure_as_it_may_be_of_new_groups() -> None:
    X, y, groups = patients()
    new, _, _ = patients(seed=1)
    by_sample = heads.linear_svm(C=1.0).fit(X, y)
    by_group = heads.linear_svm(C=1.0).fit(X, y, groups=groups)
    assert by_sample.predict_proba(new).max(axis=1).mean() > 0.75
    assert by_group.predict_proba(new).max(axis=1).mean() < 0.65
    assert type(by_group[-1].cv) is heads.StratifiedFolds, "the parameter is as it was given"


def test_layers_stop_by_whole_groups() -> None:
    X, y, groups = patients()
    codes = np.unique(y, return_inverse=True)[1]
    trained, held = split(codes, 0.1, 0, groups)
    assert not set(groups[trained]) & set(groups[held])
    assert 6 <= len(held) <= 24
    assert sorted([*trained, *held]) == list(range(len(y)))
    recipe = Recipe((BatchNorm(momentum=0.9),), learning_rate=0.05, epochs=12, patience=None)
    by_sample = heads.dense(recipe).fit(X, y)
    by_group = heads.dense(recipe).fit(X, y, groups=groups)
    assert by_group.history_["val_loss"][-1] > by_sample.history_["val_loss"][-1] + 0.2
    alone = split(np.array([0, 0, 1, 1]), 0.5, 0, np.array([0, 0, 1, 1]))
    assert [len(part) for part in alone] == [4, 0], "no group can be spared"


def test_a_perceptron_does_not_stop_by_samples_of_groups_that_it_learns_from() -> None:
    X, y, groups = patients()
    head = heads.mlp((8,))
    head[-1].fewest_stopping = 5
    assert head.fit(X, y).named_steps["mlp"].validation_scores_ is not None
    assert head.fit(X, y, groups=groups).named_steps["mlp"].validation_scores_ is None


def test_any_classifier_gets_them_where_it_has_a_use_for_them() -> None:
    X, y, groups = patients()
    search = GridSearchCV(LogisticRegression(), {"C": [1e-3, 1.0]}, cv=GroupKFold(4))
    assert fitting.fit(search, X, y, groups=groups).best_score_ < 0.75
    for name, make in heads.HEADS.items():
        head = make(recipe=Recipe(epochs=1)) if name == "dense" else make()
        assert fitting.fit(head, X, y, groups=groups).predict(X).shape == y.shape


def test_groups_that_cannot_be() -> None:
    X, y = blobs(60)
    with pytest.raises(DatasetError, match=r"groups have the shape \(59,\); expected \(60,\)"):
        heads.logistic().fit(X, y, groups=[0] * 59)
    missing: list[Any] = ["p"] * 59 + [None]
    with pytest.raises(DatasetError, match="1 group is missing"):
        heads.logistic().fit(X, y, groups=np.array(missing, dtype=object))
