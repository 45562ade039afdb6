"""How good a prediction is, how sure we are of it, and whether two predictions really differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn import metrics as sk

LEVEL = 0.95
# 2000 resamples: the advice for percentile intervals is 1000 or more (Efron & Tibshirani 1993,
# "An Introduction to the Bootstrap", section 13.3 and 19.3).
RESAMPLES = 2000
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
class Interval:
    """A range that holds the true value in 95 % of repetitions; 0 to 1, or -1 to 1."""

    low: float
    high: float
    method: str = "percentile bootstrap"


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same pictures.

    Attributes
    ----------
    difference : float
        Accuracy of the first less that of the second.
    interval : Interval
        Bootstrap interval of that difference, pictures resampled in pairs.
    only_first, only_second : int
        Pictures that just one of the two got right (first seed).
    p_value : float
        Probability of a difference as large as this if the two were equally good.
    test : str
        The name of the test that gave `p_value`.
    """

    difference: float
    interval: Interval
    only_first: int
    only_second: int
    p_value: float
    test: str


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
        The names of the columns of `proba`, sorted.

    Notes
    -----
    Balanced accuracy is the mean recall of the classes present in `y_true`. Macro F1 is the plain
    mean over the classes present in `y_true` or `y_pred`; a class never predicted counts 0. Log
    loss clips at the float64 epsilon, as scikit-learn does.
    """
    loss = error = None
    if proba is not None:
        rows = normalised(proba)
        loss = float(sk.log_loss(y_true, rows, labels=list(classes)))
        error = calibration_error(reliability(y_true, rows, classes))
    return Scores(
        accuracy=float(sk.accuracy_score(y_true, y_pred)),
        balanced_accuracy=_balanced(y_true, y_pred),
        macro_f1=float(sk.f1_score(y_true, y_pred, average="macro", zero_division=0)),
        log_loss=loss,
        ece=error,
    )


def _balanced(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    # recall_score over the true classes is balanced_accuracy_score without its warning about
    # predicted classes that are absent from y_true, which is no fault of the prediction's reader.
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
    present = sorted({*map(str, y_true), *map(str, y_pred)})
    names = [show(name) for name in present]
    return str(
        sk.classification_report(
            y_true, y_pred, labels=present, target_names=names, digits=3, zero_division=0
        )
    )


def confusion(y_true: np.ndarray, y_pred: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return counts of shape (n_classes, n_classes): a row a true class, a column a predicted."""
    return np.asarray(sk.confusion_matrix(y_true, y_pred, labels=list(classes)))


def accuracy_interval(correct: np.ndarray) -> Interval:
    """Return the 95 % interval of the accuracy.

    Parameters
    ----------
    correct : ndarray of bool, shape (n,) or (n_seeds, n)
        Whether each picture was right. With several seeds the accuracy is their mean, and the
        pictures are resampled with all their seeds together.

    Notes
    -----
    Percentile bootstrap over pictures, not stratified: another set of pictures from the same
    source would not have just these class counts, so they vary in the resamples too (Efron &
    Tibshirani 1993, chapter 13; computed by scipy.stats.bootstrap). Where every picture is right,
    or every one wrong, all resamples are equal and the bootstrap would claim certainty; the exact
    binomial interval (Clopper & Pearson 1934, scipy.stats.binomtest) is given instead. The
    variance of the training set is not in this interval; the spread over seeds shows a part of it.
    """
    share = np.atleast_2d(np.asarray(correct, dtype=np.float64)).mean(axis=0)
    if share.size < 2 or np.ptp(share) == 0:
        exact = stats.binomtest(round(float(share.sum())), share.size)
        found = exact.proportion_ci(LEVEL, method="exact")
        return Interval(float(found.low), float(found.high), "exact binomial (Clopper-Pearson)")
    return _bootstrap_mean(share)


def _bootstrap_mean(values: np.ndarray) -> Interval:
    """Return the percentile bootstrap interval of the mean of values (n,) that are not all equal.

    The generator is seeded: a report is a function of its rows, so its intervals must be too.
    """
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // values.size),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def compare(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Compare two methods on the same pictures.

    Parameters
    ----------
    first, second : ndarray of bool, shape (n,) or (n_seeds, n)
        Whether each picture was right, in the same order of pictures.

    Notes
    -----
    One seed: McNemar's test in its exact form, a binomial test of the pictures that only one of
    the two got right (McNemar 1947; recommended for two classifiers on one test set by Dietterich
    1998, "Approximate Statistical Tests for Comparing Supervised Classification Learning
    Algorithms"). Several seeds: a sign-flip permutation test of the per-picture differences,
    averaged over seeds, which for one seed is the same test (Good 2005, "Permutation, Parametric
    and Bootstrap Tests of Hypotheses"). The interval is a paired percentile bootstrap.

    Both take the trained models as given: they say whether the two differ on pictures like these,
    not whether another training set would turn the result round.
    """
    one, two = np.atleast_2d(first).astype(bool), np.atleast_2d(second).astype(bool)
    if one.shape[1] != two.shape[1]:
        raise ValueError(
            f"the two methods were tested on {one.shape[1]} and {two.shape[1]} pictures; a paired "
            "comparison needs the same pictures in the same order."
        )
    only_first = int(np.sum(one[0] & ~two[0]))
    only_second = int(np.sum(two[0] & ~one[0]))
    gap = one.mean(axis=0) - two.mean(axis=0)
    if len(one) == len(two) == 1:
        p_value, test = mcnemar(only_first, only_second), "exact McNemar test"
    else:
        p_value, test = _sign_flip(gap), "sign-flip permutation test over pictures"
    return PairedTest(
        difference=float(gap.mean()),
        interval=_gap_interval(gap),
        only_first=only_first,
        only_second=only_second,
        p_value=p_value,
        test=test,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test; 1 where the two never differ."""
    differ = only_first + only_second
    return float(stats.binomtest(only_first, differ, 0.5).pvalue) if differ else 1.0


def _sign_flip(gap: np.ndarray) -> float:
    moved = gap[gap != 0]
    if moved.size < 2:
        return 1.0
    found = stats.permutation_test(
        (moved,),
        np.mean,
        permutation_type="samples",
        n_resamples=9999,
        batch=max(1, 2_000_000 // moved.size),
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _gap_interval(gap: np.ndarray) -> Interval:
    if gap.size < 2 or np.ptp(gap) == 0:
        # No pair differs, or all differ alike: 3/n bounds what n pictures could have missed
        # ("rule of three", Hanley & Lippman-Hand 1983).
        mean, slack = float(gap.mean()), min(1.0, 3 / gap.size)
        return Interval(max(-1.0, mean - slack), min(1.0, mean + slack), "rule of three")
    return _bootstrap_mean(gap)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of comparisons (Holm 1979), in the given order."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty_like(steps)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]


def reliability(
    y_true: np.ndarray, proba: np.ndarray, classes: Sequence[str], bins: int = BINS
) -> list[Bin]:
    """Return the reliability curve of the class each picture was given, empty bins left out.

    Parameters
    ----------
    proba : ndarray of float, shape (n, n_classes)
        Columns named by `classes`; the confidence of a picture is the largest of its row.
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
