"""One pass over a dataset: each image is looked up, and computed where it is not kept."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from featx import runtimes
from featx.cache.location import is_marked
from featx.cache.locks import Claims
from featx.cache.stat_index import KnownFiles, now_ns
from featx.cache.store import Store
from featx.datasets.dataset import Dataset, Item
from featx.errors import (
    Failure,
    ImageError,
    OutOfMemoryError,
    TooManyBadImagesError,
)
from featx.extraction.blocks import BlockWriter
from featx.extraction.progress import _Bar
from featx.images import decoding, image_warnings
from featx.images.content_hash import Digest, of_content
from featx.runtimes import Runtime

# Over this many bad images, or this share, the fault is not in single files.
MAX_BAD, MAX_BAD_SHARE = 20, 0.05
_WINDOW = 512
# Images decoded ahead of the one that is needed, a thread: enough that none waits for another,
# few enough that their memory is used again while it is warm.
_AHEAD = 32


@dataclass
class _Prepared:
    """A image that was looked up: kept already, or pixels, or the reason why there are none."""

    digest: Digest | None
    image: np.ndarray | ImageError | None = None
    kept: bool = False
    remarks: Sequence[str] = ()


_Entry = tuple[Item, _Prepared | Future[_Prepared]]


@dataclass
class Scan:
    """One pass over a dataset: look each image up, compute those that are not kept.

    Blocks are cut from the images that are not kept, in the dataset's order, and only whole
    blocks are kept; so a run that was interrupted cuts the remaining blocks as it would have.
    """

    dataset: Dataset
    side: int
    store: Store
    start: Callable[[], Runtime]
    progress: bool
    seen: image_warnings.Remarks
    lead: Sequence[tuple[Digest, np.ndarray]] = ()
    claims: Claims | None = None
    scaled: bool = False
    ids: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    good: list[Digest] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    total: int = 0
    computed: int = 0
    dim: int | None = None
    compute_seconds: float = 0.0

    def run(self) -> OutOfMemoryError | None:
        """Fill ids, labels, digests and failures; compute and publish what was missing.

        Returns
        -------
        OutOfMemoryError or None
            Why the pass ended early: blocks published before stay, smaller batches may do.
        """
        shortage = None
        self._known = KnownFiles(self.store.root, self.dataset.location)
        began = time.perf_counter()
        threads = max(2, runtimes.cpu_count())
        pool = ThreadPoolExecutor(threads, thread_name_prefix="featx-read")
        bar = _Bar(self.dataset.known_length, self.progress)
        self._writer = BlockWriter(
            self.store, bar.after(self.start), self.side, self.lead, self.claims,
            lambda count: bar.done(count, self._writer.dim),
        )  # fmt: skip
        try:
            for item, work in _ahead(self._entries(pool), _AHEAD * threads):
                prepared = work.result() if isinstance(work, Future) else work
                if isinstance(prepared.image, np.ndarray):
                    bar.show()
                bar.take(self._take(item, prepared))
            self._writer.finish()
        except TooManyBadImagesError:
            self._writer.finish()
            raise
        except OutOfMemoryError as error:
            shortage = error
        finally:
            pool.shutdown(cancel_futures=True)
            self._writer.close()
            bar.close()
            if is_marked(self.store.root):  # else it was removed: a folder made anew is refused
                self._known.save()
            self.computed, self.dim = self._writer.computed, self._writer.dim
        if self.computed:
            self.compute_seconds = time.perf_counter() - began
        writer = self._writer
        # The rows come next: what was needed to make them need not lie beside them.
        del self._writer, self._known
        self.store.refresh()
        writer.refuse_overflow()
        return shortage

    def digests(self) -> np.ndarray:
        """Return the content digests of the good images, shape (n, 32)."""
        return np.frombuffer(b"".join(self.good), np.uint8).reshape(-1, 32)

    def _entries(self, pool: ThreadPoolExecutor) -> Iterator[_Entry]:
        """Yield each item with what is known of it, or with the work of reading it."""
        for window in _chunks(self.dataset, _WINDOW):
            known = [
                self._known.find(item.source) if isinstance(item.source, Path) else None
                for item in window
            ]
            kept = self._kept([digest for digest in known if digest is not None])
            for item, digest in zip(window, known, strict=True):
                if digest is not None and digest in kept:
                    yield item, _Prepared(digest, kept[digest], kept=True)
                else:
                    yield item, pool.submit(self._prepare, item)

    def _kept(self, digests: list[Digest]) -> dict[Digest, ImageError | None]:
        """Return those of the digests that are kept, with the verdict where one is bad."""
        if not digests:
            return {}
        positions = self.store.find(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
        return {
            digest: self.store.index.failure(position)
            for digest, position in zip(digests, positions.tolist(), strict=True)
            if position >= 0
        }

    def _prepare(self, item: Item) -> _Prepared:
        """Read, hash, and decode unless the row is kept; runs in a thread."""
        content = item.source
        try:
            if isinstance(content, Path):
                # A Path keeps its text once it was asked for it: this one is soon gone.
                path, read_at = Path(content), now_ns()
                status: list[os.stat_result] = []
                content = decoding.read(path, status.append)
                digest = of_content(content)
                self._known.remember(path, status[0], read_at, digest)
            else:
                digest = of_content(content)
        except ImageError as error:
            return _Prepared(None, error)
        index = self.store.index
        position = index.find_one(digest)
        if position >= 0:
            return _Prepared(digest, index.failure(position), kept=True)
        kinds: list[str] = []
        try:
            image = decoding.at_side(
                content,
                self.side,
                lambda seen: kinds.extend(image_warnings.of_image(seen, item.id)),
                scaled=self.scaled,
            )
            return _Prepared(digest, image, remarks=kinds)
        except ImageError as error:
            return _Prepared(digest, error)

    def _take(self, item: Item, prepared: _Prepared) -> bool:
        """Enter one image into the ledger, and into the current block if it is not kept.

        Returns whether its row is still to come.
        """
        self.total += 1
        digest, image = prepared.digest, prepared.image
        new = False
        if digest is not None and image is not None and not prepared.kept:
            new = self._writer.add(item.id, digest, image)
        if digest is not None and not isinstance(image, ImageError):
            self.seen.add(item.id, prepared.remarks)
            self.good.append(digest)
            self.ids.append(item.id)
            self.labels.append(item.label)
            return new
        self.failures.append(Failure(item.id, type(image).__name__, str(image)))
        expected = self.dataset.known_length or self.total
        if len(self.failures) > max(MAX_BAD, MAX_BAD_SHARE * expected):
            raise TooManyBadImagesError(self.failures, self.total)
        return False


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _ahead(entries: Iterator[_Entry], count: int) -> Iterator[_Entry]:
    """Draw entries this far ahead, so that the work they began is done when they are needed."""
    waiting: deque[_Entry] = deque()
    for entry in entries:
        waiting.append(entry)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
