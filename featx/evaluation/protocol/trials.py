"""One method trained, timed and scored on each split: rows, predictions, curves, failures."""

from __future__ import annotations

import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from featx.errors import FeatxError
from featx.evaluation.protocol.splits import Split
from featx.evaluation.results import History, Kind, MethodFailure, Predictions, Result
from featx.evaluation.scores import metrics
from featx.heads import HEADS, factory_of

logger = logging.getLogger(__name__)

Make = Callable[[int], Any]


@dataclass
class Record:
    """All that the trials left behind so far.

    Attributes
    ----------
    first_seed : int
        Of the trials whose fitted heads are kept.
    fitted : dict
        (backbone, head) -> the estimator, as it was fitted on the last split of the first seed.
    """

    first_seed: int = 0
    rows: list[Result] = field(default_factory=list)
    predictions: list[Predictions] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    failures: list[MethodFailure] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    fitted: dict[tuple[str, str], Any] = field(default_factory=dict)

    def remark(self, text: str) -> None:
        """Keep a sentence for the report, once."""
        if text not in self.remarks:
            self.remarks.append(text)


@dataclass(frozen=True)
class Method:
    """A method by name: `make(seed)` returns it unfitted."""

    name: str
    kind: Kind
    make: Make


@dataclass(frozen=True, eq=False)
class Held:
    """What a head said of training images that it had not seen, in cross-validation.

    Attributes
    ----------
    accuracy : float
        NaN where the head failed.
    proba : ndarray of float64, shape (n, n_classes), or None
        Columns in the order of the classes.
    """

    accuracy: float
    proba: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class _Answer:
    model: Any
    y_pred: np.ndarray
    proba: np.ndarray | None
    fit_seconds: float
    predict_seconds: float
    epochs: int | None = None
    epoch_seconds: float | None = None
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def methods(heads: Sequence[Any] | Mapping[str, Any] | None) -> list[Method]:
    """Return the heads to compare, by name.

    Parameters
    ----------
    heads : sequence of str or estimators, mapping of name to estimator, or None
        None means every head of `featx.HEADS`.

    Raises
    ------
    HeadError
        A name that is not in `featx.HEADS`.
    FeatxError
        Two heads of one name.
    """
    if isinstance(heads, str):
        heads = [heads]
    named: list[tuple[str, Any]]
    if isinstance(heads, Mapping):
        named = list(heads.items())
    else:
        chosen = list(HEADS) if heads is None else list(heads)
        named = [(head if isinstance(head, str) else _label(head), head) for head in chosen]
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FeatxError(
            f"two heads are called {', '.join(map(repr, twice))}; pass heads as a mapping of your "
            "own names to estimators."
        )
    return [Method(name, "head", _maker(head)) for name, head in named]


def _label(head: Any) -> str:
    last = head.steps[-1][1] if hasattr(head, "steps") else head
    return type(last).__name__


def _maker(head: Any) -> Make:
    if isinstance(head, str):
        factory = factory_of(head)
        parameters = inspect.signature(factory).parameters.values()
        takes_seed = any(
            one.name == "random_state" or one.kind is one.VAR_KEYWORD for one in parameters
        )
        return lambda seed: factory(random_state=seed) if takes_seed else factory()
    return lambda seed: _seeded(clone(head), seed)


def _seeded(estimator: Any, seed: int) -> Any:
    wanted = {
        name: seed
        for name in estimator.get_params()
        if name.rpartition("__")[2] in {"random_state", "seed"}
    }
    return estimator.set_params(**wanted)


def run(
    record: Record, method: Method, seed: int, splits: Iterable[Split], row: Result, ids: list[str]
) -> None:
    """Train and score one method with one seed on every split, and add what came to `record`.

    A method that fails is recorded with its reason, and the others go on: an hour of a baseline
    must not be lost to a head that does not like the data.

    Parameters
    ----------
    row : Result
        The fields that all rows of this method share; the others are filled in here.
    ids : list of str
        All images that are tested, in order.
    """
    classes = row_classes = None
    y_true = np.empty(len(ids), dtype=object)
    y_pred = np.empty(len(ids), dtype=object)
    proba: np.ndarray | None = None
    for split in splits:
        classes = [str(name) for name in np.unique(split.y_train.astype(str))]
        row_classes = row_classes or classes
        try:
            answer = _answer(record, method, seed, split, row_classes)
        except Exception as error:  # the run goes on, the report says why
            logger.warning("%s on %s failed", method.name, row.backbone, exc_info=True)
            record.failures.append(
                MethodFailure(
                    row.backbone, method.name, seed, split.fold, type(error).__name__, str(error)
                )
            )
            return
        y_true[split.positions], y_pred[split.positions] = split.y_test, answer.y_pred
        if answer.proba is not None:
            proba = np.zeros((len(ids), len(row_classes))) if proba is None else proba
            proba[split.positions] = answer.proba
        record.rows.append(_row(row, split, answer, row_classes))
        if answer.model is not None and seed == record.first_seed:
            record.fitted[row.backbone, method.name] = answer.model
        if answer.curves:
            record.histories.append(History(row.backbone, seed, split.fold, answer.curves))
    record.predictions.append(
        Predictions(row.backbone, method.name, method.kind, seed, tuple(ids), y_true, y_pred, proba)
    )


