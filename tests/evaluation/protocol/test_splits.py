from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from featx.datasets.dataset import Dataset
from featx.errors import DatasetError
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import splits
from featx.evaluation.protocol.splits import EmbeddedImages
from tests.evaluation.seam import TEST, TINY, TRAIN, Seam, images


def test_folds_are_the_same_for_every_method_and_differ_by_seed(seam: Seam) -> None:
    data = images(TRAIN)
    report = benchmark(
        data, heads={"lr": LogisticRegression()}, folds=3, seeds=[5, 6],
        backbones=[TINY], progress=False,
    )  # fmt: skip
    assert seam.extracted == [36]
    by_seed: dict[int, list[tuple[str, ...]]] = {}
    for seed, trained, tested in seam.fitted:
        assert not set(trained) & set(tested)
        assert len(trained) + len(tested) == 36
        by_seed.setdefault(seed, []).append(tested)
    for seed, parts in by_seed.items():
        assert sorted(sum(parts, ())) == sorted(data.ids)  # each image once
        cuts = splits.splits(EmbeddedImages(data, seam.extract(data, TINY)), None, 3, seed)
        assert parts == [tuple(split.test.ids) for split in cuts]
    assert by_seed[5] != by_seed[6]
    heads = [one for one in report.predictions if one.method == "lr"]
    assert [one.ids for one in heads] == [tuple(data.ids)] * 2
    assert list(heads[0].y_true) == list(data.labels if data.labels is not None else [])
    assert np.mean(heads[0].y_true == heads[0].y_pred) > 0.9
    assert {row.fold for row in report.results} == {1, 2, 3}


def test_folds_keep_the_share_of_each_class(seam: Seam) -> None:
    data = images({"many": 40, "few": 5})
    for split in splits.splits(EmbeddedImages(data, seam.extract(data, TINY)), None, 5, 0):
        assert list(split.y_test).count("few") == 1


def test_a_skipped_image_is_skipped_for_the_baseline_too(seam: Seam) -> None:
    report = benchmark(
        images(TRAIN, bad=(3, 30)), images(TEST, bad=(0,)),
        heads=["nearest"], backbones=[TINY], on_error="skip", progress=False,
    )  # fmt: skip
    assert seam.options["on_error"] == "skip"
    (_, trained, tested) = seam.fitted[0]
    assert len(trained) == 34
    assert len(tested) == 17
    assert "a/003" not in trained
    assert {(one.part, one.failure.id) for one in report.images.skipped} == {
        ("train", "a/003"),
        ("train", "c/030"),
        ("test", "a/000"),
    }
    assert report.images.n_train == {"a": 11, "b": 12, "c": 11}
    assert "3 images could not be used" in " ".join(report.verdict.cautions)
    assert "train set: 1 hidden file skipped" in report.images.notes
    assert "test set: 1 newly read image is tiny" in report.images.notes


@pytest.mark.parametrize(
    ("train", "test", "options", "words"),
    [
        ({"a": 5}, {"a": 5}, {}, r"one class only, 'a'.*parent folder"),
        ({"a": 5, "b": 5}, {"a": 5, "z": 2, "y": 1}, {}, r"2 classes that the training.*: y, z\."),
        ({"a": 9, "b": 3, "c": 2}, None, {}, r"5-fold.*too few of: 'b' \(3\), 'c' \(2\).*folds=2,"),
        ({"a": 9, "b": 1}, None, {}, r"'b' \(1\).*folds=2 \(and more\)"),
        ({"a": 9, "b": 9}, None, {"folds": 1}, r"folds must be 2 or more.*got 1"),
    ],
)
def test_labels_that_cannot_be_compared_on(
    seam: Seam,
    quick: dict[str, Any],
    train: dict[str, int],
    test: dict[str, int] | None,
    options: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(DatasetError, match=words):
        benchmark(images(train), None if test is None else images(test), **{**quick, **options})
    assert seam.extracted == []  # said before any work


def test_labels_are_needed(seam: Seam, quick: dict[str, Any]) -> None:
    bare = Dataset([replace(item, label=None) for item in images(TRAIN)])
    with pytest.raises(DatasetError, match="training set has no labels"):
        benchmark(bare, **quick)
    with pytest.raises(DatasetError, match="test set has no labels"):
        benchmark(images(TRAIN), bare, **quick)


def test_a_class_without_test_images_is_noted(seam: Seam, quick: dict[str, Any]) -> None:
    report = benchmark(images(TRAIN), images({"a": 6, "b": 6}), **quick)
    assert any("No test image of: c" in note for note in report.images.notes)
    assert report.images.n_test["c"] == 0
    report.to_dict()
