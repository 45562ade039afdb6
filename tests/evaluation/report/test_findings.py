from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from featx.evaluation.report import pages, wording
from featx.evaluation.report.findings import (
    Basis,
    CautionKind,
    Choice,
    Outlook,
    Standing,
    bases,
)
from featx.evaluation.report.report import Report
from featx.evaluation.results import ExtractionCost, History, Selection
from featx.evaluation.scores.intervals import Interval, PairedTest
from tests.evaluation.report.conftest import CACHED, MEASURED, leaks_of, make

PARTLY = dataclasses.replace(MEASURED, computed=800, cached=50, cost=10.6)


def compared(low: float, p: float, adjusted: float, *, picked_here: bool = True) -> Report:
    """Return a report whose head has this interval and these p-values against the baseline."""
    report = make(selection=Selection(0, {}, 0.0) if picked_here else None)
    head = next(one for one in report.summaries if one.chosen)
    test = PairedTest(0.1, Interval(low, 0.2), 9, 4, p, "a test")
    object.__setattr__(head, "versus", test)
    object.__setattr__(head, "adjusted_p", adjusted)
    return report


@pytest.mark.parametrize(
    ("low", "p", "adjusted", "standing", "words"),
    [
        (0.01, 0.01, 0.02, Standing.BETTER, "better than"),
        (-0.01, 0.01, 0.02, Standing.BETTER, "though its interval includes 0"),
        (-0.01, 0.2, 0.4, Standing.WITHIN_CHANCE, "cannot be told apart"),
        (0.01, 0.04, 0.08, Standing.NOT_CONFIRMED, "the test does not confirm it"),
        (0.01, 0.06, 0.12, Standing.TOO_FEW_DISAGREEMENTS, "rests on 13 images"),
    ],
)
def test_standings(low: float, p: float, adjusted: float, standing: Standing, words: str) -> None:
    report = compared(low, p, adjusted)
    found = report.findings.difference
    assert found is not None
    assert (found.standing, found.p_value, found.adjusted) == (standing, adjusted, True)
    assert found.standing.decided is (adjusted < 0.05)
    assert words in report.verdict.points[0].text


def test_a_choice_on_training_images_is_judged_by_the_plain_p_value() -> None:
    found = compared(0.01, 0.04, 0.08, picked_here=False).findings
    assert found.difference is not None
    assert found.selected is not None
    assert (found.difference.standing, found.difference.p_value) == (Standing.BETTER, 0.04)
    assert found.selected.choice is Choice.CROSS_VALIDATION


def history(*losses: float) -> list[History]:
    return [History("net", 0, None, {"loss": losses})]


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ((1.0, 0.5, 0.46, 0.45), None),
        ((1.0, 0.6, 0.45, 0.45), "from 0.600 to 0.450. Try twice the epochs (8)"),
        ((1.0,), "was trained for a single epoch. Try twice the epochs (2)"),
        ((1.0, float("nan")), "its training loss is not a number"),
    ],
)
def test_a_baseline_that_has_not_converged_is_a_caution(
    losses: tuple[float, ...], words: str | None
) -> None:
    report = make(histories=history(*losses))
    kinds = [one.kind for one in report.findings.cautions]
    first = [] if words is None else [CautionKind.BASELINE_NOT_CONVERGED]
    assert kinds == [*first, CautionKind.COPIES_NOT_SOUGHT]
    if words is not None:
        assert words in report.verdict.cautions[0]
    shown = io.StringIO()
    Console(file=shown, width=400).print(report.table())
    for caution in report.verdict.cautions:
        assert f"Caution: {caution}" in " ".join(shown.getvalue().split())


def test_a_baseline_no_better_than_the_largest_class_is_not_beaten() -> None:
    report = make(shares=(0.9, 0.8, 0.0))
    found = report.findings
    assert found.difference is not None
    assert found.difference.standing is Standing.BASELINE_AT_CHANCE
    assert found.cautions[0].kind is CautionKind.BASELINE_AT_CHANCE
    assert "No difference is claimed" in report.verdict.points[0].text
    shown = io.StringIO()
    Console(file=shown, width=400).print(report.table())
    assert "to\nbase" not in shown.getvalue()
    assert "learned nothing" in shown.getvalue()
    assert "no more than always naming the largest class gets (33.3 %)" in shown.getvalue()
    assert (
        "points</b><span>against the Keras baseline"
        not in pages.both(report.to_dict())["report.html"]
    )


