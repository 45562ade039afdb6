"""The published systems: their counts to the last parameter, and recipes that really run."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import train_test_split

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import benchmarks.published.__main__ as command  # noqa: E402
from benchmarks.published import SYSTEMS, audit, dividing, results, running, tables  # noqa: E402
from benchmarks.published.system import (  # noqa: E402
    Parts,
    System,
    last_batch_metrics,
    misprepared,
)
from featx import Backbone, Dataset, FineTuned, Recipe  # noqa: E402
from featx.backbones import keras_models  # noqa: E402
from featx.dense import BatchNorm, Dense, Dropout, Flatten, GlobalAveragePooling  # noqa: E402
from featx.errors import DatasetError  # noqa: E402
from tests.conftest import draw_folder  # noqa: E402

# TensorFlow says that tf.data stays compiled where all else runs step by step (`tiny`).
pytestmark = pytest.mark.filterwarnings("ignore:Even though the:UserWarning")
SYSTEM = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


@pytest.fixture(scope="module", autouse=True)
def each_network_once() -> Iterator[None]:
    """Build each published network once: most of this file's seconds would go there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras_models, "published", cache(keras_models.published))
        # Drawing weights takes as long as building; counts and shapes do not need them drawn.
        patch.setattr(keras_models, "_draw_weights", lambda network: None)
        yield


@SYSTEM
def test_parameter_counts_are_the_published_ones(system: System) -> None:
    counts = system.published.parameter_counts(system.classes)
    assert (counts["total"], counts["trainable"]) == (system.counts.total, system.counts.trainable)


def test_frozen_parts_are_those_that_the_sources_print() -> None:
    printed = {
        "corrosion_resnet50": "23,688,769 / 96,853 / 23,591,916",
        "trucks_mobilenet_v2": "2,265,670 / 7,686 / 2,257,984",
        "dog_breeds_inception_resnet_v2": "55,314,136 / 969,720 / 54,344,416",
    }
    assert {s.name: s.counts.in_words for s in SYSTEMS.values() if s.counts.printed} == printed


# Recipes beside the five, whose sources print or imply other counts (RECIPES, sections 002-B, 004).
NEIGHBOURS = {
    "60 breeds": (SYSTEMS["dog_breeds_inception_resnet_v2"].published, 60, 55_306_396, 961_980),
    "hgabrali": (
        FineTuned(
            "efficientnet_b0",
            Recipe(layers=(GlobalAveragePooling(), BatchNorm(), Dense(256), Dropout(0.3))),
        ),
        10,
        4_385_197,
        333_066,
    ),
    "keras-io": (
        FineTuned(
            "efficientnet_b0", Recipe(layers=(GlobalAveragePooling(), BatchNorm(), Dropout(0.2)))
        ),
        120,
        4_208_411,
        156_280,
    ),
    "itty11": (
        FineTuned(
            "efficientnet_b0",
            Recipe(layers=(GlobalAveragePooling(), Dropout(0.3), Dense(256), Dropout(0.3))),
        ),
        102,
        4_403_721,
        354_150,
    ),
    "the post's head on EfficientNetB0": (
        FineTuned(
            Backbone("efficientnet_b0", pooling=None, image_size=150),
            Recipe(layers=(Flatten(), Dense(1024), Dropout(0.2))),
        ),
        10,
        36_828_845,
        32_779_274,
    ),
}


@pytest.mark.parametrize(
    ("model", "classes", "total", "trainable"), NEIGHBOURS.values(), ids=NEIGHBOURS
)
def test_counts_of_neighbouring_recipes(
    model: FineTuned, classes: int, total: int, trainable: int
) -> None:
    counts = model.parameter_counts(classes)
    assert (counts["total"], counts["trainable"]) == (total, trainable)


