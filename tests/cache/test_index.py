"""The index finds the shard and slot of a image, and prefers a row to a verdict."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from featx import errors
from featx.cache.index import ShardIndex
from featx.cache.shards import BAD, HOLE, PILLOW, ROW, Layout, ShardFacts
from featx.cache.stat_index import KnownFiles
from tests.promises import stub


def digests(*names: str) -> np.ndarray:
    return np.frombuffer(
        b"".join(hashlib.sha256(name.encode()).digest() for name in names), np.uint8
    ).reshape(-1, 32)


def facts(name: str, images: str, status: list[int], pillow: str | None = None) -> ShardFacts:
    n = len(status)
    bad = [(i, 4, f"bad in {name}") for i, kind in enumerate(status) if kind == BAD]
    environment = {} if pillow is None else {"pillow": pillow}
    return ShardFacts(
        name, (4000, 2, 3, 4), Layout(n, 8, 100, 200), digests(*images),
        np.array(status, np.uint8), bad, environment, bytes(16),
    )  # fmt: skip


def find(found: ShardIndex, sha256: np.ndarray) -> np.ndarray:
    """Return where the images are; asked together and one by one, the answer is the same."""
    positions = found.find(sha256)
    assert [found.find_one(bytes(digest)) for digest in sha256] == positions.tolist()
    return positions


def test_rows_verdicts_and_holes() -> None:
    found = ShardIndex([facts("1", "abc", [ROW, BAD, HOLE]), facts("2", "de", [ROW, ROW])])
    positions = find(found, digests(*"aebcx"))
    assert (positions >= 0).tolist() == [True, True, True, False, False]
    assert found.is_row(positions).tolist() == [True, True, False, False, False]
    verdict = found.failure(int(positions[2]))
    assert isinstance(verdict, errors.ImageDecodeError)
    assert str(verdict) == "bad in 1"
    assert found.failure(int(positions[0])) is None
    assert found.shard(int(positions[1])).name == "2"


def test_of_equal_images_the_smallest_name_wins_and_a_row_goes_before_a_verdict() -> None:
    found = ShardIndex([facts("3", "a", [ROW]), facts("1", "a", [BAD]), facts("2", "a", [ROW])])
    assert found.shard(int(find(found, digests("a"))[0])).name == "2"


def test_another_pillows_verdict_is_not_asked_and_its_rows_are() -> None:
    found = ShardIndex([facts("1", "ab", [BAD, ROW], pillow="1.0")])
    assert (find(found, digests("a", "b")) >= 0).tolist() == [False, True]
    both = ShardIndex([facts("1", "a", [BAD], pillow="1.0"), facts("2", "a", [BAD], pillow=PILLOW)])
    assert both.shard(int(find(both, digests("a"))[0])).name == "2"


def test_digests_that_begin_alike_are_told_apart() -> None:
    same = np.zeros((40, 32), np.uint8)
    same[:, 31] = np.arange(40)
    layout, status = Layout(40, 1, 0, 0), np.zeros(40, np.uint8)
    shard = ShardFacts("1", (0, 0, 0, 0), layout, same, status, [], {}, bytes(16))
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(find(ShardIndex([shard]), same[order]), order)
    assert find(ShardIndex([shard]), np.full((1, 32), 7, np.uint8)).tolist() == [-1]


def test_groups_by_shard_cover_every_position_once() -> None:
    found = ShardIndex([facts("1", "abc", [ROW] * 3), facts("2", "de", [ROW] * 2)])
    positions = find(found, digests(*"daebc"))
    seen = {}
    for shard, at, slots in found.by_shard(positions):
        seen |= {"daebc"[i]: (shard.name, int(slot)) for i, slot in zip(at, slots, strict=True)}
    assert seen == {"a": ("1", 0), "b": ("1", 1), "c": ("1", 2), "d": ("2", 0), "e": ("2", 1)}
    assert found.by_shard(positions[:0]) == []


def test_packed_and_unpacked_it_is_the_same() -> None:
    named = ShardIndex([facts("1", "abc", [ROW, BAD, HOLE]), facts("2", "de", [ROW, ROW])])
    again = ShardIndex.unpack(named.pack())
    assert [shard.name for shard in again.shards] == [shard.name for shard in named.shards]
    np.testing.assert_array_equal(again.find(digests(*"abc")), named.find(digests(*"abc")))
    assert again.shards[0].failures == named.shards[0].failures
    with pytest.raises(errors.CacheCorruptError):
        ShardIndex.unpack(b"garbage")


def test_an_empty_index_finds_nothing() -> None:
    assert ShardIndex().find(digests("a")).tolist() == [-1]
    assert ShardIndex().find(digests()).tolist() == []
    assert ShardIndex.unpack(ShardIndex().pack()).shards == []


def test_files_of_a_far_year_are_read_and_kept(tmp_path: Path) -> None:
    stub.draw(tmp_path / "p", 4, seed=1)
    stub.extract(tmp_path / "p", tmp_path / "c")
    (shard,) = (tmp_path / "c").glob("k-*/shards/*.h5")
    image = next((tmp_path / "p").rglob("*.bmp"))
    far = 10_413_792_000  # 2300-01-01
    for path in (shard, image):
        os.utime(path, (far, far))
    if shard.stat().st_mtime < far:
        pytest.skip("this file system has no such year")
    again = stub.Thumbnail()
    stub.extract(tmp_path / "p", tmp_path / "c", again)
    assert again.seen == 0
    assert KnownFiles(tmp_path / "c", tmp_path / "p").find(image) is None  # never safe
    (folder,) = (tmp_path / "c").glob("k-*")
    assert len(ShardIndex.unpack((folder / "index").read_bytes()).shards) == 1
