"""Cases 86-106: a cache that someone else wrote is refused file by file, and nothing is followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from featx import shards
from featx.errors import CacheCorruptError
from tests.promises import hostile

KEY = "k" * 64


@pytest.mark.parametrize("what", hostile.SHARDS)
def test_shard_is_refused(what: str, tmp_path: Path) -> None:
    make, error = hostile.SHARDS[what]
    content = make(KEY, tmp_path / "secret.h5")
    with pytest.raises(CacheCorruptError) as caught:
        shards.decode(content, KEY, hostile.name_of(KEY))
    assert type(caught.value).__name__ == error, caught.value
    assert hostile.name_of(KEY) in str(caught.value)
