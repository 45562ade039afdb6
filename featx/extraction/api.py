"""The one verb: every image of a dataset meets the backbone once, and its embedding is cached."""

from __future__ import annotations

import logging
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from featx import runtimes
from featx.backbones.backbone import Backbone, find_backbone
from featx.cache.location import find_cache
from featx.cache.locks import Claims
from featx.cache.matrix import CachedMatrix
from featx.cache.store import Store
from featx.datasets.dataset import Dataset, as_dataset
from featx.errors import BadImagesError, CacheCorruptError, OptionError
from featx.extraction.guard import EnvironmentGuard
from featx.extraction.lazy_runtime import LazyRuntime
from featx.extraction.scan import Ledger, scan_dataset
from featx.extraction.settings import DEFAULT, Settings
from featx.extraction.statistics import Statistics
from featx.features import ExtractionReport, Features
from featx.labels import label_array
from featx.runtimes import Runtime

if TYPE_CHECKING:
    from featx.extraction.cluster import Workers

logger = logging.getLogger(__name__)

# Scans of the dataset: one, and one more for each time that embeddings were damaged, or left to
# another process that did not compute them. The last two leave nothing to others.
_SCANS, _SCANS_WITH_CLAIMS = 5, 3


def extract(
    dataset: Any,
    backbone: str | Backbone = "resnet50",
    *,
    cache: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    runtime: str | Runtime = "auto",
    on_error: str = "raise",
    progress: bool = True,
    stat_cache: bool = True,
    engine: str = "local",
    scheduler: str | None = None,
    gather: bool = True,
) -> Features:
    """Return the embeddings of a dataset; only images never seen before are computed.

    Parameters
    ----------
    dataset : path, address, list, ndarray, DataFrame, featx.Dataset or a library's data set
        A folder with one sub-folder per class, a folder of images, an archive of either
        (``photos.zip``, ``https://host/photos.tar``), a CSV file or table with the columns `path`
        and `label`, paths or addresses, uint8 pixels of shape (n, height, width, 3), a
        ``tf.data.Dataset``, a ``datasets.Dataset`` or a ``Dataset`` of PyTorch.
        ``featx.Dataset.from_paths(paths, labels)`` and ``from_table`` take labels and other
        columns.
    backbone : str or Backbone, default="resnet50"
        A name of ``featx.BACKBONES``, or a ``Backbone`` with its options.
    cache : path, optional
        Where embeddings are cached; see ``featx.cache.location.find_cache`` for the default.
    batch_size : int, optional
        Images per batch, 1 to 16,384; by default what suits the device.
    runtime : str or Runtime, default="auto"
        What computes; it does not change the embeddings beyond rounding.
    on_error : {"raise", "skip"}, default="raise"
        "raise": every good image is computed and cached, then one error lists the bad ones.
        "skip": bad images are left out and listed in ``features.failures``.
    progress : bool, default=True
        Whether a progress bar is shown while something is computed.
    stat_cache : bool, default=True
        Whether a file whose size, times and inode are those of its last reading is taken to be
        unchanged; False reads every file again, to be sure on file systems that lie about times.
    engine : {"local", "joblib", "dask"}, default="local"
        Where images are read and computed: in this process; in those of ``joblib.parallel_config``,
        or of all processors where that says nothing; or on a Dask cluster, that of the current
        client, of `scheduler`, or one that is started on this machine. All must share the files
        and the cache. Blocks have the same names and bytes under each.
    scheduler : str, optional
        The address of a Dask scheduler, such as "tcp://head:8786".
    gather : bool, default=True
        Whether all embeddings are read into one array at the end. With False they stay in the
        cache: `X` is read where it is asked for, ``features.blocks()`` yields parts of
        what may be larger than the memory, and ``features.memmap(path)`` writes it to a disk.

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
        The network gave NaN or infinity for some images; the embeddings of all others are cached.
    DatasetError, BackboneError, CacheError, RuntimeUnavailableError
        The message names what came, what was expected and what to do.
    EngineError
        A cluster, or one of its workers, cannot compute what is asked.

    Examples
    --------
    >>> import numpy as np
    >>> from featx import Backbone, extract
    >>> pixels = np.zeros((2, 40, 40, 3), np.uint8)
    >>> tiny = Backbone("mobilenet_v2", weights=None, image_size=32)
    >>> extract(pixels, tiny, cache="my-cache", progress=False).X.shape
    (2, 1280)
    """
    return extract_with(
        DEFAULT,
        dataset,
        backbone,
        cache=cache,
        batch_size=batch_size,
        runtime=runtime,
        on_error=on_error,
        progress=progress,
        stat_cache=stat_cache,
        engine=engine,
        scheduler=scheduler,
        gather=gather,
    )


