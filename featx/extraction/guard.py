"""The guard of a key: embeddings of two environments that disagree are never cached together."""

from __future__ import annotations

from functools import partial
from threading import Event

from featx.cache.store import Store
from featx.errors import CacheEnvironmentError
from featx.extraction import probe
from featx.extraction.batches import Batches
from featx.images.content_hash import Digest
from featx.runtimes import Runtime


class EnvironmentGuard:
    """Compares this environment with those that the cached embeddings are by.

    The order is fixed: ``admit`` before anything is computed, then the first block is published,
    then ``confirm`` for that block. Until then another process may have begun on the same key with
    an environment that nobody compared with this one.

    Parameters
    ----------
    store : Store
    side : int
        Pixels along each edge.
    precision : str
        What the tolerance is for.
    """

    def __init__(self, store: Store, side: int, precision: str) -> None:
        self._store = store
        self._side = side
        self._precision = precision
        self._checked = False
        self._known = Event()

    def admit(self, runtime: Runtime) -> None:
        """Compare the probe images with the cached ones, once.

        Raises
        ------
        CacheEnvironmentError
            The embeddings differ; nothing was computed to be cached.
        """
        if not self._checked:
            probe.check(self._store, runtime, self._side, self._precision)
            self._checked = True
        if runtime.environment() in self._store.environments():
            self._known.set()
        else:
            self._known.clear()

    @property
    def known(self) -> bool:
        """Whether this environment is not new to the key."""
        return self._known.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until this environment is known to the key; return whether it is."""
        return self._known.wait(seconds)

    def cached_probes(self, runtime: Runtime) -> set[Digest]:
        """Return the probe images whose embeddings by this environment are cached."""
        return probe.cached_by(self._store, runtime.environment())

    def confirm(self, network: Batches, block: str) -> None:
        """Compare once more, now that this environment's first block is published.

        Raises
        ------
        CacheEnvironmentError
            Another environment was faster, and disagrees; the block was withdrawn.
        """
        if self.known:
            return
        try:
            network.between(partial(probe.check_others, self._store, network.runtime, self._side))
        except CacheEnvironmentError:
            self._store.withdraw(block)
            raise
        self._known.set()
