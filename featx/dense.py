"""Dense layers as data, and a classifier that trains exactly those layers on kept rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Fill = Literal["reflect", "wrap", "constant", "nearest"]


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation; `renorm` is batch renormalisation (Ioffe 2017), 7 numbers a column."""

    momentum: float = 0.99
    epsilon: float = 1e-3
    renorm: bool = False

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.BatchNormalization(
            momentum=self.momentum, epsilon=self.epsilon, renorm=self.renorm, name=name
        )


@dataclass(frozen=True)
class Dense:
    """A dense layer of `units` with an activation by Keras's name; `l2` penalises its kernel."""

    units: int
    activation: str | None = "relu"
    l2: float = 0.0

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import initializers, layers, regularizers

        return layers.Dense(
            self.units,
            activation=self.activation,
            kernel_initializer=initializers.GlorotUniform(seed),
            kernel_regularizer=regularizers.L2(self.l2) if self.l2 else None,
            name=name,
        )


@dataclass(frozen=True)
class Dropout:
    """Drops a share `rate` of the inputs while training."""

    rate: float

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.Dropout(self.rate, seed=seed, name=name)


@dataclass(frozen=True)
class Flatten:
    """One row a picture out of a feature map; rows stay as they are."""

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.Flatten(name=name)


@dataclass(frozen=True)
class GlobalAveragePooling:
    """The mean of a feature map over height and width; rows stay as they are."""

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.GlobalAveragePooling2D(name=name)


Layer = BatchNorm | Dense | Dropout | Flatten | GlobalAveragePooling


@dataclass(frozen=True)
class Flip:
    """Mirrors half of the pictures: horizontal, vertical or horizontal_and_vertical."""

    mode: str = "horizontal"

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.RandomFlip(self.mode, seed=seed, name=name)


@dataclass(frozen=True)
class Rotation:
    """Turns by up to `factor` of a full turn either way (0.2 is 72 degrees)."""

    factor: float
    fill: Fill = "reflect"

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.RandomRotation(self.factor, fill_mode=self.fill, seed=seed, name=name)


@dataclass(frozen=True)
class Shift:
    """Moves by up to this share of the height and of the width either way."""

    height: float
    width: float
    fill: Fill = "reflect"

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.RandomTranslation(
            self.height, self.width, fill_mode=self.fill, seed=seed, name=name
        )


@dataclass(frozen=True)
class Zoom:
    """Zooms in or out by up to this share; height and width together."""

    factor: float
    fill: Fill = "reflect"

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.RandomZoom(self.factor, fill_mode=self.fill, seed=seed, name=name)


@dataclass(frozen=True)
class Shear:
    """Slants by up to this share along x and y (the tangent of the angle)."""

    x: float
    y: float = 0.0
    fill: Fill = "reflect"

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.RandomShear(self.x, self.y, fill_mode=self.fill, seed=seed, name=name)


@dataclass(frozen=True)
class Brightness:
    """Brightens or darkens by up to this share of the range 0-255."""

    factor: float

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.RandomBrightness(self.factor, value_range=(0, 255), seed=seed, name=name)


@dataclass(frozen=True)
class Contrast:
    """Changes the contrast by up to this share."""

    factor: float

    def layer(self, name: str, seed: int) -> Any:
        """Return the Keras layer."""
        from keras import layers

        return layers.RandomContrast(self.factor, value_range=(0, 255), seed=seed, name=name)


Augmentation = Flip | Rotation | Shift | Zoom | Shear | Brightness | Contrast


@dataclass(frozen=True)
class CosineDecay:
    """A learning rate that falls from `initial` to `alpha` x `initial` over `steps` batches."""

    initial: float
    steps: int
    alpha: float = 0.0

    def schedule(self) -> Any:
        """Return the Keras schedule."""
        from keras.optimizers import schedules

        return schedules.CosineDecay(self.initial, self.steps, self.alpha)


