"""Fewer rows than columns: the subspace that they span, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Few:
    """Fewer rows than columns, standardised, in the coordinates of the subspace that they span.

    Neither the loss nor an L2 penalty sees a rotation, so the model found in orthonormal
    coordinates of that subspace is the same one (Hastie and Tibshirani 2004, "Efficient quadratic
    regularization for expression arrays"). The coordinates are those of a pivoted Cholesky factor
    of X X', which takes less time than a QR decomposition of X'.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
    weight : ndarray of shape (n,), optional
        For the mean and the scale by which rows are standardised first.
    least : float
        No scale is below this share of their median.
    """

    def __init__(
        self, X: NDArray[Any], weight: NDArray[np.float64] | None, least: float = 0.0
    ) -> None:
        scaler = StandardScaler().fit(X, sample_weight=weight)
        self.mean = scaler.mean_
        self.scale = np.maximum(scaler.scale_, least * np.median(scaler.scale_))
        X = (X - self.mean) / self.scale
        products = X @ X.T
        least = len(X) * np.finfo(np.float64).eps * max(float(products.diagonal().max()), 1e-300)
        factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(products, tol=least)
        rank = max(int(rank), 1)
        order = pivots - 1
        upper = np.triu(factor)[:rank]
        self.values = np.empty((len(X), rank))
        self.values[order] = upper.T
        self._upper = np.asfortranarray(upper[:, :rank])
        self._spanning = X[order[:rank]]

    def outside(self, coef: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return weights (columns, n_features) of weights in the subspace."""
        solved = scipy.linalg.solve_triangular(self._upper, coef.T, check_finite=False)
        return solved.T @ self._spanning

    def inside(self, coef: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return weights in the subspace of weights (columns, n_features)."""
        products = self._spanning @ coef.T
        return scipy.linalg.solve_triangular(self._upper, products, trans=1, check_finite=False).T
