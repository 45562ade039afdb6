"""Classifiers suited to the kept rows: unfitted scikit-learn estimators, by function or by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from featx.dense import DenseClassifier, Recipe, rows_and_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CS = np.logspace(-5, 1, 20)
"""The values of C tried, weakest model first: on 1,280 to 2,048 standardised columns the best
lies between 0.003 and 1 on every data set measured, and either end costs little."""

DEFAULT_C = 0.01
"""C where no fold can be formed, because no class has two rows."""


class StratifiedFolds:
    """scikit-learn splitter: stratified folds, as many as the smallest class can fill.

    Parameters
    ----------
    n_splits : int
        The most folds made, 2 or more. A class with fewer rows lowers the number to that of its
        rows (2 at least), and a class with one row is absent from training in one fold.
    seed : int
        Seed of the shuffling.
    """

    def __init__(self, n_splits: int = 5, seed: int = 0) -> None:
        self.n_splits = n_splits
        self.seed = seed

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds that `y` allows."""
        if y is None:
            return self.n_splits
        return max(2, min(self.n_splits, int(np.unique(y, return_counts=True)[1].min())))

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[Any, Any]]:
        """Yield the indices of training and validation rows of each fold."""
        folds = StratifiedKFold(self.get_n_splits(X, y), shuffle=True, random_state=self.seed)
        with warnings.catch_warnings():
            # A class with a single row; this class is made for that.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            yield from folds.split(X, y)


class _Rotated:
    """Standardised rows in the fewest coordinates that hold them all, and the way back.

    Where there are fewer rows than columns the rows lie in a subspace; an L2 penalty does not see
    a rotation, so training in that subspace finds the same model (Hastie and Tibshirani, 2004,
    "Efficient quadratic regularization for expression arrays", section 2).
    """

    def __init__(self, X: NDArray[Any]) -> None:
        self.scaler = StandardScaler().fit(X)
        rows = self.scaler.transform(X).astype(np.float64, copy=False)
        self.basis: NDArray[Any] | None = None
        if rows.shape[0] < rows.shape[1]:
            self.basis, triangle = scipy.linalg.qr(rows.T, mode="economic", check_finite=False)
            rows = np.ascontiguousarray(triangle.T)
        self.rows = rows

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        rows = self.scaler.transform(X)
        return rows if self.basis is None else rows @ self.basis

    def original(self, coef: NDArray[Any], intercept: NDArray[Any]) -> tuple[Any, Any]:
        """Return the weights that give the same scores on rows as they came."""
        coef = coef if self.basis is None else coef @ self.basis.T
        coef = coef / self.scaler.scale_
        return coef, intercept - coef @ self.scaler.mean_


