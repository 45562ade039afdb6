"""What the results mean, as types: who is ahead, what it cost, how it was chosen, what to mind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from featx.evaluation.evidence.evidence import Evidence
from featx.evaluation.evidence.learning_curve import LearningCurve, LearningPoint
from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.results import (
    ExtractionCost,
    Grouping,
    History,
    Images,
    Incomplete,
    Selection,
)
from featx.evaluation.scores.intervals import Interval
from featx.evaluation.scores.summary import Summary, merits

# The usual threshold; the p-value itself is always shown beside the words.
SIGNIFICANT = 0.05
# With fewer tested images a single one is more than a point.
FEW_TESTED = 100
# A gain that is worth more images, and an interval narrow enough to say that there is none.
MOVED, SURE = 0.02, 0.1
# A baseline whose training loss fell by this share of ln(classes), the loss of guessing, over the
# second half of its epochs has not converged. Measured on four data sets and two learning rates
# (MobileNetV2, one hidden layer, 2 to 30 epochs): below it twice the epochs changed the accuracy
# of held-out images by -4.0 to +8.7 points, 1.0 on average; above it by -1.3 to +12.1, 4.4 on
# average.
STILL_FALLING = 0.1


class Standing(StrEnum):
    """How the verdict's head stands to the baseline on the same backbone."""

    NOT_COMPARED = "not compared"
    # There is a baseline, and it learned nothing: see `_learned_nothing`.
    BASELINE_AT_CHANCE = "baseline at chance"
    BETTER = "better"
    WORSE = "worse"
    # The test does not find a difference; whether its interval agrees makes three cases.
    WITHIN_CHANCE = "within chance"
    NOT_CONFIRMED = "not confirmed"
    TOO_FEW_DISAGREEMENTS = "too few disagreements"

    @property
    def decided(self) -> bool:
        """Whether the difference is larger than chance explains."""
        return self in {Standing.BETTER, Standing.WORSE}


class Basis(StrEnum):
    """Where the cost of one extraction of all images is known from."""

    MEASURED = "measured"
    SCALED = "scaled"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


class Choice(StrEnum):
    """How the verdict's head was chosen."""

    NONE = "none"
    CROSS_VALIDATION = "cross-validation"
    # Some of the folds of a cross-validation were scored: they hold enough images.
    HELD_OUT = "held-out images"
    TESTED_IMAGES = "tested images"


class Outlook(StrEnum):
    """Whether more images may be expected to help."""

    LIKELY = "likely"
    UNCLEAR = "unclear"
    UNLIKELY = "unlikely"


class CautionKind(StrEnum):
    """What a reader must know before believing the figures."""

    INCOMPLETE = "incomplete"
    UNTRAINED = "untrained"
    SKIPPED = "skipped"
    BASELINE_AT_CHANCE = "baseline at chance"
    BASELINE_NOT_CONVERGED = "baseline not converged"
    BASELINE_ELSEWHERE = "best baseline on another backbone"
    FEW_TESTED = "few tested"
    LEAKED = "leaked"
    SHARED_GROUPS = "shared groups"
    FOLDS_DIVIDE_COPIES = "folds divide copies"
    COPIES = "copies"
    COPIES_NOT_SOUGHT = "copies not sought"


@dataclass(frozen=True)
class Difference:
    """The verdict's head against the baseline; figures are None where nothing was compared.

    Attributes
    ----------
    difference : float or None
        Accuracy of the head less that of the baseline.
    p_value : float or None
        As it was judged: adjusted for the number of heads where `adjusted` says so.
    interval_holds_zero : bool or None
    disagreements : int or None
        Images that only one of the two got right.
    """

    standing: Standing
    baseline_accuracy: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    interval_holds_zero: bool | None = None
    p_value: float | None = None
    adjusted: bool = False
    test: str | None = None
    disagreements: int | None = None