@dataclass(frozen=True)
class Recipe:
    """A head and its training as data; the last layer, Dense(n_classes), is implied.

    Parameters
    ----------
    layers : tuple of layers
        Between the features and the last layer.
    from_logits : bool
        True: the last Dense is linear and a softmax follows it; False: it has the softmax itself.
    optimizer : str
        Keras's name: adam, rmsprop, sgd, ...
    learning_rate : float or CosineDecay
    epochs, batch_size : int
    validation_fraction : float
        Share of each class set aside from training (at least one row where a class has two), used
        only to watch and to stop; 0 for none.
    monitor, patience, min_delta, restore_best
        Early stopping as in `keras.callbacks.EarlyStopping`; patience None trains all epochs. A
        monitor that starts with val_ is idle where there is no validation.
    augmentation : tuple of augmentations
        On pictures and while training only: cached rows know none.
    class_weight : None or "balanced"
        "balanced" weighs each row by n / (n_classes * rows of its class).
    image_size : int or None
        Side of the pictures; None takes the backbone's.
    """

    layers: tuple[Layer, ...] = (Dropout(0.2),)
    from_logits: bool = False
    optimizer: str = "adam"
    learning_rate: float | CosineDecay = 1e-3
    epochs: int = 20
    batch_size: int = 32
    validation_fraction: float = 0.1
    monitor: str = "val_loss"
    patience: int | None = 5
    min_delta: float = 0.0
    restore_best: bool = True
    augmentation: tuple[Augmentation, ...] = ()
    class_weight: Literal["balanced"] | None = None
    image_size: int | None = None


ROWS = Recipe(layers=(BatchNorm(), Dropout(0.5)), epochs=100, patience=10)
"""The recipe of `DenseClassifier` where none is given: rows are not standardised, so BatchNorm
comes first, and a high dropout since there are often more columns than rows."""


def attach(recipe: Recipe, tensor: Any, n_classes: int, seed: int = 0) -> Any:
    """Return the probabilities (n, n_classes) that the layers of `recipe` give on `tensor`.

    This is the one place where heads are built: on kept rows, on the network, and for export.

    Parameters
    ----------
    tensor : keras tensor
        Rows (n, dim) or a feature map (n, height, width, channels).
    seed : int
        Seeds every initial weight and dropout; no global random state is read.
    """
    from keras import layers

    for position, spec in enumerate(recipe.layers):
        if isinstance(spec, GlobalAveragePooling) and len(tensor.shape) == 2:
            continue
        name = f"head_{position:02d}_{type(spec).__name__.lower()}"
        tensor = spec.layer(name, seed * 1000 + position)(tensor)
    if len(tensor.shape) > 2:
        raise ValueError(
            f"the recipe leaves a feature map of shape {tuple(tensor.shape[1:])} before the last "
            "layer; add Flatten() or GlobalAveragePooling() to its layers."
        )
    last = Dense(n_classes, None if recipe.from_logits else "softmax")
    tensor = last.layer("head_last", seed * 1000 + len(recipe.layers))(tensor)
    return layers.Softmax(name="probabilities")(tensor) if recipe.from_logits else tensor


def train(
    model: Any,
    recipe: Recipe,
    batches: Any,
    validation: Any = None,
    *,
    epochs: int | None = None,
    learning_rate: float | None = None,
    callbacks: Sequence[Any] = (),
    **options: Any,
) -> dict[str, list[float]]:
    """Compile and fit `model` as `recipe` says; return its history with `seconds` per epoch."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["seconds"] = time.perf_counter() - self.start

    rate = recipe.learning_rate if learning_rate is None else learning_rate
    optimizer = keras.optimizers.get(recipe.optimizer)
    optimizer = type(optimizer)(rate.schedule() if isinstance(rate, CosineDecay) else rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    watching: list[Any] = [Clock()]
    if recipe.patience is not None and (validation is not None or "val_" not in recipe.monitor):
        watching.append(
            keras.callbacks.EarlyStopping(
                monitor=recipe.monitor,
                min_delta=recipe.min_delta,
                patience=recipe.patience,
                restore_best_weights=recipe.restore_best,
            )
        )
    history = model.fit(
        batches,
        validation_data=validation,
        epochs=recipe.epochs if epochs is None else epochs,
        callbacks=[*watching, *callbacks],
        shuffle=False,
        verbose=0,
    )
    return {name: [float(v) for v in values] for name, values in history.history.items()}


def split(
    codes: NDArray[Any], fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices of training and validation rows: a share `fraction` of each class."""
    random = np.random.default_rng(seed)
    held: list[NDArray[np.intp]] = []
    for code in np.unique(codes):
        members = random.permutation(np.flatnonzero(codes == code))
        if fraction > 0 and len(members) > 1:
            held.append(members[: max(1, round(fraction * len(members)))])
    valid = np.sort(np.concatenate(held)) if held else np.empty(0, np.intp)
    return np.setdiff1d(np.arange(len(codes)), valid), valid


