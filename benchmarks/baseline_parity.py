"""Is featx's baseline a straw man? Its seconds per epoch against a script as people write it.

    python benchmarks/baseline_parity.py DATASET [--backbone mobilenet_v2] [--rounds 4]

The script: `keras.utils.image_dataset_from_directory`, prefetched, through the frozen network of
`keras.applications` to a Dense layer with softmax, in `model.fit`. featx: `FineTuned` with the
same network, head, optimizer, batch size and epochs. Both take turns, so that a busy machine
slows both, and the first epoch of each turn, in which Keras compiles, is left out. The seconds of
all cores together are shown too: other programs change them less than seconds by the clock.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import featx

BY_HAND = {
    "mobilenet_v2": (keras.applications.MobileNetV2, keras.applications.mobilenet_v2),
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet50),
    "efficientnet_b0": (keras.applications.EfficientNetB0, keras.applications.efficientnet),
}


Epochs = list[tuple[float, float]]


class Clock(keras.callbacks.Callback):
    """Keeps the seconds of each epoch: by the clock, and of all cores together."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: Epochs = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start."""
        self.start = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop."""
        wall, cores = self.start
        self.epochs.append((time.perf_counter() - wall, time.process_time() - cores))


def by_hand(folder: Path, name: str, weights: str | None, side: int, epochs: int) -> Epochs:
    """Return the seconds of each epoch of a script written by hand."""
    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(side, side), batch_size=32, verbose=False
    )
    classes = len(images.class_names)
    builder, module = BY_HAND[name]
    network = builder(
        include_top=False, weights=weights, input_shape=(side, side, 3), pooling="avg"
    )
    network.trainable = False
    image = keras.Input((side, side, 3))
    embedding = network(module.preprocess_input(image), training=False)
    model = keras.Model(image, keras.layers.Dense(classes, activation="softmax")(embedding))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    model.fit(images.prefetch(-1), epochs=epochs, callbacks=[clock], shuffle=False, verbose=0)
    return clock.epochs


def by_featx(folder: Path, name: str, weights: str | None, side: int, epochs: int) -> Epochs:
    """Return the seconds of each epoch of `featx.FineTuned`."""
    recipe = featx.Recipe(layers=(), epochs=epochs, validation_fraction=0.0, patience=None)
    backbone = featx.Backbone(name, weights=weights, image_size=side)
    clock = Clock()
    featx.FineTuned(backbone, recipe, progress=False).fit(folder, callbacks=[clock])
    return clock.epochs


def main() -> None:
    """Run both in turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("dataset", type=Path, help="a folder with one sub-folder per class")
    parser.add_argument("--backbone", choices=BY_HAND, default="mobilenet_v2")
    parser.add_argument("--weights", choices=("imagenet", "none"), default="none")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4, help="in each turn, the first not counted")
    options = parser.parse_args()
    weights = None if options.weights == "none" else options.weights
    setting = (options.dataset, options.backbone, weights, options.image_size, options.epochs)
    runs: dict[str, Epochs] = {"by hand": [], "featx": []}
    for number in range(options.rounds):
        turns = [("by hand", by_hand), ("featx", by_featx)]
        for method, run in turns if number % 2 == 0 else turns[::-1]:
            epochs = run(*setting)[1:]
            runs[method] += epochs
            shown = "  ".join(f"{wall:.2f} ({cores:.2f})" for wall, cores in epochs)
            print(f"round {number + 1}, {method:8} {shown}", flush=True)
    n = sum(1 for path in options.dataset.rglob("*") if path.is_file())
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {n} images")
    print(f"keras {keras.__version__} on {keras.backend.backend()}, {options.backbone}; medians")
    medians = {}
    for method, epochs in runs.items():
        wall, cores = (statistics.median(column) for column in zip(*epochs, strict=True))
        medians[method] = wall, cores
        print(f"{method:8} {wall:6.2f} s an epoch ({cores:.2f} of all cores), {n / wall:.0f} img/s")
    ratios = [ours / hand for ours, hand in zip(medians["featx"], medians["by hand"], strict=True)]
    print("ratio featx / by hand: {:.3f} by the clock, {:.3f} of all cores".format(*ratios))


if __name__ == "__main__":
    main()
