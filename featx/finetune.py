"""The usual way, done well: pictures through the frozen network every epoch, a head on top."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from featx import backbones, datasets, images
from featx.dense import GlobalAveragePooling, Recipe, attach, split, train
from featx.errors import BadImagesError, DatasetError, Failure, ImageError


class UnusableImagesError(BadImagesError):
    """Some pictures can be neither trained on nor judged."""

    remedy = "Mend or remove these files, or give a dataset without them (Dataset.subset)."


class FineTuned(ClassifierMixin, BaseEstimator):
    """A frozen network and dense layers on top, trained end to end on pictures.

    Every epoch decodes every picture and sends it through the network, as is usual; the head on
    kept rows (`featx.heads`) is the same layers without that cost.

    Parameters
    ----------
    backbone : str or Backbone
    recipe : Recipe or None
        None takes `Recipe()`. A recipe with `GlobalAveragePooling` gets the feature map of the
        network, any other the backbone's pooled rows. Its `image_size` stands above the
        backbone's.
    unfreeze : int
        Layers at the end of the network that a second phase trains too, BatchNorm excepted: that
        stays frozen, in inference mode. 0 for no second phase; more than there are means all.
    unfreeze_epochs : int
        Epochs of the second phase.
    unfreeze_learning_rate : float
        Its learning rate; low, so that the pretrained weights are adjusted, not overwritten.
    seed : int
        Seeds initial weights, dropout, augmentation, order and validation split. Global random
        state is neither read nor changed.
    progress : bool
        Whether a bar counts the epochs.

    Attributes
    ----------
    model_ : keras.Model
        Pictures (n, side, side, 3), RGB 0-255, to probabilities (n, n_classes).
    classes_ : ndarray of shape (n_classes,)
        Class names, sorted.
    history_ : dict of str to list of float
        loss, accuracy, seconds, phase (1 or 2), and val_loss, val_accuracy where there is a
        validation; an entry an epoch.
    n_epochs_ : int
        Epochs trained, both phases together.
    fit_seconds_ : float
        Wall-clock seconds of `fit`, building included.
    """

    def __init__(
        self,
        backbone: str | backbones.Backbone = "resnet50",
        recipe: Recipe | None = None,
        *,
        unfreeze: int = 0,
        unfreeze_epochs: int = 5,
        unfreeze_learning_rate: float = 1e-5,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.backbone = backbone
        self.recipe = recipe
        self.unfreeze = unfreeze
        self.unfreeze_epochs = unfreeze_epochs
        self.unfreeze_learning_rate = unfreeze_learning_rate
        self.seed = seed
        self.progress = progress

    def fit(
        self, dataset: Any, y: Sequence[Any] | None = None, validation: Any = None
    ) -> FineTuned:
        """Train on pictures with labels.

        Parameters
        ----------
        dataset : anything `datasets.as_dataset` takes
        y : sequence of n labels, optional
            Where the dataset has none of its own.
        validation : anything `datasets.as_dataset` takes, optional
            Labelled pictures that watch and stop the training; without it the recipe's share of
            each class is set aside from `dataset`.

        Raises
        ------
        DatasetError
            If labels are missing, there is one class only, or validation has a class of its own.
        UnusableImagesError
            At the first picture that cannot be decoded; all such pictures are then named.
        """
        start = time.perf_counter()
        recipe = self.recipe or Recipe()
        pictures = datasets.as_dataset(dataset, y)
        self.classes_, codes = _codes(pictures)
        fit_rows = np.arange(len(pictures))
        if validation is None:
            fit_rows, held = split(codes, recipe.validation_fraction, self.seed)
            watched, watched_codes = pictures.subset(held), codes[held]
        else:
            watched = datasets.as_dataset(validation)
            watched_codes = _known_codes(watched, self.classes_)
        self.model_ = self._built(len(self.classes_))
        weights = compute_sample_weight(recipe.class_weight, codes).astype(np.float32)
        batches = _batches(
            pictures.subset(fit_rows), self.model_.input_shape[1], recipe.batch_size,
            (codes[fit_rows], weights[fit_rows]), self.seed,
        )  # fmt: skip
        watch = None
        if len(watched):
            watch = _batches(
                watched, self.model_.input_shape[1], recipe.batch_size, (watched_codes,)
            )
        self._train(recipe, batches, watch)
        self.n_epochs_ = len(self.history_["loss"])
        self.fit_seconds_ = time.perf_counter() - start
        return self

    def _train(self, recipe: Recipe, batches: Any, watch: Any) -> None:
        phases: list[dict[str, Any]] = [{"epochs": recipe.epochs}]
        if self.unfreeze:
            phases.append(
                {"epochs": self.unfreeze_epochs, "learning_rate": self.unfreeze_learning_rate}
            )
        self.history_: dict[str, list[float]] = {}
        for number, options in enumerate(phases, 1):
            if number == 2:
                _unfreeze(self.model_, self.unfreeze)
            bar = [_bar(options["epochs"], number)] if self.progress else []
            try:
                history = train(self.model_, recipe, batches, watch, callbacks=bar, **options)
            except Exception as error:
                _explain(error, batches, watch)
                raise
            history["phase"] = [float(number)] * len(history["loss"])
            for name, values in history.items():
                self.history_[name] = self.history_.get(name, []) + values

    def _built(self, n_classes: int, weights: bool = True) -> Any:
        import keras

        recipe = self.recipe or Recipe()
        backbone = backbones.find(self.backbone)
        if recipe.image_size is not None:
            backbone = replace(backbone, image_size=recipe.image_size)
        if not weights:
            backbone = replace(backbone, weights=None)
        as_map = any(isinstance(layer, GlobalAveragePooling) for layer in recipe.layers)
        base = (replace(backbone, pooling=None) if as_map else backbone).build()
        if as_map:
            base = keras.Model(base.input, base.get_layer("pooling").input, name=base.name)
        base.trainable = False
        image = keras.Input(base.input_shape[1:], name="image")
        tensor = image
        for position, spec in enumerate(recipe.augmentation):
            name = f"augmentation_{position:02d}_{type(spec).__name__.lower()}"
            tensor = spec.build(name, self.seed * 1000 + 500 + position)(tensor)
        tensor = base(tensor, training=False)
        return keras.Model(image, attach(recipe, tensor, n_classes, self.seed))

    def parameter_counts(self, n_classes: int | None = None) -> dict[str, int]:
        """Return the numbers of parameters: total, trainable, non_trainable.

        Parameters
        ----------
        n_classes : int, optional
            Needed before `fit`; the counts are then those of the first phase, and no pretrained
            weights are loaded.
        """
        if n_classes is None:
            check_is_fitted(self)
            model = self.model_
        else:
            model = self._built(n_classes, weights=False)
        total = sum(int(np.prod(w.shape)) for w in model.weights)
        trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
        return {"total": total, "trainable": trainable, "non_trainable": total - trainable}

    def predict_proba(self, dataset: Any) -> np.ndarray:
        """Return probabilities (n, n_classes) in the order of the dataset and of `classes_`."""
        check_is_fitted(self)
        recipe = self.recipe or Recipe()
        pictures = datasets.as_dataset(dataset)
        batches = _batches(pictures, self.model_.input_shape[1], recipe.batch_size)
        try:
            return self.model_.predict(batches, verbose=0)
        except Exception as error:
            _explain(error, batches)
            raise

    def predict(self, dataset: Any) -> np.ndarray:
        """Return the most probable class name of each picture, (n,)."""
        return self.classes_[self.predict_proba(dataset).argmax(axis=1)]

    def score(self, dataset: Any, y: Sequence[Any] | None = None) -> float:
        """Return the share of pictures whose predicted class is their label."""
        pictures = datasets.as_dataset(dataset, y)
        if pictures.labels is None:
            raise DatasetError("score needs labels: pass y, or a dataset with labels.")
        return float(np.mean(self.predict(pictures) == pictures.labels))


def _codes(pictures: datasets.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return class names, and each picture's position among them."""
    labels = pictures.labels
    if labels is None:
        raise DatasetError(
            "the pictures have no labels. Give a folder with a sub-folder a class, a table with a "
            "label column, or y."
        )
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DatasetError(
            f"only one class: {classes[0]!r} ({len(labels)} pictures). A classifier needs "
            "pictures of two classes or more: check the folder names or the label column."
        )
    return classes, codes


