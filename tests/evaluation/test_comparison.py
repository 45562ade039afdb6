from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from typer.testing import CliRunner

import featx
from featx.backbones.backbone import Backbone
from featx.cli import app
from featx.datasets.dataset import Dataset, Item
from featx.dense import Dense, Dropout, Recipe
from featx.errors import DatasetError, Failure, FeatxError, RuntimeUnavailableError
from featx.evaluation import comparison
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import passes, plan, splits, trials
from featx.evaluation.report import command, environment
from featx.features import ExtractionReport, Features

TINY = Backbone("mobilenet_v2", weights=None, image_size=32)
QUICK: dict[str, Any] = {
    "backbones": [TINY],
    "baseline": False,
    "evidence": False,
    "progress": False,
}


def images(counts: dict[str, int], seed: int = 0, bad: tuple[int, ...] = ()) -> Dataset:
    """Return images of which the mean colour tells the class, and what `bad` numbers are no."""
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    for position, (label, n) in enumerate(sorted(counts.items())):
        for _ in range(n):
            pixels = rng.integers(0, 90, (32, 32, 3), dtype=np.uint8)
            pixels[..., position % 3] += np.uint8(90 + 25 * (position // 3))
            source: Any = b"no image" if len(items) in bad else pixels
            items.append(Item(f"{label}/{len(items):03d}", label, source))
    return Dataset(items, notes=("1 hidden file skipped",))


class Seam:
    """Stands for `extract` and `FineTuned`: counts what they are asked, and is quick."""

    def __init__(self) -> None:
        self.extracted: list[int] = []
        self.fitted: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []
        self.reused = 0
        self.start = 0.0

    def extract(self, dataset: Dataset, backbone: Backbone, **options: Any) -> Features:
        self.extracted.append(len(dataset))
        self.options = options
        good = [item for item in dataset if isinstance(item.source, np.ndarray)]
        failures = [
            Failure(item.id, "NotAnImageError", "is no image")
            for item in dataset
            if not isinstance(item.source, np.ndarray)
        ]
        X = np.array([i.source.mean(axis=(0, 1)) for i in good], dtype=np.float32)  # type: ignore[union-attr]
        y = np.array([item.label for item in good], dtype=object)
        reused = min(self.reused, len(good))
        return Features(
            X,
            None if any(label is None for label in y) else y,
            [item.id for item in good],
            failures=failures,
            notes=(*dataset.notes, "1 newly read image is tiny"),
            report=ExtractionReport(
                len(dataset),
                len(good) - reused,
                reused,
                0.5,
                0.5,
                "fake",
                "cache",
                start_seconds=self.start,
            ),
        )

    def fine_tuned(
        self, backbone: Any, recipe: Recipe, *, random_state: int, progress: bool
    ) -> Any:
        return _FakeBaseline(self, recipe, random_state)


class _FakeBaseline:
    def __init__(self, seam: Seam, recipe: Recipe, seed: int) -> None:
        self.seam, self.recipe, self.seed = seam, recipe, seed

    def fit(self, dataset: Dataset) -> None:
        labels = dataset.labels
        assert labels is not None
        self.classes_ = np.unique(labels.astype(str))
        self.trained = tuple(dataset.ids)
        self.n_epochs_ = self.recipe.epochs
        self.history_ = {"loss": [1.0] * self.n_epochs_, "seconds": [2.0] * self.n_epochs_}

    def predict_proba(self, dataset: Dataset) -> np.ndarray:
        self.seam.fitted.append((self.seed, self.trained, tuple(dataset.ids)))
        return np.full((len(dataset), len(self.classes_)), 1 / len(self.classes_))


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Seam:
    found = Seam()
    monkeypatch.setattr(passes, "extract", found.extract)
    monkeypatch.setattr(plan, "FineTuned", found.fine_tuned)
    return found


@pytest.fixture
def quick() -> dict[str, Any]:
    return {"heads": {"lr": LogisticRegression()}, **QUICK}


TRAIN = {"a": 12, "b": 12, "c": 12}
TEST = {"a": 6, "b": 6, "c": 6}


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
    by_method = {row.method: row for row in first.rows}
    assert set(by_method) == {"nearest", "linear_svm", "keras_baseline"}
    baseline = by_method["keras_baseline"]
    assert (baseline.n_train, baseline.n_test, baseline.epochs) == (36, 18, 2)
    assert len(first.histories[0].curves["loss"]) == 2
    done = first.passes[0]
    assert (done.images, done.computed, done.reused, done.dim) == (54, 54, 0, 1280)
    assert done.cost == done.seconds > 0
    assert done.untrained
    assert "Untrained weights" in first.verdict.cautions[0]
    assert all(row.fit_seconds > 0 and row.predict_seconds > 0 for row in first.rows)
    first.save(tmp_path / "report")

    second = benchmark(train, test, **options, baseline=False)
    again = second.passes[0]
    assert (again.computed, again.reused, again.cost) == (0, 54, None)
    for row in second.rows:
        assert row.images_computed == 0
        assert row.accuracy == by_method[row.method].accuracy


def test_each_image_meets_the_backbone_once_for_all_methods_and_seeds(seam: Seam) -> None:
    report = benchmark(
        images(TRAIN), images(TEST), heads=["logistic", "nearest"], seeds=3, epochs=4,
        backbones=["mobilenet_v2"], progress=False,
    )  # fmt: skip
    assert seam.extracted == [36, 18]
    assert len(report.rows) == 9
    assert {(row.method, row.seed) for row in report.rows} == {
        (method, seed) for method in ("logistic", "nearest", "keras_baseline") for seed in range(3)
    }
    assert {row.epochs for row in report.rows} == {None, 4}
    assert {row.epoch_seconds for row in report.rows} == {None, 2.0}


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
    for seed, tested in by_seed.items():
        assert sorted(sum(tested, ())) == sorted(data.ids)  # each image once
        cuts = splits.splits((data, seam.extract(data, TINY)), None, 3, seed)
        assert tested == [tuple(split.test.ids) for split in cuts]
    assert by_seed[5] != by_seed[6]
    heads = [one for one in report.predictions if one.method == "lr"]
    assert [one.ids for one in heads] == [tuple(data.ids)] * 2
    assert list(heads[0].y_true) == list(data.labels if data.labels is not None else [])
    assert np.mean(heads[0].y_true == heads[0].y_pred) > 0.9
    assert {row.fold for row in report.rows} == {1, 2, 3}


def test_folds_keep_the_share_of_each_class(seam: Seam) -> None:
    data = images({"many": 40, "few": 5})
    for split in splits.splits((data, seam.extract(data, TINY)), None, 5, 0):
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


class _Fails(ClassifierMixin, BaseEstimator):
    def fit(self, X: Any, y: Any) -> _Fails:
        raise ValueError("this head has had enough")


class _Frets(LogisticRegression):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Frets:
        warnings.warn("did not converge\nin 3 steps", RuntimeWarning, stacklevel=1)
        super().fit(X, y)
        return self


def test_a_head_that_fails_is_reported_and_the_others_go_on(
    seam: Seam, caplog: pytest.LogCaptureFixture
) -> None:
    heads = {"bad": _Fails(), "lr": LogisticRegression()}
    with caplog.at_level(logging.WARNING):
        report = benchmark(images(TRAIN), images(TEST), heads=heads, seeds=2, **QUICK)
    assert {row.method for row in report.rows} == {"lr"}
    assert [(f.method, f.seed, f.error, f.reason) for f in report.method_failures] == [
        ("bad", 0, "ValueError", "this head has had enough"),
        ("bad", 1, "ValueError", "this head has had enough"),
    ]
    assert "this head has had enough" in caplog.text  # with its traceback, for whoever must mend it
    assert next(one for one in report.summaries if one.chosen).method == "lr"


def test_if_all_fail_the_reason_is_raised(seam: Seam) -> None:
    with pytest.raises(FeatxError, match="no method gave a result. bad: this head has had enough"):
        benchmark(images(TRAIN), images(TEST), heads={"bad": _Fails()}, **QUICK)


def test_warnings_of_a_fit_stand_in_the_report_once(seam: Seam) -> None:
    report = benchmark(images(TRAIN), images(TEST), heads={"frets": _Frets()}, seeds=2, **QUICK)
    assert report.remarks == ["frets: did not converge [RuntimeWarning]"]


def test_a_head_without_probabilities_has_no_log_loss(seam: Seam) -> None:
    report = benchmark(images(TRAIN), images(TEST), heads={"svm": LinearSVC()}, **QUICK)
    assert report.rows[0].log_loss is None
    assert report.rows[0].accuracy == 1.0
    assert report.summaries[0].ece is None


def test_given_estimators_are_cloned_and_seeded(seam: Seam) -> None:
    mine = make_pipeline(StandardScaler(), LogisticRegression(solver="saga", max_iter=9000))
    report = benchmark(images(TRAIN), images(TEST), heads=[mine], seeds=[3], **QUICK)
    assert {row.method for row in report.rows} == {"LogisticRegression"}
    assert not hasattr(mine[-1], "coef_")
    assert mine[-1].random_state is None


@pytest.mark.parametrize(
    ("train", "test", "options", "words"),
    [
        ({"a": 5}, {"a": 5}, {}, r"one class only, 'a'.*folder above"),
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": ["logistik"]}, "no head 'logistik'. Did you mean 'logistic'"),
        ({"heads": ["nearest", "nearest"]}, "two heads are called 'nearest'"),
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
    assert {row.epochs for row in report.rows} == {None, 3}
    assert "Dropout + Dense softmax" in report.baseline
    assert "10% of the training images held out" in report.baseline


@pytest.mark.parametrize(
    ("reused", "cost", "source"),
    [
        (0, 1.0, "measured in this run"),
        (9, 4 / 3, "scaled from the 36 of 54"),
        (99, None, "not measured in this run"),
    ],
)
def test_the_cost_of_a_pass_says_where_it_comes_from(
    seam: Seam, monkeypatch: pytest.MonkeyPatch, reused: int, cost: float | None, source: str
) -> None:
    clock: Iterator[float] = iter(np.arange(0.0, 1e6, 0.5))
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(clock))
    seam.reused = reused
    report = benchmark(images(TRAIN), images(TEST), heads=["nearest"], **QUICK)
    assert report.passes[0].cost == (None if cost is None else pytest.approx(cost, rel=0.2))
    assert report.passes[0].source.startswith(source)


def test_the_start_of_the_network_is_told_apart_from_the_pace(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Iterator[float] = iter(np.arange(0.0, 1e6, 0.5))
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(clock))
    seam.start, seam.reused = 0.25, 9
    report = benchmark(images(TRAIN), images(TEST), heads=["nearest"], **QUICK)
    done = report.passes[0]
    assert (done.seconds, done.start_seconds) == (1.0, 0.5)
    assert done.images_per_second == 36 / (1.0 - 0.5)
    assert done.cost == 0.5 + 0.5 * 54 / 36  # the start is there once, whatever the share


def test_two_recipes_of_one_network_are_kept_apart(seam: Seam) -> None:
    other = replace(TINY, pooling="max")
    report = benchmark(
        images(TRAIN), images(TEST), heads=["nearest"],
        backbones=[TINY, other], baseline=False, progress=False,
    )  # fmt: skip
    names = {row.backbone for row in report.rows}
    assert len(names) == 2
    assert any("pooling=max" in name for name in names)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --seeds 1 --out report"),
        (
            {"heads": ["mlp"], "baseline": False},
            "featx benchmark 'my flowers' --test t -b resnet50 --head mlp --no-baseline --seeds 1 "
            "--out report",
        ),
        (
            {"evidence": False},
            "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --no-evidence --seeds 1 "
            "--out report",
        ),
        (
            {"leaks": False, "cache": "my rows", "batch_size": 4, "on_error": "skip"},
            "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --no-leaks --seeds 1 "
            "--cache 'my rows' --batch-size 4 --on-error skip --out report",
        ),
        (
            {"folds": 3, "runtime": "keras"},
            "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --seeds 1 --folds 3 "
            "--runtime keras --out report",
        ),
        (
            {"path_column": "my file", "label_column": "kind"},
            "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --seeds 1 --path-column "
            "'my file' --label-column kind --out report",
        ),
        (
            {"heads": None},
            "import featx\nfrom featx import Backbone\n"
            "# No command can repeat heads: the estimators that this run was given.\n"
            "report = featx.benchmark('my flowers', 't', backbones=[Backbone(name='resnet50', "
            "weights='imagenet', layer=None, pooling='avg', image_size=None, "
            "precision='float32', decode='full')], baseline=True, epochs=8, seeds=1, heads=heads)\n"
            "report.save('report')",
        ),
    ],
)
def test_command_to_run_it_again(change: dict[str, Any], expected: str) -> None:
    options = {"heads": [], "baseline": True, "epochs": 8, "seeds": 1, "folds": None, **change}
    found = command.command("my flowers", Path("t"), [Backbone("resnet50")], options)
    assert found == expected


def test_the_printed_command_repeats_the_options(
    seam: Seam, quick: dict[str, Any], tmp_path: Path
) -> None:
    options = {"cache": tmp_path, "batch_size": 4, "runtime": "keras", "on_error": "skip"}
    report = benchmark(images(TRAIN), leaks=False, folds=3, **options, **quick)
    shown = report.circumstances.command
    for name, value in (options | {"cache": str(tmp_path), "leaks": False, "folds": 3}).items():
        assert f", {name}={value!r}" in shown
    plain = benchmark(images(TRAIN), images(TEST), **quick).circumstances.command
    assert not any(f"{name}=" in plain for name in (*options, "leaks", "folds"))


def test_the_printed_command_is_one_that_the_command_line_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def stand_in(*sets: Any, **options: Any) -> None:
        asked.update(options)
        raise FeatxError("asked")

    monkeypatch.setattr(comparison, "benchmark", stand_in)
    given = {"folds": 3, "leaks": False, "cache": "rows", "batch_size": 4, "runtime": "keras"}
    options = {"heads": ["mlp"], "baseline": True, "epochs": 2, "seeds": 2, "evidence": False}
    options |= given | {"on_error": "skip", "path_column": "file", "label_column": "kind"}
    words = shlex.split(command.command("x", None, [TINY], options))
    CliRunner().invoke(app.app, words[1:])
    for name, value in options.items():
        assert (str(asked[name]) if name == "cache" else asked[name]) == value, name


def test_the_printed_call_is_python_that_runs(
    seam: Seam, quick: dict[str, Any], tmp_path: Path
) -> None:
    """And it says in words what it cannot repeat: images in memory, estimators."""
    given = {"baseline": Recipe(layers=(Dropout(0.5), Dense(8)), epochs=2), "seeds": [3]}
    options = quick | given | {"heads": {"mine": DummyClassifier()}, "evidence": False}
    report = benchmark(images(TRAIN), images(TEST), **options)
    printed = report.circumstances.command
    n = sum(TRAIN.values())
    assert f"# No command can repeat train: the Dataset of {n} images" in printed
    assert "# No command can repeat test: the Dataset of" in printed
    report.save(tmp_path)
    for page in ("report.md", "report.html"):
        lines = (tmp_path / page).read_text(encoding="utf-8").splitlines()
        assert "import featx" in [line.rpartition(">")[2] for line in lines], page
    asked: dict[str, Any] = {}

    class Report:
        def save(self, folder: str) -> None:
            asked["saved"] = folder

    def stand_in(*sets: Any, **options: Any) -> Report:
        asked.update(options, sets=sets)
        return Report()

    names = {"train": "my train", "test": "my test", "heads": "my heads"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(featx, "benchmark", stand_in)
        exec(printed, names)
    assert asked["sets"] == ("my train", "my test")
    assert asked["heads"] == "my heads"
    assert asked["backbones"] == [TINY]
    assert (asked["baseline"], asked["seeds"], asked["saved"]) == (
        given["baseline"],
        [3],
        "report",
    )


def test_a_network_of_one_s_own_is_to_be_registered_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "BACKBONES", {})
    options = {"heads": [], "baseline": True, "epochs": 8, "seeds": 1}
    found = command.command("x", None, [TINY], options)
    assert "# Register the network 'mobilenet_v2' first" in found
    assert "report = featx.benchmark('x', backbones=[Backbone(name='mobilenet_v2'" in found


def test_what_was_tested_is_known_by_its_content(seam: Seam, quick: dict[str, Any]) -> None:
    def content(test: Dataset) -> Any:
        return benchmark(images(TRAIN), test, **quick).to_dict()["tested"]["content"]

    same, other = images(TEST, seed=1), images(TEST, seed=2)
    assert same.ids == other.ids
    assert content(same) == content(images(TEST, seed=1)) != content(other)


def test_command_keeps_weights_and_size() -> None:
    options = {"heads": [], "baseline": True, "epochs": 8, "seeds": 1, "folds": None}
    found = command.command("x", None, [TINY], options)
    assert "-b mobilenet_v2 --weights none --image-size 32 " in found


def test_circumstances_name_the_versions_and_not_the_machine() -> None:
    import platform

    found = {**environment.versions(), **environment.hardware()}
    assert found["featx"]
    assert found["scikit-learn"]
    assert found["Cores usable"].isdigit()
    node = platform.node()
    assert not node or node not in " ".join(found.values()).split()


def test_every_head_that_draws_numbers_gets_the_seed() -> None:
    for method in trials.methods(None):
        same = repr(method.make(1).get_params()) == repr(method.make(2).get_params())
        assert same == (method.name == "nearest"), method.name


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
        cache=tmp_path / "cache",
        progress=False,
    )
    row = report.rows[0]
    assert (row.n_train, row.n_test) == (600, 250)
    assert row.accuracy >= 0.83  # independent reference at C = 0.01: 0.848
    assert report.images.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")


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


