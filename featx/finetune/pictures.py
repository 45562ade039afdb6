"""Labelled pictures as Keras trains on them: classes, and batches decoded ahead in threads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from featx import images
from featx.datasets import Dataset, Item
from featx.errors import BadImagesError, DatasetError, Failure, ImageError

AHEAD = 4
"""Batches that are decoded before they are asked for."""


class UnusableImagesError(BadImagesError):
    """Some pictures cannot be decoded, so that they can be neither trained on nor classified."""

    remedy = "Mend or remove these files, or give a dataset without them (Dataset.subset)."


def labels_of(pictures: Dataset) -> np.ndarray:
    """Return the label of each picture, (n,), or raise DatasetError where there are none."""
    labels = pictures.labels
    if labels is None:
        raise DatasetError(
            "the pictures have no labels. Expected a folder with a sub-folder a class, a table "
            "with a label column, or y."
        )
    return labels


def classes_and_codes(pictures: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted class names, and the position of each picture's class among them."""
    labels = labels_of(pictures)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DatasetError(
            f"only one class: {classes[0]!r} ({len(labels)} pictures). A classifier needs pictures "
            "of two classes or more: check the folder names or the label column."
        )
    return classes, codes


def known_codes(pictures: Dataset, classes: np.ndarray) -> np.ndarray:
    """Return the position of each picture's class among those of the training."""
    labels = labels_of(pictures)
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DatasetError(
            f"validation has classes that training has not: {', '.join(unknown)}. Training has "
            f"{', '.join(classes)}."
        )
    return np.searchsorted(classes, labels)


def batches_of(
    pictures: Dataset,
    side: int,
    size: int,
    *,
    targets: Sequence[np.ndarray] = (),
    seed: int | None = None,
    scaled: bool = False,
) -> Any:
    """Return a `keras.utils.PyDataset` of pictures (size, side, side, 3) uint8 and their targets.

    Parameters
    ----------
    targets : sequence of ndarray of shape (n,)
        Classes, and perhaps weights, in the order of the pictures.
    seed : int, optional
        Seeds another order each epoch; the order of the dataset unless given.
    scaled : bool, default=False
        Whether the JPEG decoder makes large pictures smaller.
    """
    import keras

    items = pictures.items

    class PictureBatches(keras.utils.PyDataset):
        def __init__(self) -> None:
            # Two threads or more: with one, Keras leaves the work to tf.data's autotuner, which
            # held the end of every other epoch for up to as long as the epoch had taken.
            super().__init__(workers=max(2, min(16, os.cpu_count() or 1)), max_queue_size=AHEAD)
            self.pictures, self.failed = pictures, False
            self.random = None if seed is None else np.random.default_rng(seed)
            self.on_epoch_end()

        def __len__(self) -> int:
            return -(-len(items) // size)

        def __getitem__(self, position: int) -> Any:
            rows = self.order[position * size : (position + 1) * size]
            try:
                decoded = [images.load(items[i].source, side, scaled=scaled) for i in rows]
            except ImageError:
                self.failed = True
                raise
            return (np.stack(decoded), *(target[rows] for target in targets))

        def on_epoch_end(self) -> None:
            self.order = np.arange(len(items))
            if self.random is not None:
                self.order = self.random.permutation(len(items))

    return PictureBatches()


@contextmanager
def bad_pictures_named(*many: Any) -> Iterator[None]:
    """Name all bad pictures of these batches if one of them ends the body.

    Keras shows the first one only, inside an error of its backend. Decoding all of them before
    the training would cost every user an epoch's decoding; here it costs whoever has a bad one.
    """
    try:
        yield
    except Exception as error:
        if not any(batches.failed for batches in many):
            raise
        items = [item for batches in many for item in batches.pictures.items]
        with ThreadPoolExecutor(thread_name_prefix="featx-decode") as pool:
            found = [failure for failure in pool.map(_failure, items) if failure is not None]
        raise UnusableImagesError(found, len(items)) from error


def _failure(item: Item) -> Failure | None:
    try:
        images.load(item.source, 32)
    except ImageError as error:
        return Failure(item.id, type(error).__name__, str(error))
    return None
