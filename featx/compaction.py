"""Many small shards of a key made into few large ones; every row stays as it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from featx import disk, shards
from featx.index import ShardFacts
from featx.shards import BAD, HOLE, ROW, Block
from featx.store import Store

# A reader holds a whole shard in memory, some of them at a time; at 64 MB the cost of opening
# files is gone already (1,250 files for 10 million rows of 2,048 numbers).
TARGET_BYTES = 64 << 20
# A reader that listed the folder before the new shard was there opens the old one within this.
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Compaction:
    """What was done to one key: shards published, shards removed, and shards now there."""

    published: int
    removed: int
    shards: int


def compact(
    store: Store,
    target: int = TARGET_BYTES,
    grace: float = GRACE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Compaction:
    """Merge the small shards of a key.

    The large shards are published first, whole and durable. The small ones are removed after a
    grace period, and only those that leave every served row as it was. Interrupted at any point,
    nothing is lost, and the next compaction removes what this one left.

    Parameters
    ----------
    store : Store
    target : int
        Bytes of rows up to which shards are merged.
    grace : float
        Seconds between publishing and removing, for the readers under way.
    sleep : callable
        Waits; called only if something is to be removed.

    Raises
    ------
    CacheSpaceError, CacheWriteError
        As for publishing any shard; nothing was removed.
    """
    store.refresh()
    published = 0
    for group in plan(store, target):
        with suppress(FileNotFoundError):  # another process merges these: leave them to it
            store.publish(_merged(store, group))
            published += 1
    store.refresh()
    redundant = superseded(store)
    if redundant:
        sleep(grace)
    for name in redundant:
        # Largest name first: of equal pictures the smallest name is served, to the last moment.
        (store.folder / "shards" / name).unlink(missing_ok=True)
    store.refresh()
    store.save_index()
    return Compaction(published, len(redundant), len(store.index.shards))


def plan(store: Store, target: int = TARGET_BYTES) -> list[list[ShardFacts]]:
    """Return the groups of shards that would become one shard each.

    Shards of one environment and batch size go together, so that each keeps its provenance, in
    the order in which they were published, so that a data set's rows stay neighbours.
    """
    gone = set(superseded(store))
    small = []
    for shard in store.index.shards:
        if _bytes(shard) <= target // 2 and shard.name not in gone:
            with suppress(FileNotFoundError):
                small.append((_kind(store, shard), shard.about[1], shard.name, shard))
    groups: list[list[ShardFacts]] = []
    for _, alike in groupby(sorted(small, key=lambda entry: entry[:3]), key=lambda e: e[0]):
        group: list[ShardFacts] = []
        for *_, shard in alike:
            if group and _is_full([*group, shard], target):
                groups.append(group)
                group = []
            group.append(shard)
        groups.append(group)
    return [group for group in groups if len(group) > 1]


def superseded(store: Store) -> list[str]:
    """Return the shards, largest name first, that can go without changing any served row.

    Each has all its pictures in one larger shard, with the same bytes where its own are the ones
    served. The larger one can itself only go for a still larger one, so two processes that do
    this at once never remove each other's reason.
    """
    contents = [_prefixes(shard) for shard in store.index.shards]
    counts = np.array([len(content) for content in contents], np.int64)
    everything = np.concatenate([np.empty(0, np.uint64), *contents])
    order = np.argsort(everything, kind="stable")
    ranked, owner = everything[order], np.repeat(np.arange(len(contents)), counts)[order]
    found = []
    for number, content in enumerate(contents):
        if not len(content):
            continue
        begin, end = (int(np.searchsorted(ranked, content[0], side)) for side in ("left", "right"))
        for other in owner[begin:end].tolist():
            if (
                counts[other] > counts[number]
                and np.isin(content, contents[other], assume_unique=True).all()
                and _holds(store, store.index.shards[number], store.index.shards[other])
            ):
                found.append(store.index.shards[number].name)
                break
    return sorted(found, reverse=True)


def _merged(store: Store, group: Sequence[ShardFacts]) -> Block:
    """Return one block of the pictures of some shards, each with the row that is served now."""
    blocks = [_read(store, shard) for shard in group]
    verdicts: dict[bytes, tuple[int, str]] = {}
    contents: dict[bytes, None] = {}  # a set that keeps its order
    for block in blocks:
        texts = {slot: (code, text) for slot, code, text in block.failures}
        for slot in np.flatnonzero(block.status != HOLE).tolist():
            digest = bytes(block.sha256[slot])
            contents[digest] = None
            if block.status[slot] == BAD and slot in texts:
                verdicts[digest] = texts[slot]
    sha256 = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 32)
    features, missing = store.gather(sha256, blocks[0].features.shape[1])
    features[missing] = np.nan
    failures = [
        (i, *verdicts[digest])
        for i, digest in enumerate(contents)
        if missing[i] and digest in verdicts
    ]
    # A row that was damaged since is a hole here, and keeps its old shard from being removed.
    status = np.where(missing, HOLE, ROW).astype(np.uint8)
    status[[slot for slot, _, _ in failures]] = BAD
    return Block(features, sha256, status, failures, blocks[0].batch_size, blocks[0].environment)


def _holds(store: Store, small: ShardFacts, large: ShardFacts) -> bool:
    """Say whether the large shard has all pictures of the small one, and the rows it serves."""
    try:
        one, other = _read(store, small), _read(store, large)
    except FileNotFoundError:  # another process merged them
        return False
    where = {bytes(other.sha256[i]): i for i in np.flatnonzero(other.status != HOLE).tolist()}
    wanted = np.flatnonzero(one.status != HOLE)
    to = np.array([where.get(bytes(one.sha256[i]), -1) for i in wanted], np.int64)
    if (to < 0).any():
        return False
    positions = store.index.find(one.sha256[wanted])
    served = [at >= 0 and store.index.shard(at).name == small.name for at in positions]
    rows = np.array(served, bool) & (one.status[wanted] == ROW)
    return bool(
        (other.status[to[rows]] == ROW).all()
        and np.array_equal(one.features[wanted[rows]], other.features[to[rows]])
    )


def _read(store: Store, shard: ShardFacts) -> Block:
    path = store.folder / "shards" / shard.name
    return shards.decode(disk.read(path), store.key, shard.name[:-3])[0]


def _kind(store: Store, shard: ShardFacts) -> tuple[str, int]:
    return json.dumps(shard.environment, sort_keys=True), _read(store, shard).batch_size


def _prefixes(shard: ShardFacts) -> np.ndarray:
    """Return 64 bits of each content digest, each once, sorted."""
    usable = np.ascontiguousarray(shard.sha256[shard.status != HOLE][:, :8])
    return np.unique(usable.view(np.uint64).ravel())


def _bytes(shard: ShardFacts) -> int:
    return 4 * shard.layout.n * shard.layout.dim


def _is_full(group: Sequence[ShardFacts], target: int) -> bool:
    slots = sum(len(shard.status) for shard in group)
    return sum(map(_bytes, group)) > target or slots > shards.MAX_ROWS
