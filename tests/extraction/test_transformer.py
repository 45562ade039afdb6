"""FeatureExtractor: a citizen of scikit-learn that holds names, not weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

import featx
from featx import Backbone, FeatureExtractor
from featx.errors import BadImagesError, UnknownBackboneError
from featx.images import decoding
from tests.fakes import TINY, CountingRuntime


def paths_and_labels(folder: Path) -> tuple[list[Path], list[str]]:
    paths = sorted(folder.rglob("*.png"))
    return paths, [path.parent.name for path in paths]


def test_rows_are_those_of_extract(image_folder: Path) -> None:
    paths, _ = paths_and_labels(image_folder)
    rows = FeatureExtractor(TINY, runtime=CountingRuntime()).fit_transform(paths)
    whole = featx.extract(image_folder, TINY, runtime=CountingRuntime())
    np.testing.assert_array_equal(rows, whole.X)


def test_pickle_is_a_few_hundred_bytes() -> None:
    extractor = FeatureExtractor(Backbone("resnet50"))
    content = pickle.dumps(extractor)
    assert len(content) < 600
    assert pickle.loads(content).get_params() == extractor.get_params()


def test_clone_keeps_the_parameters() -> None:
    extractor = FeatureExtractor(TINY, batch_size=8)
    assert clone(extractor).get_params() == extractor.get_params()
    assert clone(extractor).set_params(backbone="vgg16").backbone == "vgg16"


def test_a_grid_search_sends_each_image_through_once(image_folder: Path) -> None:
    paths, labels = paths_and_labels(image_folder)
    runtime = CountingRuntime()
    # The very same counter in every clone: scikit-learn copies parameters.
    runtime.__class__.__deepcopy__ = lambda self, memo: self
    try:
        model = Pipeline(
            [("images", FeatureExtractor(TINY, runtime=runtime)), ("head", LogisticRegression())]
        )
        search = GridSearchCV(model, {"head__C": [0.01, 1.0]}, cv=2, error_score="raise")
        search.fit(paths, labels)
    finally:
        del runtime.__class__.__deepcopy__
    assert set(search.predict(paths)) <= {"blue", "green", "red"}
    assert runtime.seen <= len(paths) + 2


def test_pixels_and_strings_work_alike(image_folder: Path) -> None:
    paths, labels = paths_and_labels(image_folder)
    model = make_pipeline(
        FeatureExtractor(TINY, runtime=CountingRuntime()), LogisticRegression(max_iter=1000)
    )
    model.fit([str(path) for path in paths], labels)
    pixels = np.stack([decoding.decode(path.read_bytes()) for path in paths])
    assert model.score(pixels, labels) == 1.0


def test_feature_names() -> None:
    names = FeatureExtractor("resnet50").get_feature_names_out()
    assert names.shape == (2048,)
    assert names[0] == "resnet50_0"
    cut = FeatureExtractor(Backbone("resnet50", layer="conv2_block1_out"))
    with pytest.raises(ValueError, match="known after the first transform"):
        cut.get_feature_names_out()


def test_unknown_name_is_told_at_fit() -> None:
    with pytest.raises(UnknownBackboneError, match="Did you mean"):
        FeatureExtractor("mobilenetv2").fit(["a.jpg"])


def test_a_bad_image_is_never_a_row(image_folder: Path) -> None:
    (image_folder / "red" / "bad.png").write_text("no image")
    paths, _ = paths_and_labels(image_folder)
    with pytest.raises(BadImagesError, match="bad.png"):
        FeatureExtractor(TINY, runtime=CountingRuntime()).transform(paths)
