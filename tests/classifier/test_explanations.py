"""Explanations: similar training images always, activation maps where a network has them."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featx
from featx import Recipe, dense, heads
from featx.backbones.backbone import find_backbone
from featx.classifier.activation_maps import Activation, Missing, _map_network
from featx.classifier.classifier import ImageClassifier
from featx.classifier.explanations import AT_ONCE, Explainer, Explanation, save
from featx.classifier.predictions import Prediction
from tests.conftest import draw_folder

SMALL = featx.Backbone("mobilenet_v2", weights=None, image_size=96)
HEADS = {
    "logistic": lambda: heads.logistic(C=0.1),
    "mlp": lambda: heads.mlp((9, 5)),
    "linear_svm": heads.linear_svm,
    # After two epochs the averages of a slow BatchNorm would leave every unit without a slope.
    "dense": lambda: heads.dense(
        Recipe(
            (dense.BatchNorm(momentum=0.5), dense.Dense(6, "tanh"), dense.Dropout(0.2)), epochs=2
        )
    ),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("explained") / "three")


@pytest.fixture(scope="module")
def features(images: Path) -> featx.Features:
    return featx.extract(images, SMALL, cache=images.parent / "cache", progress=False)


@pytest.fixture(scope="module")
def network() -> Any:
    """Return the network of the maps: building it takes longer than every map."""
    return _map_network(find_backbone(SMALL))


def logits(head: Any, embedding: np.ndarray) -> np.ndarray:
    return np.log(np.asarray(head.predict_proba(embedding[None]), np.float64)[0])


@pytest.mark.parametrize("name", HEADS)
def test_the_mean_of_a_map_is_what_a_step_along_the_embedding_does(
    name: str,
    images: Path,
    features: featx.Features,
    network: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("featx.classifier.activation_maps._map_network", lambda backbone: network)
    head = HEADS[name]().fit(features.X, features.y)
    path = images / "red" / "00.png"
    embedding = features.X[features.ids.index("red/00.png")]
    places = Activation(find_backbone(SMALL), head).map(path, embedding, 2)
    assert isinstance(places, np.ndarray)
    assert places.shape == (3, 3)
    # In numbers: a little longer, the embedding has a red logit further above the mean of all.
    # scikit-learn computes in float64 when asked: a step so short crosses the kink of no unit.
    # Keras computes in float32, and tanh has none.
    length, kind = (1e-2, np.float32) if name == "dense" else (1e-6, np.float64)
    longer, shorter = (embedding.astype(kind) * kind(1 + way * length) for way in (1, -1))
    step = logits(head, longer) - logits(head, shorter)
    expected = (step - step.mean())[2] / (2 * length)
    assert abs(expected) > 0.01, "nothing to compare"
    assert places.mean() == pytest.approx(expected, rel=5e-3, abs=2e-4)


def test_no_map_says_why(images: Path, network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.classifier.activation_maps._map_network", lambda backbone: network)
    path = images / "red" / "00.png"
    embedding = np.ones(1280)
    nearest = heads.nearest(k=1).fit(np.eye(1280)[:3], ["a", "b", "c"])
    found = Activation(find_backbone(SMALL), nearest).map(path, embedding, 0)
    assert isinstance(found, Missing)
    assert "NearestHead cannot be expressed as layers" in found.reason
    most = featx.Backbone("mobilenet_v2", weights=None, image_size=32, pooling="max")
    linear = heads.logistic(C=1.0).fit(np.eye(3), ["a", "b", "c"])
    assert "pooling is not 'avg'" in Activation(most, linear).missing.reason
    other = Activation(
        find_backbone(SMALL), heads.logistic(C=1.0).fit(np.eye(1280)[:3], ["a", "b", "c"])
    )
    found = other.map(path, embedding, 0)
    assert isinstance(found, Missing)
    assert "goes on after the mean" in found.reason


def test_explanation(
    images: Path, features: featx.Features, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.classifier.activation_maps._map_network", lambda backbone: network)
    cache = images.parent / "cache"  # where `features` cached the embeddings
    model = ImageClassifier(SMALL, heads.logistic(C=0.1), cache=cache).fit(images)
    path = images / "blue" / "01.png"
    embedding = features.X[features.ids.index("blue/01.png")]
    explained = Explainer(model, k=3).explain(path, embedding, "blue")
    assert [one.id for one in explained.near][0] == "blue/01.png"
    assert len(explained.near) == 3
    assert all(one.image is not None for one in explained.near)
    for jpeg in (explained.image, explained.activation):
        with Image.open(io.BytesIO(jpeg or b"")) as image:
            assert image.format == "JPEG"
            assert image.size == (48, 40)


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
    explained = [
        (Prediction(evil, [(evil, 0.5)], ""), Explanation(note=evil)),
        (Prediction("bad.png", [], evil), None),
    ]
    page = save(explained, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    found = _Tags()
    found.feed(text)
    assert "script" not in found.names
    assert not [name for name in found.attributes if name.startswith("on")]
    assert text.count("&lt;script&gt;") == 4
    assert "The model remembers no training images." in text


def test_a_long_page_is_folded(tmp_path: Path) -> None:
    many = 2 * AT_ONCE + 1
    made: list[tuple[Prediction, Explanation | None]] = [
        (Prediction(f"{n}.png", [("red", 1.0)]), None) for n in range(many)
    ]
    page = save(made, tmp_path).read_text()
    assert page.count("<article>") == many
    assert page.count("<details>") == page.count("</details>") == 2
    assert page[: page.index("<details>")].count("<article>") == AT_ONCE
    assert f"Images {many} to {many}" in page
    few = save(made[:AT_ONCE], tmp_path).read_text()
    assert "<details>" not in few
