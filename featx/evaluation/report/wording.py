"""The findings in plain words, rendered from a report's document.

Which sentence is written is decided by the types and figures of the document; nothing reads a
sentence again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featx.backbones.backbone import untrained_caution
from featx.evaluation.report.findings import (
    MOVED,
    Basis,
    CautionKind,
    Choice,
    Outlook,
    Standing,
)
from featx.formatting import (
    capitalized,
    counted,
    epochs,
    label,
    number,
    p_value,
    percent,
    points,
    seconds,
    times,
)

Data = Mapping[str, Any]

_OUTLOOKS = {
    Outlook.LIKELY: "more images may well help",
    Outlook.UNCLEAR: "the intervals are too wide to tell whether more images would help",
    Outlook.UNLIKELY: "more images of the same kind are unlikely to help much",
}


@dataclass(frozen=True)
class Point:
    """One paragraph of the verdict, and what it is about."""

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
    """

    headline: str
    points: tuple[Point, ...]
    cautions: tuple[str, ...]


def verdict(document: Data) -> Verdict:
    """Return the verdict in words."""
    found, one = document["findings"], subject(document)
    several = len({other["backbone"] for other in document["methods"]}) > 1
    on = f" on {one['backbone']}" if several else ""
    folds = document["images"]["test"] is None
    grouped = document.get("groups") is not None
    once = "each tested once by a model that saw no other image of its group"
    which = f"images, {once if grouped else 'each tested once'}," if folds else "test images"
    seeds = "; one seed" if len(one["seeds"]) == 1 else ""
    headline = (
        f"{capitalized(label(one['method']))}{on} gets {percent(one['accuracy'])} of "
        f"{one['n_test']} {which} right "
        f"(95 % interval {percent(one['interval']['low'])} to {percent(one['interval']['high'])}"
        f"{seeds})."
    )
    parts: list[tuple[str, list[str]]] = []
    if found["difference"] is not None:
        parts = [
            ("Against the baseline", [_difference(found["difference"])]),
            ("What it cost", _cost(document, one)),
            ("How it was chosen", _choice(found["selected"], document["selection"], grouped)),
        ]
    parts.append(("By image and by group", groups(document)))
    return Verdict(
        headline,
        tuple(Point(topic, " ".join(sentences)) for topic, sentences in parts if sentences),
        tuple(_caution(caution, document) for caution in found["cautions"]),
    )


def groups(document: Data) -> list[str]:
    """Return what folds by image and folds by group say, and the gap; empty without groups."""
    found = document.get("groups")
    if found is None:
        return []
    what = (
        f"The {found['train']} groups ({found['name']}; at most {found['largest']} images each) "
        "are never on both sides of a fold, nor where a head holds images out for itself."
    )
    by_image, by_group = found["by_image"], found["by_group"]
    if by_image is None or by_group is None:
        none = "What folds by image would say was not found: a class is in too few groups."
        return [what, none]
    where = "" if document["images"]["test"] is None else " of the training images"
    gap = by_image - by_group
    name = label(document["findings"]["method"])
    said = (
        f"Over {_folds(found)}{where} by image the {name} gets {percent(by_image)}, over "
        f"folds by group {percent(by_group)}: a gap of {points(gap)} points."
    )
    if gap > MOVED:
        meaning = (
            "So much of the first figure comes from knowing the group and not the class; what is "
            "to be expected of images of new groups is the second."
        )
    else:
        meaning = "Knowing the group hardly helps here."
    return [what, said, meaning]


def _folds(found: Data) -> str:
    """Return how many folds were scored, and of how many if not all."""
    drawn, scored = found["folds"], found.get("scored_folds")
    return f"{drawn} folds" if scored in (None, drawn) else f"{scored} of {drawn} folds"


def choosing(selection: Data) -> str:
    """Return what choosing the head went by, and its seconds."""
    return (
        f"Choosing the head ({_folds(selection)} of the training images, "
        f"{len(selection['scores'])} heads): {seconds(selection['seconds'])}"
    )


def subject(document: Data) -> Data:
    """Return the verdict's method."""
    return _method(document, document["findings"]["backbone"], document["findings"]["method"])


def rival(document: Data) -> Data | None:
    """Return the baseline on the backbone of the verdict's method, or None."""
    backbone = document["findings"]["backbone"]
    same = (one for one in document["methods"] if one["backbone"] == backbone)
    return next((one for one in same if one["kind"] == "baseline"), None)


