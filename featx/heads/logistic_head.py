"""LogisticHead: L2 logistic regression on standardised features, C chosen by cross-validation."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from joblib import Parallel, delayed
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from featx.dense import samples_of
from featx.dense.samples import Samples
from featx.heads.folds import StratifiedFolds, can_be_folded
from featx.heads.linear.answers import LinearAnswers
from featx.heads.linear.few import Few
from featx.heads.linear.losses import Loss, Sigmoid, Softmax
from featx.heads.linear.rows import Rows, Standardised, scores_of, sums_of
from featx.heads.linear.solver import TOLERANCE, Preconditioner, Solution, solve
from featx.heads.threads import limited_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_LOG = logging.getLogger(__name__)

CS = np.logspace(-5, 1, 20)
"""The candidates for C, strongest penalty first."""

START = 10
"""Where the search begins: C = 0.014, what embeddings of photographs asked for, or one step less.

From one step below, four data sets got the same accuracy and took 5 to 11 % more time."""

UNTUNED_C = 0.01
"""C where no folds can be formed, because fewer than two classes have two samples."""

ROUGH = 1e-2
"""How far above their optimum the fits may end that put the candidates in order.

Where two candidates are closer than such fits can tell, they are fitted ten times closer, down to
`FINE`."""

APART = 8
"""Held-out losses of two candidates are told apart from `APART` x sqrt(tolerance / samples) on.

