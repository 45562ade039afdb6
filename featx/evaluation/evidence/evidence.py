"""What stands behind the figures: learning curves, temperatures, parity, a map, the mistakes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from featx.backbones.backbone import Backbone
from featx.classifier.export import parity
from featx.errors import ExportError, RuntimeUnavailableError
from featx.evaluation.evidence import image_map, learning_curve, mistakes, temperature
from featx.evaluation.evidence.image_map import Map
from featx.evaluation.evidence.learning_curve import LearningCurve, LearningPoint
from featx.evaluation.evidence.temperature import Temperature
from featx.evaluation.protocol.plan import Folds
from featx.evaluation.protocol.splits import EmbeddedImages, Split
from featx.evaluation.protocol.trials import HeldOut, Method
from featx.evaluation.results import Predictions
from featx.evaluation.scores.summary import Summary
from featx.heads import fitting

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How much is spent on the evidence.

    Attributes
    ----------
    parity_images : int
        Images that meet the folded network, at even steps of those that are tested: each goes
        through the whole network on its own.
    map_images : int
        Images on the map.
    curve_seconds : float
        A learning curve whose next point would go beyond this ends with the point it had reached.
    other_seconds : float
        Learning curves of other heads than the verdict's are drawn where they cost no more.
    late_seconds : float
        The same where the verdict's own curve has taken its `curve_seconds`.
    curves : int
        Learning curves in all.
    """

    parity_images: int = 256
    map_images: int = image_map.MOST
    curve_seconds: float = learning_curve.MOST_SECONDS
    other_seconds: float = 8.0
    late_seconds: float = 2.5
    curves: int = 3


@dataclass(frozen=True)
class Proof:
    """Whether a head on features and the same head on the network predict the same.

    Attributes
    ----------
    found : Parity or None
        None where the two could not be compared.
    reason : str
        Why not; empty where they were.
    of : int
        Tested images, of which `found.images` were compared.
    """

    backbone: str
    method: str
    found: parity.Parity | None
    reason: str
    of: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that stands behind the figures of a report; a part that failed is empty.

    Attributes
    ----------
    most_confident, worst : tuple of int
        Positions among the tested images: the most confident wrong predictions of the verdict's
        method, and the images that most methods get wrong.
    images : mapping of int to bytes
        Position -> a small JPEG, of those two.
    seconds : mapping of str to float
        Part -> wall time.
    missing : tuple of str
        Which parts failed, and why.
    """

    learning: tuple[LearningCurve, ...] = ()
    temperatures: tuple[Temperature, ...] = ()
    proofs: tuple[Proof, ...] = ()
    map: Map | None = None
    most_confident: tuple[int, ...] = ()
    worst: tuple[int, ...] = ()
    images: Mapping[int, bytes] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Material:
    """What the evidence of the verdict's method is made from.

    Attributes
    ----------
    subject : Summary
        The verdict's method.
    found : sequence of Summary
        All methods, also of other backbones.
    answers : sequence of Predictions
        Of the first seed.
    methods : mapping of str to Method
        The heads.
    train, test : EmbeddedImages
        Of the subject's backbone; `test` is None where there is no test set.
    splits : sequence of Split
        Of the first seed.
    held_out : mapping of str to HeldOut
        Head -> its predictions for training images that it had not seen; empty with folds.
    held_out_folds : Folds
        How these were held out.
    fitted : mapping of str to estimator
        Head with a result -> as it was fitted on the last split; None where that was in an earlier
        run, so that it is fitted again if it is asked for.
    extraction : mapping
        What went to `extract` beside images and backbone.
    """

    subject: Summary
    found: Sequence[Summary]
    answers: Sequence[Predictions]
    backbone: Backbone
    classes: Sequence[str]
    methods: Mapping[str, Method]
    train: EmbeddedImages
    test: EmbeddedImages | None
    splits: Sequence[Split]
    held_out: Mapping[str, HeldOut]
    held_out_folds: Folds
    fitted: Mapping[str, Any]
    limits: Limits = Limits()
    extraction: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tested(self) -> EmbeddedImages:
        """The images that are tested, and their features."""
        return self.train if self.test is None else self.test

    @property
    def beside(self) -> list[Predictions]:
        """The predictions of all methods on the verdict's backbone."""
        return [one for one in self.answers if one.backbone == self.subject.backbone]