def methods(document: Data) -> list[Data]:
    """Return the methods in the one order of all tables and drawings.

    The verdict's first, then its baseline, then the best accuracy first.
    """
    first, beside = subject(document), rival(document)
    others = (one for one in document["methods"] if one is not first and one is not beside)
    beside = None if beside is first else beside
    return [
        first,
        *([] if beside is None else [beside]),
        *sorted(others, key=lambda one: -one["accuracy"]),
    ]


def _method(document: Data, backbone: str, method: str) -> Data:
    methods: Sequence[Data] = document["methods"]
    return next(m for m in methods if (m["backbone"], m["method"]) == (backbone, method))


def _difference(found: Data) -> str:
    standing = Standing(found["standing"])
    if standing is Standing.NOT_COMPARED:
        return "No Keras baseline was run beside it, so no difference is claimed."
    if standing is Standing.BASELINE_AT_CHANCE:
        return (
            f"The Keras baseline gets {percent(found['baseline_accuracy'])}, and learned "
            "next to nothing: see the caution. No difference is claimed."
        )
    low, high = points(found["interval"]["low"]), points(found["interval"]["high"])
    adjusted = ", adjusted for the number of heads" if found["adjusted"] else ""
    how = f"{found['test']}, p {p_value(found['p_value'])}{adjusted}"
    gap = f"{points(found['difference'])} points (95 % interval {low} to {high})"
    baseline = percent(found["baseline_accuracy"])
    if standing.decided:
        better = "better" if standing is Standing.BETTER else "worse"
        holds = ", though its interval includes 0" if found["interval_holds_zero"] else ""
        return (
            f"That is {better} than the Keras baseline with {baseline}: {gap}, more than chance "
            f"explains ({how}){holds}."
        )
    undecided = {
        Standing.WITHIN_CHANCE: (
            f"is no larger than chance explains ({how}): on these images the two cannot be told "
            "apart."
        ),
        Standing.NOT_CONFIRMED: (
            f"is not shown: its interval leaves out 0, the test does not confirm it ({how})."
        ),
        Standing.TOO_FEW_DISAGREEMENTS: (
            f"rests on {found['disagreements']} images that only one of the two got right, too "
            f"few for the test to tell it from chance ({how}). The interval leaves out 0, but "
            "with so few it is too narrow: nothing is settled."
        ),
    }
    return f"The Keras baseline gets {baseline}. The difference, {gap}, {undecided[standing]}"


def _cost(document: Data, one: Data) -> list[str]:
    cost = one["cost"]
    done = extraction(document, one["backbone"])
    fits = "a fit with prediction" if cost["trainings"] == 1 else f"{cost['trainings']} fits"
    each = seconds(cost["each"] * cost["trainings"])
    cached = done["cached"] > 0
    sentences = []
    if cached:
        some = f"{done['computed']} of {done['computed'] + done['cached']} different images"
        sentences.append(
            f"{some if done['computed'] else 'No image'} went through the network in this run: "
            f"the embeddings{' of the others' if done['computed'] else ''} were cached "
            f"({seconds(done['seconds'])} in all), and {fits} took {each}."
        )
    if cost["total"] is None:
        sentences.append(
            "The cost of the extraction is not known: it was not measured in this run."
        )
    else:
        about = "" if Basis(cost["basis"]) is Basis.MEASURED else "about "
        sentences.append(
            f"{'A first run costs' if cached else 'It cost'} {about}{seconds(cost['total'])}: one "
            f"extraction of all {done['images']} images ({about}"
            f"{seconds(cost['extraction_seconds'])}) and {fits} ({each})."
        )
    other = rival(document)
    return sentences if other is None else sentences + _against(cost, other["cost"])


def cost(document: Data) -> str:
    """Return in one sentence what the verdict's method costs beside its baseline."""
    one, other = subject(document), rival(document)
    cost, name = one["cost"], capitalized(label(one["method"]))
    about = "about " if Basis(cost["basis"] or Basis.MEASURED) is not Basis.MEASURED else ""
    first = "" if cost["total"] is None else f"answers after {about}{seconds(cost['total'])} and "
    said = f"{name} {first}is trained again in {seconds(cost['each'])}"
    if other is None or other is one:
        return said + "."
    return f"{said}; the Keras baseline takes {seconds(other['cost']['each'])} each time."


def faster(ratio: float | None) -> str:
    """Return a ratio of seconds in plain words, "9.1x faster"; empty where it is not known."""
    if ratio is None:
        return ""
    return f"{times(ratio)}× faster" if ratio >= 1 else f"{times(1 / ratio)}× slower"


def extraction(document: Data, backbone: str) -> Data:
    """Return the extraction with one backbone."""
    done: Sequence[Data] = document["extractions"]
    return next(one for one in done if one["backbone"] == backbone)


