"""XGBoostHead: boosted trees set for wide features, with labels of any kind."""

from __future__ import annotations

import os
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from featx import forking
from featx.dense import samples_of, seed_of
from featx.errors import OptionError
from featx.heads import interrupts
from featx.heads.boosting import growing
from featx.heads.threads import SMALL_SIZE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class XGBoostHead(ClassifierMixin, BaseEstimator):
    """Boosted trees on histograms (XGBoost), a few columns per tree.

    Parameters
    ----------
    n_estimators, max_depth, max_bin, learning_rate
        As in `xgboost.XGBClassifier`.
    columns : int
        Columns drawn for each tree, of twice as many that are drawn for five rounds; all of them
        where there are no more. Many columns of an embedding carry the same information, so that
        a tree loses little by seeing few.
    random_state : int, RandomState or None
        Draws the columns; None draws others in each fit.
    n_jobs : int or None
        Threads; None takes all cores for large matrices and one for small ones, whose threads
        would wait for each other most of the time.
    device : {"auto", "cpu", "cuda"}
        Where trees are grown; they predict on the CPU. "auto" takes an NVIDIA GPU, where there is
        one and this XGBoost can use it, for large matrices.
    class_weight : None, "balanced" or dict
        Multiplies the weights of the samples; "balanced" gives every class the same sum.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    model_ : xgboost.XGBClassifier
        Predicts positions in `classes_`. Its thresholds lie between the numbers of the training
        embeddings, so that those that another runtime rounds otherwise take the same branches.
    """

    small_size: ClassVar[int] = SMALL_SIZE
    """Numbers in a matrix up to which one thread, and no GPU, is taken unless asked for."""

    def __init__(
        self,
        n_estimators: int = 150,
        *,
        max_depth: int = 3,
        max_bin: int = 32,
        learning_rate: float = 0.2,
        columns: int = 64,
        random_state: Any = 0,
        n_jobs: int | None = None,
        device: str = "auto",
        class_weight: Any = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.max_bin = max_bin
        self.learning_rate = learning_rate
        self.columns = columns
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device
        self.class_weight = class_weight

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> XGBoostHead:
        """Grow the trees.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of any kind, two classes or more.
        sample_weight : array-like of shape (n,), optional
            Numbers of 0 or more, of which only the ratios count; 2 is the same as the sample twice.

        Raises
        ------
        DatasetError
            There is one class only, features are not finite, or weights are not as above.
        OptionError
            `n_estimators` or `columns` is not a whole number of 1 or more, or `random_state` is
            not one of 0 or more.
        """
        import xgboost

        for name, least in (("n_estimators", 1), ("columns", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise OptionError(f"{name}={value!r}: expected a whole number, {least} or more.")

        found = samples_of(self, X, y, sample_weight).weighted(self.class_weight)
        values, weight = found.X, found.relative
        self.classes_, codes = np.unique(found.y, return_inverse=True)
        small = values.size <= self.small_size
        device = self.device
        if device == "auto":
            device = "cuda" if not small and _has_cuda() else "cpu"
        jobs = 1 if self.n_jobs is None and small else self.n_jobs
        many = len(self.classes_) > 2
        parameters = {
            "objective": "multi:softprob" if many else "binary:logistic",
            **({"num_class": len(self.classes_)} if many else {}),
            "max_depth": self.max_depth,
            "max_bin": self.max_bin,
            "learning_rate": self.learning_rate,
            "tree_method": "hist",
            "seed": seed_of(self.random_state),
            "nthread": 0 if jobs is None else jobs,
            "device": device,
        }
        # What is predicted on lies in main memory, and the head may leave for another machine.
        model = xgboost.XGBClassifier(n_jobs=jobs, device="cpu")

        def grow() -> None:
            raw = growing.grown(
                values, codes, self.n_estimators, self.columns, parameters, weight=weight
            )
            model.load_model(bytearray(raw))

        with interrupts.held():
            forking.computed(grow)
        self.model_ = model
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return probabilities (n, n_classes), columns in the order of `classes_`."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return forking.computed(lambda: self.model_.predict_proba(values))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each sample, (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]


def _has_cuda() -> bool:
    """Return whether XGBoost may find an NVIDIA GPU; where it finds none it warns and goes on."""
    import xgboost

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    driver = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")
    return driver and not hidden and bool(xgboost.build_info().get("USE_CUDA"))
