"""Backbones: every row of the table is built, and prepared as an independent reference says."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featx
from featx import BACKBONES, Backbone
from featx.backbones import keras_models
from featx.backbones.architectures import FILE_HASHES
from featx.backbones.backbone import find_backbone
from featx.errors import (
    BackboneError,
    UnknownBackboneError,
    WeightsIntegrityError,
    WeightsUnavailableError,
)
from tests.conftest import WEIGHTS
from tests.fakes import CountingRuntime


def drawn() -> list[str]:
    """Return one network of each family, drawn by the run's seed; all of them in the long form."""
    if os.environ.get("FEATX_PROMISES") == "long":
        return list(BACKBONES)
    rng = random.Random(os.environ["FEATX_SEED"])
    families = groupby(BACKBONES, lambda name: BACKBONES[name].family)
    return [rng.choice(list(names)) for _, names in families]


@pytest.mark.parametrize("name", drawn())
def test_every_row_is_what_keras_builds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dim, and the very file that Keras's own loader asks for, with its digest."""
    import keras
    from keras.src.utils import file_utils

    asked: list[tuple[str, str | None]] = []

    def ask(fname: str, *args: Any, file_hash: str | None = None, **kwargs: Any) -> str:
        asked.append((fname, file_hash))
        return fname

    # Only the download and the reading of the file are left out, so that one build shows both.
    monkeypatch.setattr(file_utils, "get_file", ask)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *args, **kwargs: None)
    monkeypatch.setenv("KERAS_HOME", "/nowhere")
    backbone = Backbone(name)
    model = backbone.build()
    file = backbone.weights_path().name
    assert asked == [(file, FILE_HASHES.get(file))]
    side = BACKBONES[name].side
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, BACKBONES[name].dim)
    assert not model.trainable_weights
    keras.backend.clear_session()


MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def prepared(mode: str, rgb: np.ndarray) -> np.ndarray:
    """What each mode means, written from its papers' description and not from Keras's code."""
    if mode == "tf":
        return rgb / 127.5 - 1
    if mode == "torch":
        return (rgb / 255 - MEAN) / DEVIATION
    if mode == "caffe":
        return rgb[..., ::-1] - [103.939, 116.779, 123.68]
    return rgb


@pytest.mark.parametrize(
    "name", sorted({row.family: row.name for row in BACKBONES.values()}.values())
)
def test_preprocessing_of_every_family_equals_the_reference(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    # The network is replaced by "return what came", so that the prepared image is seen.
    monkeypatch.setattr(
        keras_models,
        "published",
        lambda row, side, **options: keras.Sequential(
            [keras.Input((side, side, 3)), keras.layers.Activation("linear")]
        ),
    )
    backbone = Backbone(name, weights=None, image_size=4, pooling=None)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.float32)
    before = pixels.copy()
    seen = np.asarray(backbone.build()(pixels)).reshape(pixels.shape)
    np.testing.assert_allclose(seen, prepared(backbone.preprocessing, before), atol=1e-4)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(
    ("name", "row"), [("efficientnet_b0", "efficientnet"), ("convnext_tiny", "convnext")]
)
def test_raw_families_scale_inside(name: str, row: str) -> None:
    """Two images that differ by a factor must not give the same row, nor rows as of 0-1."""
    model = Backbone(name, weights=None, image_size=32).build()
    layers = {layer.name for layer in model.get_layer("network")._flatten_layers()}
    assert any("rescaling" in layer or "prestem" in layer for layer in layers), row


def test_table_has_every_model_of_keras_applications() -> None:
    import keras

    builders = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {row.builder for row in BACKBONES.values()} == builders


@pytest.mark.parametrize(
    ("name", "usual"),
    [("efficientnet_b0", "bicubic"), ("convnext_tiny", "bicubic"),
     ("efficientnet_v2_b0", "bilinear"), ("mobilenet_v2", "bilinear")],
)  # fmt: skip
def test_a_crop_has_the_filter_that_the_network_was_trained_with(name: str, usual: str) -> None:
    assert Backbone(name, resize="crop").preparation.filter == usual
    assert Backbone(name).preparation.filter == "bilinear", "squashed as version 0.1 did"


def test_unknown_name_gets_the_nearest_and_all() -> None:
    with pytest.raises(UnknownBackboneError, match="Did you mean 'resnet50'.*mobilenet_v2"):
        Backbone("resnet5O")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pooling": "gap"}, "pooling='gap': expected one of"),
        ({"precision": "int4"}, "precision='int4': expected one of"),
        ({"resize": "pad"}, "resize='pad': expected one of"),
        ({"filter": "box"}, "filter='box': expected one of"),
        ({"image_size": 0}, "image_size=0: expected whole pixels"),
        ({"image_size": 224.5}, "image_size=224.5: expected whole pixels"),
    ],
)
def test_an_option_outside_its_range_is_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(BackboneError, match=text):
        Backbone("resnet50", **options)


