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
from featx.extraction.batches import Batches
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


def test_an_environment_is_known_once_its_first_block_was_confirmed(store: Store) -> None:
    runtime = CountingRuntime()
    guard = EnvironmentGuard(store, 32, "float32")
    guard.admit(runtime)
    assert not guard.known
    assert guard.cached_probes(runtime) == set()
    guard.confirm(Batches(runtime, 32, None, 1), publish(store, runtime))
    assert guard.known
    again = EnvironmentGuard(store, 32, "float32")
    store.save_index()
    again.admit(runtime)
    assert again.known
    assert again.cached_probes(runtime) == set(probe.digests())


def test_an_environment_that_disagrees_is_not_admitted(store: Store) -> None:
    publish(store, CountingRuntime())
    store.save_index()
    with pytest.raises(CacheEnvironmentError, match="elsewhere"):
        EnvironmentGuard(store, 32, "float32").admit(Elsewhere())


def test_a_block_of_one_that_was_admitted_too_early_is_withdrawn(store: Store) -> None:
    slow = Elsewhere(2)
    guard = EnvironmentGuard(store, 32, "float32")
    guard.admit(slow)
    publish(Store(store.root, {"backbone": "counting"}), CountingRuntime())
    block = publish(store, slow)
    with pytest.raises(CacheEnvironmentError, match="elsewhere"):
        guard.confirm(Batches(slow, 32, None, 1), block)
    assert not guard.known
    assert store.load(block) is None
