"""One network in a file: every format agrees with the head on kept rows, by its own runtime."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featx
from featx import Recipe, dense, heads, images
from featx.classifier import ImageClassifier
from featx.datasets import as_dataset
from featx.errors import ExportError
from featx.folding import folded
from featx.parity import verify_parity
from tests.conftest import draw_folder
from tests.fakes import TINY

FOLDABLE: dict[str, Callable[[], Any]] = {
    "logistic": lambda: heads.logistic(C=0.1),
    "mlp": lambda: heads.mlp((9, 5)),
    "linear_svm": heads.linear_svm,
    "dense": lambda: heads.dense(Recipe((dense.BatchNorm(), dense.Dense(8)), epochs=2)),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("pictures") / "three")


@pytest.fixture
def kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep rows over all tests of this module: the network runs once."""
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path_factory.getbasetemp() / "export-rows"))


def trained(pictures: Path, head: Any, classes: int = 3) -> ImageClassifier:
    chosen = as_dataset(pictures)
    if classes == 2:
        chosen = chosen.subset(range(16))
    return ImageClassifier(TINY, head).fit(chosen)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", FOLDABLE)
def test_folded_head_is_the_head_on_kept_rows(name: str, classes: int, pictures: Path) -> None:
    model = trained(pictures, FOLDABLE[name](), classes)
    parity = verify_parity(model, pictures)
    assert parity.holds, str(parity)
    assert parity.largest <= 1e-5
    assert (parity.pictures, parity.same_class) == (24, 24)


@pytest.mark.usefixtures("kept")
def test_parity_names_the_picture_that_differs(pictures: Path) -> None:
    model = trained(pictures, heads.logistic(C=0.1))
    network = folded(TINY, model.head_)

    def other(batch: np.ndarray) -> np.ndarray:
        found = np.array(network(batch))
        found[13] = [0, 0, 1]
        return found

    parity = verify_parity(model, pictures, other)
    assert not parity.holds
    assert parity.worst == "green/05.png"
    assert "MORE than the tolerance of 0.0001" in str(parity)


@pytest.mark.usefixtures("kept")
def test_onnx(pictures: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    model = trained(pictures, heads.mlp((9,)))
    model.export(tmp_path / "m.onnx")
    parity = verify_parity(model, pictures, tmp_path / "m.onnx")
    assert parity.holds, str(parity)
    about = {one.key: one.value for one in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(about["classes"]) == ["blue", "green", "red"]


def with_rows(path: Path, pictures: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what an exported ONNX model with trees answers, and the rows its trees were given."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    (trees,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor"]
    name = trees.input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    pixels = np.stack([images.load(item.source, TINY.side) for item in as_dataset(pictures)])
    found, rows = session.run(None, {session.get_inputs()[0].name: pixels})
    return found, rows


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("classes", [2, 3])
def test_onnx_with_trees(classes: int, pictures: Path, tmp_path: Path) -> None:
    for name in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(name)
    model = trained(pictures, heads.xgboost(n_estimators=20), classes)
    model.export(tmp_path / "trees.onnx")
    found, rows = with_rows(tmp_path / "trees.onnx", pictures)
    # Not on the kept rows: another runtime rounds them otherwise, and trees jump at thresholds.
    np.testing.assert_allclose(found, model.scores(rows), atol=1e-6)
    assert verify_parity(model, pictures, tmp_path / "trees.onnx").same_class == 24
    with pytest.raises(ExportError, match="xgboost can be written as ONNX alone"):
        model.export(tmp_path / "trees.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["trees.onnx"]


@pytest.mark.usefixtures("kept")
def test_tflite(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    model = trained(pictures, heads.linear_svm())
    model.export(tmp_path / "m.tflite")
    parity = verify_parity(model, pictures, tmp_path / "m.tflite")
    assert parity.holds, str(parity)
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        assert archive.read("labels.txt") == b"blue\ngreen\nred\n"


@pytest.mark.usefixtures("kept")
def test_keras(pictures: Path, tmp_path: Path) -> None:
    import keras

    model = trained(pictures, FOLDABLE["dense"]())
    model.export(tmp_path / "m.keras")
    network = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    parity = verify_parity(model, pictures, network)
    assert parity.holds, str(parity)
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.read("labels.txt") == b"blue\ngreen\nred\n"


@pytest.mark.usefixtures("kept")
def test_saved_model(pictures: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    model = trained(pictures, heads.logistic(C=0.1))
    for _ in range(2):  # over an older export
        model.export(tmp_path / "saved", format="savedmodel")
    loaded = tf.saved_model.load(tmp_path / "saved")
    parity = verify_parity(model, pictures, loaded.serve)
    assert parity.holds, str(parity)
    labels = tmp_path / "saved" / "assets.extra" / "labels.txt"
    assert labels.read_text(encoding="utf-8") == "blue\ngreen\nred\n"


@pytest.mark.usefixtures("kept")
def test_what_cannot_be_exported_says_so(pictures: Path, tmp_path: Path) -> None:
    model = trained(pictures, heads.nearest())
    with pytest.raises(ExportError, match="NearestHead does not come to layers of a network"):
        model.export(tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="expected one of keras, savedmodel, onnx, tflite"):
        model.export(tmp_path / "m.pb")
    with pytest.raises(ExportError, match="load it yourself"):
        verify_parity(model, pictures, tmp_path / "m.keras")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("kept")
def test_a_folder_of_something_else_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    model = trained(pictures, heads.logistic(C=0.1))
    with pytest.raises(ExportError, match="holds something else; it was left alone"):
        model.export(tmp_path / "photos", format="savedmodel")
    assert (tmp_path / "photos" / "mine.txt").read_text() == "mine"
    assert featx.__version__
