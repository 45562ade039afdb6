"""What an extraction would cost, from a short trial that caches nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx import runtimes
from featx.backbones.backbone import Backbone, find_backbone
from featx.cache.location import (
    chosen,
    existing_cache,
    is_marked,
    nearest_writable,
    refuse_foreign,
)
from featx.cache.stat_index import KnownFiles
from featx.cache.store import Store
from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.items import Item
from featx.errors import CacheError, ImageError
from featx.extraction.engines import workers_elsewhere
from featx.extraction.settings import DEFAULT
from featx.images import decoding, reduction
from featx.images.content_hash import of_content
from featx.runtimes import Runtime
from featx.storage import atomic, folders, services
from featx.storage.interface import Storage
from featx.storage.local import FolderStorage

# Files that are read to learn which share of those never read before is cached under other names.
SAMPLE = 512
# Batches that the network is tried with, after one that it warms up with.
_BATCHES = 4
# A shard is this much larger than its embeddings: measured at 256 of them with 1,280 numbers each.
_OVERHEAD = 1.03


@dataclass(frozen=True)
class Estimate:
    """What an extraction would cost.

    Attributes
    ----------
    images : int
        Images in the dataset.
    cached : int
        Images whose embedding is cached.
    exact : bool
        False where `cached` was estimated from a sample of the files.
    seconds : float
        Wall time of starting the network and computing the others by all workers; 0 where there
        are none.
    start_seconds : float
        Those of them that the network took to start.
    images_per_second : float
        Images/s of decoding and computing together, on this machine; 0 where nothing has to be
        computed.
    bytes_to_cache : int
        What the cache would grow by.
    network_bytes : int
        What the converted network would take besides, in the user's cache folder, for the next
        start; 0 where it is kept.
    bytes_needed : int
        What the disk must have left for ``extract`` to begin: two blocks at the least.
    bytes_free : int or None
        Free space of the cache's disk; None where that is not known.
    features_bytes : int
        What ``features.X`` would take in memory.
    runtime, device : str or None
        What would compute; None where nothing has to be computed.
    cache : str
        The cache folder.
    workers : int, default=1
        Those of a cluster, each of them as fast as this machine if `seconds` is to be right.
    """

    images: int
    cached: int
    exact: bool
    seconds: float
    start_seconds: float
    images_per_second: float
    bytes_to_cache: int
    network_bytes: int
    bytes_needed: int
    bytes_free: int | None
    features_bytes: int
    runtime: str | None
    device: str | None
    cache: str
    workers: int = 1


def estimate(
    dataset: Any,
    backbone: str | Backbone = "resnet50",
    *,
    cache: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    runtime: str = "auto",
    engine: str = "local",
    scheduler: str | None = None,
) -> Estimate:
    """Return what ``extract`` with these arguments would cost; nothing is cached.

    The network is started, some images are decoded and some batches of them computed, as the
    extraction would do it, here and not by the workers of an engine. Copies of one image that was
    never read before count each.

    Raises
    ------
    DatasetError, BackboneError, CacheError, RuntimeUnavailableError
        As ``extract`` would; a disk that is too small is reported, not refused.
    """
    backbone = find_backbone(backbone)
    dataset = as_dataset(dataset)
    runtimes.check_batch_size(batch_size)
    workers = workers_elsewhere(engine, scheduler)
    store = Store(_storage(cache), backbone.spec(), backbone.dim)
    missing, exact, uncached = _missing(dataset, store, backbone)
    speed, start, network, free = 0.0, 0.0, 0, None
    name, device, dim = None, None, store.dim or backbone.dim or 0
    if missing:
        if isinstance(store.storage, FolderStorage):
            free = folders.free_bytes(nearest_writable(store.folder / "shards"))
        began = time.perf_counter()
        started = runtimes.start(backbone, batch_size, runtime, keep=False)
        start = time.perf_counter() - began
        network = runtimes.bytes_to_keep(started)
        tried = uncached or list(dataset.items[:SAMPLE])
        speed, dim = _tried(tried, backbone, started)
        name, device = started.name, started.environment().get("device")
    grown = int(missing * dim * 4 * _OVERHEAD)
    return Estimate(
        images=len(dataset),
        cached=len(dataset) - missing,
        exact=exact,
        seconds=start + missing / (speed * workers) if speed else 0.0,
        start_seconds=start,
        images_per_second=speed,
        bytes_to_cache=grown,
        bytes_needed=max(grown, 2 * DEFAULT.block * dim * 4) if missing else 0,
        network_bytes=network,
        bytes_free=free,
        features_bytes=len(dataset) * dim * 4,
        runtime=name,
        device=device,
        cache=store.storage.location(""),
        workers=workers,
    )


def count_cached(
    dataset: Dataset, backbone: Backbone, cache: str | os.PathLike[str] | None
) -> tuple[int, bool]:
    """Return how many images of a dataset are cached, and whether all of them were looked up."""
    store = Store(_storage(cache), backbone.spec(), backbone.dim)
    missing, exact, _ = _missing(dataset, store, backbone)
    return len(dataset) - missing, exact


def _missing(dataset: Dataset, store: Store, backbone: Backbone) -> tuple[int, bool, list[Item]]:
    """Return how many images are not cached, whether that is exact, and some of these."""
    fresh, unread = _lookup(dataset, store, backbone)
    sample = unread[:: max(1, len(unread) // SAMPLE)][:SAMPLE]
    uncached = [item for item in sample if not _is_cached(item, store, backbone)]
    share = len(uncached) / len(sample) if sample else 0.0
    return fresh + round(share * len(unread)), len(sample) == len(unread), uncached


def _storage(cache: str | os.PathLike[str] | None) -> Storage:
    """Return the cache that ``extract`` would use, or make."""
    root = chosen(cache)
    if isinstance(root, str):
        return existing_cache(root) or services.connect(root)
    try:
        refuse_foreign(root)
        if not is_marked(root):  # it is to be made
            nearest_writable(root)
    except CacheError:
        raise
    except OSError as error:
        raise atomic.refusal(error, root) from error
    return FolderStorage(root)


def _lookup(dataset: Dataset, store: Store, backbone: Backbone) -> tuple[int, list[Item]]:
    """Return how many known files are not cached, and the images that nothing is known of."""
    known = KnownFiles(store.root, dataset.location)
    digests, unread = [], []
    for item in dataset.items:
        found = known.of_source(item.source)
        if found is None:
            unread.append(item)
        else:
            digests.append(reduction.address(*found, backbone.side, backbone.preparation))
    table = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return int((store.find(table) < 0).sum()), unread


def _is_cached(item: Item, store: Store, backbone: Backbone) -> bool:
    try:
        content = decoding.content_of(item.source)
    except ImageError:
        return True  # it will never be computed
    address = reduction.address(
        of_content(content),
        reduction.edges_of(content),
        backbone.side,
        backbone.preparation,
    )
    digest = np.frombuffer(address, np.uint8).reshape(1, 32)
    return bool(store.find(digest)[0] >= 0)


def _tried(items: Sequence[Item], backbone: Backbone, engine: Runtime) -> tuple[float, int]:
    """Return the images/s that decoding and computing reach together, and the width."""
    size, side = engine.batch_size, backbone.side
    batches = np.zeros((_BATCHES, size, side, side, 3), np.uint8)
    flat = batches.reshape(-1, side, side, 3)

    def decode(item: Item) -> np.ndarray | None:
        try:
            return decoding.load(item.source, side, how=backbone.preparation)
        except ImageError:
            return None

    items = items[: len(flat)]
    with ThreadPoolExecutor(max(2, runtimes.cpu_count())) as pool:
        began = time.perf_counter()
        for i, image in enumerate(pool.map(decode, items)):
            if image is not None:
                flat[i] = image
        decode_seconds = (time.perf_counter() - began) / len(items)
    dim = int(engine.run(batches[0]).shape[1])
    with ThreadPoolExecutor(engine.streams) as pool:
        began = time.perf_counter()
        list(pool.map(engine.run, batches))
        compute_seconds = (time.perf_counter() - began) / len(flat)
    # A CPU does both; beside a GPU it only decodes.
    same = engine.environment().get("device") == "cpu"
    if same:
        return 1 / (decode_seconds + compute_seconds), dim
    return 1 / max(decode_seconds, compute_seconds), dim
