"""The samples that a head learns from: checked, weighted, equal ones joined into one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from featx.errors import DatasetError, OptionError
from featx.formatting import counted
from featx.labels import as_labels, label_array, positions_in

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from sklearn.base import BaseEstimator


@dataclass(frozen=True, eq=False)
class Samples:
    """What a head is fitted on.

    Attributes
    ----------
    X : ndarray of shape (n, n_features)
    y : ndarray of shape (n,)
    weight : ndarray of float64, shape (n,), or None
        Above 0; None where all samples count alike, once each.
    groups : ndarray of int, shape (n,), or None
        Samples of one group are never divided between training and validation.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    groups: NDArray[np.intp] | None

    def weighted(self, class_weight: Any) -> Samples:
        """Return the samples, each weight multiplied by that of its class; those of 0 left out.

        Parameters
        ----------
        class_weight : None, "balanced" or dict
            "balanced" gives every class the same sum of weights and leaves the whole sum as it is;
            a dict has the weight by label.

        Raises
        ------
        OptionError
            It is something else.
        """
        if class_weight is None:
            return self
        if not (isinstance(class_weight, dict) or class_weight == "balanced"):
            raise OptionError(
                f"class_weight={class_weight!r}: expected None, 'balanced', or a dict of weights "
                "by label."
            )
        classes, codes = np.unique(self.y, return_inverse=True)
        weight = np.ones(len(self.y)) if self.weight is None else self.weight
        if isinstance(class_weight, dict):
            given = of_classes(class_weight, classes)
            each = np.array([given.get(one, 1.0) for one in classes.tolist()], float)
        else:
            each = weight.sum() / (len(classes) * np.bincount(codes, weights=weight))
        found = _checked_weights(weight * each[codes], len(weight))
        used = np.flatnonzero(found > 0)
        if len(used) == len(found):
            return Samples(self.X, self.y, found, self.groups)
        _check_classes(self.y[used], " with a weight above zero")
        groups = None if self.groups is None else self.groups[used]
        return Samples(self.X[used], self.y[used], found[used], groups)

    @property
    def relative(self) -> NDArray[np.float64] | None:
        """The weights with a mean of 1; None where all samples count alike."""
        if self.weight is None or np.ptp(self.weight) == 0:
            return None
        return self.weight / self.weight.mean()


def of_classes(class_weight: dict[Any, Any], classes: NDArray[Any]) -> dict[Any, Any]:
    """Return weights by label as weights by class, text that is a number having its value.

    Parameters
    ----------
    class_weight : dict
        By label, as the user wrote it.
    classes : ndarray of shape (n_classes,)
        What the labels are where a classifier is trained.

    Raises
    ------
    OptionError
        A weight is for a label that is not there, and a class has none.
    """
    names = list(class_weight)
    keys = label_array(as_labels(names, list(map(str, names)))) if names else None
    if keys is None:
        return {}
    positions = positions_in(classes, keys)
    unknown = [name for name, position in zip(names, positions, strict=True) if position < 0]
    # As in scikit-learn: where each class has its weight, the others are those that a fold lacks.
    if unknown and len(set(positions.tolist()) - {-1}) < len(classes):
        raise OptionError(
            f"class_weight has weights for {', '.join(map(repr, unknown[:10]))}, which "
            f"{'is not a class' if len(unknown) == 1 else 'are not classes'} here; the classes are "
            f"{', '.join(map(repr, classes[:20].tolist()))}."
        )
    known = classes.tolist()
    return {
        known[position]: class_weight[name]
        for name, position in zip(names, positions, strict=True)
        if position >= 0
    }


def samples_of(
    estimator: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    batch: bool = False,
    reset: bool = True,
) -> Samples:
    """Return what a head is fitted on.

    Equal embeddings of one label (and one group) are joined into one sample with the sum of their
    weights, and those of weight 0 are left out. So a weight of 2 is the same as the sample twice,
    and 0 the same as its absence, also where a head holds samples out: two copies of one sample
    can never stand on both sides of a fold.

    Parameters
    ----------
    X : array-like of shape (n, n_features)
    y : array-like of shape (n,)
    sample_weight : array-like of shape (n,), optional
        Numbers of 0 or more.
    groups : array-like of shape (n,), optional
        Names or numbers.
    batch : bool
        Whether more samples come: these may then be few, and of one class.
    reset : bool
        Whether the estimator learns the number of features from these, as in scikit-learn.

    Raises
    ------
    DatasetError
        As `features_and_labels` does, also where the samples with a weight are of one class; a
        weight or a group is missing or not what it should be.
    """
    values, labels = features_and_labels(estimator, X, y, batch=batch, reset=reset)
    codes = None if groups is None else _checked_groups(groups, len(labels))
    if sample_weight is None:
        weight = np.ones(len(labels))
    else:
        weight = _checked_weights(sample_weight, len(labels))
        used = np.flatnonzero(weight > 0)
        if len(used) < len(weight):
            values, labels, weight = values[used], labels[used], weight[used]
            codes = None if codes is None else codes[used]
            if not batch:
                _check_classes(labels, " with a weight above zero")
    return _joined(values, labels, weight, codes)


