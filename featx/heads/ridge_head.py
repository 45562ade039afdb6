"""RidgeHead: a linear classifier in closed form, from the sums of one pass over the rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.linalg
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.base import BaseEstimator

from featx.dense import samples_of
from featx.errors import DatasetError, HeadError, OptionError
from featx.heads.linear.answers import LinearAnswers
from featx.heads.linear.few import Few
from featx.heads.linear.rows import Moments, Rows, Sums, sums_of
from featx.heads.threads import limited_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SHRINKAGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
"""The candidates for the shrinkage.

600 flowers (MobileNetV2) asked for about 0.55: log loss 0.46, with 0.1 0.56 and with 0.01 0.66."""

LEAST_SCALE = 0.1
"""The least scale that a column is divided by, as a share of the median of all columns.

A column that is 0 in nearly all training images has a deviation near 0: one test image in which it
is not 0 would outweigh all else."""

UNTUNED = (0.5, 10.0)
"""Shrinkage, and by what scores are multiplied, where no sample can be held out."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Some rows that are kept to choose the shrinkage and the temperature.

    Attributes
    ----------
    X : ndarray of shape (m, n_features)
    codes : ndarray of int, shape (m,)
    weight : ndarray of float64, shape (m,)
    order : ndarray of uint64, shape (m,)
        Numbers that a row's own values decide; the lowest are kept, whatever came first.
    """

    X: NDArray[Any]
    codes: NDArray[np.intp]
    weight: NDArray[np.float64]
    order: NDArray[np.uint64]

    def joined(self, other: Kept, most: int) -> Kept:
        """Return the rows of both with the lowest order."""
        mine = ("X", "codes", "weight", "order")
        both = [np.concatenate([getattr(self, name), getattr(other, name)]) for name in mine]
        lowest = np.argsort(both[3], kind="stable")[:most]
        return Kept(*(part[lowest] for part in both))


class RidgeHead(LinearAnswers, BaseEstimator):
    """Ridge regression to the classes, on standardised features, in closed form.

    Each class is regressed as 1 for its own samples and 0 for others, with one penalty: that of
    `sklearn.linear_model.Ridge`, as a share of the features' own variance. All of it comes from
    sums of one pass over the rows, which may be a memory map larger than the memory, and images
    that arrive later are added to the sums by `partial_fit`: the weights are those of a fit of all
    of them. A linear discriminant of the same sums was as accurate on four data sets, but gave
    images of a rare class a probability of 0 (log loss 0.80 against 0.26 on magnetic tiles).

    The shrinkage and a temperature of the probabilities (Guo et al. 2017) are chosen by the log
    loss of held-out rows: `kept` rows are kept, the sums without a part of them give the weights
    that score this part. Which rows are kept depends on their values, not on their order.

    Parameters
    ----------
    shrinkage : float or None
        0 < shrinkage < 1; None chooses it among `SHRINKAGES`. The penalty is shrinkage /
        (1 - shrinkage) times the mean variance of a feature.
    class_weight : None, "balanced" or dict
        Multiplies the weights of the samples; "balanced" gives every class the same sum, and needs
        `fit`, which sees all of them.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    shrinkage_, temperature_ : float
        Those used. Scores are divided by the temperature, in `coef_` and `intercept_` already.
    losses_ : dict of float to float
        Mean log loss of held-out rows by shrinkage, each at its best temperature.
    arriving_ : bool
        Whether `partial_fit` was used: a file then holds what it goes on from (some 17 MB for
        1,280 features).
    coef_ : ndarray of shape (n_classes, n_features), (1, n_features) for two classes
        Weights for features as they come: the scaling is inside.
    intercept_ : ndarray of shape (n_classes,), (1,) for two classes
    """

    kept: ClassVar[int] = 2048
    """Rows kept; their standard error of a log loss is some 0.02."""

    enough_validation: ClassVar[int] = 750
    """Folds of them are looked at until they have validated so many rows, as in `LogisticHead`."""

    def __init__(self, shrinkage: float | None = None, *, class_weight: Any = None) -> None:
        self.shrinkage = shrinkage
        self.class_weight = class_weight

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> RidgeHead:
        """Sum over all samples, choose the shrinkage and the temperature, and solve.

        `partial_fit` may follow; what it needs is saved in a file only where it was used before.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of any kind, two classes or more.
        sample_weight : array-like of shape (n,), optional
            Numbers of 0 or more, of which only the ratios count; 2 is the same as the sample twice.
        groups : array-like of shape (n,), optional
            Samples of one group are held out together.

        Raises
        ------
        DatasetError
            There is one class only, features are not finite, or weights are not as above.
        """
        found = samples_of(self, X, y, sample_weight, groups).weighted(self.class_weight)
        self.classes_, codes = np.unique(found.y, return_inverse=True)
        with limited_threads(found.X):
            rows = Rows(found.X, None, found.weight)
            kept = _kept(rows, codes, found.groups, self.kept)
            self.kept_: Kept | None = kept
            self.sums_: Sums | None = None
            if len(kept.codes) == rows.n < rows.width:
                few = Few(found.X, rows.weight, LEAST_SCALE)
                rows = Rows(few.values, None, rows.weight)
                sums = sums_of(rows, codes, len(self.classes_))
                self._solve(sums, replace(kept, X=few.values), few)
            else:
                self.sums_ = sums_of(rows, codes, len(self.classes_))
                self._solve(self.sums_, kept)
        self.arriving_ = False
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> RidgeHead:
        """Add samples to the sums, and solve again.

        Parameters
        ----------
        classes : array-like, optional
            Not needed: classes may come later. Where it is given, labels must be among them.

        Raises
        ------
        HeadError
            The head was fitted by `fit` and saved, and a file keeps no sums then.
        DatasetError
            Features are not finite, weights are not as in `fit`, or a label is not in `classes`.
        """
        if self.class_weight == "balanced":
            raise OptionError(
                "class_weight='balanced' needs all samples at once: use fit, or give partial_fit a "
                "dict of weights by label."
            )
        first = not hasattr(self, "kept_")
        before = None if first else self._before()
        found = samples_of(self, X, y, sample_weight, batch=True, reset=first)
        if classes is not None and not np.isin(found.y, np.asarray(classes)).all():
            odd = found.y[~np.isin(found.y, np.asarray(classes))][0]
            raise DatasetError(f"the label {str(odd)!r} is not among the classes that were given.")
        names = found.y if first else np.concatenate([self.classes_, found.y])
        every = np.unique(names)
        weights = self.class_weight or {}
        known = {name: weight for name, weight in weights.items() if name in set(found.y)}
        found = found.weighted(known or None)
        codes = np.searchsorted(every, found.y)
        rows = Rows(found.X, None, found.weight)
        with limited_threads(found.X):
            new = sums_of(rows, codes, len(every), before and before[0])
            kept = _kept(rows, codes, None, self.kept)
            if before is not None:
                moved = np.searchsorted(every, self.classes_)
                new.take(before[0], moved)
                kept = replace(before[1], codes=moved[before[1].codes]).joined(kept, self.kept)
            self.sums_, self.kept_, self.classes_ = new, kept, every
            self.arriving_ = True
            if len(every) > 1:
                self._solve(new, kept)
        return self

    def _before(self) -> tuple[Sums, Kept]:
        """Return the sums of all samples so far, and those that are kept."""
        if self.kept_ is None:
            raise HeadError(
                "this head was saved after fit, without the sums that partial_fit adds to. Fit one "
                "by partial_fit before it is saved."
            )
        if self.sums_ is not None:
            return self.sums_, self.kept_
        # Fewer rows than columns: all of them are kept.
        rows = Rows(self.kept_.X, None, self.kept_.weight)
        return sums_of(rows, self.kept_.codes, len(self.classes_)), self.kept_

    def _solve(self, sums: Sums, kept: Kept, few: Few | None = None) -> None:
        moments = sums.moments()
        scale = np.ones(len(sums.origin))
        if few is None:
            scale = np.maximum(moments.scale, LEAST_SCALE * np.median(moments.scale))
        width = len(scale) if few is None else len(few.scale)
        whole = _Regression(moments, scale, width)
        self.losses_: dict[float, float] = {}
        if self.shrinkage is not None and not 0 < self.shrinkage < 1:
            raise OptionError(f"shrinkage={self.shrinkage!r}: expected 0 < shrinkage < 1, or None.")
        best, inverse = UNTUNED if self.shrinkage is None else (self.shrinkage, UNTUNED[1])
        held = self._held_out(sums, kept, scale, width)
        truth = np.concatenate([one.codes for one in held]) if held else np.empty(0, np.intp)
        if len(np.unique(truth)) > 1:
            weight = np.concatenate([one.weight for one in held])
            found = {}
            for shrinkage in SHRINKAGES if self.shrinkage is None else (self.shrinkage,):
                # One at a time: of 10,000 classes the scores of all would be gigabytes.
                scores = np.concatenate([one.scores(shrinkage) for one in held])
                found[shrinkage] = _temperature(scores, truth, weight)
            self.losses_ = {one: loss for one, (_, loss) in found.items()}
            best = min(self.losses_, key=lambda one: (self.losses_[one], -one))
            inverse = found[best][0]
        coef, intercept = whole.weights(best)
        if len(self.classes_) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.shrinkage_, self.temperature_ = float(best), 1 / inverse
        mean = moments.mean
        if few is not None:
            intercept = intercept - coef @ mean
            coef, scale, mean = few.outside(coef), few.scale, few.mean
        self.coef_ = inverse * coef / scale
        self.intercept_ = inverse * intercept - self.coef_ @ mean

    def _held_out(
        self, sums: Sums, kept: Kept, scale: NDArray[np.float64], width: int
    ) -> list[_HeldOut]:
        """Return parts of the kept rows, with the regressions of all rows but these."""
        # By the low digits: the rows were chosen by the high ones.
        folds = (kept.order % np.uint64(5)).astype(np.intp)
        parts: list[_HeldOut] = []
        for number in range(5):
            held = np.flatnonzero(folds == number)
            if not len(held) or sum(len(part.codes) for part in parts) >= self.enough_validation:
                continue
            rest = sums.without(kept.X[held], kept.codes[held], kept.weight[held])
            there = rest.counts > 1e-9 * sums.counts
            held = held[there[kept.codes[held]]]
            if there.sum() < 2 or not len(held):
                continue
            moments = rest.moments()
            found = _Regression(moments, scale, width, there)
            values = (kept.X[held] - moments.mean) / scale
            parts.append(_HeldOut(found, values, kept.codes[held], kept.weight[held]))
        return parts


class _Regression:
    """The covariance of the features, whose eigenvectors serve every penalty."""

    # width: the columns of the features as they come, of which there may be more.
    def __init__(
        self,
        moments: Moments,
        scale: NDArray[np.float64],
        width: int,
        there: NDArray[np.bool_] | None = None,
    ) -> None:
        self._targets = moments.classes / moments.total / scale
        # A class that is not there can never be the answer.
        share = moments.counts / moments.total
        self._share = share if there is None else np.where(there, share, -np.inf)
        self._spread = moments.scatter / (np.outer(scale, scale) * moments.total)
        # The mean variance; of features without any, all penalties are alike.
        self._level = max(float(np.trace(self._spread)) / width, 1e-8)

    def weights(self, shrinkage: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weights (n_classes, n_features) and intercepts for standardised features."""
        penalised = self._spread.copy()
        penalised[np.diag_indices_from(penalised)] += self._penalty(shrinkage)
        coef = scipy.linalg.solve(penalised, self._targets.T, assume_a="pos", check_finite=False)
        return coef.T, self._share

    def _penalty(self, shrinkage: float) -> float:
        return shrinkage / (1 - shrinkage) * self._level

    @cached_property
    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The variances along the eigenvectors, these vectors, and the targets along them."""
        variances, axes = scipy.linalg.eigh(self._spread, check_finite=False)
        return np.maximum(variances, 0), axes, self._targets @ axes

    def scores(self, turned: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
        """Return the scores (m, n_classes) of rows along the eigenvectors."""
        variances, _, targets = self.axes
        return turned @ (targets / (variances + self._penalty(shrinkage))).T + self._share


class _HeldOut:
    """Held-out rows, and the regression of the others."""

    def __init__(
        self,
        found: _Regression,
        values: NDArray[np.float64],
        codes: NDArray[np.intp],
        weight: NDArray[np.float64],
    ) -> None:
        self.codes, self.weight = codes, weight
        self._found = found
        self._turned = values @ found.axes[1]

    def scores(self, shrinkage: float) -> NDArray[np.float64]:
        """Return the scores of the rows by one shrinkage."""
        return self._found.scores(self._turned, shrinkage)


def _temperature(
    scores: NDArray[np.float64], truth: NDArray[np.intp], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Return by what scores are multiplied for the lowest mean log loss, and that loss."""
    finite = np.where(np.isfinite(scores), scores, np.finfo(np.float64).min / 1e10)
    rows = np.arange(len(truth))

    def loss(exponent: float) -> float:
        scaled = np.exp(exponent) * finite
        return float(np.average(logsumexp(scaled, axis=1) - scaled[rows, truth], weights=weight))

    # Scores are between 0 and 1, more or less; on four data sets they were multiplied by 8 to 13.
    found = minimize_scalar(loss, bounds=(-3, 7), method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def _kept(rows: Rows, codes: NDArray[np.intp], groups: NDArray[np.intp] | None, most: int) -> Kept:
    """Return the rows whose values, or whose group, give the lowest numbers; groups undivided."""
    order = np.concatenate([_order(block) for _, block in rows.blocks()])
    if groups is not None:
        order = _mixed(groups.astype(np.uint64))
    chosen = np.argsort(order, kind="stable")[: most + 1]
    if len(chosen) > most:
        last = order[chosen[-1]]
        whole = chosen[order[chosen] != last]
        # A group that is cut would be trained on and held out at once.
        chosen = whole if groups is not None and len(whole) else chosen[:-1]
    weight = np.ones(rows.n) if rows.weight is None else rows.weight
    ascending = np.sort(chosen)
    return Kept(rows.taken(ascending), codes[ascending], weight[ascending], order[ascending])


def _order(X: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a number for each row that depends on its values, as float32, alone."""
    some = np.ascontiguousarray(X[:, :: max(1, X.shape[1] // 16)], np.float32) + np.float32(0)
    bits = some.view(np.uint32).astype(np.uint64)
    found = np.zeros(len(X), np.uint64)
    for column in bits.T:
        found = _mixed(found ^ column)
    return found


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return whole numbers mixed up, as SplitMix64 does (Steele, Lea and Flood 2014)."""
    found = values + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
