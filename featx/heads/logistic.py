"""LogisticHead: L2 logistic regression on standardised rows, its C chosen by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from joblib import Parallel, delayed
from scipy.special import expit, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from featx.dense import rows_and_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CS = np.logspace(-5, 1, 20)
"""The candidates for C, strongest penalty first."""

START = 10
"""Where the search begins: C = 0.014, what embeddings of photographs asked for, or one step less.

From one step below, four data sets got the same accuracy and took 5 to 11 % more time."""

UNTUNED_C = 0.01
"""C where no folds can be formed, because fewer than two classes have two rows."""

ENOUGH_VALIDATION_ROWS = 750
"""Folds are looked at until they have validated so many rows together; more only cost time."""

ROUGH = 1e-3
"""The tolerance of fits that only put the candidates in order, ten times scikit-learn's: on 1,983
rows of photographs a third of the iterations, log losses apart by 0.001, the same candidate."""

SMALL = 5_000_000
"""Numbers in a matrix up to which a second thread costs more than it saves.

On 600 x 1280 rows and two cores, one of them busy, two threads took XGBoost from 1.2 s to 23 s and
the perceptron from 2.2 s to 7.4 s: they wait for each other at every step."""


class StratifiedFolds:
    """scikit-learn splitter: stratified folds, as many as the smallest class can fill.

    Parameters
    ----------
    most : int
        The most folds made, 2 or more. A class with fewer rows lowers it, to 2 at the least: a
        class with one row is then absent from training in one fold.
    seed : int
        Seed of the shuffling.
    """

    def __init__(self, most: int = 5, seed: int = 0) -> None:
        # Not n_splits: CalibratedClassifierCV would hold every class to that number of rows.
        self.most = most
        self.seed = seed

    def __repr__(self) -> str:
        return f"{type(self).__name__}(most={self.most}, seed={self.seed})"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds that `y` allows."""
        if y is None:
            return self.most
        return max(2, min(self.most, int(np.unique(y, return_counts=True)[1].min())))

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[Any, Any]]:
        """Yield the positions of training and validation rows of each fold."""
        folds = StratifiedKFold(self.get_n_splits(X, y), shuffle=True, random_state=self.seed)
        with warnings.catch_warnings():
            # A class with a single row is expected here.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            yield from folds.split(X, y)


def can_be_folded(y: NDArray[Any]) -> bool:
    """Say whether every training part can hold two classes: two of them have two rows."""
    return bool((np.unique(y, return_counts=True)[1] >= 2).sum() >= 2)


