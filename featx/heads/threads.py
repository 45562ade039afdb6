"""How many threads a fit may take: one for a small matrix, and blocks of rows for a large one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

SMALL_SIZE = 5_000_000
"""Numbers in a matrix up to which a second thread costs more than it saves.

On 600 x 1280 features and two cores, one of them busy, two threads took XGBoost from 1.2 s to 23 s
and the perceptron from 2.2 s to 7.4 s: they wait for each other at every step."""


def limited_threads(X: NDArray[Any]) -> threadpool_limits:
    """Return a context in which linear algebra takes one thread where `X` is small."""
    return threadpool_limits(1 if X.size <= SMALL_SIZE else None)


_MOST_BLOCKS = 8
"""Blocks at a time: more need more memory, and it gives no more rows a second to more of them."""


@contextmanager
def blocks_in_threads(
    size: int,
) -> Iterator[Callable[[Callable[[_Part], _Result], Iterable[_Part]], Iterator[_Result]]]:
    """Give a `map` that computes blocks in as many threads as linear algebra may take here.

    Linear algebra takes one thread in each of them meanwhile: products with few columns are too
    small to be divided. On 40,000 x 1,280 embeddings of 10 classes and two cores that others used,
    too, the passes of a fit took 5 s of the processors so, and 16 s with two threads a product.

    Parameters
    ----------
    size : int
        Numbers in the matrix: a small one is computed in the thread that asks.
    """
    threads = 1
    if size > SMALL_SIZE:
        found = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
        threads = min(max(found, default=1), _MOST_BLOCKS)
    if threads == 1:
        yield map
        return

    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads, thread_name_prefix="featx-rows") as pool,
    ):

        def in_order(
            function: Callable[[_Part], _Result], parts: Iterable[_Part]
        ) -> Iterator[_Result]:
            ahead: deque[Future[_Result]] = deque()
            for part in parts:
                ahead.append(pool.submit(function, part))
                if len(ahead) > 2 * threads:  # results take memory, too
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

        yield in_order
