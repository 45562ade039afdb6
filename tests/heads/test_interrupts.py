"""Ctrl-C during a fit, each time in a process of its own: a signal is for the whole of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A process that is started in the background may have inherited that Ctrl-C is ignored.
BEGIN = """
import os, signal, threading
import numpy as np
from featx import heads
from featx.heads import interrupts

signal.signal(signal.SIGINT, signal.default_int_handler)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(600, 40)).astype(np.float32), np.arange(600) % 3

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
"""


def printed(script: str) -> list[str]:
    """Run a script after `BEGIN` and return its lines; each holds what was seen."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BEGIN + script],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_interrupted_perceptron_is_not_taken_for_a_trained_one() -> None:
    lines = printed("""
from sklearn.neural_network import MLPClassifier
before, steps = MLPClassifier._backprop, []

def step(*asked, **more):
    steps.append(True)
    if len(steps) == 3:
        interrupt()
    return before(*asked, **more)

MLPClassifier._backprop = step
try:
    heads.mlp().fit(X, Y)
except KeyboardInterrupt:
    print("stopped", len(steps) < 5)
""")
    assert lines == ["stopped True"]


def test_an_interrupt_waits_for_the_trees() -> None:
    """XGBoost aborts the process where an exception comes up while it reads the data."""
    lines = printed("""
from featx.heads.boosting import growing
before = growing.grown

def grown(*asked, **more):
    interrupt()
    trees = before(*asked, **more)
    print("grown")
    return trees

growing.grown = grown
try:
    heads.xgboost(n_estimators=5).fit(X, Y)
except KeyboardInterrupt:
    print("stopped", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
""")
    assert lines == ["grown", "stopped True"]


def test_signals_are_left_alone_where_they_do_not_come() -> None:
    lines = printed("""
def body():
    with interrupts.held():
        print("own", signal.getsignal(signal.SIGINT) is signal.default_int_handler)

thread = threading.Thread(target=body)
thread.start()
thread.join()
with interrupts.held():
    print("held", signal.getsignal(signal.SIGINT) is not signal.default_int_handler)
""")
    assert lines == ["own True", "held True"]
