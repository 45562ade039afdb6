"""StratifiedFolds: as many stratified folds as the smallest class can fill, groups undivided."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StratifiedFolds:
    """scikit-learn splitter: stratified folds, as many as the smallest class can fill.

    Parameters
    ----------
    most : int
        The most folds made, 2 or more. A class with fewer samples lowers it, to 2 at the least:
        a class with one sample is then absent from training in one fold. With groups a class
        counts as many as the groups that it is in.
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
        return max(2, min(self.most, int(_counts(y, groups).min())))

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[Any, Any]]:
        """Yield the positions of the training and the validation samples of each fold.

        Parameters
        ----------
        groups : array-like of shape (n,), optional
            No group is divided between training and validation.
        """
        with warnings.catch_warnings():
            # A class with a single sample is expected here.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            if groups is not None:
                yield from self._undivided(np.asarray(y), np.asarray(groups))
                return
            folds = StratifiedKFold(
                self.get_n_splits(X, y), shuffle=True, random_state=self.random_state
            )
            yield from folds.split(X, y)

    def _undivided(self, y: NDArray[Any], groups: NDArray[Any]) -> list[tuple[Any, Any]]:
        names = np.unique(y)
        elsewhere = names[_counts(y, groups) >= 2]
        for count in range(self.get_n_splits(None, y, groups), 1, -1):
            folds = StratifiedGroupKFold(count, shuffle=True, random_state=self.random_state)
            found = list(folds.split(y, y, groups))
            if all(len(valid) and np.isin(elsewhere, y[fit]).all() for fit, valid in found):
                return found
        # Every class with two groups then trains in every fold, whatever the groups are like.
        return list(LeaveOneGroupOut().split(y, y, groups))


def _counts(y: Any, groups: Any = None) -> NDArray[np.intp]:
    """Return how many samples, or different groups, each class has."""
    codes = np.unique(y, return_inverse=True)[1]
    if groups is not None:
        members = np.unique(groups, return_inverse=True)[1]
        codes = np.unique(np.stack([codes, members]), axis=1)[0]
    return np.bincount(codes)


def can_be_folded(y: NDArray[Any], groups: NDArray[Any] | None = None) -> bool:
    """Return whether every training part can hold two classes: two have two samples, or groups."""
    return bool((_counts(y, groups) >= 2).sum() >= 2)


def apart_where_alone(y: NDArray[Any], groups: NDArray[Any]) -> NDArray[np.intp]:
    """Return the groups, but each sample a group of its own where its class is in one group only.

    Such a class cannot be held out by group; without this a fold would train without it.
    """
    codes = np.unique(y, return_inverse=True)[1]
    members = np.unique(groups, return_inverse=True)[1]
    alone = (_counts(y, groups) < 2)[codes]
    own = members.max() + 1 + np.arange(len(y))
    return np.where(alone, own, members)
