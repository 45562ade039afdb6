"""XGBoostHead: boosted trees set for wide rows, with labels of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.dense import rows_and_labels
from featx.heads import thresholds
from featx.heads.regression import SMALL

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class XGBoostHead(ClassifierMixin, BaseEstimator):
    """Boosted trees on histograms (XGBoost), a few columns a tree.

    Parameters
    ----------
    n_estimators, max_depth, max_bin, learning_rate
        As in `xgboost.XGBClassifier`.
    columns : int
        Columns drawn for each tree; all of them where rows are no wider. An embedding says the
        same thing in many columns, so that a tree loses little by seeing few.
    seed : int
        Seed of the drawing.
    n_jobs : int or None
        Threads; None takes all cores for large matrices and one for small ones, whose threads
        would wait for each other most of the time.
    device : str
        "cpu" or "cuda".

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    model_ : xgboost.XGBClassifier
        Fitted on positions in `classes_`; its thresholds then moved between the numbers of the
        training rows, so that rows that another runtime rounds otherwise take the same branches.
    """

    def __init__(
        self,
        n_estimators: int = 150,
        *,
        max_depth: int = 3,
        max_bin: int = 32,
        learning_rate: float = 0.2,
        columns: int = 64,
        seed: int = 0,
        n_jobs: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.max_bin = max_bin
        self.learning_rate = learning_rate
        self.columns = columns
        self.seed = seed
        self.n_jobs = n_jobs
        self.device = device

    def fit(self, X: ArrayLike, y: ArrayLike) -> XGBoostHead:
        """Grow the trees.

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
        import xgboost

        values, labels = rows_and_labels(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.model_ = xgboost.XGBClassifier(
            n_estimators=self.n_estimators,
            max_depth=self.max_depth,
            max_bin=self.max_bin,
            learning_rate=self.learning_rate,
            colsample_bytree=min(1.0, self.columns / values.shape[1]),
            tree_method="hist",
            random_state=self.seed,
            n_jobs=1 if self.n_jobs is None and values.size <= SMALL else self.n_jobs,
            device=self.device,
        )
        self.model_.fit(values, codes)
        thresholds.settle(self.model_, values)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return probabilities (n, n_classes), columns in the order of `classes_`."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return self.model_.predict_proba(values)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each row, (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]
