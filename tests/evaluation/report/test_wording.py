from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featx.errors import Failure
from featx.evaluation.report.findings import Difference, Standing
from featx.evaluation.report.report import Report
from featx.evaluation.results import (
    Images,
    Selection,
    SkippedImage,
)
from featx.evaluation.scores import costs, intervals
from tests.evaluation.report.conftest import CACHED, MEASURED, Page, saved


@pytest.mark.parametrize("differ", [4, 5])
def test_verdict_says_so_where_interval_and_test_part(
    build: Callable[..., Report], differ: int
) -> None:
    report = build(n=50)
    gap = intervals.compare(np.arange(50) < 45, np.arange(50) < 45 - differ)
    assert gap.interval.low > 0
    assert gap.p_value > 0.05
    head = next(one for one in report.summaries if one.chosen)
    object.__setattr__(head, "versus", gap)
    said = report.verdict.points[0].text
    assert f"rests on {differ} images that only one of the two got right, too few" in said
    assert "The interval leaves out 0" in said
    assert "no larger than chance" not in said
    assert report.findings.difference is not None
    assert report.findings.difference.standing is Standing.TOO_FEW_DISAGREEMENTS


@pytest.mark.parametrize(
    ("shares", "words", "standing"),
    [
        ((0.95, 0.7, 0.6), "That is better than the Keras baseline with", Standing.BETTER),
        ((0.6, 0.5, 0.95), "That is worse than the Keras baseline with", Standing.WORSE),
        ((0.8, 0.6, 0.8), "the two cannot be told apart", Standing.WITHIN_CHANCE),
    ],
)
def test_verdict_says_whether_the_difference_is_real(
    build: Callable[..., Report], shares: tuple[float, float, float], words: str, standing: Standing
) -> None:
    report = build(shares=shares)
    verdict, difference = report.verdict, report.findings.difference
    assert words in verdict.points[0].text
    assert difference is not None
    assert difference.standing is standing
    assert verdict.headline.startswith("Logistic regression gets ")
    assert "of 240 test images right (95 % interval " in verdict.headline


def test_verdict_follows_the_choice_on_training_data_not_the_test_score(
    build: Callable[..., Report],
) -> None:
    scores = {("net", "logistic"): 0.7, ("net", "linear_svm"): 0.9}
    report = build(selection=Selection(3, scores, 4.0))
    best, svm = report.summaries[0], next(one for one in report.summaries if one.chosen)
    assert best.method == "logistic"
    assert svm.method == "linear_svm"
    assert report.verdict.headline.startswith("Linear SVM gets ")
    said = report.verdict.points[-1].text
    assert "3-fold cross-validation on the training images alone (90.0 % there)" in said


def test_verdict_admits_that_the_choice_flatters_where_it_does(
    build: Callable[..., Report],
) -> None:
    report = build(selection=Selection(0, {}, 0.0), shares=(0.8, 0.6, 0.8))
    assert "slightly optimistic" in report.verdict.points[-1].text
    assert "adjusted for the number of heads" in report.verdict.points[0].text
    chosen = next(one for one in report.summaries if one.chosen)
    assert chosen.versus is not None
    assert chosen.adjusted_p is not None
    assert chosen.adjusted_p >= chosen.versus.p_value


def test_verdict_without_a_baseline_claims_no_difference(build: Callable[..., Report]) -> None:
    report = build(baseline=False)
    assert report.findings.difference == Difference(Standing.NOT_COMPARED)
    assert "no difference is claimed" in report.verdict.points[0].text


def test_verdict_warns_of_untrained_weights_and_skipped_images(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    images = Images(
        "a", "b", 0, ("daisy", "rose", "tulip"), {}, {"daisy": 99},
        (SkippedImage("test", Failure("x.jpg", "TruncatedImageError", "ends early")),),
    )  # fmt: skip
    report = build(done=dataclasses.replace(MEASURED, untrained=True), images=images)
    images.n_train.update(dict.fromkeys(images.classes, 1))
    images.n_test.update(dict.fromkeys(images.classes, 33))
    untrained, skipped, few, copies = report.verdict.cautions
    assert copies.startswith("Copies were not looked for")
    assert untrained.startswith("net ran with random weights: an accuracy says nothing")
    assert skipped.startswith("1 image could not be used and was left out")
    assert few.startswith("With 99 images tested, one image is 1.0 points")
    text, markdown, _ = saved(report, tmp_path)
    assert text.index("ran with random weights") < text.index('id="verdict"')
    assert "ran with random weights" in markdown.splitlines()[2]
    assert "ends early" in Page(text).text


def test_a_long_extraction_pays_later(build: Callable[..., Report]) -> None:
    slow = dataclasses.replace(MEASURED, cost=200.0)
    head = costs.costs(build().results, [slow])["net", "logistic"]
    assert head.break_even_trainings == 3  # 200 / (84 - 1.1) = 2.4
    assert head.ratio is not None
    assert head.ratio < 1
    words = build(done=slow).verdict.points[1].text
    assert "which is less" in words
    assert "the extraction has paid for itself after 3 trainings" in words


def test_an_extraction_from_the_cache_is_never_free(build: Callable[..., Report]) -> None:
    alone = build(done=CACHED, baseline=False)
    head = next(one for one in alone.summaries if one.chosen)
    assert head.cost.total is None
    assert "The cost of the extraction is not known" in alone.verdict.points[1].text
    beside = next(one for one in build(done=CACHED).summaries if one.chosen)
    # From the baseline's epochs.
    assert beside.cost.extraction_seconds == pytest.approx(10.0 * 850 / 600)
    assert build(done=CACHED).to_dict()["methods"][0]["cost"]["basis"] == "estimated"
    words = build(done=CACHED).verdict.points[1].text
    assert words.startswith("No image went through the network in this run")
    assert "A first run costs about 15 s" in words
