"""One line per method: its scores, how sure they are, and how it stands to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from featx.evaluation.results import Kind, Predictions, Selection
from featx.evaluation.scores import intervals, metrics
from featx.evaluation.scores.costs import Cost
from featx.evaluation.scores.intervals import Interval, PairedTest
from featx.evaluation.scores.metrics import Scores


@dataclass(frozen=True, eq=False)
class Summary:
    """A method over all its seeds; with folds, over the pooled answers of all folds.

    Attributes
    ----------
    accuracy, balanced_accuracy, macro_f1, log_loss, ece : float
        Means over seeds.
    spread : tuple of two floats
        The lowest and the highest accuracy of a seed.
    versus : PairedTest or None
        Against the baseline on the same backbone, on the same images and seeds.
    adjusted_p : float or None
        Its p-value, adjusted for the number of heads compared with that baseline (Holm).
    chosen : bool
        True for the head of the verdict.
    """

    backbone: str
    method: str
    kind: Kind
    seeds: tuple[int, ...]
    n_test: int
    accuracy: float
    interval: Interval
    spread: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    log_loss: float | None
    ece: float | None
    first: Predictions
    cost: Cost
    versus: PairedTest | None
    adjusted_p: float | None
    chosen: bool


def summaries(
    predictions: Sequence[Predictions],
    classes: Sequence[str],
    costs: Mapping[tuple[str, str], Cost],
    selection: Selection,
    named: np.ndarray | None = None,
) -> list[Summary]:
    """Return a summary per method, the best accuracy first, one head marked as chosen.

    Parameters
    ----------
    named : ndarray of shape (n,), optional
        The group of each tested image, such as its patient; images of one group are then no
        independent trials, and intervals and tests are over groups.
    """
    groups: dict[tuple[str, str], list[Predictions]] = {}
    for answer in predictions:
        groups.setdefault((answer.backbone, answer.method), []).append(answer)
    scores = {
        key: [metrics.scores(one.y_true, one.y_pred, one.proba, classes) for one in group]
        for key, group in groups.items()
    }
    tests = _tests(groups, named)
    adjusted = _adjusted(tests)
    accuracies = {
        key: fmean(one.accuracy for one in scores[key])
        for key, group in groups.items()
        if group[0].kind == "head"
    }
    chosen = _chosen(_merits(accuracies, selection), selection, len(predictions[0].ids))
    found = [
        _summary(
            group,
            scores[key],
            costs[key],
            named,
            versus=tests.get(key),
            adjusted_p=adjusted.get(key),
            chosen=key == chosen,
        )
        for key, group in groups.items()
    ]
    return sorted(found, key=lambda one: -one.accuracy)


def _summary(
    group: Sequence[Predictions],
    scores: Sequence[Scores],
    cost: Cost,
    named: np.ndarray | None,
    *,
    versus: PairedTest | None,
    adjusted_p: float | None,
    chosen: bool,
) -> Summary:
    first = group[0]
    accuracies = [one.accuracy for one in scores]
    return Summary(
        backbone=first.backbone,
        method=first.method,
        kind=first.kind,
        seeds=tuple(one.seed for one in group),
        n_test=len(first.ids),
        accuracy=fmean(accuracies),
        interval=intervals.accuracy_interval(_right(group), named),
        spread=(min(accuracies), max(accuracies)),
        balanced_accuracy=fmean(one.balanced_accuracy for one in scores),
        macro_f1=fmean(one.macro_f1 for one in scores),
        log_loss=_mean([one.log_loss for one in scores]),
        ece=_mean([one.ece for one in scores]),
        first=first,
        cost=cost,
        versus=versus,
        adjusted_p=adjusted_p,
        chosen=chosen,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _right(group: Sequence[Predictions]) -> np.ndarray:
    return np.stack([one.y_true == one.y_pred for one in group])


def _tests(
    groups: Mapping[tuple[str, str], Sequence[Predictions]],
    named: np.ndarray | None,
) -> dict[tuple[str, str], PairedTest]:
    """Return the paired test of each head against the baseline of its backbone, over their seeds.

    A head without a baseline, or without a seed in common with it, is not in it.
    """
    baselines = {key[0]: group for key, group in groups.items() if group[0].kind == "baseline"}
    tests = {}
    for key, group in groups.items():
        rival = baselines.get(key[0])
        if group[0].kind == "baseline" or rival is None:
            continue
        seeds = {one.seed for one in group} & {one.seed for one in rival}
        if seeds:
            one, two = (
                _right([each for each in side if each.seed in seeds]) for side in (group, rival)
            )
            tests[key] = intervals.compare(one, two, named)
    return tests


def _adjusted(tests: Mapping[tuple[str, str], PairedTest]) -> dict[tuple[str, str], float]:
    """Return the p-values, adjusted for the number of heads compared with the same baseline."""
    adjusted: dict[tuple[str, str], float] = {}
    for backbone in dict.fromkeys(backbone for backbone, _ in tests):
        keys = [key for key in tests if key[0] == backbone]
        values = intervals.holm([tests[key].p_value for key in keys])
        adjusted |= zip(keys, values, strict=True)
    return adjusted


def merits(found: Sequence[Summary], selection: Selection) -> dict[tuple[str, str], float]:
    """Return what the heads are chosen by: the choice's own scores, else their accuracies."""
    heads = {(one.backbone, one.method): one.accuracy for one in found if one.kind == "head"}
    return _merits(heads, selection)


def _merits(
    heads: Mapping[tuple[str, str], float], selection: Selection
) -> dict[tuple[str, str], float]:
    if not selection.folds:
        return dict(heads)
    scores = {key: selection.scores.get(key) for key in heads}
    return {key: -1.0 if score is None else score for key, score in scores.items()}


def _chosen(
    scores: Mapping[tuple[str, str], float], selection: Selection, n_test: int
) -> tuple[str, str] | None:
    """Return (backbone, method) of the verdict's head.

    The first named of those within one standard error of the best (Breiman et al. 1984,
    "Classification and Regression Trees", section 3.4.3): heads that close are not told apart by
    so many images, so the order given, which starts with the simplest, decides rather than luck.
    The scores are those of the training images that were held out where there were some, else
    the accuracies themselves, which the verdict then says.
    """
    if not scores:
        return None
    best = max(scores.values())
    n = selection.n if selection.folds else n_test
    slack = np.sqrt(max(0.0, best * (1 - best)) / n) if n else 0.0
    return next(key for key, score in scores.items() if score >= best - slack)