def rows_and_labels(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
    """Return X and y as arrays that a head can learn from.

    Raises
    ------
    DatasetError
        If rows hold NaN or infinity (they are named), or if there is one class only.
    """
    X, y = validate_data(
        estimator,
        X,
        y,
        dtype=[np.float64, np.float32],
        ensure_all_finite=False,
        ensure_min_samples=2,
    )
    check_classification_targets(y)
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        shown = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        raise DatasetError(
            f"{len(bad)} of {len(X)} rows hold NaN or infinity (rows {shown}); a head needs finite "
            "numbers. Leave these rows out, or extract these pictures again."
        )
    classes = np.unique(y)
    if len(classes) < 2:
        raise DatasetError(
            f"only one class in y: {classes[0]!r} ({len(y)} rows). A classifier needs rows of two "
            "classes or more: check the folder names or the label column."
        )
    return X, y


class DenseClassifier(ClassifierMixin, BaseEstimator):
    """The layers of a recipe trained on rows by Keras, as a scikit-learn classifier.

    Nothing is scaled beside the layers: what is trained is exactly what the recipe says. A pickle
    holds arrays and the recipe, no Keras object; the model is built again on first use.

    Parameters
    ----------
    recipe : Recipe or None
        None takes `ROWS`.
    seed : int
        Seeds initial weights, dropout, order of batches and the validation split. Global random
        state is neither read nor changed.

    Attributes
    ----------
    weights_ : list of ndarray
        In the order of `keras.Model.get_weights`.
    history_ : dict of str to list of float
        loss, accuracy, seconds, and val_loss, val_accuracy where rows were set aside; an entry an
        epoch.
    n_epochs_ : int
        Epochs trained.
    """

    def __init__(self, recipe: Recipe | None = None, seed: int = 0) -> None:
        self.recipe = recipe
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> DenseClassifier:
        """Train the layers on rows X (n, dim) with labels y (n,) of any kind."""
        X, y = rows_and_labels(self, X, y)
        recipe = self.recipe or ROWS
        self.classes_, codes = np.unique(y, return_inverse=True)
        X = X.astype(np.float32, copy=False)
        fit_rows, held = split(codes, recipe.validation_fraction, self.seed)
        weights = compute_sample_weight(recipe.class_weight, codes).astype(np.float32)
        self._model = self._built()
        batches = _shuffled(
            (X[fit_rows], codes[fit_rows], weights[fit_rows]), recipe.batch_size, self.seed
        )
        validation = (X[held], codes[held], weights[held]) if len(held) else None
        self.history_ = train(self._model, recipe, batches, validation)
        self.n_epochs_ = len(self.history_["loss"])
        self.weights_ = self._model.get_weights()
        return self

    def _built(self) -> Any:
        import keras

        inputs = keras.Input((self.n_features_in_,))
        outputs = attach(self.recipe or ROWS, inputs, len(self.classes_), self.seed)
        return keras.Model(inputs, outputs)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return probabilities (n, n_classes), columns in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32)
        if getattr(self, "_model", None) is None:
            self._model = self._built()
            self._model.set_weights(self.weights_)
        return self._model.predict(X, batch_size=1024, verbose=0)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each row, (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_model"}


def _shuffled(arrays: tuple[NDArray[Any], ...], size: int, seed: int) -> Any:
    """Return a keras.utils.PyDataset of batches, in another order each epoch."""
    import keras

    class Batches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__()
            self.random = np.random.default_rng(seed)
            self.on_epoch_end()

        def __len__(self) -> int:
            return -(-len(arrays[0]) // size)

        def __getitem__(self, position: int) -> tuple[NDArray[Any], ...]:
            rows = self.order[position * size : (position + 1) * size]
            return tuple(array[rows] for array in arrays)

        def on_epoch_end(self) -> None:
            self.order = self.random.permutation(len(arrays[0]))

    return Batches()
