"""The index finds the shard and entry of an image, and prefers an embedding to an error."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from featx import errors
from featx.cache.index import ShardIndex
from featx.cache.shards import BAD, EMBEDDING, MISSING, PILLOW, Layout, ShardMetadata
from featx.cache.stat_index import KnownFiles
from featx.storage.interface import Stat
from tests.promises import stub


def digests(*names: str) -> np.ndarray:
    return np.frombuffer(
        b"".join(hashlib.sha256(name.encode()).digest() for name in names), np.uint8
    ).reshape(-1, 32)


def metadata(name: str, images: str, status: list[int], pillow: str | None = None) -> ShardMetadata:
    n = len(status)
    bad = [(i, 4, f"bad in {name}") for i, kind in enumerate(status) if kind == BAD]
    environment = {} if pillow is None else {"pillow": pillow}
    return ShardMetadata(
        name, Stat(4000, 2, 3, 4), Layout(n, 8, 100, 200), digests(*images),
        np.array(status, np.uint8), bad, environment, bytes(16),
    )  # fmt: skip


def find(found: ShardIndex, sha256: np.ndarray) -> np.ndarray:
    """Return where the images are; asked together and one by one, the answer is the same."""
    positions = found.find(sha256)
    assert [found.find_one(bytes(digest)) for digest in sha256] == positions.tolist()
    return positions


def test_embeddings_refusals_and_missing_images() -> None:
    found = ShardIndex(
        [
            metadata("1", "abc", [EMBEDDING, BAD, MISSING]),
            metadata("2", "de", [EMBEDDING, EMBEDDING]),
        ]
    )
    positions = find(found, digests(*"aebcx"))
    assert (positions >= 0).tolist() == [True, True, True, False, False]
    assert found.is_embedding(positions).tolist() == [True, True, False, False, False]
    verdict = found.failure(int(positions[2]))
    assert isinstance(verdict, errors.ImageDecodeError)
    assert str(verdict) == "bad in 1"
    assert found.failure(int(positions[0])) is None
    assert found.shard(int(positions[1])).name == "2"


def test_of_equal_images_the_smallest_name_wins_and_an_embedding_goes_before_a_refusal() -> None:
    found = ShardIndex(
        [
            metadata("3", "a", [EMBEDDING]),
            metadata("1", "a", [BAD]),
            metadata("2", "a", [EMBEDDING]),
        ]
    )
    assert found.shard(int(find(found, digests("a"))[0])).name == "2"


def test_what_another_pillow_refused_is_not_served_and_its_embeddings_are() -> None:
    found = ShardIndex([metadata("1", "ab", [BAD, EMBEDDING], pillow="1.0")])
    assert (find(found, digests("a", "b")) >= 0).tolist() == [False, True]
    both = ShardIndex(
        [metadata("1", "a", [BAD], pillow="1.0"), metadata("2", "a", [BAD], pillow=PILLOW)]
    )
    assert both.shard(int(find(both, digests("a"))[0])).name == "2"


def test_digests_with_one_prefix_are_distinguished() -> None:
    same = np.zeros((40, 32), np.uint8)
    same[:, 31] = np.arange(40)
    layout, status = Layout(40, 1, 0, 0), np.zeros(40, np.uint8)
    shard = ShardMetadata("1", Stat(0, 0, 0, 0), layout, same, status, [], {}, bytes(16))
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(find(ShardIndex([shard]), same[order]), order)
    assert find(ShardIndex([shard]), np.full((1, 32), 7, np.uint8)).tolist() == [-1]


def test_groups_by_shard_cover_every_position_once() -> None:
    found = ShardIndex(
        [metadata("1", "abc", [EMBEDDING] * 3), metadata("2", "de", [EMBEDDING] * 2)]
    )
    positions = find(found, digests(*"daebc"))
    seen: dict[str, tuple[str, int]] = {}
    for shard, at, entries in found.by_shard(positions):
        seen |= {"daebc"[i]: (shard.name, int(entry)) for i, entry in zip(at, entries, strict=True)}
    assert seen == {"a": ("1", 0), "b": ("1", 1), "c": ("1", 2), "d": ("2", 0), "e": ("2", 1)}
    assert found.by_shard(positions[:0]) == []


def test_packed_and_unpacked_it_is_the_same() -> None:
    named = ShardIndex(
        [
            metadata("1", "abc", [EMBEDDING, BAD, MISSING]),
            metadata("2", "de", [EMBEDDING, EMBEDDING]),
        ]
    )
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


def test_files_of_a_far_year_are_read_and_cached(tmp_path: Path) -> None:
    stub.draw(tmp_path / "p", 4, seed=1)
    stub.extract(tmp_path / "p", tmp_path / "c")
    shards = [*(tmp_path / "c").glob("k-*/shards/*.h5")]
    image = next((tmp_path / "p").rglob("*.bmp"))
    far = 10_413_792_000  # 2300-01-01
    for path in (*shards, image):
        os.utime(path, (far, far))
    if image.stat().st_mtime < far:
        pytest.skip("this file system has no such year")
    again = stub.Thumbnail()
    stub.extract(tmp_path / "p", tmp_path / "c", again)
    assert again.seen == 0
    assert KnownFiles(tmp_path / "c", tmp_path / "p").find(image) is None  # never safe
    (folder,) = (tmp_path / "c").glob("k-*")
    assert len(ShardIndex.unpack((folder / "index").read_bytes()).shards) == len(shards)
