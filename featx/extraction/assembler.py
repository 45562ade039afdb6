"""From images to blocks: which image has which entry of which block, decided by the images alone.

Nothing here computes, waits or touches a disk. A block is what is missing of a fixed number of
places in the source, and a batch has a fixed number of images, the last one padded with black; so
what an image is computed with depends on the images and their places alone. Whoever computes a
block needs to know no other: a run that was interrupted goes on as it would have, and several
machines cut what one would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from featx.cache.shards import block_id
from featx.errors import ImageError
from featx.extraction.settings import Settings
from featx.images.content_hash import Digest


@dataclass(frozen=True)
class Entry:
    """An image's entry in a block, or with an error that of a file that is not an image.

    Attributes
    ----------
    id : str
    digest : Digest
    error : ImageError or None
        Why the file has no pixels. It keeps its entry, so that it never shifts its neighbours.
    counted : bool
        False for what has no embedding, and for a repeat of an image of another block.
    place : int
        Its place among the images that were not known to be cached when the source was listed.
    """

    id: str
    digest: Digest
    error: ImageError | None = None
    counted: bool = True
    place: int = 0


Miss = tuple[Entry, np.ndarray | None]
"""An image that is not cached: its entry, and its pixels unless the entry has an error."""


@dataclass(frozen=True)
class Layout:
    """How images are cut into batches and blocks.

    Attributes
    ----------
    batch_size : int
        Images per batch.
    batches : int
        Batches per block.
    ahead : int
        Batches of the next block that may be computed while one is published.
    """

    batch_size: int
    batches: int
    ahead: int

    @classmethod
    def of(cls, batch_size: int, streams: int, settings: Settings) -> Layout:
        """Return the layout for a runtime: `batches` and `ahead` together are what a kill loses."""
        # Two batches per stream, so that a GPU never waits for its next one; a CPU's are small.
        wanted = min(2 * streams, -(-settings.largest // batch_size)) if streams > 1 else 1
        at_risk = max(-(-settings.block // batch_size), wanted)
        ahead = min(max(settings.ahead // batch_size, streams), at_risk - 1)
        return cls(batch_size, at_risk - ahead, ahead)

    @property
    def entries(self) -> int:
        """Places of a block: it has as many entries at most."""
        return self.batches * self.batch_size

    @property
    def buffers(self) -> int:
        """Batches in memory: of the block that is assembled and of most of the one before it."""
        return self.batches + max(1, 3 * self.batches // 4)


@dataclass(eq=False)
class AssembledBlock:
    """A block before it is computed: its entries, and the batches with their pixels."""

    name: str
    entries: Sequence[Entry]
    batches: list[np.ndarray]
    batch_size: int

    def counts(self) -> list[int]:
        """Return how many entries of each batch are counted."""
        starts = range(0, len(self.entries), self.batch_size)
        parts = (self.entries[start : start + self.batch_size] for start in starts)
        return [sum(entry.counted for entry in part) for part in parts]

    def take_batches(self) -> list[np.ndarray]:
        """Return the batches to whoever answers for them from now on."""
        batches, self.batches = self.batches, []
        return batches


def digests_of(entries: Sequence[Entry]) -> np.ndarray:
    """Return the content digests of the entries, shape (n, 32)."""
    return np.frombuffer(b"".join(entry.digest for entry in entries), np.uint8).reshape(-1, 32)


def until_good(misses: Iterator[Miss]) -> list[Miss]:
    """Draw misses up to the first that has pixels; none are returned where none has.

    Errors alone are not worth starting the network: they wait for a good image.
    """
    early = []
    for miss in misses:
        early.append(miss)
        if miss[1] is not None:
            return early
    return []


def assemble(
    misses: Iterable[Miss], layout: Layout, key: str, buffers: Iterator[np.ndarray]
) -> Iterator[AssembledBlock]:
    """Yield the blocks of the misses, each of one stretch of ``layout.entries`` places.

    Parameters
    ----------
    misses : iterable of Miss
        In the order of their places. Of equal ones in a block the first has an entry.
    layout : Layout
    key : str
        The feature key, a part of each block's name.
    buffers : iterator of numpy.ndarray of shape (batch_size, side, side, 3) and dtype uint8
        Batches to fill, of any content; drawn one at a time, when its first image comes.
    """
    entries: list[Entry] = []
    batches: list[np.ndarray] = []
    inside: set[Digest] = set()
    stretch = 0
    for entry, pixels in misses:
        if entry.place // layout.entries != stretch or len(entries) == layout.entries:
            if entries:
                yield _block(entries, batches, layout, key)
            entries, batches, inside = [], [], set()
            stretch = entry.place // layout.entries
        if entry.digest in inside:
            continue
        inside.add(entry.digest)
        batch, position = divmod(len(entries), layout.batch_size)
        if position == 0:
            batches.append(next(buffers))
        batches[batch][position] = 0 if pixels is None else pixels
        entries.append(entry)
        if entry.place % layout.entries == layout.entries - 1:
            # Its last place: the block need not wait for the image behind it.
            yield _block(entries, batches, layout, key)
            entries, batches, inside = [], [], set()
            stretch += 1
    if entries:
        yield _block(entries, batches, layout, key)


def _block(
    entries: list[Entry], batches: list[np.ndarray], layout: Layout, key: str
) -> AssembledBlock:
    batches[-1][len(entries) - (len(batches) - 1) * layout.batch_size :] = 0
    name = block_id(key, layout.batch_size, digests_of(entries))
    return AssembledBlock(name, entries, batches, layout.batch_size)
