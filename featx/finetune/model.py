"""FineTuned: a frozen network and dense layers on top, trained on images end to end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from featx.backbones.architectures import BACKBONES
from featx.backbones.backbone import Backbone, find_backbone
from featx.backend import check_backend, load_keras, tracing_unsaid
from featx.datasets.dataset import as_dataset
from featx.dense import GlobalAveragePooling, Recipe, attach, seed_of, split, train
from featx.finetune.batches import (
    ImageBatches,
    bad_images_named,
    classes_and_codes,
    decoding_threads,
    known_codes,
)
from featx.labels import labels_of, positions_in


class FineTuned(ClassifierMixin, BaseEstimator):
    """A frozen network and dense layers on top, trained on images end to end.

    Every epoch decodes every image and sends it through the network, as is usual. The same
    layers on cached features (`featx.heads.dense`) are spared that.

    Parameters
    ----------
    backbone : str or Backbone
    recipe : Recipe or None
        None takes `Recipe()`. A recipe with `GlobalAveragePooling` stands on the feature map of
        the network, any other on the backbone's embeddings.
    unfreeze : int
        How many layers at the end of the network a second phase trains too; BatchNorm layers stay
        frozen, in inference mode. More than there are means all.
    unfreeze_epochs : int, optional
        Epochs of the second phase: 5 with `unfreeze`, else 0. With `unfreeze=0` a second phase
        trains the head alone.
    unfreeze_learning_rate : float
        Low, so that learned weights are adjusted and not overwritten.
    unfreeze_optimizer : str, optional
        The recipe's unless given.
    random_state : int, RandomState or None
        Decides initial weights, dropout, augmentation, order and validation split. None draws
        other numbers in each fit. Global random state is neither read nor changed.
    progress : bool
        Whether a bar counts the epochs.

    Attributes
    ----------
    model_ : keras.Model
        Images (n, side, side, 3), RGB 0-255, to probabilities (n, n_classes). Its layer
        "backbone" is the network with its preprocessing; the head's layers are named ``head_...``.
    classes_ : ndarray of shape (n_classes,)
        Class names, sorted.
    history_ : dict of str to list of float
        loss, accuracy, seconds, and val_loss, val_accuracy where there is validation; one entry
        per epoch. With a second phase also phase, 1 or 2.
    n_epochs_ : int
        Epochs trained, both phases together.
    fit_seconds_ : float
        Seconds that `fit` took, loading the network included.

    Examples
    --------
    >>> from featx import FineTuned, Recipe
    >>> baseline = FineTuned("mobilenet_v2", Recipe(epochs=8, patience=None))
    >>> baseline.parameter_counts(n_classes=5)
    {'total': 2264389, 'trainable': 6405, 'non_trainable': 2257984}
    """

    def __init__(
        self,
        backbone: str | Backbone = "resnet50",
        recipe: Recipe | None = None,
        *,
        unfreeze: int = 0,
        unfreeze_epochs: int | None = None,
        unfreeze_learning_rate: float = 1e-5,
        unfreeze_optimizer: str | None = None,
        random_state: Any = 0,
        progress: bool = True,
    ) -> None:
        self.backbone = backbone
        self.recipe = recipe
        self.unfreeze = unfreeze
        self.unfreeze_epochs = unfreeze_epochs
        self.unfreeze_learning_rate = unfreeze_learning_rate
        self.unfreeze_optimizer = unfreeze_optimizer
        self.random_state = random_state
        self.progress = progress

    def fit(
        self,
        dataset: Any,
        y: Sequence[Any] | None = None,
        validation: Any = None,
        *,
        callbacks: Sequence[Any] = (),
        groups: Sequence[Any] | np.ndarray | None = None,
    ) -> FineTuned:
        """Train on images with labels.

        Parameters
        ----------
        dataset : anything that `extract` takes
        y : sequence of n labels, optional
            For images that come without.
        validation : anything that `extract` takes, optional
            Labelled images that watch and stop the training; the recipe's share of each class
            of `dataset` unless given.
        callbacks : sequence of keras.callbacks.Callback
            Further ones, such as TensorBoard.
        groups : sequence of n names, optional
            Images of one group, such as a patient, are held out by the recipe together or not at
            all.

        Raises
        ------
        DatasetError
            Labels are missing, there is one class only, or validation has a class of its own.
        UnusableImagesError
            When the first image that cannot be decoded is met; it names all of them.
        """
        start = time.perf_counter()
        recipe = self.recipe or Recipe()
        seed = seed_of(self.random_state)
        images = as_dataset(dataset, y)
        self.classes_, codes = classes_and_codes(images)
        trained = np.arange(len(codes))
        if validation is None:
            members = None if groups is None else np.unique(groups, return_inverse=True)[1]
            trained, held = split(codes, recipe.validation_fraction, seed, members)
            watched, watched_codes = images.subset(held), codes[held]
        else:
            watched = as_dataset(validation)
            watched_codes = known_codes(watched, self.classes_)
        weights = compute_sample_weight(recipe.class_weight, codes[trained]).astype(np.float32)
        self.model_ = self._built(len(self.classes_), seed)
        side, how = self.model_.input_shape[1], find_backbone(self.backbone).preparation
        with decoding_threads() as pool:
            batches = ImageBatches(
                images.subset(trained),
                side,
                recipe.batch_size,
                pool,
                targets=(codes[trained], weights),
                seed=seed,
                how=how,
            )
            watch = ImageBatches(
                watched, side, recipe.batch_size, pool, targets=(watched_codes,), how=how
            )
            with bad_images_named(pool, batches, watch):
                self._train(recipe, batches, watch if len(watched) else None, callbacks)
        self.n_epochs_ = len(self.history_["loss"])
        self.fit_seconds_ = time.perf_counter() - start
        return self

    def _train(self, recipe: Recipe, batches: Any, watch: Any, callbacks: Sequence[Any]) -> None:
        def given() -> tuple[Any, Any]:
            return batches.stream(), watch and watch.stream()

        with _bar(recipe.epochs, "training the head", self.progress) as bar:
            self.history_ = train(self.model_, recipe, *given(), callbacks=[*bar, *callbacks])
        default = 5 if self.unfreeze else 0
        epochs = default if self.unfreeze_epochs is None else self.unfreeze_epochs
        if not epochs:
            return
        _unfreeze(self.model_.get_layer("backbone"), self.unfreeze)
        with _bar(epochs, f"training {self.unfreeze} layers more", self.progress) as bar:
            second = train(
                self.model_,
                recipe,
                *given(),
                optimizer=self.unfreeze_optimizer,
                learning_rate=self.unfreeze_learning_rate,
                epochs=epochs,
                callbacks=[*bar, *callbacks],
            )
        for number, history in enumerate((self.history_, second), 1):
            history["phase"] = [float(number)] * len(history["loss"])
        self.history_ = {name: self.history_[name] + second[name] for name in self.history_}

    def _built(self, n_classes: int, seed: int = 0, *, loaded: bool = True) -> Any:
        """Return the model; with `loaded` false without learned weights, for counting."""
        keras = load_keras()
        recipe = self.recipe or Recipe()
        backbone = find_backbone(self.backbone)
        if recipe.image_size is not None:
            backbone = replace(backbone, image_size=recipe.image_size)
        if not loaded and backbone.name in BACKBONES:
            backbone = replace(backbone, weights=None)
        base = _features(backbone, recipe)
        image = keras.Input(base.input_shape[1:], name="image")
        tensor = image
        for position, change in enumerate(recipe.augmentation):
            name = f"augmentation_{position:02d}_{type(change).__name__.lower()}"
            tensor = change.build(name, seed * 1000 + 500 + position)(tensor)
        # training=False for good: BatchNorm of the network keeps its learned statistics.
        tensor = base(tensor, training=False)
        return keras.Model(image, attach(recipe, tensor, n_classes, seed), name="fine_tuned")

    def parameter_counts(self, n_classes: int | None = None) -> dict[str, int]:
        """Return the numbers of parameters: total, trainable, non_trainable.

        Parameters
        ----------
        n_classes : int, optional
            Needed before `fit`; the counts are then those of the first phase.
        """
        if n_classes is None:
            check_is_fitted(self)
            model = self.model_
        else:
            model = self._built(n_classes, loaded=False)
        total = sum(int(np.prod(weight.shape)) for weight in model.weights)
        trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        return {"total": total, "trainable": trainable, "non_trainable": total - trainable}

    def predict_proba(self, dataset: Any) -> np.ndarray:
        """Return probabilities (n, n_classes): images in order, columns as in `classes_`.

        Raises
        ------
        UnusableImagesError
            Some images cannot be decoded; it names all of them.
        RuntimeUnavailableError
            This process was made by fork after its parent had started Keras's backend.
        """
        check_is_fitted(self)
        check_backend()
        size = (self.recipe or Recipe()).batch_size
        with decoding_threads() as pool:
            side, how = self.model_.input_shape[1], find_backbone(self.backbone).preparation
            batches = ImageBatches(as_dataset(dataset), side, size, pool, how=how)
            with bad_images_named(pool, batches), tracing_unsaid():
                return self.model_.predict(batches.stream(), verbose=0)

    def predict(self, dataset: Any) -> np.ndarray:
        """Return the most probable class name of each image, (n,)."""
        best = self.predict_proba(dataset).argmax(axis=1)
        return self.classes_[best]

    def score(self, dataset: Any, y: Sequence[Any] | None = None) -> float:
        """Return the share of images whose predicted class is their label."""
        images = as_dataset(dataset, y)
        labels = positions_in(self.classes_, labels_of(images.labels))
        return float(np.mean(positions_in(self.classes_, self.predict(images)) == labels))


def _features(backbone: Backbone, recipe: Recipe) -> Any:
    """Return the frozen network: images 0-255 to embeddings, or to a map if the recipe pools."""
    keras = load_keras()

    as_map = any(isinstance(layer, GlobalAveragePooling) for layer in recipe.layers)
    built = (replace(backbone, pooling=None) if as_map else backbone).build()
    features = built.output
    if as_map and any(layer.name == "pooling" for layer in built.layers):
        # Unpooled, the backbone ends on a layer that flattens the map.
        features = built.get_layer("pooling").input
    base = keras.Model(built.input, features, name="backbone")
    if backbone.name not in BACKBONES:
        # A registered network belongs to the user: a copy is trained.
        learned = base.get_weights()
        base = keras.models.clone_model(base)
        base.set_weights(learned)
    base.trainable = False
    return base


def _unfreeze(base: Any, last: int) -> None:
    """Make the last layers of the network inside `base` trainable, BatchNorm excepted."""
    from keras.layers import BatchNormalization

    base.trainable = True
    layers = base.get_layer("network").layers
    for position, layer in enumerate(layers):
        layer.trainable = position >= len(layers) - last
        for inner in getattr(layer, "layers", [layer]):
            if isinstance(inner, BatchNormalization):
                inner.trainable = False


@contextmanager
def _bar(epochs: int, what: str, shown: bool) -> Iterator[list[Any]]:
    """Give the callbacks that count epochs on a bar; none where it is not shown."""
    if not shown:
        yield []
        return
    keras = load_keras()
    from tqdm.auto import tqdm

    with tqdm(total=epochs, desc=what, unit="epoch") as bar:

        def count(epoch: int, logs: dict[str, float]) -> None:
            named = ("loss", "accuracy", "val_loss", "val_accuracy")
            bar.set_postfix({name: f"{logs[name]:.3f}" for name in named if name in logs})
            bar.update()

        yield [keras.callbacks.LambdaCallback(on_epoch_end=count)]
