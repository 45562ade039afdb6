"""The progress bar of an extraction."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from featx.runtimes import Runtime


class _Bar:
    """A progress bar that appears when something has to be computed, and not before.

    A image counts when its row is there. tqdm shows images a second and the time left; behind
    them stands what there will be to keep, on the assumption that as large a share of the rest is
    new as of the images so far.
    """

    def __init__(self, total: int | None, wanted: bool) -> None:
        self._total = total
        self._wanted = wanted
        self._lock = Lock()
        self._taken = self._new = self._done = 0
        self._bar: Any = None

    def show(self) -> None:
        """Let the bar appear, if one is wanted."""
        if self._wanted and self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._total, initial=self._done, desc="extract", unit="img")

    def after(self, start: Callable[[], Runtime]) -> Callable[[], Runtime]:
        """Return `start` so that the seconds it takes are not in the bar's images a second."""

        def started() -> Runtime:
            runtime = start()
            if self._bar is not None:
                self._bar.unpause()
            return runtime

        return started

    def take(self, new: bool) -> None:
        """Count a image that was looked up; `new` says that its row is still to come."""
        with self._lock:
            self._taken += 1
            self._new += new
        if not new:
            self.done(1)

    def done(self, count: int, dim: int | None = None) -> None:
        """Count images whose rows are there; `dim` is the width of a row where it is known."""
        with self._lock:
            self._done += count
            if self._bar is None:
                return
            if dim is not None and self._taken:
                expected = self._new * (self._total or self._taken) / self._taken
                self._bar.set_postfix_str(f"{expected * 4 * dim / 1e6:,.1f} MB to keep", False)
            self._bar.update(count)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
