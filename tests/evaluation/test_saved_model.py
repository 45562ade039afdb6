"""A trained model on images that it did not see: featx.evaluate, and the command."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from typer.testing import CliRunner

import featx
from featx.cli.app import app
from featx.errors import DatasetError
from featx.evaluation import saved_model
from featx.evaluation.protocol.plan import Folds
from featx.formatting import percent
from tests.conftest import draw_folder

TINY = featx.Backbone("mobilenet_v2", weights=None, image_size=32)


def run(*args: str | Path) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[featx.ImageClassifier, Path, Path]:
    """Return a model, its training images, and others of the same classes, two of them wrong."""
    folder = tmp_path_factory.mktemp("model")
    train, test = draw_folder(folder / "train"), draw_folder(folder / "test", seed=1)
    for number in ("0", "1"):
        (found,) = (test / "red").glob(f"*{number}.png")
        found.rename(test / "blue" / f"in truth red {number}.png")
    model = featx.ImageClassifier(TINY, "nearest", cache=folder / "cache").fit(train)
    model.save(folder / "model.featx")
    return model, train, test


def test_scores_are_scikit_learn_s(fitted: tuple[featx.ImageClassifier, Path, Path]) -> None:
    model, _, test = fitted
    found = featx.evaluate(model, test, name="m", dataset="d")
    labels, predicted = featx.Dataset.from_folder(test).labels, model.predict(test)
    data = found.to_dict()
    assert data["accuracy"] == accuracy_score(labels, predicted)
    assert data["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert data["confusion"] == confusion_matrix(labels, predicted).tolist()
    assert data["interval"]["low"] < data["accuracy"] < data["interval"]["high"]
    assert [one["images"] for one in data["classes"]] == [10, 8, 6]
    assert [one["predicted"] for one in data["predictions"]] == predicted.tolist()
    assert data["classes"][0]["recall"] == pytest.approx(0.8)
    assert any("random weights" in one for one in data["cautions"])
    assert repr(found).startswith(f"<featx.Evaluation: {percent(data['accuracy'])} of 24 images")


def test_what_cannot_be_scored_is_said(fitted: tuple[featx.ImageClassifier, Path, Path]) -> None:
    model, train, _ = fitted
    paths = sorted(train.rglob("*.png"))[:2]
    with pytest.raises(DatasetError, match="not in the training set: 'violet'"):
        featx.evaluate(model, featx.Dataset.from_paths(paths, ["violet", "blue"]))


def test_images_that_the_model_was_trained_on_are_named(
    fitted: tuple[featx.ImageClassifier, Path, Path], tmp_path: Path
) -> None:
    model, train, test = fitted
    assert featx.evaluate(model, test).trained_on == ()
    mixed = tmp_path / "mixed"
    shutil.copytree(test, mixed)
    for name in ("blue", "red"):
        shutil.copy(train / name / "00.png", mixed / name / "copy.png")
    for each in (model, featx.load(train.parent / "model.featx", cache=tmp_path / "other cache")):
        found = featx.evaluate(each, mixed)
        assert found.trained_on == ("blue/copy.png", "red/copy.png")
        new = featx.evaluate(model, test).scores.accuracy
        assert found.accuracy_of_new == new < found.scores.accuracy
        assert found.cautions[0] == (
            "2 images of 26 are also in the training set of the model (blue/copy.png, "
            f"red/copy.png); without them the accuracy is {percent(new)}."
        )
        data = found.to_dict()
        assert data["trained_on"] == ["blue/copy.png", "red/copy.png"]
        assert data["accuracy_without_trained_on"] == new
    all_of_them = featx.evaluate(model, train)
    assert all_of_them.accuracy_of_new is None
    assert all_of_them.cautions[0].startswith("The model was trained on every one of these 24")


def test_nothing_is_said_where_the_model_does_not_tell(
    fitted: tuple[featx.ImageClassifier, Path, Path], tmp_path: Path
) -> None:
    model, train, _ = fitted
    features = featx.extract(train, TINY, cache=model.cache, progress=False)
    features.save(tmp_path / "f.h5")
    for silent in (
        featx.ImageClassifier(TINY, "nearest", cache=model.cache, examples=0).fit(train),
        featx.ImageClassifier(TINY, "nearest").fit(featx.Features.load(tmp_path / "f.h5")),
    ):
        silent.cache = model.cache
        silent.save(tmp_path / "silent.featx")
        with zipfile.ZipFile(tmp_path / "silent.featx") as archive:
            assert not [name for name in archive.namelist() if name.startswith("training")]
        loaded = featx.load(tmp_path / "silent.featx", cache=model.cache)
        for one in (silent, loaded):
            found = featx.evaluate(one, train)
            assert found.trained_on is None
            assert not any("training set" in caution for caution in found.cautions)
            assert not any("was trained on" in caution for caution in found.cautions)
    some = featx.ImageClassifier(TINY, "nearest", cache=model.cache).fit(features[::2])
    assert len(some.trained_on_) == 12


def test_train_names_test_images_that_were_trained_on(
    fitted: tuple[featx.ImageClassifier, Path, Path], tmp_path: Path
) -> None:
    _, train, _ = fitted
    options = ("--weights", "none", "--image-size", "32", "--head", "nearest")
    answer = run(
        "train", train, "-b", "mobilenet_v2", *options, "--cache", train.parent / "cache",
        "--out", tmp_path / "m.featx", "--test", train,
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    assert "Caution: The model was trained on every one of these 24 images" in answer.stderr
    assert answer.stderr.count("random weights") == 1


def test_the_page_and_the_json(
    fitted: tuple[featx.ImageClassifier, Path, Path], tmp_path: Path
) -> None:
    model, _, test = fitted
    (test / "red" / "<script>.png").write_bytes(b"no image")
    try:
        found = featx.evaluate(model, test, name="<b>m", dataset="d", on_error="skip")
    finally:
        (test / "red" / "<script>.png").unlink()
    page = (found.save(tmp_path / "out") / "evaluation.html").read_text()
    assert "&lt;b&gt;m" in page
    assert "<b>m" not in page
    assert "&lt;script&gt;.png" in page
    assert page.count('<img alt="image blue/in truth red') == 2
    document = json.loads((tmp_path / "out" / "evaluation.json").read_bytes())
    assert document == json.loads(json.dumps(found.to_dict()))
    assert document["skipped"][0]["id"] == "red/<script>.png"
    assert any("1 image could not be used" in one for one in document["cautions"])


def test_the_command(
    fitted: tuple[featx.ImageClassifier, Path, Path], tmp_path: Path, own_cache: Path
) -> None:
    classifier, _, test = fitted
    model = test.parent / "model.featx"
    headline = featx.evaluate(classifier, test).headline
    options = ("--cache", test.parent / "cache")
    answer = run("evaluate", model, test, *options, "-o", tmp_path / "out")
    assert answer.exit_code == 0, answer.output
    assert headline in answer.stdout
    assert "red (2)" in answer.stdout
    assert "random weights" in answer.stderr
    again = run("evaluate", model, test, *options, "-o", tmp_path / "out")
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    printed = run("evaluate", model, test, *options, "--json")
    assert json.loads(printed.stdout)["model"]["name"] == "model.featx"
    lines = run("info", tmp_path / "out").stdout.splitlines()
    cautions = [line for line in lines if line.startswith("Caution: ")]
    assert len(cautions) == len(
        json.loads(run("info", tmp_path / "out", "--json").stdout)["cautions"]
    )
    assert any("random weights" in line for line in cautions)
    facts = run("info", tmp_path / "out", "--json")
    assert json.loads(facts.stdout)["headline"] == headline


def test_what_was_looked_for_is_said(
    fitted: tuple[featx.ImageClassifier, Path, Path], tmp_path: Path, own_cache: Path
) -> None:
    model, train, test = fitted
    found = featx.evaluate(model, test)
    assert found.looked_for.startswith("Also in the training, by equal content: none. Changed ")
    seen = featx.evaluate(model, train)
    assert seen.looked_for.startswith("Also in the training, by equal content: 24 images. ")
    untold = featx.evaluate(
        featx.ImageClassifier(model.backbone, "ridge", examples=0).fit(train), test
    )
    assert "it does not tell which those are" in untold.looked_for
    page = (found.save(tmp_path / "page") / "evaluation.html").read_text(encoding="utf-8")
    assert found.looked_for in page
    shown = found._repr_html_().replace("\xa0", " ")
    assert found.headline in shown
    assert all(caution in shown for caution in found.cautions)
    assert found.looked_for in shown
    hostile = dataclasses.replace(found, classes=("<script>", *found.classes[1:]))
    assert "<script>" not in hostile._repr_html_()
    file = test.parent / "model.featx"
    answer = run("evaluate", file, test, "--cache", test.parent / "cache")
    assert found.looked_for in " ".join(answer.stdout.split())
    assert run("info", tmp_path / "page" / "evaluation.html").stdout == (
        run("info", tmp_path / "page").stdout
    )


def test_training_images_held_out(fitted: tuple[featx.ImageClassifier, Path, Path]) -> None:
    model, train, _ = fitted
    images = featx.Dataset.from_folder(train)
    held = saved_model.cross_validated(model, images)
    assert held is not None
    assert (held.folds, held.images) == (Folds(3, 3), len(images))
    assert 0.8 <= held.accuracy < 1, "training images that were seen are all right"
    assert held.interval.low < held.accuracy < held.interval.high
    groups = np.array([id.split("/")[0] for id in images.ids])
    assert saved_model.cross_validated(model, images, groups) is None, "a class in one group"


def test_what_a_file_is(fitted: tuple[featx.ImageClassifier, Path, Path], tmp_path: Path) -> None:
    model, train, _ = fitted
    model.features(train).save(tmp_path / "f.h5")
    told = {
        path.name: json.loads(run("info", path, "--json").stdout)
        for path in (train.parent / "model.featx", tmp_path / "f.h5", train.parent / "cache")
    }
    assert told["model.featx"]["classes"] == ["blue", "green", "red"]
    assert told["model.featx"]["kind"] == "model"
    assert (told["f.h5"]["images"], told["f.h5"]["width"]) == (24, 1280)
    assert (told["cache"]["kind"], told["cache"]["networks"]) == ("cache", 1)
    assert "head " in run("info", train.parent / "model.featx").stdout
    answer = run("info", tmp_path / "nothing.featx")
    assert answer.exit_code == 1
    assert "Expected a file or folder that featx wrote: a model" in answer.stderr
    answer = run("info", tmp_path)
    assert answer.exit_code == 1
    assert "neither a cache nor a report" in answer.stderr
    image = next(train.rglob("*.png"))
    answer = run("info", image)
    assert answer.exit_code == 1
    assert "is an image, not a file that featx writes" in answer.stderr
    assert "featx predict" in answer.stderr
