from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from featx.backbones.backbone import Backbone
from featx.dense import Recipe
from featx.errors import FeatxError
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import plan
from tests.evaluation.seam import TEST, TINY, TRAIN, Seam, images


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": ["logistik"]}, "no head 'logistik'. Did you mean 'logistic'"),
        ({"heads": ["nearest", "nearest"]}, "two heads are called 'nearest'"),
        ({"class_weight": "even"}, "class_weight='even': expected None, 'balanced'"),
        ({"seeds": 0}, "seeds must be 1 or more"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"heads": [], "baseline": False}, "nothing to compare"),
        ({"backbones": []}, "no backbone to compare with"),
        ({"baseline": True, "epochs": 0}, "epochs must be 1 or more; got 0"),
    ],
)
def test_wrong_arguments_are_named(
    seam: Seam, quick: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(FeatxError, match=words):
        benchmark(images(TRAIN), images(TEST), **{**quick, **options})


def test_a_recipe_is_the_baseline_as_it_stands(seam: Seam, quick: dict[str, Any]) -> None:
    recipe = Recipe(epochs=3, patience=None)
    report = benchmark(images(TRAIN), images(TEST), **{**quick, "baseline": recipe}, epochs=9)
    assert {row.epochs for row in report.results} == {None, 3}
    assert "Dropout + Dense softmax" in report.baseline
    assert "10% of the training images held out" in report.baseline


def test_two_recipes_of_one_network_are_kept_apart(seam: Seam) -> None:
    other = replace(TINY, pooling="max")
    report = benchmark(
        images(TRAIN), images(TEST), heads=["nearest"],
        backbones=[TINY, other], baseline=False, progress=False,
    )  # fmt: skip
    names = {row.backbone for row in report.results}
    assert len(names) == 2
    assert any("pooling=max" in name for name in names)


@pytest.mark.parametrize(
    ("images_", "groups", "expected"),
    [
        (3, None, plan.Folds()),  # a class with one image
        (4, None, plan.Folds(2, 2)),
        (14_990, None, plan.Folds(3, 3)),
        (15_000, None, plan.Folds(3, 2)),
        (29_990, None, plan.Folds(3, 2)),
        (30_000, None, plan.Folds(3, 1)),
        (60_000, 9_000, plan.Folds(3, 3)),  # ten photographs of a patient are one witness
        (60_000, 30_000, plan.Folds(3, 1)),
    ],
)
def test_so_many_folds_are_scored_as_tell_an_accuracy_to_half_a_point(
    images_: int, groups: int | None, expected: plan.Folds
) -> None:
    labels = np.arange(images_) % 2
    patients = None if groups is None else np.arange(images_) % groups
    found = plan.held_out_folds(labels, patients)
    assert found == expected
    assert bool(found) == (found.drawn > 0)
    if 0 < found.scored < found.drawn:
        held = (groups or images_) * found.scored // found.drawn
        assert np.sqrt(0.25 / held) <= 0.005


def test_each_backbone_is_compared_in_each_precision() -> None:
    found = plan.several(["resnet50", "mobilenet_v2"], ["float32", "bfloat16"])
    assert [(one.name, one.precision) for one in found] == [
        ("resnet50", "float32"),
        ("resnet50", "bfloat16"),
        ("mobilenet_v2", "float32"),
        ("mobilenet_v2", "bfloat16"),
    ]
    half = Backbone("resnet50", precision="bfloat16")
    assert plan.several(half) == [half]
    assert plan.several(half, "float32") == [Backbone("resnet50")]


def test_backbones_of_one_name_are_told_apart_by_what_differs() -> None:
    backbones = (
        Backbone("mobilenet_v2"),
        Backbone("mobilenet_v2", precision="int8"),
        Backbone("mobilenet_v2", precision="int8", image_size=160),
        Backbone("resnet50", weights=None),
        Backbone("vgg16", precision="bfloat16"),
    )
    asked = plan.Plan(("x", None), backbones, (), None, (0,), 5, {}, "")
    assert [asked.label(each) for each in backbones] == [
        "mobilenet_v2 float32",
        "mobilenet_v2 int8",
        "mobilenet_v2 image_size=160 int8",
        "resnet50",
        "vgg16 bfloat16",
    ]


def test_the_baseline_is_not_trained_a_second_time_for_int8() -> None:
    backbones = (Backbone("mobilenet_v2"), Backbone("mobilenet_v2", precision="int8"))
    asked = plan.Plan(("x", None), backbones, (), Recipe(layers=()), (0, 1), 5, {"progress": 0}, "")
    assert [len(asked.methods(each)) for each in backbones] == [1, 0]
    assert asked.steps == 2
