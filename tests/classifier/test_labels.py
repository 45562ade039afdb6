"""Labels of every kind through ImageClassifier: their type, their order, and their images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score

import featx
from featx import Features, ImageClassifier, heads
from featx.errors import DatasetError
from tests.fakes import TINY, CountingRuntime

KEYS = {
    "text": ["cat", "dog", "emu"],
    "numbers as text": ["1", "2", "10"],
    "codes": ["007", "07", "7"],
    "integers": [1, 2, 10],
    "floats": [1.0, 2.0, 10.0],
    "booleans": [False, True],
}


def shade(value: int, size: int = 40) -> np.ndarray:
    """Return an image of one colour and some noise; the colour goes from red to blue."""
    noise = np.random.default_rng(value).integers(0, 9, (size, size, 3))
    return np.clip(noise + (255 - value, 40, value), 0, 255).astype(np.uint8)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = []
    for number in range(24):
        path = tmp_path / "images" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(shade(60 * (number % 4) + number)).save(path)
        found.append(path)
    return found


def classifier(head: Any = "nearest", **options: Any) -> ImageClassifier:
    return ImageClassifier(TINY, head, runtime=CountingRuntime(), **options)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(
    "head", ["logistic", "nearest", "xgboost", LogisticRegression(max_iter=5000)]
)
def test_labels_keep_their_type_and_order(
    paths: list[Path], tmp_path: Path, kind: str, head: Any
) -> None:
    keys = KEYS[kind]
    y = [keys[number % 4 * len(keys) // 4] for number in range(24)]
    if head == "xgboost":
        head = heads.xgboost(n_estimators=5, n_jobs=1)
    model = classifier(head).fit(paths, y)
    assert model.classes_.tolist() == keys
    proba = model.predict_proba(paths)
    predicted = model.predict(paths)
    assert predicted.tolist() == [keys[i] for i in proba.argmax(axis=1)]
    assert {type(one) for one in predicted.tolist()} == {type(keys[0])}
    assert accuracy_score(np.array(y), predicted) == model.score(paths, y) > 0.9
    model.save(tmp_path / "m.featx")
    again = featx.load(tmp_path / "m.featx").set_params(runtime=CountingRuntime())
    assert again.classes_.tolist() == keys
    np.testing.assert_array_equal(again.predict_proba(paths), proba)
    assert again.predict(paths).tolist() == predicted.tolist()
    for one in (model, again):
        assert one.examples_.labels == y
        assert list(map(type, one.examples_.labels)) == list(map(type, y))


@pytest.mark.parametrize("kind", ["integers", "floats", "booleans", "text"])
def test_scikit_learn_scores_every_kind(paths: list[Path], kind: str) -> None:
    keys = KEYS[kind]
    y = np.array([keys[number % 4 * len(keys) // 4] for number in range(24)])
    scores = cross_val_score(classifier(), np.array(list(map(str, paths))), y, cv=3)
    assert scores.min() > 0.8


def test_the_same_labels_through_every_door(paths: list[Path], tmp_path: Path) -> None:
    """A list, a table and features give one model; a file holds text, which scores by value."""
    numbers = [number % 4 + 8 for number in range(24)]
    frame = pd.DataFrame({"path": list(map(str, paths)), "label": numbers})
    by_list, by_frame = classifier().fit(paths, numbers), classifier().fit(frame)
    features = featx.extract(frame, TINY, runtime=CountingRuntime())
    assert features.classes == [8, 9, 10, 11]
    for model in (by_list, by_frame, classifier().fit(features)):
        assert model.classes_.tolist() == [8, 9, 10, 11]
        np.testing.assert_array_equal(model.predict_proba(paths), by_list.predict_proba(paths))
    frame.assign(label=frame.label.astype(float)).to_csv(tmp_path / "f.csv", index=False)
    by_file = classifier().fit(tmp_path / "f.csv")
    assert by_file.classes_.tolist() == ["10.0", "11.0", "8.0", "9.0"]
    assert by_file.score(tmp_path / "f.csv") == by_file.score(frame) == by_list.score(frame) == 1.0
    with pytest.raises(DatasetError, match="not in the training set: 12"):
        by_list.score(paths, [12] * 24)


def test_real_numbers_are_not_classes(paths: list[Path]) -> None:
    with pytest.raises(DatasetError, match="are real numbers"):
        classifier("logistic").fit(paths, np.linspace(0, 1, 24))


@pytest.mark.parametrize("kind", KEYS)
def test_features_files_keep_labels(paths: list[Path], tmp_path: Path, kind: str) -> None:
    keys = KEYS[kind]
    dataset = featx.Dataset.from_paths(paths, [keys[n % len(keys)] for n in range(24)])
    features = featx.extract(dataset, TINY, runtime=CountingRuntime())
    features.save(tmp_path / "f.h5")
    again = Features.load(tmp_path / "f.h5")
    assert again.y is not None
    assert features.y is not None
    assert (again.y.dtype, again.classes) == (features.y.dtype, keys)
    assert again.y.tolist() == features.y.tolist()


def test_text_is_declared_as_utf8(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    labels = np.array(["Kühe", "Bär"], object)
    Features(np.zeros((2, 3), np.float32), labels, ["ä/1.png", "\udcff.png"]).save(
        tmp_path / "f.h5"
    )
    with h5py.File(tmp_path / "f.h5") as file:
        assert h5py.check_string_dtype(file["labels"].dtype).encoding == "utf-8"
        assert file["labels"].asstr()[:].tolist() == ["Kühe", "Bär"]
        assert file["classes"].asstr()[:].tolist() == ["Bär", "Kühe"]
        names = file["ids"].asstr(errors="surrogateescape")[:].tolist()
    assert names == ["ä/1.png", "\udcff.png"] == Features.load(tmp_path / "f.h5").ids


class Shuffled:
    """A tf.data.Dataset as Keras makes it: in another order each time it is read."""

    def __init__(self, images: np.ndarray, labels: list[str]) -> None:
        self._images, self._labels = images, labels
        self.passes = 0
        self.class_names = sorted(set(labels))
        shape = type("Shape", (tuple,), {"rank": property(len)})
        spec = type("Spec", (), {"shape": shape((None, 40, 40, 3))})
        self.element_spec = (spec, spec)

    def cardinality(self) -> int:
        return len(self._images)

    def as_numpy_iterator(self) -> Any:
        order = np.random.default_rng(self.passes).permutation(len(self._images))
        self.passes += 1
        for i in order:
            yield self._images[i : i + 1], np.array([self.class_names.index(self._labels[i])])


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_shuffled_stream_is_read_once(tmp_path: Path, on_error: str) -> None:
    images = np.stack([shade(20 + n if n % 2 else 220 - n) for n in range(20)])
    stream = Shuffled(images, ["red" if n % 2 else "blue" for n in range(20)])
    model = classifier(on_error=on_error).fit(stream)
    assert stream.passes == 1
    model.save(tmp_path / "m.featx")
    examples = featx.load(tmp_path / "m.featx").examples_
    for label, image in zip(examples.labels, examples.images, strict=True):
        assert isinstance(image, bytes)
        with Image.open(io.BytesIO(image)) as shown:
            assert (np.asarray(shown)[..., 2].mean() < 125) == (label == "red")
    assert len(examples) == 20


def test_a_stream_of_keras(tmp_path: Path, paths: list[Path]) -> None:
    """Keras's own dataset, which is shuffled anew each time it is read."""
    keras = pytest.importorskip("keras")
    for number, path in enumerate(paths):
        folder = tmp_path / "classes" / ("odd" if number % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    for mode in ("int", "binary", "categorical"):
        stream = keras.utils.image_dataset_from_directory(
            tmp_path / "classes", image_size=(40, 40), batch_size=4, seed=1, verbose=False,
            label_mode=mode,
        )  # fmt: skip
        model = classifier().fit(stream)
        assert model.classes_.tolist() == ["even", "odd"]
        # Each image is known by its content, whatever position it came in.
        own = {path.name: path.parent.name for path in (tmp_path / "classes").rglob("*.png")}
        found = featx.extract(tmp_path / "classes", TINY, runtime=CountingRuntime())
        truth = {
            embedding.tobytes(): own[name.split("/")[1]]
            for embedding, name in zip(found.X, found.ids, strict=True)
        }
        known = [truth.get(embedding.tobytes()) for embedding in model.examples_.embeddings]
        assert known == model.examples_.labels


def test_a_folder_of_any_shape_is_predicted_whole(paths: list[Path], tmp_path: Path) -> None:
    model = classifier().fit(paths, ["a", "b", "c", "d"] * 6)
    camera = tmp_path / "camera"
    (camera / "edited" / "best").mkdir(parents=True)
    for number, name in enumerate(("IMG_1.png", "IMG_2.png", "edited/a.png", "edited/best/b.png")):
        Image.fromarray(shade(60 * number)).save(camera / name)
    assert model.predict(camera).shape == (4,)
    assert featx.FeatureExtractor(TINY, runtime=CountingRuntime()).transform(camera).shape[0] == 4
    (camera / "train" / "x").mkdir(parents=True)
    (camera / "test").mkdir()
    assert model.predict(camera).shape == (4,)  # parts of a data set are images here, too
    table = pd.DataFrame({"path": [str(path) for path in paths[:3]]})
    table.to_csv(tmp_path / "t.csv", index=False)
    for source in (table, tmp_path / "t.csv"):
        assert model.predict(source).tolist() == ["a", "b", "c"]


def test_weights_by_position_are_not_for_streams(tmp_path: Path) -> None:
    stream = Shuffled(np.stack([shade(10 * n) for n in range(20)]), ["a", "b"] * 10)
    for more in ({"sample_weight": np.ones(20)}, {"groups": list(range(20))}):
        with pytest.raises(DatasetError, match="a stream has no order that it promises"):
            classifier().fit(stream, **more)
    assert stream.passes == 0


def test_a_stream_that_is_read_again_says_so(caplog: pytest.LogCaptureFixture) -> None:
    dataset = featx.Dataset.from_tf(
        Shuffled(np.stack([shade(10 * n) for n in range(20)]), ["a", "b"] * 10)
    )
    featx.extract(dataset, TINY, runtime=CountingRuntime())
    assert not caplog.records
    assert dataset.labels is not None
    assert "a stream is read a second time" in caplog.text
