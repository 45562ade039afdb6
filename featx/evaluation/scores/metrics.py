"""How good a prediction is: scores, classes one by one, confusions, calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sk

from featx.labels import class_order

# 15 bins of equal width, as in Guo et al. 2017, "On Calibration of Modern Neural Networks".
BINS = 15


@dataclass(frozen=True)
class Scores:
    """The scores of one prediction; the last two are None without probabilities."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float | None
    ece: float | None


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability curve: claimed confidence against the share that was right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def scores(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    proba: np.ndarray | None = None,
    classes: Sequence[str] = (),
) -> Scores:
    """Return the scores of one prediction by scikit-learn's definitions.

    Parameters
    ----------
    y_true, y_pred : ndarray of str, shape (n,)
    proba : ndarray of float, shape (n, n_classes), or None
        Rows are scaled to sum to one, since float32 softmax rows do so only nearly.
    classes : sequence of str
        The names of the columns of `proba`.

    Notes
    -----
    Balanced accuracy is the mean recall of the classes present in `y_true`. Macro F1 is the plain
    mean over the classes present in `y_true` or `y_pred`; a class never predicted counts 0. Log
    loss clips at the float64 epsilon, as scikit-learn does.
    """
    loss = error = None
    if proba is not None:
        rows = normalised(proba)
        loss = log_loss(y_true, rows, classes)
        error = calibration_error(reliability(y_true, rows, classes))
    return Scores(
        accuracy=float(sk.accuracy_score(y_true, y_pred)),
        balanced_accuracy=_balanced(y_true, y_pred),
        macro_f1=float(sk.f1_score(y_true, y_pred, average="macro", zero_division=0)),
        log_loss=loss,
        ece=error,
    )


def log_loss(y_true: np.ndarray, proba: np.ndarray, classes: Sequence[str]) -> float:
    """Return scikit-learn's log loss of probabilities whose columns are in the order of `classes`.

    scikit-learn itself takes the columns to be in the order of the names' characters, and "10"
    comes after "9" here.
    """
    names = np.asarray(classes, dtype=str)
    order = np.argsort(names)
    return float(sk.log_loss(y_true.astype(str), proba[:, order], labels=names[order]))


def _balanced(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    # recall_score over the true classes is balanced_accuracy_score without its warning about
    # predicted classes that are absent from y_true, which a reader of the scores cannot mend.
    present = np.unique(y_true)
    recall = sk.recall_score(y_true, y_pred, labels=present, average="macro", zero_division=0)
    return float(recall)


def normalised(proba: np.ndarray) -> np.ndarray:
    """Return float64 rows that sum to one; a row of zeros becomes uniform."""
    rows = np.asarray(proba, dtype=np.float64)
    total = rows.sum(axis=1, keepdims=True)
    uniform = np.full_like(rows, 1 / rows.shape[1])
    return np.divide(rows, total, out=uniform, where=total > 0)


def classification_text(
    y_true: np.ndarray, y_pred: np.ndarray, show: Callable[[str], str] = str
) -> str:
    """Return scikit-learn's classification report as text, three digits.

    Parameters
    ----------
    show : callable
        Class name -> what the table calls it.
    """
    present = class_order({*map(str, y_true), *map(str, y_pred)})
    names = [show(name) for name in present]
    return str(
        sk.classification_report(
            y_true, y_pred, labels=present, target_names=names, digits=3, zero_division=0
        )
    )


def confusion(y_true: np.ndarray, y_pred: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return counts of shape (n_classes, n_classes): rows by true class, columns by predicted."""
    return np.asarray(sk.confusion_matrix(y_true, y_pred, labels=list(classes)))


def reliability(
    y_true: np.ndarray, proba: np.ndarray, classes: Sequence[str], bins: int = BINS
) -> list[Bin]:
    """Return the reliability curve of the class each image was given, empty bins left out.

    Parameters
    ----------
    proba : ndarray of float, shape (n, n_classes)
        Columns named by `classes`; the confidence of an image is the largest of its row.
    bins : int
        Bins of equal width over 0 to 1.
    """
    confidence = np.clip(proba.max(axis=1), 0.0, 1.0)
    right = np.asarray(classes, dtype=object)[proba.argmax(axis=1)] == y_true
    edges = np.linspace(0.0, 1.0, bins + 1)
    where = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, bins - 1)
    return [
        Bin(
            low=float(edges[number]),
            high=float(edges[number + 1]),
            count=int(np.sum(where == number)),
            confidence=float(confidence[where == number].mean()),
            accuracy=float(right[where == number].mean()),
        )
        for number in np.unique(where)
    ]


def calibration_error(curve: Sequence[Bin]) -> float:
    """Return the expected calibration error (Naeini et al. 2015; Guo et al. 2017), 0 to 1."""
    total = sum(bin_.count for bin_ in curve)
    return float(sum(bin_.count * abs(bin_.accuracy - bin_.confidence) for bin_ in curve) / total)
