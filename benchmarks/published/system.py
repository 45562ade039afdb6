"""What is said of a published system: its recipe, what it printed, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from sklearn.model_selection import train_test_split

from featx import Backbone, Dataset, FineTuned
from featx.errors import DatasetError


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters; `printed` tells what the source shows, the others are computed."""

    total: int
    trainable: int
    printed: bool

    @property
    def in_words(self) -> str:
        """Total, trainable and frozen ones, as `--params` shows them."""
        return f"{self.total:,} / {self.trainable:,} / {self.total - self.trainable:,}"


@dataclass(frozen=True)
class Parts:
    """Images to train on, to score on, and perhaps to watch the training with."""

    train: Dataset
    test: Dataset
    validation: Dataset | None = None


@dataclass(frozen=True)
class System:
    """A published system.

    Attributes
    ----------
    name : str
        What the command line calls it.
    source : str
        Repository, commit and file that the facts were read from.
    classes : int
        Classes of its own images; `counts` are those of that many.
    published, corrected : FineTuned
        Unfitted: the recipe as it stands, and the same recipe with its mistakes mended.
    counts : Counts
        Of the published one, before any second phase.
    figures : mapping of str to str
        What the source says it reached.
    split : str
        How it divided its images, in words.
    test_share : float
        The share of the images that it tested on, for images that come undivided.
    per_class : tuple of int or None
        Training, validation and test images a class, where it has so many and no more.
    preprocessing : str or None
        The scaling it fed to the network where that is not the network's own: a mode of
        ``Backbone.register``, or "0..1" for a division by 255. None: the right one.
    scored_on : str
        The images behind its own last figure: a clean "test" set, "augmented test" images, or
        one batch of the "training" images.
    validated_on : str or None
        "test" where the test images watched the training, too; None: the recipe's own share.
    steps : int
        Steps of one of its epochs.
    callbacks : tuple of callables
        Folder for logs -> a Keras callback.
    mistakes : tuple of str
        What `corrected` does otherwise, a sentence each.
    notes : tuple of str
        What Keras 3 or featx says in other words than the source.
    """

    name: str
    source: str
    classes: int
    published: FineTuned
    corrected: FineTuned
    counts: Counts
    steps: int
    figures: Mapping[str, str]
    split: str
    test_share: float = 0.2
    per_class: tuple[int, int, int] | None = None
    preprocessing: Literal["tf", "caffe", "torch", "0..1"] | None = None
    scored_on: Literal["test", "augmented test", "training"] = "test"
    validated_on: Literal["test"] | None = None
    callbacks: tuple[Callable[[Path], Any], ...] = ()
    mistakes: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def divide(self, images: Dataset) -> Parts:
        """Divide images as the system did, class by class and always the same way.

        Raises
        ------
        DatasetError
            A class has too few images to be divided.
        """
        labels = np.asarray([str(item.label) for item in images.items], dtype=object)
        needed = 2 if self.per_class is None else sum(self.per_class)
        few = {name: n for name, n in Counter(labels).items() if n < needed}
        if few or len(labels) < 2:
            raise DatasetError(
                f"{self.name} is divided class by class, and needs {needed} images of each; got "
                f"{few or 'none'}. Give more, or divide them yourself: --train and --test."
            )
        if self.per_class is None:
            try:
                train, test = train_test_split(
                    np.arange(len(labels)),
                    test_size=self.test_share,
                    stratify=labels,
                    random_state=0,
                )
            except ValueError as error:  # fewer test images than classes
                raise DatasetError(f"{self.name}: {error}. Give more images.") from error
            return Parts(images.subset(train), images.subset(test))
        random = np.random.default_rng(0)
        ends = np.cumsum(self.per_class)
        chosen: list[list[int]] = [[], [], []]
        for label in np.unique(labels):
            members = random.permutation(np.flatnonzero(labels == label))[: ends[-1]]
            for part, some in zip(chosen, np.split(members, ends[:-1]), strict=True):
                part.extend(some)
        train, watch, test = map(images.subset, chosen)
        return Parts(train, test, watch)


def misprepared(backbone: Backbone, mode: str) -> Backbone:
    """Return the same frozen network, fed as another family's preprocessing would feed it.

    Parameters
    ----------
    mode : {"raw", "tf", "caffe", "torch", "0..1"}
        "0..1" divides by 255 and does no more.
    """
    import keras

    built = Backbone(
        backbone.name,
        weights=backbone.weights,
        layer=backbone.layer,
        pooling=None,
        image_size=backbone.side,
    ).build()
    network, name = built.get_layer("network"), f"{backbone.name}_fed_{mode}_at_{backbone.side}"
    if mode == "0..1":
        image = keras.Input((backbone.side, backbone.side, 3), name="image")
        scaled = keras.layers.Rescaling(1 / 255, name="to_0_1")(image)
        network, mode = keras.Model(image, network(scaled), name="scaled"), "raw"
    found = Backbone.register(name, network, preprocessing=mode)
    return Backbone(found.name, pooling=backbone.pooling)


def changed(images: Dataset, changes: Sequence[Any], side: int, seed: int) -> Dataset:
    """Return images of a side, changed at random as a recipe changes those it trains on."""
    import keras

    pixels = np.stack(
        [
            np.asarray(Image.open(item.source).convert("RGB").resize((side, side)), np.float32)
            for item in images.items
        ]
    )
    for position, change in enumerate(changes):
        layer = change.build(f"change_{position}", 1000 * seed + position)
        parts = np.array_split(pixels, max(1, len(pixels) // 32))
        pixels = np.concatenate(
            [keras.ops.convert_to_numpy(layer(part, training=True)) for part in parts]
        )
    return Dataset.from_array(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), images.labels)


def tensorboard(folder: Path) -> Any:
    """Return Keras's TensorBoard callback with its defaults: a point an epoch.

    Where the package tensorboard is not installed, the same figures go to a CSV file.
    """
    import keras

    if find_spec("tensorboard") is None:
        folder.mkdir(parents=True, exist_ok=True)
        return keras.callbacks.CSVLogger(folder / "epochs.csv", append=True)
    return keras.callbacks.TensorBoard(folder)


def last_batch_metrics(_: Path) -> Any:
    """Return a callback that forgets the metrics before each batch: an epoch's are its last one's.

    A callback which reads the figures of each batch and then resets them, as the notebook's does,
    leaves just these for the epoch.
    """
    import keras

    class LastBatch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
            self.model.reset_metrics()

    return LastBatch()