@dataclass(frozen=True)
class Selected:
    """How the verdict's head was chosen among `heads`.

    Attributes
    ----------
    score, best : float or None
        What the choice went by, of the head and of the best; None where nothing was chosen.
    """

    choice: Choice
    heads: int
    score: float | None = None
    best: float | None = None


@dataclass(frozen=True)
class Caution:
    """One caution, with the figures that its kind has; the others are None.

    Attributes
    ----------
    backbones : tuple of str
        That ran untrained, or on which the baseline in question ran.
    images : int or None
        Skipped, tested or leaked ones, or those whose group trains, too; for copies, all that there
        are.
    different, largest : int or None
        How many of images with copies are different ones, and how many copies one has at most;
        `different` is also the number of groups that train and are tested.
    accuracy : float or None
        Of the best baseline; of the verdict's method without the leaked images, or without those
        whose group trains; on folds that divide copies.
    scored : int or None
        Images left without those.
    epochs : int or None
        Of the baseline.
    before, after : float or None
        The baseline's training loss in nats, at half of its epochs and at the end; `before` is None
        for a single epoch.
    """

    kind: CautionKind
    backbones: tuple[str, ...] = ()
    images: int | None = None
    different: int | None = None
    largest: int | None = None
    accuracy: float | None = None
    scored: int | None = None
    epochs: int | None = None
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class Gain:
    """What the last doubling of the training images brought."""

    backbone: str
    method: str
    fewer: int
    more: int
    gain: float
    outlook: Outlook


@dataclass(frozen=True)
class Findings:
    """What a comparison found, without a word of prose.

    Attributes
    ----------
    backbone, method : str
        The verdict's method: the chosen head, or the best baseline where there is no head.
    difference : Difference or None
        None, like `selected`, where the comparison has no head.
    learning : Gain or None
        None without a learning curve that is long enough.
    level : float
        The significance level that `difference` was judged at.
    """

    backbone: str
    method: str
    difference: Difference | None
    selected: Selected | None
    cautions: tuple[Caution, ...]
    learning: Gain | None
    level: float = SIGNIFICANT


def findings(
    found: Sequence[Summary],
    extractions: Sequence[ExtractionCost],
    selection: Selection,
    images: Images,
    leaks: Leaks | None = None,
    evidence: Evidence | None = None,
    groups: Grouping | None = None,
    histories: Sequence[History] = (),
    incomplete: Incomplete | None = None,
) -> Findings:
    """Return what these results mean; a pure function of them."""
    head = next((one for one in found if one.chosen), None)
    rivals = [one for one in found if one.kind == "baseline"]
    subject = head or rivals[0]
    rival = next((one for one in rivals if one.backbone == subject.backbone), None)
    difference, selected = None, None
    if head is not None:
        # Picked on the very images that score it: only then do the other tries count against it.
        picked_here = not selection.folds and sum(one.kind == "head" for one in found) > 1
        difference = _difference(head, rival, picked_here, _losses(rival, histories), images)
        selected = _selected(head, found, selection)
    return Findings(
        subject.backbone,
        subject.method,
        difference,
        selected,
        (
            *([] if incomplete is None else [Caution(CautionKind.INCOMPLETE)]),
            *_cautions(found, extractions, images, head),
            *_training(rivals, histories, images),
            *_memory(subject, leaks, complete=incomplete is None),
            *_shared(subject, groups),
        ),
        None if evidence is None else gain(evidence.learning),
    )


def bases(found: Sequence[Summary], extractions: Sequence[ExtractionCost]) -> dict[str, Basis]:
    """Return by backbone where the cost of a whole extraction is known from."""
    estimated = {
        one.backbone
        for one in found
        if one.kind == "head" and one.cost.extraction_seconds is not None
    }
    return {done.backbone: _basis(done, done.backbone in estimated) for done in extractions}


def _basis(done: ExtractionCost, estimated: bool) -> Basis:
    if done.cost is not None:
        return Basis.SCALED if done.cached else Basis.MEASURED
    return Basis.ESTIMATED if estimated else Basis.UNKNOWN


