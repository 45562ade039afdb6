from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from featx.datasets.dataset import Dataset
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import plan
from featx.evaluation.report.findings import Choice
from tests.evaluation.seam import QUICK, TEST, TINY, TRAIN, Seam, images


def test_real_keras_from_images_to_report(tmp_path: Path) -> None:
    train, test = images(TRAIN), images(TEST, seed=1)
    options: dict[str, Any] = {
        "backbones": [TINY],
        "heads": ["nearest", "linear_svm"],
        "epochs": 2,
        "cache": tmp_path / "cache",
        "progress": False,
    }
    first = benchmark(train, test, **options)
    by_method = {row.method: row for row in first.results}
    assert set(by_method) == {"nearest", "linear_svm", "keras_baseline"}
    baseline = by_method["keras_baseline"]
    assert (baseline.n_train, baseline.n_test, baseline.epochs) == (36, 18, 2)
    assert len(first.histories[0].curves["loss"]) == 2
    scored = first.histories[0].curves["scored_accuracy"]  # of cached embeddings, after each epoch
    assert len(scored) == len(first.histories[0].curves["scored_loss"]) == 2
    assert scored[-1] == pytest.approx(baseline.accuracy, abs=1 / 18)
    scored_loss = first.histories[0].curves["scored_loss"][-1]
    assert scored_loss == pytest.approx(baseline.log_loss, abs=1e-3)
    done = first.extractions[0]
    assert (done.images, done.computed, done.cached, done.dim) == (54, 54, 0, 1280)
    assert done.cost == done.seconds > 0
    assert done.untrained
    assert "ran with random weights" in first.verdict.cautions[0]
    assert all(row.fit_seconds > 0 and row.predict_seconds > 0 for row in first.results)
    first.save(tmp_path / "report")

    second = benchmark(train, test, **options, baseline=False)
    again = second.extractions[0]
    assert (again.computed, again.cached, again.cost) == (0, 54, None)
    for row in second.results:
        assert row.images_computed == 0
        assert row.accuracy == by_method[row.method].accuracy


def test_the_head_is_chosen_without_the_test_images(seam: Seam) -> None:
    heads = {"guess": DummyClassifier(strategy="most_frequent"), "lr": LogisticRegression()}
    swapped = images({"a": 6, "b": 6, "c": 6}, seed=1)
    turned = {"a": "b", "b": "c", "c": "a"}
    wrong = Dataset([replace(item, label=turned[str(item.label)]) for item in swapped])
    report = benchmark(images(TRAIN), wrong, heads=heads, **QUICK)
    chosen = next(one for one in report.summaries if one.chosen)
    assert chosen.method == "lr"
    assert chosen.accuracy == 0  # the test set would have chosen the guess
    assert report.selection.folds == 3
    assert report.selection.n == 36
    assert report.selection.seconds > 0
    assert report.selection.scores["mobilenet_v2", "lr"] == 1.0


@pytest.mark.parametrize(("enough", "scored"), [(12, 1), (13, 2), (36, 3)])
def test_of_many_images_a_part_is_held_out(
    seam: Seam, monkeypatch: pytest.MonkeyPatch, enough: int, scored: int
) -> None:
    monkeypatch.setattr(plan, "ENOUGH_HELD_OUT", enough)
    fitted: list[int] = []

    class Counted(LogisticRegression):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Counted:
            fitted.append(len(y))
            super().fit(X, y)
            return self

    heads = {"guess": DummyClassifier(strategy="most_frequent"), "lr": Counted()}
    report = benchmark(images(TRAIN), images(TEST), heads=heads, **QUICK)
    assert fitted == [24] * scored + [36]
    found = report.to_dict()["selection"]
    assert (found["folds"], found["scored_folds"], found["n"]) == (3, scored, 12 * scored)
    choice = report.findings.selected
    assert choice is not None
    assert choice.choice is (Choice.CROSS_VALIDATION if scored == 3 else Choice.HELD_OUT)
    said = " ".join(point.text for point in report.verdict.points)
    expected = f"{12 * scored} of the training images, each held out once in {scored} of 3 folds"
    assert (expected in said) == (scored < 3)
    if scored == 1:  # sqrt(0.25 / 12)
        assert "standard error of an accuracy on so many is 14.4 points at most" in said


def test_heads_that_close_are_chosen_by_their_order(seam: Seam) -> None:
    heads = {"second": LogisticRegression(C=0.5), "first": LogisticRegression()}
    report = benchmark(images(TRAIN), images(TEST), heads=heads, **QUICK)
    assert next(one for one in report.summaries if one.chosen).method == "second"


@pytest.mark.parametrize(("test", "heads"), [(TEST, 1), (None, 2)])
def test_one_head_or_folds_leave_no_choice_to_make(
    seam: Seam, test: dict[str, int] | None, heads: int
) -> None:
    report = benchmark(
        images(TRAIN),
        None if test is None else images(test),
        heads={f"lr{n}": LogisticRegression() for n in range(heads)},
        **QUICK,
    )
    assert report.selection.folds == 0
    assert sum(one.chosen for one in report.summaries) == 1


def test_what_was_tested_is_known_by_its_content(seam: Seam, quick: dict[str, Any]) -> None:
    def content(test: Dataset) -> Any:
        return benchmark(images(TRAIN), test, **quick).to_dict()["tested"]["content"]

    same, other = images(TEST, seed=1), images(TEST, seed=2)
    assert same.ids == other.ids
    assert content(same) == content(images(TEST, seed=1)) != content(other)


def test_bars_are_shown_only_where_wanted(
    seam: Seam, quick: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(images(TRAIN), images(TEST), **quick)
    assert capsys.readouterr().err == ""
    benchmark(images(TRAIN), images(TEST), **{**quick, "progress": True})
    assert "compare" in capsys.readouterr().err


@pytest.mark.weights
def test_flowers_with_real_weights(datasets: Path, tmp_path: Path) -> None:
    flowers = datasets / "flowers"
    report = benchmark(
        flowers / "train",
        flowers / "test",
        backbones=["mobilenet_v2"],
        heads=["logistic"],
        baseline=False,
        leaks=False,
        evidence=False,
        cache=tmp_path / "cache",
        progress=False,
    )
    row = report.results[0]
    assert (row.n_train, row.n_test) == (600, 250)
    assert row.accuracy >= 0.83  # independent reference at C = 0.01: 0.848
    assert report.images.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
