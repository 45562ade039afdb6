"""Losses of linear models: for the scores of a block, their sum and what pulls each score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.special import expit

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Loss(Protocol):
    """A convex loss of scores.

    Attributes
    ----------
    columns : int
        Scores a row has.
    curvature : float
        About the mean second derivative of a row's loss by one score, near the optimum. It shapes
        the preconditioner and nothing else.
    intercept_penalised : bool
    """

    columns: int
    curvature: float
    intercept_penalised: bool

    def __call__(
        self, scores: NDArray[Any], part: slice, weight: NDArray[np.float64] | None
    ) -> tuple[float, NDArray[Any], NDArray[np.float64]]:
        """Return the weighted sum of the losses, its derivatives, and their own by each column.

        Parameters
        ----------
        scores : ndarray of shape (columns, rows)
            May be overwritten by the derivatives, which have its shape.
        part : slice
            The positions of the rows.
        weight : ndarray of shape (rows,), optional
        """


class Softmax:
    """The multinomial log loss: a column for each class."""

    intercept_penalised = False

    def __init__(self, codes: NDArray[np.intp], n_classes: int) -> None:
        self._codes = codes
        self.columns = n_classes
        # That of equal probabilities is 1/K (1 - 1/K). Near the optimum few rows are undecided: on
        # MobileNetV2's embeddings a third of it; a tenth took the fewest iterations.
        self.curvature = 0.1 / n_classes * (1 - 1 / n_classes)

    def __call__(
        self, scores: NDArray[Any], part: slice, weight: NDArray[np.float64] | None
    ) -> tuple[float, NDArray[Any], NDArray[np.float64]]:
        """Return the weighted sum of the log losses, and its two derivatives."""
        codes = self._codes[part]
        at = (codes, np.arange(len(codes)))
        scores -= scores.max(axis=0)
        true = scores[at].astype(np.float64)
        np.exp(scores, out=scores)
        sums = scores.sum(axis=0)
        losses = np.log(sums.astype(np.float64)) - true
        scores /= sums
        scores[at] -= 1
        if weight is None:
            return float(losses.sum()), scores, _bends(scores).sum(axis=1, dtype=np.float64)
        bends = _bends(scores) @ weight
        scores *= weight.astype(scores.dtype)
        return float(losses @ weight), scores, bends


def _bends(pull: NDArray[Any]) -> NDArray[Any]:
    """Return p (1 - p), the second derivative of a log loss, of p - 1 or p, its first."""
    size = np.abs(pull)
    return size * (1 - size)


class Sigmoid:
    """The binary log loss: one column, above 0 for the second class."""

    intercept_penalised = False
    columns = 1
    curvature = 0.025  # a tenth of 1/4, that of equal probabilities, as in `Softmax`

    def __init__(self, codes: NDArray[np.intp]) -> None:
        self._second = codes.astype(np.float64)

    def __call__(
        self, scores: NDArray[Any], part: slice, weight: NDArray[np.float64] | None
    ) -> tuple[float, NDArray[Any], NDArray[np.float64]]:
        """Return the weighted sum of the log losses, and its two derivatives."""
        truth = self._second[part]
        values = scores[0].astype(np.float64)
        losses = np.logaddexp(0, np.where(truth == 1, -values, values))
        pull = expit(values) - truth
        each = np.ones(len(pull)) if weight is None else weight
        slopes = (pull * each)[None].astype(scores.dtype)
        return float(losses @ each), slopes, np.array([_bends(pull) @ each])


class SquaredHinge:
    """The squared hinge loss of each class against the rest, with one column for two classes."""

    intercept_penalised = True

    def __init__(self, codes: NDArray[np.intp], n_classes: int) -> None:
        self._codes = codes
        self.columns = 1 if n_classes == 2 else n_classes
        # 2 for a row within the margin, 0 beyond it.
        self.curvature = 1.0

    def __call__(
        self, scores: NDArray[Any], part: slice, weight: NDArray[np.float64] | None
    ) -> tuple[float, NDArray[Any], NDArray[np.float64]]:
        """Return the weighted sum of the squared hinges, and its two derivatives."""
        codes = self._codes[part]
        if self.columns == 1:
            sign = np.where(codes == 1, 1, -1).astype(scores.dtype)[None]
        else:
            sign = np.full(scores.shape, -1, scores.dtype)
            sign[codes, np.arange(len(codes))] = 1
        missing = np.maximum(1 - sign * scores, 0)
        losses = np.square(missing).sum(axis=0, dtype=np.float64)
        pull = -2 * sign * missing
        each = np.ones(len(losses)) if weight is None else weight
        bends = 2 * (missing > 0) @ each
        return float(losses @ each), pull * each.astype(pull.dtype), bends
