"""Temperature: by how much a method is too sure of itself, learnt without the images it tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from featx.evaluation.results import Predictions
from featx.evaluation.scores import metrics
from featx.evaluation.scores.metrics import Bin

# Beyond a factor of 50 either way the probabilities are uniform, or 0 and 1.
_WIDEST = float(np.log(50))


@dataclass(frozen=True)
class Temperature:
    """One method with its probabilities raised to the power of 1 / `value`, first seed.

    Attributes
    ----------
    value : float
        Above 1: the method claims too much, and is made less sure. With folds, the geometric mean
        of those of the folds.
    source : str
        In words, on which answers it was fitted; never on those that it is scored on.
    ece_before, ece_after, log_loss_before, log_loss_after : float
        On the tested images.
    calibration : tuple of Bin
        The reliability curve after.
    """

    backbone: str
    method: str
    value: float
    source: str
    ece_before: float
    ece_after: float
    log_loss_before: float
    log_loss_after: float
    calibration: tuple[Bin, ...]


def fit(proba: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> float:
    """Return the temperature with the least log loss.

    Parameters
    ----------
    proba : ndarray of float, shape (n, n_classes)
        Of images that the method had not seen; columns named by `classes`.
    y : ndarray of str, shape (n,)

    Notes
    -----
    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Logarithms of
    probabilities stand for the logits: the two differ by one constant per row, which softmax drops.
    """
    place = {name: column for column, name in enumerate(classes)}
    true = np.asarray([place[str(name)] for name in y])
    logs, rows = _logs(proba), np.arange(len(true))

    def loss(logarithm: float) -> float:
        scaled = softmax(logs / np.exp(logarithm), axis=1)[rows, true]
        return float(-np.log(np.maximum(scaled, np.finfo(np.float64).tiny)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded").x))


def scaled(proba: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities at a temperature; the class with the largest stays the same."""
    return np.asarray(softmax(_logs(proba) / temperature, axis=1))


def _logs(proba: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(metrics.normalised(proba), np.finfo(np.float64).eps)))


def from_training(
    answers: Predictions, held: np.ndarray, y: np.ndarray, classes: Sequence[str], source: str
) -> Temperature:
    """Return the temperature fitted on answers for training images that were held out.

    Parameters
    ----------
    held : ndarray of float, shape (n_held, n_classes)
        What models that had not seen a training image said of it.
    y : ndarray of str, shape (n_held,)
    source : str
        In words, how they were held out.
    """
    value = fit(held, y, classes)
    proba = scaled(_known(answers), value)
    return _judged(answers, proba, value, source, classes)


def across_folds(
    answers: Predictions, folds: Sequence[np.ndarray], classes: Sequence[str]
) -> Temperature:
    """Return each fold at the temperature fitted on the answers for the other folds.

    Parameters
    ----------
    folds : sequence of ndarray of int
        The positions that each fold scores.
    """
    before = _known(answers)
    proba, values = np.empty_like(before), []
    for score in folds:
        others = np.setdiff1d(np.arange(len(before)), score)
        values.append(fit(before[others], answers.y_true[others], classes))
        proba[score] = scaled(before[score], values[-1])
    value = float(np.exp(np.mean(np.log(values))))
    source = "the held-out answers of the other folds, for each fold"
    return _judged(answers, proba, value, source, classes)


def _known(answers: Predictions) -> np.ndarray:
    if answers.proba is None:
        raise ValueError(f"{answers.method} gives no probabilities, so it has no temperature.")
    return answers.proba


def _judged(
    answers: Predictions, proba: np.ndarray, value: float, source: str, classes: Sequence[str]
) -> Temperature:
    before = metrics.normalised(_known(answers))
    y = answers.y_true
    curve = metrics.reliability(y, proba, classes)
    return Temperature(
        backbone=answers.backbone,
        method=answers.method,
        value=value,
        source=source,
        ece_before=metrics.calibration_error(metrics.reliability(y, before, classes)),
        ece_after=metrics.calibration_error(curve),
        log_loss_before=metrics.log_loss(y, before, classes),
        log_loss_after=metrics.log_loss(y, metrics.normalised(proba), classes),
        calibration=tuple(curve),
    )
