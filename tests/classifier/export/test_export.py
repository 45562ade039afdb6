"""One network in a file: every format agrees with the head on cached embeddings."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import featx
from featx import Backbone, Recipe, dense, heads
from featx.classifier.classifier import ImageClassifier
from featx.classifier.export.folding import folded, pixels_to_embeddings
from featx.classifier.export.parity import verify_parity
from featx.cli.app import app
from featx.datasets.dataset import as_dataset
from featx.errors import ExportError
from featx.storage import atomic
from tests.conftest import draw_folder
from tests.fakes import TINY

FOLDABLE: dict[str, Callable[[], Any]] = {
    "logistic": lambda: heads.logistic(C=0.1),
    "ridge": heads.ridge,
    "mlp": lambda: heads.mlp((9, 5)),
    "linear_svm": heads.linear_svm,
    "dense": lambda: heads.dense(Recipe((dense.BatchNorm(), dense.Dense(8)), epochs=2)),
}


@pytest.fixture(scope="module")
def small() -> featx.Backbone:
    """Return a network of one layer, for what does not depend on the network.

    MobileNetV2 meets each format once: with trees in ONNX, with other heads in the others.
    """
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255)]
    layers.append(keras.layers.Conv2D(12, 3, activation="relu"))
    return featx.Backbone.register("one_layer", keras.Sequential(layers, name="one_layer"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("images") / "three")


@pytest.fixture
def cached(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache embeddings over all tests of this module: the network runs once."""
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path_factory.getbasetemp() / "export-embeddings"))


def trained(
    images: Path, head: Any, classes: int = 3, backbone: featx.Backbone = TINY
) -> ImageClassifier:
    chosen = as_dataset(images)
    if classes == 2:
        chosen = chosen.subset(range(16))
    return ImageClassifier(backbone, head).fit(chosen)


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", FOLDABLE)
def test_folded_head_is_the_head_on_cached_embeddings(
    name: str, classes: int, images: Path, small: featx.Backbone
) -> None:
    model = trained(images, FOLDABLE[name](), classes, small)
    parity = verify_parity(model, images)
    assert parity.holds, str(parity)
    assert parity.largest <= 1e-5
    assert (parity.images, parity.same_class) == (24, 24)


@pytest.mark.usefixtures("cached")
def test_parity_names_the_image_that_differs(images: Path, small: featx.Backbone) -> None:
    model = trained(images, heads.logistic(C=0.1), backbone=small)
    network = folded(small, model.head_)

    def other(batch: np.ndarray) -> np.ndarray:
        found = np.array(network(batch))
        found[13] = [0, 0, 1]
        return found

    parity = verify_parity(model, images, other)
    assert not parity.holds
    assert parity.worst == "green/05.png"
    assert parity.beyond == 1
    assert "MORE than the tolerance of 0.0001 for 1 of them" in str(parity)