def _losses(rival: Summary | None, histories: Sequence[History]) -> list[Sequence[float]]:
    """Return the training losses of a baseline, by epoch, of each of its trainings."""
    return [
        one.curves["loss"]
        for one in histories
        if rival is not None and one.backbone == rival.backbone
    ]


def _guessing(images: Images) -> float:
    """Return the log loss of giving every class the same probability, in nats."""
    return math.log(max(2, len(images.classes)))


def _learned_nothing(rival: Summary, losses: Sequence[Sequence[float]], images: Images) -> bool:
    """Say whether a baseline is no better than guessing.

    It is if its accuracy is no higher than that of naming the largest class for every tested image,
    or its training loss ends no lower than that of equal probabilities.
    """
    counts = images.n_test.values()
    largest = max(counts, default=0) / max(1, sum(counts))
    ends = [loss[-1] for loss in losses]
    at_chance = bool(ends) and sum(ends) / len(ends) >= _guessing(images)
    return rival.accuracy <= largest or at_chance


def _difference(
    head: Summary,
    rival: Summary | None,
    picked_here: bool,
    losses: Sequence[Sequence[float]],
    images: Images,
) -> Difference:
    test = head.versus
    p = head.adjusted_p if picked_here or test is None else test.p_value
    if rival is None or test is None or p is None:
        return Difference(Standing.NOT_COMPARED)
    if head.accuracy > rival.accuracy and _learned_nothing(rival, losses, images):
        return Difference(Standing.BASELINE_AT_CHANCE, rival.accuracy)
    holds_zero = test.interval.low <= 0 <= test.interval.high
    if p < SIGNIFICANT:
        standing = Standing.BETTER if test.difference > 0 else Standing.WORSE
    elif holds_zero:
        standing = Standing.WITHIN_CHANCE
    elif test.p_value < SIGNIFICANT:
        standing = Standing.NOT_CONFIRMED
    else:
        standing = Standing.TOO_FEW_DISAGREEMENTS
    return Difference(
        standing,
        rival.accuracy,
        test.difference,
        test.interval,
        holds_zero,
        p,
        picked_here,
        test.test,
        test.only_first + test.only_second,
    )


def _selected(head: Summary, found: Sequence[Summary], selection: Selection) -> Selected:
    heads = sum(one.kind == "head" for one in found)
    if heads < 2:
        return Selected(Choice.NONE, heads)
    scores = merits(found, selection)
    choice = Choice.TESTED_IMAGES
    if selection.folds:
        some = selection.scored_folds not in (None, selection.folds)
        choice = Choice.HELD_OUT if some else Choice.CROSS_VALIDATION
    return Selected(choice, heads, scores[head.backbone, head.method], max(scores.values()))


def _cautions(
    found: Sequence[Summary],
    extractions: Sequence[ExtractionCost],
    images: Images,
    head: Summary | None,
) -> list[Caution]:
    cautions = []
    untrained = tuple(done.backbone for done in extractions if done.untrained)
    if untrained:
        cautions.append(Caution(CautionKind.UNTRAINED, backbones=untrained))
    if images.skipped:
        cautions.append(Caution(CautionKind.SKIPPED, images=len(images.skipped)))
    baselines = [one for one in found if one.kind == "baseline"]
    best = max(baselines, default=None, key=lambda one: one.accuracy)
    if head is not None and best is not None and best.backbone != head.backbone:
        cautions.append(
            Caution(
                CautionKind.BASELINE_ELSEWHERE, backbones=(best.backbone,), accuracy=best.accuracy
            )
        )
    tested = sum(images.n_test.values())
    if tested < FEW_TESTED:
        cautions.append(Caution(CautionKind.FEW_TESTED, images=tested))
    return cautions