def _against(cost: Data, other: Data) -> list[str]:
    folds = "" if other["trainings"] == 1 else f" on each of {other['trainings']} folds"
    took = (
        f"The baseline took {seconds(other['total'])} for {epochs(other['epochs'])}{folds} and "
        "its predictions"
    )
    ratio, ratio_each = cost["ratio"], cost["ratio_each"]
    sentences = []
    if ratio is None:
        sentences.append(f"{took}.")
    elif ratio >= 1:
        sentences.append(f"{took}: {times(ratio)} times as long.")
    else:
        sentences.append(f"{took}, which is less: {times(1 / ratio)} times less.")
    if ratio_each is not None and ratio_each > 1:
        sentences.append(
            f"Every further training on the same features costs {seconds(cost['each'])} instead of "
            f"{seconds(other['each'])}, {times(ratio_each)} times less"
            f"{_paid_back(cost['break_even_trainings'])}."
        )
    return sentences


def _paid_back(trainings: int | None) -> str:
    if trainings is None:
        return ""
    when = "with the first training" if trainings == 1 else f"after {trainings} trainings"
    return f"; the extraction has paid for itself {when}"


def _choice(found: Data, selection: Data, grouped: bool) -> list[str]:
    choice = Choice(found["choice"])
    if choice is Choice.NONE:
        return []
    best = found["score"] == found["best"]
    close = (
        ""
        if best
        else ", the first named of those within one standard error of the best, "
        f"{percent(found['best'])}"
    )
    if choice is Choice.CROSS_VALIDATION:
        return [
            f"It was chosen among {found['heads']} heads by {selection['folds']}-fold "
            f"cross-validation on the training images alone ({percent(found['score'])} "
            f"there{close}), which took {seconds(selection['seconds'])}."
        ]
    if choice is Choice.HELD_OUT:
        # The largest that it can be, with an accuracy of a half; images of a group are no
        # independent trials, and count for less.
        error = 100 * math.sqrt(0.25 / selection["n"])
        enough = (
            ""
            if grouped
            else f" The standard error of an accuracy on so many is {error:.1f} points at most."
        )
        return [
            f"It was chosen among {found['heads']} heads by {selection['n']:,} of the training "
            f"images, each held out once in {_folds(selection)} ({percent(found['score'])} "
            f"there{close}), which took {seconds(selection['seconds'])}.{enough}"
        ]
    return [
        f"It is {'the best' if best else 'one'} of {found['heads']} heads{close and close + ','} "
        "on the very images that score it, so its score is slightly optimistic; a test set of its "
        "own would not do that."
    ]


_PARTS = {
    "leaks": "the search for copies and leaks",
    "evidence": "the evidence",
    "groups": "what folds by image and by group say",
}


def _incomplete(document: Data) -> str:
    """Return what a report does not hold, and how to have it."""
    found = document["incomplete"]
    several = len({one["backbone"] for one in document["extractions"]}) > 1
    seeds = len({one["seed"] for one in found["methods"]}) > 1
    missing = [
        label(one["method"])
        + (f" on {one['backbone']}" if several else "")
        + (f" with seed {one['seed']}" if seeds else "")
        for one in found["methods"]
    ] + [_PARTS[part] for part in found["parts"]]
    why = {
        "interrupted": "the run was stopped",
        "error": f"the run ended with an error ({found['error']})",
        "methods failed": "methods gave no result, for reasons that the report lists",
    }[found["reason"]]
    said = f"This report is incomplete: {why}. Missing: {', '.join(missing)}."
    if not found["kept"]:
        return said
    command = document["command"]
    again = "the call at its end" if "\n" in command else f"`{command}`"
    return f"{said} To go on, run {again}: what is finished is kept, and not computed again."


def taken(document: Data) -> str:
    """Return what was taken from an earlier run; empty where nothing was."""
    count = document.get("taken") or 0
    if not count:
        return ""
    return (
        f"{counted(count, 'finished training or choice', 'finished trainings and choices')} of an "
        "earlier run that was stopped "
        f"{'was' if count == 1 else 'were'} taken; their seconds are those measured then."
    )


