"""One scan of a dataset by the workers of an engine: cut here, computed there."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from featx.backbones.backbone import Backbone
from featx.cache.location import MARKER
from featx.cache.stat_index import KnownFiles
from featx.cache.store import Store
from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.errors import ImageError, OutOfMemoryError, TooManyBadImagesError, WorkerDiedError
from featx.extraction import engines, worker
from featx.extraction.engines import Engine
from featx.extraction.lazy_runtime import LazyRuntime
from featx.extraction.pipeline import Computation
from featx.extraction.progress import ProgressBar
from featx.extraction.scan import Ledger, LookedUp, Lookup, ScanResult, listed_once, name_of
from featx.extraction.settings import Settings
from featx.extraction.tasks import Plan, Result, Task, carried
from featx.images import decoding
from featx.images.content_hash import Digest, of_content
from featx.images.elsewhere import Elsewhere, Version
from featx.runtimes import Runtime
from featx.runtimes.runtime import versions
from featx.storage import services

logger = logging.getLogger(__name__)

# Images that are no files go with their task, through the scheduler: a task then ends with the
# block in which it has come to this many bytes. Files that are named are far from it.
_MAX_CARRIED = 16 << 20


@dataclass(frozen=True)
class Workers:
    """What other processes compute with, and how they are reached.

    Attributes
    ----------
    engine : {"joblib", "dask"}
    scheduler : str or None
    backbone : Backbone
    batch_size : int or None
    runtime : str or Runtime
    """

    engine: str
    scheduler: str | None
    backbone: Backbone
    batch_size: int | None
    runtime: str | Runtime

    def shrunk(self, error: OutOfMemoryError) -> Workers:
        """Return workers that take half as many images at a time.

        Raises
        ------
        OutOfMemoryError
            There is no smaller batch to try, or the runtime is the user's own.
        """
        batch_size = error.batch_size
        if batch_size is None or batch_size == 1 or not isinstance(self.runtime, str):
            raise error
        logger.warning(
            "a worker has no memory for %d images at a time; going on with %d",
            batch_size,
            batch_size // 2,
        )
        return replace(self, batch_size=batch_size // 2)


def scan_dataset(
    dataset: Dataset,
    store: Store,
    workers: Workers,
    room: LazyRuntime,
    *,
    sharing: bool,
    progress: bool,
    stat_cache: bool,
    settings: Settings,
) -> ScanResult:
    """Do what ``scan.scan_dataset`` does, with the workers of an engine.

    Images that are known to be cached are told apart here; all others are cut into tasks by their
    places. The same blocks come out, with the same names and bytes, whoever computes them.

    Parameters
    ----------
    room : LazyRuntime
        Asked for room in the cache, and never started.
    sharing : bool
        Whether blocks that other processes have claimed are left to them.

    Raises
    ------
    EngineError
        The cluster, or one of its workers, cannot compute what is asked.
    TooManyBadImagesError, NonFiniteError
        As there.
    """
    began = time.perf_counter()
    scan = _Scan(dataset, store, workers, room, sharing, progress, stat_cache, settings)
    shortage = None
    try:
        scan.run()
    except OutOfMemoryError as error:  # of a worker; what was published stays
        shortage = error
    finally:
        scan.close()
    ledger, outcome = scan.ledger, replace(scan.outcome(), shortage=shortage)
    if ledger.too_many_bad():
        raise TooManyBadImagesError(ledger.failures, ledger.total)
    store.refresh()
    outcome.refuse_overflow()
    return ScanResult(ledger, outcome, time.perf_counter() - began if outcome.computed else 0.0)


class _Scan:
    """One scan: what is listed waits in a queue until all before it is known."""

    def __init__(
        self,
        dataset: Dataset,
        store: Store,
        workers: Workers,
        room: LazyRuntime,
        sharing: bool,
        progress: bool,
        stat_cache: bool,
        settings: Settings,
    ) -> None:
        self._dataset = dataset
        self._store = store
        self._workers = workers
        self._room = room
        self._known = KnownFiles(store.root, dataset.location if stat_cache else None)
        self._settings = settings
        self._length = len(dataset)  # a stream is read now: its images are sent, not itself
        self._bar = ProgressBar(self._length, progress)
        self._engine: Engine | None = None
        self._plan = Plan(
            uuid.uuid4().hex, store.storage.location(""), store.key, workers.backbone,
            workers.runtime, versions().get("featx", "of a checkout"), settings,
            tuple(shard.name for shard in store.index.shards), workers.batch_size, sharing=sharing,
            bucket=_bucket(dataset),
        )  # fmt: skip
        # Each image with what is known of it, or with its task and its number in that.
        self._queue: deque[tuple[Item, LookedUp | tuple[int, int]]] = deque()
        self._found: dict[int, list[LookedUp | None]] = {}
        self._computed = 0
        self._dim = store.dim
        self._start_seconds = 0.0
        self._overflowed: list[str] = []
        self.ledger = Ledger(self._length)

    def run(self) -> None:
        """Fill the ledger; all that could be computed is durable when this returns."""
        tasks = self._tasks()
        first = next(tasks, None)
        if first is not None:
            assert self._engine is not None
            done = engines.completed(self._engine, self._plan, chain([first], tasks))
            with closing(done):  # ended early, what is not begun is dropped
                for task, result in done:
                    self._take(task, result)
                    self._enter()
                    if self.ledger.too_many_bad():
                        return
        self._enter()

    def outcome(self) -> Computation:
        """Return what was computed; an image that two tasks computed counts once."""
        computed = 0
        if self._computed:
            new = np.unique(self.ledger.digests(), axis=0)
            computed = min(self._computed, int((self._store.find(new) < 0).sum()))
        return Computation(computed, self._dim, self._start_seconds, None, tuple(self._overflowed))

    def close(self) -> None:
        """Let the workers go, and remember which files were read."""
        if self._engine is not None:
            self._engine.close()
        self._bar.close()
        if self._store.storage.exists(MARKER):  # else it was removed, as in `scan`
            self._known.save()

    def _tasks(self) -> Iterator[Task]:
        backbone = self._workers.backbone
        lookup = Lookup(self._store, self._known, backbone.side, backbone.preparation)
        items: list[Item] = []
        places: list[int] = []
        again: list[int] = []
        listed: set[int | Digest] = set()
        once = listed_once(self._dataset)
        number, stretch, size, length = 0, 0, 0, 0
        for item, found in lookup.listed(self._dataset):
            if not isinstance(found, int):
                self._bar.count(new=False)
                self._queue.append((item, found))
                continue
            if self._engine is None:
                length = self._meet()
            begins = found // length != stretch
            if size > _MAX_CARRIED:
                entries = self._plan.entries
                begins |= entries is not None and found // entries != places[-1] // entries
            if items and begins:
                yield self._task(number, items, places, again)
                items, places, again, size = [], [], [], 0
                number += 1
            stretch = found // length
            size += carried(item)
            self._bar.count(new=True)
            self._queue.append((item, (number, len(items))))
            if not once:
                name = _name(item)
                if name in listed:
                    again.append(len(items))
                listed.add(name)
            items.append(item)
            places.append(found)
        if items:
            yield self._task(number, items, places, again)

    def _task(self, number: int, items: list[Item], places: list[int], again: list[int]) -> Task:
        self._found[number] = [None] * len(items)
        return Task.of(number, items, places, self._dataset.location, again)

    def _meet(self) -> int:
        """Reach the workers, let one start the network, and return the places of a task."""
        self._room.make_room()
        self._engine = engines.opened(self._workers.engine, self._workers.scheduler)
        self._bar.show()
        self._engine.check(self._plan)
        greeting = self._engine.greeting(self._plan)
        self._plan = replace(
            self._plan,
            batch_size=greeting.batch_size,
            entries=greeting.entries,
            probes=greeting.shards,
        )
        self._start_seconds = greeting.start_seconds
        self._dim = greeting.dim or self._dim
        self._bar.resume()
        settings = self._settings
        blocks = -(-self._length // greeting.entries)
        tasks = settings.tasks * self._engine.workers()
        return greeting.entries * max(1, min(settings.task, blocks // tasks))

    def _take(self, task: Task, result: Result | WorkerDiedError) -> None:
        """Note what became of a task, or of a part of one."""
        found = self._found[task.number]
        if isinstance(result, WorkerDiedError):
            found[task.begin] = LookedUp(None, result)
            self._bar.done(1, self._dim)
            return
        self._computed += result.computed
        self._overflowed += result.overflowed
        self._dim = self._dim or result.dim
        self._room.name = result.runtime or self._room.name
        bad, remarks = dict(result.bad), dict(result.remarks)
        for i in range(len(task)):
            digest = result.digest(i)
            found[task.begin + i] = LookedUp(digest, bad.get(i), remarks=remarks.get(i, ()))
        self._remember(task, result)
        self._bar.done(len(task), self._dim)

    def _remember(self, task: Task, result: Result) -> None:
        """Remember the files that are here what they were where they were read."""
        items = task.items() if result.read else []
        for i, read in result.read:
            source = items[i].source
            if isinstance(read.seen, Version):
                assert isinstance(source, Elsewhere)
                self._known.remember_at(source.address, read.seen, read.digest, read.edges)
                continue
            assert isinstance(source, Path)
            try:
                stat = os.stat(source)
            except OSError:
                continue
            if worker.seen(stat) == read.seen:
                self._known.remember(source, stat, read.read_at, read.digest, read.edges)

    def _enter(self) -> None:
        """Enter into the ledger what is known, up to the first image that is not."""
        while self._queue:
            item, found = self._queue[0]
            if not isinstance(found, LookedUp):
                number, i = found
                if number not in self._found:
                    return  # its task is not cut yet
                one = self._found[number][i]
                if one is None:
                    return
                if i + 1 == len(self._found[number]):
                    del self._found[number]
                found = one
            self._queue.popleft()
            self.ledger.enter(item, found)
            if self.ledger.too_many_bad():
                return


def _name(item: Item) -> int | Digest:
    """Return what tells an image that is listed twice, as ``scan.enter_all`` does it."""
    name = name_of(item.source)
    if name is not None:
        return name
    try:
        return of_content(decoding.content_of(item.source))
    except ImageError:
        return id(item)  # the worker says what is wrong with it


def _bucket(dataset: Dataset) -> str | None:
    """Return where the images are, if that is an object store that each worker must reach."""
    location = dataset.location
    scheme = location.partition("://")[0] if isinstance(location, str) else ""
    return str(location) if scheme in services.SERVICES else None
