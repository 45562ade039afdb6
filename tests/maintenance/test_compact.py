from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featx.cache.location import find_root
from featx.cache.shards import BAD, EMBEDDING, MISSING, Block, block_id
from featx.cache.store import Store
from featx.errors import CacheSpaceError, CacheWriteError
from featx.maintenance import compaction
from featx.maintenance.compaction import compact
from featx.maintenance.inventory import open_key
from featx.storage.local import FolderStorage
from tests.promises import stub

DIM = 6


def digests(first: int, count: int) -> np.ndarray:
    numbers = np.arange(first, first + count, dtype=">u8")
    return np.tile(numbers[:, None].view(np.uint8).reshape(count, 8), 4)


def block(first: int, count: int = 4, shift: float = 0, **changes: object) -> Block:
    rows = np.arange(count * DIM, dtype=np.float32).reshape(count, DIM) + first + shift
    status = np.full(count, EMBEDDING, np.uint8)
    values = {"batch_size": 4, "environment": {"runtime": "a"}, **changes}
    return Block(rows, digests(first, count), status, [], **values)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(find_root(tmp_path / "c"), {"backbone": "x"})


def served(store: Store, first: int = 0, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rows, missing = store.gather(digests(first, count), DIM)
    rows[missing] = -1
    return rows, missing


def no_wait(seconds: float) -> None:
    assert seconds == compaction.GRACE_SECONDS


def test_embeddings_stay_and_shards_become_few(store: Store) -> None:
    for number in range(10):
        store.publish(block(4 * number))
    store.refresh()
    before, _ = served(store)
    done = compact(store, sleep=no_wait)
    assert done == compaction.Compaction(published=1, removed=10, shards=1)
    for again in (store, Store(store.root, {"backbone": "x"})):
        rows, missing = served(again)
        assert not missing.any()
        np.testing.assert_array_equal(rows, before)
    assert compact(store, sleep=pytest.fail) == compaction.Compaction(0, 0, 1)


def test_target_bounds_the_size(store: Store) -> None:
    for number in range(10):
        store.publish(block(4 * number))
    compact(store, target=3 * 4 * 4 * DIM, sleep=no_wait)
    assert sorted(len(shard.status) for shard in store.index.shards) == [4, 12, 12, 12]


def test_environments_and_batch_sizes_are_not_mixed(store: Store) -> None:
    for number, (runtime, batch_size) in enumerate([("a", 4), ("b", 4), ("a", 8)] * 2):
        store.publish(block(4 * number, environment={"runtime": runtime}, batch_size=batch_size))
    store.refresh()
    before, _ = served(store, count=24)
    compact(store, sleep=no_wait)
    assert len(store.index.shards) == 3
    assert sorted(s.environment["runtime"] for s in store.index.shards) == ["a", "a", "b"]
    np.testing.assert_array_equal(served(store, count=24)[0], before)


def test_verdicts_and_holes(store: Store) -> None:
    bad = block(0)
    bad.status[1], bad.status[2] = BAD, MISSING
    bad.features[1:3] = np.nan
    bad.failures.append((1, 3, "cut"))
    store.publish(bad)
    store.publish(block(4))
    compact(store, sleep=no_wait)
    (shard,) = store.index.shards
    assert len(shard.status) == 7  # the hole is gone
    (position,) = store.find(digests(1, 1)).tolist()
    assert str(store.index.failure(position)) == "cut"
    assert store.find(digests(2, 1)).tolist() == [-1]


def test_of_two_embeddings_of_one_image_the_served_one_stays(store: Store) -> None:
    """Computed in two environments, their last bits differ; which one is served must not change."""
    for number in range(4):
        store.publish(block(4 * number, shift=0))
        store.publish(block(4 * number, shift=0.5, batch_size=2, environment={"runtime": "b"}))
    store.refresh()
    before, _ = served(store, count=16)
    compact(store, sleep=no_wait)
    np.testing.assert_array_equal(served(store, count=16)[0], before)
    np.testing.assert_array_equal(served(Store(store.root, {"backbone": "x"}), count=16)[0], before)


def named_in_order(store: Store, *wanted: Block) -> list[Block]:
    """Return blocks of these rows whose names are in this order: the batch size moves a name."""
    named: list[Block] = []
    last = ""
    for each in wanted:
        batch_sizes = range(1, 10_000)
        names = (block_id(store.key, size, each.sha256) for size in batch_sizes)
        limit = "123456789"[len(named)]
        size, last = next(
            (size, name)
            for size, name in zip(batch_sizes, names, strict=True)
            if last < name < limit
        )
        named.append(replace(each, batch_size=size))
    return named


def test_a_shard_stays_while_another_embedding_would_be_served_instead(store: Store) -> None:
    """Of three rows of one image the first and the last are equal, the second is not."""
    other = block(0, 8, shift=0.5, environment={"runtime": "b"})
    other.sha256[4:] = digests(100, 4)
    first, second, third = named_in_order(store, block(0), other, block(0, 12))
    for each in (first, second, third):
        store.publish(each)
    store.refresh()
    before, _ = served(store)
    assert compaction.superseded(store) == {}
    compact(store, target=1, sleep=pytest.fail)
    np.testing.assert_array_equal(served(store)[0], before)
    assert len(store.index.shards) == 3


def test_a_shard_goes_with_the_one_that_would_be_served_instead(store: Store) -> None:
    """The second has nothing of its own here, so both go, the first one last."""
    other = block(0, shift=0.5, environment={"runtime": "b"})
    first, second, third = named_in_order(store, block(0), other, block(0, 12))
    for each in (first, second, third):
        store.publish(each)
    store.refresh()
    before, _ = served(store)
    names = [shard.name for shard in store.index.shards]
    assert list(compaction.superseded(store)) == [names[1], names[0]]
    assert compact(store, target=1, sleep=no_wait).removed == 2
    np.testing.assert_array_equal(served(store)[0], before)


def test_no_embedding_gets_the_provenance_of_another_environment(store: Store) -> None:
    """Rows of environment b end with a half, those of a do not."""
    for number in range(12):
        store.publish(block(4 * number))
        store.publish(block(4 * number + 2, shift=0.5, batch_size=2, environment={"runtime": "b"}))
    store.refresh()
    before, _ = served(store, count=50)
    compact(store, sleep=no_wait)
    np.testing.assert_array_equal(served(store, count=50)[0], before)
    for shard in store.index.shards:
        rows = compaction._read(store, shard.name).features
        assert set(np.unique(rows % 1)) == {0.5 if shard.environment["runtime"] == "b" else 0.0}
    small = len(store.index.shards)
    assert small < 24
    assert compact(store, sleep=no_wait).published == 0
    assert len(store.index.shards) == small


def test_nothing_goes_when_what_replaces_it_went_meanwhile(store: Store) -> None:
    for number in range(6):
        store.publish(block(4 * number))

    small = set((store.folder / "shards").iterdir())

    def removed(_: float) -> None:
        (merged,) = set((store.folder / "shards").iterdir()) - small
        merged.unlink()

    done = compact(store, sleep=removed)
    assert done == compaction.Compaction(published=1, removed=0, shards=6)


def test_what_cannot_be_removed_is_a_cache_error(store: Store) -> None:
    class Closed(FolderStorage):
        def remove(self, name: str) -> None:
            raise PermissionError(13, "Permission denied")

    store.publish(block(0))
    store.publish(block(4))
    store.storage = Closed(store.root)
    with pytest.raises(CacheWriteError, match="Permission denied"):
        compact(store, sleep=no_wait)


def test_interrupted_before_removing(store: Store) -> None:
    """Killed in the grace period: nothing is lost, and the next compaction goes on."""
    for number in range(6):
        store.publish(block(4 * number))

    def killed(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(store, sleep=killed)
    again = Store(store.root, {"backbone": "x"})
    assert len(again.index.shards) == 7
    before, missing = served(again, count=24)
    assert not missing.any()
    assert compact(again, sleep=no_wait) == compaction.Compaction(0, 6, 1)
    np.testing.assert_array_equal(served(again, count=24)[0], before)


def test_nothing_is_removed_when_the_disk_is_full(store: Store) -> None:
    for number in range(6):
        store.publish(block(4 * number))

    class Full(FolderStorage):
        def free_bytes(self, folder: str) -> int:
            return 0

    store.storage = Full(store.root)
    with pytest.raises(CacheSpaceError):
        compact(store, sleep=pytest.fail)
    assert len(list((store.folder / "shards").glob("*.h5"))) == 6


def test_two_at_once_lose_nothing(store: Store) -> None:
    for number in range(20):
        store.publish(block(4 * number))
    store.refresh()
    before, _ = served(store, count=80)
    stores = [Store(store.root, {"backbone": "x"}) for _ in range(4)]
    threads = [
        threading.Thread(target=compact, args=(each, size * 4 * 4 * DIM, 0.0))
        for size, each in enumerate(stores, start=4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows, missing = served(Store(store.root, {"backbone": "x"}), count=80)
    assert not missing.any()
    np.testing.assert_array_equal(rows, before)


def test_a_reader_is_never_hurt(tmp_path: Path) -> None:
    """Extractions go on while shards are merged without any grace: no error, no other row."""
    expected = stub.draw(tmp_path / "d", 700, seed=3)
    for part in ("a", "b"):
        stub.extract(tmp_path / "d" / part, tmp_path / "c")
    stub.extract(tmp_path / "d", tmp_path / "c")
    (folder,) = (tmp_path / "c").glob("k-*")
    stop = threading.Event()
    errors: list[BaseException] = []
    rounds = []

    def read() -> None:
        try:
            while not stop.is_set():
                runtime = stub.Thumbnail()
                features = stub.extract(tmp_path / "d", tmp_path / "c", runtime)
                np.testing.assert_array_equal(features.X, expected)
                rounds.append(runtime.seen)
        except BaseException as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    size = 4 * stub.DIM
    for target in (300 * size, 600 * size, 1200 * size, 4800 * size):
        compact(open_key(folder), target, grace=0.0)
        while reader.is_alive() and len(rounds) % 2 == 0 and not errors:
            stop.wait(0.01)
    stop.set()
    reader.join()
    assert not errors
    assert rounds
    assert len(open_key(folder).index.shards) == 1
