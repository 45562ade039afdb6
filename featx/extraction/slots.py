"""What stands in the places of a block: pictures, or verdicts on files that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.cache.shards import BAD, HOLE, ROW, Block
from featx.cache.stat_index import Digest
from featx.errors import ImageError
from featx.runtimes import Runtime


@dataclass(frozen=True)
class Slot:
    """A place in a block: a picture's, or with an error that of a file that is none."""

    id: str
    digest: Digest
    error: ImageError | None


def digests(slots: Sequence[Slot]) -> np.ndarray:
    """Return the content digests of the slots, shape (n, 32)."""
    return np.frombuffer(b"".join(slot.digest for slot in slots), np.uint8).reshape(-1, 32)


def block_of(slots: Sequence[Slot], features: np.ndarray, runtime: Runtime) -> Block:
    """Return the block to publish; a row with NaN or infinity becomes a hole."""
    status = np.full(len(slots), ROW, np.uint8)
    status[~np.isfinite(features).all(axis=1)] = HOLE
    bad = [(i, slot.error) for i, slot in enumerate(slots) if slot.error is not None]
    status[[i for i, _ in bad]] = BAD
    return Block(
        np.where((status == ROW)[:, None], features, np.float32(np.nan)),
        digests(slots),
        status,
        [(i, error.code, str(error)) for i, error in bad],
        runtime.batch_size,
        runtime.environment(),
    )
