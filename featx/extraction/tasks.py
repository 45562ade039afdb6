"""What a driver and its workers send each other: a plan, tasks and results; never an embedding."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featx.backbones.backbone import Backbone
from featx.datasets.items import Item
from featx.errors import ImageError
from featx.extraction.settings import Settings
from featx.images.content_hash import Digest
from featx.images.decoding import Source
from featx.images.elsewhere import Elsewhere, Version
from featx.images.reduction import Edges
from featx.runtimes import Runtime

_NONE = bytes(32)
# An image that a worker finds by its name: an id, and now and then a path or an address.
_NAMED = 128


@dataclass(frozen=True)
class Plan:
    """What all workers of a run have to agree on.

    Attributes
    ----------
    run : str
        Drawn at random; a process that had it before has what it needs.
    cache : str
        Its folder, at the same path for all, or its address in an object store: each worker opens
        it by itself, with the credentials of its own machine.
    key : str
        The feature key that the backbone must give on a worker, too.
    backbone : Backbone
    runtime : str or Runtime
    featx : str
        The version of the driver.
    settings : Settings
    known : tuple of str
        The shards that were there when the run began: the same are looked up everywhere, whatever
        was published since, so that no block depends on the order of the tasks.
    batch_size, entries : int or None
        Images per batch and places per block; None until a worker has chosen them.
    probes : tuple of str
        The shards with the probe images, with which each worker compares its own.
    sharing : bool
        Whether blocks that other processes have claimed are left to them.
    bucket : str or None
        The address of the bucket with the images, where they are in one.
    """

    run: str
    cache: str
    key: str
    backbone: Backbone
    runtime: str | Runtime
    featx: str
    settings: Settings
    known: tuple[str, ...] = ()
    batch_size: int | None = None
    entries: int | None = None
    probes: tuple[str, ...] = ()
    sharing: bool = True
    bucket: str | None = None


@dataclass(frozen=True)
class Task:
    """Consecutive images that one worker looks up and computes, with their places.

    Attributes
    ----------
    number : int
    images : list of (id, source)
        The source is None where it is the file of that name in `location`.
    places : list of int
    location : str or None
    begin : int
        Where the first image stands in the whole task, of which this may be a part.
    again : frozenset of int
        Which images of the whole task were listed before, in whatever task: they have no entry.
    """

    number: int
    images: list[tuple[str, str | bytes | Source | None]]
    places: list[int]
    location: str | None = None
    begin: int = 0
    again: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def of(
        cls,
        number: int,
        items: Sequence[Item],
        places: list[int],
        location: Path | str | None,
        again: Iterable[int] = (),
    ) -> Task:
        """Return the task of some items."""
        root = os.path.abspath(location) if isinstance(location, Path) else None
        images = [_sent(item, root) for item in items]
        return cls(number, images, places, root, again=frozenset(again))

    def items(self) -> list[Item]:
        """Return the images as items, without labels."""
        return [Item(name, None, self._source(name, source)) for name, source in self.images]

    def halves(self, entries: int) -> tuple[Task, Task]:
        """Return two parts, between two blocks where it has several; it has two images or more."""
        middle = len(self) // 2
        blocks = [place // entries for place in self.places]
        cuts = [i for i in range(1, len(self)) if blocks[i] != blocks[i - 1]]
        cut = min(cuts, key=lambda at: abs(at - middle), default=middle)
        return (
            replace(self, images=self.images[:cut], places=self.places[:cut]),
            replace(
                self, images=self.images[cut:], places=self.places[cut:], begin=self.begin + cut
            ),
        )

    def _source(self, name: str, source: str | bytes | Source | None) -> Source:
        if source is None:
            assert self.location is not None
            return Path(self.location, name)
        return Path(source) if isinstance(source, str) else source


def carried(item: Item) -> int:
    """Return about how many bytes an image adds to its task: pixels and contents go with it."""
    source = item.source
    if isinstance(source, Path | Elsewhere):
        return _NAMED
    if isinstance(source, bytes | np.ndarray):
        return len(source) if isinstance(source, bytes) else source.nbytes
    width, height = source.size  # of a PIL image
    return 4 * width * height


def _sent(item: Item, root: str | None) -> tuple[str, str | bytes | Source | None]:
    if not isinstance(item.source, Path):
        return item.id, item.source
    path = os.path.abspath(item.source)
    return item.id, None if root is not None and path == os.path.join(root, item.id) else path


class Read(NamedTuple):
    """What was read of an image, and when: what the stat index remembers.

    Attributes
    ----------
    seen : tuple of int, or Version
        Size, modification time, change time and inode of a file; size and tag of what is elsewhere.
    read_at : int
        ns by the worker's clock.
    digest : Digest
        Of the bytes.
    edges : tuple of int
        Those that decide how a JPEG is decoded; see ``KnownFiles``.
    """

    seen: tuple[int, int, int, int] | Version
    read_at: int
    digest: Digest
    edges: Edges


@dataclass
class Result:
    """What became of a task.

    Attributes
    ----------
    computed : int
        Images that got an embedding.
    overflowed : list of str
        Ids of those that got NaN or infinity.
    dim : int or None
        The width of an embedding, where one was computed.
    runtime : str or None
        The name of what computed, if it was started.
    worker : str
        Where.
    digests : bytearray
        The addresses of the embeddings, 32 bytes each; zeros where an image could not be read.
    bad : list of (int, ImageError)
    remarks : list of (int, tuple of str)
    read : list of (int, Read)
        Of what was read.
    """

    computed: int = 0
    overflowed: list[str] = field(default_factory=list)
    dim: int | None = None
    runtime: str | None = None
    worker: str = ""
    digests: bytearray = field(default_factory=bytearray)
    bad: list[tuple[int, ImageError]] = field(default_factory=list)
    remarks: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    read: list[tuple[int, Read]] = field(default_factory=list)

    def note(
        self, digest: Digest | None, error: ImageError | None, remarks: tuple[str, ...]
    ) -> None:
        """Enter the next image."""
        number = len(self.digests) // 32
        self.digests += digest or _NONE
        if error is not None:
            self.bad.append((number, error))
        if remarks:
            self.remarks.append((number, remarks))

    def digest(self, number: int) -> Digest | None:
        """Return the address of an image's embedding, None where it could not be read."""
        found = bytes(self.digests[32 * number : 32 * number + 32])
        return None if found == _NONE else found
