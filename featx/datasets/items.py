"""One image of a dataset, its label, and pixels that are what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from featx.errors import DatasetError, InputRangeError
from featx.labels import Label, as_labels

if TYPE_CHECKING:
    from featx.images.decoding import Source


@dataclass(frozen=True, eq=False, slots=True)
class Item:
    """One image, not yet read.

    Attributes
    ----------
    id : str
        The path relative to the dataset, with forward slashes, or its position.
    label : str, int, float, bool or None
        The class name, or the number that was given as one; None where the dataset has no labels.
    source : Path, bytes, numpy.ndarray of shape (height, width, 3) and dtype uint8, or PIL image
        A file, an encoded image, RGB pixels 0-255, or what is decoded when its pixels are needed.
    """

    id: str
    label: Label | None
    source: Source


class FolderItems(Sequence[Item]):
    """The images of a folder by their paths in it, each made when it is asked for.

    Of a million images, a million `Path` objects would take most of the memory that extraction
    needs.

    Parameters
    ----------
    root : Path
    paths : sequence of str
        Relative to it, with forward slashes.
    labels : sequence of label or None
        One per path.
    """

    def __init__(self, root: Path, paths: Sequence[str], labels: Sequence[Label | None]) -> None:
        self._root = root
        self._paths = paths
        self._labels = labels

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> FolderItems: ...

    def __getitem__(self, index: int | slice) -> Item | FolderItems:
        if isinstance(index, slice):
            return FolderItems(self._root, self._paths[index], self._labels[index])
        path = self._paths[index]
        return Item(path, self._labels[index], self._root / path)


def with_labels(items: Sequence[Item], labels: Any) -> Sequence[Item]:
    """Return the items with these labels, one each; the items themselves where there are none.

    Raises
    ------
    DatasetError
        They do not fit the images; see ``as_labels``.
    """
    if labels is None:
        return items
    labels = as_labels(labels, [item.id for item in items])
    return [replace(item, label=label) for item, label in zip(items, labels, strict=True)]


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