def test_a_baseline_whose_training_loss_is_that_of_guessing_is_not_beaten() -> None:
    """As the demo's with random weights: 42 % of three classes, and a loss above ln 3."""
    report = make(histories=history(1.8, 1.2, 1.1))
    found = report.findings
    assert found.difference is not None
    assert found.difference.standing is Standing.BASELINE_AT_CHANCE
    assert [one.kind for one in found.cautions] == [
        CautionKind.BASELINE_AT_CHANCE,
        CautionKind.COPIES_NOT_SOUGHT,
    ]
    said = report.verdict.cautions[0]
    assert (
        "training loss ended at 1.100, and equal probabilities for all classes have 1.099" in said
    )
    assert "largest class" not in said  # its accuracy is above that


def test_one_seed_is_said_in_the_headline() -> None:
    assert "; one seed)" in make().verdict.headline
    assert "one seed" not in make(seeds=2).verdict.headline


@pytest.mark.parametrize(
    ("done", "baseline", "basis", "words"),
    [
        (MEASURED, True, Basis.MEASURED, "measured in this run"),
        (PARTLY, True, Basis.SCALED, "scaled from the 800 of 850"),
        (CACHED, True, Basis.ESTIMATED, "estimated from the baseline's seconds per epoch"),
        (CACHED, False, Basis.UNKNOWN, "not measured in this run"),
    ],
)
def test_where_the_cost_of_an_extraction_is_known_from(
    done: ExtractionCost, baseline: bool, basis: Basis, words: str
) -> None:
    report = make(done=done, baseline=baseline)
    assert bases(report.summaries, report.extractions) == {"net": basis}
    data = report.to_dict()
    assert data["extractions"][0]["basis"] == data["methods"][0]["cost"]["basis"] == basis
    assert words in wording.basis(data["extractions"][0])


@pytest.mark.parametrize(
    ("fields", "kinds", "words"),
    [
        ({}, [CautionKind.LEAKED], "Without them logistic regression gets"),
        (
            {"leaked": (), "apart": True},
            [CautionKind.FOLDS_DIVIDE_COPIES],
            "Duplicates are split across folds",
        ),
        ({"leaked": (), "divided": 0.97}, [CautionKind.COPIES], "would seem to get 97.0 %"),
        ({"leaked": ()}, [], ""),
    ],
)
def test_leaks_that_change_what_the_figure_means_are_cautions(
    fields: dict[str, Any], kinds: list[CautionKind], words: str
) -> None:
    report = make()
    ids = report.predictions[0].ids
    groups = np.arange(len(ids))
    groups[1] = 0
    report.leaks = leaks_of(ids, "daisy", groups={"train": groups}, **fields)
    assert [one.kind for one in report.findings.cautions] == kinds
    assert words in "".join(report.verdict.cautions)
    # The section on leaks is there whatever the cautions are.
    shown = wording.leaks(report.to_dict())
    assert any(text.startswith("Fewer than 10 training images of: daisy (3)") for text in shown)
    assert any("1 pair of copies with different labels" in text for text in shown)
    assert any("The file format alone finds 90% of daisy" in text for text in shown)
    if CautionKind.COPIES in kinds:
        assert any("240 images are 239 different ones, one of them 2 times" in t for t in shown)


def test_test_images_are_told_apart_by_grade() -> None:
    report = make()
    ids = report.predictions[0].ids
    report.leaks = leaks_of(ids, "daisy", leaked=(ids[0], ids[1]), leaked_scenes=(ids[1],))
    first = wording.leaks(report.to_dict())[0]
    assert "1 test image is also in the training set, as the same file or the same " in first
    assert f"(such as {ids[0]})" in first
    assert any(
        text.endswith('shows each beside its training image, at "Duplicates and leaks".')
        for text in report.verdict.cautions
    )
    assert (
        f"1 test image shows a scene that the training set shows, too (such as {ids[1]})" in first
    )
    report.leaks = leaks_of(ids, "daisy", leaked_scenes=(ids[0],))
    assert wording.leaks(report.to_dict())[0].startswith("1 test image shows a scene")
    assert any(
        text.startswith(f"1 pair of one photograph, changed among {2 * len(ids):,} images; ")
        and text.endswith("as groups= of featx.benchmark it keeps copies together elsewhere, too.")
        for text in wording.leaks(report.to_dict())
    )


def test_a_report_shows_its_verdict_alone() -> None:
    report = make()
    assert repr(report) == f"<featx.Report: {report.verdict.headline}>"


def test_a_learning_curve_has_an_outlook() -> None:
    found = make().findings.learning
    assert found is not None
    assert (found.fewer, found.more, found.outlook) == (5, 10, Outlook.UNCLEAR)
    assert make(evidence=False).findings.learning is None