def _training(
    rivals: Sequence[Summary], histories: Sequence[History], images: Images
) -> list[Caution]:
    """Return what the baselines' accuracies and training losses say against them."""
    cautions = []
    for rival in rivals:
        losses = _losses(rival, histories)
        on, epochs = (rival.backbone,), len(losses[0]) if losses else None
        after = sum(loss[-1] for loss in losses) / len(losses) if losses else None
        if _learned_nothing(rival, losses, images):
            kind = CautionKind.BASELINE_AT_CHANCE
            cautions.append(
                Caution(kind, backbones=on, accuracy=rival.accuracy, epochs=epochs, after=after)
            )
            continue
        if epochs is None or after is None:
            continue
        before = None
        if epochs > 1:
            half = -1 - max(1, epochs // 2)
            before = sum(loss[half] for loss in losses) / len(losses)
        if before is None or not before - after <= STILL_FALLING * _guessing(images):  # NaN, too
            kind = CautionKind.BASELINE_NOT_CONVERGED
            cautions.append(Caution(kind, backbones=on, epochs=epochs, before=before, after=after))
    return cautions


def _memory(subject: Summary, leaks: Leaks | None, *, complete: bool) -> list[Caution]:
    """Return what the tested images that training knows do to the figure."""
    if leaks is None:  # of what is incomplete that is said already
        return [Caution(CautionKind.COPIES_NOT_SOUGHT)] if complete else []
    if leaks.apart:
        return [Caution(CautionKind.FOLDS_DIVIDE_COPIES)]
    if leaks.divided is not None:
        copies = Counter(leaks.groups["train"].tolist())
        return [
            Caution(
                CautionKind.COPIES,
                images=copies.total(),
                different=len(copies),
                largest=max(copies.values()),
                accuracy=leaks.divided,
            )
        ]
    if not leaks.leaked:
        return []
    accuracy, scored = _without(subject, leaks.leaked)
    return [Caution(CautionKind.LEAKED, images=len(leaks.leaked), accuracy=accuracy, scored=scored)]


def _shared(subject: Summary, groups: Grouping | None) -> list[Caution]:
    """Return what test images of groups that train, too, do to the figure."""
    if groups is None or not groups.shared:
        return []
    accuracy, scored = _without(subject, groups.shared_ids)
    return [
        Caution(
            CautionKind.SHARED_GROUPS,
            images=len(groups.shared_ids),
            different=len(groups.shared),
            accuracy=accuracy,
            scored=scored,
        )
    ]


def _without(subject: Summary, left_out: Sequence[str]) -> tuple[float | None, int]:
    """Return the accuracy without these test images, None where none is left, and how many are."""
    answers, known = subject.first, set(left_out)
    new = [n for n, name in enumerate(answers.ids) if name not in known]
    right = sum(bool(answers.y_pred[n] == answers.y_true[n]) for n in new)
    return right / len(new) if new else None, len(new)


def gain(curves: Sequence[LearningCurve]) -> Gain | None:
    """Return what the last doubling brought, and so what another may bring."""
    for curve in curves:
        last = curve.points[-1]
        # A little less than a half at best, as the steps are; from far below, any curve rises.
        before = [
            point
            for point in curve.points[:-1]
            if last.per_class / 4 <= point.per_class <= last.per_class / 2
        ]
        if before:
            return Gain(
                curve.backbone,
                curve.method,
                before[-1].per_class,
                last.per_class,
                last.accuracy - before[-1].accuracy,
                _outlook(before[-1], last),
            )
    return None


def _outlook(before: LearningPoint, last: LearningPoint) -> Outlook:
    """Return what a doubling's gain suggests for another, as far as the intervals bear it."""
    rise = last.accuracy - before.accuracy
    apart = before.accuracy < last.interval.low and before.interval.high < last.accuracy
    if rise > MOVED and apart:
        return Outlook.LIKELY
    if rise > MOVED or last.interval.high - last.interval.low > SURE:
        return Outlook.UNCLEAR
    return Outlook.UNLIKELY
