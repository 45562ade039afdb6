"""Labels: what one may be, which are the same class, and the order of classes."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from featx.errors import DatasetError
from featx.formatting import counted

Label = str | int | float | bool
"""A class name, or a number or boolean that was given as one."""

_DECIMAL = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,15}", re.ASCII)
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def as_labels(labels: Any, ids: Sequence[str]) -> list[Label]:
    """Return labels as plain Python values: text in its composed form (NFC), numbers as they are.

    Parameters
    ----------
    labels : sequence, array, Series, or a table of one column
        Text, numbers or booleans.
    ids : sequence of str
        Of the images that they belong to, one each.

    Raises
    ------
    DatasetError
        There are more or fewer labels than images, a label is missing or of another kind, or
        there are labels of several kinds.
    """
    # A table of one column, as `frame[["label"]]` gives it, would be a list of column names.
    values = labels.to_numpy() if type(labels).__name__ == "DataFrame" else labels
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    values = list(values)
    if len(values) != len(ids):
        raise DatasetError(
            f"{counted(len(values), 'label', 'labels')} for "
            f"{counted(len(ids), 'image', 'images')}; expected one each."
        )
    missing = [number for number, label in enumerate(values) if _is_missing(label)]
    if missing:
        raise DatasetError(
            f"{counted(len(missing), 'label is', 'labels are')} missing (that of image "
            f"{ids[missing[0]]!r}, number "
            f"{missing[0]} counted from 0, is {values[missing[0]]!r}). Leave those images out, or "
            "give each a label."
        )
    kinds = {_kind(label) for label in values}
    if len(kinds) > 1:
        raise DatasetError(
            f"labels of several kinds: {', '.join(sorted(kinds))}; expected names, numbers or "
            "booleans, and one kind of them."
        )
    return [_plain(label) for label in values]


def _is_missing(label: Any) -> bool:
    if isinstance(label, str | bytes):
        return not label
    if label is None:
        return True
    try:
        return np.ndim(label) == 0 and bool(label != label)
    except TypeError:  # pandas.NA is neither equal nor unequal to itself
        return True


def _kind(label: Any) -> str:
    if isinstance(label, str | bytes):
        return "text"
    kind = np.asarray(label).dtype.kind if np.ndim(label) == 0 else ""
    if kind == "b":
        return "booleans"
    if kind in "iuf" and kind:
        return "numbers"
    raise DatasetError(
        f"a label of type {type(label).__name__}; expected one class name or number per image "
        "(for one-hot rows: class_names[i] for i in y.argmax(1))."
    )


def _plain(label: Any) -> Label:
    if isinstance(label, bytes):
        label = label.decode("utf-8", "surrogateescape")
    if isinstance(label, str):
        return class_name(label)
    number: Label = np.asarray(label).item()
    return number


def class_name(text: str) -> str:
    """Return the class that a name stands for: two Unicode forms of one name are one class."""
    return unicodedata.normalize("NFC", str(text))  # not a numpy.str_


def label_array(labels: Sequence[Label | None]) -> np.ndarray | None:
    """Return labels as an array of shape (n,), or None if one is missing.

    Its dtype is object for text, int64, float64 or bool for labels that were given as such.
    """
    if any(label is None for label in labels):
        return None
    if labels and not any(isinstance(label, str) for label in labels):
        return np.array(labels)
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


def labels_of(labels: Any, owner: str = "the images have") -> np.ndarray:
    """Return the labels of a `Dataset` or of `Features`, shape (n,), which must be there.

    Parameters
    ----------
    labels : sequence of n labels, or None
    owner : str
        The subject and verb of the error's sentence, such as "the test set has".

    Raises
    ------
    DatasetError
        `labels` is None.
    """
    if labels is None:
        raise DatasetError(
            f"{owner} no labels. Expected a folder with one sub-folder per class (did you mean its "
            "parent folder?), a table with a label column, or labels given beside the images."
        )
    return np.asarray(labels)


def class_order(labels: Iterable[Any]) -> list[Any]:
    """Return the distinct labels in order: numbers by value, text by its characters.

    Text is in the order of its values where each label is a whole number without leading zeros.

    >>> class_order(["10", "9", "1", "9"]), class_order(["10", "9", "01"])
    (['1', '9', '10'], ['01', '10', '9'])
    """
    distinct = sorted(set(labels))
    return sorted(distinct, key=int) if _are_whole(distinct) else distinct


def _are_whole(labels: Iterable[Any]) -> bool:
    return all(isinstance(label, str) and _WHOLE.fullmatch(label) for label in labels)


def as_targets(labels: np.ndarray) -> np.ndarray:
    """Return labels as heads are trained on them, which sorts them as ``class_order`` does.

    scikit-learn sorts text by its characters, "10" before "9": whole numbers written as text are
    numbers to a head. ``targets.astype(labels.dtype)`` is the way back.

    Raises
    ------
    DatasetError
        The labels are numbers with a fraction, or infinite.
    """
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    if labels.dtype.kind == "f" and not all(value.is_integer() for value in labels.tolist()):
        example = next(value for value in labels.tolist() if not value.is_integer())
        raise DatasetError(
            f"labels such as {example!r} are real numbers, and featx trains classifiers. If they "
            "are names of classes, give them as text: list(map(str, labels))."
        )
    if labels.dtype.kind == "U" and _are_whole(set(labels.tolist())):
        return labels.astype(np.int64)
    return labels


def as_text(label: Label) -> str:
    """Return a label as text; a number without a fraction is written without one.

    >>> as_text(2.0), as_text(2), as_text(True), as_text("2.0")
    ('2', '2', 'True', '2.0')
    """
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


def positions_in(classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the position of each label among the classes, -1 for one that is not there.

    Text is compared with text, and numbers with numbers by their value; where one of the two is
    text and the other is not, text that is a number has its value.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
    labels : ndarray of shape (n,)

    Returns
    -------
    ndarray of int, shape (n,)
    """
    texts = [array.dtype.kind in "OU" for array in (classes, labels)]
    known: dict[Any, int] = {}
    for position, one in enumerate(classes.tolist()):
        known.setdefault(one if all(texts) else _value(one), position)
    wanted = labels.tolist() if all(texts) else map(_value, labels.tolist())
    return np.fromiter((known.get(one, -1) for one in wanted), np.intp, len(labels))


def _value(label: Label) -> Any:
    if not isinstance(label, str):
        return label
    if label in ("True", "False"):
        return label == "True"
    if _WHOLE.fullmatch(label):
        return int(label)  # as a float, two long ones could be equal
    return float(label) if _DECIMAL.fullmatch(label) else label


def notes_on(labels: Iterable[Label | None]) -> list[str]:
    """Return a sentence for class names that differ in case or outer spaces alone."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted({label for label in labels if isinstance(label, str)}):
        alike[label.strip().casefold()].append(label)
    return [
        f"Classes that differ in case or outer spaces alone, and stay apart: "
        f"{', '.join(map(repr, names))}."
        for names in alike.values()
        if len(names) > 1
    ]
