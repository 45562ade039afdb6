"""A trained model on labelled images: its scores with an interval, its classes, its mistakes."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx import heads
from featx.backbones.backbone import find_backbone, untrained_caution
from featx.classifier import training_digests
from featx.classifier.classifier import ImageClassifier
from featx.datasets.dataset import as_dataset
from featx.errors import DatasetError, Failure
from featx.evaluation.evidence import mistakes
from featx.evaluation.protocol import plan, splits, trials
from featx.evaluation.report import environment, files, pages
from featx.evaluation.report.findings import FEW_TESTED
from featx.evaluation.report.wording import few_tested
from featx.evaluation.results import Predictions
from featx.evaluation.scores import intervals, metrics
from featx.evaluation.scores.intervals import Interval
from featx.evaluation.scores.metrics import Scores
from featx.features import Features
from featx.formatting import counted, percent
from featx.labels import class_order, labels_of

if TYPE_CHECKING:
    from rich.table import Table

VERSION = 1


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model scores on labelled images.

    Attributes
    ----------
    model, dataset : str
        What they are called.
    head, backbone : str
    classes : tuple of str
        Those of the model, in its order.
    answers : Predictions
        The answer for each image.
    scores : Scores
    interval : Interval
        The 95 % interval of the accuracy, images resampled.
    failures : tuple of Failure
        Images that cannot be used; they are not scored.
    cautions : tuple of str
        What to know before the figures are believed.
    mistakes : tuple of (int, bytes)
        Positions of the most confident errors, and small JPEGs of these images.
    trained_on : tuple of str or None
        Ids of images that the model was trained on, by their content; None where the model, or
        features that were given, do not tell.
    """

    model: str
    dataset: str
    head: str
    backbone: str
    classes: tuple[str, ...]
    answers: Predictions
    scores: Scores
    interval: Interval
    failures: tuple[Failure, ...] = ()
    cautions: tuple[str, ...] = ()
    mistakes: tuple[tuple[int, bytes], ...] = ()
    trained_on: tuple[str, ...] | None = None
    created: str = field(default_factory=environment.now)

    def __repr__(self) -> str:
        return f"<featx.Evaluation: {self.headline}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the headline, every caution and the classes."""
        return pages.evaluation_fragment(self.to_dict())

    @property
    def headline(self) -> str:
        """The accuracy in a sentence."""
        low, high = percent(self.interval.low), percent(self.interval.high)
        many = counted(len(self.answers.ids), "image", "images")
        return f"{percent(self.scores.accuracy)} of {many} right (95 % interval {low} to {high})"

    @property
    def accuracy_of_new(self) -> float | None:
        """The accuracy without images that the model was trained on; None where none is left.

        All images count as new where the model does not tell.
        """
        seen = set(self.trained_on or ())
        new = np.array([id not in seen for id in self.answers.ids], dtype=bool)
        return _share((self.answers.y_true == self.answers.y_pred)[new].sum(), new.sum())

    @property
    def looked_for(self) -> str:
        """Which of the images were looked for among those that the model was trained on."""
        if self.trained_on is None:
            return (
                "Not looked for: images that the model was trained on; it does not tell which "
                "those are."
            )
        many = counted(len(self.trained_on), "image", "images") if self.trained_on else "none"
        return (
            f"Also in the training, by equal content: {many}. Changed copies (resized, cropped) "
            "were not looked for; featx benchmark does."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, without the small images, as plain data that strict JSON can hold."""
        answers = self.answers
        counts = metrics.confusion(answers.y_true, answers.y_pred, self.classes)
        best = None if answers.proba is None else answers.proba.max(axis=1)
        return {
            "schema": "featx-evaluation",
            "version": VERSION,
            "created": self.created,
            "model": {"name": self.model, "head": self.head, "backbone": self.backbone},
            "dataset": self.dataset,
            "headline": self.headline,
            "cautions": list(self.cautions),
            "images": len(answers.ids),
            "skipped": [
                {"id": one.id, "error": one.error, "reason": one.reason} for one in self.failures
            ],
            "accuracy": self.scores.accuracy,
            "interval": {"low": self.interval.low, "high": self.interval.high},
            "balanced_accuracy": self.scores.balanced_accuracy,
            "looked_for": self.looked_for,
            "trained_on": None if self.trained_on is None else list(self.trained_on),
            "accuracy_without_trained_on": self.accuracy_of_new,
            "macro_f1": self.scores.macro_f1,
            "log_loss": self.scores.log_loss,
            "ece": self.scores.ece,
            "classes": [
                {
                    "name": name,
                    "images": int(counts[n].sum()),
                    "recall": _share(counts[n, n], counts[n].sum()),
                    "precision": _share(counts[n, n], counts[:, n].sum()),
                }
                for n, name in enumerate(self.classes)
            ],
            "confusion": counts.tolist(),
            "predictions": [
                {
                    "id": id,
                    "label": str(true),
                    "predicted": str(found),
                    "probability": None if best is None else float(best[n]),
                }
                for n, (id, true, found) in enumerate(
                    zip(answers.ids, answers.y_true, answers.y_pred, strict=True)
                )
            ],
            "versions": environment.versions(),
        }

    def save(self, directory: str | Path, *, images: bool = True) -> Path:
        """Write evaluation.html and evaluation.json into a folder, and return the folder.

        Parameters
        ----------
        images : bool
            Whether the page shows small copies of the most confident errors.

        Raises
        ------
        FeatxError
            The folder cannot be made or written.
        """
        data = self.to_dict()
        shown = [
            {**data["predictions"][n], "image": base64.b64encode(content).decode("ascii")}
            for n, content in (self.mistakes if images else ())
        ]
        texts = {
            "evaluation.html": pages.page("evaluation.html.j2", {"one": data, "mistakes": shown}),
            "evaluation.json": files.strict(data),
        }
        return files.publish(Path(directory), texts)

    def table(self) -> Table:
        """Return the classes as a table for the terminal."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("class", overflow="fold")
        for name in ("images", "recall", "precision", "most taken for"):
            table.add_column(name, justify="right" if name != "most taken for" else "left")
        data = self.to_dict()
        for n, one in enumerate(data["classes"]):
            wrong = np.array(data["confusion"][n])
            wrong[n] = 0
            other = f"{self.classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
            recall, precision = (
                "-" if one[name] is None else percent(one[name]) for name in ("recall", "precision")
            )
            table.add_row(one["name"], f"{one['images']:,}", recall, precision, other)
        return table


@dataclass(frozen=True)
class HeldOutAccuracy:
    """What a head scores on training images that it did not see.

    Attributes
    ----------
    folds : plan.Folds
    images : int
        Those that were held out.
    accuracy : float
    interval : Interval
        Images resampled, or whole groups where there are some.
    """

    folds: plan.Folds
    images: int
    accuracy: float
    interval: Interval


def cross_validated(
    model: ImageClassifier, images: Any, groups: np.ndarray | None = None
) -> HeldOutAccuracy | None:
    """Return what the head of a trained model scores on training images that it did not see.

    Copies of one image are not looked for, and may stand on both sides of a fold.

    Parameters
    ----------
    images : Dataset or Features
        Those that it was trained on.
    groups : ndarray of shape (n,), optional
        Of all images; never divided.

    Returns
    -------
    HeldOutAccuracy or None
        None where a class has too few images, or groups, to hold some out.
    """
    features = model.features(images, on_error="skip")
    labels = labels_of(features.y)
    if groups is not None:
        groups = splits.groups_without_failures(groups, images, features)
    folds = plan.held_out_folds(labels, groups)
    if not folds:
        return None
    (method,) = trials.methods({"head": heads.find(model.head)})
    cuts = splits.folds_of(labels, folds.drawn, 0, None, groups)[: folds.scored]
    held = trials.cross_validate(method, features.X, labels, cuts, 0, groups=groups)
    if held is None:
        return None
    within = None if groups is None else groups[held.positions]
    interval = intervals.accuracy_interval(held.right, within)
    return HeldOutAccuracy(folds, len(held.right), held.accuracy, interval)


def _share(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None


def _trained_on(ids: list[str], right: np.ndarray, seen: np.ndarray) -> str:
    """Return the caution that some of the images were in the training set."""
    names = [ids[n] for n in np.flatnonzero(seen)[:3]]
    more = ", ..." if seen.sum() > len(names) else ""
    if seen.all():
        return (
            f"The model was trained on every one of these {counted(len(ids), 'image', 'images')}: "
            "this accuracy says nothing about new ones."
        )
    were = "is" if seen.sum() == 1 else "are"
    return (
        f"{counted(int(seen.sum()), 'image', 'images')} of {len(ids):,} {were} also in the "
        f"training set of the model ({', '.join(names)}{more}); without "
        f"{'it' if seen.sum() == 1 else 'them'} the accuracy is {percent(right[~seen].mean())}."
    )


def evaluate(
    model: ImageClassifier,
    images: Any,
    *,
    name: str = "model",
    dataset: str = "images",
    on_error: str = "raise",
    **table: Any,
) -> Evaluation:
    """Score a trained model on labelled images.

    Parameters
    ----------
    model : ImageClassifier
        Trained, or loaded from a file.
    images : folder, CSV, DataFrame, list of paths, array, tf.data.Dataset or featx.Dataset
        With labels, and not among those that it was trained on.
    name, dataset : str
        What the report calls them.
    on_error : {"raise", "skip"}
        Whether images that cannot be used are left out and listed.
    path_column, label_column, image_folder, suffix, follow_links
        As `featx.benchmark` takes them.

    Returns
    -------
    Evaluation

    Raises
    ------
    DatasetError
        No labels, or labels that were not in the training set.
    """
    given = as_dataset(images, **table)
    features = model.features(given, on_error=on_error)
    labels = labels_of(features.y)
    classes = tuple(str(one) for one in model.classes_)
    y_true = np.array([str(one) for one in labels.tolist()], dtype=object)
    if unknown := class_order(set(y_true) - set(classes)):
        raise DatasetError(
            f"labels that were not in the training set: {', '.join(map(repr, unknown))}. It had "
            f"{', '.join(map(repr, classes))}."
        )
    proba = model.scores(features.X) if hasattr(model.head_, "predict_proba") else None
    y_pred = np.array([str(one) for one in model.predict(features)], dtype=object)
    head = getattr(model.head_, "steps", [(None, model.head_)])[-1][1]
    backbone = features.spec["backbone"]
    answers = Predictions(
        str(backbone), type(head).__name__, "head", 0, tuple(features.ids), y_true, y_pred, proba
    )
    # A stream gives its images once, and they are gone.
    wrong = [] if given.known_length is None else mistakes.most_confident(answers)
    position = {id: n for n, id in enumerate(given.ids)} if wrong else {}
    items = {n: given[position[answers.ids[n]]] for n in wrong}
    small = mistakes.images(list(items.values()), range(len(items)))
    seen = training_digests.among(features.digests, model.trained_on_)
    return Evaluation(
        model=name,
        dataset=dataset,
        head=type(head).__name__,
        backbone=str(backbone),
        classes=classes,
        answers=answers,
        scores=metrics.scores(y_true, y_pred, proba, classes),
        interval=intervals.accuracy_interval(y_true == y_pred),
        failures=tuple(features.failures),
        cautions=tuple(_cautions(model, features, y_true, y_pred, classes, seen)),
        mistakes=tuple((n, small[at]) for at, n in enumerate(items) if at in small),
        trained_on=None if seen is None else tuple(np.array(features.ids, object)[seen]),
    )


def _cautions(
    model: ImageClassifier,
    features: Features,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    classes: tuple[str, ...],
    seen: np.ndarray | None,
) -> list[str]:
    found = []
    if seen is not None and seen.any():
        found.append(_trained_on(features.ids, y_true == y_pred, seen))
    if not find_backbone(model.backbone).trained:
        found.append(untrained_caution(features.spec["backbone"]))
    if features.failures:
        many = counted(len(features.failures), "image", "images")
        found.append(f"{many} could not be used and count neither as right nor as wrong.")
    if missing := [name for name in classes if name not in set(y_true)]:
        found.append(f"No image of: {', '.join(missing)}.")
    if len(y_true) < FEW_TESTED:
        found.append(few_tested(len(y_true)))
    return found
