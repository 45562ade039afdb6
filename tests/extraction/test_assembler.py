"""Which images meet the network together: decided by them and their order, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest

from featx.cache.shards import block_id
from featx.errors import NotAnImageError
from featx.extraction import assembler
from featx.extraction.assembler import Entry, Layout, Miss, assemble
from featx.extraction.settings import Settings

SIDE = 2
LAYOUT = Layout(batch_size=4, batches=2, ahead=1)


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def miss(number: int) -> Miss:
    return Entry(str(number), digest(number)), np.full((SIDE, SIDE, 3), number, np.uint8)


def bad(number: int) -> Miss:
    return Entry(str(number), digest(number), NotAnImageError("text"), counted=False), None


def buffers() -> Iterator[np.ndarray]:
    """Yield batches that hold what they held before."""
    return (np.full((4, SIDE, SIDE, 3), 200, np.uint8) for _ in count())


def ids(misses: Iterator[Miss]) -> list[str]:
    return [entry.id for entry, _ in misses]


def test_blocks_are_full_but_the_last_which_is_padded_with_black() -> None:
    blocks = list(assemble(map(miss, range(1, 11)), LAYOUT, "key", buffers()))
    assert [[entry.id for entry in block.entries] for block in blocks] == [
        list("12345678"),
        ["9", "10"],
    ]
    batches = [np.asarray(block.batches)[:, 0, 0, 0].tolist() for block in map(stacked, blocks)]
    assert batches == [[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 0, 0]]


def stacked(block: assembler.AssembledBlock) -> assembler.AssembledBlock:
    block.batches = np.concatenate(block.batches)  # type: ignore[assignment]
    return block


def test_a_bad_image_keeps_its_entry_and_is_black() -> None:
    (block,) = assemble([miss(1), bad(2), miss(3)], LAYOUT, "key", buffers())
    assert [int(one[0, 0, 0]) for one in block.batches[0]] == [1, 0, 3, 0]
    assert block.counts() == [2]


def test_a_block_is_named_by_key_batch_size_and_contents() -> None:
    def name(key: str, batch_size: int, *misses: Miss) -> str:
        (block,) = assemble(misses, Layout(batch_size, 2, 1), key, buffers())
        return block.name

    whole = name("key", 4, miss(1), bad(2))
    digests = np.frombuffer(digest(1) + digest(2), np.uint8).reshape(-1, 32)
    assert whole == block_id("key", 4, digests)
    others = {
        name("other", 4, miss(1), bad(2)),
        name("key", 2, miss(1), bad(2)),
        name("key", 4, bad(2), miss(1)),
    }
    assert len(others | {whole}) == 4


def test_no_buffer_is_drawn_before_an_image_needs_it() -> None:
    drawn: list[int] = []

    def noted() -> Iterator[np.ndarray]:
        for number, batch in enumerate(buffers()):
            drawn.append(number)
            yield batch

    def misses() -> Iterator[Miss]:
        for number in range(1, 10):
            assert len(drawn) == -(-(number - 1) // 4)
            yield miss(number)

    assert len(list(assemble(misses(), LAYOUT, "key", noted()))) == 2
    assert drawn == [0, 1, 2]


def test_errors_wait_for_the_first_good_image() -> None:
    misses = iter([bad(1), bad(2), miss(3), miss(4)])
    assert ids(iter(assembler.until_good(misses))) == ["1", "2", "3"]
    assert ids(misses) == ["4"]
    assert assembler.until_good(iter([bad(1), bad(2)])) == []


def test_probes_come_first_unless_cached_and_never_twice() -> None:
    pixels = np.ones((SIDE, SIDE, 3), np.uint8)
    probes = [(digest(7), pixels), (digest(8), pixels)]

    def order(cached: set[bytes], early: list[Miss]) -> list[bytes]:
        rest = [miss(2), miss(7), miss(8), miss(3)]
        ordered = assembler.behind_probes(probes, cached, early, rest)
        return [entry.digest for entry, _ in ordered]

    assert order(set(), [miss(1)]) == [digest(i) for i in (7, 8, 1, 2, 3)]
    assert order({digest(7)}, [miss(1)]) == [digest(i) for i in (8, 1, 2, 3)]
    assert order(set(), [miss(7)]) == [digest(i) for i in (8, 7, 2, 3)]
    counted = assembler.behind_probes(probes, set(), [miss(1)], [])
    assert [entry.counted for entry, _ in counted] == [False, False, True]


@pytest.mark.parametrize(
    ("batch_size", "streams", "entries"), [(4, 1, 8), (4, 2, 8), (16, 2, 16), (16, 1, 16)]
)
def test_a_block_and_what_is_computed_ahead_have_two_batches_per_stream(
    batch_size: int, streams: int, entries: int
) -> None:
    layout = Layout.of(batch_size, streams, Settings(block=12, ahead=4, largest=48))
    assert layout.entries == entries


@pytest.mark.parametrize("batch_size", [1, 8, 32, 100, 256, 4096])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_a_kill_loses_no_more_than_the_settings_allow(batch_size: int, streams: int) -> None:
    settings = Settings()
    layout = Layout.of(batch_size, streams, settings)
    at_risk = (layout.batches + layout.ahead) * batch_size
    assert layout.batches >= 1
    assert at_risk < max(settings.block, settings.largest if streams > 1 else 0) + batch_size