def _baseline(found: Data, images: Data) -> str:
    """Return a caution about a baseline."""
    on, accuracy, trained = (
        ", ".join(found["backbones"]),
        percent(found["accuracy"]),
        found["epochs"],
    )
    if found["kind"] == CautionKind.BASELINE_ELSEWHERE:
        return f"The best baseline ran on {on}: {accuracy}."
    if found["kind"] == CautionKind.BASELINE_AT_CHANCE:
        after = "" if trained is None else f" after {epochs(trained)}"
        counts = images["n_test"].values()
        largest = max(counts, default=0) / max(1, sum(counts))
        if found["accuracy"] <= largest:
            why = f"its {accuracy} is no more than always naming the largest class gets"
            return f"The baseline on {on} learned nothing{after}: {why} ({percent(largest)})."
        equal = number(math.log(max(2, len(images["classes"]))))
        return (
            f"The baseline on {on} learned next to nothing{after}: its training loss ended at "
            f"{number(found['after'])}, and equal probabilities for all classes have {equal}. Its "
            f"{accuracy} is no measure for others."
        )
    if found["after"] is None:
        return f"The baseline on {on} diverged: its training loss is not a number."
    what = (
        "was trained for a single epoch"
        if found["before"] is None
        else f"has not converged: over the second half of its {trained} epochs its training loss "
        f"went from {number(found['before'])} to {number(found['after'])}"
    )
    return (
        f"The baseline on {on} {what}. Try twice the epochs ({2 * trained}) before believing a "
        "lead over it."
    )


def _caution(found: Data, document: Data) -> str:  # noqa: PLR0911 - one return per kind
    kind, backbones = CautionKind(found["kind"]), ", ".join(found["backbones"])
    images, accuracy = found["images"], percent(found["accuracy"])
    match kind:
        case (
            CautionKind.BASELINE_ELSEWHERE
            | CautionKind.BASELINE_AT_CHANCE
            | CautionKind.BASELINE_NOT_CONVERGED
        ):
            return _baseline(found, document["images"])
        case CautionKind.INCOMPLETE:
            return _incomplete(document)
        case CautionKind.UNTRAINED:
            return f"{untrained_caution(backbones)} The seconds are real."
        case CautionKind.SKIPPED:
            return (
                f"{counted(images, 'image', 'images')} could not be used and "
                f"{'was' if images == 1 else 'were'} left out for every method; the report lists "
                f"{'it' if images == 1 else 'them'}."
            )
        case CautionKind.FEW_TESTED:
            return few_tested(images)
        case CautionKind.LEAKED:
            name = label(document["findings"]["method"])
            without = f" Without them {name} gets {accuracy} of {found['scored']}."
            where = ' The page shows each beside its training image, at "Duplicates and leaks".'
            return _leaked(document["leaks"]) + (without if found["scored"] else "") + where
        case CautionKind.SHARED_GROUPS:
            name, shared = label(document["findings"]["method"]), document["groups"]["shared"]
            many = counted(found["different"], "group that trains", "groups that train")
            left = (
                f"Without them {name} gets {accuracy} of {found['scored']}."
                if found["scored"]
                else "No test image is of another group."
            )
            return (
                f"{counted(images, 'test image is', 'test images are')} of {many}, too (such as "
                f"{shared[0]}): a part of what is scored on them may be memory of the group. {left}"
            )
        case CautionKind.FOLDS_DIVIDE_COPIES:
            return (
                "Duplicates are split across folds: some class has too few different images "
                "to keep its copies "
                "together, so that a part of what is scored is memory."
            )
        case CautionKind.COPIES_NOT_SOUGHT:
            return (
                "Copies were not looked for: tested images may be in the training set, too, "
                "unchanged or changed."
            )
        case CautionKind.COPIES:
            return (
                f"Folds keep copies together: the {images:,} images are {found['different']:,} "
                f"different ones, one of them {found['largest']} times. On folds that divide "
                f"copies the same head would seem to get {accuracy}, since it would have seen "
                "much of what it is tested on."
            )


_GRADES = {
    "same file": "equal files",
    "same photograph": "one photograph, changed",
    "same scene": "one scene",
}


def few_tested(images: int) -> str:
    """Return what is said beside an accuracy of fewer images than ``findings.FEW_TESTED``."""
    return (
        f"With {images} images tested, one image is {100 / max(1, images):.1f} points: "
        "read the interval, not the figure."
    )


def _leaked(leaks: Data) -> str:
    leaked, scenes = leaks["leaked"], leaks["leaked_scenes"]
    copied = len(leaked) - len(scenes)
    sentences = []
    if copied:
        known = next(name for name in leaked if name not in set(scenes))
        them = "it" if copied == 1 else "them"
        sentences.append(
            f"{counted(copied, 'test image is', 'test images are')} also in the training set, as "
            f"the same file or the same photograph: what is scored on {them} is memory. Leave "
            f"{them} out (such as {known})."
        )
    if scenes:
        sentences.append(
            f"{counted(len(scenes), 'test image shows', 'test images show')} a scene that the "
            f"training set shows, too (such as {scenes[0]}): what is scored on "
            f"{'it' if len(scenes) == 1 else 'them'} is partly memory."
        )
    return " ".join(sentences)


