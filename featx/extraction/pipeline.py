"""Blocks on their way to the store: claimed, computed and published, two at a time."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain
from threading import Event

import numpy as np

from featx.cache.locks import Claim, Claims
from featx.cache.shards import BAD, EMBEDDING, MISSING, Block, block_id
from featx.cache.store import Store
from featx.errors import NonFiniteError, OutOfMemoryError
from featx.extraction import assembler
from featx.extraction.assembler import AssembledBlock, Entry, Layout, Miss
from featx.extraction.batches import Batches
from featx.extraction.guard import EnvironmentGuard
from featx.extraction.progress import ProgressBar
from featx.extraction.settings import DEFAULT, Settings
from featx.runtimes import Runtime

logger = logging.getLogger(__name__)


class State(Enum):
    """Where a block is on its way."""

    ASSEMBLED = auto()
    CLAIMED = auto()
    """No other process that asks for the claim computes it."""
    COMPUTING = auto()
    COMPUTED = auto()
    PUBLISHED = auto()
    LEFT = auto()
    """The end: another process has it."""
    CACHED = auto()
    """The end: it was published before, and each entry of it serves."""
    DROPPED = auto()
    """The end: the pipeline was closed while it was computed."""
    EMPTY = auto()
    """The end: it was computed, and no entry of it can be cached."""


_NEXT = {
    State.ASSEMBLED: {State.CLAIMED, State.LEFT},
    State.CLAIMED: {State.COMPUTING, State.CACHED},
    State.COMPUTING: {State.COMPUTED, State.DROPPED},
    State.COMPUTED: {State.PUBLISHED, State.EMPTY},
}


@dataclass(eq=False)
class Job:
    """One block on its way through the pipeline; it stays in the state in which it failed.

    Attributes
    ----------
    block : AssembledBlock
    before : Future or None
        The job before, after which this one is published.
    state : State
    sent : Event
        Set when its batches are with the runtime, or never will be: the next job's may follow.
    claim : Claim or None
    """

    block: AssembledBlock
    before: Future[None] | None = None
    state: State = State.ASSEMBLED
    sent: Event = field(default_factory=Event)
    claim: Claim | None = None

    def advance(self, state: State) -> None:
        """Enter the next state.

        Raises
        ------
        ValueError
            It does not follow the current one.
        """
        if state not in _NEXT.get(self.state, ()):
            raise ValueError(f"block {self.block.name}: {state.name} after {self.state.name}")
        self.state = state


class Pipeline:
    """Claims, computes and publishes blocks in their order.

    Two are under way at a time: the first batches of the second keep the network busy while the
    first is published, its others wait for that. A block that another process has is left to it.

    Parameters
    ----------
    store : Store
        Where blocks are published.
    network : Batches
        What computes them.
    layout : Layout
    claims : Claims or None
        Which blocks other processes compute; without, none is left to others.
    bar : ProgressBar
        Counts images whose embeddings are there.
    settings : Settings

    Attributes
    ----------
    computed : int
        Counted images that got an embedding so far.
    overflowed : list of str
        Ids of the images that got NaN or infinity.
    """

    def __init__(
        self,
        store: Store,
        network: Batches,
        layout: Layout,
        claims: Claims | None,
        bar: ProgressBar,
        settings: Settings = DEFAULT,
    ) -> None:
        self._store = store
        self._network = network
        self._layout = layout
        self._claims = claims
        self._bar = bar
        self._settings = settings
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="featx-settle")
        self._working: deque[Future[None]] = deque()
        self._sent = Event()
        self._sent.set()
        self._left: dict[str, int] = {}  # counted images of each block that is left to others
        self._slowest = self._published_at = 0.0
        self._stopped = False
        self.computed = 0
        self.overflowed: list[str] = []

    def submit(self, block: AssembledBlock) -> Job:
        """Begin on a block, once at most one other is under way; the error of one before is raised.

        The caller gives its batches away.
        """
        while len(self._working) > 1 or (self._working and self._working[0].done()):
            self._working.popleft().result()
        self._sent.wait()  # or this one could overtake the one before
        job = Job(block, self._working[-1] if self._working else None)
        self._sent = job.sent
        self._working.append(self._workers.submit(self._settle, job))
        return job

    def finish(self) -> None:
        """Wait until all blocks are durable.

        Blocks that other processes have are waited for while such blocks arrive; those that do
        not come are not cached when this returns.
        """
        while self._working:
            self._working.popleft().result()
        if self._claims is not None and self._left:
            logger.info("waiting for %d blocks that other processes compute", len(self._left))
            patience = self._settings.patience_seconds
            if self._slowest:
                patience = max(1.0, self._settings.patience * self._slowest)
            self._claims.wait(self._left, self._arrived, patience)

    def close(self) -> None:
        """Drop what is not published; at most one batch per stream is waited for."""
        self._stopped = True
        self._network.stop()
        self._workers.shutdown(wait=True)
        self._network.close()

    def _arrived(self, name: str) -> bool:
        if self._store.load(name) is None:
            return False
        self._bar.done(self._left.pop(name, 0), self._network.dim)
        return True

    def _settle(self, job: Job) -> None:
        """Take a job to its end, after the one before."""
        began = time.monotonic()
        try:
            self._claim(job)
            if job.state is State.LEFT:
                return
            wanted = self._missing(job)
            features = self._compute(job) if len(wanted) else None
            if job.before is not None:
                job.before.result()
            if features is not None:
                self._publish(job, wanted, features[wanted])
                # Waiting for the block before is that one's time.
                now = time.monotonic()
                self._slowest = max(self._slowest, now - max(began, self._published_at))
                self._published_at = now
        finally:
            job.sent.set()
            self._network.give_back(job.block.take_batches())
            if job.claim is not None:
                job.claim.release()

    def _claim(self, job: Job) -> None:
        job.claim = Claim() if self._claims is None else self._claims.take(job.block.name)
        if job.claim is None:
            self._left[job.block.name] = sum(job.block.counts())
            job.advance(State.LEFT)
        else:
            job.advance(State.CLAIMED)

    def _missing(self, job: Job) -> np.ndarray:
        """Return the positions of the entries that no cached block serves."""
        # Asked after the claim: whoever had it before has published.
        cached = self._store.load(job.block.name)
        if cached is None:
            return np.arange(len(job.block.entries))
        wanted = cached.unserved()
        if not len(wanted):
            job.advance(State.CACHED)
            self._bar.done(sum(job.block.counts()), self._network.dim)
        return wanted

    def _compute(self, job: Job) -> np.ndarray | None:
        """Return the embeddings of all entries; None when the pipeline was closed."""
        job.advance(State.COMPUTING)
        counts, network, bar = job.block.counts(), self._network, self._bar
        features = network.compute(
            job.block.take_batches(), len(job.block.entries), job.sent, job.before,
            self._layout.ahead, lambda batch: bar.done(counts[batch], network.dim),
        )  # fmt: skip
        job.advance(State.DROPPED if features is None else State.COMPUTED)
        return features

    def _publish(self, job: Job, wanted: np.ndarray, features: np.ndarray) -> None:
        """Publish the wanted entries with their embeddings."""
        entries = [job.block.entries[position] for position in wanted]
        block = publishable(entries, features, self._network.runtime)
        self.overflowed += [entries[i].id for i in np.flatnonzero(block.status == MISSING)]
        if (block.status == MISSING).all():
            job.advance(State.EMPTY)
            return
        name = block_id(self._store.key, block.batch_size, block.sha256)
        cached = self._store.load(name)
        if cached is not None and len(cached.unserved()) == len(entries):
            # What has this name serves nothing, and would keep these embeddings out.
            self._store.withdraw(name)
        self._store.publish(block)
        self.computed += sum(
            kind == EMBEDDING and entry.counted
            for entry, kind in zip(entries, block.status, strict=True)
        )
        job.advance(State.PUBLISHED)


def publishable(entries: Sequence[Entry], features: np.ndarray, runtime: Runtime) -> Block:
    """Return the block to publish; an embedding with NaN or infinity becomes a hole."""
    status = np.full(len(entries), EMBEDDING, np.uint8)
    status[~np.isfinite(features).all(axis=1)] = MISSING
    bad = [(i, entry.error) for i, entry in enumerate(entries) if entry.error is not None]
    status[[i for i, _ in bad]] = BAD
    return Block(
        np.where((status == EMBEDDING)[:, None], features, np.float32(np.nan)),
        assembler.digests_of(entries),
        status,
        [(i, error.code, str(error)) for i, error in bad],
        runtime.batch_size,
        runtime.environment(),
    )


@dataclass(frozen=True)
class Computation:
    """What became of the misses of a dataset.

    Attributes
    ----------
    computed : int
        Counted images that got an embedding.
    dim : int or None
        The width of an embedding; None where the network was not started.
    start_seconds : float
        What starting the network took.
    shortage : OutOfMemoryError or None
        Why it ended early: blocks published before stay, smaller batches may do.
    overflowed : sequence of str
        Ids of the images that got NaN or infinity.
    """

    computed: int = 0
    dim: int | None = None
    start_seconds: float = 0.0
    shortage: OutOfMemoryError | None = None
    overflowed: Sequence[str] = ()

    def refuse_overflow(self) -> None:
        """Raise NonFiniteError if an image got NaN or infinity."""
        if self.overflowed:
            raise NonFiniteError(
                f"the network gave NaN or infinity for {len(self.overflowed)} images (such as "
                f"{self.overflowed[0]}); their embeddings were not cached, all others were. With "
                "precision='float16' that is an overflow: use 'bfloat16' or 'float32'. Otherwise "
                "check the weights."
            )


def compute(
    misses: Iterator[Miss],
    start: Callable[[], Runtime],
    store: Store,
    side: int,
    guard: EnvironmentGuard,
    *,
    claims: Claims | None = None,
    bar: ProgressBar | None = None,
    settings: Settings = DEFAULT,
) -> Computation:
    """Compute and publish misses; all that could be is durable when this returns.

    Parameters
    ----------
    misses : iterator of Miss
        In the order of their places.
    start : callable
        Returns the runtime; called when the first good image comes, if one does.
    store : Store
    side : int
        Pixels along each edge.
    guard : EnvironmentGuard
    claims : Claims, optional
        Which blocks other processes compute; without, none is left to others.
    bar : ProgressBar, optional
    settings : Settings, optional
    """
    bar = bar or ProgressBar(None, wanted=False)
    pipeline: Pipeline | None = None
    network: Batches | None = None
    shortage = None
    start_seconds = 0.0
    try:
        if early := assembler.until_good(misses):
            began = time.perf_counter()
            runtime = start()
            guard.admit(runtime)
            start_seconds = time.perf_counter() - began
            bar.resume()
            layout = Layout.of(runtime.batch_size, runtime.streams, settings)
            network = Batches(runtime, side, store.dim, layout.buffers)
            pipeline = Pipeline(store, network, layout, claims, bar, settings)
            ordered = chain(early, misses)
            del early  # its last image need not stay in memory
            for block in assembler.assemble(ordered, layout, store.key, network.buffers()):
                pipeline.submit(block)
            pipeline.finish()
    except OutOfMemoryError as error:
        shortage = error
    finally:
        if pipeline is not None:
            pipeline.close()
    if pipeline is None or network is None:
        return Computation(start_seconds=start_seconds, shortage=shortage)
    return Computation(
        pipeline.computed, network.dim, start_seconds, shortage, tuple(pipeline.overflowed)
    )
