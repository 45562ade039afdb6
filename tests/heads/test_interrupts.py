from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

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


def test_an_interrupted_perceptron_is_not_taken_for_a_trained_one() -> None:
    head = heads.mlp()
    head[-1].set_params(max_iter=10**6, tol=0.0, n_iter_no_change=10**6, early_stopping=False)
    timer = threading.Timer(0.5, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        head.fit(X, Y)
    timer.join()


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