def _row(row: Result, split: Split, answer: _Answer, classes: Sequence[str]) -> Result:
    found = metrics.scores(split.y_test, answer.y_pred, answer.proba, classes)
    return replace(
        row,
        fold=split.fold,
        n_train=len(split.y_train),
        n_test=len(split.y_test),
        accuracy=found.accuracy,
        balanced_accuracy=found.balanced_accuracy,
        macro_f1=found.macro_f1,
        log_loss=found.log_loss,
        ece=found.ece,
        fit_seconds=answer.fit_seconds,
        predict_seconds=answer.predict_seconds,
        epochs=answer.epochs,
        epoch_seconds=answer.epoch_seconds,
    )


def _answer(
    record: Record, method: Method, seed: int, split: Split, classes: Sequence[str]
) -> _Answer:
    model = method.make(seed)
    with warnings.catch_warnings(record=True) as caught:
        # UserWarning holds scikit-learn's ConvergenceWarning. These say that a result is weaker
        # than it could be, and belong beside it rather than on a terminal that nobody keeps.
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("always", RuntimeWarning)
        ask = _ask_baseline if method.kind == "baseline" else _ask_head
        answer = ask(model, split, classes)
    for warning in caught:
        if issubclass(warning.category, (UserWarning, RuntimeWarning)):
            first = str(warning.message).strip().splitlines()[0]
            record.remark(f"{method.name}: {first} [{warning.category.__name__}]")
    return answer


def _ask_head(model: Any, split: Split, classes: Sequence[str]) -> _Answer:
    started = time.perf_counter()
    model.fit(split.X_train, split.y_train)
    fitted = time.perf_counter()
    y_pred = np.asarray(model.predict(split.X_test), dtype=object)
    predicted = time.perf_counter()
    proba = None
    if hasattr(model, "predict_proba"):
        proba = _columns(model.predict_proba(split.X_test), model.classes_, classes)
    return _Answer(model, y_pred, proba, fitted - started, predicted - fitted)


def _ask_baseline(model: Any, split: Split, classes: Sequence[str]) -> _Answer:
    started = time.perf_counter()
    model.fit(split.train)
    fitted = time.perf_counter()
    # One pass over the test images and not two: predict() would be another.
    raw = np.asarray(model.predict_proba(split.test))
    predicted = time.perf_counter()
    y_pred = np.asarray(model.classes_, dtype=object)[raw.argmax(axis=1)]
    curves = {
        name: tuple(float(value) for value in values) for name, values in model.history_.items()
    }
    epochs = int(model.n_epochs_)
    # The median leaves out the first epoch's compiling; the whole fit has it.
    each = float(np.median(curves.get("seconds", ((fitted - started) / epochs,))))
    return _Answer(
        None,
        y_pred,
        _columns(raw, model.classes_, classes),
        fitted - started,
        predicted - fitted,
        epochs,
        each,
        curves,
    )


def _columns(proba: Any, own: Any, classes: Sequence[str]) -> np.ndarray:
    """Return the probabilities with a column a class, in the order of `classes`."""
    rows = np.asarray(proba, dtype=np.float64)
    place = {str(name): column for column, name in enumerate(own)}
    full = np.zeros((len(rows), len(classes)))
    for column, name in enumerate(classes):
        if name in place:
            full[:, column] = rows[:, place[name]]
    return metrics.normalised(full)


def cross_validate(
    method: Method, X: np.ndarray, y: np.ndarray, folds: Iterable[Any], seed: int
) -> Held:
    """Return what a head says over stratified folds of the training rows; NaN on failure."""
    right, proba = np.zeros(len(y), dtype=bool), None
    classes = [str(name) for name in np.unique(y.astype(str))]
    for fit, score in folds:
        with warnings.catch_warnings():
            # The same head is fitted again on all rows, and what it warns of is recorded there.
            warnings.simplefilter("ignore")
            try:
                model = method.make(seed).fit(X[fit], y[fit])
                right[score] = model.predict(X[score]) == y[score]
                if hasattr(model, "predict_proba"):
                    proba = np.zeros((len(y), len(classes))) if proba is None else proba
                    proba[score] = _columns(model.predict_proba(X[score]), model.classes_, classes)
            except Exception:  # a head that fails is not chosen
                logger.warning("%s failed while the head was chosen", method.name, exc_info=True)
                return Held(float("nan"))
    return Held(float(right.mean()), proba)
