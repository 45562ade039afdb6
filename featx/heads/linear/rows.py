"""The rows of a matrix, some of them, in blocks: as they come or standardised as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.linalg import blas

from featx.heads.threads import blocks_in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES = 4 << 20
"""A block of rows: large enough for the matrix products, small enough for a processor's cache.

Of 1 to 100 MB, 4 to 40 MB took the least processor time for 1,280 columns and 10 classes; each
thread has a block or two of its own."""

_KEPT_SIZE = 1_000_000  # numbers up to which float32 is computed in float64: it costs nothing there


class Rows:
    """Some rows of a matrix, read in blocks.

    Parameters
    ----------
    X : ndarray of float32 or float64, shape (n, n_features)
        May be a memory map that is larger than the memory: it is never copied as a whole.
    which : ndarray of int, optional
        Ascending positions of the rows meant; all of them by default.
    weight : ndarray of float64, optional
        A weight for each row meant.
    block_bytes : int
        The size of a block in float32.
    """

    def __init__(
        self,
        X: NDArray[Any],
        which: NDArray[np.intp] | None = None,
        weight: NDArray[np.float64] | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._X = X
        self._which = which
        self.weight = weight
        self.block_bytes = block_bytes
        self.n = len(X) if which is None else len(which)
        self.width = X.shape[1]
        small = X.dtype == np.float64 or self.n * self.width <= _KEPT_SIZE
        self.dtype: Any = np.float64 if small else np.float32

    def taken(self, positions: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some of the rows meant."""
        which = positions if self._which is None else self._which[positions]
        return np.array(self._X[which])

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.n) if self.weight is None else float(self.weight.sum())

    def parts(self) -> Iterator[slice]:
        """Yield the positions of each block among the rows meant."""
        step = max(64, self.block_bytes // (self.width * 4))
        for begin in range(0, self.n, step):
            yield slice(begin, min(begin + step, self.n))

    def block(self, part: slice) -> NDArray[Any]:
        """Return the values of a block as they come."""
        found = self._X[part] if self._which is None else self._X[self._which[part]]
        return np.asarray(found)

    def blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield the positions of each block among the rows meant, and its values as they come."""
        for part in self.parts():
            yield part, self.block(part)


@dataclass(frozen=True, eq=False)
class Moments:
    """The sums of one pass that standardisation, preconditioners and ridge need.

    Attributes
    ----------
    total : float
        The sum of the weights.
    mean : ndarray of float64, shape (n_features,)
    scatter : ndarray of float64, shape (n_features, n_features)
        The weighted sum of (x - mean)(x - mean)'.
    classes : ndarray of float64, shape (n_classes, n_features)
        The weighted sum of x - mean over the rows of each class.
    counts : ndarray of float64, shape (n_classes,)
        The weight of each class.
    """

    total: float
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]
    classes: NDArray[np.float64]
    counts: NDArray[np.float64]

    @property
    def scale(self) -> NDArray[np.float64]:
        """The standard deviation of each column; 1 for one that is constant."""
        variance = np.diagonal(self.scatter) / self.total
        # A column of one value differs from its mean by the mean's rounding alone.
        constant = variance <= (10 * np.finfo(np.float64).eps * self.mean) ** 2
        return np.sqrt(np.where(constant, 1.0, variance))


class Sums:
    """Moments while they are summed: products of a block in its own precision, sums in float64.

    Sums are about an origin near the rows, the mean of the first block, since squares of values
    that are far from it would lose their digits.
    """

    def __init__(self, origin: NDArray[np.float64], n_classes: int) -> None:
        d = len(origin)
        self.origin = origin
        self.squares = np.zeros((d, d), order="F")  # its upper triangle
        self.classes = np.zeros((n_classes, d))
        self.counts = np.zeros(n_classes)

    def add(
        self,
        values: NDArray[Any],
        codes: NDArray[np.intp],
        weight: NDArray[np.float64] | None,
        sign: float = 1.0,
    ) -> None:
        """Add rows (m, n_features) of the classes `codes`; with the sign -1 take them away."""
        values = values - self.origin.astype(values.dtype)
        each = np.ones(len(values)) if weight is None else weight
        self.counts += sign * np.bincount(codes, weights=each, minlength=len(self.counts))
        present, own = np.unique(codes, return_inverse=True)
        if len(present) <= _FEW:
            member = np.zeros((len(present), len(values)), values.dtype)
            member[own, np.arange(len(values))] = each
            self.classes[present] += sign * (member @ values)
        else:
            by_class = np.argsort(own, kind="stable")
            starts = np.searchsorted(own[by_class], np.arange(len(present)))
            weighted = (values * each[:, None].astype(values.dtype))[by_class]
            self.classes[present] += sign * np.add.reduceat(weighted, starts, axis=0)
        if weight is not None:
            values = values * np.sqrt(weight)[:, None].astype(values.dtype)
        product = blas.ssyrk if values.dtype == np.float32 else blas.dsyrk
        self.squares += sign * product(1.0, np.ascontiguousarray(values).T)

    def without(
        self, values: NDArray[Any], codes: NDArray[np.intp], weight: NDArray[np.float64]
    ) -> Sums:
        """Return the sums without some of the rows that were added."""
        found = Sums(self.origin, len(self.counts))
        found.squares += self.squares
        found.classes += self.classes
        found.counts += self.counts
        found.add(values.astype(np.float64), codes, weight, -1.0)
        return found

    def take(self, other: Sums, classes: NDArray[np.intp]) -> None:
        """Add the sums of other rows about the same origin, whose classes have these codes here."""
        self.squares += other.squares
        self.classes[classes] += other.classes
        self.counts[classes] += other.counts

    def moments(self) -> Moments:
        """Return the moments of all rows that were added."""
        total = float(self.counts.sum())
        shift = self.classes.sum(axis=0) / total
        scatter = np.triu(self.squares)
        scatter = scatter + scatter.T - np.diag(np.diagonal(scatter))
        scatter -= total * np.outer(shift, shift)
        classes = self.classes - self.counts[:, None] * shift
        return Moments(total, self.origin + shift, scatter, classes, self.counts.copy())


_FEW = 64  # classes in a block up to which their sums are one product of matrices


_TOGETHER = 4
"""Blocks that a thread sums before its sums are added to the others'.

One at a time took 0.7 s of 2.3 s for the additions alone, on 50,000 x 1,280 embeddings."""


def sums_of(rows: Rows, codes: NDArray[np.intp], n_classes: int, like: Sums | None = None) -> Sums:
    """Return the sums of one pass over the rows, `codes` being the class of each.

    Parameters
    ----------
    like : Sums, optional
        Whose origin is taken.
    """
    parts = list(rows.parts())
    if like is None:
        origin = rows.block(parts[0]).astype(rows.dtype, copy=False).mean(axis=0, dtype=np.float64)
    else:
        origin = like.origin

    def summed(group: list[slice]) -> Sums:
        found = Sums(origin, n_classes)
        for part in group:
            values = rows.block(part).astype(rows.dtype, copy=False)
            found.add(values, codes[part], None if rows.weight is None else rows.weight[part])
        return found

    groups = [parts[begin : begin + _TOGETHER] for begin in range(0, len(parts), _TOGETHER)]
    sums, every = Sums(origin, n_classes), np.arange(n_classes)
    with blocks_in_threads(rows.n * rows.width) as run:
        for found in run(summed, groups):
            sums.take(found, every)
    return sums


class Standardised:
    """Rows with a mean of 0 and a deviation of 1, made block by block as they are read.

    Parameters
    ----------
    rows : Rows
    mean, scale : ndarray of float64, shape (n_features,)
    """

    kept_bytes: ClassVar[int] = 1 << 30
    """Up to this size they are kept; more are made anew in every pass."""

    def __init__(self, rows: Rows, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        self.n, self.width, self.dtype = rows.n, rows.width, rows.dtype
        self.weight, self.total = rows.weight, rows.total
        self._rows = rows
        self._mean, self._scale = mean.astype(self.dtype), scale.astype(self.dtype)
        self._kept: NDArray[Any] | None = None
        if rows.n * rows.width * np.dtype(self.dtype).itemsize <= self.kept_bytes:
            kept = np.empty((rows.n, rows.width), self.dtype)
            for part in self.parts():
                kept[part] = self.block(part)
            self._kept = kept

    def parts(self) -> Iterator[slice]:
        """Yield the positions of each block among the rows."""
        return self._rows.parts()

    def block(self, part: slice) -> NDArray[Any]:
        """Return the values of a block."""
        if self._kept is not None:
            return self._kept[part]
        values = np.subtract(self._rows.block(part), self._mean, dtype=self.dtype)
        values /= self._scale
        return values


def scores_of(
    X: NDArray[Any], coef: NDArray[np.float64], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return X @ coef + intercept in float64, in blocks: X is never converted as a whole."""
    scores = np.empty((len(X), coef.shape[1]))
    for part, block in Rows(X).blocks():
        scores[part] = block.astype(np.float64) @ coef + intercept
    return scores
