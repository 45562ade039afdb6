"""PrimalSVC: scikit-learn's linear support vector machine, solved in the primal for many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.svm import LinearSVC
from sklearn.utils import compute_sample_weight
from sklearn.utils.validation import validate_data

from featx.heads.linear.losses import SquaredHinge
from featx.heads.linear.rows import Rows, sums_of
from featx.heads.linear.solver import Preconditioner, solve
from featx.heads.threads import SMALL_SIZE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class PrimalSVC(LinearSVC):
    """`LinearSVC`, whose squared hinge of many rows is minimised in the primal.

    liblinear takes a few rows at a time and needs ever more rounds of them: six fits of 50,000
    embeddings took 558 s. The objective is smooth in the weights, and the solver of `LogisticHead`
    finds the same optimum in some dozens of passes. Up to `small_size` numbers, and for other
    losses and penalties, liblinear remains.
    """

    small_size: ClassVar[int] = SMALL_SIZE

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: NDArray[np.float64] | None = None
    ) -> PrimalSVC:
        """Fit the machine; the parameters are those of `sklearn.svm.LinearSVC.fit`."""
        size = np.size(X) if isinstance(X, np.ndarray) else 0
        plain = (self.loss, self.penalty, self.multi_class) == ("squared_hinge", "l2", "ovr")
        plain = plain and self.fit_intercept and self.intercept_scaling == 1
        if size <= self.small_size or not plain:
            super().fit(X, y, sample_weight)
            return self
        found: Any = validate_data(self, X, y, dtype=[np.float64, np.float32])
        values, labels = found
        self.classes_, codes = np.unique(labels, return_inverse=True)
        k = len(self.classes_)
        weight = sample_weight
        if self.class_weight is not None:
            each = compute_sample_weight(self.class_weight, labels)
            weight = each if weight is None else weight * each
        rows = Rows(values, None, weight)
        moments = sums_of(rows, codes, k).moments()
        loss = SquaredHinge(codes, k)
        factor = Preconditioner(moments.scatter, moments.total, self.C * loss.curvature)
        nothing = np.zeros((rows.width, loss.columns)), np.zeros(loss.columns)
        model = solve(rows, loss, self.C, factor, nothing, max_iter=self.max_iter)
        self.coef_, self.intercept_ = np.ascontiguousarray(model.coef.T), model.intercept
        self.n_iter_ = model.iterations
        return self
