"""The block being filled: its images to the network, and whole blocks to the store."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event

import numpy as np

from featx.cache.locks import Claim, Claims
from featx.cache.shards import BAD, EMBEDDING, MISSING, Block, block_id
from featx.cache.store import Store
from featx.errors import CacheEnvironmentError, ImageError, NonFiniteError
from featx.extraction import probe
from featx.extraction.batches import Batches
from featx.images.content_hash import Digest
from featx.runtimes import Runtime

logger = logging.getLogger(__name__)

# A kill costs at most this many images, some seconds of a CPU's work: those of a block that is
# not published yet, and AHEAD of the next one, computed meanwhile so that no core rests.
BLOCK, AHEAD = 256, 64
# Where batches are large: a second or two of a GPU's work.
LARGEST = 1024

# How long the blocks of other processes are waited for after the last of them arrived: some
# times what a block takes here, and this long where none was computed here.
_PATIENCE, _PATIENCE_SECONDS = 3.0, 120.0


class BlockWriter:
    """Computes and publishes the images it is given, in their order.

    A block is a fixed number of slots and a batch a fixed number of images, the last one padded
    with black; so what a image is computed with depends on the images alone, and a run that
    was interrupted goes on as it would have. A bad image keeps its slot, so that it never shifts
    its neighbours. A block is collected first, which gives it its name; then it is claimed,
    computed and published. Two are under way at a time: the first images of the second keep the
    network busy while the first is published, the others wait for that. A block that another
    process has is left to it.

    Parameters
    ----------
    store : Store
        Where blocks are published.
    start : callable
        Returns the runtime; called when the first good image comes.
    side : int
        Pixels along each edge.
    lead : sequence of (Digest, pixels), optional
        Images before the first, where this environment keeps no row of them; not counted.
    claims : Claims, optional
        Which blocks other processes compute; without, none is left to others.
    done : callable, optional
        Called with how many more images have their rows, of those that ``add`` returned True
        for; from other threads.

    Attributes
    ----------
    computed : int
        Images that got a row so far.
    """

    def __init__(
        self,
        store: Store,
        start: Callable[[], Runtime],
        side: int,
        lead: Sequence[tuple[Digest, np.ndarray]] = (),
        claims: Claims | None = None,
        done: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._store = store
        self._start = start
        self._side = side
        self._lead = lead
        self._claims = claims
        self._done = done
        self._leading = {digest for digest, _ in lead}
        self._runtime: Runtime | None = None
        self._known = Event()  # that this environment is not new to the key
        self._seen: set[Digest] = set()
        self._early: list[Slot] = []
        self._slots: list[Slot] = []
        self._batches: list[np.ndarray] = []
        self._busy: dict[str, int] = {}  # the images of each block that is left to others
        self._slowest = self._published_at = 0.0
        self._overflowed: list[str] = []
        self._worker = ThreadPoolExecutor(2, thread_name_prefix="featx-settle")
        self._working: deque[Future[None]] = deque()
        self._sent = Event()
        self._sent.set()
        self._stopped = False
        self.computed = 0

    @property
    def dim(self) -> int | None:
        """The width of a row; None before it is known."""
        return None if self._runtime is None else self._network.dim

    def add(self, id: str, digest: Digest, image: np.ndarray | ImageError) -> bool:
        """Give a image, or the verdict that it is none, the next slot; a repeat gets none.

        Returns whether its row is still to come, and `done` will count it.
        """
        if digest in self._seen:
            return False
        self._seen.add(digest)
        if isinstance(image, ImageError):
            slot = Slot(id, digest, image)
            # A verdict alone is not worth starting the network: it waits for a good image.
            if self._runtime is None:
                self._early.append(slot)
            else:
                self._fill(slot, None)
            return False
        if self._runtime is None:
            self._begin()
        slot = Slot(id, digest, None)
        self._fill(slot, image)
        return self._counts(slot)

    def finish(self) -> None:
        """Compute and publish what is left; durable when this returns.

        Blocks that other processes have are waited for while such blocks arrive; those that do
        not come are not kept when this returns.
        """
        if self._slots:
            self._hand_over()
        while self._working:
            self._working.popleft().result()
        if self._claims is not None and self._busy:
            logger.info("waiting for %d blocks that other processes compute", len(self._busy))
            patience = max(1.0, _PATIENCE * self._slowest) if self._slowest else _PATIENCE_SECONDS
            self._claims.wait(self._busy, self._arrived, patience)

    def close(self) -> None:
        """Drop what is not published; at most one batch is waited for."""
        self._stopped = True
        if self._runtime is not None:
            self._network.stop()
        self._worker.shutdown(wait=True)
        if self._runtime is not None:
            self._network.close()

    def refuse_overflow(self) -> None:
        """Raise NonFiniteError if a image got NaN or infinity."""
        if self._overflowed:
            raise NonFiniteError(
                f"the network gave NaN or infinity for {len(self._overflowed)} images (such as "
                f"{self._overflowed[0]}); these rows were not kept, all others were. With "
                "precision='float16' that is an overflow: use 'bfloat16' or 'float32'. Otherwise "
                "check the weights."
            )

    def _begin(self) -> None:
        """Start the network, and give what waited for it its slots."""
        runtime = self._start()
        size, streams = runtime.batch_size, runtime.streams
        # Two batches a stream, so that a GPU never waits for its next one; a CPU's are small.
        wanted = min(2 * streams, -(-LARGEST // size)) if streams > 1 else 1
        at_risk = max(-(-BLOCK // size), wanted)
        self._ahead = min(max(AHEAD // size, streams), at_risk - 1)
        self._per_block = at_risk - self._ahead
        # Of the block that is collected and of most of the one before it.
        count = self._per_block + max(1, 3 * self._per_block // 4)
        self._network = Batches(runtime, self._side, self._store.dim, count)
        self._runtime = runtime
        if runtime.environment() in self._store.environments():
            self._known.set()
        kept = probe.kept_by(self._store, runtime.environment())
        for digest, pixels in self._lead:
            if digest not in kept and digest not in self._seen:
                self._fill(Slot("", digest, None), pixels)
        self._seen.update(self._leading)
        for slot in self._early:
            self._fill(slot, None)

    def _counts(self, slot: Slot) -> bool:
        return slot.error is None and slot.digest not in self._leading

    def _arrived(self, name: str) -> bool:
        if self._store.load(name) is None:
            return False
        self._done(self._busy.pop(name, 0))
        return True

    def _fill(self, slot: Slot, pixels: np.ndarray | None) -> None:
        assert self._runtime is not None
        batch, place = divmod(len(self._slots), self._runtime.batch_size)
        if place == 0:
            self._batches.append(self._network.take())
        self._batches[batch][place] = 0 if pixels is None else pixels
        self._slots.append(slot)
        if len(self._slots) == self._per_block * self._runtime.batch_size:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the collected block to a thread that settles it, once at most one is under way."""
        while len(self._working) > 1 or (self._working and self._working[0].done()):
            self._working.popleft().result()  # its error is raised here
        self._sent.wait()  # or it could overtake the one before
        self._sent = Event()
        before = self._working[-1] if self._working else None
        work = (self._slots, self._batches, self._sent, before)
        self._working.append(self._worker.submit(self._settle, *work))
        self._slots, self._batches = [], []

    def _settle(
        self,
        slots: list[Slot],
        batches: list[np.ndarray],
        sent: Event,
        before: Future[None] | None,
    ) -> None:
        """Compute and publish a block after the one before, unless another process did or does."""
        assert self._runtime is not None
        began = time.monotonic()
        claim, size = None, self._runtime.batch_size
        # How many of each batch's images count.
        news = [sum(map(self._counts, slots[i : i + size])) for i in range(0, len(slots), size)]
        try:
            name = block_id(self._store.key, size, digests(slots))
            claim = self._take(name)
            if claim is None:
                self._busy[name] = sum(news)
                return
            # Asked after the claim: whoever had it before has published.
            kept = self._store.load(name)
            wanted = np.arange(len(slots)) if kept is None else kept.unserved()
            features = None
            if len(wanted):
                given, batches = batches, []
                features = self._network.compute(
                    given, len(slots), sent, before, self._ahead, lambda i: self._done(news[i])
                )
            else:
                self._done(sum(news))
            if before is not None:
                before.result()
            if features is not None:
                self._publish([slots[i] for i in wanted], features[wanted])
                # Waiting for the block before is that one's time.
                now = time.monotonic()
                self._slowest = max(self._slowest, now - max(began, self._published_at))
                self._published_at = now
        finally:
            sent.set()
            self._network.give_back(batches)
            if claim is not None:
                claim.release()

    def _take(self, name: str) -> Claim | None:
        """Claim a block; None where it is left to the process that has it."""
        if self._claims is None:
            return Claim()
        claim = self._claims.take(name)
        if self._known.is_set():
            return claim
        # It may hold the two images by which this environment's next block is judged.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while claim is None and not self._stopped and time.monotonic() < deadline:
            if self._store.load(name) or self._known.wait(0.05):
                break
            claim = self._claims.take(name)
        return claim

    def _publish(self, slots: list[Slot], features: np.ndarray) -> None:
        assert self._runtime is not None
        block = block_of(slots, features, self._runtime)
        self._overflowed += [slots[i].id for i in np.flatnonzero(block.status == MISSING)]
        if (block.status == MISSING).all():
            return
        name = block_id(self._store.key, block.batch_size, block.sha256)
        kept = self._store.load(name)
        if kept is not None and len(kept.unserved()) == len(slots):
            # What is kept under this name answers nothing, and would keep these rows out.
            self._store.withdraw(name)
        self._store.publish(block)
        if not self._known.is_set():
            try:
                check = partial(probe.check_others, self._store, self._runtime, self._side)
                self._network.between(check)
            except CacheEnvironmentError:
                self._store.withdraw(name)
                raise
            self._known.set()
        self.computed += sum(
            kind == EMBEDDING and self._counts(slot)
            for slot, kind in zip(slots, block.status, strict=True)
        )


@dataclass(frozen=True)
class Slot:
    """A place in a block: a image's, or with an error that of a file that is none."""

    id: str
    digest: Digest
    error: ImageError | None


def digests(slots: Sequence[Slot]) -> np.ndarray:
    """Return the content digests of the slots, shape (n, 32)."""
    return np.frombuffer(b"".join(slot.digest for slot in slots), np.uint8).reshape(-1, 32)


def block_of(slots: Sequence[Slot], features: np.ndarray, runtime: Runtime) -> Block:
    """Return the block to publish; a row with NaN or infinity becomes a hole."""
    status = np.full(len(slots), EMBEDDING, np.uint8)
    status[~np.isfinite(features).all(axis=1)] = MISSING
    bad = [(i, slot.error) for i, slot in enumerate(slots) if slot.error is not None]
    status[[i for i, _ in bad]] = BAD
    return Block(
        np.where((status == EMBEDDING)[:, None], features, np.float32(np.nan)),
        digests(slots),
        status,
        [(i, error.code, str(error)) for i, error in bad],
        runtime.batch_size,
        runtime.environment(),
    )
