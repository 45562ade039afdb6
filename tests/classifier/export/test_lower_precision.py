"""Parity in lower precision: like with like, and what answering in float32 changes."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

import featx
from featx import heads
from featx.classifier.classifier import ImageClassifier, load
from featx.classifier.export import parity
from featx.classifier.export.folding import folded
from featx.classifier.export.parity import verify_parity
from featx.cli import app
from featx.errors import RuntimeUnavailableError
from featx.runtimes import openvino_runtime
from tests.fakes import TINY


def lower(precision: str) -> featx.Backbone:
    return replace(TINY, precision=precision)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["logistic", "nearest"])
def test_like_is_compared_with_like(precision: str, name: str, image_folder: Path) -> None:
    """Also for a head that cannot be folded: the network in that precision runs by itself."""
    head = heads.logistic(C=10.0) if name == "logistic" else heads.nearest()
    model = ImageClassifier(lower(precision), head).fit(image_folder)
    found = verify_parity(model, image_folder)
    assert found.precision == precision
    assert found.holds, str(found)
    assert found.same_class == found.images == 24
    assert found.change is not None
    assert found.change.precision == precision
    assert found.change.images == 24
    assert found.change.largest > found.largest
    assert f"Answering in float32 in place of {precision}, as an exported file" in str(found)


def test_the_change_is_that_of_the_embeddings_in_float32(image_folder: Path) -> None:
    """The head's answers on float32 embeddings of the cache, counted by hand."""
    model = ImageClassifier(lower("bfloat16"), heads.logistic(C=10.0)).fit(image_folder)
    change = verify_parity(model, image_folder).change
    assert change is not None
    cached = model.predict_proba(image_folder)
    in_float32 = model.head_.predict_proba(featx.extract(image_folder, TINY, progress=False).X)
    apart = np.abs(cached - in_float32).max(axis=1)
    assert change.largest == pytest.approx(apart.max(), rel=1e-2, abs=1e-6)
    assert change.other_class == int((cached.argmax(axis=1) != in_float32.argmax(axis=1)).sum())
    assert change.share == change.other_class / 24


def test_float32_has_no_change(image_folder: Path) -> None:
    model = ImageClassifier(TINY, heads.logistic(C=0.1)).fit(image_folder)
    found = verify_parity(model, image_folder)
    assert (found.precision, found.tolerance, found.change) == ("float32", 1e-5, None)
    assert found.holds


def test_a_cached_embedding_of_another_image_is_found(image_folder: Path) -> None:
    """The comparison in bfloat16 is no formality: rows in the wrong order do not pass it."""
    backbone = lower("bfloat16")
    features = featx.extract(image_folder, backbone, progress=False)
    head = heads.logistic(C=10.0).fit(features.X, features.y)
    dataset = featx.Dataset.from_folder(image_folder)
    right = parity.compare(backbone, head, dataset, features.X)
    wrong = parity.compare(backbone, head, dataset, features.X[::-1])
    assert right.holds
    assert not wrong.holds


def test_a_network_that_is_given_is_compared_in_float32(image_folder: Path) -> None:
    model = ImageClassifier(lower("bfloat16"), heads.logistic(C=10.0)).fit(image_folder)
    network = folded(TINY, model.head_)
    found = verify_parity(model, image_folder, lambda batch: np.asarray(network(batch)))
    assert found.holds, str(found)
    assert (found.precision, found.tolerance) == ("float32", 1e-4)
    assert found.change is not None
    assert found.change.largest > 1e-4


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_export_answers_in_float32_and_says_what_that_changes(
    precision: str, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import keras

    model = ImageClassifier(lower(precision), heads.logistic(C=10.0)).fit(image_folder)
    with caplog.at_level(logging.WARNING, "featx"):
        model.export(tmp_path / "m.keras")
    (record,) = [one for one in caplog.records if "exported file" in one.getMessage()]
    text = record.getMessage()
    assert f"trained on embeddings in {precision}, and the exported file answers in float32" in text
    assert "on stored training images" in text
    assert "of 24 images" in text
    network = keras.saving.load_model(tmp_path / "m.keras")
    found = verify_parity(model, image_folder, lambda batch: np.asarray(network(batch)))
    assert found.holds, str(found)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "featx"):
        ImageClassifier(TINY, heads.logistic(C=1.0)).fit(image_folder).export(tmp_path / "f.keras")
    assert not caplog.records