def gather(material: Material, *, progress: bool = False) -> Evidence:
    """Return the evidence; a part that fails is left out, with its reason.

    Parameters
    ----------
    progress : bool
        Whether to show a bar of its parts.
    """
    found: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    missing = []
    parts: dict[str, Callable[[Material], dict[str, Any]]] = {
        "mistakes": _mistakes,
        "map": _map,
        "temperature": _temperatures,
        "parity": _proofs,
        "learning curve": _learning,
    }
    bar = tqdm(parts.items(), desc="evidence", unit="part", disable=not progress)
    for name, part in bar:
        bar.set_postfix_str(name)
        started = time.perf_counter()
        try:
            found |= part(material)
        except Exception as error:  # the figures are there, and must not be lost to their evidence
            logger.warning("the %s could not be made", name, exc_info=True)
            missing.append(f"No {name}: {error} [{type(error).__name__}]")
        seconds[name] = time.perf_counter() - started
    return Evidence(**found, seconds=seconds, missing=tuple(missing))


def _mistakes(one: Material) -> dict[str, Any]:
    most_confident = mistakes.most_confident(one.subject.first)
    worst = mistakes.worst(one.beside, one.classes, most_confident)
    items = one.tested.images.items
    return {
        "most_confident": tuple(most_confident),
        "worst": tuple(worst),
        "images": mistakes.images(items, [*most_confident, *worst]),
    }


def _map(one: Material) -> dict[str, Any]:
    tested, most = one.tested, one.limits.map_images
    found = image_map.layout(
        one.subject.backbone, tested.images.items, tested.features.X, most=most
    )
    return {"map": found}


def _temperatures(one: Material) -> dict[str, Any]:
    known = [answers for answers in one.beside if answers.proba is not None]
    if one.test is None:
        folds = [split.positions for split in one.splits]
        return {
            "temperatures": tuple(temperature.across_folds(a, folds, one.classes) for a in known)
        }
    found = []
    for answers in known:
        held = one.held_out.get(answers.method)
        if held is not None and held.proba is not None:
            y = one.train.labels[held.positions]
            source = _source(one.held_out_folds, len(y))
            found.append(temperature.from_training(answers, held.proba, y, one.classes, source))
    return {"temperatures": tuple(found)}


def _source(folds: Folds, images: int) -> str:
    """Return in words how training images were held out."""
    if folds.scored == folds.drawn:
        return f"{folds.drawn}-fold cross-validation on the training images"
    return f"{images:,} of the training images, held out"


def _heads(one: Material) -> Iterator[Summary]:
    """Yield the heads on the verdict's backbone, the verdict's first."""
    if one.subject.kind == "head":
        yield one.subject
    for other in one.found:
        beside = other.backbone == one.subject.backbone
        if beside and other.kind == "head" and other is not one.subject:
            yield other


def _proofs(one: Material) -> dict[str, Any]:
    """Return the proof of the verdict's head; if it cannot be folded, also the next that can."""
    proofs: list[Proof] = []
    for head in _heads(one):
        if head.method in one.fitted:
            proofs.append(_proof(one, head.method))
            if proofs[-1].found is not None:
                break
    return {"proofs": tuple(proofs)}


def _proof(one: Material, method: str) -> Proof:
    last = one.splits[-1]
    count = min(len(last.y_test), one.limits.parity_images)
    chosen = np.linspace(0, len(last.y_test) - 1, count).round().astype(int)
    found, reason = None, ""
    fitted = one.fitted[method]
    if fitted is None:
        head = one.methods[method].make(one.answers[0].seed)
        fitted = fitting.fit(head, last.X_train, last.y_train, groups=last.groups)
    try:
        found = parity.compare(
            one.backbone,
            fitted,
            last.test.subset(list(chosen)),
            last.X_test[chosen],
            running={
                name: one.extraction[name]
                for name in ("cache", "batch_size", "runtime")
                if name in one.extraction
            },
        )
    except (ExportError, RuntimeUnavailableError) as error:
        reason = str(error)
    return Proof(one.subject.backbone, method, found, reason, len(last.y_test))


def _learning(one: Material) -> dict[str, Any]:
    trained = one.train.labels
    largest = int(np.unique(trained.astype(str), return_counts=True)[1].max())
    if one.test is None:
        largest = round(largest * (1 - 1 / len(one.splits)))
    limits = one.limits
    curves: list[LearningCurve] = []
    for head in _heads(one):
        # Every step about doubles the images, so that all steps cost about two whole fits.
        cost = 2 * learning_curve.REPEATS * head.cost.each
        spent = sum(curve.seconds for curve in curves)
        late = spent > limits.curve_seconds
        quick = cost <= (limits.late_seconds if late else limits.other_seconds)
        if head.method in one.methods and (head is one.subject or quick):
            n_train = float(np.mean([len(split.y_train) for split in one.splits]))
            last = LearningPoint(largest, n_train, head.accuracy, head.interval, len(head.seeds))
            curves.append(
                learning_curve.curve(
                    one.methods[head.method],
                    head.backbone,
                    one.splits,
                    last,
                    slow=cost > limits.curve_seconds,
                    most_seconds=limits.curve_seconds,
                )
            )
        if len(curves) == limits.curves:
            break
    return {"learning": tuple(curves)}
