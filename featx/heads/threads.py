"""How many threads a fit may take: one for a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL_SIZE = 5_000_000
"""Numbers in a matrix up to which a second thread costs more than it saves.

On 600 x 1280 features and two cores, one of them busy, two threads took XGBoost from 1.2 s to 23 s
and the perceptron from 2.2 s to 7.4 s: they wait for each other at every step."""


def limited_threads(X: NDArray[Any]) -> threadpool_limits:
    """Return a context in which linear algebra takes one thread where `X` is small."""
    return threadpool_limits(1 if X.size <= SMALL_SIZE else None)
