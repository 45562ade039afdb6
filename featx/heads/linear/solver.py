"""The optimum of a penalised linear model: scipy's L-BFGS, preconditioned, over blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.linalg
from scipy.optimize import minimize

from featx.heads.threads import blocks_in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featx.heads.linear.losses import Loss

TOLERANCE = 1e-6
"""How far above the optimum a fit may end: in the mean loss with its share of the penalty.

scikit-learn's lbfgs at its own tolerance (1e-4) ended 1.3e-5 above it on 50,000 embeddings."""

_MEMORY = 10  # corrections that L-BFGS keeps; 5 and 20 needed as many passes


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights, and how good they are.

    Attributes
    ----------
    coef : ndarray of float64, shape (n_features, columns)
    intercept : ndarray of float64, shape (columns,)
    objective : float
        The mean loss and the penalty, which is divided by the sum of the weights and C as well.
    excess : float
        The objective is no more than this above the least one.
    iterations, passes : int
        Steps of L-BFGS, and how often all rows were read.
    converged : bool
        Whether `excess` is within the tolerance.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    objective: float
    excess: float
    iterations: int
    passes: int
    converged: bool


class Preconditioner:
    """The Cholesky factor of a bound of the Hessian, and the coordinates in which it is 1.

    The Hessian of every class is C X'DX + 1 with a diagonal D; here D is one number, the
    `curvature`. One factor serves all classes, and near its own also other values of C.

    Parameters
    ----------
    scatter : ndarray of shape (n_features, n_features)
        X'X of the standardised rows.
    total : float
        The sum of the weights.
    strength : float
        C times the curvature.
    """

    def __init__(self, scatter: NDArray[np.float64], total: float, strength: float) -> None:
        bound = strength * scatter
        bound[np.diag_indices_from(bound)] += 1
        self._factor = scipy.linalg.cholesky(bound, overwrite_a=True, check_finite=False)
        self._intercept = np.sqrt(strength * total)

    def coordinates(
        self, coef: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return weights (n_features, k) and intercepts (k,) in the new coordinates, flat."""
        return np.concatenate(
            [(self._factor @ coef).ravel(), (self._intercept * intercept).ravel()]
        )

    def weights(
        self, point: NDArray[np.float64], columns: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weights (n_features, columns) and intercepts of a point."""
        upper = self._solved(point[:-columns].reshape(-1, columns))
        return upper, point[-columns:] / self._intercept

    def gradient(
        self, coef: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the gradient by a point's coordinates, of that by weights and intercepts."""
        return np.concatenate(
            [self._solved(coef, trans=1).ravel(), (intercept / self._intercept).ravel()]
        )

    def newton(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the step that would lead to the optimum if the bound were the Hessian."""
        return -self._solved(self._solved(gradient, trans=1))

    def _solved(self, values: NDArray[np.float64], trans: Literal[0, 1] = 0) -> NDArray[np.float64]:
        return scipy.linalg.solve_triangular(self._factor, values, trans=trans, check_finite=False)


class _Reached(Exception):  # noqa: N818 - it ends a search that was successful
    """The point is within the tolerance."""


class _Objective:
    """The penalised loss at a point and its gradient, C times the loss and the penalty."""

    def __init__(
        self, rows: Any, loss: Loss, C: float, factor: Preconditioner, tolerance: float, run: Any
    ) -> None:
        self.rows, self.loss, self.C, self.factor, self._run = rows, loss, C, factor, run
        self.tolerance = tolerance
        self.passes = 0
        self.best: Solution | None = None

    def __call__(self, point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        columns = self.loss.columns
        coef, intercept = self.factor.weights(point, columns)
        loss, pull, pull_intercept, bends = self._loss(coef, intercept)
        self.passes += 1
        value = self.C * loss + 0.5 * float(np.sum(coef**2))
        slope, slope_intercept = self.C * pull + coef, self.C * pull_intercept
        firm = np.ones(columns)
        if self.loss.intercept_penalised:
            value += 0.5 * float(np.sum(intercept**2))
            slope_intercept = slope_intercept + intercept
        else:
            # No penalty holds the intercepts: what they have left is judged by their curvature.
            firm = self.C * bends
        # The penalty alone makes the objective 1-strongly convex: half the squared gradient bounds
        # what is left of it (Boyd and Vandenberghe 2004, 9.9).
        left = float(np.sum(slope**2))
        left += float(np.sum(slope_intercept**2 / np.maximum(firm, 1e-300)))
        share = self.C * self.rows.total
        found = Solution(coef, intercept, value / share, 0.5 * left / share, 0, self.passes, False)
        if self.best is None or found.objective <= self.best.objective:
            self.best = found
        if found.excess <= self.tolerance:
            self.best = found
            raise _Reached
        return value, self.factor.gradient(slope, slope_intercept)

    def _loss(
        self, coef: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        narrow = coef.astype(self.rows.dtype)
        shift = intercept.astype(self.rows.dtype)[:, None]
        weight = self.rows.weight

        def of_block(part: slice) -> tuple[float, NDArray[Any], NDArray[Any], NDArray[Any]]:
            block = self.rows.block(part)
            # Rows of scores, not columns: sums over classes are then sums of long vectors.
            scores = np.ascontiguousarray((block @ narrow).T)
            scores += shift
            value, slopes, bend = self.loss(scores, part, None if weight is None else weight[part])
            return value, slopes @ block, slopes.sum(axis=1, dtype=np.float64), bend

        total, pull = 0.0, np.zeros(coef.T.shape)
        pull_intercept, bends = np.zeros(len(intercept)), np.zeros(len(intercept))
        # In the order of the blocks, whichever is done first: sums depend on it.
        for value, pulled, pulled_intercept, bend in self._run(of_block, self.rows.parts()):
            total += value
            pull += pulled
            pull_intercept += pulled_intercept
            bends += bend
        return total, pull.T, pull_intercept, bends


def solve(
    rows: Any,
    loss: Loss,
    C: float,
    factor: Preconditioner,
    start: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    tolerance: float = TOLERANCE,
    max_iter: int = 1000,
) -> Solution:
    """Return the weights with the least C x loss + 1/2 |coef|^2, to within a tolerance.

    Parameters
    ----------
    rows : Standardised, or anything with its attributes, `parts` and `block`
    loss : Loss
    C : float
        Above 0.
    factor : Preconditioner
    start : (coef, intercept)
        Where to begin: (n_features, columns) and (columns,).
    tolerance : float
        How far the objective, divided by C and the sum of the weights, may end above its least.
    max_iter : int
        The most iterations.
    """
    with blocks_in_threads(rows.n * rows.width) as run:
        objective = _Objective(rows, loss, C, factor, tolerance, run)
        return _least(objective, factor, start, max_iter)


def _least(
    objective: _Objective,
    factor: Preconditioner,
    start: tuple[NDArray[np.float64], NDArray[np.float64]],
    max_iter: int,
) -> Solution:
    begin = factor.coordinates(*start)
    iterations = 0

    def count(_: Any) -> None:
        nonlocal iterations
        iterations += 1

    converged = False
    try:
        value, gradient = objective(begin)
        # L-BFGS begins with a step of length 1. In units of the gradient that is the step which the
        # preconditioner takes for the right one; L-BFGS is blind to the unit otherwise.
        unit = max(float(np.linalg.norm(gradient)), 1e-300)
        known = [(value, gradient)]  # what the first call asks for

        def scaled(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, gradient = known.pop() if known else objective(point * unit)
            return value, gradient * unit

        search: Any = minimize  # its stubs know no options of a method
        search(
            scaled,
            begin / unit,
            jac=True,
            method="L-BFGS-B",
            callback=count,
            options={
                "maxiter": max_iter, "maxfun": 20 * max_iter, "maxcor": _MEMORY,
                "ftol": 0.0, "gtol": 0.0, "maxls": 30,
            },
        )  # fmt: skip
    except _Reached:
        converged = True
    best = objective.best
    assert best is not None
    return Solution(
        best.coef, best.intercept, best.objective, best.excess,
        iterations, objective.passes, converged,
    )  # fmt: skip
