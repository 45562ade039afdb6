"""The block being filled: pictures to the network batch by batch, whole blocks to the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from featx import probe
from featx.claims import Claim, Claims
from featx.digests import Digest
from featx.errors import CacheEnvironmentError, ExtractionError, ImageError, NonFiniteError
from featx.runtimes import Runtime
from featx.shards import BAD, HOLE, ROW, Block, block_id
from featx.store import Store

logger = logging.getLogger(__name__)

# A shard is published about every 256 pictures: a kill costs at most some seconds of a CPU's
# work, and writing one takes under 0.1 % of the time of computing it.
BLOCK = 256
# Where batches are large: a second or two of a GPU's work.
LARGEST = 1024

# How long the blocks of other processes are waited for after the last of them arrived: some
# times what a block takes here, and this long where none was computed here.
_PATIENCE, _PATIENCE_SECONDS = 3.0, 120.0


@dataclass(frozen=True)
class _Slot:
    id: str
    digest: Digest
    error: ImageError | None


class BlockWriter:
    """Computes and publishes the pictures it is given, in their order.

    A block is a fixed number of slots and a batch a fixed number of pictures, the last one padded
    with black; so what a picture is computed with depends on the pictures alone, and a run that
    was interrupted goes on as it would have. A bad picture keeps its slot, so that it never shifts
    its neighbours. A block is collected first, which gives it its name; then it is claimed,
    computed and published by one thread, so that a kill never costs more than one block, while the
    next one is collected. A block that another process has is left to it.

    Parameters
    ----------
    store : Store
        Where blocks are published.
    start : callable
        Returns the runtime; called when the first good picture comes.
    side : int
        Pixels along each edge.
    lead : sequence of (Digest, pixels), optional
        Pictures before the first, where this environment keeps no row of them; not counted.
    claims : Claims, optional
        Which blocks other processes compute; without, none is left to others.

    Attributes
    ----------
    computed : int
        Pictures that got a row so far.
    dim : int or None
        The width of a row; None before the first batch.
    """

    def __init__(
        self,
        store: Store,
        start: Callable[[], Runtime],
        side: int,
        lead: Sequence[tuple[Digest, np.ndarray]] = (),
        claims: Claims | None = None,
    ) -> None:
        self._store = store
        self._start = start
        self._side = side
        self._lead = lead
        self._claims = claims
        self._runtime: Runtime | None = None
        self._unknown = False  # whether this environment is new to the key
        self._seen: set[Digest] = set()
        self._early: list[_Slot] = []
        self._slots: list[_Slot] = []
        self._busy: set[str] = set()
        self._slowest = 0.0
        self._overflowed: list[str] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="featx-compute")
        self._working: Future[None] | None = None
        self._stopped = False
        self.computed = 0
        self.dim: int | None = None

    def add(self, id: str, digest: Digest, picture: np.ndarray | ImageError) -> None:
        """Give a picture, or the verdict that it is none, the next slot; a repeat gets none."""
        if digest in self._seen:
            return
        self._seen.add(digest)
        if isinstance(picture, ImageError):
            slot = _Slot(id, digest, picture)
            # A verdict alone is not worth starting the network: it waits for a good picture.
            if self._runtime is None:
                self._early.append(slot)
            else:
                self._fill(slot, None)
            return
        if self._runtime is None:
            self._begin()
        self._fill(_Slot(id, digest, None), picture)

    def finish(self) -> None:
        """Compute and publish what is left; durable when this returns.

        Blocks that other processes have are waited for while such blocks arrive; those that do
        not come are not kept when this returns.
        """
        if self._slots:
            self._hand_over()
        self._wait()
        self._await_others()

    def close(self) -> None:
        """Drop what is not published; at most one batch is waited for."""
        self._stopped = True
        self._worker.shutdown(wait=True)
        if self._runtime is not None:
            self._streams.shutdown(wait=True)

    def refuse_overflow(self) -> None:
        """Raise NonFiniteError if a picture got NaN or infinity."""
        if self._overflowed:
            raise NonFiniteError(
                f"the network gave NaN or infinity for {len(self._overflowed)} pictures (such as "
                f"{self._overflowed[0]}); these rows were not kept, all others were. With "
                "precision='float16' that is an overflow: use 'bfloat16' or 'float32'. Otherwise "
                "check the weights."
            )

    def _begin(self) -> None:
        """Start the network, and give what waited for it its slots."""
        self._runtime = self._start()
        self._unknown = self._runtime.environment() not in self._store.environments()
        size = self._runtime.batch_size
        # Two batches a stream, so that a GPU never waits for its next one; a CPU's are small.
        streams = self._runtime.streams
        wanted = min(2 * streams, -(-LARGEST // size)) if streams > 1 else 1
        self._size = max(-(-BLOCK // size), wanted) * size
        self._streams = ThreadPoolExecutor(self._runtime.streams, "featx-run")
        # Two: while one block is computed the next is collected.
        shape = (self._size, self._side, self._side, 3)
        self._pixels, self._spare = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        kept = probe.kept_by(self._store, self._runtime.environment())
        for digest, pixels in self._lead:
            if digest not in kept and digest not in self._seen:
                self._fill(_Slot("", digest, None), pixels)
        self._seen.update(digest for digest, _ in self._lead)
        for slot in self._early:
            self._fill(slot, None)

    def _fill(self, slot: _Slot, pixels: np.ndarray | None) -> None:
        self._pixels[len(self._slots)] = 0 if pixels is None else pixels
        self._slots.append(slot)
        if len(self._slots) == self._size:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the collected block to the thread that computes."""
        self._pixels[len(self._slots) :] = 0
        self._wait()
        self._working = self._worker.submit(self._settle, self._slots, self._pixels)
        self._slots = []
        self._pixels, self._spare = self._spare, self._pixels

    def _wait(self) -> None:
        """Wait for the block under way; its error is raised here."""
        if self._working is not None:
            working, self._working = self._working, None
            working.result()

    def _settle(self, slots: list[_Slot], pixels: np.ndarray) -> None:
        """Compute and publish a block, unless another process did or does."""
        assert self._runtime is not None
        began = time.monotonic()
        sha256 = np.frombuffer(b"".join(slot.digest for slot in slots), np.uint8).reshape(-1, 32)
        name = block_id(self._store.key, self._runtime.batch_size, sha256)
        claim = self._take(name)
        if claim is None:
            self._busy.add(name)
            return
        try:
            # Asked after the claim: whoever had it before has published.
            kept = self._store.adopt(name)
            wanted = np.arange(len(slots)) if kept is None else kept.unserved()
            features = self._compute(len(slots), pixels) if len(wanted) else None
            if features is not None:
                self._publish([slots[i] for i in wanted], sha256[wanted], features[wanted])
                self._slowest = max(self._slowest, time.monotonic() - began)
        finally:
            claim.release()

    def _take(self, name: str) -> Claim | None:
        """Claim a block; None where it is left to the process that has it."""
        claim = self._claims.take(name) if self._claims is not None else Claim()
        if self._claims is None or not self._unknown:
            return claim
        # It may hold the two pictures by which this environment's next block is judged.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while claim is None and not self._stopped and time.monotonic() < deadline:
            if self._store.adopt(name):
                break
            time.sleep(0.05)
            claim = self._claims.take(name)
        return claim

    def _compute(self, count: int, pixels: np.ndarray) -> np.ndarray | None:
        """Return the rows of a block; None when it was stopped on the way."""
        assert self._runtime is not None
        size = self._runtime.batch_size
        batches = [pixels[begin : begin + size] for begin in range(0, count, size)]
        rows = [part for part in self._streams.map(self._run, batches) if part is not None]
        return np.concatenate(rows)[:count] if len(rows) == len(batches) else None

    def _run(self, batch: np.ndarray) -> np.ndarray | None:
        assert self._runtime is not None
        if self._stopped:
            return None
        rows = self._runtime.run(batch)
        expected = (self._runtime.batch_size, self.dim or self._store.dim or rows.shape[-1])
        if rows.shape != expected or rows.dtype != np.float32:
            raise ExtractionError(
                f"the runtime {self._runtime.name} gave {rows.dtype} of shape {rows.shape}; "
                f"expected float32 of shape {expected}."
            )
        self.dim = rows.shape[1]
        return rows

    def _publish(self, slots: list[_Slot], sha256: np.ndarray, features: np.ndarray) -> None:
        assert self._runtime is not None
        status = np.full(len(slots), ROW, np.uint8)
        finite = np.isfinite(features).all(axis=1)
        for i, slot in enumerate(slots):
            if slot.error is not None:
                status[i] = BAD
            elif not finite[i]:
                status[i] = HOLE
                self._overflowed.append(slot.id)
        if (status == HOLE).all():
            return
        block = Block(
            np.where((status == ROW)[:, None], features, np.float32(np.nan)),
            sha256,
            status,
            [(i, s.error.code, str(s.error)) for i, s in enumerate(slots) if s.error is not None],
            self._runtime.batch_size,
            self._runtime.environment(),
        )
        name = block_id(self._store.key, block.batch_size, sha256)
        kept = self._store.adopt(name)
        if kept is not None and len(kept.unserved()) == len(slots):
            # What is kept under this name answers nothing, and would keep these rows out.
            self._store.withdraw(name)
        self._store.publish(block)
        if self._unknown:
            try:
                probe.check_others(self._store, self._runtime, self._side)
            except CacheEnvironmentError:
                self._store.withdraw(name)
                raise
            self._unknown = False
        lead = {digest for digest, _ in self._lead}
        self.computed += sum(
            kind == ROW and slot.digest not in lead
            for slot, kind in zip(slots, status, strict=True)
        )

    def _await_others(self) -> None:
        """Wait for the blocks that other processes have, as long as that gets on."""
        assert self._claims is not None or not self._busy
        patience = max(1.0, _PATIENCE * self._slowest) if self._slowest else _PATIENCE_SECONDS
        deadline = time.monotonic() + patience
        if self._busy:
            logger.info("waiting for %d blocks that other processes compute", len(self._busy))
        while self._claims is not None and self._busy and time.monotonic() < deadline:
            arrived = {name for name in self._busy if self._store.adopt(name)}
            if arrived:
                self._busy -= arrived
                deadline = time.monotonic() + patience
                continue
            claim = self._claims.take(min(self._busy))
            if claim is not None:
                # Given back: published since, or its process is gone and the block is open.
                claim.release()
                if not self._store.adopt(min(self._busy)):
                    return
            time.sleep(0.05)
