"""The results of a comparison: scores, predictions, extractions, curves and failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from featx.errors import Failure

Kind = Literal["head", "baseline"]


@dataclass(frozen=True)
class Result:
    """One method, trained once and scored once.

    Attributes
    ----------
    fold : int or None
        From 1; None where there is a test set.
    n_train, n_test : int
        Images trained on and images scored.
    accuracy, balanced_accuracy, macro_f1 : float
        0 to 1, as scikit-learn defines them.
    log_loss, ece : float or None
        In nats, and 0 to 1; None where the method gives no probabilities.
    extract_seconds : float
        Wall time of `extract` in this run, for all images of the comparison and shared by the
        heads of one backbone; near zero where the embeddings were cached, as
        `images_computed` shows. 0 for the baseline, whose epochs are in the other two figures.
    fit_seconds, predict_seconds : float
        Wall time of this fit and of predicting `n_test` images.
    epochs, epoch_seconds : int and float, or None
        Epochs over the training images, and the median wall time of one; None for heads.
    versions : str
        The libraries that shaped the numbers.
    """

    dataset: str
    backbone: str
    method: str
    kind: Kind
    seed: int
    fold: int | None
    n_train: int
    n_test: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float | None
    ece: float | None
    extract_seconds: float
    images_computed: int
    images_cached: int
    fit_seconds: float
    predict_seconds: float
    epochs: int | None
    epoch_seconds: float | None
    versions: str


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one method predicted for every image it was tested on, with one seed.

    Attributes
    ----------
    ids : tuple of str
        One per image, in dataset order; with folds, each image's prediction comes from the model
        that had not seen it.
    y_true, y_pred : ndarray of str objects, shape (n,)
    proba : ndarray of float64, shape (n, n_classes), or None
        Columns in the order of the report's classes.
    """

    backbone: str
    method: str
    kind: Kind
    seed: int
    ids: tuple[str, ...]
    y_true: np.ndarray
    y_pred: np.ndarray
    proba: np.ndarray | None


@dataclass(frozen=True)
class ExtractionCost:
    """One backbone's extraction of all images of the comparison, and what that costs.

    Attributes
    ----------
    seconds : float
        Wall time of `extract` in this run, reading the cache included.
    cost : float or None
        Seconds to extract all images; None where this run does not show it.
    start_seconds : float
        Those of `seconds` in which the network started; the first backbone's include the start of
        the framework.
    images_per_second : float or None
        Of the images computed in this run, once the network had started; None where none was.
    """

    backbone: str
    images: int
    computed: int
    cached: int
    seconds: float
    runtime: str
    cost: float | None
    dim: int
    untrained: bool
    start_seconds: float
    images_per_second: float | None


@dataclass(frozen=True)
class History:
    """The baseline's training curves: name of a curve -> one value per epoch."""

    backbone: str
    seed: int
    fold: int | None
    curves: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Selection:
    """How the head of the verdict was chosen, and what the choice cost.

    Attributes
    ----------
    folds : int
        Folds that the training features were cut into; 0 where no choice was made.
    scores : mapping
        (backbone, method) -> accuracy over the folds that were scored, in the order the heads were
        named; None where the head failed.
    seconds : float
        Wall time of the whole choice.
    n : int
        Training images that were held out, each scored once.
    scored_folds : int or None
        How many of the folds were scored: of many images the first, or first two, tell as much as
        is asked for. None for all of them.
    """

    folds: int
    scores: Mapping[tuple[str, str], float | None]
    seconds: float
    n: int = 0
    scored_folds: int | None = None


@dataclass(frozen=True)
class MethodFailure:
    """A method that gave no result, with one seed, and why."""

    backbone: str
    method: str
    seed: int
    fold: int | None
    error: str
    reason: str


@dataclass(frozen=True)
class Incomplete:
    """Why a report does not hold all that was asked for, and what is missing.

    Attributes
    ----------
    reason : str
        "interrupted" by Ctrl-C or a request to end; an "error" outside of a method; or "methods
        failed", and everything else is there.
    error : str or None
        Of an error, what it says.
    methods : tuple of (str, str, int)
        Backbone, method and seed of each that has no result.
    parts : tuple of str
        Of "leaks", "evidence" and "groups", those that were asked for and are not there.
    kept : bool
        Whether what is finished is kept, so that the same call goes on.
    """

    reason: Literal["interrupted", "error", "methods failed"]
    error: str | None = None
    methods: tuple[tuple[str, str, int], ...] = ()
    parts: tuple[str, ...] = ()
    kept: bool = False


@dataclass(frozen=True)
class SkippedImage:
    """An image without an embedding, and the set it belongs to (`train` or `test`)."""

    part: str
    failure: Failure


@dataclass(frozen=True)
class Images:
    """The images a comparison was made on.

    Attributes
    ----------
    test : str or None
        Name of the test set; None where folds were used.
    folds : int
        0 where there is a test set.
    n_train, n_test : mapping
        Class -> images used. With folds, `n_test` equals `n_train`: each is tested once.
    content : str or None
        A sha256 of what the tested images hold, in their order; None where it is not known.
    """

    train: str
    test: str | None
    folds: int
    classes: tuple[str, ...]
    n_train: Mapping[str, int]
    n_test: Mapping[str, int]
    skipped: tuple[SkippedImage, ...] = ()
    notes: tuple[str, ...] = ()
    content: str | None = None


@dataclass(frozen=True)
class Grouping:
    """The groups of the images, such as patients, and what folds that divide them would say.

    Attributes
    ----------
    name : str
        What they were given by: a column, a pattern, a function or a list.
    train, test : int and (int or None)
        Groups of the training and of the test images; None where those of the test images are not
        known, or folds are tested.
    largest : int
        The most training images of one group.
    folds : int
        Folds that the two accuracies are over; 0 where they were not tried.
    scored_folds : int or None
        How many of them were scored; None for all.
    by_image, by_group : float or None
        Accuracy of the verdict's head over folds of the training images that divide groups, and
        over folds that do not; None where the groups are too few, or it failed.
    shared : tuple of str
        Groups that train and are tested; with folds there is none.
    shared_ids : tuple of str
        The test images of these.
    """

    name: str
    train: int
    test: int | None
    largest: int
    folds: int = 0
    scored_folds: int | None = None
    by_image: float | None = None
    by_group: float | None = None
    shared: tuple[str, ...] = ()
    shared_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """When, where and with what the comparison ran, and the command that repeats it."""

    created: str
    command: str
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
