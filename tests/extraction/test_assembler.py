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


def miss(number: int, place: int | None = None) -> Miss:
    place = number - 1 if place is None else place
    return Entry(str(number), digest(number), place=place), np.full(
        (SIDE, SIDE, 3), number, np.uint8
    )


def bad(number: int) -> Miss:
    error = NotAnImageError("text")
    return Entry(str(number), digest(number), error, counted=False, place=number - 1), None


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


def test_a_block_is_what_is_missing_of_a_stretch_of_places() -> None:
    # Of the first eight places three are missing, of the next none, of the third all.
    places = [0, 3, 7, *range(16, 24)]
    found = [miss(i + 1, place) for i, place in enumerate(places)]
    blocks = list(assemble(found, LAYOUT, "key", buffers()))
    assert [[e.place for e in block.entries] for block in blocks] == [places[:3], places[3:]]
    # Whoever has the last stretch alone cuts it alike.
    (alone,) = assemble(found[3:], LAYOUT, "key", buffers())
    assert alone.name == blocks[1].name


def test_a_repeat_has_one_entry_in_a_block_and_keeps_it_in_the_next() -> None:
    found = [miss(1, 0), miss(1, 1), miss(2, 2), miss(1, 8)]
    blocks = list(assemble(found, LAYOUT, "key", buffers()))
    assert [[e.id for e in block.entries] for block in blocks] == [["1", "2"], ["1"]]


def test_a_block_does_not_wait_for_the_image_behind_its_last_place() -> None:
    drawn: list[int] = []

    def misses() -> Iterator[Miss]:
        for number in range(1, 10):
            drawn.append(number)
            yield miss(number)

    next(assemble(misses(), LAYOUT, "key", buffers()))
    assert len(drawn) == 8


def test_more_images_than_places_fill_another_block() -> None:
    found = [miss(number, 7) for number in range(1, 11)]  # doubtful ones have no place of their own
    blocks = list(assemble(found, LAYOUT, "key", buffers()))
    assert sorted(entry.id for block in blocks for entry in block.entries) == sorted(
        entry.id for entry, _ in found
    )
    assert all(len(block.entries) <= LAYOUT.entries for block in blocks)


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
