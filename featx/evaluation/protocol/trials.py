"""One method trained, timed and scored on each split: results, predictions, curves, failures."""

from __future__ import annotations

import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from featx.backend import load_keras
from featx.errors import FeatxError, OptionError
from featx.evaluation.protocol.splits import Split
from featx.evaluation.results import (
    ExtractionCost,
    History,
    Kind,
    MethodFailure,
    Predictions,
    Result,
)
from featx.evaluation.scores import metrics
from featx.heads import HEADS, factory_of, fitting
from featx.labels import class_order

logger = logging.getLogger(__name__)

Make = Callable[[int], Any]


@dataclass(frozen=True)
class Setting:
    """What all trials on one backbone share.

    Attributes
    ----------
    dataset : str
        The sets, as the report names them.
    classes : tuple of str
        In the order of `featx.labels.class_order`; the columns of all probabilities.
    ids : tuple of str
        All images that are tested, in order.
    versions : str
        The libraries that shape the numbers.
    """

    dataset: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    extraction: ExtractionCost
    versions: str


@dataclass(frozen=True, eq=False)
class Trial:
    """One method, trained and scored with one seed on every split.

    Attributes
    ----------
    backbone : str
        As the report names it.
    results : tuple of Result
        One per split; with a failure, those of the splits before it.
    predictions : Predictions or None
        None where the method failed.
    failure : MethodFailure or None
        None where the method worked on every split.
    remarks : tuple of str
        What the method warned of.
    fitted : estimator or None
        The head, as it was fitted on the last split; None for the baseline and with a failure.
    """

    backbone: str
    method: str
    seed: int
    results: tuple[Result, ...]
    predictions: Predictions | None
    histories: tuple[History, ...]
    failure: MethodFailure | None
    remarks: tuple[str, ...]
    fitted: Any = None


