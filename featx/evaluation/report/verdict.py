"""The verdict in plain words: which head, how good, is the difference real, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.results import ExtractionCost, Images, Selection
from featx.evaluation.scores.intervals import PairedTest
from featx.evaluation.scores.summary import Summary, merits
from featx.formatting import capitalized, epochs, label, p_value, percent, points, seconds, times

# The usual threshold; the p-value itself is always shown beside the words.
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Point:
    """One thing that the verdict says, and what it is about."""

    topic: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What the report says first.

    Attributes
    ----------
    headline : str
        One sentence.
    points : tuple of Point
        The difference to the baseline, the cost, how the head was chosen.
    cautions : tuple of str
        What a reader must know before believing it, such as untrained weights.
    real : bool or None
        Whether the difference to the baseline is larger than chance explains; None without one.
    """

    headline: str
    points: tuple[Point, ...]
    cautions: tuple[str, ...]
    real: bool | None = None


def verdict(
    found: Sequence[Summary],
    passes: Sequence[ExtractionCost],
    selection: Selection,
    images: Images,
    leaks: Leaks | None = None,
) -> Verdict:
    """Return the verdict on these summaries; a pure function of them."""
    head = next((one for one in found if one.chosen), None)
    rivals = [one for one in found if one.kind == "baseline"]
    subject = head or rivals[0]
    several = len({one.backbone for one in found}) > 1
    on = f" on {subject.backbone}" if several else ""
    which = "test images" if images.test is not None else "images, each tested once,"
    headline = (
        f"{capitalized(label(subject.method))}{on} gets {percent(subject.accuracy)} of "
        f"{subject.n_test} {which} right "
        f"(95 % interval {percent(subject.interval.low)} to {percent(subject.interval.high)})."
    )
    rival = next((one for one in rivals if one.backbone == subject.backbone), None)
    said: list[tuple[str, list[str]]] = []
    real = None
    if head is not None:
        # Picked on the very images that score it: only then do the other tries count against it.
        picked_here = not selection.folds and sum(one.kind == "head" for one in found) > 1
        real = _real(head, picked_here)
        done = next(one for one in passes if one.backbone == head.backbone)
        said = [
            ("Against the baseline", _difference(head, rival, picked_here)),
            ("What it cost", _cost(head, rival, done)),
            ("How it was chosen", _choice(head, found, selection)),
        ]
    return Verdict(
        headline,
        tuple(Point(topic, " ".join(sentences)) for topic, sentences in said if sentences),
        (*_cautions(found, passes, images, head), *_memory(subject, leaks)),
        real,
    )


def _p(head: Summary, picked_here: bool) -> float | None:
    return head.adjusted_p if picked_here or head.versus is None else head.versus.p_value


def _real(head: Summary, picked_here: bool) -> bool | None:
    p = _p(head, picked_here)
    return None if p is None else p < SIGNIFICANT


def _difference(head: Summary, rival: Summary | None, picked_here: bool) -> list[str]:
    test, p = head.versus, _p(head, picked_here)
    if rival is None or test is None or p is None:
        return ["No Keras baseline was run beside it, so nothing is said of a difference."]
    low, high = points(test.interval.low), points(test.interval.high)
    how = f"{test.test}, p {p_value(p)}"
    if picked_here:
        how += ", adjusted for the number of heads"
    gap = f"{points(test.difference)} points (95 % interval {low} to {high})"
    if p >= SIGNIFICANT:
        return [
            f"The Keras baseline gets {percent(rival.accuracy)}. The difference, {gap}, "
            + _unsettled(test, how)
        ]
    holds = test.interval.low <= 0 <= test.interval.high
    better = "better" if test.difference > 0 else "worse"
    return [
        f"That is {better} than the Keras baseline with {percent(rival.accuracy)}: {gap}, more "
        f"than chance explains ({how}){', though its interval holds 0' if holds else ''}."
    ]


def _unsettled(test: PairedTest, how: str) -> str:
    """Return why a difference is not shown, the interval's word on it included."""
    if test.interval.low <= 0 <= test.interval.high:
        return (
            f"is no larger than chance explains ({how}): on these images the two cannot be told "
            "apart."
        )
    if test.p_value < SIGNIFICANT:
        return f"is not shown: its interval leaves out 0, the test does not confirm it ({how})."
    differ = test.only_first + test.only_second
    return (
        f"rests on {differ} images that only one of the two got right, too few for the test to "
        f"tell it from chance ({how}). The interval leaves out 0, but with so few it is too "
        "narrow: nothing is settled."
    )


