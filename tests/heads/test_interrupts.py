from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from featx import heads
from featx.heads import interrupts
from featx.heads.boosting import growing

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(600, 40)).astype(np.float32), np.arange(600) % 3


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Have Python's own handler, whatever another test or its library left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_perceptron_is_not_taken_for_a_trained_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = []

    def step(*asked: Any, **more: Any) -> Any:
        steps.append(True)
        if len(steps) == 3:  # not by a timer, which might go off elsewhere in a busy process
            interrupt()
        return before(*asked, **more)

    before = MLPClassifier._backprop
    monkeypatch.setattr(MLPClassifier, "_backprop", step)
    with pytest.raises(KeyboardInterrupt):
        heads.mlp().fit(X, Y)
    assert len(steps) < 5


def test_an_interrupt_waits_for_the_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """XGBoost aborts the process where an exception comes up while it reads the data."""
    ended = []

    def grown(*asked: Any, **more: Any) -> bytes:
        interrupt()
        ended.append(True)
        return before(*asked, **more)

    before = growing.grown
    monkeypatch.setattr(growing, "grown", grown)
    head = heads.xgboost(n_estimators=5)
    with pytest.raises(KeyboardInterrupt):
        head.fit(X, Y)
    assert ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_are_left_alone_where_they_do_not_come() -> None:
    seen = []

    def body() -> None:
        with interrupts.held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
    with interrupts.held():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
