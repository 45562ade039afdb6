"""Thresholds of boosted trees, moved off the numbers of the training samples."""

from __future__ import annotations

from typing import Any

import numpy as np


def settle(document: Any, X: np.ndarray) -> None:
    """Move each threshold of a model to the middle between two numbers of its column.

    XGBoost puts a threshold on a number of a training sample. The same image's embedding, computed
    again by another runtime or in a batch of another size, differs in its last bits, and would take
    the other branch. The samples given go where they went, so their scores stay as they are.

    Parameters
    ----------
    document : dict
        The model, decoded from UBJ; changed in place.
    X : ndarray of shape (n, n_features)
        What the trees were grown on; finite.
    """
    trees = document["learner"]["gradient_booster"]["model"]["trees"]
    inner = [tree["left_children"] != -1 for tree in trees]
    columns, values = (
        np.concatenate([tree[name][at] for tree, at in zip(trees, inner, strict=True)])
        for name in ("split_indices", "split_conditions")
    )
    for column in np.unique(columns):
        here = columns == column
        values[here] = _middle(np.unique(X[:, column].astype(np.float32)), values[here])
    counts = np.cumsum([at.sum() for at in inner])[:-1]
    for tree, at, moved in zip(trees, inner, np.split(values, counts), strict=True):
        tree["split_conditions"][at] = moved


def _middle(numbers: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return what lies between the numbers below a threshold and the others; both ascend."""
    above = np.searchsorted(numbers, thresholds)
    has_both = (above > 0) & (above < len(numbers))
    lower = numbers[np.maximum(above - 1, 0)]
    upper = numbers[np.minimum(above, len(numbers) - 1)]
    middle = ((lower.astype(np.float64) + upper) / 2).astype(np.float32)
    # Between neighbours in float32 there is nothing.
    return np.where(has_both & (middle > lower), middle, thresholds)
