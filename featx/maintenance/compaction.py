"""Many small shards of a key made into few large ones; every embedding stays as it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby

import numpy as np

from featx.cache import shards
from featx.cache.index import ShardIndex
from featx.cache.shards import MISSING, Block, ShardMetadata
from featx.cache.store import Store
from featx.storage import atomic

# A reader holds a whole shard in memory, some of them at a time; at 64 MB the cost of opening
# files is gone already (1,250 files for 10 million embeddings of 2,048 numbers).
TARGET_BYTES = 64 << 20
# A reader that listed the folder before the new shard was there opens the old one within this.
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Compaction:
    """What was done to one key: shards published, shards removed, and shards that are now."""

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
    grace period, and only those that leave every served embedding as it was. Interrupted at any
    point, nothing is lost, and the next compaction removes what this one left.

    Parameters
    ----------
    store : Store
    target : int
        Bytes of embeddings up to which shards are merged.
    grace : float
        Seconds between publishing and removing, for the readers under way.
    sleep : callable
        Waits; called only if something is to be removed.

    Raises
    ------
    CacheSpaceError, CacheWriteError
        As for publishing any shard; nothing was removed.
    CacheError
        A shard cannot be read; nothing was removed.
    """
    store.refresh()
    published = 0
    existing = {shard.name for shard in store.index.shards}
    for group in plan(store, target):
        with suppress(FileNotFoundError):  # another process merges these: leave them to it
            block = _merged(store, group)
            if len(block) and _name(store, block) not in existing:
                store.publish(block)
                published += 1
    store.refresh()
    redundant = superseded(store)
    if redundant:
        sleep(grace)
    removed = 0
    for name, heirs in redundant.items():
        # Largest name first: of equal images the smallest name is served, to the last moment.
        # Not known to exist is as good as gone.
        if all(store.holds(heir) for heir in heirs):
            store.withdraw(name.removesuffix(".h5"))
            removed += 1
    store.refresh()
    store.save_index()
    return Compaction(published, removed, len(store.index.shards))


def plan(store: Store, target: int = TARGET_BYTES) -> list[list[ShardMetadata]]:
    """Return the groups of shards that would become one shard each.

    Shards of one environment and batch size go together, so that each keeps its provenance, in
    the order in which they were published, so that the embeddings of a data set stay neighbours.
    """
    gone = superseded(store)
    small = []
    for shard in store.index.shards:
        if _bytes(shard) <= target // 2 and shard.name not in gone:
            with suppress(FileNotFoundError):
                small.append((_kind(store, shard), shard.stat.modified, shard.name, shard))
    groups: list[list[ShardMetadata]] = []
    for _, alike in groupby(sorted(small, key=lambda entry: entry[:3]), key=lambda e: e[0]):
        group: list[ShardMetadata] = []
        for *_, shard in alike:
            if group and _is_full([*group, shard], target):
                groups.append(group)
                group = []
            group.append(shard)
        groups.append(group)
    return [group for group in groups if len(group) > 1]


def superseded(store: Store) -> dict[str, set[str]]:
    """Return the shards that can go without changing any served embedding, largest name first.

    Each of its images is in a shard that stays, and of those that it serves, the embedding or
    refusal that is served without it is the same, to the bit.

    Returns
    -------
    dict of name to set of names
        The shards that serve its images when it is gone.
    """
    going = _dispensable(store.index.shards)
    while True:
        staying = [shard for shard in store.index.shards if shard.name not in going]
        after = ShardIndex(staying)
        read = lru_cache(maxsize=4)(partial(_read, store))
        heirs = {
            shard.name: _heirs(shard, store.index, after, read)
            for shard in reversed(store.index.shards)
            if shard.name in going
        }
        found = {name: names for name, names in heirs.items() if names is not None}
        if len(found) == len(going):
            return found
        # Those that must stay may be served in place of others now: all are looked at again.
        going = set(found)