def leaks(document: Data) -> list[str]:
    """Return what was found about copies, small classes and shortcuts; empty where all is well."""
    found = document["leaks"]
    if found is None:
        return []
    pairs = found["pairs"]
    sentences = [_leaked(found)] if found["leaked"] else []
    conflicting = [pair for pair in pairs if pair["conflicting"]]
    if conflicting:
        pair = conflicting[0]
        sentences.append(
            f"{counted(len(conflicting), 'pair', 'pairs')} of copies with different labels, such "
            f"as {pair['first']['id']} and {pair['second']['id']}: "
            + (
                "at least one label is wrong."
                if pair["grade"] == "same file"
                else "look at both, for a label is wrong, or what tells them apart is small."
            )
        )
    if pairs:
        grades = found["grades"]
        of_grades = [
            f"{counted(grades[grade], 'pair', 'pairs')} of {words}"
            for grade, words in _GRADES.items()
            if grades[grade]
        ]
        sentences.append(
            f"{', '.join(of_grades)} among {found['images']:,} images; {found['looked_at']:,} of "
            f"{found['candidates']:,} candidate pairs were looked at. The list leaks.groups in "
            "report.json has one group per image: as groups= of featx.benchmark it keeps copies "
            "together elsewhere, too."
        )
    of_folds = {CautionKind.FOLDS_DIVIDE_COPIES, CautionKind.COPIES}
    sentences += [
        _caution(one, document)
        for one in document["findings"]["cautions"]
        if CautionKind(one["kind"]) in of_folds
    ]
    if found["small"]:
        listed = ", ".join(f"{name} ({count})" for name, count in found["small"].items())
        sentences.append(
            f"Fewer than {found['small_below']} training images of: {listed}. Their scores say "
            "little."
        )
    sentences += [
        f"The {one['what']} alone finds {one['found']:.0%} of {one['label']} and takes "
        f"{one['mistaken']:.0%} of the others for it ({one['example']}): a network can learn that "
        "instead of what is in the image."
        for one in found["shortcuts"]
    ]
    return sentences


def learning(document: Data) -> str:
    """Return what the last doubling of the training images brought; empty where it is unknown."""
    found = document["findings"]["learning"]
    if found is None:
        return ""
    return (
        f"From {found['fewer']} to {found['more']} images per class {label(found['method'])} "
        f"gained {points(found['gain'])} points: {_OUTLOOKS[Outlook(found['outlook'])]}."
    )


def parity(one: Data) -> str:
    """Return how the cached answer compares with that of the whole network."""
    name = capitalized(label(one["method"]))
    if one["holds"] is None:
        return f"{name} cannot be attached to the network: {one['reason']}"
    many = (
        f"{one['images']} tested images"
        if one["images"] == one["of"]
        else f"{one['images']} of {one['of']} tested images, at even steps"
    )
    lower = one.get("precision") not in (None, "float32")
    whole = (
        f"the whole network in {one['precision']} too, computed anew"
        if lower
        else "the whole network, from pixels to probabilities in one piece"
    )
    return (
        f"{name}: its answers from cached features against those of {whole}. The largest "
        "difference of any probability is "
        f"{one['largest']:.1e} ({many}; {one['worst']}). The tolerance is {one['tolerance']:.0e}"
        f"{'' if one['holds'] else ', so the two are NOT the same'}; the class is the same for "
        f"{one['same_class']}."
    )


def in_float32(one: Data) -> str:
    """Return what answering in float32 changes; empty where the features are in float32."""
    change = one.get("change")
    if change is None:
        return ""
    share = percent(change["other_class"] / change["images"])
    return (
        f"Answering in float32 in place of {change['precision']}, as an exported file does, names "
        f"another class for {change['other_class']} of {change['images']} images ({share}); the "
        f"largest difference of any probability is {number(change['largest'])} ({change['worst']})."
    )


def basis(done: Data) -> str:
    """Return where the cost of one extraction of all images is known from."""
    match Basis(done["basis"]):
        case Basis.MEASURED:
            return "measured in this run"
        case Basis.SCALED:
            return (
                f"scaled from the {done['computed']} of {done['computed'] + done['cached']} images "
                "that were computed in this run"
            )
        case Basis.ESTIMATED:
            return (
                "not measured in this run, since embeddings were cached; estimated from the "
                "baseline's seconds per epoch"
            )
        case Basis.UNKNOWN:
            return "not measured in this run, since embeddings were cached"
