"""The optimum of logistic regression: scikit-learn's, on easy and on hard problems, in blocks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import Parallel
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info

from featx import heads
from featx.heads import logistic_head, threads
from featx.heads.linear.losses import Softmax
from featx.heads.linear.rows import Rows, Standardised, sums_of
from featx.heads.linear.solver import Preconditioner, solve
from featx.heads.threads import SMALL_SIZE, blocks_in_threads


def _plain(n: int, d: int, k: int, seed: int, noise: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % k
    centres = rng.normal(size=(k, d))
    return centres[codes] + rng.normal(scale=noise, size=(n, d)), codes


def _correlated(n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    X, codes = _plain(n, d, k, 2)
    mixing = np.random.default_rng(3).normal(size=(d, d)) * np.logspace(0, -4, d)
    return X @ mixing, codes


def _scaled(n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    X, codes = _plain(n, d, k, 4)
    return X * np.logspace(-4, 4, d) + np.logspace(3, -3, d), codes


def _weighted_coins(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    X, codes = _plain(n, d, 2, 6)
    return X, np.random.default_rng(7).permutation(codes)


def _rare() -> tuple[np.ndarray, np.ndarray]:
    X, codes = _plain(600, 30, 3, 8)
    keep = (codes != 2) | (np.arange(600) % 60 == 2)
    return X[keep], codes[keep]


PROBLEMS: dict[str, tuple[tuple[np.ndarray, np.ndarray], float]] = {
    "three classes": (_plain(400, 40, 3, 0), 0.1),
    "two classes": (_plain(400, 40, 2, 1), 0.1),
    "fewer rows than columns": (_plain(80, 200, 4, 5), 0.01),
    "separable, weak penalty": (_plain(300, 20, 3, 0, noise=0.1), 10.0),
    "two separable classes, weak penalty": (_plain(300, 20, 2, 0, noise=0.1), 10.0),
    "correlated columns": (_correlated(500, 60, 5), 1.0),
    "columns of scales from 1e-4 to 1e4": (_scaled(500, 30, 4), 1.0),
    "labels by coin": (_weighted_coins(300, 50), 10.0),
    "a rare class": (_rare(), 0.5),
    "twenty classes": (_plain(1000, 100, 20, 9), 0.003),
}


def objective(
    X: np.ndarray, codes: np.ndarray, coef: np.ndarray, intercept: np.ndarray, C: float
) -> float:
    """Return the mean log loss and its share of the penalty, on standardised features."""
    scores = X @ coef.T + intercept
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(codes)), codes]
    return float(losses.mean() + 0.5 * np.sum(coef**2) / (C * len(codes)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_optimum_is_that_of_scikit_learn(name: str, dtype: Any) -> None:
    (X, codes), C = PROBLEMS[name]
    X = X.astype(dtype)
    head = heads.logistic(C=C).fit(X, codes)
    mean, scale = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    standardised = (X - mean) / scale
    exact = LogisticRegression(C=C, tol=1e-8, max_iter=100_000).fit(standardised, codes)
    ours = objective(
        standardised, codes, head.coef_ * scale, head.intercept_ + head.coef_ @ mean, C
    )
    theirs = objective(standardised, codes, exact.coef_, exact.intercept_, C)
    assert head.converged_
    assert ours - theirs < 1e-6
    assert ours - theirs > -1e-6, "scikit-learn's at this tolerance is the optimum"


@pytest.mark.parametrize("n", [700, 50_000], ids=["in float64", "in float32"])
def test_rows_larger_than_a_block_and_what_is_kept(n: int) -> None:
    """Blocks of few rows, standardised anew in every pass: the same model."""
    X, codes = _plain(n, 50, 4, 0)
    X = X.astype(np.float32)
    weight = np.random.default_rng(0).uniform(0.5, 2, n)
    which = np.arange(0, n, 2)
    found = []

    class Anew(Standardised):
        kept_bytes = 0

    for rows, made in (
        (Rows(X, which, weight[which]), Standardised),
        (Rows(X, which, weight[which], block_bytes=n * 20), Anew),
    ):
        loss = Softmax(codes[which], 4)
        moments = sums_of(rows, codes[which], 4).moments()
        scatter = moments.scatter / np.outer(moments.scale, moments.scale)
        factor = Preconditioner(scatter, moments.total, 0.1 * loss.curvature)
        standardised = made(rows, moments.mean, moments.scale)
        found.append(solve(standardised, loss, 0.1, factor, (np.zeros((50, 4)), np.zeros(4))))
    assert rows.dtype == (np.float64 if n == 700 else np.float32)
    assert len(list(standardised.parts())) >= 5
    one, two = found
    np.testing.assert_allclose(one.coef, two.coef, atol=2e-4 * np.abs(one.coef).max())
    np.testing.assert_allclose(one.intercept, two.intercept, atol=2e-4)


def test_blocks_in_threads_give_the_same_sums_in_the_same_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many threads there are: a model does not depend on who was done first."""
    X, codes = _plain(3000, 60, 3, 0)
    rows = Rows(X.astype(np.float32), block_bytes=60 * 4 * 100)
    monkeypatch.setattr(threads, "SMALL_SIZE", 1000)
    found = []
    for count in (2, 3, 5):
        info = [{"user_api": "blas", "num_threads": count}]
        monkeypatch.setattr(threads, "threadpool_info", lambda info=info: info)
        moments = sums_of(rows, codes, 3).moments()
        loss = Softmax(codes, 3)
        factor = Preconditioner(moments.scatter, moments.total, 0.1 * loss.curvature)
        model = solve(rows, loss, 0.1, factor, (np.zeros((60, 3)), np.zeros(3)))
        found.append((moments.scatter, model.coef, model.intercept))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def test_blocks_in_threads_pass_an_error_on_and_come_in_order() -> None:
    with blocks_in_threads(SMALL_SIZE + 1) as run:
        assert list(run(lambda n: n * n, range(50))) == [n * n for n in range(50)]
        with pytest.raises(ZeroDivisionError):
            list(run(lambda n: 1 // n, range(50)))
    before = [one["num_threads"] for one in threadpool_info()]
    with blocks_in_threads(SMALL_SIZE + 1):
        pass
    assert [one["num_threads"] for one in threadpool_info()] == before


def test_moments_are_those_of_two_passes() -> None:
    X, codes = _plain(500, 20, 3, 0)
    X = (X + 1000).astype(np.float32)
    weight = np.random.default_rng(0).uniform(0, 3, 300)
    which = np.arange(0, 500)[:300]
    found = sums_of(Rows(X, which, weight), codes[:300], 3).moments()
    used = X[:300].astype(np.float64)
    mean = np.average(used, axis=0, weights=weight)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-7)
    centred = used - mean
    expected = (centred * weight[:, None]).T @ centred
    np.testing.assert_allclose(found.scatter, expected, rtol=1e-4, atol=1e-4 * expected.max())
    for code in range(3):
        members = codes[:300] == code
        own = (centred[members] * weight[members, None]).sum(axis=0)
        np.testing.assert_allclose(found.classes[code], own, rtol=1e-4, atol=1e-2)
        assert found.counts[code] == pytest.approx(weight[members].sum())


def test_a_constant_column_keeps_its_scale() -> None:
    X = np.full((50, 2), 0.1, np.float32)
    X[:, 1] = np.arange(50)
    found = sums_of(Rows(X), np.arange(50) % 2, 2).moments()
    assert found.scale[0] == 1
    rows = Standardised(Rows(X), found.mean, found.scale)
    values = np.concatenate([rows.block(part) for part in rows.parts()])
    np.testing.assert_allclose(values[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(values[:, 1].std(), 1)


class _Alike:
    """A fold on which every candidate has the same losses."""

    valid_weight = None
    held_out = 5
    size = 1.0

    def __init__(self) -> None:
        self.asked: list[float] = []

    def losses(self, C: float, tolerance: float) -> np.ndarray:
        self.asked.append(tolerance)
        return np.arange(5.0)


def test_candidates_that_cannot_be_told_apart_are_said_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fold: Any = _Alike()
    search = logistic_head._Search([fold], Parallel())
    with caplog.at_level("INFO", logger="featx.heads.logistic_head"):
        assert not search.better(9, 10)
    assert "C = 0.00695 and 0.0144 have the same loss" in caplog.text
    assert min(fold.asked) <= logistic_head.FINE, "after fits as close as they get"
    assert search.as_good(10) == (logistic_head.CS[9],)


def test_the_losses_of_two_candidates_are_never_one_model_twice() -> None:
    """At the rough tolerance of scikit-learn a warm fit of the next C took no step (issue 24)."""
    X, codes = _plain(3000, 60, 10, 0, noise=6.0)
    head = heads.logistic().fit(X.astype(np.float32), codes)
    assert len(head.losses_) == len(set(head.losses_.values()))


_MAPPED = """
import sys, threading, time
import numpy as np
from featx import heads
from featx.heads import logistic_head
from featx.heads.linear.rows import Standardised

Standardised.kept_bytes = 0  # as for a matrix that memory would not hold

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

X, y = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
heads.logistic(C=0.1).fit(np.asarray(X[:500]), y[:500])
before, peak, over = anonymous(), [0], threading.Event()

def watch():
    while not over.wait(0.005):
        peak[0] = max(peak[0], anonymous())

thread = threading.Thread(target=watch)
thread.start()
getattr(heads, sys.argv[3])().fit(X, y)
over.set()
thread.join()
print((peak[0] - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("name", ["logistic"])
def test_a_memory_map_is_never_copied_as_a_whole(tmp_path: Path, name: str) -> None:
    X, codes = _plain(100_000, 256, 3, 0)
    np.save(tmp_path / "X.npy", X.astype(np.float32))  # 98 MB
    np.save(tmp_path / "y.npy", codes)
    done = subprocess.run(
        [sys.executable, "-c", _MAPPED, tmp_path / "X.npy", tmp_path / "y.npy", name],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 70