def test_a_crop_is_made_with_the_filter_that_the_network_was_trained_with() -> None:
    for name, filter in (("mobilenet_v2", "bilinear"), ("efficientnet_b0", "bicubic")):
        assert Backbone(name).preparation.filter == "bilinear"
        assert Backbone(name, resize="crop").preparation.filter == filter
        asked = Backbone(name, weights=None, resize="crop", filter="bicubic")
        assert asked.preparation.filter == "bicubic"
        assert asked.spec()["pixels"]["resize"] == "pillow bicubic antialiased"


def test_unknown_layer_gets_the_nearest() -> None:
    backbone = Backbone("mobilenet_v2", weights=None, image_size=32, layer="block_6_expand_rel")
    with pytest.raises(BackboneError, match="Did you mean 'block_6_expand_relu'"):
        backbone.build()


def test_size_too_small_gives_the_reason_of_keras() -> None:
    with pytest.raises(BackboneError, match="image_size=8.*at least 32x32"):
        Backbone("mobilenet_v2", weights=None, image_size=8).build()


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (None, 1280)),
        ({"pooling": "max"}, (None, 1280)),
        ({"pooling": None}, (None, 2 * 2 * 1280)),
        ({"layer": "block_6_expand_relu"}, (None, 192)),
        ({"layer": "block_6_expand_relu", "pooling": None}, (None, 8 * 8 * 192)),
        ({"precision": "bfloat16"}, (None, 1280)),
    ],
)
def test_options_shape_the_row(options: dict[str, Any], shape: tuple[Any, ...]) -> None:
    model = Backbone("mobilenet_v2", weights=None, image_size=64, **options).build()
    assert model.output_shape == shape
    assert model.output.dtype == "float32"


def test_untrained_weights_are_the_same_each_time() -> None:
    first, again = (Backbone("mobilenet_v2", weights=None, image_size=32).build() for _ in "12")
    for one, two in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_building_leaves_the_users_dtype_policy_alone() -> None:
    import keras

    before = keras.config.dtype_policy().name
    Backbone("mobilenet_v2", weights=None, image_size=32, precision="bfloat16").build()
    assert keras.config.dtype_policy().name == before


def test_parameter_counts() -> None:
    # 2,257,984: MobileNetV2 without its top, as Keras prints it.
    count = Backbone("mobilenet_v2").parameters()
    assert count == {"total": 2257984, "trainable": 0, "non_trainable": 2257984}
    assert "2,257,984 non-trainable" in Backbone("mobilenet_v2").summary()


def test_absent_weights_name_the_file_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailableError) as caught:
        Backbone("resnet50").weights_digest()
    text = str(caught.value)
    assert "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5" in text
    assert str(tmp_path / "models") in text
    assert "weights=None" in text
    assert not list((tmp_path / "models").glob("*"))
    told = capsys.readouterr()
    assert told.out == "", "results belong there, and a JSON list may follow"
    assert "Downloading" in told.err


