"""How a recipe is trained by Keras, on rows and on pictures alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.dense.recipe import CosineDecay, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


ASKED = 1024
"""Rows asked, not trained on, at a time: how many changes nothing but the time."""


def split(
    codes: NDArray[Any], fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return ascending positions of training and of validation rows, class by class.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        The class of each row.
    fraction : float
        Share of each class that becomes validation, rounded, but at least one row of a class with
        two or more; a class with one row is trained on. 0 for no validation.
    """
    random = np.random.default_rng(seed)
    held = [np.empty(0, np.intp)]
    for code in np.unique(codes):
        members = random.permutation(np.flatnonzero(codes == code))
        if fraction > 0 and len(members) > 1:
            count = min(max(1, round(fraction * len(members))), len(members) - 1)
            held.append(members[:count])
    valid = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(codes)), valid), valid


def train(
    model: Any,
    recipe: Recipe,
    batches: Any,
    validation: Any = None,
    *,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    epochs: int | None = None,
    callbacks: Sequence[Any] = (),
    steps_per_execution: int = 1,
) -> dict[str, list[float]]:
    """Compile and fit `model` by `recipe`.

    Parameters
    ----------
    batches
        What `keras.Model.fit` takes; they bring their own order and weights.
    validation
        The same, or rows and codes as a pair of arrays.
    optimizer, learning_rate, epochs
        In place of the recipe's.

    Returns
    -------
    dict of str to list of float
        loss, accuracy, seconds, and val_loss, val_accuracy where there is validation; an entry an
        epoch.
    """
    import keras

    model.compile(
        optimizer=_optimizer(
            optimizer or recipe.optimizer,
            recipe.learning_rate if learning_rate is None else learning_rate,
        ),
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        steps_per_execution=steps_per_execution,
    )
    # All variables are there now. TensorFlow traces a step that makes some of its own once more.
    model.optimizer.build(model.trainable_variables)
    watching = validation is not None or not recipe.monitor.startswith("val_")
    rows = isinstance(validation, tuple)
    history = model.fit(
        batches,
        validation_data=None if rows else validation,
        epochs=recipe.epochs if epochs is None else epochs,
        callbacks=[
            *([_watch(*validation)] if rows else ()),
            _clock(),
            *(_stops(recipe) if watching else ()),
            *callbacks,
        ],
        shuffle=False,
        verbose=0,
    )
    return {name: [float(v) for v in values] for name, values in history.history.items()}


def _optimizer(name: str, rate: float | CosineDecay) -> Any:
    import keras

    if isinstance(rate, CosineDecay):
        rate = keras.optimizers.schedules.CosineDecay(rate.initial, rate.steps, rate.alpha)
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": rate}})


def _watch(rows: NDArray[Any], codes: NDArray[Any]) -> Any:
    """Return a callback that adds what `fit` says of validation rows, and makes no iterators.

    Those of TensorFlow took 25 ms an epoch, a quarter of it with some hundred rows.
    """
    import keras

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            assert logs is not None
            for begin in range(0, len(rows), ASKED):
                part = slice(begin, begin + ASKED)
                found = self.model.test_on_batch(rows[part], codes[part], return_dict=True)
                share = len(codes[part]) / len(codes)
                for name, value in found.items():
                    logs[f"val_{name}"] = logs.get(f"val_{name}", 0.0) + share * float(value)

    return Watch()


def _clock() -> Any:
    """Return a callback that adds the seconds of each epoch to the history, validation included."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            if logs is not None:
                logs["seconds"] = time.perf_counter() - self.start

    return Clock()


def _stops(recipe: Recipe) -> list[Any]:
    """Return the callbacks that look at the recipe's monitor."""
    import keras

    callbacks: list[Any] = []
    if recipe.patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor=recipe.monitor,
                min_delta=recipe.min_delta,
                patience=recipe.patience,
                restore_best_weights=recipe.restore_best,
            )
        )
    if recipe.reduce_on_plateau is not None:
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor=recipe.monitor,
                factor=recipe.reduce_on_plateau.factor,
                patience=recipe.reduce_on_plateau.patience,
                min_lr=recipe.reduce_on_plateau.min_learning_rate,
            )
        )
    return callbacks
