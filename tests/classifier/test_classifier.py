"""ImageClassifier: images to labels, whatever the images come as."""

from __future__ import annotations

import io
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

import featx
from featx.classifier.classifier import ImageClassifier
from featx.classifier.explanations import Explainer
from featx.errors import BadImagesError, DatasetError, FeatureMismatchError
from featx.features import Features
from tests.fakes import TINY, CountingRuntime
from tests.images.test_pil_images import FILES


@pytest.fixture
def model(image_folder: Path) -> ImageClassifier:
    """Return a fitted classifier of blue, green and red images on a counting runtime."""
    return ImageClassifier(TINY, "logistic", runtime=CountingRuntime()).fit(image_folder)


def paths_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def test_learns_a_folder_and_names_its_classes(model: ImageClassifier, image_folder: Path) -> None:
    seen = model.runtime.seen
    assert list(model.classes_) == ["blue", "green", "red"]
    assert model.score(image_folder) == 1.0
    assert model.runtime.seen == seen >= 24  # scoring found every embedding cached


def test_real_network(image_folder: Path) -> None:
    model = ImageClassifier(TINY, "nearest").fit(image_folder)
    scores = model.predict_proba(image_folder)
    assert scores.shape == (24, 3)
    assert model.score(image_folder) == 1.0


def test_the_same_image_in_any_form_gets_the_same_scores(
    model: ImageClassifier, image_folder: Path
) -> None:
    path = image_folder / "red" / "00.png"
    expected = model.predict_proba([path])
    with Image.open(path) as image:
        pixels = np.asarray(image)
        forms = [path, str(path), path.read_bytes(), image, pixels, pixels[None], [image]]
        for form in forms:
            np.testing.assert_array_equal(model.predict_proba(form), expected)
    assert model.predict(path).tolist() == ["red"]


def test_top_k_is_sorted_and_sums_to_one(model: ImageClassifier, image_folder: Path) -> None:
    (top,) = model.predict_top_k(image_folder / "green" / "03.png", k=3)
    assert top[0][0] == "green"
    chances = [chance for _, chance in top]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1)
    assert len(model.predict_top_k(image_folder, k=2)[0]) == 2
    with pytest.raises(ValueError, match="k=0: expected 1 or more"):
        model.predict_top_k(image_folder, k=0)


def test_clone_grid_search_and_cross_validation(image_folder: Path) -> None:
    paths = paths_of(image_folder)
    labels = [path.parent.name for path in paths]
    model = ImageClassifier(TINY, featx.heads.logistic())
    assert clone(model).get_params()["head__C"] is None
    model.fit(paths, labels)  # embeddings are cached: the searches below compute none
    search = GridSearchCV(model, {"head__C": [1e-3, 1.0]}, cv=2, error_score="raise")
    search.fit(paths, labels)
    assert search.best_score_ > 0.9
    assert min(cross_val_score(model, paths, labels, cv=2)) > 0.8


def test_numbers_as_labels_can_be_scored(image_folder: Path) -> None:
    paths = paths_of(image_folder)
    y = np.array([{"blue": 10, "green": 2, "red": 1}[path.parent.name] for path in paths])
    model = ImageClassifier(TINY, featx.heads.logistic(C=0.1))
    model.fit(paths, y)
    assert model.classes_.tolist() == [1, 2, 10]
    assert model.predict(paths).tolist() == y.tolist()
    assert model.score(paths, y) == 1.0
    for scoring in ("accuracy", "neg_log_loss"):
        found, expected = (
            cross_val_score(model, paths, labels, cv=2, scoring=scoring, error_score="raise")
            for labels in (y, [path.parent.name for path in paths])
        )
        np.testing.assert_allclose(found, expected, rtol=0.01)
    (image_folder / "red" / "00.png").write_bytes(b"no image")
    model.set_params(on_error="skip").fit(paths, y)
    assert model.predict(paths[0]).tolist() == [10]


def test_joblib_keeps_every_score(
    model: ImageClassifier, image_folder: Path, tmp_path: Path
) -> None:
    expected = model.predict_proba(image_folder)
    model.set_params(runtime="auto")
    joblib.dump(model, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(image_folder), expected)


def test_head_by_name_or_estimator_is_never_changed(image_folder: Path) -> None:
    head = featx.heads.logistic(C=1.0)
    ImageClassifier(TINY, head, runtime=CountingRuntime()).fit(image_folder)
    assert not hasattr(head, "classes_")
    with pytest.raises(ValueError, match="no head 'logistik'. Did you mean 'logistic'"):
        ImageClassifier(TINY, "logistik").fit(image_folder)


