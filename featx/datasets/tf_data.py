"""A tf.data.Dataset as items, one at a time, and batches as a tf.data.Dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from featx.backend import check_backend
from featx.datasets.items import Item, as_pixels, with_labels
from featx.errors import DatasetError, EmptyDatasetError


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

    def __iter__(self) -> Iterator[Item]:
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
        if self._names is not None and np.ndim(label) == 0 and np.asarray(label).dtype.kind in "iu":
            return self._names[int(label)]
        return label
