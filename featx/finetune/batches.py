"""Labelled images as Keras trains on them: classes, and batches decoded ahead in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.errors import BadImagesError, DatasetError, Failure, ImageError
from featx.images import decoding

AHEAD = 4
"""Batches that are decoded before they are asked for."""


class UnusableImagesError(BadImagesError):
    """Some images cannot be decoded, so that they can be neither trained on nor classified."""

    remedy = "Mend or remove these files, or give a dataset without them (Dataset.subset)."


def labels_of(images: Dataset) -> np.ndarray:
    """Return the label of each image, (n,), or raise DatasetError where there are none."""
    labels = images.labels
    if labels is None:
        raise DatasetError(
            "the images have no labels. Expected a folder with a sub-folder a class, a table "
            "with a label column, or y."
        )
    return labels


def classes_and_codes(images: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted class names, and the position of each image's class among them."""
    labels = labels_of(images)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DatasetError(
            f"only one class: {classes[0]!r} ({len(labels)} images). A classifier needs images "
            "of two classes or more: check the folder names or the label column."
        )
    return classes, codes


def known_codes(images: Dataset, classes: np.ndarray) -> np.ndarray:
    """Return the position of each image's class among those of the training."""
    labels = labels_of(images)
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DatasetError(
            f"validation has classes that training has not: {', '.join(unknown)}. Training has "
            f"{', '.join(classes)}."
        )
    return np.searchsorted(classes, labels)


@contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Give one decoding thread a core, and end them all with the body."""
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1), thread_name_prefix="featx-decode")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def batches_of(
    images: Dataset,
    side: int,
    size: int,
    pool: ThreadPoolExecutor,
    *,
    targets: Sequence[np.ndarray] = (),
    seed: int | None = None,
    scaled: bool = False,
) -> Any:
    """Return batches for Keras, of images (size, side, side, 3) uint8 and their targets.

    A `keras.utils.PyDataset`; its method `stream` gives what `fit` and `predict` are to take.

    Parameters
    ----------
    targets : sequence of ndarray of shape (n,)
        Classes, and perhaps weights, in the order of the images.
    seed : int, optional
        Seeds another order each epoch; the order of the dataset unless given.
    scaled : bool, default=False
        Whether the JPEG decoder makes large images smaller.
    """
    import keras

    items = images.items

    def begin(position: int) -> Future[np.ndarray]:
        return pool.submit(decoding.load, items[position].source, side, scaled=scaled)

    class ImageBatches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__()
            self.images, self.failed = images, False
            self.random = None if seed is None else np.random.default_rng(seed)
            self.on_epoch_end()

        def on_epoch_end(self) -> None:
            count = len(items)
            order = np.arange(count) if self.random is None else self.random.permutation(count)
            self.begun = _Epoch([order[i : i + size] for i in range(0, count, size)], begin)

        def __len__(self) -> int:
            return -(-len(items) // size)

        def __getitem__(self, position: int) -> Any:
            return self._batch(self.begun, position)

        def _batch(self, epoch: _Epoch, position: int) -> Any:
            try:
                decoded = epoch.images(position)
            except ImageError:
                self.failed = True
                raise
            return (decoded, *(target[epoch.rows[position]] for target in targets))

        def epoch(self) -> Iterator[Any]:
            begun = self.begun  # this epoch's own: an iterator that ends may still look ahead
            self.on_epoch_end()
            for position in range(len(self)):
                yield self._batch(begun, position)

        def stream(self) -> Any:
            if keras.backend.backend() != "tensorflow":
                return self
            # Keras draws one order ahead where it is given `self`: so does this, and trains the
            # same weights for a seed.
            self.on_epoch_end()
            shapes = [(None, side, side, 3), *((None,) for _ in targets)]
            dtypes = [np.uint8, *(target.dtype for target in targets)]
            return without_autotuner(self.epoch, len(self), shapes, dtypes)

    return ImageBatches()


class _Epoch:
    """The batches of one epoch, some of them decoded ahead."""

    def __init__(
        self, rows: Sequence[np.ndarray], begin: Callable[[int], Future[np.ndarray]]
    ) -> None:
        self.rows = rows
        self._begin = begin
        self._begun: dict[int, list[Future[np.ndarray]]] = {}

    def images(self, position: int) -> np.ndarray:
        """Return the decoded images of a batch, once."""
        for ahead in range(position, min(position + AHEAD, len(self.rows))):
            if ahead not in self._begun:
                self._begun[ahead] = [self._begin(i) for i in self.rows[ahead]]
        return np.stack([future.result() for future in self._begun.pop(position)])


@contextmanager
def bad_images_named(pool: ThreadPoolExecutor, *many: Any) -> Iterator[None]:
    """Name all bad images of these batches if one of them ends the body.

    Keras shows the first one only, inside an error of its backend. Decoding all of them before
    the training would cost every user an epoch's decoding; here it costs whoever has a bad one.
    """
    try:
        yield
    except Exception as error:
        if not any(batches.failed for batches in many):
            raise
        items = [item for batches in many for item in batches.images.items]
        found = [failure for failure in pool.map(_failure, items) if failure is not None]
        raise UnusableImagesError(found, len(items)) from error


def _failure(item: Item) -> Failure | None:
    try:
        decoding.load(item.source, 32)
    except ImageError as error:
        return Failure(item.id, type(error).__name__, str(error))
    return None


def without_autotuner(
    epoch: Callable[[], Iterator[Any]], length: int, shapes: Sequence[Any], dtypes: Sequence[Any]
) -> Any:
    """Return the `length` batches that each call of `epoch` yields, as a `tf.data.Dataset`.

    With the autotuner that Keras's own data sets have, TensorFlow 2.21 stood still after many an
    epoch, for up to as long as it had taken: an iterator that ends waits for the autotuner's
    thread, which may miss the call to end. The worker threads of Keras's `PyDataset` do without
    it, but on other backends they served some images twice and others never.
    """
    import tensorflow as tf

    made = tf.data.Dataset.from_generator(
        epoch, output_signature=tuple(map(tf.TensorSpec, shapes, dtypes))
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    counted = made.apply(tf.data.experimental.assert_cardinality(length))
    return counted.prefetch(1).with_options(options)
