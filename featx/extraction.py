"""The one verb: every picture of a dataset meets the backbone once, and its row is kept."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from featx import backbones, images, remarks, runtimes
from featx.backbones import Backbone
from featx.blocks import BlockWriter
from featx.datasets import Dataset, Item, as_dataset, label_array
from featx.digests import Digest, KnownFiles, now_ns, of_content
from featx.errors import (
    BadImagesError,
    CacheCorruptError,
    Failure,
    FeatxError,
    ImageError,
    ImageReadError,
    TooManyBadImagesError,
)
from featx.features import ExtractionReport, Features
from featx.runtimes import Runtime
from featx.store import Store, find_root

logger = logging.getLogger(__name__)

# Over this many bad pictures, or this share, the fault is not in single files.
MAX_BAD, MAX_BAD_SHARE = 20, 0.05
_WINDOW = 512


def extract(
    dataset: Any,
    backbone: str | Backbone = "resnet50",
    *,
    cache: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    runtime: str | Runtime = "auto",
    on_error: str = "raise",
    progress: bool = True,
) -> Features:
    """Return the embeddings of a dataset; only pictures never seen before are computed.

    Parameters
    ----------
    dataset : path, list, numpy.ndarray, pandas.DataFrame, tf.data.Dataset or featx.Dataset
        A folder with a sub-folder a class, a folder of pictures, a CSV file or table with the
        columns `path` and `label`, paths, or uint8 pixels of shape (n, height, width, 3).
    backbone : str or Backbone, default="resnet50"
        A name of ``featx.BACKBONES``, or a ``Backbone`` with its options.
    cache : path, optional
        Where rows are kept; see ``featx.store.find_root`` for the default.
    batch_size : int, optional
        Pictures that meet the network together, 1 to 16,384; by default what suits the device.
    runtime : str or Runtime, default="auto"
        What computes; it does not change the rows beyond rounding.
    on_error : {"raise", "skip"}, default="raise"
        "raise": every good picture is computed and kept, then one error lists the bad ones.
        "skip": bad pictures are left out and stand in ``features.failures``.
    progress : bool, default=True
        Whether a progress bar is shown while something is computed.

    Returns
    -------
    Features
        `X` of shape (n, dim) and dtype float32, with labels and ids in the same order.

    Raises
    ------
    BadImagesError
        Some pictures cannot be used; ``TooManyBadImagesError`` as soon as more than
        max(20, 5 %) cannot.
    NonFiniteError
        The network gave NaN or infinity for some pictures; the rows of all others are kept.
    DatasetError, BackboneError, CacheError, RuntimeUnavailableError
        The message says what came, what was expected and what to do.

    Examples
    --------
    >>> pixels = np.zeros((2, 40, 40, 3), np.uint8)
    >>> tiny = Backbone("mobilenet_v2", weights=None, image_size=32)
    >>> extract(pixels, tiny, cache=getfixture("tmp_path"), progress=False).X.shape
    (2, 1280)
    """
    began = time.perf_counter()
    if on_error not in ("raise", "skip"):
        raise _OptionError(f"on_error={on_error!r}: expected 'raise' or 'skip'.")
    runtimes.check_batch_size(batch_size)
    backbone = backbones.find(backbone)
    dataset = as_dataset(dataset)
    store = Store(find_root(cache), {**backbone.recipe(), "pixels": images.POLICY})
    network = _Network(backbone, batch_size, runtime)
    computed, compute_seconds = 0, 0.0
    seen = remarks.Remarks()
    for _ in range(3):
        scan = _Scan(dataset, backbone.side, store, network, progress, seen)
        scan.run()
        computed += scan.computed
        compute_seconds += scan.compute_seconds
        dim = scan.dim or store.dim or backbone.dim or 0
        rows, missing = store.gather(scan.digests(), dim)
        if not missing.any():
            break
        # A shard was damaged after it was listed and is set aside now: compute its rows again.
    else:
        raise CacheCorruptError(
            f"rows kept in {store.folder} were damaged three times in a row; check that disk."
        )
    if scan.failures and on_error == "raise":
        raise BadImagesError(scan.failures, scan.total)
    noticed = seen.sentences() + remarks.label_conflicts(scan.digests(), scan.labels, scan.ids)
    for sentence in noticed:
        logger.warning("%s", sentence)
    distinct = len(set(scan.good))
    return Features(
        rows,
        label_array(scan.labels),
        scan.ids,
        failures=scan.failures,
        recipe={**store.recipe, "key": store.key, "trained": backbone.trained},
        notes=(*dataset.notes, *noticed),
        report=ExtractionReport(
            images=scan.total,
            computed=computed,
            reused=max(distinct - computed, 0),
            seconds=time.perf_counter() - began,
            compute_seconds=compute_seconds,
            runtime=network.name,
            cache=os.fspath(store.root),
        ),
    )


class _OptionError(FeatxError, ValueError):
    pass


class _Network:
    """The runtime, started when the first picture needs it."""

    def __init__(self, backbone: Backbone, batch_size: int | None, runtime: str | Runtime) -> None:
        self._backbone = backbone
        self._batch_size = batch_size
        self._runtime = runtime
        self.name: str | None = None

    def start(self) -> Runtime:
        if isinstance(self._runtime, str):
            self._runtime = runtimes.start(self._backbone, self._batch_size, self._runtime)
        self.name = self._runtime.name
        return self._runtime


@dataclass
class _Prepared:
    """A picture that was looked up: kept already, or pixels, or the reason why there are none."""

    digest: Digest | None
    picture: np.ndarray | ImageError | None = None
    kept: bool = False
    remarks: Sequence[str] = ()


_Entry = tuple[Item, _Prepared | Future[_Prepared]]


@dataclass
class _Scan:
    """One pass over a dataset: look each picture up, compute those that are not kept.

    Blocks are cut from the pictures that are not kept, in the dataset's order, and only whole
    blocks are kept; so a run that was interrupted cuts the remaining blocks as it would have.
    """

    dataset: Dataset
    side: int
    store: Store
    network: _Network
    progress: bool
    seen: remarks.Remarks
    ids: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    good: list[Digest] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    total: int = 0
    computed: int = 0
    dim: int | None = None
    compute_seconds: float = 0.0

    def run(self) -> None:
        """Fill ids, labels, digests and failures; compute and publish what was missing."""
        self._known = KnownFiles(self.store.root, self.dataset.location)
        self._writer = BlockWriter(self.store, self.network.start, self.side)
        began = time.perf_counter()
        pool = ThreadPoolExecutor(max(2, runtimes.cpu_count()), thread_name_prefix="featx-read")
        bar = _Bar(self.dataset.known_length, self.progress)
        try:
            for item, work in _ahead(self._entries(pool), _WINDOW):
                prepared = work.result() if isinstance(work, Future) else work
                self._take(item, prepared)
                bar.step(isinstance(prepared.picture, np.ndarray))
            self._writer.finish()
        except TooManyBadImagesError:
            self._writer.finish()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            self._writer.close()
            bar.close()
            self._known.save()
        self.computed, self.dim = self._writer.computed, self._writer.dim
        if self.computed:
            self.compute_seconds = time.perf_counter() - began
            self.store.save_index()
        self._writer.refuse_overflow()

    def digests(self) -> np.ndarray:
        """Return the content digests of the good pictures, shape (n, 32)."""
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
                path, read_at = content, now_ns()
                about = os.stat(path)
                content = images.read(path)
                digest = of_content(content)
                self._known.remember(path, about, read_at, digest)
            else:
                digest = of_content(content)
        except ImageError as error:
            return _Prepared(None, error)
        except OSError as error:
            return _Prepared(None, ImageReadError(f"cannot be read: {error.strerror or error}"))
        kept = self._kept([digest])
        if digest in kept:
            return _Prepared(digest, kept[digest], kept=True)
        kinds: list[str] = []
        try:
            picture = images.at_side(
                content, self.side, lambda seen: kinds.extend(remarks.of_picture(seen, item.id))
            )
            return _Prepared(digest, picture, remarks=kinds)
        except ImageError as error:
            return _Prepared(digest, error)

    def _take(self, item: Item, prepared: _Prepared) -> None:
        """Enter one picture into the ledger, and into the current block if it is not kept."""
        self.total += 1
        digest, picture = prepared.digest, prepared.picture
        if digest is not None and picture is not None and not prepared.kept:
            self._writer.add(item.id, digest, picture)
        if digest is not None and not isinstance(picture, ImageError):
            self.seen.add(item.id, prepared.remarks)
            self.good.append(digest)
            self.ids.append(item.id)
            self.labels.append(item.label)
            return
        self.failures.append(Failure(item.id, type(picture).__name__, str(picture)))
        expected = self.dataset.known_length or self.total
        if len(self.failures) > max(MAX_BAD, MAX_BAD_SHARE * expected):
            raise TooManyBadImagesError(self.failures, self.total)


class _Bar:
    """A progress bar that appears when something has to be computed, and not before."""

    def __init__(self, total: int | None, wanted: bool) -> None:
        self._total = total
        self._wanted = wanted
        self._done = 0
        self._bar: Any = None

    def step(self, computing: bool) -> None:
        if computing and self._wanted and self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._total, initial=self._done, desc="extract", unit="img")
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


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
