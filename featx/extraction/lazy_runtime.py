"""The runtime of an extraction, started when the first image needs it."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import numpy as np

from featx import runtimes
from featx.backbones.backbone import Backbone
from featx.cache.keys import drop_if_empty
from featx.cache.stat_index import KnownFiles
from featx.cache.store import Store
from featx.datasets.dataset import Dataset
from featx.errors import CacheSpaceError, OutOfMemoryError
from featx.extraction.settings import DEFAULT, Settings
from featx.images.content_hash import of_content
from featx.images.decoding import Source
from featx.images.elsewhere import Elsewhere
from featx.runtimes import Runtime

logger = logging.getLogger(__name__)

# Batch sizes tried after the first when memory runs out, each half of the one before.
MAX_HALVINGS = 6


class LazyRuntime:
    """A runtime that is started on first use, and again with smaller batches.

    Parameters
    ----------
    backbone : Backbone
    batch_size : int or None
        Images per batch; None leaves it to the runtime.
    asked : str or Runtime
        The name of a runtime, or the user's own.
    store : Store
        Where there must be room for the embeddings before it is started.
    dataset : Dataset
        What they are of.
    settings : Settings, optional

    Attributes
    ----------
    name : str or None
        The name of the runtime that was started last; None before.
    """

    def __init__(
        self,
        backbone: Backbone,
        batch_size: int | None,
        asked: str | Runtime,
        store: Store,
        dataset: Dataset,
        settings: Settings = DEFAULT,
    ) -> None:
        self._backbone = backbone
        self._batch_size = batch_size
        self._asked = asked
        self._store = store
        self._dataset = dataset
        self._settings = settings
        self._runtime = None if isinstance(asked, str) else asked
        self._halvings = 0
        self.name: str | None = None

    def start(self) -> Runtime:
        """Return the runtime, started now if it is not yet.

        Raises
        ------
        CacheSpaceError, CacheWriteError
            Its embeddings could not be cached.
        """
        self.make_room()
        if self._runtime is None:
            assert isinstance(self._asked, str)
            try:
                self._runtime = runtimes.start(self._backbone, self._batch_size, self._asked)
            except Exception:
                drop_if_empty(self._store.folder)
                raise
        self.name = self._runtime.name
        return self._runtime

    def shrink(self, error: OutOfMemoryError) -> None:
        """Drop the runtime; the next one gets half as many images per batch.

        Raises
        ------
        OutOfMemoryError
            There is no smaller batch to try, or the runtime is the user's own.
        """
        own = not isinstance(self._asked, str)
        if own or self._runtime is None or self._halvings == MAX_HALVINGS:
            raise error
        if self._runtime.batch_size == 1:
            raise error
        self._halvings += 1
        self._batch_size = self._runtime.batch_size // 2
        logger.warning(
            "no memory for %d images at a time; going on with %d",
            self._runtime.batch_size,
            self._batch_size,
        )
        self._runtime = None
        runtimes.forget()
        gc.collect()

    def make_room(self) -> None:
        """Raise now what would keep the embeddings from being cached.

        Raises
        ------
        CacheSpaceError, CacheWriteError
        """
        size = 4 * (self._store.dim or self._backbone.dim or 0)
        blocks = 2 * self._settings.block
        # All that is cached may be of other images: then more is needed, and raised when it is.
        cached = self._store.index.count()
        new = (self._dataset.known_length or 0) - cached
        if new > blocks:
            try:
                self._store.prepare(new * size, f"{new:,} new images need")
                return
            except CacheSpaceError:
                new = self._distinct() - cached
                if new > blocks:
                    self._store.prepare(new * size, f"{new:,} new images need")
                    return
        self._store.prepare(blocks * size)

    def _distinct(self) -> int:
        """Return how many images there are; one that is there twice needs one embedding.

        Copies among files count once where they were read before; none is read for it.
        """
        known = KnownFiles(self._store.root, self._dataset.location)
        sources = (item.source for item in self._dataset)
        return len({_identity(known, source) for source in sources})


def _identity(known: KnownFiles, source: Source) -> Any:
    """Return what is equal for two sources that are known to hold the same; nothing is decoded."""
    if isinstance(source, Path | Elsewhere):
        return known.of_source(source) or source
    return of_content(source) if isinstance(source, bytes | np.ndarray) else id(source)
