"""The block being filled: what meets the network together, and what is dropped."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from featx import errors
from featx.cache.store import Store, find_root
from featx.extraction import blocks
from featx.extraction.blocks import BlockWriter
from featx.images.content_hash import of_content
from featx.runtimes import Runtime

SIDE = 4


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
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    # Blocks of two batches of four, while one more is computed ahead.
    monkeypatch.setattr(blocks, "BLOCK", 12)
    monkeypatch.setattr(blocks, "AHEAD", 4)
    return Store(find_root(tmp_path / "cache"), {"backbone": "means"})


def write(
    store: Store, runtime: Runtime, images: list[np.ndarray | errors.ImageError]
) -> BlockWriter:
    writer = BlockWriter(store, lambda: runtime, SIDE)
    for i, each in enumerate(images):
        content = each if isinstance(each, np.ndarray) else f"bad {i}".encode()
        writer.add(str(i), of_content(content), each)
    writer.finish()
    writer.close()
    return writer


def rows(store: Store, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    store.refresh()
    digests = b"".join(of_content(image(number)) for number in numbers)
    return store.gather(np.frombuffer(digests, np.uint8).reshape(-1, 32), 3)


def test_the_last_batch_is_padded_with_black(store: Store) -> None:
    runtime = Means()
    writer = write(store, runtime, [image(i) for i in range(1, 11)])
    assert writer.computed == 10
    assert [len(batch) for batch in runtime.batches] == [4, 4, 4]
    assert not runtime.batches[2][2:].any()
    got, missing = rows(store, list(range(1, 11)))
    assert not missing.any()
    np.testing.assert_array_equal(got[:, 0], np.arange(1, 11))
    assert len(store.index.shards) == 2


def test_a_bad_image_keeps_its_slot(store: Store) -> None:
    clean, spoilt = Means(), Means()
    bad = errors.NotAnImageError("no image")
    write(store, spoilt, [image(1), bad, image(2)])
    assert [int(b[0, 0, 0]) for b in spoilt.batches[0]] == [1, 0, 2, 0]
    got, missing = rows(store, [1, 2])
    assert not missing.any()
    write(store, clean, [])
    assert not clean.batches


def test_verdicts_alone_do_not_start_the_network(store: Store) -> None:
    writer = BlockWriter(store, lambda: pytest.fail("started"), SIDE)
    writer.add("0", b"0" * 32, errors.NotAnImageError("no image"))
    writer.finish()
    writer.close()
    assert not store.folder.exists()


def test_a_repeat_is_computed_once(store: Store) -> None:
    assert write(store, Means(), [image(1), image(1), image(2)]).computed == 2


def test_several_streams_keep_the_order(store: Store) -> None:
    write(store, Means(batch_size=2, streams=3), [image(i) for i in range(1, 30)])
    got, missing = rows(store, list(range(1, 30)))
    assert not missing.any()
    np.testing.assert_array_equal(got[:, 1], np.arange(1, 30))


def test_overflow_is_not_kept_and_found_again(store: Store) -> None:
    for _ in range(2):  # the second time the block is there already
        writer = write(store, Means(), [image(1), image(255), image(3)])
        with pytest.raises(errors.NonFiniteError, match=r"1 images \(such as 1\)"):
            writer.refuse_overflow()
    got, missing = rows(store, [1, 255, 3])
    assert missing.tolist() == [False, True, False]


def test_a_runtime_that_overflows_no_more_fills_the_hole(store: Store) -> None:
    write(store, Means(), [image(1), image(255)])

    class Better(Means):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            return pixels.mean((1, 2)).astype(np.float32)

    writer = write(store, Better(), [image(1), image(255)])
    writer.refuse_overflow()
    assert rows(store, [255])[1].tolist() == [False]


def test_a_runtime_of_the_wrong_shape_is_named(store: Store) -> None:
    class Wrong(Means):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            return np.zeros((3, 3), np.float32)

    with pytest.raises(errors.ExtractionError, match=r"the runtime means gave float32 of shape"):
        write(store, Wrong(), [image(1)])


def test_closing_drops_the_block_after_at_most_one_batch(store: Store) -> None:
    going, on = threading.Event(), threading.Event()

    class Slow(Means):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            going.set()
            on.wait(10)
            return super().run(pixels)

    runtime = Slow()
    writer = BlockWriter(store, lambda: runtime, SIDE)
    for i in range(1, 9):
        writer.add(str(i), of_content(image(i)), image(i))
    going.wait(10)
    writer._network.stop()
    on.set()
    writer.close()
    assert len(runtime.batches) == 1
    assert rows(store, [1])[1].all()


@pytest.mark.parametrize(
    ("batch_size", "streams", "block"), [(4, 1, 8), (4, 2, 8), (16, 2, 16), (16, 1, 16)]
)
def test_a_block_and_what_is_computed_ahead_have_two_batches_a_stream(
    store: Store, monkeypatch: pytest.MonkeyPatch, batch_size: int, streams: int, block: int
) -> None:
    monkeypatch.setattr(blocks, "LARGEST", 48)
    runtime = Means(batch_size, streams)
    writer = BlockWriter(store, lambda: runtime, SIDE)
    for number in range(block + 1):
        writer.add(str(number), of_content(image(number)), image(number))
    writer.finish()
    writer.close()
    store.refresh()
    assert sorted(len(shard.status) for shard in store.index.shards) == [1, block]
