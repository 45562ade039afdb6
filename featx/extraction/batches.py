"""Batches on their way through the network: few buffers, used again and again."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event

import numpy as np

from featx.errors import ExtractionError
from featx.runtimes import Runtime


class Batches:
    """Gives out buffers for batches, and sends them through a runtime.

    There are no more than `count` buffers: memory that is used again is warm and costs no page
    faults, and whoever fills them waits for the network rather than run far ahead of it.

    Parameters
    ----------
    runtime : Runtime
    side : int
        Pixels along each edge of every image.
    dim : int or None
        The width that an embedding must have; None takes that of the first batch.
    count : int
        Buffers at most.

    Attributes
    ----------
    runtime : Runtime
    dim : int or None
        The width of an embedding; None before it is known.
    """

    def __init__(self, runtime: Runtime, side: int, dim: int | None, count: int) -> None:
        self.runtime = runtime
        self._shape = (runtime.batch_size, side, side, 3)
        self._streams = ThreadPoolExecutor(runtime.streams, "featx-run")
        # The one used last is the warmest.
        self._free: queue.LifoQueue[np.ndarray] = queue.LifoQueue()
        self._unborn = count
        self._stopped = False
        self.dim = dim

    def take(self) -> np.ndarray:
        """Return a buffer (batch_size, side, side, 3) of any content; waits while all are out."""
        if self._unborn and self._free.empty():
            self._unborn -= 1
            return np.zeros(self._shape, np.uint8)
        return self._free.get()

    def buffers(self) -> Iterator[np.ndarray]:
        """Yield a buffer whenever one is asked for, for ever."""
        while True:
            yield self.take()

    def give_back(self, batches: Sequence[np.ndarray]) -> None:
        """Take back buffers that were not computed."""
        for batch in batches:
            self._free.put(batch)

    def compute(
        self,
        batches: Sequence[np.ndarray],
        count: int,
        sent: Event,
        before: Future[None] | None,
        ahead: int,
        done: Callable[[int], None],
    ) -> np.ndarray | None:
        """Return the embeddings of `count` images, (count, dim) float32; None when it was stopped.

        The buffers are given back, whatever happens.

        Parameters
        ----------
        batches : sequence of ndarray
            Filled with `count` images; what the rest of the last one holds is computed and dropped.
        count : int
        sent : Event
            Set when all these batches are on their way, so that no later one overtakes them.
        before : Future or None
            What is waited for when `ahead` batches have been sent off; its error is raised here.
        done : callable
            Called with the number of each batch once it is computed, in a stream's thread.
        """
        tasks: list[Future[np.ndarray | None]] = []
        try:
            for number, batch in enumerate(batches):
                # Here and not in the streams, which what is waited for may need.
                if before is not None and number == ahead:
                    before.result()
                tasks.append(self._streams.submit(self._run, batch, partial(done, number)))
            sent.set()
            parts = [part for task in tasks if (part := task.result()) is not None]
        finally:
            unused = [b for b, task in zip(batches, tasks, strict=False) if task.cancel()]
            self.give_back([*unused, *batches[len(tasks) :]])
        return np.concatenate(parts)[:count] if len(parts) == len(batches) else None

    def stop(self) -> None:
        """Begin no further batch."""
        self._stopped = True

    def close(self) -> None:
        """Begin no further batch, and wait for those under way."""
        self.stop()
        self._streams.shutdown(wait=True)

    def _run(self, batch: np.ndarray, done: Callable[[], None]) -> np.ndarray | None:
        try:
            if self._stopped:
                return None
            features = self.runtime.run(batch)
        finally:
            self._free.put(batch)
        checked(self.runtime, features, self.dim)
        self.dim = features.shape[1]
        done()
        return features


def checked(runtime: Runtime, features: np.ndarray, dim: int | None = None) -> np.ndarray:
    """Return what a runtime gave for a batch; `dim` is the width that it must have, if known.

    Raises
    ------
    ExtractionError
        It has another shape or type than a batch of embeddings.
    """
    expected = (runtime.batch_size, dim or features.shape[-1])
    if features.shape != expected or features.dtype != np.float32:
        raise ExtractionError(
            f"the runtime {runtime.name} returned {features.dtype} of shape {features.shape}; "
            f"expected float32 of shape {expected}."
        )
    return features
