"""FineTuned: the same layers as on features, images in order, two phases, honest refusals."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone

import featx
from featx import backend
from featx.backbones import backbone as backbones
from featx.datasets.dataset import Dataset, as_dataset
from featx.dense import (
    BatchNorm,
    Brightness,
    Contrast,
    CosineDecay,
    Dense,
    DenseClassifier,
    Dropout,
    Flatten,
    Flip,
    GlobalAveragePooling,
    Recipe,
    Rotation,
    Shear,
    Shift,
    Zoom,
    split,
)
from featx.errors import DatasetError, UnusableImagesError
from featx.finetune import FineTuned
from featx.finetune.batches import ImageBatches, decoding_threads
from featx.images import decoding
from tests.images.test_pil_images import FILES

SIDE = 24
SHORT = Recipe(layers=(), epochs=2, batch_size=8, patience=None, validation_fraction=0.25)


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[Any]:
    """Register a real, small Keras network, since MobileNetV2 takes seconds to build."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    tensor = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="first")(image)
    tensor = keras.layers.BatchNormalization(name="norm")(tensor)
    tensor = keras.layers.Conv2D(5, 3, strides=2, activation="relu", name="last")(tensor)
    model = keras.Model(image, tensor)
    backbones.Backbone.register("small", model, preprocessing="tf")
    return model


def small(recipe: Recipe = SHORT, **options: Any) -> FineTuned:
    return FineTuned("small", recipe, **{"progress": False, **options})


def pixels_of(images: Any) -> np.ndarray:
    return np.stack([decoding.load(item.source, SIDE) for item in images])


def trained(model: Any) -> set[str]:
    return {weight.path.split("/")[-2] for weight in model.trainable_weights}


