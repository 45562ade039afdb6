"""Blocks on their way: claimed, computed and published, or dropped where they end otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from featx import errors
from featx.cache.location import find_root
from featx.cache.locks import Claims
from featx.cache.store import Store
from featx.extraction import pipeline
from featx.extraction.assembler import AssembledBlock, Entry, Layout, Miss, assemble
from featx.extraction.batches import Batches
from featx.extraction.guard import EnvironmentGuard
from featx.extraction.pipeline import Job, Pipeline, State
from featx.extraction.progress import ProgressBar
from featx.extraction.settings import Settings
from featx.images.content_hash import of_content
from featx.runtimes import Runtime

SIDE = 4
# Blocks of two batches of four, while one more is computed ahead.
SMALL = Settings(block=12, ahead=4)


class Means(Runtime):
    """Rows are the channel means; NaN for images of pure 255."""

    name = "means"

    def __init__(self, batch_size: int = 4, streams: int = 1) -> None:
        self.batch_size = batch_size
        self.streams = streams
        self.batches: list[np.ndarray] = []

    def run(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(pixels.copy())
        means = pixels.mean((1, 2)).astype(np.float32)
        return np.where((means == 255).all(1, keepdims=True), np.float32(np.nan), means)


def image(number: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), number, np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(find_root(tmp_path / "cache"), {"backbone": "means"})


@pytest.fixture(autouse=True)
def no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the probe images what is computed is what was given."""
    monkeypatch.setattr(EnvironmentGuard, "admit", lambda self, runtime: None)


def misses(images: list[np.ndarray | errors.ImageError]) -> Iterator[Miss]:
    for i, each in enumerate(images):
        if isinstance(each, np.ndarray):
            yield Entry(str(i), of_content(each), place=i), each
        else:
            digest = of_content(f"bad {i}".encode())
            yield Entry(str(i), digest, each, counted=False, place=i), None


def write(
    store: Store, runtime: Runtime, images: list[np.ndarray | errors.ImageError]
) -> pipeline.Computation:
    guard = EnvironmentGuard(store, SIDE, "float32")
    return pipeline.compute(misses(images), lambda: runtime, store, SIDE, guard, settings=SMALL)


@contextmanager
def opened(
    store: Store, runtime: Runtime, claims: Claims | None = None
) -> Iterator[tuple[Pipeline, Batches]]:
    """Give a pipeline."""
    layout = Layout.of(runtime.batch_size, runtime.streams, SMALL)
    network = Batches(runtime, SIDE, None, layout.buffers)
    bar = ProgressBar(None, wanted=False)
    opened = Pipeline(store, network, layout, claims, bar, SMALL)
    try:
        yield opened, network
    finally:
        opened.close()


def block(store: Store, network: Batches, images: list[np.ndarray]) -> AssembledBlock:
    layout = Layout(network.runtime.batch_size, 2, 1)
    (assembled,) = assemble(misses([*images]), layout, store.key, network.buffers())
    return assembled