class _Rows:
    """Standardised rows, in the fewest coordinates that hold them, and the way back.

    Few rows in many columns span a small subspace. Neither the loss nor an L2 penalty sees a
    rotation, so the model found in orthonormal coordinates of that subspace is the same one
    (Hastie and Tibshirani 2004, "Efficient quadratic regularization for expression arrays").
    """

    def __init__(self, X: NDArray[Any]) -> None:
        self.scaler = StandardScaler().fit(X)
        self.basis: NDArray[Any] | None = None
        self.values: NDArray[Any] = self.scaler.transform(X)
        if 2 * len(X) < X.shape[1]:
            self.basis, triangle = scipy.linalg.qr(
                self.values.T.astype(np.float64), mode="economic", check_finite=False
            )
            self.values = np.ascontiguousarray(triangle.T)

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        values = self.scaler.transform(X)
        return values if self.basis is None else values @ self.basis

    def original(
        self, coef: NDArray[Any], intercept: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the weights that give the same scores on rows as they come."""
        coef = coef.astype(np.float64)
        coef = (coef if self.basis is None else coef @ self.basis.T) / self.scaler.scale_
        return coef, intercept - coef @ self.scaler.mean_


class _Fold:
    """One split: its rows scaled and turned once, its model going on from one C to the next."""

    def __init__(
        self, X: NDArray[Any], codes: NDArray[Any], train: Any, valid: Any, max_iter: int
    ) -> None:
        self.rows = _Rows(X[train])
        self.codes = codes[train]
        self.model = LogisticRegression(warm_start=True, tol=ROUGH, max_iter=max_iter)
        seen = np.unique(self.codes)
        valid = valid[np.isin(codes[valid], seen)]
        self.valid = self.rows.transform(X[valid])
        self.truth = np.searchsorted(seen, codes[valid])

    def loss(self, C: float) -> float:
        """Return the mean log loss of the validation rows."""
        with warnings.catch_warnings():
            # Only the last fit must be exact; these put the candidates in order.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.set_params(C=C).fit(self.rows.values, self.codes)
        scores = self.model.decision_function(self.valid).astype(np.float64)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        true = scores[np.arange(len(scores)), self.truth]
        return float((logsumexp(scores, axis=1) - true).mean())


class LogisticHead(ClassifierMixin, BaseEstimator):
    """L2 logistic regression on standardised rows, C chosen by stratified cross-validation.

    C is the candidate with the lowest mean log loss over the folds; log loss is smoother than
    accuracy on few rows, and looks after the probabilities. The loss falls and rises once along
    C, so the search walks downhill from the middle of the candidates, warm, and leaves out those
    beyond the valley.

    Parameters
    ----------
    C : float or None
        Inverse strength of the penalty on standardised columns, above 0; None chooses it among
        `CS`.
    folds : int
        The most folds used to choose C; fewer where a class is small, and no more than hold 750
        validation rows.
    max_iter : int
        The most iterations of one fit.
    seed : int
        Seed of the folds; the fit itself has no randomness.
    n_jobs : int or None
        Folds fitted at the same time, in threads.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    C_ : float
        The C used.
    losses_ : dict of float to float
        Mean log loss by C, for the candidates tried; empty where C was given.
    coef_ : ndarray of shape (n_classes, n_features), (1, n_features) for two classes
        Weights for rows as they come: the scaling is inside.
    intercept_ : ndarray of shape (n_classes,), (1,) for two classes
    n_iter_ : int
        Iterations of the last fit.
    converged_ : bool
        False where the last fit was ended by `max_iter`.
    """

    def __init__(
        self,
        C: float | None = None,
        *,
        folds: int = 5,
        max_iter: int = 1000,
        seed: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.C = C
        self.folds = folds
        self.max_iter = max_iter
        self.seed = seed
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> LogisticHead:
        """Choose C unless it is given, then fit all rows.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of any kind, two classes or more.

        Raises
        ------
        DatasetError
            There is one class only, or rows are not finite.
        """
        values, labels = rows_and_labels(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.losses_: dict[float, float] = {}
        with threadpool_limits(1 if values.size <= SMALL else None):
            self.C_ = self._chosen(values, codes) if self.C is None else self.C
            rows = _Rows(values)
            model = LogisticRegression(C=self.C_, max_iter=self.max_iter)
            model.fit(rows.values, codes)
        self.coef_, self.intercept_ = rows.original(model.coef_, model.intercept_)
        self.n_iter_ = int(model.n_iter_.max())
        self.converged_ = self.n_iter_ < self.max_iter
        return self

    def _chosen(self, X: NDArray[Any], codes: NDArray[Any]) -> float:
        if not can_be_folded(codes):
            return UNTUNED_C
        splits = list(StratifiedFolds(self.folds, self.seed).split(X, codes))
        splits = splits[: -(-ENOUGH_VALIDATION_ROWS // len(splits[0][1]))]
        run = Parallel(n_jobs=self.n_jobs, prefer="threads")
        folds = run(delayed(_Fold)(X, codes, *split, self.max_iter) for split in splits)

        def loss(position: int) -> float:
            C = float(CS[position])
            if C not in self.losses_:
                self.losses_[C] = float(np.mean(run(delayed(fold.loss)(C) for fold in folds)))
            return self.losses_[C]

        best = START
        for step in (1, -1):
            while 0 <= best + step < len(CS) and loss(best + step) < loss(best):
                best += step
        return float(CS[best])

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return scores (n, n_classes), or (n,) for two classes, above 0 for the second."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        scores = values @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return probabilities (n, n_classes), columns in the order of `classes_`."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return softmax(scores, axis=1)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each row, (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]