def test_learns_and_keeps_its_history(image_folder: Path) -> None:
    recipe = Recipe(layers=(), epochs=12, batch_size=8, learning_rate=0.05, patience=None)
    model = small(recipe).fit(image_folder)
    assert list(model.classes_) == ["blue", "green", "red"]
    assert model.score(image_folder) > 0.9
    assert set(model.history_) == {"loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert {len(values) for values in model.history_.values()} == {12} == {model.n_epochs_}
    assert model.history_["loss"][-1] < model.history_["loss"][0]
    assert all(seconds > 0 for seconds in model.history_["seconds"])
    assert model.fit_seconds_ > sum(model.history_["seconds"])


def test_prediction_is_in_the_order_of_the_dataset(image_folder: Path) -> None:
    model = small().fit(image_folder)
    images = as_dataset(image_folder)
    proba = model.predict_proba(images)
    assert proba.shape == (24, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    turned = model.predict_proba(images.subset(range(23, -1, -1)))
    np.testing.assert_allclose(turned[::-1], proba, atol=1e-6)
    at_once = model.model_.predict(pixels_of(images), verbose=0)
    np.testing.assert_allclose(at_once, proba, atol=1e-6)
    assert list(model.predict(images)) == list(model.classes_[proba.argmax(axis=1)])


def test_same_layers_as_on_features(image_folder: Path) -> None:
    """The head trained on features, put on the network, predicts as it does on features."""
    recipe = Recipe(layers=(BatchNorm(), Dense(7), Dropout(0.3)), epochs=2, batch_size=8)
    features = featx.extract(image_folder, "small", progress=False)
    on_features = DenseClassifier(recipe).fit(features.X, features.y)
    model = small(recipe).fit(image_folder)
    head = [layer for layer in model.model_.layers if layer.name.startswith("head_")]
    assert [layer.name for layer in head] == [
        layer.name for layer in on_features._model.layers if layer.name.startswith("head_")
    ]
    for layer, other in zip(head, on_features._model.layers[1:], strict=True):
        layer.set_weights(other.get_weights())
    np.testing.assert_allclose(
        model.predict_proba(image_folder), on_features.predict_proba(features.X), atol=1e-5
    )


def test_same_seed_same_weights_whatever_the_global_state(image_folder: Path) -> None:
    import keras

    recipe = Recipe(layers=(Dropout(0.5),), epochs=2, batch_size=8, augmentation=(Flip(),))
    first = small(recipe).fit(image_folder).predict_proba(image_folder)
    keras.utils.set_random_seed(7)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    second = small(recipe).fit(image_folder).predict_proba(image_folder)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_allclose(second, first, atol=1e-6)
    other = small(recipe, random_state=1).fit(image_folder).predict_proba(image_folder)
    assert np.abs(other - first).max() > 1e-3


def test_validation_given_is_the_one_watched(image_folder: Path, tmp_path: Path) -> None:
    watched = as_dataset(image_folder).subset([0, 9, 18])
    model = small().fit(image_folder, validation=watched)
    expected = model.model_.evaluate(
        pixels_of(watched), np.array([0, 1, 2]), verbose=0, return_dict=True
    )
    assert model.history_["val_loss"][-1] == pytest.approx(expected["loss"], rel=1e-4)


def test_whole_groups_are_the_ones_watched(image_folder: Path) -> None:
    images = as_dataset(image_folder)
    days = np.array([name.split("/")[1] for name in images.ids])
    codes = np.repeat([0, 1, 2], 8)
    _, held = split(codes, 0.25, 0, np.unique(days, return_inverse=True)[1])
    assert set(days[held]).isdisjoint(np.delete(days, held))
    model = small().fit(image_folder, groups=days)
    watched = images.subset(held)
    expected = model.model_.evaluate(pixels_of(watched), codes[held], verbose=0, return_dict=True)
    assert model.history_["val_loss"][-1] == pytest.approx(expected["loss"], rel=1e-4)


def test_best_epoch_is_restored() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (48, SIDE, SIDE, 3), dtype=np.uint8)
    images = as_dataset(noise, list("abc") * 16)
    learned, watched = images.subset(range(24)), images.subset(range(24, 48))
    layers = (BatchNorm(momentum=0.5), Dense(64))
    recipe = Recipe(layers=layers, epochs=8, batch_size=8, learning_rate=0.01, patience=8)
    model = small(recipe).fit(learned, validation=watched)
    losses = model.history_["val_loss"]
    assert min(losses) < losses[-1] - 0.01, "what was learned by heart must show"
    truth = model.predict_proba(watched)[np.arange(24), np.tile([0, 1, 2], 8)]
    assert -np.log(truth).mean() == pytest.approx(min(losses), rel=1e-3)


def test_labels_beside_the_images_and_class_weights() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.array(["rare"] * 4 + ["usual"] * 36)
    recipe = Recipe(layers=(), epochs=25, learning_rate=0.02, patience=None, validation_fraction=0)
    plain = small(recipe).fit(pixels, labels)
    weighed = small(Recipe(**{**vars(recipe), "class_weight": "balanced"})).fit(pixels, labels)
    assert "val_loss" not in plain.history_
    rare = [model.predict_proba(pixels)[:, 0].mean() for model in (plain, weighed)]
    assert rare[1] > rare[0] + 0.15


@pytest.mark.parametrize(
    "change",
    [
        Flip("horizontal_and_vertical"),
        Rotation(0.2),
        Shift(0.2, 0.2, "nearest"),
        Zoom(0.2),
        Shear(0.2),
        Brightness(0.4),
        Contrast(0.6),
    ],
    ids=lambda change: type(change).__name__,
)
def test_augmentation_changes_images_while_training_only(change: Any) -> None:
    recipe = Recipe(layers=(), augmentation=(change,))
    model = small(recipe)._built(2)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.float32)
    layer = next(layer for layer in model.layers if layer.name.startswith("augmentation_00"))
    assert np.abs(np.asarray(layer(pixels, training=True)) - pixels).max() > 1
    np.testing.assert_array_equal(np.asarray(layer(pixels, training=False)), pixels)


def test_the_network_stays_as_it_was_in_the_first_phase(
    image_folder: Path, small_network: Any
) -> None:
    before = [weight.copy() for weight in small_network.get_weights()]
    model = small().fit(image_folder)
    assert trained(model.model_) == {"head_last"}
    after = model.model_.get_layer("backbone").get_weights()
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize(
    ("unfreeze", "moved"),
    [(1, {"last"}), (2, {"last"}), (3, {"last", "first"}), (99, {"last", "first"})],
)
def test_second_phase_trains_the_last_layers_but_no_batch_norm(
    unfreeze: int, moved: set[str], image_folder: Path, small_network: Any
) -> None:
    before = [weight.copy() for weight in small_network.get_weights()]
    model = small(
        unfreeze=unfreeze, unfreeze_epochs=1, unfreeze_learning_rate=1e-2, unfreeze_optimizer="sgd"
    ).fit(image_folder)
    assert model.history_["phase"] == [1.0, 1.0, 2.0]
    assert model.n_epochs_ == 3
    assert trained(model.model_) == moved | {"head_last"}
    network = model.model_.get_layer("backbone").get_layer("network")
    for layer in network.layers:
        changed = any(
            not np.array_equal(was, now)
            for was, now in zip(
                small_network.get_layer(layer.name).get_weights() if layer.weights else [],
                layer.get_weights(),
                strict=True,
            )
        )
        assert changed == (layer.name in moved)
    for was, now in zip(before, small_network.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def test_second_phase_of_the_head_alone(image_folder: Path) -> None:
    model = small(unfreeze_epochs=2).fit(image_folder)
    assert model.history_["phase"] == [1.0, 1.0, 2.0, 2.0]
    assert trained(model.model_) == {"head_last"}


def test_no_second_phase_without_being_asked(image_folder: Path) -> None:
    assert "phase" not in small().fit(image_folder).history_


def test_bad_images_are_all_named(image_folder: Path) -> None:
    (image_folder / "red" / "text.jpg").write_text("no image")
    whole = (image_folder / "blue" / "00.png").read_bytes()
    (image_folder / "blue" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableImagesError, match=r"2 of 26(?s:.)*Dataset\.subset") as e:
        small().fit(image_folder)
    assert {failure.id for failure in e.value.failures} == {"red/text.jpg", "blue/half.png"}
    model = small().fit(as_dataset(image_folder).subset(range(8)), list("abababab"))
    with pytest.raises(UnusableImagesError, match="red/text.jpg"):
        model.predict(image_folder)


def test_other_errors_are_not_taken_for_bad_images(image_folder: Path) -> None:
    import keras

    def stop(epoch: int, logs: Any) -> None:
        raise RuntimeError("from a callback")

    with pytest.raises(RuntimeError, match="from a callback"):
        small().fit(image_folder, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=stop)])