@pytest.mark.usefixtures("cached")
def test_onnx(images: Path, small: featx.Backbone, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    model = trained(images, heads.mlp((9,)), backbone=small)
    model.export(tmp_path / "m.onnx")
    parity = verify_parity(model, images, tmp_path / "m.onnx")
    assert parity.holds, str(parity)
    about = {one.key: one.value for one in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(about["classes"]) == ["blue", "green", "red"]


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("classes", [2, 3])
def test_onnx_with_trees(classes: int, images: Path, small: featx.Backbone, tmp_path: Path) -> None:
    for name in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(name)
    backbone = TINY if classes == 3 else small
    model = trained(images, heads.xgboost(n_estimators=20), classes, backbone)
    model.export(tmp_path / "trees.onnx")
    # On the images that its thresholds were found on, whose embeddings ONNX Runtime rounds its way.
    parity = verify_parity(model, images, tmp_path / "trees.onnx")
    assert parity.holds, str(parity)
    with pytest.raises(ExportError, match="xgboost can be written as ONNX alone"):
        model.export(tmp_path / "trees.tflite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trees.onnx", "trees.onnx.json"]


@pytest.mark.usefixtures("cached")
def test_trees_that_featx_does_not_know_are_not_exported(
    images: Path, small: featx.Backbone, tmp_path: Path
) -> None:
    for name in ("onnx", "tf2onnx"):
        pytest.importorskip(name)
    model = trained(images, heads.xgboost(n_estimators=2), backbone=small)
    features = model.features(featx.Dataset.from_folder(images))
    model.head_.model_.set_params(num_parallel_tree=2)  # a forest in each round
    model.head_.model_.fit(features.X, np.searchsorted(model.classes_, features.y.astype(str)))
    with pytest.raises(ExportError, match=r"XGBoostHead cannot be exported.*parallel trees"):
        model.export(tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("mode", ["caffe", "torch"])
def test_onnx_holds_the_numbers_of_the_preprocessing(
    mode: str, images: Path, small: featx.Backbone, tmp_path: Path
) -> None:
    for name in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(name)
    network = small.build().get_layer("network")
    own = featx.Backbone.register(f"one_layer_{mode}", network, preprocessing=mode)
    model = trained(images, heads.linear_svm(), backbone=own)
    model.export(tmp_path / "m.onnx")
    parity = verify_parity(model, images, tmp_path / "m.onnx")
    assert parity.holds, str(parity)


@pytest.mark.usefixtures("cached")
def test_tflite(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    model = trained(images, heads.linear_svm())
    model.export(tmp_path / "m.tflite")
    parity = verify_parity(model, images, tmp_path / "m.tflite")
    assert parity.holds, str(parity)
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        assert archive.read("labels.txt") == b"blue\ngreen\nred\n"


@pytest.mark.usefixtures("cached")
def test_keras(images: Path, tmp_path: Path) -> None:
    import keras

    model = trained(images, FOLDABLE["dense"]())
    model.export(tmp_path / "m.keras")
    network = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    parity = verify_parity(model, images, network)
    assert parity.holds, str(parity)
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.read("labels.txt") == b"blue\ngreen\nred\n"


@pytest.mark.usefixtures("cached")
def test_saved_model(images: Path, small: featx.Backbone, tmp_path: Path) -> None:
    import tensorflow as tf

    trained(images, heads.linear_svm(), 2, small).export(tmp_path / "saved", "savedmodel")
    model = trained(images, heads.logistic(C=0.1))
    model.export(tmp_path / "saved", format="savedmodel")  # over the older one
    loaded = tf.saved_model.load(tmp_path / "saved")
    parity = verify_parity(model, images, loaded.serve)
    assert parity.holds, str(parity)
    labels = tmp_path / "saved" / "assets.extra" / "labels.txt"
    assert labels.read_text(encoding="utf-8") == "blue\ngreen\nred\n"


@pytest.mark.slow
@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("name", ["m.onnx", "cropped.onnx", "m.keras", "m.tflite", "saved"])
def test_an_export_carries_what_it_takes_and_a_snippet_that_runs_it(
    name: str, images: Path, small: featx.Backbone, tmp_path: Path
) -> None:
    if name.startswith("cropped"):
        small = replace(small, resize="crop", filter="bicubic")
    model = trained(images, heads.logistic(C=0.1), backbone=small)
    facts = model.export(tmp_path / name, "savedmodel" if name == "saved" else None)
    assert facts == json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert facts["input"]["shape"] == [None, small.side, small.side, 3]
    assert facts["input"]["channels"].startswith("RGB")
    assert facts["output"]["classes"] == ["blue", "green", "red"]
    assert inside(tmp_path / name) == facts
    told = CliRunner().invoke(app, ["info", str(tmp_path / name), "--json"]).stdout
    assert json.loads(told)["kind"] == f"exported model ({facts['format']})"
    assert json.loads(told)["classes"] == ["blue", "green", "red"]
    assert told == CliRunner().invoke(app, ["info", f"{tmp_path / name}.json", "--json"]).stdout

    photo = Image.open(images / "green" / "05.png").convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned upright
    photo = photo.resize((3 * photo.width, photo.height))
    photo.rotate(90, expand=True).save(tmp_path / "photo.jpg", quality=100, exif=turned)
    done = subprocess.run(
        [sys.executable, "-c", facts["snippet"]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    named, proba = done.stdout.split()
    (expected,) = model.predict_proba(tmp_path / "photo.jpg")
    assert named == model.classes_[expected.argmax()] == "green"
    assert float(proba) == pytest.approx(expected.max(), abs=1e-4)


def inside(path: Path) -> Any:
    """Return the facts that lie in an exported file."""
    if path.is_dir():
        return json.loads((path / "assets.extra" / "featx.json").read_text(encoding="utf-8"))
    if path.suffix == ".onnx":
        import onnx

        about = {one.key: one.value for one in onnx.load(path).metadata_props}
        return json.loads(about["featx"])
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("featx.json"))


@pytest.mark.usefixtures("cached")
def test_what_cannot_be_exported_says_so(
    images: Path, small: featx.Backbone, tmp_path: Path
) -> None:
    model = trained(images, heads.nearest(), backbone=small)
    with pytest.raises(ExportError, match="NearestHead cannot be expressed as layers of a network"):
        model.export(tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="m.pb does not tell the format: expected a path"):
        model.export(tmp_path / "m.pb")
    with pytest.raises(ExportError, match="load it yourself"):
        verify_parity(model, images, tmp_path / "m.keras")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("cached")
def test_a_folder_of_something_else_is_left_alone(
    images: Path, small: featx.Backbone, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    model = trained(images, heads.logistic(C=0.1), backbone=small)
    with pytest.raises(ExportError, match="holds something else; it was left alone"):
        model.export(tmp_path / "photos", format="savedmodel")
    assert (tmp_path / "photos" / "mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("cached")
def test_a_file_is_not_put_where_a_folder_is_or_none(
    images: Path, small: featx.Backbone, tmp_path: Path
) -> None:
    model = trained(images, heads.logistic(C=0.1), backbone=small)
    model.export(tmp_path / "saved.keras", format="savedmodel")
    with pytest.raises(IsADirectoryError, match="expected the name of a file"):
        model.export(tmp_path / "saved.keras")
    assert (tmp_path / "saved.keras" / "saved_model.pb").is_file(), "not replaced by a file"
    for name, format in (("m.keras", "keras"), ("m", "savedmodel")):
        with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
            model.export(tmp_path / "absent" / name, format=format)


@pytest.mark.usefixtures("cached")
def test_a_failed_export_leaves_the_old_file(
    images: Path, small: featx.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **folders: Any) -> None:
        raise OSError(28, "No space left on device")

    model = trained(images, heads.logistic(C=0.1), backbone=small)
    path = tmp_path / "m.keras"
    path.write_bytes(b"old")
    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        model.export(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_embeddings_in_int8_are_not_folded() -> None:
    backbone = Backbone("mobilenet_v2", weights=None, image_size=32, precision="int8")
    with pytest.raises(ExportError, match="only OpenVINO computes"):
        pixels_to_embeddings(backbone)
