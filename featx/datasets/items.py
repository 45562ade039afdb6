"""One image of a dataset, its label, and pixels that are what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.errors import DatasetError, InputRangeError

if TYPE_CHECKING:
    from featx.images.decoding import Source


@dataclass(frozen=True, eq=False)
class Item:
    """One image, not yet read.

    Attributes
    ----------
    id : str
        The path relative to the dataset, with forward slashes, or its position.
    label : str or None
        The class name; None where the dataset has no labels.
    source : Path, bytes, numpy.ndarray of shape (height, width, 3) and dtype uint8, or PIL image
        A file, an encoded image, RGB pixels 0-255, or what is decoded when its pixels are needed.
    """

    id: str
    label: str | None
    source: Source


def label_array(labels: Sequence[str | None]) -> np.ndarray | None:
    """Return labels as an object array of shape (n,), or None if one is missing."""
    if any(label is None for label in labels):
        return None
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
            f"{owner} no labels. Expected a folder with one sub-folder per class, a table with a "
            "label column, or labels given beside the images."
        )
    return np.asarray(labels)


def with_labels(items: Sequence[Item], labels: Sequence[Any] | None) -> Sequence[Item]:
    """Return the items with these labels as class names."""
    if labels is None:
        return items
    labels = list(labels)
    if len(labels) != len(items):
        raise DatasetError(f"{len(labels)} labels for {len(items)} images; expected one each.")
    missing = [i for i, label in enumerate(labels) if _is_missing(label)]
    if missing:
        raise DatasetError(
            f"{len(missing)} labels are missing (row {missing[0]} is {labels[missing[0]]!r}, "
            f"image {items[missing[0]].id!r}). Remove those rows, or give each image a label."
        )
    kinds = {_kind(label) for label in labels}
    if len(kinds) > 1:
        raise DatasetError(
            f"labels of several kinds: {', '.join(sorted(kinds))}; expected names or numbers, "
            "not both."
        )
    return [replace(item, label=_name(label)) for item, label in zip(items, labels, strict=True)]


def _is_missing(label: Any) -> bool:
    if isinstance(label, str | bytes):
        return not label
    return label is None or (np.ndim(label) == 0 and bool(label != label))


def _kind(label: Any) -> str:
    if isinstance(label, str | bytes):
        return "text"
    if np.ndim(label) == 0 and np.asarray(label).dtype.kind in "biuf":
        return "numbers"
    raise DatasetError(
        f"a label of type {type(label).__name__}; expected one class name or number per image "
        "(for one-hot rows: class_names[i] for i in y.argmax(1))."
    )


def _name(label: Any) -> str:
    if isinstance(label, bytes):
        return label.decode()
    if isinstance(label, str):
        return str(label)
    number = np.asarray(label).item()
    if isinstance(number, bool):
        return str(number)
    return str(int(number) if float(number).is_integer() else number)


def as_pixels(values: Any, ndim: int) -> np.ndarray:
    """Return images as uint8 RGB, or raise what is wrong with them.

    Parameters
    ----------
    values : array of shape (n, height, width, 3) or (height, width, 3)
        0-255; floats are rounded.
    ndim : {3, 4}
        One image, or several.

    Raises
    ------
    InputRangeError, DatasetError
    """
    array = np.asarray(values)
    if array.ndim != ndim or array.shape[-1] != 3:
        raise DatasetError(_shape_advice(array, ndim))
    if array.dtype == np.uint8 or not array.size:
        return array.astype(np.uint8, copy=False)
    if array.dtype.kind not in "iuf":
        raise DatasetError(f"pixels of dtype {array.dtype}; expected uint8, RGB 0-255.")
    low, high = array.min(), array.max()
    if np.isnan(low) or np.isnan(high):
        raise DatasetError("the pixels hold NaN; expected uint8, RGB 0-255.")
    if low < 0 or high > 255 or (array.dtype.kind == "f" and 0 < high <= 1):
        raise InputRangeError(
            f"pixels from {low:g} to {high:g}; expected RGB 0-255. featx scales them as each "
            "network needs: pass them before any division"
            f"{', here (255 * x).astype(np.uint8)' if low >= 0 and high <= 1 else ''}."
        )
    return np.rint(array).astype(np.uint8)


def _shape_advice(array: np.ndarray, ndim: int) -> str:
    wanted = "(n, height, width, 3)" if ndim == 4 else "(height, width, 3)"
    came = f"pixels of shape {array.shape}; expected {wanted}, RGB 0-255."
    if array.ndim == ndim and array.shape[-3] == 3:
        return f"{came} The channels come first here: np.moveaxis(x, -3, -1) moves them last."
    if array.ndim == ndim - 1 and array.shape[-1:] == (3,):
        return f"{came} A single image: pass x[None]."
    if array.ndim == ndim - 1 or array.shape[-1:] == (1,):
        return f"{came} Grey images: np.repeat(x.reshape(*x.shape[:{ndim - 1}], 1), 3, -1)."
    if array.shape[-1:] == (4,):
        return f"{came} Drop the fourth channel: x[..., :3]."
    return came