@dataclass(frozen=True)
class Method:
    """A method by name: `make(seed)` returns it unfitted."""

    name: str
    kind: Kind
    make: Make


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A head's predictions for training images that it had not seen.

    Attributes
    ----------
    positions : ndarray of int, shape (n,)
        Which training images, in order: all of them unless some folds alone were scored.
    right : ndarray of bool, shape (n,)
    proba : ndarray of float64, shape (n, n_classes), or None
        Columns in the order of the classes.
    seconds : float
        Wall time of fitting and predicting.
    """

    positions: np.ndarray
    right: np.ndarray
    proba: np.ndarray | None
    seconds: float = 0.0

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return float(self.right.mean())


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


def methods(
    heads: Sequence[Any] | Mapping[str, Any] | None, class_weight: Any = None
) -> list[Method]:
    """Return the heads to compare, by name.

    Parameters
    ----------
    heads : sequence of str or estimators, mapping of name to estimator, or None
        None means every head of `featx.HEADS`.
    class_weight : None, "balanced" or dict
        Of the heads that are given by name; estimators have their own.

    Raises
    ------
    HeadError
        A name that is not in `featx.HEADS`.
    FeatxError
        Two heads of one name; a `class_weight` that is not one.
    """
    if not (class_weight is None or class_weight == "balanced" or isinstance(class_weight, dict)):
        raise OptionError(
            f"class_weight={class_weight!r}: expected None, 'balanced', or a dict of weights by "
            "label."
        )
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
    return [Method(name, "head", _maker(head, class_weight)) for name, head in named]


def _label(head: Any) -> str:
    last = head.steps[-1][1] if hasattr(head, "steps") else head
    return type(last).__name__


def _maker(head: Any, class_weight: Any) -> Make:
    if isinstance(head, str):
        factory = factory_of(head)
        weights = {} if class_weight is None else {"class_weight": class_weight}
        parameters = inspect.signature(factory).parameters.values()
        takes_seed = any(
            one.name == "random_state" or one.kind is one.VAR_KEYWORD for one in parameters
        )
        if takes_seed:
            return lambda seed: factory(random_state=seed, **weights)
        return lambda seed: factory(**weights)
    return lambda seed: _seeded(clone(head), seed)


def _seeded(estimator: Any, seed: int) -> Any:
    wanted = {
        name: seed
        for name in estimator.get_params()
        if name.rpartition("__")[2] in {"random_state", "seed"}
    }
    return estimator.set_params(**wanted)


def run(method: Method, seed: int, splits: Iterable[Split], setting: Setting) -> Trial:
    """Train and score one method with one seed on every split.

    A method that fails ends with its reason, and the others go on: an hour of a baseline must not
    be lost to a head that does not like the data.
    """
    done: list[tuple[Split, _Answer]] = []
    remarks: list[str] = []
    failure = None
    for split in splits:
        try:
            answer, warned = _answer(method, seed, split, setting.classes)
        except Exception as error:  # the run goes on, the report says why
            backbone, kind = setting.extraction.backbone, type(error).__name__
            logger.warning("%s on %s failed", method.name, backbone, exc_info=True)
            failure = MethodFailure(backbone, method.name, seed, split.fold, kind, str(error))
            break
        done.append((split, answer))
        remarks += warned
    return Trial(
        backbone=setting.extraction.backbone,
        method=method.name,
        seed=seed,
        results=tuple(_result(method, seed, split, answer, setting) for split, answer in done),
        predictions=None if failure else _predictions(method, seed, done, setting),
        histories=tuple(
            History(setting.extraction.backbone, seed, split.fold, answer.curves)
            for split, answer in done
            if answer.curves
        ),
        failure=failure,
        remarks=tuple(remarks),
        fitted=None if failure or method.kind == "baseline" else done[-1][1].model,
    )


def _predictions(
    method: Method, seed: int, done: Sequence[tuple[Split, _Answer]], setting: Setting
) -> Predictions:
    """Return the answers of all splits, in the order of the tested images."""
    order = np.argsort(np.concatenate([split.positions for split, _ in done]))
    proba = [answer.proba for _, answer in done if answer.proba is not None]
    return Predictions(
        setting.extraction.backbone,
        method.name,
        method.kind,
        seed,
        setting.ids,
        np.concatenate([split.y_test for split, _ in done])[order],
        np.concatenate([answer.y_pred for _, answer in done])[order],
        np.concatenate(proba)[order] if proba else None,
    )


def _result(method: Method, seed: int, split: Split, answer: _Answer, setting: Setting) -> Result:
    scores = metrics.scores(split.y_test, answer.y_pred, answer.proba, setting.classes)
    extraction, head = setting.extraction, method.kind == "head"
    return Result(
        dataset=setting.dataset,
        backbone=extraction.backbone,
        method=method.name,
        kind=method.kind,
        seed=seed,
        fold=split.fold,
        n_train=len(split.y_train),
        n_test=len(split.y_test),
        accuracy=scores.accuracy,
        balanced_accuracy=scores.balanced_accuracy,
        macro_f1=scores.macro_f1,
        log_loss=scores.log_loss,
        ece=scores.ece,
        extract_seconds=extraction.seconds if head else 0.0,
        images_computed=extraction.computed if head else 0,
        images_cached=extraction.cached if head else 0,
        fit_seconds=answer.fit_seconds,
        predict_seconds=answer.predict_seconds,
        epochs=answer.epochs,
        epoch_seconds=answer.epoch_seconds,
        versions=setting.versions,
    )


def _answer(
    method: Method, seed: int, split: Split, classes: Sequence[str]
) -> tuple[_Answer, list[str]]:
    """Return what the method predicts for a split, and what it warned of."""
    model = method.make(seed)
    with warnings.catch_warnings(record=True) as caught:
        # UserWarning holds scikit-learn's ConvergenceWarning. These mean that a result is weaker
        # than it could be, and belong beside it rather than on a terminal that nobody keeps.
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("always", RuntimeWarning)
        ask = _ask_baseline if method.kind == "baseline" else _ask_head
        answer = ask(model, split, classes)
    remarks = [
        f"{method.name}: {str(one.message).strip().splitlines()[0]} [{one.category.__name__}]"
        for one in caught
        if issubclass(one.category, (UserWarning, RuntimeWarning))
    ]
    return answer, remarks


def _ask_head(model: Any, split: Split, classes: Sequence[str]) -> _Answer:
    started = time.perf_counter()
    fitting.fit(model, split.X_train, split.y_train, groups=split.groups)
    fitted = time.perf_counter()
    y_pred = np.asarray(model.predict(split.X_test), dtype=object)
    predicted = time.perf_counter()
    proba = None
    if hasattr(model, "predict_proba"):
        proba = _columns(model.predict_proba(split.X_test), model.classes_, classes)
    return _Answer(model, y_pred, proba, fitted - started, predicted - fitted)


def _ask_baseline(model: Any, split: Split, classes: Sequence[str]) -> _Answer:
    kept, keep = _kept_heads(model)
    started = time.perf_counter()
    model.fit(
        split.train,
        callbacks=[keep],
        **({} if split.groups is None else {"groups": split.groups}),
    )
    fitted = time.perf_counter()
    # The test images go through the network once: predict() would send them again.
    raw = np.asarray(model.predict_proba(split.test))
    predicted = time.perf_counter()
    y_pred = np.asarray(model.classes_, dtype=object)[raw.argmax(axis=1)]
    curves = {
        name: tuple(float(value) for value in values) for name, values in model.history_.items()
    }
    # After the clocks have stopped, and after the training: nothing is chosen by these.
    curves |= _scored_curves(model, kept, split)
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


def _kept_heads(model: Any) -> tuple[list[Any], Any]:
    """Return a list, and a callback that adds the weights of the head to it after each epoch."""
    keras = load_keras()

    kept: list[Any] = []

    def keep(epoch: int, logs: Any) -> None:
        kept.append([layer.get_weights() for layer in _head_layers(model.model_)])

    return kept, keras.callbacks.LambdaCallback(on_epoch_end=keep)


def _head_layers(network: Any) -> list[Any]:
    return [layer for layer in network.layers if layer.name.startswith("head_")]


def _scored_curves(model: Any, kept: Any, split: Split) -> dict[str, tuple[float, ...]]:
    """Return loss and accuracy on the tested images after each epoch of the baseline.

    The network is frozen, so its head answers from the embeddings that are cached, and no image
    goes through the network again. Empty where the head stands on a map that is not cached.
    """
    keras = load_keras()

    layers = _head_layers(model.model_)
    if layers[0].input.shape[1:] != split.X_test.shape[1:]:
        return {}
    head = keras.Model(layers[0].input, model.model_.output)
    last = [layer.get_weights() for layer in layers]
    names = [str(name) for name in model.classes_]
    loss, accuracy = [], []
    for weights in kept:
        for layer, values in zip(layers, weights, strict=True):
            layer.set_weights(values)
        proba = np.asarray(head(split.X_test, training=False), dtype=np.float64)
        given = np.asarray(names, dtype=object)[proba.argmax(axis=1)]
        accuracy.append(float(np.mean(given == split.y_test)))
        loss.append(metrics.log_loss(split.y_test, metrics.normalised(proba), names))
    for layer, values in zip(layers, last, strict=True):
        layer.set_weights(values)
    return {"scored_loss": tuple(loss), "scored_accuracy": tuple(accuracy)}


def _columns(proba: Any, own: Any, classes: Sequence[str]) -> np.ndarray:
    """Return the probabilities with one column per class of `classes`, 0 where it never trained."""
    given = np.asarray(proba, dtype=np.float64)
    column_of = {name: column for column, name in enumerate(classes)}
    full = np.zeros((len(given), len(classes)))
    full[:, [column_of[str(name)] for name in own]] = given
    return metrics.normalised(full)


def cross_validate(
    method: Method,
    X: np.ndarray,
    y: np.ndarray,
    folds: Iterable[Any],
    seed: int,
    *,
    groups: np.ndarray | None = None,
) -> HeldOut | None:
    """Return a head's predictions over folds of the training features; None where it failed.

    Parameters
    ----------
    groups : ndarray of shape (n,), optional
        For heads that hold samples out while they are fitted; the folds are drawn already.

    Returns
    -------
    HeldOut or None
        Probabilities have their columns in the order of `featx.labels.class_order`.
    """
    classes = [str(name) for name in class_order(y.tolist())]
    order, right, proba = [], [], []
    started = time.perf_counter()
    for fit, score in folds:
        with warnings.catch_warnings():
            # The same head is fitted again on all features; its warnings are recorded there.
            warnings.simplefilter("ignore")
            try:
                inside = None if groups is None else groups[fit]
                model = fitting.fit(method.make(seed), X[fit], y[fit], groups=inside)
                right.append(model.predict(X[score]) == y[score])
                if hasattr(model, "predict_proba"):
                    raw = model.predict_proba(X[score])
                    proba.append(_columns(raw, model.classes_, classes))
            except Exception:  # a head that fails is not chosen
                logger.warning("%s failed while the head was chosen", method.name, exc_info=True)
                return None
        order.append(score)
    scored = np.concatenate(order)
    turn = np.argsort(scored)
    return HeldOut(
        positions=scored[turn],
        right=np.concatenate(right)[turn],
        proba=np.concatenate(proba)[turn] if proba else None,
        seconds=time.perf_counter() - started,
    )
