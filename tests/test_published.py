"""The published systems: their counts to the last parameter, and recipes that really run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import benchmarks.published.__main__ as command  # noqa: E402
from benchmarks.published import SYSTEMS, mistakes, running  # noqa: E402
from benchmarks.published.system import System, last_batch_metrics, misprepared  # noqa: E402
from featx import Backbone, Dataset, FineTuned, Recipe  # noqa: E402
from featx.dense import BatchNorm, Dense, Dropout, Flatten, GlobalAveragePooling  # noqa: E402
from tests.conftest import draw_folder  # noqa: E402

SYSTEM = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


@SYSTEM
def test_parameter_counts_are_the_published_ones(system: System) -> None:
    counts = system.published.parameter_counts(system.classes)
    assert (counts["total"], counts["trainable"]) == (system.counts.total, system.counts.trainable)


def test_corrosion_has_the_printed_frozen_part() -> None:
    counts = SYSTEMS["corrosion_resnet50"].published.parameter_counts(3)
    assert counts["non_trainable"] == 23_591_916


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
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    inner = Backbone("mobilenet_v2", weights=None, image_size=32, pooling=None).build()
    network = inner.get_layer("network")
    direct = np.asarray(network([expected(pictures.copy())], training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(wrong(pictures)), direct, atol=1e-4)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """Return 18 training and 6 test pictures of three colours."""
    folder = tmp_path_factory.mktemp("published")
    parts = [draw_folder(folder / name, n, seed=n) for name, n in (("train", 6), ("test", 2))]
    return Dataset.from_folder(parts[0]), Dataset.from_folder(parts[1])


@SYSTEM
def test_runs_as_published_and_corrected(system: System, small: tuple[Dataset, Dataset]) -> None:
    train, test = small
    options = running.Options(backbone="mobilenet_v2", weights=None, epochs=1)
    for which in ("published", "corrected"):
        # Small pictures: what is tested is that every declared part can be run.
        with_small = replace_side(system, 32)
        model, line, right = running.fitted(with_small, which, train, test, options)
        assert right.shape == (6,)
        assert line.way == f"as {which}"
        assert (line.claimed is not None) == (which == "published" and system.scored_on != "test")
        second = with_small.published if which == "published" else with_small.corrected
        assert model.n_epochs_ == 1 + (second.unfreeze_epochs or 0)
        assert 0 <= line.low <= line.accuracy <= line.high <= 1


def replace_side(system: System, side: int) -> System:
    """Return the system for smaller pictures."""
    models = {}
    for which in ("published", "corrected"):
        found = clone(getattr(system, which))
        backbone = find(found.backbone)
        models[which] = found.set_params(
            backbone=replace(backbone, image_size=side),
            recipe=replace(found.recipe, image_size=None),
        )
    return replace(system, **models)


def find(backbone: str | Backbone) -> Backbone:
    return backbone if isinstance(backbone, Backbone) else Backbone(backbone)


def test_head_and_recipe_are_compared_picture_by_picture() -> None:
    ours, theirs = np.array([1, 1, 1, 1, 0, 1], bool), np.array([0, 0, 0, 1, 1, 1], bool)
    found = running.paired("logistic", ours, theirs, 7.0)
    assert (found.only_head, found.only_recipe) == (3, 1)
    assert found.difference == pytest.approx(1 / 3)
    assert found.p_value == pytest.approx(0.625)  # the sum of binomial(4, 1/2) outside 2
    assert not found.worse
    assert running.paired("x", np.zeros(9, bool), np.ones(9, bool), 1.0).worse


def test_trucks_are_cut_as_published(small: tuple[Dataset, Dataset]) -> None:
    labels = [f"class {n % 6}" for n in range(6 * 60)]
    pixels = np.zeros((len(labels), 1, 1, 3), np.uint8)
    train, test = mistakes.trucks_cut(Dataset.from_array(pixels, labels))
    assert (len(train), len(test)) == (60, 150)
    assert not set(train.ids) & set(test.ids)


def test_last_batch_metrics_are_those_of_the_last_batch(small: tuple[Dataset, Dataset]) -> None:
    train, _ = small
    recipe = Recipe(layers=(), epochs=1, batch_size=16, validation_fraction=0, patience=None)
    model = FineTuned(Backbone("mobilenet_v2", weights=None, image_size=32), recipe, progress=False)
    model.fit(train, callbacks=[last_batch_metrics(Path())])
    # 18 pictures in batches of 16: two are left for the last one.
    assert model.history_["accuracy"][0] in (0.0, 0.5, 1.0)


def test_params_are_printed_beside_the_published_ones() -> None:
    text = command._params([SYSTEMS["trucks_mobilenet_v2"]])
    assert "2,265,670 / 7,686 / 2,257,984 | equal" in text