def test_weights_of_a_path(tmp_path: Path) -> None:
    tiny = Backbone("mobilenet_v2", weights=None, image_size=32)
    path = tmp_path / "own.weights.h5"
    tiny.build().get_layer("network").save_weights(path)
    own = Backbone("mobilenet_v2", weights=path, image_size=32)
    assert own.weights_digest() == hashlib.sha256(path.read_bytes()).hexdigest()
    pixels = np.full((1, 32, 32, 3), 99, np.float32)
    np.testing.assert_array_equal(own.build()(pixels), tiny.build()(pixels))

    path.write_bytes(b"no weights")
    with pytest.raises(WeightsIntegrityError, match="own.weights.h5"):
        own.build()
    with pytest.raises(WeightsUnavailableError, match="no weights file at"):
        Backbone("mobilenet_v2", weights=tmp_path / "absent.h5").weights_digest()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """Return a backbone with a file of weights whose digest is published."""
    path = tmp_path / "tiny.weights.h5"
    Backbone("mobilenet_v2", weights=None, image_size=32).build().get_layer("network").save_weights(
        path
    )
    monkeypatch.setitem(FILE_HASHES, path.name, hashlib.md5(path.read_bytes()).hexdigest())
    return Backbone("mobilenet_v2", weights=path, image_size=32)


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_one_flipped_bit_in_published_weights_is_noted(
    algorithm: str,
    published: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = published.weights_path()
    content = bytearray(path.read_bytes())
    digest = hashlib.new(algorithm, content).hexdigest()
    monkeypatch.setitem(FILE_HASHES, path.name, digest)
    pixels = np.full((1, 40, 40, 3), 9, np.uint8)

    def notes() -> list[str]:
        features = featx.extract(
            pixels, published, cache=tmp_path / "c", runtime=CountingRuntime(), progress=False
        )
        return [note for note in features.notes if "weights" in note]

    assert published.weights_note() == ""
    assert notes() == []
    assert "note" not in published.summary()
    content[-1000] ^= 1
    path.write_bytes(content)
    came = hashlib.new(algorithm, content).hexdigest()
    note = published.weights_note()
    assert f"{algorithm} {came}, published {digest}" in note
    assert str(path) in note
    assert notes() == notes() == [note]
    assert [record.message for record in caplog.records].count(note) == 1
    assert note in published.summary()


def test_weights_without_a_published_digest_are_shown_by_theirs(published: Backbone) -> None:
    path = published.weights_path().with_name("own.h5")
    published.weights_path().rename(path)
    own = replace(published, weights=path)
    assert own.weights_note() == ""
    assert own.weights_digest()[:12] in own.summary()
    assert Backbone("mobilenet_v2", weights=None).weights_note() == ""


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "NaN or infinity"), (-np.inf, "NaN or infinity"), (0, "zeros")]
)
def test_a_kernel_that_nothing_was_learned_in_is_refused(
    value: float, words: str, published: Backbone
) -> None:
    network = published.build().get_layer("network")
    kernel = next(weight for weight in network.weights if len(weight.shape) == 4)
    kernel.assign(np.full(kernel.shape, value, np.float32))
    network.save_weights(published.weights_path())
    with pytest.raises(WeightsIntegrityError, match=f"{words} in .*kernel.*fetch it again"):
        published.build()


def test_one_number_that_is_not_finite_is_refused_in_any_tensor(published: Backbone) -> None:
    network = published.build().get_layer("network")
    beta = next(weight for weight in network.weights if weight.path.endswith("beta"))
    assert not np.asarray(beta).any()  # which is no reason to refuse it
    values = np.zeros(beta.shape, np.float32)
    values[-1] = np.inf
    beta.assign(values)
    network.save_weights(published.weights_path())
    with pytest.raises(WeightsIntegrityError, match="NaN or infinity in .*beta"):
        published.build()


@pytest.mark.weights
def test_imagenet_weights_come_through_the_loader_of_keras_and_know_an_image() -> None:
    backbone = Backbone("mobilenet_v2")
    path = backbone.weights_path()
    assert path.name == WEIGHTS
    assert backbone.weights_digest() == hashlib.sha256(path.read_bytes()).hexdigest()
    model = backbone.build()
    untrained = Backbone("mobilenet_v2", weights=None).build()
    kernels = zip(model.weights, untrained.weights, strict=True)
    assert any(not np.array_equal(one, two) for one, two in kernels)


def own_model(scale: float = 1.0) -> Any:
    import keras

    return keras.Sequential(
        [
            keras.Input((16, 16, 3), name="image"),
            keras.layers.Rescaling(scale, name="scale"),
            keras.layers.Conv2D(5, 3, kernel_initializer="ones", name="sum"),
        ],
        name="own",
    )


def test_a_model_of_the_users_own_becomes_a_backbone() -> None:
    backbone = Backbone.register("own", own_model())
    assert find_backbone("own") == backbone
    assert backbone.side == 16
    assert backbone.build().output_shape == (None, 5)
    other = Backbone.register("other", own_model(scale=2.0))
    assert backbone.weights_digest() != other.weights_digest()
    again = Backbone.register("again", own_model())
    assert backbone.weights_digest() == again.weights_digest()


def test_a_registered_model_that_was_trained_since_is_another_one() -> None:
    model = own_model()
    backbone = Backbone.register("own", model)
    before = backbone.weights_digest()
    backbone.build()
    assert backbone.weights_digest() == before  # to be used, or frozen, changes no row
    layer = model.get_layer("sum")
    layer.set_weights([2 * values for values in layer.get_weights()])
    assert backbone.weights_digest() != before
    assert Backbone.register("own", model).weights_digest() != before


def test_a_published_name_cannot_be_taken() -> None:
    with pytest.raises(BackboneError, match="'resnet50' is a published backbone"):
        Backbone.register("resnet50", own_model())


def test_what_is_no_backbone_is_refused_with_the_way_out() -> None:
    with pytest.raises(BackboneError, match="Backbone.register"):
        find_backbone(own_model())
