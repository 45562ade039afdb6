"""One shard: what goes in comes out, the same block gives the same bytes, and names prove it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx import errors
from featx.cache import shards
from featx.cache.shards import BAD, EMBEDDING, MISSING, Block

KEY = "k" * 64


def draw(n: int = 10, dim: int = 6) -> Block:
    sha256 = np.frombuffer(
        b"".join(hashlib.sha256(bytes([i])).digest() for i in range(n)), np.uint8
    ).reshape(-1, 32)
    status = np.full(n, EMBEDDING, np.uint8)
    rows = np.random.default_rng(0).standard_normal((n, dim), dtype=np.float32)
    status[3], status[5] = BAD, MISSING
    rows[[3, 5]] = np.nan
    return Block(rows, sha256, status, [(3, 4, "damaged: ü")], 4, {"runtime": "none"})


def name_of(block: Block) -> str:
    return shards.block_id(KEY, block.batch_size, block.sha256)


def test_round_trip() -> None:
    block = draw()
    content, (read, found) = shards.encode(block, KEY)
    again, layout = shards.decode(content, KEY, name_of(block))
    assert found == layout
    assert (read.failures, read.environment) == (again.failures, again.environment)
    np.testing.assert_array_equal(read.features, again.features)
    np.testing.assert_array_equal(again.features, block.features)
    np.testing.assert_array_equal(again.sha256, block.sha256)
    np.testing.assert_array_equal(again.status, block.status)
    assert again.failures == block.failures
    assert (again.batch_size, again.environment) == (4, {"runtime": "none"})
    np.testing.assert_array_equal(layout.embeddings(content), block.features)
    np.testing.assert_array_equal(layout.digests(content), block.sha256)


def test_any_hdf5_reader_can_open_it(tmp_path: Path) -> None:
    block = draw()
    (tmp_path / "x.h5").write_bytes(shards.encode(block, KEY)[0])
    with h5py.File(tmp_path / "x.h5", "r") as file:
        np.testing.assert_array_equal(file["features"][:], block.features)


def test_the_same_block_gives_the_same_bytes_at_any_time() -> None:
    first = shards.encode(draw(), KEY)[0]
    time.sleep(1.1)  # HDF5 keeps times in whole seconds
    assert shards.encode(draw(), KEY)[0] == first


@pytest.mark.parametrize("locking", ["TRUE", "FALSE", "BEST_EFFORT", "nonsense"])
def test_hdf5s_own_locking_has_no_effect(locking: str) -> None:
    script = (
        "from tests.cache.test_shards import *; block = draw(); import hashlib\n"
        "content = shards.encode(block, KEY)[0]; shards.decode(content, KEY, name_of(block))\n"
        "print(hashlib.sha256(content).hexdigest())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "HDF5_USE_FILE_LOCKING": locking},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == hashlib.sha256(shards.encode(draw(), KEY)[0]).hexdigest()


def test_a_name_is_key_batch_size_and_images_in_order() -> None:
    block = draw()
    names = {
        shards.block_id(KEY, 4, block.sha256),
        shards.block_id(KEY, 8, block.sha256),
        shards.block_id("other", 4, block.sha256),
        shards.block_id(KEY, 4, block.sha256[::-1]),
        shards.block_id(KEY, 4, block.sha256[:-1]),
    }
    assert len(names) == 5


def test_another_key_or_name_is_refused() -> None:
    block = draw()
    content = shards.encode(block, KEY)[0]
    with pytest.raises(errors.CacheKeyMismatchError):
        shards.decode(content, "other", name_of(block))
    with pytest.raises(errors.CacheKeyMismatchError):
        shards.decode(content, KEY, "0" * 32)


def test_an_embedding_that_is_not_finite_is_refused() -> None:
    block = draw()
    block.features[0, 0] = np.inf
    with pytest.raises(errors.CacheCorruptError, match="not finite"):
        shards.encode(block, KEY)