def _known_codes(pictures: datasets.Dataset, classes: np.ndarray) -> np.ndarray:
    """Return the position of each picture's class among those of the training."""
    if pictures.labels is None:
        raise DatasetError("the validation pictures have no labels.")
    unknown = sorted(set(pictures.labels) - set(classes))
    if unknown:
        raise DatasetError(
            f"validation has classes that training has not: {', '.join(unknown)}. Training "
            f"knows: {', '.join(classes)}."
        )
    return np.searchsorted(classes.astype(str), pictures.labels.astype(str))


def _unfreeze(model: Any, last: int) -> None:
    """Make the last layers of the network trainable, BatchNorm excepted."""
    base = next(layer for layer in model.layers if hasattr(layer, "get_layer"))
    network = base.get_layer("network")
    base.trainable = True
    for layer in network.layers[: max(0, len(network.layers) - last)]:
        layer.trainable = False
    _freeze_norms(network)


def _freeze_norms(model: Any) -> None:
    from keras.layers import BatchNormalization

    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.trainable = False
        elif hasattr(layer, "layers"):
            _freeze_norms(layer)


def _bar(epochs: int, phase: int) -> Any:
    """Return a callback that counts epochs."""
    import keras
    from tqdm.auto import tqdm

    class Bar(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.bar = tqdm(total=epochs, desc=f"training, phase {phase}", unit="epoch")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            shown = ("loss", "accuracy", "val_loss", "val_accuracy")
            self.bar.set_postfix({k: f"{logs[k]:.3f}" for k in shown if k in logs})
            self.bar.update()

        def on_train_end(self, logs: Any = None) -> None:
            self.bar.close()

    return Bar()


def _batches(
    pictures: datasets.Dataset,
    side: int,
    size: int,
    targets: tuple[np.ndarray, ...] = (),
    seed: int | None = None,
) -> Any:
    """Return a keras.utils.PyDataset of uint8 batches, decoded in threads; shuffled with a seed."""
    import keras

    class Batches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__(workers=min(8, os.cpu_count() or 1), max_queue_size=8)
            self.pictures, self.failed = pictures, False
            self.random = None if seed is None else np.random.default_rng(seed)
            self.order = np.arange(len(pictures))
            self.on_epoch_end()

        def __len__(self) -> int:
            return -(-len(self.order) // size)

        def __getitem__(self, position: int) -> Any:
            rows = self.order[position * size : (position + 1) * size]
            try:
                batch = np.stack([images.load(pictures[i].source, side) for i in rows])
            except ImageError:
                self.failed = True
                raise
            return (batch, *(target[rows] for target in targets))

        def on_epoch_end(self) -> None:
            if self.random is not None:
                self.order = self.random.permutation(len(self.order))

    return Batches()


def _explain(error: Exception, *many: Any) -> None:
    """Name every bad picture where one of them stopped the run; Keras only shows the first."""
    sources = [batches.pictures for batches in many if batches is not None]
    if not any(batches.failed for batches in many if batches is not None):
        return

    def failure(item: datasets.Item) -> Failure | None:
        try:
            images.load(item.source, 32)
        except ImageError as reason:
            return Failure(item.id, type(reason).__name__, str(reason))
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = [f for pictures in sources for f in pool.map(failure, pictures) if f is not None]
    raise UnusableImagesError(found, sum(map(len, sources))) from error
