"""A head and its training as data: layers, augmentation, learning rate, stopping."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from featx.backend import load_keras
from featx.errors import OptionError

Fill = Literal["reflect", "wrap", "constant", "nearest"]


@dataclass(frozen=True)
class Layer:
    """A Keras layer as data: the fields are arguments of the Keras layer, by its own names."""

    keras_name: ClassVar[str]
    seeded: ClassVar[bool] = False

    def build(self, name: str, seed: int) -> Any:
        """Return the Keras layer under this name; `seed` is the only source of its chance."""
        keras = load_keras()

        return getattr(keras.layers, self.keras_name)(name=name, **self.options(seed))

    def options(self, seed: int) -> dict[str, Any]:
        """Return the arguments of the Keras layer."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**options, "seed": seed} if self.seeded else options


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation, 4 numbers per feature; 7 with `renorm` (Ioffe, arXiv 1702.03275)."""

    keras_name = "BatchNormalization"
    momentum: float = 0.99
    epsilon: float = 1e-3
    renorm: bool = False


@dataclass(frozen=True)
class Dense(Layer):
    """A dense layer of `units`, an activation by Keras's name, and an L2 penalty on the kernel."""

    keras_name = "Dense"
    units: int
    activation: str | None = "relu"
    l2: float = 0.0

    def options(self, seed: int) -> dict[str, Any]:
        """Return the arguments of the Keras layer; it starts as Keras starts it, but seeded."""
        from keras import initializers, regularizers

        return {
            "units": self.units,
            "activation": self.activation,
            "kernel_initializer": initializers.GlorotUniform(seed),
            "kernel_regularizer": regularizers.L2(self.l2) if self.l2 else None,
        }


@dataclass(frozen=True)
class Dropout(Layer):
    """Drops a share `rate` of the inputs while training, 0 <= rate < 1."""

    keras_name = "Dropout"
    seeded = True
    rate: float


@dataclass(frozen=True)
class Flatten(Layer):
    """One vector per image out of a feature map; embeddings stay as they are."""

    keras_name = "Flatten"


@dataclass(frozen=True)
class GlobalAveragePooling(Layer):
    """The mean of a feature map over height and width; embeddings stay as they are."""

    keras_name = "GlobalAveragePooling2D"


