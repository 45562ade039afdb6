"""LogisticHead: L2 logistic regression on standardised features, C chosen by cross-validation."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.linalg
from joblib import Parallel, delayed
from scipy.special import expit, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.dense import samples_of
from featx.dense.samples import Samples
from featx.heads.folds import StratifiedFolds, can_be_folded
from featx.heads.threads import limited_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CS = np.logspace(-5, 1, 20)
"""The candidates for C, strongest penalty first."""

START = 10
"""Where the search begins: C = 0.014, what embeddings of photographs asked for, or one step less.

From one step below, four data sets got the same accuracy and took 5 to 11 % more time."""

UNTUNED_C = 0.01
"""C where no folds can be formed, because fewer than two classes have two samples."""

ROUGH = 1e-3
"""The tolerance of fits that only put the candidates in order, ten times scikit-learn's: on 1,983
photographs a third of the iterations, log losses apart by 0.001, the same candidate."""


class _Standardised:
    """Standardised features, in the fewest coordinates that hold them, and the way back.

    Few samples with many features span a small subspace. Neither the loss nor an L2 penalty sees a
    rotation, so the model found in orthonormal coordinates of that subspace is the same one
    (Hastie and Tibshirani 2004, "Efficient quadratic regularization for expression arrays").
    """

    def __init__(self, X: NDArray[Any], weight: NDArray[np.float64] | None = None) -> None:
        self.scaler = StandardScaler().fit(X, sample_weight=weight)
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
        """Return the weights that give the same scores on features as they come."""
        coef = coef.astype(np.float64)
        coef = (coef if self.basis is None else coef @ self.basis.T) / self.scaler.scale_
        return coef, intercept - coef @ self.scaler.mean_


class _Fold:
    """One split: its features scaled and turned once, its model going on from one C to the next."""

    def __init__(self, found: Samples, train: Any, valid: Any, max_iter: int) -> None:
        codes, weight = found.y, found.weight
        self.weight = None if weight is None else weight[train]
        self.train = _Standardised(found.X[train], self.weight)
        self.codes = codes[train]
        self.model = LogisticRegression(warm_start=True, tol=ROUGH, max_iter=max_iter)
        seen = np.unique(self.codes)
        valid = valid[np.isin(codes[valid], seen)]
        self.valid = self.train.transform(found.X[valid])
        self.truth = np.searchsorted(seen, codes[valid])
        self.valid_weight = None if weight is None else weight[valid]

    def loss(self, C: float) -> float:
        """Return the mean log loss of the validation samples."""
        with warnings.catch_warnings():
            # Only the last fit must be exact; these put the candidates in order.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.set_params(C=C).fit(self.train.values, self.codes, self.weight)
        scores = self.model.decision_function(self.valid).astype(np.float64)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        true = scores[np.arange(len(scores)), self.truth]
        losses = logsumexp(scores, axis=1) - true
        return float(np.average(losses, weights=self.valid_weight))

    @property
    def size(self) -> float:
        """How much the fold's loss counts beside those of other folds."""
        return 1.0 if self.valid_weight is None else float(self.valid_weight.sum())


class LogisticHead(ClassifierMixin, BaseEstimator):
    """L2 logistic regression on standardised features, C chosen by stratified cross-validation.

    C is the candidate with the lowest mean log loss over the folds; log loss is smoother than
    accuracy on few samples, and looks after the probabilities. The loss falls and rises once along
    C, so the search walks downhill from the middle of the candidates, warm, and leaves out those
    beyond the valley.

    Parameters
    ----------
    C : float or None
        Inverse strength of the penalty on standardised features, above 0; None chooses it among
        `CS`.
    folds : int
        The most folds used to choose C; fewer where a class is small, and no more than hold
        `enough_validation` samples.
    max_iter : int
        The most iterations of one fit.
    random_state : int, RandomState or None
        Shuffles the folds; the fit itself has no randomness. None takes other folds in each fit.
    n_jobs : int or None
        Folds fitted at the same time, in threads.
    class_weight : None, "balanced" or dict
        Multiplies the weights of the samples; "balanced" gives every class the same sum.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    C_ : float
        The C used; where it was chosen, for weights with a mean of 1.
    losses_ : dict of float to float
        Mean log loss by C, for the candidates tried; empty where C was given.
    coef_ : ndarray of shape (n_classes, n_features), (1, n_features) for two classes
        Weights for features as they come: the scaling is inside.
    intercept_ : ndarray of shape (n_classes,), (1,) for two classes
    n_iter_ : int
        Iterations of the last fit.
    converged_ : bool
        False where the last fit was ended by `max_iter`.
    """

    enough_validation: ClassVar[int] = 750
    """Folds are looked at until they have validated so many samples; more only cost time."""

    def __init__(
        self,
        C: float | None = None,
        *,
        folds: int = 5,
        max_iter: int = 1000,
        random_state: Any = 0,
        n_jobs: int | None = None,
        class_weight: Any = None,
    ) -> None:
        self.C = C
        self.folds = folds
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.class_weight = class_weight

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> LogisticHead:
        """Choose C unless it is given, then fit all samples.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of any kind, two classes or more.
        sample_weight : array-like of shape (n,), optional
            Numbers of 0 or more; 2 is the same as the sample twice. Where C is given they multiply
            the loss, as in scikit-learn's LogisticRegression, so that larger ones weaken the
            penalty; where it is chosen only their ratios count, in the choice as in the fit.
        groups : array-like of shape (n,), optional
            Samples of one group, such as a patient, are never on both sides of a fold when C is
            chosen.

        Raises
        ------
        DatasetError
            There is one class only, features are not finite, or weights are not as above.
        """
        found = samples_of(self, X, y, sample_weight, groups).weighted(self.class_weight)
        self.classes_, codes = np.unique(found.y, return_inverse=True)
        weight = found.relative if self.C is None else found.weight
        found = Samples(found.X, codes, weight, found.groups)
        self.losses_: dict[float, float] = {}
        with limited_threads(found.X):
            self.C_ = self._chosen(found) if self.C is None else self.C
            train = _Standardised(found.X, weight)
            model = LogisticRegression(C=self.C_, max_iter=self.max_iter)
            model.fit(train.values, codes, weight)
        self.coef_, self.intercept_ = train.original(model.coef_, model.intercept_)
        self.n_iter_ = int(model.n_iter_.max())
        self.converged_ = self.n_iter_ < self.max_iter
        return self

    def _chosen(self, found: Samples) -> float:
        if not can_be_folded(found.y, found.groups):
            return UNTUNED_C
        every = StratifiedFolds(self.folds, self.random_state)
        splits = list(every.split(found.X, found.y, found.groups))
        splits = splits[: -(-self.enough_validation // len(splits[0][1]))]
        run = Parallel(n_jobs=self.n_jobs, prefer="threads")
        folds = run(delayed(_Fold)(found, *split, self.max_iter) for split in splits)
        folds = [fold for fold in folds if len(fold.truth)]
        sizes = [fold.size for fold in folds]

        def loss(position: int) -> float:
            C = float(CS[position])
            if C not in self.losses_:
                losses = run(delayed(fold.loss)(C) for fold in folds)
                self.losses_[C] = float(np.average(losses, weights=sizes))
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
        """Return the most probable label of each sample, (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]