def test_export_on_the_command_line_says_it_too(image_folder: Path, tmp_path: Path) -> None:
    """From a saved model, which holds small copies; and one that holds no image at all."""
    for examples, expected in ((1000, "of 24 images"), (0, "holds no images to measure")):
        head = heads.logistic(C=1.0)
        model = ImageClassifier(lower("bfloat16"), head, examples=examples).fit(image_folder)
        model.save(tmp_path / "m.featx")
        words = ["export", str(tmp_path / "m.featx"), str(tmp_path / "m.keras"), "--force"]
        result = CliRunner().invoke(app.app, words)
        assert result.exit_code == 0, result.output
        text = " ".join(result.output.split())
        assert "WARNING: the head was trained on embeddings in bfloat16" in text
        assert expected in text


def test_an_export_is_there_where_the_change_cannot_be_measured(
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = ImageClassifier(lower("bfloat16"), heads.logistic(C=1.0)).fit(image_folder)
    model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx")

    def missing(*_: Any, **__: Any) -> Any:
        raise RuntimeUnavailableError("no such processor")

    monkeypatch.setattr(ImageClassifier, "features", missing)
    with caplog.at_level(logging.WARNING, "featx"):
        again.export(tmp_path / "m.keras")
    assert (tmp_path / "m.keras").is_file()
    assert "was not measured (no such processor)" in caplog.text


def test_a_report_in_bfloat16_does_not_shout(image_folder: Path, tmp_path: Path) -> None:
    report = featx.benchmark(
        image_folder,
        backbones=[lower("bfloat16")],
        heads=[heads.logistic(C=10.0)],
        baseline=False,
        folds=2,
        progress=False,
    )
    schema = resources.files("featx.evaluation.report").joinpath("templates/report.schema.json")
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    jsonschema.validate(document, json.loads(schema.read_text()))
    (proof,) = document["evidence"]["parity"]
    assert proof["holds"] is True
    assert proof["precision"] == "bfloat16"
    assert proof["change"]["images"] == proof["images"] == 12
    report.save(tmp_path)
    lines = (tmp_path / "report.md").read_text().replace("\xa0", " ").splitlines()
    parities = [line for line in lines if line.startswith("- Parity:")]
    assert len(parities) == 2, "what float32 changes has a line of its own"
    assert "NOT the same" not in " ".join(parities)
    assert "the whole network in bfloat16 too" in parities[0]
    assert (
        "Answering in float32 in place of bfloat16, as an exported file does, names" in parities[1]
    )
    assert "Answering in float32" in (tmp_path / "report.html").read_text().replace("\xa0", " ")


@pytest.mark.weights
def test_flowers_in_bfloat16(datasets: Path) -> None:
    images = featx.Dataset.from_folder(datasets / "flowers" / "test")
    some = images.subset(range(0, len(images), 8))
    backbone = featx.Backbone("mobilenet_v2", precision="bfloat16")
    model = ImageClassifier(backbone, heads.logistic(C=0.01), examples=0).fit(some)
    found = verify_parity(model, some)
    assert found.holds, str(found)
    assert found.change is not None
    assert 0 < found.change.largest < 0.6


@pytest.mark.weights
def test_flowers_in_int8(datasets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("nncf")
    backbone = featx.Backbone("mobilenet_v2", precision="int8")
    reason = openvino_runtime.refusal(backbone)
    if reason is not None:
        pytest.skip(reason)
    images = featx.Dataset.from_folder(datasets / "flowers" / "test")
    some = images.subset(range(0, len(images), 8))
    try:
        model = ImageClassifier(backbone, heads.logistic(C=0.01)).fit(some)
    except RuntimeUnavailableError as error:  # of a processor whose kernels round more
        pytest.skip(str(error))
    found = verify_parity(model, some)
    assert found.holds, str(found)
    assert found.precision == "int8"
    assert found.change is not None
    assert found.change.largest > found.largest
    with caplog.at_level(logging.WARNING, "featx"):
        model.export(tmp_path / "m.keras")
    assert (tmp_path / "m.keras").is_file()
    assert f"names another class for {found.change.other_class} of 32 images" in caplog.text