A model that is e above its optimum has scores that are off by about sqrt(e), one way in one sample
and the other in the next. Measured with tolerances of 1e-2 to 1e-4 and 120 to 10,000 held-out
samples on embeddings of five sets, on digits and on made rows of 2, 20 and 100 classes: differences
were off by 0.4 to 7.2 times sqrt(tolerance / samples).
"""

FINE = 1e-6


class _Split:
    """The samples of one fit: standardised rows, the factor that serves every C, and the way back.

    Parameters
    ----------
    X, which, codes, weight
        The rows `which` of X, their classes 0, 1, ... and weights.
    C : float
        Near which the factor is best.
    curvature : float, optional
        As in `Loss`, where it is known better than from the number of classes.
    """

    def __init__(
        self, X: NDArray[Any], which: NDArray[np.intp] | None, codes: NDArray[np.intp],
        weight: NDArray[np.float64] | None, C: float, curvature: float | None = None,
    ) -> None:  # fmt: skip
        k = int(codes.max()) + 1
        self.loss: Loss = Sigmoid(codes) if k == 2 else Softmax(codes, k)
        self.few: Few | None = None
        rows = Rows(X, which, weight)
        if rows.n < rows.width:
            self.few = Few(X if which is None else X[which], weight)
            self.mean, self.scale = self.few.mean, self.few.scale
            rows = Rows(self.few.values, None, weight)
            moments = sums_of(rows, codes, k).moments()
            self.rows = Standardised(rows, np.zeros(rows.width), np.ones(rows.width))
            scatter, classes = moments.scatter, moments.classes
        else:
            moments = sums_of(rows, codes, k).moments()
            self.mean, self.scale = moments.mean, moments.scale
            self.rows = Standardised(rows, self.mean, self.scale)
            scatter = moments.scatter / np.outer(self.scale, self.scale)
            classes = moments.classes / self.scale
        strength = C * (self.loss.curvature if curvature is None else curvature)
        self.factor = Preconditioner(scatter, moments.total, strength)
        # Where the search begins: the discriminant of least squares, by the factor that is there.
        # A tenth, since the curvature is taken for a tenth of that of equal probabilities.
        pulls = classes[1:] if k == 2 else classes
        counts = moments.counts
        self._begin = (
            -0.1 * C * self.factor.newton(pulls.T),
            np.log(counts[1:] / counts[:1]) if k == 2 else np.log(counts / moments.total),
        )

    def fitted(
        self,
        C: float,
        start: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
        tolerance: float,
        max_iter: int,
    ) -> Solution:
        """Return the model of one C, in the split's own coordinates."""
        return solve(
            self.rows, self.loss, C, self.factor, start or self._begin,
            tolerance=tolerance, max_iter=max_iter,
        )  # fmt: skip

    def original(self, found: Solution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weights (columns, n_features) that score features as they come."""
        coef = found.coef.T
        coef = (coef if self.few is None else self.few.outside(coef)) / self.scale
        return coef, found.intercept - coef @ self.mean

    def start(
        self, coef: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights that score features as they come in the split's own coordinates."""
        own = coef * self.scale
        return (own if self.few is None else self.few.inside(own)).T, intercept + coef @ self.mean


class _Fold:
    """One split with its held-out samples, its models going on from one C to the next."""

    def __init__(self, found: Samples, train: Any, valid: Any, max_iter: int) -> None:
        seen, codes = np.unique(found.y[train], return_inverse=True)
        weight = None if found.weight is None else found.weight[train]
        self.every_class = len(seen) == int(found.y.max()) + 1
        self.split = _Split(found.X, train, codes, weight, float(CS[START]))
        self.max_iter = max_iter
        valid = valid[np.isin(found.y[valid], seen)]
        self._valid = Rows(found.X, valid)
        self._truth = np.searchsorted(seen, found.y[valid])
        self.valid_weight = None if found.weight is None else found.weight[valid]
        self.models: dict[float, Solution] = {}

    @property
    def held_out(self) -> int:
        """How many samples judge the fold's models."""
        return len(self._truth)

    @property
    def size(self) -> float:
        """How much the fold's loss counts beside those of other folds."""
        return 1.0 if self.valid_weight is None else float(self.valid_weight.sum())

    def losses(self, C: float, tolerance: float) -> NDArray[np.float64]:
        """Return the log loss of each held-out sample, by the model of one C."""
        known = self.models.get(C)
        if known is None or known.excess > tolerance:
            near = known
            if near is None and self.models:
                near = self.models[min(self.models, key=lambda one: abs(np.log(one / C)))]
            start = None if near is None else (near.coef, near.intercept)
            self.models[C] = self.split.fitted(C, start, tolerance, self.max_iter)
        coef, intercept = self.split.original(self.models[C])
        losses = np.empty(self.held_out)
        for part, block in self._valid.blocks():
            scores = scores_of(block, coef.T, intercept)
            if scores.shape[1] == 1:
                scores = np.hstack([np.zeros_like(scores), scores])
            true = scores[np.arange(len(scores)), self._truth[part]]
            losses[part] = logsumexp(scores, axis=1) - true
        return losses


_Near = tuple[tuple[Any, Any] | None, float | None]
"""Weights and intercepts near those sought, and the curvature there, as far as they are known."""


class _Search:
    """The losses of candidates on the held-out samples of all folds."""

    def __init__(self, folds: list[_Fold], run: Any) -> None:
        self._folds, self._run = folds, run
        shares = np.array([fold.size for fold in folds])
        # Of each sample: its share of its fold's mean, times its fold's share of the whole.
        self._share = np.concatenate(
            [
                np.full(fold.held_out, 1 / fold.held_out)
                if fold.valid_weight is None
                else fold.valid_weight / fold.valid_weight.sum()
                for fold in folds
            ]
        ) * np.repeat(shares / shares.sum(), [fold.held_out for fold in folds])
        self._known: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def losses(self, position: int, tolerance: float) -> NDArray[np.float64]:
        """Return the loss of every held-out sample by the candidate's models."""
        found = self._known.get(position)
        if found is None or found[0] > tolerance:
            C = float(CS[position])
            parts = self._run(delayed(fold.losses)(C, tolerance) for fold in self._folds)
            found = self._known[position] = (tolerance, np.concatenate(parts))
        return found[1]

    def better(self, one: int, other: int) -> bool:
        """Return whether a candidate's mean loss is lower, by more than fits are apart by chance.

        Both are fitted closer until it shows. False where it does not.
        """
        tolerance = ROUGH
        while True:
            lead = self.losses(other, tolerance) - self.losses(one, tolerance)
            gain = float(lead @ self._share)
            if abs(gain) > APART * (tolerance / len(lead)) ** 0.5:
                return gain > 0
            if tolerance <= FINE:
                _LOG.info("C = %.3g and %.3g have the same loss.", CS[one], CS[other])
                return False
            tolerance = max(tolerance / 10, FINE)

    def mean_losses(self) -> dict[float, float]:
        """Return the mean loss by C of all candidates that were tried."""
        means = {p: float(losses @ self._share) for p, (_, losses) in self._known.items()}
        return {float(CS[position]): mean for position, mean in means.items()}

    def curvature(self, best: int, columns: int) -> float:
        """Return a fifth of the curvature that the best models leave: see `Softmax`."""
        true = np.exp(-self._known[best][1])
        undecided = float((true * (1 - true)) @ self._share)
        return max(0.2 * (1 if columns == 1 else 2 / columns) * undecided, 1e-6)

    def as_good(self, best: int) -> tuple[float, ...]:
        """Return the other candidates whose mean loss is within one standard error of the best's.

        The error is that of the mean difference, sample by sample.
        """
        found = []
        for position, (_, losses) in sorted(self._known.items()):
            lead = losses - self._known[best][1]
            mean = float(lead @ self._share)
            error = float(np.sqrt(np.sum((self._share * (lead - mean)) ** 2)))
            if position != best and mean <= error:
                found.append(float(CS[position]))
        return tuple(found)


class LogisticHead(LinearAnswers, BaseEstimator):
    """L2 logistic regression on standardised features, C chosen by stratified cross-validation.

    C is the candidate with the lowest mean log loss over the folds; log loss is smoother than
    accuracy on few samples, and looks after the probabilities. The loss falls and rises once along
    C, so the search walks downhill from the middle of the candidates, warm, and leaves out those
    beyond the valley. Which of two is better is decided by losses that are further apart than the
    fits are from their optimum; where even exact fits have the same loss, the search ends.

    The optimum is that of scikit-learn's `LogisticRegression`, found in blocks of rows: `X` may be
    a memory map (`numpy.load(..., mmap_mode="r")`) that is larger than the memory, unless samples
    have weights of their own.

    Parameters
    ----------
    C : float or None
        Inverse strength of the penalty on standardised features, above 0; None chooses it among
        `CS`.
    folds : int
        The most folds used to choose C; fewer where a class is small, and no more than hold
        `enough_validation` samples.
    max_iter : int
        The most iterations of one fit.
    random_state : int, RandomState or None
        Shuffles the folds; the fit itself has no randomness. None takes other folds in each fit.
    n_jobs : int or None
        Folds fitted at the same time, in threads.
    class_weight : None, "balanced" or dict
        Multiplies the weights of the samples; "balanced" gives every class the same sum.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    C_ : float
        The C used; where it was chosen, for weights with a mean of 1.
    losses_ : dict of float to float
        Mean log loss by C, for the candidates tried; empty where C was given.
    as_good_ : tuple of float
        The other candidates tried that held-out samples cannot tell from `C_`: their mean loss is
        within one standard error of its own.
    coef_ : ndarray of shape (n_classes, n_features), (1, n_features) for two classes
        Weights for features as they come: the scaling is inside.
    intercept_ : ndarray of shape (n_classes,), (1,) for two classes
    n_iter_ : int
        Iterations of the last fit.
    converged_ : bool
        False where the last fit was ended by `max_iter`.
    """

    enough_validation: ClassVar[int] = 750
    """Folds are looked at until they have validated so many samples; more only cost time."""

    def __init__(
        self,
        C: float | None = None,
        *,
        folds: int = 5,
        max_iter: int = 1000,
        random_state: Any = 0,
        n_jobs: int | None = None,
        class_weight: Any = None,
    ) -> None:
        self.C = C
        self.folds = folds
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.class_weight = class_weight

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> LogisticHead:
        """Choose C unless it is given, then fit all samples.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of any kind, two classes or more.
        sample_weight : array-like of shape (n,), optional
            Numbers of 0 or more; 2 is the same as the sample twice. Where C is given they multiply
            the loss, as in scikit-learn's LogisticRegression, so that larger ones weaken the
            penalty; where it is chosen only their ratios count, in the choice as in the fit.
        groups : array-like of shape (n,), optional
            Samples of one group, such as a patient, are never on both sides of a fold when C is
            chosen.

        Raises
        ------
        DatasetError
            There is one class only, features are not finite, or weights are not as above.
        """
        found = samples_of(self, X, y, sample_weight, groups).weighted(self.class_weight)
        self.classes_, codes = np.unique(found.y, return_inverse=True)
        weight = found.relative if self.C is None else found.weight
        found = Samples(found.X, codes, weight, found.groups)
        self.losses_: dict[float, float] = {}
        self.as_good_: tuple[float, ...] = ()
        near: _Near = None, None
        with limited_threads(found.X):
            if self.C is None:
                self.C_, near = self._chosen(found)
            else:
                self.C_ = self.C
            split = _Split(found.X, None, codes, weight, self.C_, near[1])
            start = None if near[0] is None else split.start(*near[0])
            model = split.fitted(self.C_, start, TOLERANCE, self.max_iter)
        self.coef_, self.intercept_ = split.original(model)
        self.n_iter_, self.converged_ = model.iterations, model.converged
        if not model.converged:
            warnings.warn(
                f"logistic regression failed to converge: after {model.iterations} iterations (at "
                f"most {self.max_iter}) its loss is up to {model.excess:.1e} above the least. "
                "Raise max_iter, or lower C.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _chosen(self, found: Samples) -> tuple[float, _Near]:
        """Return C, and what the folds know of the model of all samples."""
        if not can_be_folded(found.y, found.groups):
            return UNTUNED_C, (None, None)
        every = StratifiedFolds(self.folds, self.random_state)
        splits = list(every.split(found.y, found.y, found.groups))
        splits = splits[: -(-self.enough_validation // len(splits[0][1]))]
        # Required: under joblib.parallel_config("dask") each fit would send all rows to a worker.
        run = Parallel(n_jobs=self.n_jobs, prefer="threads", require="sharedmem")
        folds = run(delayed(_Fold)(found, *split, self.max_iter) for split in splits)
        search = _Search([fold for fold in folds if fold.held_out], run)
        best = START
        for step in (1, -1):
            while 0 <= best + step < len(CS) and search.better(best + step, best):
                best += step
        self.losses_ = search.mean_losses()
        self.as_good_ = search.as_good(best)
        C = float(CS[best])
        curvature = search.curvature(best, folds[0].split.loss.columns)
        whole = [fold for fold in folds if fold.every_class and C in fold.models]
        return C, (whole[0].split.original(whole[0].models[C]) if whole else None, curvature)
