"""Models saved and loaded: bit-equal scores for each head, and nothing of a file is run."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    LogisticRegression,
    RidgeClassifier,
    RidgeClassifierCV,
)
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC

import featx
from featx import dense, errors, heads
from featx.classifier.classifier import ImageClassifier, load
from featx.classifier.export import folding, formats
from featx.classifier.file import container, names
from featx.classifier.file import model as saved
from featx.classifier.file.arrays import array_bytes
from featx.features import Features

SPEC = {"backbone": "mobilenet_v2", "side": 32, "key": "k"}
DIM = 12
SMALL_HEADS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: heads.logistic(C=0.1),
    "logistic tuned": heads.logistic,
    "ridge": heads.ridge,
    "mlp": lambda: heads.mlp((9, 5)),
    "xgboost": lambda: heads.xgboost(n_estimators=5),
    "nearest": heads.nearest,
    "linear_svm": heads.linear_svm,
    "dense": lambda: heads.dense(featx.Recipe(epochs=2)),
    "dense with every layer": lambda: heads.dense(
        featx.Recipe(
            (
                dense.BatchNorm(renorm=True),
                dense.Dense(7, l2=1e-4),
                dense.Dropout(0.1),
                dense.BatchNorm(),
            ),
            epochs=2,
            from_logits=True,
            learning_rate=dense.CosineDecay(1e-2, 10),
            augmentation=(dense.Flip(),),
        )
    ),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "discriminant": LinearDiscriminantAnalysis,
}


def features_of(n_classes: int = 3, per_class: int = 12) -> Features:
    rng = np.random.default_rng(0)
    names = [f"class <{i}>" for i in range(n_classes)]
    y = np.array([name for name in names for _ in range(per_class)], dtype=object)
    X = rng.standard_normal((len(y), DIM)).astype(np.float32)
    X[np.arange(len(y)), np.repeat(np.arange(n_classes), per_class)] += 2
    return Features(X, y, [str(i) for i in range(len(y))], spec=dict(SPEC))


def unchanged(X: Any) -> Any:
    return X


def trained(head: Any = None, n_classes: int = 3) -> ImageClassifier:
    backbone = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
    head = heads.logistic(C=0.1) if head is None else head
    return ImageClassifier(backbone, head).fit(features_of(n_classes))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", SMALL_HEADS)
def test_scores_after_loading_are_bit_equal(name: str, n_classes: int, tmp_path: Path) -> None:
    model = trained(SMALL_HEADS[name](), n_classes)
    digest = model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx", sha256=digest)
    features = features_of(n_classes)
    np.testing.assert_array_equal(again.predict_proba(features), model.predict_proba(features))
    assert again.predict(features).tolist() == model.predict(features).tolist()
    assert again.classes_.tolist() == model.classes_.tolist()
    if name not in ("pipeline", "discriminant"):  # skops writes the addresses of objects
        assert again.save(tmp_path / "again.featx") == digest, "saved again, it is the same file"


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("options", [{"with_mean": False}, {"with_std": False}, {}])
@pytest.mark.parametrize("name", ["mlp", "linear_svm"])
def test_a_scaler_that_leaves_out_a_step(
    name: str, options: dict[str, bool], n_classes: int, tmp_path: Path
) -> None:
    options = options or {"with_mean": False, "with_std": False}
    head = SMALL_HEADS[name]().set_params(scale=StandardScaler(**options))
    model, features = trained(head, n_classes), features_of(n_classes)
    expected = model.predict_proba(features)
    model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx")
    np.testing.assert_array_equal(again.predict_proba(features), expected)
    assert {k: getattr(again.head_[0], k) for k in options} == options
    values = features.X.astype(np.float64)
    for step in folding.steps_of(again.head_) or []:
        values = values @ step.kernel + step.bias
        values = np.maximum(values, 0) if step.activation == "relu" else values
    np.testing.assert_allclose(softmax(values, axis=1), expected, atol=1e-5)


def test_a_head_with_numbers_of_numpy_is_saved(tmp_path: Path) -> None:
    model = trained(heads.nearest(k=np.int64(3)))
    model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx")
    assert again.head_.n_neighbors == 3
    assert again.n_images_ == model.n_images_ == 36


def test_labels_that_are_numbers_stay_numbers(tmp_path: Path) -> None:
    features = features_of()
    y = np.repeat([10, 2, -1], 12)
    model = trained().fit(features, y)
    assert model.classes_.tolist() == [-1, 2, 10]
    assert model.score(features, y) > 0.5
    model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx")
    assert again.classes_.tolist() == [-1, 2, 10]
    assert again.predict(features).dtype == np.int64
    np.testing.assert_array_equal(again.predict(features), model.predict(features))
    np.testing.assert_array_equal(again.predict_proba(features), model.predict_proba(features))
    assert again.top(again.predict_proba(features)[0], 1)[0][0] == "10"


def test_names_that_are_not_utf8_travel(tmp_path: Path) -> None:
    features = features_of()
    odd = os.fsdecode(b"caf\xe9")
    features.y[features.y == "class <1>"] = odd
    features.ids[12] = f"{odd}/1.jpg"
    model = trained().fit(features)
    model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx")
    assert again.classes_.tolist() == sorted(["class <0>", odd, "class <2>"])
    assert again.examples_.ids[12] == f"{odd}/1.jpg"
    np.testing.assert_array_equal(again.predict(features), model.predict(features))
    assert json.loads(formats._json([odd, "é"])) == [odd, "é"]
    assert formats._lines([odd, "é"]) == b"caf\xe9\n\xc3\xa9\n"


def test_features_of_another_network_are_not_trained_on(tmp_path: Path) -> None:
    features = features_of()
    other = featx.Backbone("mobilenet_v2", weights=None, image_size=64)
    with pytest.raises(errors.FeatureMismatchError, match="side 32 instead of 64"):
        ImageClassifier(other, heads.logistic(C=1.0)).fit(features)
    features.spec["weights"] = "0" * 64
    with pytest.raises(errors.FeatureMismatchError, match="differ in: weights '000"):
        trained().fit(features)
    features.spec.clear()  # features of one's own, of which nothing is known
    assert trained().fit(features).dim_ == DIM


def test_a_network_of_other_weights_is_not_exported(tmp_path: Path) -> None:
    model = trained()
    model.spec_ = {**model.backbone.spec(), "weights": "0" * 64, "pixels": "p", "key": "k"}
    with pytest.raises(errors.FeatureMismatchError, match="weights .* instead of '000"):
        model.export(tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_skops_only_what_needs_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trained(RidgeClassifier())
    other.save(tmp_path / "other.featx")
    monkeypatch.setitem(sys.modules, "skops", None)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(errors.ModelFileError, match=r"is not installed: pip install 'featx\[exp"):
        other.save(tmp_path / "m.featx")
    with pytest.raises(errors.ModelFileError, match=r"other.featx is read by skops, which is not"):
        load(tmp_path / "other.featx")
    trained().save(tmp_path / "m.featx")
    assert load(tmp_path / "m.featx").dim_ == DIM


@pytest.mark.parametrize(
    "head",
    [
        RidgeClassifierCV(),
        make_pipeline(PCA(4), QuadraticDiscriminantAnalysis()),
        GaussianNB(),
        LogisticRegression(C=np.inf, max_iter=10_000),
        CalibratedClassifierCV(LinearSVC(C=0.1, max_iter=10_000), cv=5),
        make_pipeline(MinMaxScaler(), PCA(4), RobustScaler(), Normalizer(), BernoulliNB()),
    ],
    ids=lambda head: str(type(head).__name__),
)
def test_kinds_on_the_list_come_back(head: Any, tmp_path: Path) -> None:
    model, features = trained(head), features_of()
    model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx")
    expected = saved.scores_of(model.head_, features.X)
    np.testing.assert_array_equal(saved.scores_of(again.head_, features.X), expected)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_schema_that_is_not_strict_json_is_refused(number: str, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        new = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(members["head/estimator.skops"])) as old,
            zipfile.ZipFile(new, "w") as archive,
        ):
            for name in old.namelist():
                content = old.read(name)
                if name == "schema.json":
                    content = content.replace(b"{", b'{"more": ' + number.encode() + b", ", 1)
                archive.writestr(name, content)
        members["head/estimator.skops"] = new.getvalue()

    path = rewritten(tmp_path, trained(GaussianNB()), change)
    with pytest.raises(errors.ModelFormatError, match="its head is not a whole skops file"):
        load(path)


@pytest.mark.parametrize(
    "head", [SVC(), RandomForestClassifier(2), KNeighborsClassifier()], ids=str
)
def test_what_trusts_its_numbers_is_not_saved(head: Any, tmp_path: Path) -> None:
    with pytest.raises(
        errors.ModelTrustError, match=r"cannot be saved: .*sklearn\.(svm|ensemble|neighb)"
    ):
        trained(head).save(tmp_path / "m.featx")
    assert list(tmp_path.iterdir()) == []


SAME_BITS = """
import sys, numpy, featx
images, *models = sys.argv[1:]
for path in models:
    after = featx.load(path).predict_proba(images)
    print(after.tobytes() == numpy.load(path + ".npy").tobytes(), "keras" in sys.modules)
