"""The progress bar of an extraction."""

from __future__ import annotations

from threading import Lock
from typing import Any


class ProgressBar:
    """A progress bar that appears when something has to be computed, and not before.

    An image counts when its embedding is there. tqdm shows images/s and the time left; behind
    them stands what the cache will grow by, on the assumption that as large a share of the rest is
    new as of the images so far.

    Parameters
    ----------
    total : int or None
        Images in the dataset, where that is known.
    wanted : bool
        Whether a bar is shown at all.
    """

    def __init__(self, total: int | None, wanted: bool) -> None:
        self._total = total
        self._wanted = wanted
        self._lock = Lock()
        self._seen = self._new = self._done = 0
        self._bar: Any = None

    def show(self) -> None:
        """Let the bar appear, if one is wanted."""
        if self._wanted and self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._total, initial=self._done, desc="extract", unit="img")

    def resume(self) -> None:
        """Leave the time since the last image out of the images/s: the network started in it."""
        if self._bar is not None:
            self._bar.unpause()

    def count(self, new: bool) -> None:
        """Count an image that was looked up; `new` where its embedding is still to come."""
        with self._lock:
            self._seen += 1
            self._new += new
        if not new:
            self.done(1)

    def done(self, count: int, dim: int | None = None) -> None:
        """Count images whose embeddings are there; `dim` is their width where it is known."""
        with self._lock:
            self._done += count
            if self._bar is None:
                return
            if dim is not None and self._seen:
                expected = self._new * (self._total or self._seen) / self._seen
                self._bar.set_postfix_str(f"{expected * 4 * dim / 1e6:,.1f} MB to cache", False)
            self._bar.update(count)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
