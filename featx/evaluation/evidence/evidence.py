"""What stands behind the figures: learning curves, temperatures, parity, a map, the mistakes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from featx.backbones.backbone import Backbone
from featx.classifier.export import parity
from featx.datasets.dataset import Dataset
from featx.datasets.items import labels_of
from featx.errors import ExportError
from featx.evaluation.evidence import image_map, learning_curve, mistakes, temperature
from featx.evaluation.evidence.image_map import Map
from featx.evaluation.evidence.learning_curve import LearningCurve, LearningPoint
from featx.evaluation.evidence.temperature import Temperature
from featx.evaluation.protocol.splits import Split
from featx.evaluation.protocol.trials import Held, Method
from featx.evaluation.results import Predictions
from featx.evaluation.scores.summary import Summary
from featx.features import Features

logger = logging.getLogger(__name__)

# Images that meet the folded network, at even steps of those that are tested: each is a whole
# pass of its own.
MOST_PARITY = 256
# Learning curves of other heads than the verdict's are drawn where they cost no more than this.
QUICK_SECONDS = 8.0
# The same where the verdict's own curve has taken its time: something to read the gain from.
HARDLY_SECONDS = 2.5
MOST_CURVES = 3


@dataclass(frozen=True)
class Proof:
    """Whether a head on kept rows and the same head on the network say the same.

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
    surest, worst : tuple of int
        Positions among the tested images: the most confident wrong answers of the verdict's
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
    surest: tuple[int, ...] = ()
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
    rows : tuple
        Training images and, where there is a test set, test images: Dataset and Features.
    splits : sequence of Split
        Of the first seed.
    held : mapping of str to Held
        Head -> its cross-validated answers for the training images; empty with folds.
    fitted : mapping of str to estimator
        Head -> as it was fitted on the last split.
    """

    subject: Summary
    found: Sequence[Summary]
    answers: Sequence[Predictions]
    backbone: Backbone
    classes: Sequence[str]
    methods: Mapping[str, Method]
    rows: tuple[tuple[Dataset, Features], tuple[Dataset, Features] | None]
    splits: Sequence[Split]
    held: Mapping[str, Held]
    held_folds: int
    fitted: Mapping[str, Any]

    @property
    def tested(self) -> tuple[Dataset, Features]:
        """The images that are tested, and their rows."""
        return self.rows[1] or self.rows[0]

    @property
    def beside(self) -> list[Predictions]:
        """The answers of all methods on the verdict's backbone."""
        return [one for one in self.answers if one.backbone == self.subject.backbone]


def gather(material: Material) -> Evidence:
    """Return the evidence; a part that fails is left out, with its reason."""
    found = Evidence()
    seconds: dict[str, float] = {}
    missing = []
    parts: dict[str, Callable[[Material], dict[str, Any]]] = {
        "mistakes": _mistakes,
        "map": _map,
        "temperature": _temperatures,
        "parity": _proofs,
        "learning curve": _learning,
    }
    for name, part in parts.items():
        started = time.perf_counter()
        try:
            found = replace(found, **part(material))
        except Exception as error:  # the figures are there, and must not be lost to their evidence
            logger.warning("the %s could not be made", name, exc_info=True)
            missing.append(f"No {name}: {error} [{type(error).__name__}]")
        seconds[name] = time.perf_counter() - started
    return replace(found, seconds=seconds, missing=tuple(missing))


def _mistakes(one: Material) -> dict[str, Any]:
    surest = mistakes.surest(one.subject.first)
    worst = mistakes.worst(one.beside, one.classes, surest)
    items = one.tested[0].items
    return {
        "surest": tuple(surest),
        "worst": tuple(worst),
        "images": mistakes.images(items, [*surest, *worst]),
    }


def _map(one: Material) -> dict[str, Any]:
    images, rows = one.tested
    return {"map": image_map.layout(one.subject.backbone, images.items, rows.X)}


def _temperatures(one: Material) -> dict[str, Any]:
    known = [answers for answers in one.beside if answers.proba is not None]
    if one.rows[1] is None:
        folds = [split.positions for split in one.splits]
        return {
            "temperatures": tuple(temperature.across_folds(a, folds, one.classes) for a in known)
        }
    y = labels_of(one.rows[0][1].y)
    return {
        "temperatures": tuple(
            temperature.from_training(answers, held, y, one.classes, one.held_folds)
            for answers in known
            if answers.method in one.held and (held := one.held[answers.method].proba) is not None
        )
    }


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
    count = min(len(last.y_test), MOST_PARITY)
    chosen = np.linspace(0, len(last.y_test) - 1, count).round().astype(int)
    found, reason = None, ""
    try:
        found = parity.compare(
            one.backbone, one.fitted[method], last.test.subset(list(chosen)), last.X_test[chosen]
        )
    except ExportError as error:
        reason = str(error)
    return Proof(one.subject.backbone, method, found, reason, len(last.y_test))


def _learning(one: Material) -> dict[str, Any]:
    trained = labels_of(one.rows[0][1].y)
    largest = int(np.unique(trained.astype(str), return_counts=True)[1].max())
    if one.rows[1] is None:
        largest = round(largest * (1 - 1 / len(one.splits)))
    curves: list[LearningCurve] = []
    for head in _heads(one):
        # Every step about doubles the images, so that all steps cost about two whole fits.
        cost = 2 * learning_curve.REPEATS * head.cost.each
        spent = sum(curve.seconds for curve in curves)
        quick = cost <= (QUICK_SECONDS if spent <= learning_curve.MOST_SECONDS else HARDLY_SECONDS)
        if head.method in one.methods and (head is one.subject or quick):
            n_train = float(np.mean([len(split.y_train) for split in one.splits]))
            last = LearningPoint(largest, n_train, head.accuracy, head.interval, len(head.seeds))
            slow = cost > learning_curve.MOST_SECONDS
            method = one.methods[head.method]
            curves.append(learning_curve.curve(method, head.backbone, one.splits, last, slow=slow))
        if len(curves) == MOST_CURVES:
            break
    return {"learning": tuple(curves)}
