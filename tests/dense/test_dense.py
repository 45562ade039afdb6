"""Dense layers as data: the layers Keras gets, how they are trained, and what is saved of them."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from featx import dense
from featx.dense import (
    DEFAULT_RECIPE,
    BatchNorm,
    CosineDecay,
    Dense,
    DenseClassifier,
    Dropout,
    Flatten,
    Flip,
    GlobalAveragePooling,
    Recipe,
    ReduceOnPlateau,
    attach,
    split,
    train,
    train_on_features,
)

QUICK = Recipe(layers=(Dense(8),), epochs=3, learning_rate=0.01, patience=None)


def blobs(n: int = 90, dim: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    samples = 2 * rng.normal(size=(3, dim))[codes] + rng.normal(size=(n, dim))
    return samples.astype(np.float32), np.array(["ash", "birch", "cedar"])[codes]


def built(recipe: Recipe, shape: tuple[int, ...], n_classes: int = 3, seed: int = 0) -> Any:
    import keras

    inputs = keras.Input(shape)
    return keras.Model(inputs, attach(recipe, inputs, n_classes, seed))


def kinds(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model.layers[1:]]


# the data


def test_a_recipe_is_a_value() -> None:
    assert Recipe() == Recipe(layers=(Dropout(0.2),))
    assert len({Recipe(), Recipe(epochs=3), replace(Recipe(epochs=3), epochs=20)}) == 2
    assert pickle.loads(pickle.dumps(DEFAULT_RECIPE)) == DEFAULT_RECIPE  # noqa: S301
    with pytest.raises(FrozenInstanceError):
        Recipe().epochs = 3


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("layers", (Flip(),), "a tuple of layers"),
        ("layers", ("dense",), "a tuple of layers"),
        ("augmentation", (Dropout(0.1),), "a tuple of augmentations"),
        ("optimizer", "adamm", "one of .*'adam'"),
        ("learning_rate", 0.0, "above 0"),
        ("epochs", 0, "1 or more"),
        ("batch_size", 0, "1 or more"),
        ("validation_fraction", 1.0, "0 <= share < 1"),
        ("monitor", "val_acc", "one of .*'val_accuracy'"),
        ("patience", -1, "None, or 0 or more"),
        ("class_weight", "equal", "None or 'balanced'"),
    ],
)
def test_a_field_out_of_range_says_what_it_may_be(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"Recipe\({field}=.*\): expected {expected}"):
        Recipe(**{field: value})


def test_optimizers_are_those_of_keras() -> None:
    import keras

    for name in dense.recipe.OPTIMIZERS:
        assert type(keras.optimizers.get(name)).__name__.lower() == name


def test_every_layer_reaches_keras_with_its_fields() -> None:
    layers = (BatchNorm(0.8, 0.01), Dense(7, "tanh", l2=0.25), Dropout(0.4))
    model = built(Recipe(layers=layers), (5,))
    assert kinds(model) == ["BatchNormalization", "Dense", "Dropout", "Dense"]
    norm, hidden, drop, last = (layer.get_config() for layer in model.layers[1:])
    assert (norm["momentum"], norm["epsilon"], norm["renorm"]) == (0.8, 0.01, False)
    assert (hidden["units"], hidden["activation"]) == (7, "tanh")
    assert hidden["kernel_regularizer"]["config"]["l2"] == 0.25
    assert drop["rate"] == 0.4
    assert (last["units"], last["activation"], last["name"]) == (3, "softmax", "head_last")


def test_every_kind_of_layer_and_augmentation_builds() -> None:
    values = {int: 4, float: 0.25, str: "horizontal"}
    names = {"units": 4, "activation": "relu", "renorm": False, "mode": "vertical"}
    tried = set()
    for name in dense.__all__:
        kind = getattr(dense, name)
        if isinstance(kind, type) and issubclass(kind, dense.recipe.Layer):
            given = {
                field.name: names.get(field.name, values[float])
                for field in fields(kind)
                if field.name != "fill_mode"
            }
            layer = kind(**given).build("some_name", 3)
            assert layer.name == "some_name"
            assert type(layer).__name__ == kind.keras_name
            tried.add(name)
    assert len(tried) == 12


@pytest.mark.parametrize(
    ("layers", "shape", "expected"),
    [
        ((GlobalAveragePooling(),), (4, 4, 6), ["GlobalAveragePooling2D", "Dense"]),
        ((GlobalAveragePooling(),), (6,), ["Dense"]),
        ((Flatten(),), (4, 4, 6), ["Flatten", "Dense"]),
        ((BatchNorm(), Flatten()), (6,), ["BatchNormalization", "Flatten", "Dense"]),
    ],
)
def test_heads_stand_on_maps_and_on_embeddings(
    layers: Any, shape: tuple[int, ...], expected: list[str]
) -> None:
    model = built(Recipe(layers=layers), shape)
    assert kinds(model) == expected
    assert model.output_shape == (None, 3)


def test_a_head_that_ends_on_a_map_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"ends on a feature map of shape \(4, 4, 6\): add Flatten"
    ):
        built(Recipe(layers=(BatchNorm(),)), (4, 4, 6))


def test_renorm_has_seven_numbers_a_column() -> None:
    norm = built(Recipe(layers=(BatchNorm(renorm=True),)), (6,)).layers[1]
    assert sum(int(np.prod(w.shape)) for w in norm.weights) == 7 * 6
    assert sum(int(np.prod(w.shape)) for w in norm.trainable_weights) == 2 * 6


def test_logits_and_softmax_give_the_same_probabilities() -> None:
    X, _ = blobs()
    plain, logits = (
        built(Recipe(layers=(Dense(8),), from_logits=flag), (12,)) for flag in (False, True)
    )
    assert kinds(logits) == ["Dense", "Dense", "Softmax"]
    assert logits.get_layer("head_last").get_config()["activation"] == "linear"
    np.testing.assert_allclose(logits.predict(X, verbose=0), plain.predict(X, verbose=0), atol=1e-6)


def test_the_seed_alone_decides_how_layers_begin() -> None:
    import keras

    recipe = Recipe(layers=(Dense(8), Dense(12)))
    first, same, other = (built(recipe, (12,), seed=seed).get_weights() for seed in (0, 0, 1))
    keras.utils.set_random_seed(5)
    for was, now in zip(first, built(recipe, (12,)).get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0][:8], first[2][:, :8]), "layers do not share their numbers"


# training


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.9])
def test_split_holds_out_a_share_of_each_class(fraction: float) -> None:
    codes = np.repeat([0, 1, 2, 3], [40, 10, 2, 1])
    samples, held = split(codes, fraction, seed=0)
    assert sorted([*samples, *held]) == list(range(53))
    counts = np.bincount(codes[held], minlength=4)
    expected = {
        0.0: [0, 0, 0, 0],
        0.1: [4, 1, 1, 0],
        0.25: [10, 2, 1, 0],
        0.9: [36, 9, 1, 0],
    }[fraction]
    assert list(counts) == expected
    assert (np.diff(samples) > 0).all()
    if fraction:
        assert not np.array_equal(held, split(codes, fraction, seed=1)[1])


def test_a_learning_rate_falls_along_a_cosine() -> None:
    X, y = blobs(40)
    recipe = replace(QUICK, learning_rate=CosineDecay(0.1, 4), epochs=1, batch_size=10)
    model = built(recipe, (12,))
    before = model.get_weights()
    samples = X, np.unique(y, return_inverse=True)[1], np.ones(len(X), np.float32)
    train_on_features(model, recipe, samples, None, 0)
    rate = model.optimizer.learning_rate
    assert float(np.asarray(rate)) == pytest.approx(0.0, abs=1e-7)
    after = model.get_weights()
    assert not np.array_equal(before[0], after[0])
    train_on_features(model, replace(recipe, learning_rate=CosineDecay(1e-30, 1)), samples, None, 0)
    np.testing.assert_array_equal(after[0], model.get_weights()[0])


@pytest.mark.parametrize("name", ["adam", "rmsprop", "sgd"])
def test_optimizers_by_name(name: str) -> None:
    X, y = blobs(30)
    head = DenseClassifier(replace(QUICK, optimizer=name, epochs=1)).fit(X, y)
    assert type(head._model.optimizer).__name__.lower() == name
    assert float(np.asarray(head._model.optimizer.learning_rate)) == pytest.approx(0.01)


def noise(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return samples unrelated to their labels, so that validation soon gets worse."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 20)).astype(np.float32), rng.integers(0, 2, n)


@pytest.mark.parametrize("at_a_time", [1024, 7])
def test_stops_early_and_keeps_the_best_epoch(at_a_time: int) -> None:
    X, y = noise()
    recipe = Recipe(
        layers=(Dense(32),), learning_rate=0.05, epochs=60, patience=3, validation_fraction=0.3
    )
    head = DenseClassifier(recipe)
    head.predict_batch_size = at_a_time
    head.fit(X, y)
    losses = head.history_["val_loss"]
    assert head.n_epochs_ == len(losses) < 60
    assert head.n_epochs_ == int(np.argmin(losses)) + 1 + 3
    _, held = split(y, 0.3, seed=0)
    best = -np.log(head.predict_proba(X[held])[np.arange(len(held)), y[held]]).mean()
    assert best == pytest.approx(min(losses), rel=1e-4)
    right = (head.predict(X[held]) == y[held]).mean()
    assert right == pytest.approx(head.history_["val_accuracy"][int(np.argmin(losses))])
    last = DenseClassifier(replace(recipe, restore_best=False)).fit(X, y)
    worse = -np.log(last.predict_proba(X[held])[np.arange(len(held)), y[held]]).mean()
    assert worse == pytest.approx(losses[-1], rel=1e-4)


def test_min_delta_and_monitor_are_heeded() -> None:
    X, y = blobs()
    recipe = replace(QUICK, epochs=10, patience=1, min_delta=10.0)
    assert DenseClassifier(recipe).fit(X, y).n_epochs_ == 2
    recipe = replace(recipe, monitor="loss", validation_fraction=0)
    assert DenseClassifier(recipe).fit(X, y).n_epochs_ == 2


def test_all_epochs_without_anything_to_watch() -> None:
    X, y = blobs()
    recipe = replace(QUICK, epochs=4, patience=0, validation_fraction=0)
    head = DenseClassifier(recipe).fit(X, y)
    assert set(head.history_) == {"loss", "accuracy", "seconds"}
    assert head.n_epochs_ == 4


def test_learning_rate_falls_on_a_plateau() -> None:
    X, y = noise()
    recipe = replace(
        QUICK,
        epochs=3,
        monitor="accuracy",
        min_delta=0.0,
        learning_rate=1e-9,
        reduce_on_plateau=ReduceOnPlateau(0.5, patience=1, min_learning_rate=2e-10),
    )
    head = DenseClassifier(recipe).fit(X, y)
    assert float(np.asarray(head._model.optimizer.learning_rate)) == pytest.approx(2.5e-10)


def test_class_weights_lift_the_rare_class() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3)).astype(np.float32)
    y = np.array([1] * 10 + [0] * 90)
    recipe = replace(QUICK, layers=(), epochs=15, learning_rate=0.05, validation_fraction=0)
    plain = DenseClassifier(recipe).fit(X, y).predict_proba(X)[:, 1].mean()
    even = DenseClassifier(replace(recipe, class_weight="balanced")).fit(X, y)
    assert plain < 0.2
    assert even.predict_proba(X)[:, 1].mean() == pytest.approx(0.5, abs=0.1)


# the classifier


def test_global_random_state_is_neither_read_nor_changed() -> None:
    X, y = blobs()
    recipe = replace(QUICK, layers=(Dropout(0.5), Dense(8)))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = DenseClassifier(recipe).fit(X, y).predict_proba(X)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(DenseClassifier(recipe).fit(X, y).predict_proba(X), first)
    other = DenseClassifier(recipe, random_state=1).fit(X, y).predict_proba(X)
    assert np.abs(other - first).max() > 1e-3


def test_a_pickle_holds_arrays_and_the_recipe_only() -> None:
    X, y = blobs()
    head = DenseClassifier(QUICK).fit(X, y)
    proba = head.predict_proba(X)
    content = pickle.dumps(head)
    assert b"keras" not in content
    again = pickle.loads(content)  # noqa: S301
    assert not hasattr(again, "_model")
    np.testing.assert_array_equal(again.predict_proba(X), proba)
    assert clone(again).recipe == QUICK
    assert not hasattr(clone(again), "weights_")


def test_a_pickle_is_opened_without_keras() -> None:
    X, y = blobs()
    content = pickle.dumps(DenseClassifier(QUICK).fit(X, y))
    code = (
        "import pickle, sys; head = pickle.loads(sys.stdin.buffer.read());"
        "assert list(head.classes_) == ['ash', 'birch', 'cedar'];"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], input=content, check=True, timeout=60)


def test_features_are_trained_as_keras_trains_them() -> None:
    import keras

    X, y = blobs(93)
    codes = np.unique(y, return_inverse=True)[1]
    weights = (1 + codes % 2).astype(np.float32)
    recipe = replace(QUICK, layers=(BatchNorm(), Dropout(0.3)), batch_size=10)

    class Batches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__()
            self.random = np.random.default_rng(0)
            self.on_epoch_end()

        def __len__(self) -> int:
            return 8

        def __getitem__(self, position: int) -> tuple[np.ndarray, ...]:
            part = self.order[10 * position :][:10]
            return X[part], codes[part], weights[part]

        def on_epoch_end(self) -> None:
            self.order = self.random.permutation(80)

    ours, theirs = built(recipe, (12,)), built(recipe, (12,))
    samples = X[:80], codes[:80], weights[:80]
    found = train_on_features(ours, recipe, samples, (X[80:], codes[80:]), 0)
    expected = train(theirs, recipe, Batches(), (X[80:], codes[80:]))
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)
    assert list(expected) == list(found)
    for name in set(expected) - {"seconds"}:
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name


def test_default_recipe_learns_embeddings() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(120) % 4
    X = np.maximum(rng.normal(size=(4, 300))[codes] + rng.normal(scale=2, size=(120, 300)), 0)
    head = DenseClassifier().fit(X[:80], codes[:80])
    assert head.score(X[80:], codes[80:]) > 0.9
    assert head.history_["val_loss"]