def rows(store: Store, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    store.refresh()
    digests = b"".join(of_content(image(number)) for number in numbers)
    return store.gather(np.frombuffer(digests, np.uint8).reshape(-1, 32), 3)


def test_the_last_batch_is_padded_with_black(store: Store) -> None:
    runtime = Means()
    outcome = write(store, runtime, [image(i) for i in range(1, 11)])
    assert outcome.computed == 10
    assert [len(batch) for batch in runtime.batches] == [4, 4, 4]
    assert not runtime.batches[2][2:].any()
    got, missing = rows(store, list(range(1, 11)))
    assert not missing.any()
    np.testing.assert_array_equal(got[:, 0], np.arange(1, 11))
    assert len(store.index.shards) == 2


def test_a_bad_image_keeps_its_entry(store: Store) -> None:
    spoilt = Means()
    write(store, spoilt, [image(1), errors.NotAnImageError("text"), image(2)])
    assert [int(b[0, 0, 0]) for b in spoilt.batches[0]] == [1, 0, 2, 0]
    got, missing = rows(store, [1, 2])
    assert not missing.any()
    np.testing.assert_array_equal(got[:, 0], [1, 2])


def test_errors_alone_do_not_start_the_network(store: Store) -> None:
    bad = misses([errors.NotAnImageError("text")])
    guard = EnvironmentGuard(store, SIDE, "float32")
    outcome = pipeline.compute(bad, lambda: pytest.fail("started"), store, SIDE, guard)
    assert (outcome.computed, outcome.dim) == (0, None)
    assert not store.folder.exists()


def test_several_streams_keep_the_order(store: Store) -> None:
    write(store, Means(batch_size=2, streams=3), [image(i) for i in range(1, 30)])
    got, missing = rows(store, list(range(1, 30)))
    assert not missing.any()
    np.testing.assert_array_equal(got[:, 1], np.arange(1, 30))


def test_overflow_is_not_cached_and_found_again(store: Store) -> None:
    for _ in range(2):  # the second time the block is there already
        outcome = write(store, Means(), [image(1), image(255), image(3)])
        with pytest.raises(errors.NonFiniteError, match=r"1 images \(such as 1\)"):
            outcome.refuse_overflow()
    got, missing = rows(store, [1, 255, 3])
    assert missing.tolist() == [False, True, False]


def test_a_runtime_that_overflows_no_more_fills_the_hole(store: Store) -> None:
    write(store, Means(), [image(1), image(255)])

    class Better(Means):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            return pixels.mean((1, 2)).astype(np.float32)

    outcome = write(store, Better(), [image(1), image(255)])
    outcome.refuse_overflow()
    assert rows(store, [255])[1].tolist() == [False]


def test_a_runtime_of_the_wrong_shape_is_named(store: Store) -> None:
    class Wrong(Means):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            return np.zeros((3, 3), np.float32)

    with pytest.raises(errors.ExtractionError, match="the runtime means returned float32"):
        write(store, Wrong(), [image(1)])


def test_closing_drops_the_block_after_at_most_one_batch(store: Store) -> None:
    going, on = threading.Event(), threading.Event()

    class Slow(Means):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            going.set()
            on.wait(10)
            return super().run(pixels)

    runtime = Slow()
    with opened(store, runtime) as (under_way, network):
        job = under_way.submit(block(store, network, [image(i) for i in range(1, 9)]))
        going.wait(10)
        network.stop()
        on.set()
    assert job.state is State.DROPPED
    assert len(runtime.batches) == 1
    assert rows(store, [1])[1].all()


def test_running_out_of_memory_is_returned_with_what_was_computed(store: Store) -> None:
    class Full(Means):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            if len(self.batches) == 3:
                raise errors.OutOfMemoryError("no memory")
            return super().run(pixels)

    outcome = write(store, Full(), [image(i) for i in range(1, 20)])
    assert str(outcome.shortage) == "no memory"
    assert outcome.computed == 8
    assert not rows(store, list(range(1, 9)))[1].any()


def test_a_job_names_its_state(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Means()
    with opened(store, runtime) as (first, network):
        published = first.submit(block(store, network, [image(1), image(2)]))
        empty = first.submit(block(store, network, [image(255)]))
        first.finish()
    assert (published.state, empty.state) == (State.PUBLISHED, State.EMPTY)
    assert (first.computed, first.overflowed) == (2, ["0"])
    monkeypatch.setattr(Claims, "take", lambda self, name: None)
    monkeypatch.setattr(Claims, "wait", lambda self, names, arrived, patience: None)
    with opened(store, runtime) as (again, network):
        cached = again.submit(block(store, network, [image(1), image(2)]))
        again.finish()
    assert cached.state is State.CACHED
    with opened(store, runtime, Claims(store.folder / "claims")) as (other, network):
        left = other.submit(block(store, network, [image(3)]))
        other.finish()
    assert left.state is State.LEFT
    assert len(runtime.batches) == 2


def test_a_job_that_fails_stays_where_it_failed(store: Store) -> None:
    class Failing(Means):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError("the network failed")

    with opened(store, Failing()) as (failing, network):
        job = failing.submit(block(store, network, [image(1)]))
        with pytest.raises(RuntimeError, match="the network failed"):
            failing.finish()
    assert job.state is State.COMPUTING


def test_a_job_takes_no_step_out_of_order() -> None:
    job = Job(AssembledBlock("name", [], [], 4))
    with pytest.raises(ValueError, match="block name: PUBLISHED after ASSEMBLED"):
        job.advance(State.PUBLISHED)
    job.advance(State.LEFT)
    with pytest.raises(ValueError, match="CLAIMED after LEFT"):
        job.advance(State.CLAIMED)


@pytest.mark.parametrize(
    ("batch_size", "streams", "size"), [(4, 1, 8), (4, 2, 8), (16, 2, 16), (16, 1, 16)]
)
def test_blocks_are_published_as_they_were_laid_out(
    store: Store, batch_size: int, streams: int, size: int
) -> None:
    settings = Settings(block=12, ahead=4, largest=48)
    pipeline.compute(
        misses([image(number) for number in range(size + 1)]),
        lambda: Means(batch_size, streams),
        store,
        SIDE,
        EnvironmentGuard(store, SIDE, "float32"),
        settings=settings,
    )
    store.refresh()
    assert sorted(len(shard.status) for shard in store.index.shards) == [1, size]
