"""Ctrl-C while a library trains: it is not lost, and half-trained heads are not taken for whole."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the body has ended.

    For compiled code that calls back into Python: XGBoost 3 aborted the process where an exception
    came up in such a call.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to that one
        yield
        return
    came: list[tuple[int, Any]] = []
    before = {number: signal.signal(number, lambda *what: came.append(what)) for number in _SIGNALS}
    try:
        yield
    finally:
        for sent, handler in before.items():
            signal.signal(sent, signal.SIG_DFL if handler is None else handler)
        for number, _ in came[:1]:
            signal.raise_signal(number)


@contextmanager
def not_swallowed() -> Iterator[None]:
    """Raise KeyboardInterrupt where scikit-learn's perceptron ends with a warning at Ctrl-C."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Training interrupted by user", UserWarning)
        try:
            yield
        except UserWarning as warning:
            if "interrupted by user" in str(warning):
                raise KeyboardInterrupt from warning
            raise