@SYSTEM
def test_declaration_is_whole(system: System) -> None:
    assert "@" in system.source or "post" in system.source, "name repository and commit"
    assert system.figures
    assert system.split
    changed = system.published.get_params() != system.corrected.get_params()
    says_more = system.preprocessing is not None or system.scored_on != "test"
    assert bool(system.mistakes) == (changed or says_more)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("raw", lambda x: x),
        ("tf", lambda x: x / 127.5 - 1),
        ("0..1", lambda x: x / 255),
        ("caffe", lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68])),
    ],
)
def test_misprepared_network_is_the_same_network(
    mode: str, expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    right = Backbone("mobilenet_v2", weights=None, image_size=32)
    wrong = misprepared(right, mode).build()
    assert [w.shape for w in wrong.weights] == [w.shape for w in right.build().weights]
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    inner = Backbone("mobilenet_v2", weights=None, image_size=32, pooling=None).build()
    network = inner.get_layer("network")
    direct = np.asarray(network([expected(images.copy())], training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(wrong(images)), direct, atol=1e-4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders of 18 training and 6 test images of three colours, and 3 without labels."""
    folder = tmp_path_factory.mktemp("published")
    found = {name: draw_folder(folder / name, n, seed=n) for name, n in (("train", 6), ("test", 2))}
    found["unlabelled"] = folder / "unlabelled"
    found["unlabelled"].mkdir()
    for number, label in enumerate(("blue", "green", "red")):
        shutil.copy(found["test"] / label / "00.png", found["unlabelled"] / f"image {number}.png")
    return found


@pytest.fixture(scope="module")
def small(folders: dict[str, Path]) -> Parts:
    return Parts(Dataset.from_folder(folders["train"]), Dataset.from_folder(folders["test"]))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the name of a network of two convolutions, and run step by step.

    What is tested is that every declared part can be run; the networks are tested elsewhere, and
    compiling takes longer than an epoch of 18 images does.
    """
    import keras
    import tensorflow as tf

    drawn = keras.initializers.GlorotUniform(0)
    image = keras.Input((32, 32, 3), name="image")
    rows = keras.layers.Conv2D(4, 3, 4, name="middle", kernel_initializer=drawn)(image)
    rows = keras.layers.BatchNormalization(name="norm")(rows)
    rows = keras.layers.Conv2D(8, 3, 2, name="last", kernel_initializer=drawn)(rows)
    monkeypatch.setitem(running.STAND_IN_LAYERS, "tiny", "middle")
    tf.config.run_functions_eagerly(True)
    yield Backbone.register("tiny", keras.Model(image, rows, name="tiny"), preprocessing="tf").name
    tf.config.run_functions_eagerly(False)


@SYSTEM
def test_runs_as_published_and_corrected(system: System, small: Parts, tiny: str) -> None:
    options = running.Options(backbone=tiny, weights=None, epochs=1, draws=2)
    for which in ("published", "corrected"):
        model, line, right = running.fitted(_native(system), which, small, options)
        assert right.shape == (6,)
        assert line.way == f"as {which}"
        assert (line.claimed is not None) == (which == "published" and system.scored_on != "test")
        assert model.n_epochs_ == 1 + (getattr(system, which).unfreeze_epochs or 0)
        assert 0 <= line.low <= line.accuracy <= line.high <= 1
        layers = [layer.name for layer in model.model_.layers]
        assert sum(name.startswith("augmentation") for name in layers) == len(
            model.recipe.augmentation
        )


def _native(system: System) -> System:
    """Return the system for images of the network's own size."""
    models = {
        which: clone(found).set_params(recipe=replace(found.recipe, image_size=None))
        for which in ("published", "corrected")
        for found in (getattr(system, which),)
    }
    return replace(system, **models)


def test_stand_in_is_fed_wrongly_where_the_network_was(tiny: str) -> None:
    system = SYSTEMS["corrosion_resnet50"]
    options = running.Options(backbone=tiny, weights=None)
    # -1..1 is wrong for ResNet50 and right for this one, which is given ResNet50's scaling.
    assert running.model(system, "published", options).backbone.preprocessing == "caffe"
    assert running.model(system, "corrected", options).backbone.preprocessing == "tf"


def test_command_runs_divides_and_predicts(
    folders: dict[str, Path],
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    contest = tmp_path / "contest"
    (contest / "train").mkdir(parents=True)
    lines = ["id,breed"]
    for image in sorted(folders["train"].glob("*/*.png")):
        name = f"{image.parent.name}{image.stem}"
        Image.open(image).save(contest / "train" / f"{name}.jpg")
        lines.append(f"{name},{image.parent.name}")
    (contest / "labels.csv").write_text("\n".join(lines))
    asked = f"dogs --train {contest / 'labels.csv'} --predict {folders['unlabelled']} --epochs 1"
    asked += " --head logistic --head nearest"
    asked += f" --out {tmp_path / 'out'} --backbone {tiny} --weights none"
    words = ["published", *asked.replace("dogs", "dog_breeds_inception_resnet_v2").split()]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    shown = capsys.readouterr()
    assert "14 images to train on, 4 to test; 3 classes" in shown.out
    for head in ("logistic", "nearest"):
        assert f"| head {head} |" in shown.out
    tables = sorted((tmp_path / "out" / "dog_breeds_inception_resnet_v2").iterdir())
    assert len(tables) == 2
    for table in tables:
        with table.open(newline="") as rows:
            found = list(csv.DictReader(rows))
        assert [row.pop("id") for row in found] == ["image 0", "image 1", "image 2"]
        for row in found:
            assert list(row) == ["blue", "green", "red"]
            assert sum(map(float, row.values())) == pytest.approx(1, abs=1e-4)


def test_command_says_what_to_do_without_weights(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(folders["unlabelled"]))
    monkeypatch.setattr(
        sys, "argv", ["published", "inception_v3_mixed7", "--train", str(folders["train"])]
    )
    with pytest.raises(SystemExit, match="not run: inception_v3_mixed7"):
        command.main()
    assert "--backbone mobilenet_v2" in capsys.readouterr().err


def test_head_and_recipe_are_compared_image_by_image() -> None:
    ours, theirs = np.array([1, 1, 1, 1, 0, 1], bool), np.array([0, 0, 0, 1, 1, 1], bool)
    found = running.paired(running.Heads([], "logistic", ours, 2.0, 5.0), theirs, 10.0)
    assert (found.only_head, found.only_recipe) == (3, 1)
    assert found.difference == pytest.approx(1 / 3)
    assert found.p_value == pytest.approx(0.625)  # the sum of binomial(4, 1/2) outside 2
    assert (found.ratio, found.ratio_alone) == (2.0, 5.0)
    assert not found.worse
    none = running.Heads([], "x", np.zeros(9, bool), 1.0, 1.0)
    assert running.paired(none, np.ones(9, bool), 1.0).worse


def test_trucks_are_divided_as_published() -> None:
    labels = [f"class {n % 6}" for n in range(6 * 70)]
    pixels = np.zeros((len(labels), 1, 1, 3), np.uint8)
    parts = SYSTEMS["trucks_mobilenet_v2"].divide(Dataset.from_array(pixels, labels))
    assert parts.validation is not None
    chosen = (parts.train, parts.validation, parts.test)
    assert [len(part) for part in chosen] == [60, 150, 150]
    assert len({name for part in chosen for name in part.ids}) == 360
    assert set(Counter(parts.test.labels).values()) == {25}


def test_too_few_images_to_divide_are_named() -> None:
    few = Dataset.from_array(np.zeros((90, 1, 1, 3), np.uint8), ["a"] * 60 + ["b"] * 30)
    with pytest.raises(DatasetError, match=r"60 images of each; got \{'b': 30\}"):
        SYSTEMS["trucks_mobilenet_v2"].divide(few)
    single = Dataset.from_array(np.zeros((4, 1, 1, 3), np.uint8), ["a", "a", "a", "b"])
    with pytest.raises(DatasetError, match=r"2 images of each; got \{'b': 1\}"):
        SYSTEMS["corrosion_resnet50"].divide(single)


@SYSTEM
def test_images_are_divided_without_overlap(system: System) -> None:
    labels = [f"class {n % 2}" for n in range(1000)]
    parts = system.divide(Dataset.from_array(np.zeros((1000, 1, 1, 3), np.uint8), labels))
    assert not set(parts.train.ids) & set(parts.test.ids)
    if system.per_class is None:
        assert len(parts.test) == pytest.approx(1000 * system.test_share, abs=1)
        assert len(parts.train) + len(parts.test) == 1000


def test_last_batch_metrics_are_those_of_the_last_batch(small: Parts, tiny: str) -> None:
    recipe = Recipe(layers=(), epochs=1, batch_size=16, validation_fraction=0, patience=None)
    model = FineTuned(tiny, recipe, progress=False)
    model.fit(small.train, callbacks=[last_batch_metrics(Path())])
    # 18 images in batches of 16: two are left for the last one.
    assert model.history_["accuracy"][0] in (0.0, 0.5, 1.0)


def test_params_are_printed_beside_the_published_ones() -> None:
    text = command._params([SYSTEMS["trucks_mobilenet_v2"]])
    assert "2,265,670 / 7,686 / 2,257,984 | equal" in text


def test_different_counts_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    system = SYSTEMS["trucks_mobilenet_v2"]
    wrong = replace(system, counts=replace(system.counts, total=1))
    monkeypatch.setitem(SYSTEMS, "trucks_mobilenet_v2", wrong)
    monkeypatch.setattr(sys, "argv", ["published", "trucks_mobilenet_v2", "--params"])
    with pytest.raises(SystemExit, match="not the published ones"):
        command.main()


def test_near_duplicates_stay_on_one_side() -> None:
    labels = np.repeat(np.array(["a", "b"], dtype=object), 60)
    groups = np.arange(120) // 4
    fit, score = dividing.divided(labels, groups, 50, 20, 0)
    assert dividing.shared(groups[fit], groups[score]) == 0
    assert (len(fit), len(score)) == (50, 20)
    assert min(Counter(labels[score]).values()) >= 5
    alone = np.arange(120)  # nothing alike: the plain stratified division
    plain = train_test_split(alone, train_size=50, test_size=20, stratify=labels, random_state=0)
    for ours, theirs in zip(dividing.divided(labels, alone, 50, 20, 0), plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_class_that_is_one_group_cannot_be_divided() -> None:
    labels = np.repeat(np.array(["a", "b"], dtype=object), 40)
    groups = np.where(labels == "a", 0, np.arange(80) // 2)
    with pytest.raises(DatasetError, match="one group of near-duplicates"):
        dividing.divided(labels, groups, 30, 10, 0)


def test_near_duplicates_found_in_a_division_are_kept_together_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The whole shows nothing; what looks alike is seen only once the images are divided.
    true = np.arange(60) // 3
    images = Dataset.from_array(
        np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1).repeat(3, axis=3), list("ab" * 30)
    )
    number = {name: position for position, name in enumerate(images.ids)}

    def alike(train: Dataset, _: Path, test: Dataset | None = None) -> dict[str, np.ndarray]:
        if test is None:
            return {"train": np.arange(60)}
        return {
            part: true[[number[name] for name in some.ids]]
            for part, some in (("train", train), ("test", test))
        }

    monkeypatch.setattr(dividing, "alike", alike)
    fit, score = dividing.apart(images, Path(), 30, 10, 0)
    assert dividing.shared(true[fit], true[score]) == 0


def test_groups_are_merged_by_what_a_division_shows() -> None:
    groups = dividing.merged(np.array([0, 1, 1, 2, 3]), np.array([4, 0, 1]), np.array([7, 8, 7]))
    assert groups.tolist() == [0, 1, 1, 2, 1]


def test_steps_of_another_version_are_not_mixed(tmp_path: Path) -> None:
    path, asked = tmp_path / "results.json", {"epochs": 1}
    state = audit.state_of(path, asked)
    path.write_text(json.dumps(state), encoding="utf-8")
    assert audit.state_of(path, asked) == state
    with pytest.raises(SystemExit, match="asked"):
        audit.state_of(path, {"epochs": 2})
    state["versions"]["keras"] = "2.0"
    path.write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(SystemExit, match="versions"):
        audit.state_of(path, asked)


def test_the_head_is_tested_against_the_better_recipe() -> None:
    right = np.array([True] * 6 + [False] * 6)
    head, weaker = right | (np.arange(12) == 7), np.zeros(12, bool)
    heads = running.Heads([], "mlp", head, 1.0, 2.0)

    def found(published: np.ndarray, corrected: np.ndarray) -> dict[str, Any]:
        lines = [tables.Line("as x", one.mean(), 0, 1, 1, 1) for one in (published, corrected)]
        pairs = running._tests(SYSTEMS["corrosion_resnet50"], heads, published, corrected)
        return {
            "lines": [asdict(line) for line in lines],
            "versus": asdict(running.paired(heads, corrected, 4.0)),
            "tests": [asdict(pair) for pair in pairs],
        }

    for published, corrected in ((right, weaker), (weaker, right)):
        test = results._better(found(published, corrected))
        assert test is not None
        assert test.difference == pytest.approx(1 / 12)
        assert test.p_value == 1.0
    untested = found(right, weaker) | {"tests": []}
    assert results._better(untested) is None


def test_an_audit_without_a_cut_says_so() -> None:
    whole = results._cut({"epochs": None, "most": 200, "test": 150})
    assert "as many epochs as published" in whole
    assert "cut to 10 epochs (6 where" in results._cut({"epochs": 10, "most": 200, "test": 150})


def test_results_are_those_of_the_runs_and_no_head_is_worse() -> None:
    state = json.loads(audit.STATE.read_text(encoding="utf-8"))
    assert list(state["steps"]) == audit.step_names(), "all is measured"
    page = audit.RESULTS.read_text(encoding="utf-8")
    assert page == results.page(state, audit.step_names())
    assert "Not measured" in results.page(state, [*audit.step_names(), "one more"])
    for name in SYSTEMS:
        step = state["steps"][f"system {name}"]["found"]
        found = running.Paired(**step["versus"])
        assert not found.worse, name
        assert found.ratio > 1, name
        assert step["near_duplicates"] == 0 or (
            f"on both sides: {step['near_duplicates']} of the {step['test']} test" in page
        ), name
