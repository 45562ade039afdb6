"""scikit-learn classifiers that say in plain words what they cannot learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.utils import Tags
from threadpoolctl import threadpool_limits

from featx.dense import rows_and_labels
from featx.errors import DatasetError
from featx.heads.logistic import SMALL, can_be_folded

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FEWEST_STOPPING_ROWS = 500
"""With fewer validation rows early stopping costs accuracy: with 60 of them it took flowers from
0.864 to 0.816 (MobileNetV2, 600 rows)."""


def _one_label_a_row(tags: Tags) -> Tags:
    """Return the tags of a classifier that takes dense rows with one label each."""
    tags.input_tags.sparse = False
    tags.target_tags.multi_output = False
    if tags.classifier_tags is not None:
        tags.classifier_tags.multi_label = False
    return tags


class NearestHead(KNeighborsClassifier):
    """`KNeighborsClassifier` that refuses one class only and rows that are not finite."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> NearestHead:
        """Keep the rows.

        Raises
        ------
        DatasetError
            There are fewer rows than `n_neighbors`; and where any head refuses.
        """
        values, labels = rows_and_labels(self, X, y)
        if self.n_neighbors > len(values):
            raise DatasetError(
                f"nearest(k={self.n_neighbors}) was given {len(values)} rows; expected as many "
                f"rows as neighbours. Take k={len(values)} or less, or give more rows."
            )
        return super().fit(values, labels)

    def __sklearn_tags__(self) -> Tags:
        return _one_label_a_row(super().__sklearn_tags__())


class CalibratedHead(CalibratedClassifierCV):
    """`CalibratedClassifierCV` that refuses one class only and rows that are not finite."""

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: Any = None) -> CalibratedHead:
        """Fit the classifier, and what turns its scores into probabilities.

        Raises
        ------
        DatasetError
            Fewer than two classes have two rows, so that none could be held out; and where any
            head refuses.
        """
        values, labels = rows_and_labels(self, X, y)
        if not can_be_folded(labels):
            raise DatasetError(
                "probabilities are calibrated on held-out rows, and fewer than two classes have "
                "two rows. Give more rows, or take another head, such as logistic."
            )
        names, counts = np.unique(labels, return_counts=True)
        # Twice, so that no fold holds out all there is of a class: it would have no score there.
        rows = np.concatenate(
            [np.arange(len(labels)), np.flatnonzero(np.isin(labels, names[counts == 1]))]
        )
        weight = None if sample_weight is None else np.asarray(sample_weight)[rows]
        return super().fit(values[rows], labels[rows], sample_weight=weight)

    def __sklearn_tags__(self) -> Tags:
        return _one_label_a_row(super().__sklearn_tags__())


class MLPHead(MLPClassifier):
    """`MLPClassifier` that stops early only where enough rows can be set aside for it.

    It also refuses one class only and rows that are not finite.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: Any = None) -> MLPHead:
        """Train, with `early_stopping` only where `validation_fraction` holds 500 rows."""
        values, labels = rows_and_labels(self, X, y)
        asked = self.get_params(deep=False)["early_stopping"]
        enough = self.validation_fraction * len(values) >= FEWEST_STOPPING_ROWS
        self.set_params(early_stopping=asked and enough)
        try:
            with threadpool_limits(1 if values.size <= SMALL else None):
                return super().fit(values, labels, sample_weight=sample_weight)
        finally:
            self.set_params(early_stopping=asked)

    def __sklearn_tags__(self) -> Tags:
        return _one_label_a_row(super().__sklearn_tags__())