def test_a_backbone_that_is_refused_is_so_before_anything_is_trained(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(dataset: Dataset, backbone: Backbone, **options: Any) -> Features:
        if backbone.precision == "int8":
            raise RuntimeUnavailableError("runtime='openvino' needs the package openvino")
        return seam.extract(dataset, backbone, **options)

    monkeypatch.setattr(passes, "extract", refusing)
    with pytest.raises(RuntimeUnavailableError):
        benchmark(
            images(TRAIN), images(TEST), backbones=[TINY], precisions=["float32", "int8"],
            heads=["nearest"], evidence=False, progress=False,
        )  # fmt: skip
    assert seam.extracted == [36, 18]
    assert not seam.fitted


def test_the_baseline_is_not_trained_a_second_time_for_int8() -> None:
    backbones = (Backbone("mobilenet_v2"), Backbone("mobilenet_v2", precision="int8"))
    asked = plan.Plan(("x", None), backbones, (), Recipe(layers=()), (0, 1), 5, {"progress": 0}, "")
    assert [len(asked.methods(each)) for each in backbones] == [1, 0]
    assert asked.steps == 2


def test_what_no_command_can_say_is_said_in_words(tmp_path: Path) -> None:
    options = {"heads": [], "baseline": False, "epochs": 1, "seeds": np.arange(2)}
    backbones = [Backbone("resnet50", weights=tmp_path / "w.h5")]
    told = command.command("x", None, backbones, {**options, "runtime": object()})
    assert "# No command can repeat runtime" in told
    assert f"weights='{tmp_path / 'w.h5'}'" in told
    assert "seeds=[0, 1]" in told
    assert "runtime=runtime" in told
    once = command.command("x", None, [Backbone("resnet50")], {**options, "seeds": np.int64(2)})
    assert "--seeds 2" in once
