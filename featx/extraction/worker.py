"""What a worker does: it reads, decodes, computes and publishes the images of a task."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from featx import runtimes
from featx.cache.location import existing_cache
from featx.cache.locks import Claims
from featx.cache.stat_index import KnownFiles, now_ns
from featx.cache.store import Store
from featx.datasets.items import Item
from featx.errors import EngineError, FeatxError, ImageError
from featx.extraction import pipeline, probe, scan
from featx.extraction.assembler import Layout
from featx.extraction.guard import EnvironmentGuard
from featx.extraction.progress import ProgressBar
from featx.extraction.tasks import Plan, Read, Result, Task
from featx.images.content_hash import Digest
from featx.images.decoding import Source
from featx.images.elsewhere import Elsewhere, Version
from featx.images.reduction import Edges
from featx.runtimes import Runtime
from featx.runtimes.runtime import versions
from featx.storage import services


@dataclass(frozen=True)
class Greeting:
    """What the first worker says of itself, before any task is cut.

    Attributes
    ----------
    batch_size, entries : int
        Images per batch and places per block.
    dim : int or None
        The width of an embedding, where it is known.
    start_seconds : float
        What starting the network took.
    shards : tuple of str
        Those with the probe images, which each worker must see.
    """

    batch_size: int
    entries: int
    dim: int | None
    start_seconds: float
    shards: tuple[str, ...]


def greet(plan: Plan) -> Greeting:
    """Start the network and publish its probe images; runs on one worker, before any task."""
    here = _here(plan)
    with here.lock:
        began = time.perf_counter()
        runtime = here.start()
        here.guard.admit(runtime)
        entries = Layout.of(runtime.batch_size, runtime.streams, plan.settings).entries
        seconds = time.perf_counter() - began
        shards = probe.shards(here.store)
        return Greeting(runtime.batch_size, entries, here.store.dim, seconds, shards)


def readiness(plan: Plan) -> tuple[str, dict[str, str], str | None]:
    """Return this worker's name and versions, and what keeps it from computing, if anything does.

    No network is started. Runs on each worker, before any task.
    """
    try:
        _refusal(plan)
        return name(), versions(), None
    except FeatxError as error:
        return name(), versions(), str(error)


def compute(plan: Plan, task: Task) -> Result:
    """Compute and publish what is missing of a task.

    Raises
    ------
    EngineError
        This worker cannot compute what the plan asks for.
    FeatxError
        As ``extract`` raises it; what was published stays.
    """
    here = _here(plan)
    with here.lock:  # one task at a time, however many threads a worker has
        return here.compute(task)


def name() -> str:
    """Return how messages call this worker."""
    return f"{socket.gethostname()}, process {os.getpid()}"


class _Here:
    """What a process keeps between the tasks of a run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lock = threading.Lock()
        backbone = plan.backbone
        try:
            self.store = _refusal(plan)
        except FeatxError as error:
            raise EngineError(f"the worker {name()} cannot compute: {error}") from error
        # The same versions on another processor may compute otherwise: all are compared.
        self.guard = EnvironmentGuard(self.store, backbone.side, backbone.precision, always=True)
        self._runtime: Runtime | None = None

    def start(self) -> Runtime:
        """Return the runtime, started when the first good image comes."""
        if self._runtime is None:
            plan = self.plan
            if isinstance(plan.runtime, str):
                self._runtime = runtimes.start(plan.backbone, plan.batch_size, plan.runtime)
            else:
                self._runtime = plan.runtime
            layout = Layout.of(self._runtime.batch_size, self._runtime.streams, plan.settings)
            found = (self._runtime.batch_size, layout.entries)
            if plan.entries is not None and found != (plan.batch_size, plan.entries):
                raise EngineError(
                    f"the worker {name()} would compute {found[0]} images at a time in blocks of "
                    f"{found[1]}, the others {plan.batch_size} in blocks of {plan.entries}: use "
                    "workers of one kind, or pass batch_size."
                )
        return self._runtime

    def compute(self, task: Task) -> Result:
        plan, store, backbone = self.plan, self.store, self.plan.backbone
        noted = _Noted(store.root)
        lookup = scan.Lookup(store, noted, backbone.side, backbone.preparation)
        result = Result(worker=name())
        threads = scan.readers(task.images[0][1])
        pool = ThreadPoolExecutor(threads, thread_name_prefix="featx-read")
        bar = ProgressBar(None, wanted=False)
        claims = Claims(store.folder / "claims", answer_seconds=plan.settings.lock_seconds)
        try:
            works = (
                (item, pool.submit(lookup.read, item, place))
                for item, place in zip(task.items(), task.places, strict=True)
            )
            found = _noting(scan.ahead(works, scan.AHEAD * threads), result, noted, task)
            # Whether too many are bad is for the driver to say, who sees all.
            misses = scan.enter_all(found, scan.Ledger(expected=1 << 62), bar)
            outcome = pipeline.compute(
                misses, self.start, store, backbone.side, self.guard,
                claims=claims if plan.sharing else None, settings=plan.settings,
            )  # fmt: skip
        finally:
            pool.shutdown(cancel_futures=True)
        if outcome.shortage is not None:
            raise outcome.shortage
        result.computed, result.dim = outcome.computed, outcome.dim
        result.overflowed = list(outcome.overflowed)
        result.runtime = None if self._runtime is None else self._runtime.name
        return result


