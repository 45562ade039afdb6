from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from featx.evaluation.evidence import temperature
from featx.evaluation.results import Predictions

CLASSES = ["a", "b", "c"]


def claims(n: int, sharper: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that are `sharper` than they should be, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, len(CLASSES)))
    honest = softmax(logits, axis=1)
    y = np.array([rng.choice(CLASSES, p=row) for row in honest], dtype=object)
    return softmax(sharper * logits, axis=1), y


def answers(proba: np.ndarray, y: np.ndarray) -> Predictions:
    given = np.asarray(CLASSES, dtype=object)[proba.argmax(axis=1)]
    return Predictions("net", "mlp", "head", 0, tuple(map(str, range(len(y)))), y, given, proba)


@pytest.mark.parametrize("sharper", [0.5, 1.0, 3.0])
def test_the_temperature_is_by_how_much_the_claims_are_too_sharp(sharper: float) -> None:
    proba, y = claims(4000, sharper)
    assert temperature.fit(proba, y, CLASSES) == pytest.approx(sharper, rel=0.1)


def test_zeros_and_ones_have_a_temperature_too() -> None:
    proba = np.eye(3)[np.array([0, 1, 2, 0] * 10)]
    y = np.array(["a", "b", "c", "b"] * 10, dtype=object)
    assert temperature.fit(proba, y, CLASSES) > 5
    assert np.isfinite(temperature.scaled(proba, 0.02)).all()


@given(st.floats(0.05, 20), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_no_temperature_changes_the_class_that_is_given(value: float, seed: int) -> None:
    proba, _ = claims(20, 2.0, seed)
    scaled = temperature.scaled(proba, value)
    assert np.array_equal(scaled.argmax(axis=1), proba.argmax(axis=1))
    assert scaled.sum(axis=1) == pytest.approx(np.ones(20))


def test_a_test_set_has_no_say_in_its_own_temperature() -> None:
    held, y_train = claims(1500, 3.0)
    proba, y = claims(1500, 3.0, seed=1)
    found = temperature.from_training(answers(proba, y), held, y_train, CLASSES, "held out")
    assert found.value == temperature.fit(held, y_train, CLASSES)
    assert found.ece_after < 0.5 * found.ece_before
    assert found.log_loss_after < found.log_loss_before
    shuffled = np.random.default_rng(0).permutation(y)
    other = temperature.from_training(answers(proba, shuffled), held, y_train, CLASSES, "held out")
    assert other.value == found.value


def test_a_fold_has_no_say_in_its_own_temperature() -> None:
    proba, y = claims(900, 3.0)
    folds = [np.arange(start, 900, 3) for start in range(3)]
    found = temperature.across_folds(answers(proba, y), folds, CLASSES)
    assert found.value == pytest.approx(3.0, rel=0.2)
    assert found.ece_after < found.ece_before
    others = np.setdiff1d(np.arange(900), folds[0])
    first = temperature.fit(proba[others], y[others], CLASSES)
    again = y.copy()
    again[folds[0]] = "a"
    changed = temperature.across_folds(answers(proba, again), folds, CLASSES)
    assert temperature.fit(proba[others], again[others], CLASSES) == first
    assert changed.value != found.value  # the other folds' temperatures do see it