def _dispensable(among: Sequence[ShardMetadata]) -> set[str]:
    """Return the names of shards whose images are all in a larger shard, too.

    Of two of one size the smaller name counts as larger. The largest shard of an image never
    goes, so two processes that do this at once never remove each other's reason.
    """
    contents = [_prefixes(shard) for shard in among]
    counts = np.array([len(content) for content in contents], np.int64)
    size = np.empty(len(among), np.int64)  # the rank of a shard by size
    size[np.lexsort((-np.arange(len(among)), counts))] = np.arange(len(among))
    images = np.concatenate([np.empty(0, np.uint64), *contents])
    owner = np.repeat(np.arange(len(among)), counts)
    order = np.lexsort((size[owner], images))
    last = np.append(images[order][1:] != images[order][:-1], True)[: len(order)]
    needed = set(owner[order][last].tolist())
    return {shard.name for i, shard in enumerate(among) if counts[i] and i not in needed}


def _heirs(
    shard: ShardMetadata, now: ShardIndex, after: ShardIndex, read: Callable[[str], Block]
) -> set[str] | None:
    """Return which shards serve a shard's images without it, or None if not all as before."""
    found = np.flatnonzero((shard.status != MISSING) & (now.find(shard.sha256) >= 0))
    positions = after.find(shard.sha256[found])
    if (positions < 0).any():
        return None
    served = np.isin(found, now.served_by(shard))
    try:
        block = read(shard.name)
        for heir, at, entries in after.by_shard(positions):
            other, here = read(heir.name), served[at]
            mine, theirs = found[at][here], entries[here]
            if not np.array_equal(block.status[mine], other.status[theirs]) or not np.array_equal(
                block.features[mine], other.features[theirs], equal_nan=True
            ):
                return None
    except FileNotFoundError:  # another process merged it
        return None
    return {heir.name for heir, _, _ in after.by_shard(positions)}


def _merged(store: Store, group: Sequence[ShardMetadata]) -> Block:
    """Return one block of the images that some shards of one kind serve, or alone know to be bad.

    An image that a shard outside the group serves is left to that one: its embedding may come from
    another environment, and would get a false provenance here.
    """
    parts: dict[bytes, tuple[np.ndarray, int, tuple[int, str] | None]] = {}
    for shard in group:
        block = _read(store, shard.name)
        texts = {entry: (code, text) for entry, code, text in block.failures}
        elsewhere = np.ones(len(block.status), bool)
        elsewhere[store.index.served_by(shard)] = False
        elsewhere &= store.index.find(block.sha256) >= 0
        for entry in np.flatnonzero((block.status != MISSING) & ~elsewhere).tolist():
            parts.setdefault(
                bytes(block.sha256[entry]),
                (block.features[entry], int(block.status[entry]), texts.get(entry)),
            )
    failures = [(i, *refusal) for i, (_, _, refusal) in enumerate(parts.values()) if refusal]
    return Block(
        np.array([embedding for embedding, _, _ in parts.values()], np.float32),
        np.frombuffer(b"".join(parts), np.uint8).reshape(-1, 32),
        np.array([status for _, status, _ in parts.values()], np.uint8),
        failures,
        block.batch_size,
        block.environment,
    )


def _read(store: Store, name: str) -> Block:
    try:
        return store.read(name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise atomic.unreadable(error, store.location(f"shards/{name}")) from error


def _name(store: Store, block: Block) -> str:
    return shards.block_id(store.key, block.batch_size, block.sha256) + ".h5"


def _kind(store: Store, shard: ShardMetadata) -> tuple[str, int]:
    return json.dumps(shard.environment, sort_keys=True), _read(store, shard.name).batch_size


def _prefixes(shard: ShardMetadata) -> np.ndarray:
    """Return 64 bits of each content digest, each once, sorted."""
    usable = np.ascontiguousarray(shard.sha256[shard.status != MISSING][:, :8])
    return np.unique(usable.view(np.uint64).ravel())


def _bytes(shard: ShardMetadata) -> int:
    return 4 * shard.layout.n * shard.layout.dim


def _is_full(group: Sequence[ShardMetadata], target: int) -> bool:
    entries = sum(len(shard.status) for shard in group)
    return sum(map(_bytes, group)) > target or entries > shards.MAX_ENTRIES