class _Noted(KnownFiles):
    """Keeps what was read of each file for the driver, who remembers it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, None)
        self._read: dict[str, Read] = {}

    def remember(
        self,
        path: Path,
        stat: os.stat_result,
        read_at: int,
        digest: Digest,
        edges: Edges = (0, 0),
    ) -> None:
        self._read[os.fspath(path)] = Read(seen(stat), read_at, digest, edges)

    def remember_at(
        self, address: str, version: Version, digest: Digest, edges: Edges = (0, 0)
    ) -> None:
        self._read[address] = Read(version, now_ns(), digest, edges)

    def taken(self, source: Source) -> Read | None:
        """Return what was read of an image, and keep it no longer."""
        if isinstance(source, Path):
            return self._read.pop(os.fspath(source), None)
        return self._read.pop(source.address, None) if isinstance(source, Elsewhere) else None


def seen(stat: os.stat_result) -> tuple[int, int, int, int]:
    """Return what two machines see alike of a file."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _noting(
    found: Iterator[tuple[Item, scan.LookedUp]], result: Result, noted: _Noted, task: Task
) -> Iterator[tuple[Item, scan.LookedUp]]:
    for number, (item, one) in enumerate(found):
        error = one.image if isinstance(one.image, ImageError) else None
        result.note(one.digest, error, one.remarks)
        read = noted.taken(item.source)
        if read is not None:
            result.read.append((number, read))
        if task.begin + number not in task.again:
            yield item, one


def _refusal(plan: Plan) -> Store:
    """Return the store of a plan, or raise what this process lacks for it."""
    have = versions().get("featx", "of a checkout")
    if have != plan.featx:
        raise EngineError(f"it has featx {have}, the driver {plan.featx}.")
    storage = existing_cache(plan.cache)
    if storage is None:
        raise _unseen(plan)
    store = Store(storage, plan.backbone.spec(), names=plan.known)
    if store.key != plan.key:
        raise EngineError(
            "its network is another one: the weights, or the libraries that decide the pixels, are "
            "not those of the driver."
        )
    seen = store.storage.exists(f"{store.folder.name}/key.json")
    if not seen or any(store.load(name.removesuffix(".h5")) is None for name in plan.probes):
        raise _unseen(plan)
    if plan.bucket is not None:
        services.client_at(plan.bucket, EngineError)
    return store


def _unseen(plan: Plan) -> EngineError:
    return EngineError(
        f"it does not see the driver's cache at {plan.cache}: all must share that folder, or have "
        "a bucket for it."
    )


_lock = threading.Lock()
_last: list[_Here] = []


def _here(plan: Plan) -> _Here:
    """Return what this process has for a plan, made when it is first asked."""
    wanted = (plan.run, plan.probes, plan.batch_size)
    with _lock:
        for here in _last:
            if (here.plan.run, here.plan.probes, here.plan.batch_size) == wanted:
                return here
        here = _Here(plan)
        # The network that greeted the driver goes on.
        here._runtime = next((one._runtime for one in _last if one.plan.run == plan.run), None)
        _last[:] = [here]
        return here
