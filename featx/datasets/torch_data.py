"""Data sets of PyTorch: the files of torchvision's folders, and the images that others give."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from featx.datasets.items import Item, as_pixels, with_labels
from featx.errors import DatasetError, EmptyDatasetError, InputRangeError

logger = logging.getLogger(__name__)


def is_one(source: Any) -> bool:
    """Return whether a source is one of PyTorch's; it is not imported for it."""
    return any(
        one.__module__.startswith("torch.utils.data") and one.__name__ in ("Dataset", "DataLoader")
        for one in type(source).__mro__
    )


def files_of(source: Any) -> tuple[list[Item], Path] | None:
    """Return the files of a torchvision ``ImageFolder``, or of a part of one; None for others.

    Its transforms are left out: a network gets its images as it was trained.

    Returns
    -------
    items : list of Item
    root : Path
        What the ids are relative to.
    """
    positions = None
    while type(source).__name__ == "Subset" and hasattr(source, "indices"):
        taken = list(source.indices)
        positions = taken if positions is None else [taken[i] for i in positions]
        source = source.dataset
    samples, classes = getattr(source, "samples", None), getattr(source, "classes", None)
    root = getattr(source, "root", None)
    if not samples or classes is None or root is None or not isinstance(samples[0][0], str):
        return None
    if getattr(source, "transform", None) is not None:
        logger.warning(
            "the transform of the %s is left out: featx prepares images as the network needs them",
            type(source).__name__,
        )
    chosen = samples if positions is None else [samples[int(i)] for i in positions]
    base = Path(root)
    items = [
        Item(Path(path).relative_to(base).as_posix(), classes[number], Path(path))
        for path, number in chosen
    ]
    return items, base


class TorchStream:
    """The items of any other data set or loader of PyTorch, one at a time."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._names = getattr(source, "classes", None)
        if self._names is None:
            self._names = getattr(getattr(source, "dataset", None), "classes", None)

    def __iter__(self) -> Iterator[Item]:
        number = 0
        for element in self._elements():
            images, label = element if isinstance(element, tuple | list) else (element, None)
            if getattr(images, "ndim", 0) == 4:  # a batch of a loader
                images = list(images)
                labels = [None] * len(images) if label is None else list(label)
            else:
                images, labels = [images], [label]
            for image, one in zip(images, labels, strict=True):
                item = Item(str(number), None, _source(image, number))
                yield item if one is None else with_labels([item], [self._label(one)])[0]
                number += 1
        if not number:
            raise EmptyDatasetError(f"the {type(self._source).__name__} gave no image.")

    def _elements(self) -> Iterator[Any]:
        loader = hasattr(self._source, "batch_size") or not hasattr(self._source, "__getitem__")
        every = self._source if loader else (self._source[i] for i in range(len(self._source)))
        for element in every:
            if isinstance(element, dict) or (
                isinstance(element, tuple | list) and len(element) != 2
            ):
                raise DatasetError(
                    f"the {type(self._source).__name__} gives {_kind(element)}; expected (image, "
                    "label) or an image: wrap it in one that gives these."
                )
            yield element

    def _label(self, label: Any) -> Any:
        value = label.item() if hasattr(label, "item") and np.ndim(label) == 0 else label
        if self._names is not None and isinstance(value, int):
            return self._names[value]
        return value


def _kind(element: Any) -> str:
    parts = f" of {len(element)} parts" if isinstance(element, tuple | list) else ""
    return f"a {type(element).__name__}{parts}"


def _source(image: Any, number: int) -> Any:
    """Return a PIL image as it is, a tensor as RGB pixels 0-255: (3, height, width) by PyTorch."""
    if hasattr(image, "getexif"):
        return image
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, -1)
    if pixels.dtype.kind == "f":
        # By torchvision's convention (ToTensor, ToDtype) floating-point images are 0 to 1.
        if pixels.size and not 0 <= pixels.min() <= pixels.max() <= 1:
            raise InputRangeError(
                f"image {number} holds numbers from {pixels.min():g} to {pixels.max():g}; expected "
                "0 to 1, as ToTensor gives them. Leave Normalize out: featx scales images as each "
                "network needs."
            )
        pixels = np.rint(255 * pixels).astype(np.uint8)
    return as_pixels(pixels, ndim=3)