def _joined(
    values: NDArray[Any], labels: NDArray[Any], weight: NDArray[Any], groups: NDArray[Any] | None
) -> Samples:
    rank, alone = _ranked(values)
    unit = bool((weight == 1).all())
    if unit and bool(alone.all()):
        return Samples(values, labels, None, groups)
    classes = np.unique(labels, return_inverse=True)[1]
    group = np.zeros(len(labels), np.intp) if groups is None else groups
    first: dict[tuple[int, int, int, bytes], int] = {}
    into = np.array(
        [
            first.setdefault((code, which, place, b"" if single else row.tobytes()), number)
            for number, (code, which, place, single, row) in enumerate(
                zip(
                    classes.tolist(), group.tolist(), rank.tolist(), alone.tolist(), values,
                    strict=True,
                )
            )
        ]
    )  # fmt: skip
    if unit and len(first) == len(labels):
        return Samples(values, labels, None, groups)
    total = np.bincount(into, weights=weight, minlength=len(labels))
    if bool((total[list(first.values())] == 1).all()):
        order = np.sort(np.array(list(first.values())))
    else:
        # In an order that says nothing of how often each one came: it decides folds and batches.
        order = np.array([first[key] for key in sorted(first)])
    joined = None if groups is None else groups[order]
    found = total[order]
    return Samples(
        values[order], labels[order], None if bool((found == 1).all()) else found, joined
    )


def _ranked(values: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the place of each embedding in an order, and whether it is alone there.

    The order is that of some columns, which tell almost all embeddings apart: to compare whole ones
    takes 1.1 s for 50,000 of them, which is longer than some fits.
    """
    some = np.ascontiguousarray(values[:, :: max(1, values.shape[1] // 16)])
    rows = some.view(f"V{some.dtype.itemsize * some.shape[1]}").ravel()
    _, rank, counts = np.unique(rows, return_inverse=True, return_counts=True)
    return rank, counts[rank] == 1


_CHECKED_AT_ONCE = 1 << 22  # numbers: a mask for all of a memory map could outgrow the memory


def features_and_labels(
    estimator: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    batch: bool = False,
    reset: bool = True,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return X and y as arrays that a head can learn from; `batch`, `reset` as in `samples_of`.

    Raises
    ------
    DatasetError
        Embeddings hold NaN or infinity (they are named), or there is one class only.
    """
    options = {"dtype": [np.float64, np.float32], "ensure_min_samples": 1 if batch else 2}
    features, labels = validate_data(
        estimator, X, y, ensure_all_finite=False, reset=reset, **options
    )
    missing = [i for i, label in enumerate(labels) if label is None]
    if missing:
        raise DatasetError(
            f"{counted(len(missing), 'label is', 'labels are')} missing (label "
            f"{missing[0]} is None); expected a class "
            "name or number for each embedding. Leave out those without."
        )
    check_classification_targets(labels)
    step = max(1, _CHECKED_AT_ONCE // features.shape[1])
    finite = [
        np.isfinite(features[begin : begin + step]).all(axis=1)
        for begin in range(0, len(features), step)
    ]
    bad = np.flatnonzero(~np.concatenate(finite))
    if len(bad):
        shown = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        raise DatasetError(
            f"{len(bad)} of {len(features)} embeddings hold NaN or infinity (at {shown}); a head "
            "needs finite numbers. Leave them out, or extract these images again."
        )
    if not batch:
        _check_classes(labels)
    return features, labels


def _check_classes(labels: NDArray[Any], which: str = "") -> None:
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DatasetError(
            f"only one class in y: {str(classes[0])!r} ({len(labels)} embeddings{which}). A "
            "classifier needs two classes or more: check the folder names or the label column"
            f"{', and the weights' if which else ''}."
        )


def _checked_weights(given: ArrayLike, n: int) -> NDArray[np.float64]:
    try:
        weight = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"sample_weight is not numbers ({error}); expected one of 0 or more per sample."
        ) from error
    if weight.shape != (n,):
        raise DatasetError(
            f"sample_weight has the shape {weight.shape}; expected ({n},), one number per sample."
        )
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise DatasetError(
            f"{len(bad)} of {n} weights are below zero or not finite (weight {bad[0]} is "
            f"{weight[bad[0]]:g}); expected numbers of 0 or more."
        )
    if not weight.any():
        raise DatasetError("all weights are zero, so that nothing is left to learn from.")
    return weight


def _checked_groups(given: ArrayLike, n: int) -> NDArray[np.intp]:
    groups = np.asarray(given)
    if groups.shape != (n,):
        raise DatasetError(
            f"groups have the shape {groups.shape}; expected ({n},), a name or number per sample."
        )
    missing = [i for i, group in enumerate(groups) if group is None or group != group]
    if missing:
        raise DatasetError(
            f"{counted(len(missing), 'group is', 'groups are')} missing (group "
            f"{missing[0]} is {groups[missing[0]]}); "
            "expected a name or number for each sample."
        )
    return np.unique(groups.astype(str), return_inverse=True)[1]
