from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import forecast
from featx.evaluation.protocol.forecast import Work
from featx.evaluation.protocol.plan import Folds
from featx.evaluation.protocol.trials import Method
from featx.heads import NearestHead
from tests.evaluation.seam import QUICK, TEST, TRAIN, Seam, embedded, images

CLOCK = [0.0]


class Clocked(ClassifierMixin, BaseEstimator):
    """Its fit takes rows ** power ms, each answer 1 ms, by the clock of this test."""

    def __init__(self, power: float = 1.0, most: int = 10**9) -> None:
        self.power = power
        self.most = most

    def fit(self, X: Any, y: Any) -> Clocked:
        if len(y) > self.most:
            raise MemoryError
        self.classes_ = np.unique(y)
        CLOCK[0] += 1e-3 * len(y) ** self.power
        return self

    def predict(self, X: Any) -> Any:
        CLOCK[0] += 1e-3 * len(X)
        return np.repeat(self.classes_[:1], len(X))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: CLOCK[0])
    monkeypatch.setattr(forecast, "FEWEST_ROWS", 100)
    monkeypatch.setattr(forecast, "TRIED_ROWS", 20)
    monkeypatch.setattr(forecast, "_TRIED_ANSWERS", 10)


def of(head: Any) -> Method:
    return Method("it", "head", lambda seed: head)


def rows(n: int) -> Any:
    half = n // 2
    data = images({"a": half, "b": n - half})
    return embedded(data, np.random.default_rng(0).random((n, 3)).astype(np.float32))


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7, 3.0])
def test_the_seconds_of_a_fit_grow_as_measured(clock: None, power: float) -> None:
    choice = forecast.fits_of_choice(120, Folds(3, 1))
    training = forecast.fits_of_training(120, 30, 0, 2)
    assert choice == [(80, 40)]
    assert training == [(120, 30)] * 2
    chosen, trained = forecast.tried(of(Clocked(power)), rows(120), 0, choice, training)
    assert chosen == pytest.approx(1e-3 * (80**power + 40))
    assert trained == pytest.approx(2e-3 * (120**power + 30))


def test_answers_of_neighbours_grow_with_the_rows(clock: None) -> None:
    class Near(NearestHead):
        def predict(self, X: Any) -> Any:
            CLOCK[0] += 1e-3 * len(X)
            return super().predict(X)

    Near.__name__ = "NearestHead"
    _, seconds = forecast.tried(of(Near(2)), rows(120), 0, (), [(120, 10)])
    assert seconds == pytest.approx(0.01 * 6**0.7)


def test_few_rows_and_a_head_that_fails_have_no_seconds(clock: None) -> None:
    fits = [(99, 10)]
    assert forecast.tried(of(Clocked()), rows(99), 0, (), fits) == (None, None)
    assert forecast.tried(of(Clocked(most=15)), rows(120), 0, (), fits) == (None, None)
    assert forecast.tried(of(Clocked()), rows(120), 0, (), ()) == (0.0, 0.0)


def test_folds_are_counted() -> None:
    assert forecast.fits_of_choice(90, Folds(3, 3)) == [(60, 30)] * 3
    assert forecast.fits_of_choice(90, Folds()) == ()
    assert forecast.fits_of_training(90, None, 5, 2) == [(72, 18)] * 10


def said(caplog: pytest.LogCaptureFixture, *work: Work) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "featx.evaluation.protocol.forecast"):
        forecast.announce_fits(work, 60.0)
    return caplog.messages


def test_what_takes_longer_than_all_others_is_named(caplog: pytest.LogCaptureFixture) -> None:
    slow, quick = Work("net", "slow", 2, 0, 20.0, 41.0), Work("net", "quick", 2, 1, 20.0, 39.0)
    plan, named = said(caplog, slow, quick)
    assert plan.startswith("4 fits are to be made, and 1 that an earlier run finished are taken")
    assert "about 2 min 0 s by short trials (slow 61 s, quick 59 s)" in plan.replace("\u00a0", " ")
    assert "slow is to take longer than all the others together" in named
    (alone,) = said(caplog, quick)
    assert "longer" not in alone


def test_what_is_not_known_is_not_guessed(caplog: pytest.LogCaptureFixture) -> None:
    known, unknown = Work("net", "quick", 2, 0, 20.0, 39.0), Work("net", "mine", 7)
    (text,) = said(caplog, unknown)
    assert text == "7 fits are to be made."
    text = said(caplog, known, unknown)[0]
    assert "besides mine, of which that is not known" in text


def test_a_comparison_says_beforehand_what_it_does(
    seam: Seam, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**QUICK, "heads": ["nearest", "ridge"], "baseline": True, "epochs": 4, "seeds": 2}
    order: list[str] = []
    extract = seam.extract
    monkeypatch.setattr(
        "featx.evaluation.protocol.extractions.extract",
        lambda *a, **k: (order.append(f"after {len(caplog.messages)}"), extract(*a, **k))[1],
    )
    with caplog.at_level(logging.INFO, "featx.evaluation.protocol.forecast"):
        benchmark(images(TRAIN), images(TEST), **options)
    assert caplog.messages == [
        "54 images go through mobilenet_v2 once.",
        "The baseline sends each image through the network every epoch: up to 288 passes.",
        "Besides the fits there is the search for copies (--no-leaks, or leaks=False, leaves it "
        "out).",
        "12 fits are to be made.",  # of two heads three of the choice and two; and two baselines
    ]
    assert order == ["after 3", "after 3"]