class LogisticHead(ClassifierMixin, BaseEstimator):
    """L2 logistic regression on standardised rows, C chosen by stratified cross-validation.

    C is the value with the lowest mean log loss over the folds: log loss is smoother than accuracy
    on few rows, and looks after the probabilities too.

    Parameters
    ----------
    C : float or None
        Inverse strength of the penalty on standardised columns, above 0; None chooses it.
    folds : int
        The most folds used to choose C.
    max_iter : int
        The most iterations of one fit.
    seed : int
        Seed of the folds; the fit itself has no randomness.

    Attributes
    ----------
    C_ : float
        The C used.
    Cs_, losses_ : ndarray of shape (n_tried,)
        The values tried, ascending, and their mean log loss; empty where C was given.
    coef_ : ndarray of shape (n_classes, n_features), (1, n_features) for two classes
        Weights for rows as they come: the scaling is folded in.
    intercept_ : ndarray of shape (n_classes,), (1,) for two classes
    n_iter_ : int
        Iterations of the last fit.
    converged_ : bool
        False where the last fit stopped at `max_iter`.
    """

    def __init__(
        self, C: float | None = None, *, folds: int = 5, max_iter: int = 1000, seed: int = 0
    ) -> None:
        self.C = C
        self.folds = folds
        self.max_iter = max_iter
        self.seed = seed

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
            If there is one class only, or rows that are not finite.
        """
        X, y = rows_and_labels(self, X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.Cs_, self.losses_ = np.empty(0), np.empty(0)
        # The matrices are small: more than one thread a product costs more than it saves.
        with threadpool_limits(1 if X.size < 5_000_000 else None):
            self.C_ = self._chosen(X, codes) if self.C is None else self.C
            rotated = _Rotated(X)
            model = LogisticRegression(C=self.C_, max_iter=self.max_iter)
            model.fit(rotated.rows, codes)
        self.coef_, self.intercept_ = rotated.original(model.coef_, model.intercept_)
        self.n_iter_ = int(model.n_iter_.max())
        self.converged_ = self.n_iter_ < self.max_iter
        return self

    def _chosen(self, X: NDArray[Any], codes: NDArray[Any]) -> float:
        if np.bincount(codes).max() < 2:
            return DEFAULT_C
        folds = list(StratifiedFolds(self.folds, self.seed).split(X, codes))
        losses = [_path(X, codes, train, valid, self.max_iter) for train, valid in folds]
        self.Cs_, self.losses_ = CS, np.mean(losses, axis=0)
        return float(CS[self.losses_.argmin()])

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return scores (n, n_classes), or (n,) for two classes, where above 0 is the second."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return probabilities (n, n_classes), columns in the order of `classes_`."""
        scores = self.decision_function(X)
        if len(self.classes_) == 2:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return softmax(scores, axis=1)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each row, (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _path(
    X: NDArray[Any], codes: NDArray[Any], train: Any, valid: Any, max_iter: int
) -> list[float]:
    """Return the validation log loss for each of `CS`, each fit starting from the last."""
    rotated = _Rotated(X[train])
    seen = np.unique(codes[train])
    valid = valid[np.isin(codes[valid], seen)]
    rows, truth = rotated.transform(X[valid]), np.searchsorted(seen, codes[valid])
    model = LogisticRegression(warm_start=True, max_iter=max_iter)
    losses = []
    with warnings.catch_warnings():
        # The last fit tells; a fit on the way only orders the candidates.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for C in CS:
            model.set_params(C=C).fit(rotated.rows, codes[train])
            proba = model.predict_proba(rows)[np.arange(len(truth)), truth]
            losses.append(float(-np.log(np.clip(proba, 1e-12, None)).mean()))
    return losses


class XGBoostHead(ClassifierMixin, BaseEstimator):
    """Boosted trees (XGBoost histograms) set for wide rows, with labels of any kind.

    Parameters
    ----------
    n_estimators, max_depth, max_bin, learning_rate
        As in `xgboost.XGBClassifier`.
    columns : int
        Columns drawn for each tree; all where the rows are no wider. Embeddings repeat themselves
        over many columns, so that a tree loses little by seeing few of them.
    seed : int
        Seed of the drawing.
    n_jobs : int or None
        Threads; None leaves it to XGBoost.

    Attributes
    ----------
    model_ : xgboost.XGBClassifier
        Fitted on positions in `classes_`.
    """

    def __init__(
        self,
        n_estimators: int = 150,
        *,
        max_depth: int = 5,
        max_bin: int = 32,
        learning_rate: float = 0.1,
        columns: int = 64,
        seed: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.max_bin = max_bin
        self.learning_rate = learning_rate
        self.columns = columns
        self.seed = seed
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> XGBoostHead:
        """Fit the trees; a class that is absent from `y` is simply unknown to them."""
        import xgboost

        X, y = rows_and_labels(self, X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.model_ = xgboost.XGBClassifier(
            n_estimators=self.n_estimators,
            max_depth=self.max_depth,
            max_bin=self.max_bin,
            learning_rate=self.learning_rate,
            colsample_bytree=min(1.0, self.columns / X.shape[1]),
            tree_method="hist",
            random_state=self.seed,
            n_jobs=self.n_jobs,
        )
        self.model_.fit(X, codes)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return probabilities (n, n_classes), columns in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return self.model_.predict_proba(X)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each row, (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class _Checked:
    """Says in plain words what no head can learn from, before a scikit-learn class is fitted."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        X, y = rows_and_labels(self, X, y)
        return super().fit(X, y)  # type: ignore[misc]


class MLPHead(_Checked, MLPClassifier):
    """`MLPClassifier` that refuses one class and rows that are not finite."""


class NearestHead(_Checked, KNeighborsClassifier):
    """`KNeighborsClassifier` that refuses one class and rows that are not finite."""


class LinearSVMHead(_Checked, CalibratedClassifierCV):
    """`CalibratedClassifierCV` that refuses one class and rows that are not finite."""


def logistic(C: float | None = None, *, seed: int = 0) -> LogisticHead:
    """Return logistic regression; C is chosen by cross-validation unless it is given."""
    return LogisticHead(C, seed=seed)


def mlp(hidden: Sequence[int] = (256,), *, alpha: float = 1.0, seed: int = 0) -> Pipeline:
    """Return StandardScaler and scikit-learn's multi-layer perceptron with these hidden sizes."""
    net = MLPHead(tuple(hidden), alpha=alpha, random_state=seed, max_iter=500)
    return Pipeline([("scale", StandardScaler()), ("mlp", net)])


def xgboost(**parameters: Any) -> XGBoostHead:
    """Return boosted trees set for embeddings; `parameters` are those of `XGBoostHead`."""
    return XGBoostHead(**parameters)


def dense(recipe: Recipe | None = None, *, seed: int = 0) -> DenseClassifier:
    """Return the Keras layers of `recipe`, trained on rows."""
    return DenseClassifier(seed=seed) if recipe is None else DenseClassifier(recipe, seed=seed)


def nearest(k: int = 5) -> NearestHead:
    """Return the vote of the `k` nearest rows by cosine, near ones counting more.

    Rows are not standardised: on MobileNetV2 embeddings plain cosine found 0.828 of the flowers,
    standardised Euclidean distance 0.748.
    """
    return NearestHead(k, metric="cosine", weights="distance")


def linear_svm(C: float = 0.001, *, seed: int = 0) -> Pipeline:
    """Return StandardScaler and a linear support vector machine with calibrated probabilities.

    The machine itself knows no probabilities: Platt's sigmoid is fitted on held-out scores of
    cross-validation, then the machine on all rows.
    """
    machine = LinearSVC(C=C, random_state=seed, max_iter=5000)
    calibrated = LinearSVMHead(machine, cv=StratifiedFolds(5, seed), ensemble=False)
    return Pipeline([("scale", StandardScaler()), ("svm", calibrated)])


HEADS: dict[str, Callable[..., Any]] = {
    head.__name__: head for head in (logistic, mlp, xgboost, dense, nearest, linear_svm)
}
"""Every head by name; each takes `seed=` where it draws numbers."""
