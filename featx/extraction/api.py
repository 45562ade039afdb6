"""The one verb: every image of a dataset meets the backbone once, and its row is kept."""

from __future__ import annotations

import gc
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx import runtimes
from featx.backbones.backbone import Backbone, find_backbone
from featx.cache.keys import drop_if_empty, mark_used
from featx.cache.location import find_root
from featx.cache.locks import Claims
from featx.cache.stat_index import KnownFiles
from featx.cache.store import Store
from featx.datasets.dataset import Dataset, as_dataset, label_array
from featx.errors import (
    BadImagesError,
    CacheCorruptError,
    CacheSpaceError,
    OptionError,
    OutOfMemoryError,
)
from featx.extraction import probe
from featx.extraction.blocks import BLOCK
from featx.extraction.scan import Scan
from featx.features import ExtractionReport, Features
from featx.images import image_warnings
from featx.images.content_hash import of_content
from featx.runtimes import Runtime

logger = logging.getLogger(__name__)

# Batch sizes tried after the first when memory runs out, each half of the one before.
MAX_HALVINGS = 6
# Passes over the dataset: one, and one more for each time that rows were damaged, or left to
# another process that did not compute them. The last two leave nothing to others.
_PASSES, _PASSES_WITH_CLAIMS = 5, 3


def extract(
    dataset: Any,
    backbone: str | Backbone = "resnet50",
    *,
    cache: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    runtime: str | Runtime = "auto",
    on_error: str = "raise",
    progress: bool = True,
) -> Features:
    """Return the embeddings of a dataset; only images never seen before are computed.

    Parameters
    ----------
    dataset : path, list, numpy.ndarray, pandas.DataFrame, tf.data.Dataset or featx.Dataset
        A folder with a sub-folder a class, a folder of images, a CSV file or table with the
        columns `path` and `label`, paths, or uint8 pixels of shape (n, height, width, 3).
        ``featx.Dataset.from_paths(paths, labels)`` and ``from_table`` take labels and other
        columns.
    backbone : str or Backbone, default="resnet50"
        A name of ``featx.BACKBONES``, or a ``Backbone`` with its options.
    cache : path, optional
        Where rows are kept; see ``featx.cache.store.find_root`` for the default.
    batch_size : int, optional
        Images that meet the network together, 1 to 16,384; by default what suits the device.
    runtime : str or Runtime, default="auto"
        What computes; it does not change the rows beyond rounding.
    on_error : {"raise", "skip"}, default="raise"
        "raise": every good image is computed and kept, then one error lists the bad ones.
        "skip": bad images are left out and stand in ``features.failures``.
    progress : bool, default=True
        Whether a progress bar is shown while something is computed.

    Returns
    -------
    Features
        `X` of shape (n, dim) and dtype float32, with labels and ids in the same order.

    Raises
    ------
    BadImagesError
        Some images cannot be used; ``TooManyBadImagesError`` as soon as more than
        max(20, 5 %) cannot.
    NonFiniteError
        The network gave NaN or infinity for some images; the rows of all others are kept.
    DatasetError, BackboneError, CacheError, RuntimeUnavailableError
        The message says what came, what was expected and what to do.

    Examples
    --------
    >>> pixels = np.zeros((2, 40, 40, 3), np.uint8)
    >>> tiny = Backbone("mobilenet_v2", weights=None, image_size=32)
    >>> extract(pixels, tiny, cache=getfixture("tmp_path"), progress=False).X.shape
    (2, 1280)
    """
    began = time.perf_counter()
    if on_error not in ("raise", "skip"):
        raise OptionError(f"on_error={on_error!r}: expected 'raise' or 'skip'.")
    runtimes.check_batch_size(batch_size)
    runtimes.check_runtime(runtime)
    backbone = find_backbone(backbone)
    dataset = as_dataset(dataset)
    store = Store(
        find_root(cache),
        backbone.spec(),
        backbone.dim
        if isinstance(runtime, str)
        else None,  # a runtime of the user's own may differ
    )
    mark_used(store.folder)
    network = _Network(backbone, batch_size, runtime, store, dataset)
    seen = image_warnings.Remarks()
    passes = _Passes(dataset, store, network, seen, progress)
    scan, rows = passes.run(backbone)
    if scan.failures and on_error == "raise":
        raise BadImagesError(scan.failures, scan.total)
    noticed = seen.tell(scan.digests(), scan.labels, scan.ids)
    distinct = len(set(scan.good))
    return Features(
        rows,
        label_array(scan.labels),
        scan.ids,
        failures=scan.failures,
        spec={
            **store.spec,
            "key": store.key,
            "trained": backbone.trained,
            "runtimes": sorted({str(each.get("runtime")) for each in store.environments()}),
        },
        notes=(*dataset.notes, *noticed),
        report=ExtractionReport(
            images=scan.total,
            computed=passes.computed,
            reused=max(distinct - passes.computed, 0),
            seconds=time.perf_counter() - began,
            compute_seconds=passes.compute_seconds,
            runtime=network.name,
            cache=os.fspath(store.root),
            gather_seconds=passes.gather_seconds,
            start_seconds=passes.start_seconds,
        ),
    )


