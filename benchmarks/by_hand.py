"""What people write without featx, and the bounds that no program can exceed on this machine."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 224


def _files(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() == ".jpg")


def _frozen_network(name: str, weights: str | None) -> Any:
    """Return preprocessing and network as the Keras guides write them."""
    import keras

    builder, module = {
        "mobilenet_v2": ("MobileNetV2", keras.applications.mobilenet_v2),
        "resnet50": ("ResNet50", keras.applications.resnet50),
    }[name]
    base = getattr(keras.applications, builder)(
        include_top=False, weights=weights, input_shape=(SIDE, SIDE, 3), pooling="avg"
    )
    base.trainable = False
    inputs = keras.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, base(module.preprocess_input(inputs), training=False))


def _images(folder: str, **options: Any) -> Any:
    import tensorflow as tf
    from keras.utils import image_dataset_from_directory

    stream = image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), batch_size=32, verbose=False, **options
    )
    return stream.prefetch(tf.data.AUTOTUNE)


def _stalls() -> Any:
    """Return a callback that adds up how long TensorFlow stood still between epochs.

    Where an iterator of tf.data ends, which Keras lets it do as the next epoch begins, it waits for
    the thread of its autotuner. That may miss the call to end and then sleeps on until its period
    is over: seen with TensorFlow 2.21 after every other epoch by chance, for up to as long as the
    epoch had taken. What people write has it; a figure that chance does not move leaves it out.
    """
    import keras

    class Stalls(keras.callbacks.Callback):
        seconds = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.last = time.perf_counter()

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == 0:
                self.seconds += time.perf_counter() - self.last

        def on_predict_end(self, logs: Any = None) -> None:
            self.last = time.perf_counter()

        def predicted(self) -> None:
            """Add the time since the features were complete."""
            self.seconds += time.perf_counter() - self.last

    return Stalls()


def extract(folder: str, name: str, weights: str | None) -> dict[str, Any]:
    """Time embeddings by `image_dataset_from_directory` and `predict`, after a warm-up."""
    model = _frozen_network(name, weights)
    # With such batches as come later: TensorFlow traces the network anew for others.
    model.predict(_images(folder, labels=None, shuffle=False).take(1), verbose=0)
    stalls, began = _stalls(), time.perf_counter()
    features = model.predict(
        _images(folder, labels=None, shuffle=False), verbose=0, callbacks=[stalls]
    )
    stalls.predicted()
    seconds = time.perf_counter() - began - stalls.seconds
    return {"images": len(features), "seconds": seconds, "stalled_seconds": stalls.seconds}


def head(train: str, test: str, weights: str | None, epochs: list[int]) -> dict[str, Any]:
    """Train a Keras head on the frozen network, images through it every epoch, then test it.

    The longest of `epochs` is trained once; after each of them the test set is asked for, and
    its cost is not counted in the training that goes on.
    """
    import keras

    base = _frozen_network("mobilenet_v2", weights)
    training, testing = _images(train), _images(test, shuffle=False)
    classes = len(os.listdir(train))
    outputs = keras.layers.Dense(classes, activation="softmax")(base.output)
    model = keras.Model(base.input, outputs)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    truth = np.concatenate([labels for _, labels in testing])
    marks: dict[str, Any] = {}
    asked = 0.0

    def after(epoch: int, _: Any) -> None:
        nonlocal asked
        if epoch + 1 in epochs:
            trained = time.perf_counter() - began - asked
            testing_stalls, before = _stalls(), time.perf_counter()
            found = model.predict(testing, verbose=0, callbacks=[testing_stalls])
            testing_stalls.predicted()
            answer = time.perf_counter() - before
            asked += answer
            stalled = stalls.seconds + testing_stalls.seconds
            marks[str(epoch + 1)] = {
                "seconds": trained + answer - stalled,
                "stalled_seconds": stalled,
                "accuracy": float((found.argmax(axis=1) == truth).mean()),
            }

    _warm_up(model, training, testing)
    stalls, began = _stalls(), time.perf_counter()
    watch = keras.callbacks.LambdaCallback(on_epoch_end=after)
    model.fit(training, epochs=max(epochs), verbose=0, callbacks=[stalls, watch])
    return {"after": marks}


def _warm_up(model: Any, training: Any, testing: Any) -> None:
    """Let TensorFlow trace both steps, as featx's network is started too, and forget the step."""
    before = [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]
    model.fit(training.take(1), verbose=0)
    model.predict(testing.take(1), verbose=0)
    for variable, value in zip((*model.variables, *model.optimizer.variables), before, strict=True):
        variable.assign(value)


def decode(folder: str, side: int = SIDE) -> dict[str, Any]:
    """Time the bound D: Pillow reads, decodes and resizes on every core, nothing else is done."""
    from PIL import Image

    def one(path: Path) -> int:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(small).nbytes

    paths = _files(folder)
    one(paths[0])
    with ThreadPoolExecutor(_cores()) as pool:
        began = time.perf_counter()
        list(pool.map(one, paths, chunksize=8))
        return {"images": len(paths), "seconds": time.perf_counter() - began}


def forward(name: str, weights: str | None, precision: str, runtime: str) -> dict[str, Any]:
    """Time the bound F: the network alone on pixels in memory, for three seconds or more."""
    import featx

    backbone = featx.Backbone(name, weights=weights)
    run, batch = {"openvino": _openvino, "keras": _keras}[runtime](backbone, precision)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)
    run([pixels] * 4)
    images, began = 0, time.perf_counter()
    while time.perf_counter() - began < 3.0 or images < 256:
        run([pixels] * 16)
        images += 16 * batch
    return {"images": images, "seconds": time.perf_counter() - began}


def _openvino(backbone: Any, precision: str) -> tuple[Any, int]:
    import sys

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # else it reports home
    import openvino
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    model = backbone.build()

    @tf.function(input_signature=[tf.TensorSpec((16, SIDE, SIDE, 3), tf.uint8)])
    def network(pixels: Any) -> Any:
        return model(tf.cast(pixels, tf.float32), training=False)

    frozen = convert_to_constants.convert_variables_to_constants_v2(network.get_concrete_function())
    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.pb")
        path.write_bytes(frozen.graph.as_graph_def().SerializeToString())
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        compiled = core.compile_model(
            path, "CPU", {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "THROUGHPUT"}
        )
    jobs = openvino.AsyncInferQueue(compiled, max(2, _cores()))

    def run(batches: list[np.ndarray]) -> None:
        for pixels in batches:
            jobs.start_async([pixels], share_inputs=True)
        jobs.wait_all()

    return run, 16


def _keras(backbone: Any, precision: str) -> tuple[Any, int]:
    from dataclasses import replace

    model = replace(backbone, precision=precision).build()

    def run(batches: list[np.ndarray]) -> None:
        for pixels in batches:
            model.predict_on_batch(pixels.astype(np.float32))

    return run, 32


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
