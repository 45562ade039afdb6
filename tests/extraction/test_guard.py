"""The guard of a key: which environment is known to it, and what is withdrawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featx.cache.location import find_root
from featx.cache.shards import EMBEDDING, Block, block_id
from featx.cache.store import Store
from featx.errors import CacheEnvironmentError
from featx.extraction import probe
from featx.extraction.guard import EnvironmentGuard
from tests.fakes import CountingRuntime


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(find_root(tmp_path), {"backbone": "counting"})


def publish(store: Store, runtime: CountingRuntime) -> str:
    """Publish the probe images by a runtime; return the block's name."""
    images = probe.images(32)
    batch = np.zeros((runtime.batch_size, 32, 32, 3), np.uint8)
    batch[: len(images)] = [pixels for _, pixels in images]
    digests = np.frombuffer(b"".join(digest for digest, _ in images), np.uint8).reshape(-1, 32)
    block = Block(
        runtime.run(batch)[: len(images)], digests, np.full(len(images), EMBEDDING, np.uint8), [],
        runtime.batch_size, runtime.environment(),
    )  # fmt: skip
    store.publish(block)
    return block_id(store.key, block.batch_size, digests)


class Elsewhere(CountingRuntime):
    """Another environment, whose embeddings are twice as large."""

    name = "elsewhere"

    def run(self, pixels: np.ndarray) -> np.ndarray:
        return 2 * super().run(pixels)


class Changed(CountingRuntime):
    """The same versions, and yet other numbers: another processor."""

    def run(self, pixels: np.ndarray) -> np.ndarray:
        return 2 * super().run(pixels)


def test_a_new_environment_begins_with_a_shard_of_the_probe_images(store: Store) -> None:
    runtime = CountingRuntime()
    EnvironmentGuard(store, 32, "float32").admit(runtime)
    store.refresh()
    (shard,) = store.index.shards
    assert [digest.tobytes() for digest in shard.sha256] == list(probe.digests())
    assert shard.environment == runtime.environment()
    seen = runtime.seen
    EnvironmentGuard(store, 32, "float32").admit(runtime)
    assert (runtime.seen, len(store.index.shards)) == (seen, 1)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_probe_images_fit_any_batch(store: Store, batch_size: int) -> None:
    runtime = CountingRuntime(batch_size)
    EnvironmentGuard(store, 32, "float32").admit(runtime)
    EnvironmentGuard(store, 32, "float32", always=True).admit(runtime)
    store.refresh()
    assert [len(shard.status) for shard in store.index.shards] == [len(probe.digests())]


def test_an_environment_that_disagrees_is_not_admitted(store: Store) -> None:
    publish(store, CountingRuntime())
    store.save_index()
    with pytest.raises(CacheEnvironmentError, match="elsewhere"):
        EnvironmentGuard(store, 32, "float32").admit(Elsewhere())
    assert len(store.environments()) == 1


def test_the_same_versions_are_believed_unless_all_are_compared(store: Store) -> None:
    publish(store, CountingRuntime())
    store.save_index()
    EnvironmentGuard(store, 32, "float32").admit(Changed())
    with pytest.raises(CacheEnvironmentError, match="differ from the cached ones"):
        EnvironmentGuard(store, 32, "float32", always=True).admit(Changed())


@pytest.mark.parametrize("batch_size", [2, 4])
def test_of_two_that_begin_at_once_one_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """The first has published by the time that the second has compared and found nothing."""
    first, second = CountingRuntime(4), Elsewhere(batch_size)
    check = probe.check

    def late(asked: Store, runtime: CountingRuntime, *args: object, **more: object) -> object:
        found = check(asked, runtime, *args, **more)
        if asked is store and not asked.environments():
            publish(Store(store.root, {"backbone": "counting"}), first)
        return found

    monkeypatch.setattr(probe, "check", late)
    with pytest.raises(CacheEnvironmentError, match="elsewhere"):
        EnvironmentGuard(store, 32, "float32").admit(second)
    store.refresh()
    assert store.environments() == [first.environment()]