@dataclass
class _Passes:
    """The passes over a dataset until every good image has its row: hardly ever more than one."""

    dataset: Dataset
    store: Store
    network: _Network
    seen: image_warnings.Remarks
    progress: bool
    computed: int = 0
    compute_seconds: float = 0.0
    start_seconds: float = 0.0
    gather_seconds: float = 0.0

    def run(self, backbone: Backbone) -> tuple[Scan, np.ndarray]:
        """Return the last pass and the rows of its good images."""
        store, lead, done = self.store, probe.images(backbone.side), 0
        while True:
            claims = Claims(store.folder / "claims") if done < _PASSES_WITH_CLAIMS else None
            scan = Scan(
                self.dataset, backbone.side, store, self.network.start, self.progress,
                self.seen, lead, claims, backbone.scaled,
            )  # fmt: skip
            shortage = scan.run()
            self.computed += scan.computed
            if scan.computed:  # else neither its seconds nor the network's start count
                self.compute_seconds += scan.compute_seconds
                self.start_seconds += self.network.start_seconds
            self.network.start_seconds = 0.0
            if shortage is not None:
                self.network.shrink(shortage)
                continue
            began = time.perf_counter()
            dim = scan.dim or store.dim or backbone.dim or 0
            rows, missing = store.gather(scan.digests(), dim)
            self.gather_seconds = time.perf_counter() - began
            if not missing.any():
                return scan, rows
            done += 1
            if done == _PASSES:
                raise CacheCorruptError(
                    f"rows kept in {store.folder} were damaged {done} times in a row; check that "
                    "disk."
                )


class _Network:
    """The runtime, started when the first image needs it."""

    def __init__(
        self,
        backbone: Backbone,
        batch_size: int | None,
        runtime: str | Runtime,
        store: Store,
        dataset: Dataset,
    ) -> None:
        self._backbone = backbone
        self._batch_size = batch_size
        self._asked = runtime
        self._store = store
        self._dataset = dataset
        self._runtime = None if isinstance(runtime, str) else runtime
        self._checked = False
        self._halvings = 0
        self.name: str | None = None
        self.start_seconds = 0.0

    def start(self) -> Runtime:
        """Return the runtime; what would keep its rows from being kept is raised before."""
        began = time.perf_counter()
        self._prepare()
        if self._runtime is None:
            assert isinstance(self._asked, str)
            try:
                self._runtime = runtimes.start(
                    self._backbone, self._batch_size, self._asked, self._store.folder
                )
            except Exception:
                drop_if_empty(self._store.folder)
                raise
        if not self._checked:
            probe.check(self._store, self._runtime, self._backbone.side, self._backbone.precision)
            self._checked = True
        self.name = self._runtime.name
        self.start_seconds += time.perf_counter() - began
        return self._runtime

    def _prepare(self) -> None:
        row = 4 * (self._store.dim or self._backbone.dim or 0)
        # All that is kept may be of other images: then more is needed, and said when it is.
        kept = self._store.index.count()
        new = (self._dataset.known_length or 0) - kept
        if new > 2 * BLOCK:
            try:
                self._store.prepare(new * row, f"{new:,} new images need")
                return
            except CacheSpaceError:
                new = self._distinct() - kept
                if new > 2 * BLOCK:
                    self._store.prepare(new * row, f"{new:,} new images need")
                    return
        self._store.prepare(2 * BLOCK * row)

    def _distinct(self) -> int:
        """Return how many images there are; one that is there twice needs one row.

        Copies among files count once where they were read before; none is read for it.
        """
        known = KnownFiles(self._store.root, self._dataset.location)
        sources = (item.source for item in self._dataset)
        return len({known.find(s) or s if isinstance(s, Path) else of_content(s) for s in sources})

    def shrink(self, error: OutOfMemoryError) -> None:
        """Drop the runtime; the next one gets half as many images at a time.

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
