"""scikit-learn's classifiers, with clear errors for data that they cannot learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import (
    CalibratedClassifierCV,
    _CalibratedClassifier,
    _TemperatureScaling,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from featx.dense import samples_of
from featx.errors import DatasetError
from featx.heads import interrupts
from featx.heads.folds import StratifiedFolds, apart_where_alone, can_be_folded
from featx.heads.threads import limited_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


_WEIGHT = "sample_weight"


def _single_label(tags: Tags) -> Tags:
    """Return the tags of a classifier of dense features with one label per sample."""
    tags.input_tags.sparse = False
    tags.target_tags.multi_output = False
    if tags.classifier_tags is not None:
        tags.classifier_tags.multi_label = False
    return tags


class ScaledHead(Pipeline):
    """A pipeline of StandardScaler and a classifier that takes weights and groups by itself.

    scikit-learn's own pipeline takes them under the names of its steps alone, which AdaBoost, for
    one, does not know.

    Parameters
    ----------
    steps, transform_input, memory, verbose
        As in `sklearn.pipeline.Pipeline`.
    class_weight : None, "balanced" or dict
        Multiplies the weights of the samples; "balanced" gives every class the same sum.
    """

    def __init__(
        self,
        steps: Any,
        *,
        transform_input: Any = None,
        memory: Any = None,
        verbose: bool = False,
        class_weight: Any = None,
    ) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.class_weight = class_weight

    def get_metadata_routing(self) -> Any:
        """Return what this head asks for itself: it hands weights and groups to its steps."""
        return BaseEstimator.get_metadata_routing(self)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        **parameters: Any,
    ) -> ScaledHead:
        """Fit the scaler and the classifier.

        Parameters
        ----------
        sample_weight : array-like of shape (n,), optional
            Numbers of 0 or more, of which only the ratios count, in the scaler as well; 2 is the
            same as the sample twice.
        groups : array-like of shape (n,), optional
            Where the classifier holds samples out, those of one group are held out together.
        **parameters
            By step, as in `Pipeline.fit`; the last step's `sample_weight` and `groups` are the same
            as those above.

        Raises
        ------
        DatasetError
            There is one class only, features are not finite, or weights are not as above.
        """
        last = self.steps[-1][0]
        given: dict[str, Any] = {_WEIGHT: sample_weight, "groups": groups}
        for name in given:
            own = parameters.pop(f"{last}__{name}", None)
            given[name] = own if given[name] is None else given[name]
        # The pipeline's own width is that of its scaler: what is checked needs an estimator.
        found = samples_of(clone(self.steps[-1][1]), X, y, **given).weighted(self.class_weight)
        weight = found.relative
        for name, step in self.steps:
            if weight is not None and hasattr(step, "fit") and has_fit_parameter(step, _WEIGHT):
                parameters[f"{name}__{_WEIGHT}"] = weight
        if found.groups is not None and has_fit_parameter(self.steps[-1][1], "groups"):
            parameters[f"{last}__groups"] = found.groups
        values: Any = found.X
        if hasattr(X, "columns"):  # a data frame: the scaler remembers the names
            frame: Any = type(X)
            values = frame(values, columns=X.columns)
        # Routed metadata came by the names of this method, and goes on by those of the steps.
        with config_context(enable_metadata_routing=False):
            return super().fit(values, found.y, **parameters)

    def predict_proba(self, X: ArrayLike, **parameters: Any) -> NDArray[Any]:
        """Return probabilities (n, n_classes), in blocks: X is never standardised as a whole."""
        return _in_blocks(super().predict_proba, X, parameters)

    def predict(self, X: ArrayLike, **parameters: Any) -> NDArray[Any]:
        """Return the label of each sample, (n,), in blocks."""
        return _in_blocks(super().predict, X, parameters)


PREDICTED_AT_ONCE = 4096
"""Samples in a block: how many changes nothing but the memory."""


def _in_blocks(predict: Any, X: Any, parameters: dict[str, Any]) -> NDArray[Any]:
    rows = isinstance(X, np.ndarray) or hasattr(X, "iloc")  # what can be cut
    if not rows or np.ndim(X) != 2 or len(X) <= PREDICTED_AT_ONCE:
        return predict(X, **parameters)
    step = PREDICTED_AT_ONCE
    parts = [predict(X[begin : begin + step], **parameters) for begin in range(0, len(X), step)]
    return np.concatenate(parts)


class NearestHead(KNeighborsClassifier):
    """`KNeighborsClassifier` whose votes have weights, and which refuses what cannot be learnt.

    It refuses a single class and features that are not finite.

    Parameters
    ----------
    n_neighbors, weights, algorithm, leaf_size, p, metric, metric_params, n_jobs
        As in `sklearn.neighbors.KNeighborsClassifier`.
    class_weight : None, "balanced" or dict
        Multiplies the weights of the samples; "balanced" gives every class the same sum.

    Attributes
    ----------
    sample_weight_ : ndarray of float64, shape (n_samples_fit_,), or None
        By how much the vote of each embedding is multiplied; None where all count alike.
    """

    similarities: ClassVar[int] = 1 << 24
    """As many are computed at once: 64 MB of float32."""

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        weights: Any = "uniform",
        algorithm: str = "auto",
        leaf_size: int = 30,
        p: float = 2,
        metric: Any = "minkowski",
        metric_params: Any = None,
        n_jobs: int | None = None,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            n_neighbors,
            weights=weights,
            algorithm=algorithm,
            leaf_size=leaf_size,
            p=p,
            metric=metric,
            metric_params=metric_params,
            n_jobs=n_jobs,
        )
        self.class_weight = class_weight

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NearestHead:
        """Keep the embeddings, equal ones of one class once, with their weights added.

        Parameters
        ----------
        sample_weight : array-like of shape (n,), optional
            Numbers of 0 or more that multiply the votes; 2 is the same as the sample twice, and an
            embedding of weight 0 is not a neighbour.

        Raises
        ------
        DatasetError
            There are fewer embeddings than `n_neighbors`; and where any head refuses.
        """
        found = samples_of(self, X, y, sample_weight).weighted(self.class_weight)
        count = len(found.y)
        if self.n_neighbors > count:
            # Equal ones were joined, and each of them counted.
            given = np.ones(np.shape(y)) if sample_weight is None else np.asarray(sample_weight)
            count = int((given > 0).sum())
        if self.n_neighbors > count:
            raise DatasetError(
                f"nearest(k={self.n_neighbors}) was given {count} embeddings; it needs as "
                f"many as neighbours. Use k={count} or less, or give more of them."
            )
        self.sample_weight_ = found.relative
        return super().fit(found.X, found.y)

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        """Return the nearest embeddings: all of them where fewer than asked for are different."""
        check_is_fitted(self)
        wanted = self.n_neighbors if n_neighbors is None else n_neighbors
        if n_neighbors is None and X is not None:
            wanted = min(wanted, self.n_samples_fit_)
        plain = self.metric == "cosine" and self._fit_method == "brute"
        if not plain or X is None or not 0 < wanted <= self.n_samples_fit_:
            return super().kneighbors(X, wanted, return_distance)
        values = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        distances, nearest = self._by_cosine(values, int(wanted))
        return (distances, nearest) if return_distance else nearest

    def _by_cosine(
        self, X: NDArray[Any], wanted: int
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Return what scikit-learn's `kneighbors` does, by one product of matrices per block.

        Similarities in the embeddings' own precision choose the neighbours, those in float64 are
        their distances and their order.
        """
        lengths = np.linalg.norm(self._fit_X, axis=1)
        lengths[lengths == 0] = 1
        distances = np.empty((len(X), wanted))
        nearest = np.empty((len(X), wanted), np.intp)
        step = max(1, self.similarities // len(lengths))
        for begin in range(0, len(X), step):
            block = X[begin : begin + step]
            alike = block @ self._fit_X.T
            alike /= lengths
            if wanted < len(lengths):
                found = np.argpartition(alike, -wanted, axis=1)[:, -wanted:]
            else:
                found = np.tile(np.arange(wanted), (len(block), 1))
            exact = _unit(block.astype(np.float64))
            others = _unit(self._fit_X[found].astype(np.float64))
            apart = np.maximum(1 - np.einsum("id,ijd->ij", exact, others), 0)
            order = np.argsort(apart, axis=1, kind="stable")
            distances[begin : begin + step] = np.take_along_axis(apart, order, axis=1)
            nearest[begin : begin + step] = np.take_along_axis(found, order, axis=1)
        return distances, nearest

    @property
    def _plain(self) -> bool:
        """Whether all count alike and there are enough of them: scikit-learn's own case."""
        check_is_fitted(self)
        return self.sample_weight_ is None and self.n_neighbors <= self.n_samples_fit_

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return shares of the vote (n, n_classes), columns in the order of `classes_`."""
        if self._plain:
            return super().predict_proba(X)
        distances, nearest = self.kneighbors(X)
        votes = np.array(_votes(distances, self.weights), np.float64)
        if self.sample_weight_ is not None:
            votes *= self.sample_weight_[nearest]
        shares = np.zeros((len(votes), len(self.classes_)))
        np.add.at(shares, (np.arange(len(votes))[:, None], self._y[nearest]), votes)
        return shares / shares.sum(axis=1, keepdims=True)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the label with the largest share of the vote, (n,)."""
        if self._plain:
            return super().predict(X)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def __sklearn_tags__(self) -> Tags:
        return _single_label(super().__sklearn_tags__())


class CalibratedHead(CalibratedClassifierCV):
    """`CalibratedClassifierCV` that refuses a single class and features that are not finite.

    A temperature is fitted to the scores of as many folds of `StratifiedFolds` as hold
    `enough_validation` samples, and the classifier once more to all samples.
    """

    enough_validation: ClassVar[int] = 2000
    """More held-out samples only cost time: one number is fitted to them."""

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> CalibratedHead:
        """Fit the classifier, and what turns its scores into probabilities.

        Parameters
        ----------
        sample_weight : array-like of shape (n,), optional
            Numbers of 0 or more, for both; 2 is the same as the sample twice.
        groups : array-like of shape (n,), optional
            Samples of one group are held out together, where `cv` is a `StratifiedFolds`.

        Raises
        ------
        DatasetError
            Fewer than two classes have two samples, so that none could be held out; and where any
            head refuses.
        """
        found = samples_of(self, X, y, sample_weight, groups)
        if not can_be_folded(found.y):
            raise DatasetError(
                "probabilities are calibrated on held-out samples, and fewer than two classes "
                "have two samples. Give more samples, or take another head, such as logistic."
            )
        names, counts = np.unique(found.y, return_counts=True)
        # Twice, so that no fold holds out all there is of a class: it would have no score there.
        alone = np.flatnonzero(np.isin(found.y, names[counts == 1]))
        repeated = np.concatenate([np.arange(len(found.y)), alone])
        values, labels = found.X[repeated], found.y[repeated]
        weight = None if found.weight is None else found.weight[repeated]
        cv: Any = self.get_params(deep=False)["cv"]
        if isinstance(cv, StratifiedFolds):
            groups = None
            if found.groups is not None:
                groups = apart_where_alone(labels, found.groups[repeated])
            splits = list(cv.split(values, labels, groups))
            enough = -(-self.enough_validation // len(splits[0][1]))
            one_number = self.method == "temperature" and not self.ensemble
            if one_number and enough < len(splits):
                return self._by_some(splits[:enough], values, labels, weight)
            self.cv = splits
        try:
            return super().fit(values, labels, sample_weight=weight)
        finally:
            self.cv = cv

    def _by_some(
        self, splits: list[Any], X: NDArray[Any], y: NDArray[Any], weight: NDArray[Any] | None
    ) -> CalibratedHead:
        """Fit the temperature to the scores of some folds alone, the classifier to all samples."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        scores = []
        for train, valid in splits:
            part = None if weight is None else weight[train]
            machine = clone(self.estimator).fit(X[train], y[train], sample_weight=part)
            scores.append(machine.decision_function(X[valid]))
        held = np.concatenate([valid for _, valid in splits])
        temperature = _TemperatureScaling().fit(
            np.concatenate(scores), codes[held], None if weight is None else weight[held]
        )
        machine = clone(self.estimator).fit(X, y, sample_weight=weight)
        calibrated = _CalibratedClassifier(
            machine, [temperature], classes=self.classes_, method="temperature"
        )
        self.calibrated_classifiers_ = [calibrated]
        return self

    def __sklearn_tags__(self) -> Tags:
        return _single_label(super().__sklearn_tags__())


class MLPHead(MLPClassifier):
    """`MLPClassifier` that stops early only where enough samples can be held out for it.

    It also refuses a single class and features that are not finite.
    """

    fewest_stopping: ClassVar[int] = 500
    """With fewer validation samples early stopping costs accuracy: with 60 of them it took flowers
    from 0.864 to 0.816 (MobileNetV2, 600 samples)."""

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> MLPHead:
        """Train, with `early_stopping` only with `fewest_stopping` validation samples.

        Parameters
        ----------
        sample_weight : array-like of shape (n,), optional
            Numbers of 0 or more, of the validation samples as well; 2 is the same as the sample
            twice.
        groups : array-like of shape (n,), optional
            With groups the training does not stop early: scikit-learn draws the samples that it
            would watch without regard to them.
        """
        found = samples_of(self, X, y, sample_weight, groups)
        wanted = self.get_params(deep=False)["early_stopping"]
        enough = self.validation_fraction * len(found.y) >= self.fewest_stopping
        self.set_params(early_stopping=wanted and enough and found.groups is None)
        try:
            with limited_threads(found.X), interrupts.not_swallowed():
                return super().fit(found.X, found.y, sample_weight=found.weight)
        finally:
            self.set_params(early_stopping=wanted)

    def __sklearn_tags__(self) -> Tags:
        return _single_label(super().__sklearn_tags__())


def _unit(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return vectors of length 1; one of length 0 stays."""
    length = np.linalg.norm(X, axis=-1, keepdims=True)
    return X / np.where(length == 0, 1, length)


def _votes(distances: NDArray[np.float64], weights: Any) -> NDArray[np.float64]:
    """Return the vote of each neighbour as scikit-learn's `weights` says, (n, k)."""
    if callable(weights):
        return np.asarray(weights(distances))
    if weights == "uniform":
        return np.ones_like(distances)
    here = distances == 0
    with np.errstate(divide="ignore"):
        # An embedding at the very place decides alone, as in scikit-learn.
        return np.where(here.any(axis=1, keepdims=True), here, 1 / distances)