"""


def bits_of_another_process(models: list[ImageClassifier], test: Path, folder: Path) -> list[str]:
    """Save the models; a process that has their files alone prints whether it scores the same."""
    paths = [str(folder / f"{number}.featx") for number in range(len(models))]
    for model, path in zip(models, paths, strict=True):
        model.save(path)
        np.save(path + ".npy", model.predict_proba(test))
    words = [sys.executable, "-c", SAME_BITS, str(test), *paths]
    answer = subprocess.run(words, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout.splitlines()


def test_a_new_process_gives_the_same_bits(image_folder: Path, tmp_path: Path) -> None:
    backbone = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
    model = ImageClassifier(backbone, "mlp").fit(image_folder)
    assert bits_of_another_process([model], image_folder, tmp_path) == ["True False"]


@pytest.mark.weights
def test_every_head_on_real_images_gives_the_same_bits_in_a_new_process(
    datasets: Path, tmp_path: Path
) -> None:
    """On a tenth of the flowers; `benchmarks/models.py` does it on all of them."""
    train, test = (featx.Dataset.from_folder(datasets / "flowers" / p) for p in ("train", "test"))
    for item in list(test)[::10]:
        (tmp_path / "test" / str(item.label)).mkdir(parents=True, exist_ok=True)
        shutil.copy(item.source, tmp_path / "test" / item.id)
    features = featx.extract(train.subset(range(0, len(train), 10)), "mobilenet_v2", progress=False)
    models = [ImageClassifier("mobilenet_v2", name).fit(features) for name in featx.HEADS]
    found = bits_of_another_process(models, tmp_path / "test", tmp_path)
    assert [line.split()[0] for line in found] == ["True"] * len(featx.HEADS)
    assert [model.score(tmp_path / "test") > 0.5 for model in models] == [True] * len(models)


def test_examples_travel_as_small_images(image_folder: Path, tmp_path: Path) -> None:
    backbone = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
    model = ImageClassifier(backbone, "nearest").fit(image_folder)
    model.save(tmp_path / "m.featx")
    examples = load(tmp_path / "m.featx").examples_
    assert examples.ids == model.examples_.ids
    assert all(isinstance(p, bytes) and p[:2] == b"\xff\xd8" for p in examples.images)
    assert str(image_folder) not in (tmp_path / "m.featx").read_bytes().decode("latin-1")


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    head = make_pipeline(FunctionTransformer(unchanged), LogisticRegression())
    model = trained(head)
    with pytest.raises(errors.ModelTrustError, match="cannot be saved: .*unchanged"):
        model.save(tmp_path / "m.featx")
    assert list(tmp_path.iterdir()) == []


def test_trees_that_could_not_be_loaded_are_not_saved(tmp_path: Path) -> None:
    model = trained(SMALL_HEADS["xgboost"]())
    model.head_.model_.set_params(num_parallel_tree=2)  # a forest in each round
    features = features_of()
    codes = np.searchsorted(model.classes_, features.y.astype(str))
    model.head_.model_.fit(features.X, codes)
    with pytest.raises(errors.HeadError, match=r"XGBoostHead cannot be saved.*parallel trees"):
        model.save(tmp_path / "m.featx")
    assert list(tmp_path.iterdir()) == []


def test_pin(tmp_path: Path) -> None:
    digest = trained().save(tmp_path / "m.featx")
    with pytest.raises(errors.ModelIntegrityError, match="it is another file, or was changed"):
        load(tmp_path / "m.featx", sha256="0" * 64)
    assert load(tmp_path / "m.featx", sha256=digest.upper()).dim_ == DIM


def test_other_versions_that_give_other_scores_are_named(tmp_path: Path) -> None:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        manifest["versions"]["scikit-learn"] = "0.1"
        scores = np.full((16, 3), 1 / 3)
        members["probes/scores.npy"] = array_bytes(scores)

    path = rewritten(tmp_path, trained(), change)
    with pytest.raises(errors.ModelVersionError, match=r"scikit-learn 0\.1 then, 1"):
        load(path)


def test_another_scikit_learn_behind_its_own_estimator_is_warned_of(tmp_path: Path) -> None:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        manifest["versions"]["scikit-learn"] = "0.1"

    path = rewritten(tmp_path, trained(RidgeClassifier()), change)
    with pytest.warns(UserWarning, match=r"saved by scikit-learn 0\.1, and this is 1"):
        load(path)
    load(rewritten(tmp_path, trained(), change))  # a head of featx's own: no warning


def rewritten(
    folder: Path, model: ImageClassifier, change: Callable[[dict[str, Any], dict[str, bytes]], Any]
) -> Path:
    """Save a model, change manifest and members, and write them with digests that fit."""
    model.save(folder / "sound.featx")
    manifest, members = container.read(folder / "sound.featx")
    manifest = json.loads(json.dumps(manifest))
    change(manifest, members)
    path = folder / "changed.featx"
    container.write(path, {k: v for k, v in manifest.items() if k != "members"}, members)
    return path


def test_a_file_of_version_1_is_refused_with_what_to_do(tmp_path: Path) -> None:
    trained().save(tmp_path / "m.featx")
    old = tmp_path / "old.featx"
    with zipfile.ZipFile(tmp_path / "m.featx") as new, zipfile.ZipFile(old, "w") as archive:
        for info in new.infolist():
            content = new.read(info)
            if info.filename == "manifest.json":
                content = json.dumps({**json.loads(content), "version": 1}).encode()
            archive.writestr(info, content)
    with pytest.raises(errors.ModelVersionError, match=r"version 1; .*knows 2.*Train .* again"):
        load(old)


class LaterFolds(heads.StratifiedFolds):
    """The splitter, as if a later featx had it in another module under another name."""


@dataclass(frozen=True)
class LaterDense(dense.Dense):
    """A layer that was renamed, and has a field more."""

    momentum: float = 0.5


def test_a_file_survives_the_move_of_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = features_of()
    head = CalibratedClassifierCV(LinearSVC(), cv=heads.StratifiedFolds(3))
    model, layers = trained(head), trained(heads.dense(featx.Recipe((dense.Dense(4),), epochs=1)))
    expected = model.predict_proba(features), layers.predict_proba(features)
    model.save(tmp_path / "m.featx")
    layers.save(tmp_path / "layers.featx")
    stored = (tmp_path / "m.featx").read_bytes()
    assert b"StratifiedFolds" in stored
    assert b"featx.heads" not in stored, "no module of featx is named"
    monkeypatch.setitem(names.ESTIMATORS, "StratifiedFolds", LaterFolds)
    monkeypatch.setitem(names.RECIPE_PARTS, "Dense", LaterDense)
    monkeypatch.setitem(names.ABSENT, "Dense", {"momentum": 0.0})
    again, later = load(tmp_path / "m.featx"), load(tmp_path / "layers.featx")
    assert type(again.head_.cv) is LaterFolds
    assert later.head_.recipe.layers == (LaterDense(4, momentum=0.0),), "what 0.1 knew"
    np.testing.assert_array_equal(again.predict_proba(features), expected[0])
    np.testing.assert_array_equal(later.predict_proba(features), expected[1])


def test_an_absent_field_means_what_the_first_version_knew(tmp_path: Path) -> None:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        del manifest["backbone"]["decode"], manifest["head"]["recipe"]["class_weight"]

    model = trained(heads.dense(featx.Recipe((dense.Dense(4),), epochs=1)))
    again = load(rewritten(tmp_path, model, change))
    assert isinstance(model.backbone, featx.Backbone)
    assert again.backbone == replace(model.backbone, decode="full"), "0.1 decoded in full"
    assert again.head_.recipe == model.head_.recipe


def test_an_absent_parameter_of_a_head_means_what_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        del manifest["head"]["parameters"]["max_iter"]

    model = trained(heads.LogisticHead(0.1, max_iter=77))
    path = rewritten(tmp_path, model, change)
    assert load(path).head_.max_iter == heads.LogisticHead().max_iter, "else its default"
    monkeypatch.setitem(names.ABSENT, "LogisticHead", {"max_iter": 55, "C": 9.0})
    again = load(path).head_
    assert again.max_iter == 55
    assert again.C == 0.1, "what the file names stays"


@pytest.mark.parametrize(
    ("part", "absent", "owner"),
    [("calibration", "ensemble", "CalibratedHead"), ("scaler", "with_std", "StandardScaler")],
)
def test_parameters_that_lie_apart_are_those_of_their_class(
    part: str, absent: str, owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        del manifest["head"][part][absent]

    head = SMALL_HEADS["linear_svm"]().set_params(scale=StandardScaler(with_mean=False))
    path = rewritten(tmp_path, trained(head), change)
    known = {"ensemble": False, "with_std": True}[absent]
    monkeypatch.setitem(names.ABSENT, owner, {absent: known})
    again = load(path).head_
    assert {"calibration": again[1], "scaler": again[0]}[part].get_params()[absent] == known


LOAD = """
import sys, featx
for path in sys.argv[1:]:
    featx.load(path)