def extract_with(
    settings: Settings,
    dataset: Any,
    backbone: str | Backbone,
    *,
    cache: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    runtime: str | Runtime = "auto",
    on_error: str = "raise",
    progress: bool = True,
    stat_cache: bool = True,
    engine: str = "local",
    scheduler: str | None = None,
    gather: bool = True,
) -> Features:
    """Do what ``extract`` does with other settings than its own."""
    began = time.perf_counter()
    if on_error not in ("raise", "skip"):
        raise OptionError(f"on_error={on_error!r}: expected 'raise' or 'skip'.")
    runtimes.check_batch_size(batch_size)
    runtimes.check_runtime(runtime)
    if engine != "local" or scheduler is not None:  # else their import is the call's largest part
        from featx.extraction import cluster, engines

        engines.check_engine(engine, scheduler)
    backbone = find_backbone(backbone)
    dataset = as_dataset(dataset, progress=progress)
    store = Store(
        find_cache(cache),
        backbone.spec(),
        backbone.dim
        if isinstance(runtime, str)
        else None,  # a runtime of the user's own may differ
    )
    store.mark_used()
    note = backbone.weights_note()
    if note:
        _log_once(note)
    lazy = LazyRuntime(backbone, batch_size, runtime, store, dataset, settings)
    workers = None
    if engine != "local":
        workers = cluster.Workers(engine, scheduler, backbone, batch_size, runtime)
    ledger, features, statistics = _scanned(
        dataset, backbone, store, lazy, workers, progress, stat_cache, gather, settings
    )
    if ledger.failures and on_error == "raise":
        raise BadImagesError(ledger.failures, ledger.total)
    report = ExtractionReport(
        images=ledger.total,
        computed=statistics.computed,
        cached=max(len(set(ledger.good)) - statistics.computed, 0),
        seconds=time.perf_counter() - began,
        compute_seconds=statistics.compute_seconds,
        runtime=lazy.name,
        cache=store.storage.location(""),
        gather_seconds=statistics.gather_seconds,
        start_seconds=statistics.start_seconds,
    )
    if workers is None and isinstance(runtime, str):
        _note_speed(backbone, report)
    noticed = statistics.remarks.log(ledger.digests(), ledger.labels, ledger.ids)
    return Features(
        features,
        label_array(ledger.labels),
        ledger.ids,
        failures=ledger.failures,
        spec={
            **store.spec,
            "key": store.key,
            "trained": backbone.trained,
            "decode": backbone.decode,
            "runtimes": sorted({str(each.get("runtime")) for each in store.environments()}),
        },
        notes=(*((note,) if note else ()), *dataset.notes, *noticed),
        report=report,
        digests=ledger.digests(),
    )


def _note_speed(backbone: Backbone, report: ExtractionReport) -> None:
    """Remember the images/s, unless much of the time went into looking up what was cached."""
    if report.runtime is not None and report.computed >= 0.9 * report.images:
        from featx.runtimes.speeds import note_speed  # a call that computes nothing imports less

        seconds = report.compute_seconds - report.start_seconds
        note_speed(backbone, report.runtime, report.computed, seconds)


@lru_cache(maxsize=64)
def _log_once(note: str) -> None:
    logger.warning("%s", note)


def _scanned(
    dataset: Dataset,
    backbone: Backbone,
    store: Store,
    runtime: LazyRuntime,
    workers: Workers | None,
    progress: bool,
    stat_cache: bool,
    gather: bool,
    settings: Settings,
) -> tuple[Ledger, Any, Statistics]:
    """Scan until every good image has its embedding: hardly ever more than once.

    Returns
    -------
    ledger : Ledger
        Of the last scan.
    features : numpy.ndarray or CachedMatrix of shape (n, dim) and dtype float32
        Of its good images.
    statistics : Statistics
        Of all scans.
    """
    guard = EnvironmentGuard(store, backbone.side, backbone.precision)
    statistics, scans = Statistics(), 0
    while True:
        sharing = scans < _SCANS_WITH_CLAIMS
        if workers is not None:
            from featx.extraction import cluster

            scan = cluster.scan_dataset(
                dataset,
                store,
                workers,
                runtime,
                sharing=sharing,
                progress=progress,
                stat_cache=stat_cache,
                settings=settings,
            )
        else:
            claims = Claims(store.folder / "claims", answer_seconds=settings.lock_seconds)
            scan = scan_dataset(
                dataset,
                store,
                runtime.start,
                guard,
                side=backbone.side,
                how=backbone.preparation,
                claims=claims if sharing else None,
                progress=progress,
                stat_cache=stat_cache,
                settings=settings,
            )
        statistics.add(scan)
        if scan.outcome.shortage is not None:
            if workers is None:
                runtime.shrink(scan.outcome.shortage)
            else:
                workers = workers.shrunk(scan.outcome.shortage)
            continue
        began = time.perf_counter()
        dim = scan.outcome.dim or store.dim or backbone.dim or 0
        features: np.ndarray | CachedMatrix
        if gather:
            features, missing = store.gather(scan.ledger.digests(), dim)
        else:
            sha256 = scan.ledger.digests()
            missing = ~store.index.is_embedding(store.index.find(sha256))
            features = CachedMatrix(store, sha256, dim)
        statistics.gather_seconds = time.perf_counter() - began
        if not missing.any():
            return scan.ledger, features, statistics
        scans += 1
        if scans == _SCANS:
            raise CacheCorruptError(
                f"embeddings cached in {store.location()} were damaged {scans} times in a row; "
                "check that disk."
            )
