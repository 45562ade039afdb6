"""Batches on their way: in order, the next block's while one is published, no buffer lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import pytest

import featx
from featx import errors
from featx.cache.locks import Claim, Claims
from featx.cache.shards import Block
from featx.cache.store import Store
from featx.extraction.api import extract_with
from featx.extraction.batches import Batches
from featx.extraction.settings import Settings
from tests.fakes import TINY, CountingRuntime


def drawn(count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(1, 255, (count, 32, 32, 3), dtype=np.uint8)


class Noting(CountingRuntime):
    """Notes the first number of each image, in the order in which images come."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__(batch_size)
        self.order: list[tuple[int, ...]] = []

    def run(self, pixels: np.ndarray) -> np.ndarray:
        self.order += [tuple(one[0, :4].ravel().tolist()) for one in pixels if one.any()]
        return super().run(pixels)


def extract(pixels: np.ndarray, runtime: CountingRuntime, cache: Path) -> featx.Features:
    """Extract with blocks of four batches of four, while two more are computed ahead."""
    small = Settings(block=24, ahead=8)
    return extract_with(small, pixels, TINY, runtime=runtime, cache=cache, progress=False)


def test_the_next_block_is_begun_while_one_is_published_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = CountingRuntime()
    publish = Store.publish
    seen: list[int] = []

    def slowly(self: Store, block: Block) -> None:
        if len(block.status) == 2:  # the probe images, in a batch of their own
            publish(self, block)
            return
        if not seen:
            end = time.monotonic() + 10
            while runtime.batches < 1 + 6 and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.3)  # time enough for others, were they let
        seen.append(runtime.batches)
        publish(self, block)

    monkeypatch.setattr(Store, "publish", slowly)
    pixels = drawn(100)
    features = extract(pixels, runtime, tmp_path / "c")
    assert seen[0] == 1 + (16 + 8) // 4
    monkeypatch.undo()
    alone = extract(pixels, CountingRuntime(), tmp_path / "d")
    np.testing.assert_array_equal(features.X, alone.X)


def test_a_block_that_is_claimed_slowly_is_not_overtaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Claims.take
    asked: list[str] = []

    def slowly(self: Claims, name: str) -> Claim | None:
        asked.append(name)
        if len(asked) in (1, 3):
            time.sleep(0.3)
        return take(self, name)

    monkeypatch.setattr(Claims, "take", slowly)
    runtime, pixels = Noting(), drawn(100)
    extract(pixels, runtime, tmp_path)
    assert len(asked) == 7
    expected = [tuple(one[0, :4].ravel().tolist()) for one in pixels]
    assert [each for each in runtime.order if each in set(expected)] == expected


def test_a_block_is_not_kept_when_the_one_before_failed(tmp_path: Path) -> None:
    class FailingOnce(CountingRuntime):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            rows = super().run(pixels)
            if self.batches == 11:  # of the third block; the first one of all is of the probes
                raise RuntimeError("the network failed")
            return rows

    pixels = drawn(100)
    with pytest.raises(RuntimeError, match="the network failed"):
        extract(pixels, FailingOnce(), tmp_path)
    assert len(list(tmp_path.glob("k-*/shards/*.h5"))) == 1 + 2
    runtime = CountingRuntime()
    extract(pixels, runtime, tmp_path)
    assert runtime.seen == 100 - 32


@pytest.mark.parametrize("fails_at", [0, 2, None])
def test_buffers_come_back_whatever_happens(fails_at: int | None) -> None:
    class Failing(CountingRuntime):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            if self.batches == fails_at:
                raise errors.OutOfMemoryError("no memory")
            return super().run(pixels)

    network = Batches(Failing(), 32, None, 5)
    taken = [network.take() for _ in range(5)]
    assert len({id(batch) for batch in taken}) == 5
    sent = Event()
    told: list[int] = []
    try:
        rows: Any = network.compute(taken[:4], 14, sent, None, 0, told.append)
        assert fails_at is None
        assert rows.shape == (14, 1280)
    except errors.OutOfMemoryError:
        assert fails_at is not None
    assert told == list(range(4 if fails_at is None else fails_at))
    network.give_back(taken[4:])
    network.close()
    again = [network.take() for _ in range(5)]
    assert {id(batch) for batch in again} == {id(batch) for batch in taken}


def test_a_runtime_of_one_stream_is_called_by_one_at_a_time() -> None:
    class Single(CountingRuntime):
        def __init__(self) -> None:
            super().__init__()
            self.busy = Lock()
            self.clashes = 0

        def run(self, pixels: np.ndarray) -> np.ndarray:
            if not self.busy.acquire(blocking=False):
                self.clashes += 1
                return super().run(pixels)
            try:
                time.sleep(0.05)
                return super().run(pixels)
            finally:
                self.busy.release()

    runtime = Single()
    assert runtime.streams == 1
    network = Batches(runtime, 32, None, 4)
    taken = [network.take() for _ in range(4)]
    with ThreadPoolExecutor(2) as pool:  # the last batches of a block, and the first of the next
        both = [
            pool.submit(network.compute, part, 8, Event(), None, 0, lambda number: None)
            for part in (taken[:2], taken[2:])
        ]
        assert all(rows.result() is not None for rows in both)
    network.close()
    assert (runtime.batches, runtime.clashes) == (4, 0)
