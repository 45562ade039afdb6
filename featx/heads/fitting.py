"""Fitting any classifier with the weights and groups of its samples, as far as it takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from featx.dense import of_classes
from featx.errors import HeadError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def fit(
    head: Any,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Any:
    """Return the head, fitted.

    Parameters
    ----------
    head : estimator
        One of featx, or any classifier of scikit-learn's interface, such as a pipeline or a grid
        search.
    sample_weight : array-like of shape (n,), optional
    groups : array-like of shape (n,), optional
        For a head that holds samples out while it is fitted; others have no use for them.

    Raises
    ------
    HeadError
        Weights are given, and this classifier takes none.
    OptionError
        A weight is for a label that is not there, and a class has none.

    Notes
    -----
    Weights of classes are given by label, and a label that is a whole number written as text is a
    number to a head (`labels.as_targets`): in the parameters of `head` they become weights of what
    it is trained on.
    """
    _weigh_targets(head, np.unique(np.asarray(y)))
    parameters: dict[str, Any] = {}
    if sample_weight is not None:
        names = _names(head, "sample_weight")
        if not names:
            raise HeadError(
                f"{type(head).__name__} takes no weights of samples. Every head of featx does: "
                "take one of them, or leave sample_weight out."
            )
        parameters |= dict.fromkeys(names, sample_weight)
    if groups is not None:
        parameters |= dict.fromkeys(_names(head, "groups"), groups)
    return head.fit(X, y, **parameters)


def _weigh_targets(head: Any, classes: np.ndarray) -> None:
    """Set weights of classes, in a head and what it is made of, to weights of its targets."""
    if not hasattr(head, "get_params"):
        return
    for name, value in head.get_params().items():
        if name.endswith("class_weight") and isinstance(value, dict):
            head.set_params(**{name: of_classes(value, classes)})
        elif name.endswith(("param_grid", "param_distributions")):
            grids = [value] if isinstance(value, dict) else value
            weighed = [{k: _weighed(k, tried, classes) for k, tried in g.items()} for g in grids]
            head.set_params(**{name: weighed})


def _weighed(name: str, tried: Any, classes: np.ndarray) -> Any:
    """Return what a search tries for a parameter, weights of classes by target."""
    if not name.endswith("class_weight") or not isinstance(tried, list | tuple):
        return tried
    return [of_classes(one, classes) if isinstance(one, dict) else one for one in tried]


def _names(head: Any, name: str) -> list[str]:
    """Return under which names a head's `fit` takes a parameter; none where it does not."""
    if isinstance(head, GridSearchCV | RandomizedSearchCV):
        # Its splitter takes groups; weights go on to the estimator.
        return [name] if name == "groups" else _names(head.estimator, name)
    if has_fit_parameter(head, name):
        return [name]
    if isinstance(head, Pipeline):
        steps = [(key, step) for key, step in head.steps if hasattr(step, "fit")]
        if not steps or steps[-1][0] != head.steps[-1][0] or not _names(steps[-1][1], name):
            return []
        return [f"{key}__{part}" for key, step in steps for part in _names(step, name)]
    return []