print("loaded", len(sys.argv) - 1)
"""


@pytest.mark.skipif(
    os.environ.get("FEATX_PROMISES") != "long", reason="only in the long form: FEATX_PROMISES=long"
)
@pytest.mark.parametrize("core", ["Haswell", "Zen", "SkylakeX", "Sandybridge", "Nehalem"])
def test_models_load_on_other_processors(core: str, tmp_path: Path) -> None:
    """OpenBLAS takes the kernels of the processor that it is told."""
    paths = []
    for n_classes in (2, 4):
        for name, make in SMALL_HEADS.items():
            paths.append(str(tmp_path / f"{name}-{n_classes}.featx"))
            trained(make(), n_classes).save(paths[-1])
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *paths],
        env={**os.environ, "OPENBLAS_CORETYPE": core},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == -signal.SIGILL:
        pytest.skip(f"this processor has not the instructions of {core}")
    assert done.stdout.strip() == f"loaded {len(paths)}", done.stderr


@pytest.mark.parametrize("kind", SMALL_HEADS)
def test_a_file_steers_no_machine(kind: str, tmp_path: Path) -> None:
    """A file of 150 kB that asked for 20,000 threads got them."""
    asked = {
        "n_jobs": 20_000,
        "device": "cuda:9",
        "verbose": 9,
        "memory": str(tmp_path / "planted"),
    }

    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        parameters = manifest["head"].setdefault("parameters", {})  # skops has none
        assert not set(parameters) & set(asked)
        parameters |= asked

    again = load(rewritten(tmp_path, trained(SMALL_HEADS[kind]()), change)).head_
    steering = {
        name: value
        for name, value in again.get_params(deep=True).items()
        if name.rpartition("__")[2] in asked
    }
    assert set(steering.values()) <= {None, 0, "auto"}
    assert not (tmp_path / "planted").exists()


def test_a_foreign_head_steers_no_machine(tmp_path: Path) -> None:
    head = make_pipeline(StandardScaler(), LogisticRegression(verbose=1), verbose=True)
    trained(head).save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx").head_
    assert (again.verbose, again[1].verbose, again.memory) == (0, 0, None)


def test_every_class_has_one_name() -> None:
    for table in (names.RECIPE_PARTS, names.ESTIMATORS):
        assert len(set(table.values())) == len(table)
    parts = {getattr(dense, name) for name in dense.__all__ if is_dataclass(getattr(dense, name))}
    assert {kind for kind in parts if isinstance(kind, type)} == set(names.RECIPE_PARTS.values())


def test_every_option_of_the_network_travels(tmp_path: Path) -> None:
    model = trained()
    model.backbone = featx.Backbone(
        "mobilenet_v2",
        weights=None,
        layer="block_1_expand",
        pooling="max",
        image_size=64,
        precision="bfloat16",
        decode="scaled",
        resize="crop",
        filter="bicubic",
    )
    model.save(tmp_path / "m.featx")
    assert load(tmp_path / "m.featx").backbone == model.backbone


def test_what_computed_the_features_is_not_a_difference(tmp_path: Path) -> None:
    model = trained()
    features = features_of()
    features.spec["runtimes"] = ["another"]
    assert model.score(features) > 0.5


def test_the_network_is_refused_where_its_weights_differ(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx")
    pixels = np.zeros((1, 40, 40, 3), np.uint8)
    with pytest.raises(errors.FeatureMismatchError, match="they differ in: .*weights|weights"):
        again.predict(pixels)


def test_a_network_of_ones_own_is_asked_for(tmp_path: Path) -> None:
    model = trained()
    model.backbone = featx.Backbone("mobilenet_v2", weights=tmp_path / "own.h5")
    model.save(tmp_path / "m.featx")
    assert b"own.h5" not in (tmp_path / "m.featx").read_bytes()
    with pytest.raises(errors.ModelFileError, match=r"custom weights .*weights=PATH"):
        load(tmp_path / "m.featx")
    again = load(tmp_path / "m.featx", weights=tmp_path / "own.h5")
    assert again.backbone == model.backbone


def test_unsafe_pickle_is_a_door_of_its_own(tmp_path: Path) -> None:
    import joblib

    joblib.dump(trained(), tmp_path / "m.joblib")
    assert featx.load_unsafe_pickle(tmp_path / "m.joblib").dim_ == DIM
    with pytest.raises(errors.ModelFormatError, match="looks like a pickle"):
        load(tmp_path / "m.joblib")
    joblib.dump([1], tmp_path / "list.joblib")
    with pytest.raises(errors.ModelFormatError, match="holds list"):
        featx.load_unsafe_pickle(tmp_path / "list.joblib")


def test_no_file_and_a_full_disk_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model file at"):
        load(tmp_path / "none.featx")
    with pytest.raises(FileNotFoundError, match="the folder .*missing does not exist"):
        trained().save(tmp_path / "missing" / "m.featx")


def test_a_zip_is_read_by_any_tool(tmp_path: Path) -> None:
    trained().save(tmp_path / "m.featx")
    with zipfile.ZipFile(tmp_path / "m.featx") as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        coef = np.load(io.BytesIO(archive.read("head/coef.npy")))
    assert manifest["classes"] == ["class <0>", "class <1>", "class <2>"]
    assert coef.shape == (3, DIM)