@dataclass(frozen=True)
class Augmentation(Layer):
    """A random change of images (RGB 0-255), made while training only."""

    seeded = True


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors at random: "horizontal", "vertical" or "horizontal_and_vertical"."""

    keras_name = "RandomFlip"
    mode: str = "horizontal"


@dataclass(frozen=True)
class Rotation(Augmentation):
    """Turns by up to `factor` of a full turn either way: 0.2 is 72 degrees."""

    keras_name = "RandomRotation"
    factor: float
    fill_mode: Fill = "reflect"


@dataclass(frozen=True)
class Shift(Augmentation):
    """Moves by up to these shares of the height and of the width, either way."""

    keras_name = "RandomTranslation"
    height_factor: float
    width_factor: float
    fill_mode: Fill = "reflect"


@dataclass(frozen=True)
class Zoom(Augmentation):
    """Zooms out or in by up to this share, width and height together."""

    keras_name = "RandomZoom"
    height_factor: float
    fill_mode: Fill = "reflect"


@dataclass(frozen=True)
class Shear(Augmentation):
    """Slants by up to these shares along x and y: tangents of the angles, 0 to 1."""

    keras_name = "RandomShear"
    x_factor: float
    y_factor: float = 0.0
    fill_mode: Fill = "reflect"


@dataclass(frozen=True)
class Brightness(Augmentation):
    """Brightens or darkens by up to this share of the range 0-255."""

    keras_name = "RandomBrightness"
    factor: float


@dataclass(frozen=True)
class Contrast(Augmentation):
    """Raises or lowers the contrast by up to this share."""

    keras_name = "RandomContrast"
    factor: float

    def options(self, seed: int) -> dict[str, Any]:
        """Return the arguments of the Keras layer, pixels being 0-255."""
        return {**super().options(seed), "value_range": (0, 255)}


OPTIMIZERS = (
    "adam", "adamw", "sgd", "rmsprop", "nadam", "adamax", "adagrad", "adadelta", "adafactor",
    "ftrl", "lion",
)  # fmt: skip
"""What `Recipe.optimizer` may be: the optimisers of Keras 3.15, known without importing Keras."""


@dataclass(frozen=True)
class CosineDecay:
    """A learning rate falling from `initial` to `alpha` x `initial` in `steps` batches."""

    initial: float
    steps: int
    alpha: float = 0.0


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Multiplies the learning rate by `factor` after `patience` epochs without a better monitor."""

    factor: float = 0.1
    patience: int = 10
    min_learning_rate: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """A head and its training as data; the last layer, one unit per class, is implied.

    Parameters
    ----------
    layers : tuple of layers
        Between the features and the last layer.
    from_logits : bool
        True: the last dense layer is linear and a softmax layer follows; False: the softmax is its
        activation. The parameters are the same.
    optimizer : str
        One of `OPTIMIZERS`, Keras's names: "adam", "rmsprop", "sgd", ...
    learning_rate : float or CosineDecay
        Above 0.
    epochs, batch_size : int
        1 or more; `epochs` is the most that are trained.
    validation_fraction : float
        Share of each class held out of training (at least one sample where a class has two) to
        watch it and to stop it, 0 <= share < 1.
    monitor, patience, min_delta, restore_best
        Early stopping as in `keras.callbacks.EarlyStopping`, the monitor one of loss, accuracy,
        val_loss, val_accuracy. `patience=None` trains all epochs, and so does a `val_` monitor
        without validation samples.
    reduce_on_plateau : ReduceOnPlateau or None
        Lowers the learning rate by the same monitor.
    augmentation : tuple of augmentations
        For images (`FineTuned`); cached features know none.
    class_weight : None or "balanced"
        "balanced" weighs a training sample by n / (n_classes * samples of its class).
    image_size : int or None
        Side of the images (`FineTuned`); None takes the backbone's.

    Raises
    ------
    OptionError
        A field is outside its range.
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
    reduce_on_plateau: ReduceOnPlateau | None = None
    augmentation: tuple[Augmentation, ...] = ()
    class_weight: Literal["balanced"] | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        rate = self.learning_rate
        monitors = ("loss", "accuracy", "val_loss", "val_accuracy")
        optimizer = str(self.optimizer).lower()
        heads = [isinstance(x, Layer) and not isinstance(x, Augmentation) for x in self.layers]
        changes = [isinstance(x, Augmentation) for x in self.augmentation]
        for name, fine, expected in (
            ("layers", all(heads), "a tuple of layers such as (BatchNorm(), Dropout(0.5))"),
            ("augmentation", all(changes), "a tuple of augmentations such as (Flip(),)"),
            ("optimizer", optimizer in OPTIMIZERS, f"one of {OPTIMIZERS}"),
            ("learning_rate", isinstance(rate, CosineDecay) or rate > 0, "above 0, or CosineDecay"),
            ("epochs", self.epochs >= 1, "1 or more"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("validation_fraction", 0 <= self.validation_fraction < 1, "0 <= share < 1"),
            ("monitor", self.monitor in monitors, f"one of {monitors}"),
            ("patience", self.patience is None or self.patience >= 0, "None, or 0 or more"),
            ("class_weight", self.class_weight in (None, "balanced"), "None or 'balanced'"),
        ):
            if not fine:
                raise OptionError(f"Recipe({name}={getattr(self, name)!r}): expected {expected}.")


def attach(recipe: Recipe, tensor: Any, n_classes: int, seed: int = 0) -> Any:
    """Return the probabilities (n, n_classes) that the layers of `recipe` give on `tensor`.

    The one place where heads are built: on cached features, on a network, and for export. Every
    layer with weights is named ``head_...``, in the order of the recipe, on both.

    Parameters
    ----------
    tensor : keras tensor
        Features (n, dim) or a feature map (n, height, width, channels).
    seed : int
        Seeds initial weights and dropout; no global random state is read.

    Raises
    ------
    OptionError
        The recipe ends on a feature map.
    """
    keras = load_keras()

    for position, layer in enumerate(recipe.layers):
        if isinstance(layer, GlobalAveragePooling) and len(tensor.shape) == 2:
            continue
        name = f"head_{position:02d}_{type(layer).__name__.lower()}"
        tensor = layer.build(name, seed * 1000 + position)(tensor)
    if len(tensor.shape) > 2:
        raise OptionError(
            f"the recipe ends on a feature map of shape {tuple(tensor.shape[1:])}: add Flatten() "
            "or GlobalAveragePooling() to its layers."
        )
    last = Dense(n_classes, None if recipe.from_logits else "softmax")
    tensor = last.build("head_last", seed * 1000 + len(recipe.layers))(tensor)
    return keras.layers.Softmax(name="head_softmax")(tensor) if recipe.from_logits else tensor
