"""Weights and groups of images in ImageClassifier, and in the file of a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import featx
from featx import heads
from featx.classifier.classifier import ImageClassifier, load
from featx.errors import DatasetError, HeadError, ModelFormatError, OptionError
from featx.features import Features
from tests.fakes import TINY, CountingRuntime

SPEC = {"backbone": "mobilenet_v2", "side": 32, "key": "k"}


@pytest.fixture
def model() -> ImageClassifier:
    return ImageClassifier(TINY, heads.logistic(C=0.1), runtime=CountingRuntime())


def given(n: int = 40, dim: int = 12) -> Features:
    rng = np.random.default_rng(0)
    y = np.array(["common", "rare"], dtype=object)[(np.arange(n) % 4 == 0).astype(int)]
    X = rng.normal(size=(n, dim)).astype(np.float32)
    X[y == "rare"] += 0.7
    return Features(X, y, [f"p{i // 4}/{i}.png" for i in range(n)], spec=dict(SPEC))


def test_weights_reach_the_head(image_folder: Path, model: ImageClassifier) -> None:
    paths = sorted(image_folder.rglob("*.png"))
    labels = [path.parent.name for path in paths]
    weights = np.arange(24) % 3
    weighted = model.fit(paths, labels, sample_weight=weights).predict_proba(paths)
    repeated = np.repeat(np.arange(24), weights)
    twice = model.fit([paths[i] for i in repeated], [labels[i] for i in repeated])
    np.testing.assert_allclose(weighted, twice.predict_proba(paths), rtol=1e-5)
    by_list = model.fit(paths, labels, sample_weight=weights.tolist()).predict_proba(paths)
    np.testing.assert_array_equal(by_list, weighted)


def test_weights_stay_with_their_images_where_some_cannot_be_used(
    image_folder: Path, model: ImageClassifier
) -> None:
    weights = np.arange(24) % 5 + 1.0
    (image_folder / "blue" / "02.png").write_bytes(b"no image")
    model.set_params(on_error="skip").fit(image_folder, sample_weight=weights)
    found = model.predict_proba(sorted(image_folder.rglob("[!b]*/*.png")))
    (image_folder / "blue" / "02.png").unlink()
    rest = np.delete(weights, 2)
    model.fit(image_folder, sample_weight=rest)
    again = model.predict_proba(sorted(image_folder.rglob("[!b]*/*.png")))
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 23, r"sample_weight has the shape \(23,\); expected \(24,\), one entry for each"),
        ([[1.0]] * 24, r"shape \(24, 1\)"),
        ([-1.0] * 24, "24 of 24 weights are below zero"),
    ],
)
def test_weights_that_cannot_be(
    weights: list[Any], message: str, image_folder: Path, model: ImageClassifier
) -> None:
    with pytest.raises(DatasetError, match=message):
        model.fit(image_folder, sample_weight=weights)


def test_a_classifier_without_weights_says_so(image_folder: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    model = ImageClassifier(TINY, KNeighborsClassifier(3), runtime=CountingRuntime())
    with pytest.raises(HeadError, match="KNeighborsClassifier takes no weights"):
        model.fit(image_folder, sample_weight=[1.0] * 24)
    model.fit(image_folder, groups=re.compile(r"\d+"))


def test_groups_by_path_column_and_list(image_folder: Path, tmp_path: Path) -> None:
    paths = sorted(image_folder.rglob("*.png"))
    frame = pd.DataFrame({"path": [str(path) for path in paths]})
    frame["label"] = [path.parent.name for path in paths]
    frame["day"] = [path.stem for path in paths]
    chosen = []
    for images, groups in (
        (image_folder, lambda name: name.split("/")[1]),
        (image_folder, re.compile(r"(\d+)\.png")),
        (frame, "day"),
        (frame, frame["day"].tolist()),
    ):
        model = ImageClassifier(TINY, "logistic", runtime=CountingRuntime())
        chosen.append(model.fit(images, groups=groups).head_.losses_)
    assert chosen[0] == chosen[1] == chosen[2] == chosen[3]
    plain = ImageClassifier(TINY, "logistic", runtime=CountingRuntime()).fit(image_folder)
    assert plain.head_.losses_ != chosen[0], "other folds"
    with pytest.raises(DatasetError, match="is the name of a column, and .* is not a table"):
        plain.fit(image_folder, groups="day")


@pytest.mark.parametrize("class_weight", ["balanced", {"common": 1, "rare": 2.5}])
@pytest.mark.parametrize("name", sorted(heads.HEADS))
def test_a_weighted_head_is_the_same_after_loading(
    name: str, class_weight: Any, tmp_path: Path
) -> None:
    options = {"recipe": featx.Recipe(epochs=2)} if name == "dense" else {}
    head = heads.HEADS[name](class_weight=class_weight, **options)
    features = given()
    model = ImageClassifier(TINY, head)
    model.fit(features, sample_weight=np.arange(40) % 3)
    digest = model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx")
    np.testing.assert_array_equal(again.predict_proba(features), model.predict_proba(features))
    assert again.predict(features).tolist() == model.predict(features).tolist()
    assert again.head_.class_weight == class_weight
    assert again.save(tmp_path / "again.featx") == digest


NUMBERS_AS_TEXT: dict[str, Any] = {
    "logistic": LogisticRegression(class_weight={"9": 1, "10": 8}),
    "forest": RandomForestClassifier(5, random_state=0, class_weight={"9": 1, "10": 8}),
    "step": make_pipeline(StandardScaler(), LogisticRegression(class_weight={"9": 1, "10": 8})),
    "searched": GridSearchCV(LogisticRegression(class_weight={"9": 1, "10": 8}), {"C": [1]}, cv=2),
    "tried": GridSearchCV(
        LogisticRegression(), {"class_weight": [{"9": 1, "10": 8}]}, cv=2, error_score="raise"
    ),
}


@pytest.mark.parametrize("kind", NUMBERS_AS_TEXT)
def test_scikit_learns_classifiers_take_weights_of_numbers_written_as_text(kind: str) -> None:
    features = given()
    assert features.y is not None
    text = ["9" if label == "common" else "10" for label in features.y.tolist()]
    head = NUMBERS_AS_TEXT[kind]
    as_text = ImageClassifier(TINY, head).fit(features, text)
    assert as_text.classes_.tolist() == ["9", "10"]
    # The same weights by other names: classes in the same order.
    named = clone(head)
    for name, value in head.get_params().items():
        if name.endswith("class_weight") and isinstance(value, dict):
            named.set_params(**{name: {"a": 1, "b": 8}})
    if kind == "tried":
        named.set_params(param_grid={"class_weight": [{"a": 1, "b": 8}]})
    by_name = ImageClassifier(TINY, named).fit(features, ["ab"[len(t) - 1] for t in text])
    renamed = {"9": "a", "10": "b"}
    assert [renamed[one] for one in as_text.predict(features)] == by_name.predict(features).tolist()
    odd = ImageClassifier(TINY, LogisticRegression(class_weight={"9": 1, "11": 8}))
    with pytest.raises(OptionError, match="weights for '11', which is not a class here"):
        odd.fit(features, text)


def test_weights_by_whole_numbers_as_labels(tmp_path: Path) -> None:
    features = given()
    y = (np.asarray(features.y) == "rare").astype(int)
    model = ImageClassifier(TINY, heads.logistic(C=1.0, class_weight={0: 1, 1: 3}))
    model.fit(features, y)
    model.save(tmp_path / "m.featx")
    assert load(tmp_path / "m.featx").head_.class_weight == {0: 1, 1: 3}


def test_weights_in_a_file_that_are_no_pairs(tmp_path: Path) -> None:
    from featx.classifier.file import head_state

    for odd in ([["a"]], ["a", 1], [["a", [1]]], {"a": 1}):
        with pytest.raises(ModelFormatError, match="not pairs|not a number or text"):
            head_state.made(heads.LogisticHead, {"class_weight": odd})


@pytest.mark.weights
def test_a_rare_class_of_real_images(datasets: Path) -> None:
    """Six images of one kind of waste beside all of another, balanced by hand and by name."""
    images = featx.Dataset.from_folder(datasets / "flowers" / "train")
    first, second = images.classes[:2]
    chosen = [n for n, item in enumerate(images) if item.label == first][:60]
    chosen += [n for n, item in enumerate(images) if item.label == second][:6]
    few = images.subset(chosen)
    weights = np.where(few.labels == second, 33 / 6, 33 / 60)
    model = ImageClassifier("mobilenet_v2", heads.logistic(C=0.01), examples=0)
    by_hand = model.fit(few, sample_weight=weights).predict_proba(few)
    balanced = heads.logistic(C=0.01, class_weight="balanced")
    by_name = model.set_params(head=balanced).fit(few).predict_proba(few)
    np.testing.assert_allclose(by_hand, by_name, atol=1e-6)
    plain = model.set_params(head=heads.logistic(C=0.01)).fit(few).predict_proba(few)
    assert by_name[:, 1].mean() > plain[:, 1].mean() + 0.02


def test_an_image_twice_is_an_image_of_weight_2(tmp_path: Path) -> None:
    """In folders as they are found: a copy under another name."""
    rng = np.random.default_rng(0)
    for label, shade in (("dark", 90), ("light", 120)):
        (tmp_path / "one" / label).mkdir(parents=True)
        (tmp_path / "two" / label).mkdir(parents=True)
        for number in range(6):
            pixels = rng.normal(shade, 30, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "one" / label / f"{number}.png")
            Image.fromarray(pixels).save(tmp_path / "two" / label / f"{number}.png")
            if number == 0:
                Image.fromarray(pixels).save(tmp_path / "two" / label / "copy.png")
    weights = np.where(np.arange(12) % 6 == 0, 2, 1)
    for head in ("logistic", "nearest", "linear_svm"):
        model = ImageClassifier(TINY, head, runtime=CountingRuntime())
        one = model.fit(tmp_path / "one", sample_weight=weights).predict_proba(tmp_path / "one")
        two = model.fit(tmp_path / "two").predict_proba(tmp_path / "one")
        np.testing.assert_allclose(one, two, rtol=1e-5, err_msg=head)