def _cost(head: Summary, rival: Summary | None, done: ExtractionCost) -> list[str]:
    cost = head.cost
    fits = "a fit with prediction" if cost.trainings == 1 else f"{cost.trainings} fits"
    each = seconds(cost.each * cost.trainings)
    kept = done.reused > 0
    said = []
    if kept:
        some = f"{done.computed} of {done.computed + done.reused} different images"
        said.append(
            f"{some if done.computed else 'No image'} went through the network in this run: the "
            f"rows{' of the others' if done.computed else ''} were kept from before "
            f"({seconds(done.seconds)} in all), and {fits} took {each}."
        )
    if cost.total is None or cost.pass_seconds is None:
        said.append("What the pass itself costs is not known: it was not measured in this run.")
    else:
        about = "about " if done.cost is None or kept else ""
        said.append(
            f"{'A first run costs' if kept else 'It cost'} {about}{seconds(cost.total)}: one pass "
            f"of all {done.images} images through the network ({about}"
            f"{seconds(cost.pass_seconds)}) and {fits} ({each})."
        )
    if rival is not None:
        said += _against(head, rival)
    return said


def _against(head: Summary, rival: Summary) -> list[str]:
    cost, other = head.cost, rival.cost
    folds = "" if other.trainings == 1 else f" on each of {other.trainings} folds"
    took = (
        f"The baseline took {seconds(other.total)} for {epochs(other.epochs)}{folds} and its "
        "predictions"
    )
    said = []
    if cost.ratio is None:
        said.append(f"{took}.")
    elif cost.ratio >= 1:
        said.append(f"{took}: {times(cost.ratio)} times as long.")
    else:
        said.append(f"{took}, which is less: {times(1 / cost.ratio)} times less.")
    if cost.ratio_each is not None and cost.ratio_each > 1:
        said.append(
            f"Every further training on the same rows costs {seconds(cost.each)} instead of "
            f"{seconds(other.each)}, {times(cost.ratio_each)} times less{_from_when(head)}."
        )
    return said


def _from_when(head: Summary) -> str:
    when = head.cost.break_even_trainings
    if when is None:
        return ""
    return (
        "; the pass has paid for itself with the first training"
        if when == 1
        else f"; the pass has paid for itself after {when} trainings"
    )


def _choice(head: Summary, found: Sequence[Summary], selection: Selection) -> list[str]:
    heads = sum(one.kind == "head" for one in found)
    if heads < 2:
        return []
    scores = merits(found, selection)
    score, best = scores[head.backbone, head.method], max(scores.values())
    close = (
        ""
        if score == best
        else f", the first named of those within one standard error of the best, {percent(best)},"
    )
    if selection.folds:
        return [
            f"It was chosen among {heads} heads by {selection.folds}-fold cross-validation on the "
            f"training images alone ({percent(score)} there{close.rstrip(',')}), which took "
            f"{seconds(selection.seconds)}."
        ]
    return [
        f"It is {'the best' if not close else 'one'} of {heads} heads{close} on the very images "
        "that score it, so its figure is a little flattered; a test set of its own would not do "
        "that."
    ]


def _cautions(
    found: Sequence[Summary], passes: Sequence[ExtractionCost], images: Images, head: Summary | None
) -> tuple[str, ...]:
    said = []
    untrained = [done.backbone for done in passes if done.untrained]
    if untrained:
        said.append(
            f"Untrained weights: {', '.join(untrained)} ran with random weights, so the accuracies "
            "say nothing of what this network can do; the seconds are real."
        )
    skipped = len(images.skipped)
    if skipped:
        said.append(
            f"{skipped} {'image' if skipped == 1 else 'images'} could not be used and "
            f"{'was' if skipped == 1 else 'were'} left out for every method; the list is below."
        )
    best = max((one for one in found if one.kind == "baseline"), default=None, key=_accuracy)
    if head is not None and best is not None and best.backbone != head.backbone:
        said.append(f"The best baseline ran on {best.backbone}: {percent(best.accuracy)}.")
    if sum(images.n_test.values()) < 100:
        said.append(
            f"With {sum(images.n_test.values())} images tested, one image is "
            f"{100 / max(1, sum(images.n_test.values())):.1f} points: read the interval, not the "
            "figure."
        )
    return tuple(said)


def _memory(subject: Summary, leaks: Leaks | None) -> list[str]:
    """Return what the test images that training knows do to the figure."""
    if leaks is not None and (leaks.apart or leaks.divided is not None):
        return [next(text for text in leaks.sentences() if text.startswith("Folds "))]
    if leaks is None or not leaks.leaked:
        return []
    answers, known = subject.first, set(leaks.leaked)
    new = [n for n, name in enumerate(answers.ids) if name not in known]
    said = leaks.sentences()[0]
    if new:
        right = sum(answers.y_pred[n] == answers.y_true[n] for n in new) / len(new)
        said += f" Without them {label(subject.method)} gets {percent(right)} of {len(new)}."
    return [said]


def _accuracy(one: Summary) -> float:
    return one.accuracy
