"""A tf.data.Dataset as items, one at a time, and batches as a tf.data.Dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from featx.backend import check_backend
from featx.datasets.items import Item, as_pixels, with_labels
from featx.errors import DatasetError, EmptyDatasetError
from featx.images.content_hash import of_content

# tf.data.INFINITE_CARDINALITY.
_INFINITE = -1
# A stream is without an end once so many contents come again in the same order.
_REPEATED = 1000


class Stream:
    """The items of a tf.data.Dataset; TensorFlow itself is not named here."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._names = getattr(stream, "class_names", None)
        spec = stream.element_spec
        self._has_label = isinstance(spec, tuple | list)
        if self._has_label and len(spec) != 2:
            raise DatasetError(
                f"a tf.data.Dataset of {len(spec)} parts; expected (image, label) or images."
            )
        shape = (spec[0] if self._has_label else spec).shape
        if shape.rank not in (3, 4):
            raise DatasetError(
                f"a tf.data.Dataset of shape {shape}; expected images of (height, width, 3), "
                "batched or not."
            )
        self._batched = shape.rank == 4
        length = int(stream.cardinality())
        self._ends = length >= 0
        if length == _INFINITE:
            raise DatasetError(
                "the tf.data.Dataset has no end: its cardinality is infinite, as after repeat(). "
                "featx computes each image once: leave repeat() out, or bound it with take(n)."
            )

    def __iter__(self) -> Iterator[Item]:
        return self._read() if self._ends else not_endless(self._read())

    def _read(self) -> Iterator[Item]:
        check_backend()
        number = 0
        high = 0.0
        for element in self._stream.as_numpy_iterator():
            images, labels = element if self._has_label else (element, None)
            if not self._batched:
                images, labels = images[None], None if labels is None else [labels]
            high = max(high, float(images.max(initial=0)))
            # One dark image may lie below 1; a whole stream that does was divided by 255.
            dark = images.dtype.kind == "f" and high > 1 >= images.max(initial=0)
            pixels = np.rint(images).astype(np.uint8) if dark else as_pixels(images, ndim=4)
            items: Iterable[Item] = [
                Item(str(number + i), None, image) for i, image in enumerate(pixels)
            ]
            if labels is not None:
                items = with_labels(list(items), [self._label(label) for label in labels])
            yield from items
            number += len(pixels)
        if not number:
            raise EmptyDatasetError("the tf.data.Dataset gave no image.")

    def _label(self, label: Any) -> Any:
        """Return one label: a class name where the stream has them, else what came.

        Keras gives whole numbers (label_mode="int"), one 0.0 or 1.0 in an array ("binary"), or
        one-hot rows ("categorical").
        """
        value = np.asarray(label)
        if value.ndim == 1 and value.dtype.kind in "iuf":
            value = _position(value)
        if self._names is not None and value.ndim == 0 and value.dtype.kind in "iu":
            return self._names[int(value)]
        return value[()] if value.ndim == 0 else label


def _position(values: np.ndarray) -> np.ndarray:
    """Return the class that Keras's binary or one-hot values stand for; others as they are."""
    if values.shape == (1,) and values[0] in (0, 1):
        return np.asarray(int(values[0]))
    if len(values) > 1 and np.isin(values, (0, 1)).all() and values.sum() == 1:
        return np.asarray(values.argmax())
    return values


def not_endless(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items of a stream, and stop with an error where it begins again and again.

    Raises
    ------
    DatasetError
        The first 1,000 contents came again in the same order.
    """
    first: list[Any] = []
    # Knuth, Morris & Pratt 1977: for each content, how many of the first ones end with it.
    borders: list[int] = []
    matched = 0
    for number, item in enumerate(items):
        yield item
        source = item.source
        content = of_content(source) if isinstance(source, bytes | np.ndarray) else source
        while matched and (matched == len(first) or content != first[matched]):
            matched = borders[matched - 1]
        if number and content == first[matched]:
            matched += 1
        if len(first) < _REPEATED:
            first.append(content)
            borders.append(matched)
        elif matched == _REPEATED and len(set(first)) > 1:
            raise DatasetError(
                f"the stream has no end: after {number + 1 - _REPEATED:,} images its first "
                f"{_REPEATED:,} came again in the same order. featx computes each image once: "
                "leave repeat() out, or bound it with take(n)."
            )
