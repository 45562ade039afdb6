"""How sure a score is, and whether two methods really differ on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
# 2000 resamples: the advice for percentile intervals is 1000 or more (Efron & Tibshirani 1993,
# "An Introduction to the Bootstrap", section 13.3 and 19.3).
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A range that holds the true value in 95 % of repetitions; 0 to 1, or -1 to 1."""

    low: float
    high: float
    method: str = "percentile bootstrap"


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same images.

    Attributes
    ----------
    difference : float
        Accuracy of the first less that of the second.
    interval : Interval
        Bootstrap interval of that difference, images resampled in pairs.
    only_first, only_second : int
        Images that just one of the two got right (first seed).
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


def accuracy_interval(correct: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Return the 95 % interval of the accuracy.

    Parameters
    ----------
    correct : ndarray of bool, shape (n,) or (n_seeds, n)
        Whether each image was right. With several seeds the accuracy is their mean, and the
        images are resampled with all their seeds together.
    groups : ndarray of shape (n,), optional
        Of images that are not independent trials, such as those of one patient: whole groups are
        resampled (the cluster bootstrap; Cameron, Gelbach & Miller 2008, "Bootstrap-Based
        Improvements for Inference with Clustered Errors").

    Notes
    -----
    Percentile bootstrap over images, not stratified: another set of images from the same
    source would not have just these class counts, so they vary in the resamples too (Efron &
    Tibshirani 1993, chapter 13; computed by scipy.stats.bootstrap). With few images right, or
    few wrong, it is too narrow, and with none it would claim certainty: it is widened to hold the
    exact binomial interval (Clopper & Pearson 1934), which also lets one more right answer never
    lower either end. With several seeds that takes the images right in the mean, and errs on the
    wide side. The variance of the training set is not in this interval; the spread over seeds
    shows a part of it.
    """
    share = np.atleast_2d(np.asarray(correct, dtype=np.float64)).mean(axis=0)
    exact = binomial_interval(float(share.sum()), share.size)
    if share.size < 2 or np.ptp(share) == 0:
        return exact
    if groups is not None:
        return _widened(_bootstrap_groups(share, groups), exact)
    return _widened(_bootstrap_mean(share), exact)


def binomial_interval(right: float, n: int) -> Interval:
    """Return the exact binomial interval (Clopper & Pearson 1934) of `right` in `n`.

    In its beta form, which a mean over seeds has, too.
    """
    tail = (1 - LEVEL) / 2
    # A sum of means may come out a rounding error beyond the whole numbers that it stands for.
    right = min(max(round(right, 9), 0.0), float(n))
    low = float(stats.beta.ppf(tail, right, n - right + 1)) if right > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, right + 1, n - right)) if right < n else 1.0
    return Interval(low, high, "exact binomial (Clopper-Pearson)")


def _widened(drawn: Interval, exact: Interval) -> Interval:
    """Return a bootstrap interval, widened to hold the exact one."""
    return Interval(
        min(drawn.low, exact.low),
        max(drawn.high, exact.high),
        f"{drawn.method}, widened to the exact binomial interval",
    )


def crossed_interval(correct: np.ndarray) -> Interval:
    """Return the 95 % interval of an accuracy whose training images were drawn several times.

    Parameters
    ----------
    correct : ndarray of bool, shape (n_draws, n)
        Whether each image was right after each draw.

    Notes
    -----
    Draws and images are resampled both, independently (the "pigeonhole" bootstrap, Owen 2007,
    "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)): it covers another choice of
    training images as well as another set of tested ones, and is a little too wide rather than
    too narrow. It is widened as `accuracy_interval` is.
    """
    share = np.asarray(correct, dtype=np.float64)
    draws, n = share.shape
    if draws < 2 or n < 2 or np.ptp(share) == 0:
        return accuracy_interval(share[:1])
    rng = np.random.default_rng(0)
    means = np.empty(RESAMPLES)
    step = max(1, 2_000_000 // n)
    for start in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - start)
        rows = rng.multinomial(draws, np.full(draws, 1 / draws), count)
        columns = rng.multinomial(n, np.full(n, 1 / n), count)
        means[start : start + count] = ((rows @ share) * columns).sum(axis=1) / (draws * n)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    drawn = Interval(float(low), float(high), "pigeonhole bootstrap over draws and images")
    return _widened(drawn, binomial_interval(float(share.mean(axis=0).sum()), n))


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


def _bootstrap_groups(values: np.ndarray, groups: np.ndarray) -> Interval:
    """Return the percentile bootstrap interval of the mean of values (n,), groups resampled."""
    codes = np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(codes, weights=values), np.bincount(codes)
    rng, count = np.random.default_rng(0), len(sizes)
    means = []
    step = max(1, 2_000_000 // count)
    for start in range(0, RESAMPLES, step):
        many = min(step, RESAMPLES - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), many)
        means.append((drawn @ sums) / (drawn @ sizes))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), "percentile bootstrap over groups")


def compare(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> PairedTest:
    """Compare two methods on the same images.

    Parameters
    ----------
    first, second : ndarray of bool, shape (n,) or (n_seeds, n)
        Whether each image was right, in the same order of images.
    groups : ndarray of shape (n,), optional
        Of images that are not independent trials, such as those of one patient: the signs of whole
        groups are flipped, and whole groups are resampled.

    Notes
    -----
    One seed: McNemar's test in its exact form, a binomial test of the images that only one of
    the two got right (McNemar 1947; recommended for two classifiers on one test set by Dietterich
    1998, "Approximate Statistical Tests for Comparing Supervised Classification Learning
    Algorithms"). Several seeds: a sign-flip permutation test of the per-image differences,
    averaged over seeds, which for one seed is the same test (Good 2005, "Permutation, Parametric
    and Bootstrap Tests of Hypotheses"). The interval is a paired percentile bootstrap.

    Both take the trained models as given: they say whether the two differ on images like these,
    not whether another training set would turn the result round.
    """
    one, two = np.atleast_2d(first).astype(bool), np.atleast_2d(second).astype(bool)
    if one.shape[1] != two.shape[1]:
        raise ValueError(
            f"the two methods were tested on {one.shape[1]} and {two.shape[1]} images; a paired "
            "comparison needs the same images in the same order."
        )
    only_first = int(np.sum(one[0] & ~two[0]))
    only_second = int(np.sum(two[0] & ~one[0]))
    gap = one.mean(axis=0) - two.mean(axis=0)
    if groups is not None:
        sums = np.bincount(np.unique(groups, return_inverse=True)[1], weights=gap)
        p_value, test = _sign_flip(sums), "sign-flip permutation test over groups"
    elif len(one) == len(two) == 1:
        p_value, test = mcnemar(only_first, only_second), "exact McNemar test"
    else:
        p_value, test = _sign_flip(gap), "sign-flip permutation test over images"
    return PairedTest(
        difference=float(gap.mean()),
        interval=_gap_interval(gap, groups),
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


def _gap_interval(gap: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    if gap.size < 2 or np.ptp(gap) == 0:
        # No pair differs, or all differ alike: 3/n bounds what n images could have missed
        # ("rule of three", Hanley & Lippman-Hand 1983).
        mean, slack = float(gap.mean()), min(1.0, 3 / gap.size)
        return Interval(max(-1.0, mean - slack), min(1.0, mean + slack), "rule of three")
    return _bootstrap_mean(gap) if groups is None else _bootstrap_groups(gap, groups)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of comparisons (Holm 1979), in the given order."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty_like(steps)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]
