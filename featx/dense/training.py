"""How a recipe is trained by Keras, on features and on images alike."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from featx.backend import load_keras
from featx.dense.recipe import CosineDecay, Recipe
from featx.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray


PREDICT_BATCH_SIZE = 1024
"""Samples predicted or tested, not trained on, at a time: how many changes only the time."""


def seed_of(random_state: Any) -> int:
    """Return the seed that a `random_state` stands for, as scikit-learn's estimators take it.

    Parameters
    ----------
    random_state : int, RandomState or None
        An int is the seed itself, a RandomState draws one. None draws another one each time, and
        from the operating system: the global random state is neither read nor changed.

    Raises
    ------
    OptionError
        It is something else, or below 0.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(_DRAWN_SEEDS))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(_DRAWN_SEEDS))
    if not isinstance(random_state, Integral) or random_state < 0:
        raise OptionError(
            f"random_state={random_state!r}: expected a whole number, 0 or more, a RandomState or "
            "None."
        )
    return int(random_state)


# A layer's seed is a thousand times the head's and its position: all of them fit in 32 bits.
_DRAWN_SEEDS = 1 << 20


def split(
    codes: NDArray[Any], fraction: float, seed: int, groups: NDArray[Any] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return ascending positions of the training and the validation samples, class by class.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        The class of each sample.
    fraction : float
        Share of each class that becomes validation, rounded, but at least one sample of a class
        with two or more; a class with a single sample is trained on. 0 for no validation.
    groups : ndarray of int, shape (n,), optional
        Whole groups become validation, of about that share; none where every choice of them would
        leave a class without training samples.
    """
    if groups is not None:
        return _split_groups(codes, fraction, seed, groups)
    random = np.random.default_rng(seed)
    held = [np.empty(0, np.intp)]
    for code in np.unique(codes):
        members = random.permutation(np.flatnonzero(codes == code))
        if fraction > 0 and len(members) > 1:
            count = min(max(1, round(fraction * len(members))), len(members) - 1)
            held.append(members[:count])
    valid = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(codes)), valid), valid


def _split_groups(
    codes: NDArray[Any], fraction: float, seed: int, groups: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    everything, nothing = np.arange(len(codes)), np.empty(0, np.intp)
    parts = min(max(2, round(1 / fraction)) if fraction > 0 else 0, len(np.unique(groups)))
    # It asks for a class with as many samples as there are parts.
    parts = min(parts, int(np.bincount(codes).max()))
    if parts < 2:
        return everything, nothing
    folds = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer samples than parts is expected here.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for trained, held in folds.split(codes, codes, groups):
            if len(held) and len(np.unique(codes[trained])) == len(np.unique(codes)):
                return trained, held
    return everything, nothing


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
) -> dict[str, list[float]]:
    """Compile and fit `model` by `recipe`.

    Parameters
    ----------
    batches, validation
        What `keras.Model.fit` takes; the batches bring their own order and weights.
    optimizer, learning_rate, epochs
        In place of the recipe's.

    Returns
    -------
    dict of str to list of float
        loss, accuracy, seconds, and val_loss, val_accuracy where there is validation; one entry per
        epoch.
    """
    _compile(model, recipe, optimizer, learning_rate)
    history = model.fit(
        batches,
        validation_data=validation,
        epochs=recipe.epochs if epochs is None else epochs,
        callbacks=[*_callbacks(recipe, validation is not None), *callbacks],
        shuffle=False,
        verbose=0,
    )
    return {name: [float(v) for v in values] for name, values in history.history.items()}


def train_on_features(
    model: Any,
    recipe: Recipe,
    training: Sequence[NDArray[Any]],
    validation: Sequence[NDArray[Any]] | None,
    seed: int,
    *,
    test_batch_size: int = PREDICT_BATCH_SIZE,
) -> dict[str, list[float]]:
    """Do the same with features in memory, in another order each epoch.

    Without Keras's `fit`: the threads of its iterators took as long as the steps themselves.

    Parameters
    ----------
    training : (features, codes, weights)
    validation : (features, codes), (features, codes, weights) or None
    seed : int
        Decides the order.
    test_batch_size : int
        Validation samples at a time.
    """
    keras = load_keras()

    _compile(model, recipe)
    callbacks = keras.callbacks.CallbackList(
        _callbacks(recipe, validation is not None), add_history=True, model=model
    )
    random = np.random.default_rng(seed)
    # Keras's `fit` draws one order ahead: so does this, and gives the same weights for a seed.
    random.permutation(len(training[0]))
    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in range(recipe.epochs):
        callbacks.on_epoch_begin(epoch)
        order = random.permutation(len(training[0]))
        logs = _mean(model.train_on_batch, training, order, recipe.batch_size)
        if validation is not None:
            positions = np.arange(len(validation[0]))
            watched = _mean(model.test_on_batch, validation, positions, test_batch_size)
            logs |= {f"val_{name}": value for name, value in watched.items()}
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callbacks.on_train_end()
    return dict(model.history.history)


def _mean(
    step: Any, arrays: Sequence[NDArray[Any]], order: NDArray[np.intp], size: int
) -> dict[str, float]:
    """Return the means over all samples of what `step` returns for each batch of them."""
    means: dict[str, float] = {}
    for begin in range(0, len(order), size):
        batch = order[begin : begin + size]
        found = step(*(array[batch] for array in arrays), return_dict=True)
        for name, value in found.items():
            means[name] = means.get(name, 0.0) + float(value) * len(batch) / len(order)
    return means


def _compile(
    model: Any, recipe: Recipe, optimizer: str | None = None, learning_rate: float | None = None
) -> None:
    keras = load_keras()

    model.compile(
        optimizer=_optimizer(
            optimizer or recipe.optimizer,
            recipe.learning_rate if learning_rate is None else learning_rate,
        ),
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    # All variables are there now. TensorFlow traces a step that makes some of its own once more.
    model.optimizer.build(model.trainable_variables)


def _optimizer(name: str, rate: float | CosineDecay) -> Any:
    keras = load_keras()

    if isinstance(rate, CosineDecay):
        rate = keras.optimizers.schedules.CosineDecay(rate.initial, rate.steps, rate.alpha)
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": rate}})


def _callbacks(recipe: Recipe, watching: bool) -> list[Any]:
    if not watching and recipe.monitor.startswith("val_"):
        return [_clock()]
    return [_clock(), *_stops(recipe)]


class _Clock:
    """The seconds of each epoch, written into its logs."""

    def __init__(self) -> None:
        self._began = 0.0

    def begin(self, epoch: int, logs: dict[str, float] | None) -> None:
        self._began = time.perf_counter()

    def end(self, epoch: int, logs: dict[str, float] | None) -> None:
        if logs is not None:
            logs["seconds"] = time.perf_counter() - self._began


def _clock() -> Any:
    """Return a callback that adds the seconds of each epoch to the history, validation included."""
    keras = load_keras()

    clock = _Clock()
    return keras.callbacks.LambdaCallback(on_epoch_begin=clock.begin, on_epoch_end=clock.end)


def _stops(recipe: Recipe) -> list[Any]:
    """Return the callbacks that look at the recipe's monitor."""
    keras = load_keras()

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
