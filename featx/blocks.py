"""The block being filled: pictures to the network batch by batch, whole blocks to the store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from featx.digests import Digest
from featx.errors import ExtractionError, ImageError, NonFiniteError
from featx.runtimes import Runtime
from featx.shards import BAD, HOLE, ROW, Block
from featx.store import Store

# A shard is published about every 256 pictures: a kill costs at most some seconds of a CPU's
# work, and writing one takes under 0.1 % of the time of computing it.
BLOCK = 256


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
    its neighbours.

    Parameters
    ----------
    store : Store
        Where blocks are published.
    start : callable
        Returns the runtime; called when the first good picture comes.
    side : int
        Pixels along each edge.

    Attributes
    ----------
    computed : int
        Pictures that got a row so far.
    dim : int or None
        The width of a row; None before the first batch.
    """

    def __init__(self, store: Store, start: Callable[[], Runtime], side: int) -> None:
        self._store = store
        self._start = start
        self._side = side
        self._runtime: Runtime | None = None
        self._seen: set[Digest] = set()
        self._early: list[_Slot] = []
        self._slots: list[_Slot] = []
        self._rows: list[np.ndarray] = []
        self._overflowed: list[str] = []
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="featx-publish")
        self._publishing: Future[None] | None = None
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
            self._runtime = self._start()
            self._batch = np.zeros((self._runtime.batch_size, self._side, self._side, 3), np.uint8)
            for slot in self._early:
                self._fill(slot, None)
        self._fill(_Slot(id, digest, None), picture)

    def finish(self) -> None:
        """Compute and publish what is left; durable when this returns."""
        if self._slots:
            self._compute()
            self._publish()
        self._wait()

    def close(self) -> None:
        """Let the last publication end and drop what was not handed to it."""
        self._publisher.shutdown(wait=True)

    def refuse_overflow(self) -> None:
        """Raise NonFiniteError if a picture got NaN or infinity."""
        if self._overflowed:
            raise NonFiniteError(
                f"the network gave NaN or infinity for {len(self._overflowed)} pictures (such as "
                f"{self._overflowed[0]}); these rows were not kept, all others were. With "
                "precision='float16' that is an overflow: use 'bfloat16' or 'float32'. Otherwise "
                "check the weights."
            )

    def _fill(self, slot: _Slot, pixels: np.ndarray | None) -> None:
        assert self._runtime is not None
        size = self._runtime.batch_size
        if pixels is not None:
            self._batch[len(self._slots) % size] = pixels
        self._slots.append(slot)
        if len(self._slots) % size == 0:
            self._compute()
        if len(self._slots) == -(-BLOCK // size) * size:
            self._publish()

    def _compute(self) -> None:
        """Run the batch that holds the slots without a row."""
        assert self._runtime is not None
        count = len(self._slots) - sum(map(len, self._rows))
        if not count:
            return
        rows = self._runtime.run(self._batch)
        expected = (self._runtime.batch_size, self.dim or self._store.dim or rows.shape[-1])
        if rows.shape != expected or rows.dtype != np.float32:
            raise ExtractionError(
                f"the runtime {self._runtime.name} gave {rows.dtype} of shape {rows.shape}; "
                f"expected float32 of shape {expected}."
            )
        self.dim = rows.shape[1]
        self._rows.append(rows[:count])
        self._batch = np.zeros_like(self._batch)

    def _publish(self) -> None:
        assert self._runtime is not None
        slots, features = self._slots, np.concatenate(self._rows)
        self._slots, self._rows = [], []
        status = np.full(len(slots), ROW, np.uint8)
        finite = np.isfinite(features).all(axis=1)
        for i, slot in enumerate(slots):
            if slot.error is not None:
                status[i] = BAD
            elif not finite[i]:
                status[i] = HOLE
                self._overflowed.append(slot.id)
        features = np.where((status == ROW)[:, None], features, np.float32(np.nan))
        self.computed += int((status == ROW).sum())
        block = Block(
            features,
            np.frombuffer(b"".join(slot.digest for slot in slots), np.uint8).reshape(-1, 32),
            status,
            [(i, s.error.code, str(s.error)) for i, s in enumerate(slots) if s.error is not None],
            self._runtime.batch_size,
            self._runtime.environment(),
        )
        self._wait()
        self._publishing = self._publisher.submit(self._store.publish, block)

    def _wait(self) -> None:
        """Wait for the publication under way; its error is raised here."""
        if self._publishing is not None:
            publishing, self._publishing = self._publishing, None
            publishing.result()