def test_refusals(image_folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"no labels.*one sub-folder per class"):
        small().fit(image_folder / "red")
    with pytest.raises(DatasetError, match=r"only one class: .*'x'.* \(8 images\)"):
        small().fit(image_folder / "red", ["x"] * 8)
    strange = as_dataset(image_folder / "red", ["pink"] * 8)
    with pytest.raises(
        DatasetError, match="training does not have: pink. Training has blue, green, red"
    ):
        small().fit(image_folder, validation=strange)
    with pytest.raises(Exception, match="not fitted"):
        small().predict(image_folder)


def test_clone_and_pickle(image_folder: Path) -> None:
    model = small(unfreeze=1, random_state=3)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    model.fit(image_folder)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301
    np.testing.assert_allclose(
        again.predict_proba(image_folder), model.predict_proba(image_folder), atol=1e-6
    )


def test_progress_is_shown_where_asked(
    image_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small().fit(image_folder)
    assert capfd.readouterr().err == ""
    small(progress=True).fit(image_folder)
    assert "2/2" in capfd.readouterr().err


def numbered(count: int) -> Dataset:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 3), np.uint8)
    return as_dataset(pixels)


@pytest.mark.parametrize("streamed", [False, True], ids=["Keras's own", "TensorFlow's"])
def test_batches_are_shuffled_each_epoch_and_complete(streamed: bool) -> None:
    epochs = []
    with decoding_threads() as pool:
        batches = ImageBatches(numbered(10), 4, 4, pool, targets=(np.arange(10),), seed=0)
        stream = batches.stream()
        assert stream.cardinality() == len(batches) == 3
        next(iter(stream))  # as Keras looks before it begins: no order or image is lost by it
        for _ in range(3):
            if streamed:
                seen = [(x.numpy(), y.numpy()) for x, y in stream]
            else:
                seen = [batches[i] for i in range(len(batches))]
                batches.on_epoch_end()
            assert [len(x) for x, _ in seen] == [4, 4, 2]
            for x, y in seen:
                np.testing.assert_array_equal(x[:, 0, 0, 0], y)
            epochs.append(np.concatenate([y for _, y in seen]).tolist())
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_batches_of_other_backends_train_the_same_weights(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    streamed = small().fit(image_folder)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with decoding_threads() as pool:
        served = ImageBatches(numbered(10), 4, 4, pool, targets=(np.arange(10),)).stream()
        assert isinstance(served, keras.utils.PyDataset)
        assert len(served) == 3
    other = small().fit(image_folder)
    for weights, same in zip(streamed.model_.weights, other.model_.weights, strict=True):
        np.testing.assert_allclose(np.asarray(same), np.asarray(weights), atol=1e-6)


def test_no_autotuner_holds_the_end_of_an_epoch() -> None:
    with decoding_threads() as pool:
        stream = ImageBatches(numbered(8), 4, 4, pool).stream()
        assert stream.options().autotune.enabled is False


# The heads of five published systems: structure only, so the networks stay untrained.
PUBLISHED = {
    "corrosion, resnet50": (
        ("resnet50", {}),
        3,
        Recipe(
            layers=(
                Flatten(),
                BatchNorm(),
                Dense(45),
                Dropout(0.5),
                BatchNorm(),
                Dense(9),
                Dropout(0.5),
                BatchNorm(),
            ),
            epochs=50,
            monitor="val_accuracy",
            min_delta=0.01,
            restore_best=False,
            augmentation=(
                Rotation(20 / 360, "nearest"),
                Shift(0.2, 0.2, "nearest"),
                Zoom(0.2, "nearest"),
                Flip("horizontal_and_vertical"),
            ),
        ),
        (23_688_769, 96_853),
    ),
    "concrete cracks, mobilenet_v2": (
        ("mobilenet_v2", {}),
        2,
        Recipe(
            layers=(GlobalAveragePooling(),),
            learning_rate=CosineDecay(5e-4, 50),
            epochs=3,
            monitor="loss",
            augmentation=(Flip(), Rotation(0.2)),
        ),
        (2_260_546, 2_562),
    ),
    "scenes, efficientnet_b0": (
        ("efficientnet_b0", {}),
        6,
        Recipe(
            layers=(
                GlobalAveragePooling(),
                BatchNorm(),
                Dropout(0.2),
                Dense(256, l2=0.01),
                BatchNorm(),
                Dropout(0.2),
            )
        ),
        (4_385_193, 332_550),
    ),
    "fashion, inception_v3 to mixed7": (
        ("inception_v3", {"layer": "mixed7", "pooling": None, "image_size": 150}),
        10,
        Recipe(layers=(Flatten(), Dense(1024), Dropout(0.2)), optimizer="rmsprop"),
        (47_521_706, 38_546_442),
    ),
    "trucks, mobilenet_v2": (
        ("mobilenet_v2", {}),
        6,
        Recipe(layers=(), from_logits=True, epochs=8, patience=None),
        (2_265_670, 7_686),
    ),
    "dogs, inception_resnet_v2": (
        ("inception_resnet_v2", {}),
        120,
        Recipe(
            layers=(
                BatchNorm(renorm=True),
                GlobalAveragePooling(),
                Dense(512),
                Dense(256),
                Dropout(0.5),
                Dense(128),
            ),
            image_size=331,
        ),
        (55_314_136, 969_720),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_of_published_systems(name: str) -> None:
    (backbone, options), classes, recipe, (total, trainable) = PUBLISHED[name]
    model = FineTuned(backbones.Backbone(backbone, weights=None, **options), recipe)
    assert model.parameter_counts(classes) == {
        "total": total,
        "trainable": trainable,
        "non_trainable": total - trainable,
    }


def test_a_real_network_end_to_end(image_folder: Path) -> None:
    backbone = backbones.Backbone("mobilenet_v2", weights=None, image_size=32)
    recipe = Recipe(layers=(GlobalAveragePooling(), Dropout(0.2)), epochs=1, batch_size=8)
    model = FineTuned(backbone, recipe, unfreeze=4, unfreeze_epochs=1, progress=False)
    assert model.fit(image_folder).predict_proba(image_folder).shape == (24, 3)
    assert trained(model.model_) == {"head_last", "Conv_1"}


@pytest.mark.weights
def test_learned_weights_on_flowers(datasets: Path) -> None:
    images = as_dataset(datasets / "flowers" / "train")
    recipe = Recipe(layers=(), epochs=4, learning_rate=3e-3, patience=None, validation_fraction=0)
    model = FineTuned("mobilenet_v2", recipe, progress=False)
    model.fit(images.subset(range(0, len(images), 6)))
    score = model.score(images.subset(range(1, len(images), 6)))
    assert score > 0.6, "100 images; untrained weights stay near 0.3"


@pytest.mark.parametrize("name", ["16-bit.png", "turned.jpg", "cmyk.jpg", "kind-rle.TGA"])
def test_batches_of_pil_images_are_those_of_their_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    with decoding_threads() as pool, Image.open(tmp_path / name) as image:
        by_path, by_image = (
            ImageBatches(Dataset.from_paths([source] * 3), 32, 2, pool)[0][0]
            for source in (tmp_path / name, image)
        )
    assert by_path.any()
    np.testing.assert_array_equal(by_image, by_path)


def test_many_models_predict_without_a_warning_of_tracing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """TensorFlow warns from the fifth model on, twice in a process."""
    import keras

    layers = keras.layers
    for _ in range(6):
        model = FineTuned("small", SHORT)
        model.model_ = keras.Sequential(
            [keras.Input((SIDE, SIDE, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)]
        )
        model.classes_ = np.array(["a", "b"])
        assert model.predict(np.zeros((3, SIDE, SIDE, 3), np.uint8)).shape == (3,)
    assert not [one for one in caplog.records if one.name == "tensorflow"]


@pytest.mark.parametrize(("level", "said"), [("3", ["bad"]), ("0", ["traced", "bad"])])
def test_errors_of_tensorflow_are_never_held_back(
    level: str, said: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    caplog.set_level(logging.WARNING, "tensorflow")  # the command line raises it
    logger = logging.getLogger("tensorflow")
    with backend.tracing_unsaid():
        logger.warning("traced")
        logger.error("bad")
    logger.warning("after")
    assert [one.message for one in caplog.records] == [*said, "after"]
