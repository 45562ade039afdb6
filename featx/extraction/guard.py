"""The guard of a key: embeddings of two environments that disagree are never cached together."""

from __future__ import annotations

from featx.cache.store import Store
from featx.errors import CacheEnvironmentError
from featx.extraction import probe
from featx.runtimes import Runtime


class EnvironmentGuard:
    """Compares this environment with those that the cached embeddings are by.

    The order is fixed, and all of it comes before the first image: the probe images are compared
    with the cached ones, those of a new environment are published in a shard of their own, and
    then they are compared once more, since another process may have begun on the same key with an
    environment that nobody compared with this one.

    Parameters
    ----------
    store : Store
    side : int
        Pixels along each edge.
    precision : str
        What the tolerance is for.
    always : bool, default=False
        Whether the probe images are computed and compared even where all that is cached is by an
        environment of the same versions: another processor may have other kernels.
    """

    def __init__(self, store: Store, side: int, precision: str, always: bool = False) -> None:
        self._store = store
        self._side = side
        self._precision = precision
        self._always = always
        self._admitted: Runtime | None = None

    def admit(self, runtime: Runtime) -> None:
        """Compare the probe images with the cached ones, once for a runtime.

        Raises
        ------
        CacheEnvironmentError
            The embeddings differ; nothing of this environment was cached.
        """
        if self._admitted is runtime:
            return
        store, side, precision = self._store, self._side, self._precision
        known = runtime.environment() in store.environments()
        computed = probe.check(store, runtime, side, precision, always=self._always)
        added = probe.publish(store, runtime, side, computed)
        if not known:
            try:
                probe.check_others(store, runtime, side)
            except CacheEnvironmentError:
                if added is not None:
                    store.withdraw(added)
                raise
        self._admitted = runtime
