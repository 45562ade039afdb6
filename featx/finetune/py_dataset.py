"""Batches of images as a `keras.utils.PyDataset`; imported only where Keras is used already."""

from __future__ import annotations

from typing import Any, Protocol

import keras


class Batches(Protocol):
    """What `ImageBatches` offers, which imports this module."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Any: ...

    def on_epoch_end(self) -> None: ...  # noqa: D102 - documented at ImageBatches


class PyBatches(keras.utils.PyDataset):
    """The batches of `ImageBatches`, served by Keras itself."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, position: int) -> Any:
        return self._batches[position]

    def on_epoch_end(self) -> None:
        """Begin the next epoch."""
        self._batches.on_epoch_end()
