"""Explanations: similar training pictures always, activation maps where rows are means of maps."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featx
from featx import Recipe, dense, heads
from featx.activation import Activation, Missing
from featx.backbones import find
from featx.classifier import ImageClassifier
from featx.explain import Explainer, Explanation, save
from featx.predictions import Prediction
from tests.fakes import TINY

SMALL = featx.Backbone("mobilenet_v2", weights=None, image_size=96)
HEADS = {
    "logistic": lambda: heads.logistic(C=0.1),
    "mlp": lambda: heads.mlp((9, 5)),
    "linear_svm": heads.linear_svm,
    "dense": lambda: heads.dense(
        Recipe((dense.BatchNorm(), dense.Dense(6), dense.Dropout(0.2)), epochs=2)
    ),
}


def logits(head: object, row: np.ndarray) -> np.ndarray:
    return np.log(np.asarray(head.predict_proba(row[None].astype(np.float32)), np.float64)[0])


@pytest.mark.parametrize("name", HEADS)
def test_the_mean_of_a_map_is_what_a_step_along_the_row_does(
    name: str, picture_folder: Path
) -> None:
    model = ImageClassifier(SMALL, HEADS[name]()).fit(picture_folder)
    activation = Activation(find(SMALL), model.head_)
    path = picture_folder / "red" / "00.png"
    row = model.features([path]).X[0]
    places = activation.map(path, row, 2)
    assert isinstance(places, np.ndarray)
    assert places.shape == (3, 3)
    # In numbers: grow the row by a thousandth, and see the red logit grow above the mean of all.
    step = logits(model.head_, row * 1.001) - logits(model.head_, row * 0.999)
    expected = (step - step.mean())[2] / 0.002
    assert places.mean() == pytest.approx(expected, rel=0.05, abs=0.02)


def test_no_map_says_why(picture_folder: Path) -> None:
    model = ImageClassifier(TINY, "nearest").fit(picture_folder)
    path = picture_folder / "red" / "00.png"
    row = model.features([path]).X[0]
    found = Activation(TINY, model.head_).map(path, row, 0)
    assert isinstance(found, Missing)
    assert "NearestHead does not come to layers" in found.reason
    most = featx.Backbone("mobilenet_v2", weights=None, image_size=32, pooling="max")
    linear = heads.logistic(C=1.0).fit(np.eye(3), ["a", "b", "c"])
    assert "pooling is not 'avg'" in Activation(most, linear).missing.reason
    other = Activation(TINY, heads.logistic(C=1.0).fit(np.eye(1280)[:3], ["a", "b", "c"]))
    found = other.map(path, np.ones(1280), 0)
    assert isinstance(found, Missing)
    assert "goes on after the mean" in found.reason


def test_explanation(picture_folder: Path) -> None:
    model = ImageClassifier(TINY, heads.logistic(C=0.1)).fit(picture_folder)
    path = picture_folder / "blue" / "01.png"
    row = model.features([path]).X[0]
    explained = Explainer(model, k=3).explain(path, row, "blue")
    assert [one.id for one in explained.near][0] == "blue/01.png"
    assert len(explained.near) == 3
    assert all(one.picture is not None for one in explained.near)
    for jpeg in (explained.picture, explained.activation):
        with Image.open(io.BytesIO(jpeg or b"")) as picture:
            assert picture.format == "JPEG"
            assert picture.size == (48, 40)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_page_escapes_what_it_is_given(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\" onload='x'"
    rows = [
        (Prediction(evil, [(evil, 0.5)], ""), Explanation(note=evil)),
        (Prediction("bad.png", [], evil), None),
    ]
    page = save(rows, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    found = _Tags()
    found.feed(text)
    assert "script" not in found.names
    assert not [name for name in found.attributes if name.startswith("on")]
    assert text.count("&lt;script&gt;") == 4
    assert "The model remembers no training pictures." in text
