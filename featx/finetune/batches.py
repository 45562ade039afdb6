"""Labelled images as Keras trains on them: classes, and batches decoded ahead in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from featx.backend import load_keras
from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.errors import DatasetError, Failure, ImageError, UnusableImagesError
from featx.images import decoding
from featx.images.preparation import AS_EVER, Preparation
from featx.labels import class_order, labels_of, positions_in

AHEAD = 4
"""Batches that are decoded before they are needed."""


def classes_and_codes(images: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes in their order, and the position of each image's class among them."""
    labels = labels_of(images.labels)
    classes = np.array(class_order(labels.tolist()), labels.dtype)
    codes = positions_in(classes, labels)
    if len(classes) < 2:
        raise DatasetError(
            f"only one class: {classes[0]!r} ({len(labels)} images). A classifier needs images "
            "of two classes or more: check the folder names or the label column."
        )
    return classes, codes


def known_codes(images: Dataset, classes: np.ndarray) -> np.ndarray:
    """Return the position of each image's class among those of the training."""
    labels = labels_of(images.labels)
    codes = positions_in(classes, labels)
    if unknown := class_order(labels[codes < 0].tolist()):
        raise DatasetError(
            f"validation has classes that training does not have: "
            f"{', '.join(map(str, unknown))}. Training has {', '.join(map(str, classes))}."
        )
    return codes


@contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Give one decoding thread per core, and end them all with the body."""
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1), thread_name_prefix="featx-decode")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class ImageBatches:
    """Batches of images (size, side, side, 3) uint8 and their targets, decoded ahead in threads.

    Parameters
    ----------
    targets : sequence of ndarray of shape (n,)
        Classes, and perhaps weights, in the order of the images.
    seed : int, optional
        Seeds another order each epoch; the order of the dataset unless given.
    how : Preparation, optional
        How they are decoded and resized.

    Attributes
    ----------
    failed : bool
        Whether an image could not be decoded.
    """

    def __init__(
        self,
        images: Dataset,
        side: int,
        size: int,
        pool: ThreadPoolExecutor,
        *,
        targets: Sequence[np.ndarray] = (),
        seed: int | None = None,
        how: Preparation = AS_EVER,
    ) -> None:
        self.images = images
        self.side = side
        self.size = size
        self.targets = targets
        self.failed = False
        self._pool = pool
        self._how = how
        self._random = None if seed is None else np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.images) // self.size)

    def __getitem__(self, position: int) -> tuple[np.ndarray, ...]:
        return self._batch(self._epoch, position)

    def on_epoch_end(self) -> None:
        """Begin the next epoch, in an order of its own."""
        count = len(self.images)
        order = np.arange(count) if self._random is None else self._random.permutation(count)
        positions = [order[i : i + self.size] for i in range(0, count, self.size)]
        self._epoch = _Epoch(positions, self._decode)

    def epoch(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the batches of the present epoch, and begin the next one."""
        epoch = self._epoch  # its own: an iterator that ends may still look ahead
        self.on_epoch_end()
        for position in range(len(self)):
            yield self._batch(epoch, position)

    def stream(self) -> Any:
        """Return what Keras's `fit` and `predict` are to take."""
        keras = load_keras()

        if keras.backend.backend() != "tensorflow":
            from featx.finetune.py_dataset import PyBatches

            return PyBatches(self)
        # Keras draws one order ahead where it is given a PyDataset: so does this, and trains the
        # same weights for a seed.
        self.on_epoch_end()
        shapes = [(None, self.side, self.side, 3), *((None,) for _ in self.targets)]
        dtypes = [np.uint8, *(target.dtype for target in self.targets)]
        return without_autotuner(self.epoch, len(self), shapes, dtypes)

    def _decode(self, position: int) -> Future[np.ndarray]:
        source = self.images.items[position].source
        return self._pool.submit(decoding.load, source, self.side, how=self._how)

    def _batch(self, epoch: _Epoch, position: int) -> tuple[np.ndarray, ...]:
        try:
            decoded = epoch.images(position)
        except ImageError:
            self.failed = True
            raise
        return (decoded, *(target[epoch.positions[position]] for target in self.targets))


class _Epoch:
    """The batches of one epoch, some of them decoded ahead."""

    def __init__(
        self, positions: Sequence[np.ndarray], decode: Callable[[int], Future[np.ndarray]]
    ) -> None:
        self.positions = positions
        self._decode = decode
        self._begun: dict[int, list[Future[np.ndarray]]] = {}

    def images(self, position: int) -> np.ndarray:
        """Return the decoded images of a batch, once."""
        for ahead in range(position, min(position + AHEAD, len(self.positions))):
            if ahead not in self._begun:
                self._begun[ahead] = [self._decode(i) for i in self.positions[ahead]]
        return np.stack([future.result() for future in self._begun.pop(position)])


@contextmanager
def bad_images_named(pool: ThreadPoolExecutor, *many: ImageBatches) -> Iterator[None]:
    """Name all bad images of these batches if one of them ends the body.

    Keras shows the first one only, inside an error of its backend. Decoding all of them before
    the training would cost every user an epoch's decoding; here it costs only those with a bad one.
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
