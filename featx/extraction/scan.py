"""One scan of a dataset: each image is looked up, and computed where it is not cached."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from featx import runtimes
from featx.cache.location import MARKER
from featx.cache.locks import Claims
from featx.cache.stat_index import KnownFiles, now_ns
from featx.cache.store import Store
from featx.datasets.dataset import Dataset
from featx.datasets.items import FolderItems, Item
from featx.errors import (
    Failure,
    ImageError,
    NotAnImageError,
    TooManyBadImagesError,
    UnsupportedImageError,
)
from featx.extraction import pipeline
from featx.extraction.assembler import Entry, Miss
from featx.extraction.guard import EnvironmentGuard
from featx.extraction.pipeline import Computation
from featx.extraction.progress import ProgressBar
from featx.extraction.settings import DEFAULT, Settings
from featx.images import decoding, raw, reduction
from featx.images.content_hash import Digest, of_content
from featx.images.decoding import Source
from featx.images.elsewhere import Elsewhere
from featx.images.image_warnings import Remarks
from featx.images.preparation import AS_EVER, Preparation
from featx.labels import Label
from featx.runtimes import Runtime

# Over this many bad images, or this share, the fault is not in single files.
MAX_BAD, MAX_BAD_SHARE = 20, 0.05
_WINDOW = 512
# Images decoded ahead of the one that is needed, per thread: enough that none waits for another,
# few enough that their memory is used again while it is warm.
AHEAD = 32
# Images fetched from servers at one time; img2dataset takes 256, for many hosts.
_FETCHED_AT_ONCE = 16


@dataclass
class LookedUp:
    """An image that was looked up: cached, or with its pixels, or with why it has none.

    Attributes
    ----------
    digest : Digest or None
        None where the file cannot be read.
    image : numpy.ndarray, ImageError or None
        Pixels of an image that is not cached; None for one that is.
    cached : bool
        Whether its embedding, or the error it got, is cached.
    remarks : tuple of str
        Kinds of remarks on an image that was decoded.
    place : int
        Its place among the images that were not known to be cached; see ``Entry``.
    """

    digest: Digest | None
    image: np.ndarray | ImageError | None = None
    cached: bool = False
    remarks: tuple[str, ...] = ()
    place: int = 0


@dataclass
class Ledger:
    """What was found so far: the good images in their order, and the bad ones.

    Attributes
    ----------
    expected : int or None
        Images in the dataset, where that is known.
    ids, labels, good : list
        Of the good images, one each: id, label and content digest.
    failures : list of Failure
        The bad ones.
    total : int
        All of them.
    remarks : Remarks
        On the good images that were decoded.
    """

    expected: int | None = None
    ids: list[str] = field(default_factory=list)
    labels: list[Label | None] = field(default_factory=list)
    good: list[Digest] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    total: int = 0
    remarks: Remarks = field(default_factory=Remarks)

    def enter(self, item: Item, found: LookedUp) -> None:
        """Enter one image."""
        self.total += 1
        if found.digest is not None and not isinstance(found.image, ImageError):
            self.remarks.add(item.id, found.remarks)
            self.good.append(found.digest)
            self.ids.append(item.id)
            self.labels.append(item.label)
        else:
            error = found.image
            self.failures.append(Failure(item.id, type(error).__name__, str(error)))

    def too_many_bad(self) -> bool:
        """Return whether so many are bad that the rest need not be looked at."""
        expected = self.expected or self.total
        return len(self.failures) > max(MAX_BAD, MAX_BAD_SHARE * expected)

    def digests(self) -> np.ndarray:
        """Return the content digests of the good images, shape (n, 32)."""
        return np.frombuffer(b"".join(self.good), np.uint8).reshape(-1, 32)


@dataclass(frozen=True)
class ScanResult:
    """What one scan found and computed.

    Attributes
    ----------
    ledger : Ledger
        All images of the dataset; those before it ended early, where ``outcome.shortage`` is set.
    outcome : Computation
        What was computed.
    compute_seconds : float
        Wall time of the scan; 0 where nothing was computed.
    """

    ledger: Ledger
    outcome: Computation
    compute_seconds: float


def scan_dataset(
    dataset: Dataset,
    store: Store,
    start: Callable[[], Runtime],
    guard: EnvironmentGuard,
    *,
    side: int,
    how: Preparation = AS_EVER,
    claims: Claims | None = None,
    progress: bool = False,
    stat_cache: bool = True,
    settings: Settings = DEFAULT,
) -> ScanResult:
    """Look each image up, compute those that are not cached, and publish their blocks.

    A block is cut from a fixed number of consecutive images, without those that are known to be
    cached, and only whole blocks are published; so a run that was interrupted cuts the remaining
    blocks as it would have.

    Parameters
    ----------
    dataset : Dataset
    store : Store
        Knows all that was published when this returns.
    start : callable
        Returns the runtime; called when the first good image comes that is not cached.
    guard : EnvironmentGuard
    side : int
        Pixels along each edge.
    how : Preparation, default=AS_EVER
        How images are decoded and resized.
    claims : Claims, optional
        Which blocks other processes compute; without, none is left to others.
    progress : bool, default=False
        Whether a progress bar is shown while something is computed.
    stat_cache : bool, default=True
        Whether a file that looks unchanged by its stat is not read again.
    settings : Settings, optional

    Raises
    ------
    TooManyBadImagesError
        The good images before were computed and published.
    NonFiniteError
        The embeddings of all other images were published.
    """
    began = time.perf_counter()
    ledger = Ledger(dataset.known_length)
    # All that is needed to compute is gone when this returns: the embeddings are read next.
    outcome = _computed(
        dataset, store, start, guard, ledger, side, how, claims, progress, stat_cache, settings
    )
    seconds = time.perf_counter() - began if outcome.computed else 0.0
    if outcome.shortage is None and ledger.too_many_bad():
        raise TooManyBadImagesError(ledger.failures, ledger.total)
    if outcome.start_seconds:  # else nothing was missing, and one listing is enough
        store.refresh()
    outcome.refuse_overflow()
    return ScanResult(ledger, outcome, seconds)


def _computed(
    dataset: Dataset,
    store: Store,
    start: Callable[[], Runtime],
    guard: EnvironmentGuard,
    ledger: Ledger,
    side: int,
    how: Preparation,
    claims: Claims | None,
    progress: bool,
    stat_cache: bool,
    settings: Settings,
) -> Computation:
    """Fill the ledger, and compute and publish what is not cached."""
    known = KnownFiles(store.root, dataset.location if stat_cache else None)
    lookup = Lookup(store, known, side, how)
    threads = readers(dataset.items[0].source if dataset.known_length else None)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="featx-read")
    bar = ProgressBar(dataset.known_length, progress)
    try:
        found = ahead(lookup.run(dataset, pool), AHEAD * threads)
        misses = enter_all(found, ledger, bar, once=listed_once(dataset))
        return pipeline.compute(
            misses, start, store, side, guard, claims=claims, bar=bar, settings=settings
        )
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
        if store.storage.exists(MARKER):  # else it was removed: a folder made anew is refused
            lookup.known.save()


def readers(first: Source | str | None) -> int:
    """Return how many threads read images like the first one."""
    threads = max(2, runtimes.cpu_count())
    return max(threads, _FETCHED_AT_ONCE) if getattr(first, "waits", False) else threads


def enter_all(
    found: Iterable[tuple[Item, LookedUp]], ledger: Ledger, bar: ProgressBar, once: bool = False
) -> Iterator[Miss]:
    """Enter images into the ledger, and yield those that are not cached.

    What is listed twice is computed once: a file by its path, pixels by their content. Another file
    of the same content is yielded again, uncounted: who computes its block does not always know
    of the first. It ends early where too many are bad. With `once` no file is there twice, and no
    memory is spent on what they are called.
    """
    seen: set[Digest] = set()
    names: set[int] = set()
    for item, image in found:
        ledger.enter(item, image)
        pixels = image.image if isinstance(image.image, np.ndarray) else None
        if pixels is not None:
            bar.show()
        digest = image.digest
        if digest is None or image.image is None or image.cached:
            bar.count(new=False)
        else:
            new, name = digest not in seen, name_of(item.source)
            again = not new if name is None else name in names
            seen.add(digest)
            if name is not None and not once:
                names.add(name)
            counted = pixels is not None and new
            bar.count(counted)
            if not again:
                error = image.image if isinstance(image.image, ImageError) else None
                yield Entry(item.id, digest, error, counted, image.place), pixels
        if ledger.too_many_bad():
            return


def listed_once(dataset: Dataset) -> bool:
    """Return whether no file is listed twice, as in a folder."""
    return bool(dataset.known_length) and isinstance(dataset.items, FolderItems)


def name_of(source: Source) -> int | None:
    """Return a hash of what names an image: a path, an address; None where its content does.

    As texts these would take several times the memory.
    """
    if isinstance(source, Path):
        return hash(str(Path(source)))  # a Path keeps its text once it was asked for it
    return hash(source.address) if isinstance(source, Elsewhere) else None


_Work = tuple[Item, "LookedUp | Future[LookedUp]"]


@dataclass(frozen=True)
class Lookup:
    """Looks images up: by their stat where that is known, else by their content."""

    store: Store
    known: KnownFiles
    side: int
    how: Preparation

    def run(self, dataset: Dataset, pool: ThreadPoolExecutor) -> Iterator[_Work]:
        """Yield each item with what is known of it, or with the work of reading it."""
        for item, found in self.listed(dataset):
            yield item, pool.submit(self.read, item, found) if isinstance(found, int) else found

    def listed(self, dataset: Iterable[Item]) -> Iterator[tuple[Item, LookedUp | int]]:
        """Yield each item with what is known of it, or else with its place: it is to be read.

        No file is opened. One whose cached failure is doubtful is read again, and has no place of
        its own.
        """
        place = -1
        for window in _chunks(dataset, _WINDOW):
            known = [self._known(item.source) for item in window]
            cached = self._cached([digest for digest in known if digest is not None])
            for item, digest in zip(window, known, strict=True):
                if digest is None or digest not in cached:
                    place += 1
                    yield item, place
                elif _is_doubtful(cached[digest]):
                    yield item, max(place, 0)
                else:
                    yield item, LookedUp(digest, cached[digest], cached=True)

    def _known(self, source: Source) -> Digest | None:
        """Return the address of what need not be read to be looked up."""
        if isinstance(source, Path) and raw.system_folder(source) is not None:
            return None
        # Version 0.1 cached embeddings of the previews in RAW photographs: the content is asked.
        if decoding.suffix_of(decoding.name_of(source)) in raw.RAW_SUFFIXES:
            return None
        known = self.known.of_source(source)
        return None if known is None else reduction.address(*known, self.side, self.how)

    def _cached(self, digests: list[Digest]) -> dict[Digest, ImageError | None]:
        """Return those of the digests that are cached, with the error where one is bad."""
        if not digests:
            return {}
        positions = self.store.find(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
        return {
            digest: self.store.index.failure(position)
            for digest, position in zip(digests, positions.tolist(), strict=True)
            if position >= 0
        }

    def read(self, item: Item, place: int) -> LookedUp:
        """Read, hash, and decode unless the embedding is cached; runs in a thread."""
        source, name = item.source, item.id
        try:
            if isinstance(source, Path):
                # A Path keeps its text once it was asked for it: this one is soon gone.
                path, read_at, name = Path(source), now_ns(), source.name
                content: bytes | np.ndarray
                content, stat = decoding.read_with_stat(path)
                digest, edges = of_content(content), reduction.edges_of(content)
                self.known.remember(path, stat, read_at, digest, edges)
            elif isinstance(source, Elsewhere):
                if (found := self._unchanged(source)) is not None:
                    return found
                content, version = source.read(decoding.MAX_BYTES)
                digest, edges = of_content(content), reduction.edges_of(content)
                name = source.name
                if version is not None:
                    self.known.remember_at(source.address, version, digest, edges)
            else:
                content = decoding.content_of(source)
                digest, edges = of_content(content), reduction.edges_of(content)
        except ImageError as error:
            return LookedUp(None, error)
        digest = reduction.address(digest, edges, self.side, self.how)
        index = self.store.index
        position = index.find_one(digest)
        cached = position >= 0
        if cached:
            failure = index.failure(position)
            photograph = isinstance(content, bytes) and raw.kind_of(
                content, decoding.suffix_of(name)
            )
            if not photograph and not _is_doubtful(failure):
                return LookedUp(digest, failure, cached=True)
        try:
            decoded = decoding.at_side_with_remarks(content, self.side, name, how=self.how)
        except ImageError as error:
            return LookedUp(digest if error.permanent else None, error, cached, place=place)
        return LookedUp(digest, decoded.pixels, remarks=decoded.remarks, place=place)

    def _unchanged(self, source: Elsewhere) -> LookedUp | None:
        """Return what is cached of an image elsewhere, if its server says that it is the same."""
        if not self.known.knows(source.address) or source.listed_version() is not None:
            return None
        version = source.asked_version()
        known = None if version is None else self.known.find_at(source.address, version)
        if known is None:
            return None
        digest = reduction.address(*known, self.side, self.how)
        cached = self._cached([digest])
        if digest not in cached or _is_doubtful(cached[digest]):
            return None
        return LookedUp(digest, cached[digest], cached=True)


def _is_doubtful(failure: ImageError | None) -> bool:
    """Return whether a cached failure is about the kind of a file, and not about its state.

    Another name (.tga), a decoder that was installed since, or a later version may read it.
    """
    return isinstance(failure, NotAnImageError | UnsupportedImageError)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def ahead(works: Iterator[_Work], count: int) -> Iterator[tuple[Item, LookedUp]]:
    """Yield what was found, drawing this far ahead: work is then done when it is needed."""
    waiting: deque[_Work] = deque()
    for work in works:
        waiting.append(work)
        if len(waiting) > count:
            yield _done(waiting.popleft())
    while waiting:
        yield _done(waiting.popleft())


def _done(work: _Work) -> tuple[Item, LookedUp]:
    item, found = work
    return item, found.result() if isinstance(found, Future) else found
