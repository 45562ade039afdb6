"""Batches on their way through the network: few buffers, used again and again."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
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
        The width that a row must have; None takes that of the first batch.
    count : int
        Buffers at most.

    Attributes
    ----------
    dim : int or None
        The width of a row; None before it is known.
    """

    def __init__(self, runtime: Runtime, side: int, dim: int | None, count: int) -> None:
        self._runtime = runtime
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

    def give_back(self, batches: Sequence[np.ndarray]) -> None:
        """Take buffers back that were not computed."""
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
        """Return the rows of `count` images, buffers given back; None when it was stopped.

        Parameters
        ----------
        batches : sequence of ndarray
            Filled with `count` images; what is left of the last one becomes black.
        sent : Event
            Set when all these batches are on their way, so that none of later ones is before them.
        before : Future or None
            What is waited for when `ahead` batches have been sent off; its error is raised here.
        done : callable
            Called with the number of each batch when its rows are there, in a stream's thread.
        """
        batches[-1][count - (len(batches) - 1) * len(batches[-1]) :] = 0
        tasks: list[Future[np.ndarray | None]] = []
        try:
            for number, batch in enumerate(batches):
                # Here and not in the streams, which what is waited for may need.
                if before is not None and number == ahead:
                    before.result()
                tasks.append(self._streams.submit(self._run, batch, partial(done, number)))
            sent.set()
            rows = [part for task in tasks if (part := task.result()) is not None]
        finally:
            unused = [b for b, task in zip(batches, tasks, strict=False) if task.cancel()]
            self.give_back([*unused, *batches[len(tasks) :]])
        return np.concatenate(rows)[:count] if len(rows) == len(batches) else None

    def between(self, work: Callable[[], None]) -> None:
        """Do what calls the runtime itself, as if it were a batch: not beside too many others."""
        self._streams.submit(work).result()

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
            rows = self._runtime.run(batch)
        finally:
            self._free.put(batch)
        expected = (self._runtime.batch_size, self.dim or rows.shape[-1])
        if rows.shape != expected or rows.dtype != np.float32:
            raise ExtractionError(
                f"the runtime {self._runtime.name} gave {rows.dtype} of shape {rows.shape}; "
                f"expected float32 of shape {expected}."
            )
        self.dim = rows.shape[1]
        done()
        return rows