def test_not_fitted_and_unlabelled(image_folder: Path) -> None:
    with pytest.raises(NotFittedError):
        ImageClassifier(TINY).predict(image_folder)
    with pytest.raises(DatasetError, match="the images have no labels"):
        ImageClassifier(TINY, runtime=CountingRuntime()).fit(image_folder / "red")


def test_score_needs_known_labels(model: ImageClassifier, image_folder: Path) -> None:
    with pytest.raises(DatasetError, match="labels that were not in the training set: 'pink'"):
        model.score(image_folder / "red", ["pink"] * 8)
    with pytest.raises(DatasetError, match="the images have no labels"):
        model.score(image_folder / "red")
    assert model.score(image_folder / "red", ["red"] * 8) == 1.0


def test_bad_image_is_named(model: ImageClassifier, image_folder: Path) -> None:
    bad = image_folder / "red" / "99.png"
    bad.write_bytes(b"no image")
    with pytest.raises(BadImagesError, match="99.png"):
        model.predict([image_folder / "red" / "00.png", bad])


def test_features_of_another_network_are_refused_by_name(model: ImageClassifier) -> None:
    X = np.zeros((2, 2048), np.float32)
    other = Features(X, None, ["a", "b"], spec={"backbone": "resnet50", "side": 224})
    with pytest.raises(FeatureMismatchError, match=r"'resnet50' \(2048 .*'mobilenet_v2' \(1280\)"):
        model.predict(other)


def test_features_of_the_same_width_and_other_options_are_refused(
    model: ImageClassifier, image_folder: Path
) -> None:
    features = model.features(image_folder)
    other = Features(features.X, None, features.ids, spec={**features.spec, "side": 64})
    with pytest.raises(FeatureMismatchError, match="side 64 instead of 32"):
        model.predict(other)
    assert model.predict(features)[0] == "blue"


def test_refit_on_another_network_is_allowed(image_folder: Path) -> None:
    model = ImageClassifier(TINY, "nearest", runtime=CountingRuntime()).fit(image_folder)
    own = featx.Backbone("mobilenet_v2", weights=None, image_size=32, pooling="max")
    model.set_params(backbone=own).fit(image_folder)
    assert model.spec_["pooling"] == "max"


def test_nearest_examples(model: ImageClassifier, image_folder: Path) -> None:
    features = model.features([image_folder / "blue" / "02.png"])
    (near,) = model.examples_.nearest(features.X, k=3)
    assert [model.examples_.ids[i] for i, _ in near][0] == "blue/02.png"
    assert near[0][1] == pytest.approx(1, abs=1e-5)
    assert {model.examples_.labels[i] for i, _ in near} == {"blue"}


def test_examples_are_chosen_in_the_share_of_their_class(image_folder: Path) -> None:
    model = ImageClassifier(TINY, "nearest", runtime=CountingRuntime(), examples=6)
    examples = model.fit(image_folder).examples_
    assert sorted(examples.labels) == ["blue", "blue", "green", "green", "red", "red"]
    assert examples.of == 24
    none = model.set_params(examples=0).fit(image_folder).examples_
    assert len(none) == 0
    assert none.nearest(np.ones((1, 1280), np.float32)) == [[]]


@pytest.mark.parametrize("name", ["16-bit.png", "turned.jpg", "cmyk.jpg", "palette.png"])
def test_a_pil_image_is_predicted_as_its_file_is(
    name: str, model: ImageClassifier, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    expected = model.predict_proba([tmp_path / name])
    with Image.open(tmp_path / name) as image:
        for form in (image, [image]):
            np.testing.assert_array_equal(model.predict_proba(form), expected)
    with pytest.raises(BadImagesError, match="ends before the image does"):
        model.predict(Image.open(io.BytesIO(FILES["cut.jpg"])))


def test_explains_pil_images_and_names_bad_ones(image_folder: Path) -> None:
    paths = paths_of(image_folder)[::4]
    images = [Image.open(io.BytesIO(path.read_bytes())) for path in paths]
    labels = [path.parent.name for path in paths]
    model = ImageClassifier(TINY, "nearest", runtime=CountingRuntime()).fit(images, labels)
    by_path = ImageClassifier(TINY, "nearest", runtime=CountingRuntime()).fit(paths, labels)
    assert model.examples_.with_copies().images == by_path.examples_.with_copies().images
    explained = Explainer(model).explain(images[0], model.features(images).X[0], labels[0])
    assert explained.image is not None
