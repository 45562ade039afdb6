"""What a fitted linear head answers: scores, their softmax, the most probable label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.heads.linear.rows import scores_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class LinearAnswers(ClassifierMixin):
    """Answers from `coef_`, `intercept_` and `classes_`, in blocks of rows."""

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    classes_: NDArray[Any]

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return scores (n, n_classes), or (n,) for two classes, above 0 for the second."""
        check_is_fitted(self, "coef_")
        values = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        scores = scores_of(values, self.coef_.T, self.intercept_)
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
