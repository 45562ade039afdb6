"""The published systems: their counts to the last parameter, and recipes that really run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.published import SYSTEMS  # noqa: E402
from benchmarks.published.system import System, misprepared  # noqa: E402
from featx import Backbone, FineTuned, Recipe  # noqa: E402
from featx.dense import BatchNorm, Dense, Dropout, Flatten, GlobalAveragePooling  # noqa: E402

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
