"""StratifiedFolds: as many stratified folds as the smallest class can fill."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StratifiedFolds:
    """scikit-learn splitter: stratified folds, as many as the smallest class can fill.

    Parameters
    ----------
    most : int
        The most folds made, 2 or more. A class with fewer samples lowers it, to 2 at the least:
        a class with one sample is then absent from training in one fold.
    random_state : int, RandomState or None
        Shuffles the samples, as in `sklearn.model_selection.StratifiedKFold`; None shuffles in
        another order on each call of `split`.
    """

    def __init__(self, most: int = 5, random_state: Any = 0) -> None:
        # Not n_splits: CalibratedClassifierCV would hold every class to that number of samples.
        self.most = most
        self.random_state = random_state

    def __repr__(self) -> str:
        return f"{type(self).__name__}(most={self.most}, random_state={self.random_state})"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds that `y` allows."""
        if y is None:
            return self.most
        return max(2, min(self.most, int(np.unique(y, return_counts=True)[1].min())))

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[Any, Any]]:
        """Yield the positions of the training and the validation samples of each fold."""
        folds = StratifiedKFold(
            self.get_n_splits(X, y), shuffle=True, random_state=self.random_state
        )
        with warnings.catch_warnings():
            # A class with a single sample is expected here.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            yield from folds.split(X, y)


def can_be_folded(y: NDArray[Any]) -> bool:
    """Return whether every training part can hold two classes: two of them have two samples."""
    return bool((np.unique(y, return_counts=True)[1] >= 2).sum() >= 2)
