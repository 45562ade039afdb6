"""A cache that lies in the working folder is used only if it is the user's own."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from featx.cache import location, ownership
from featx.errors import CacheOwnershipError

STRANGER = 65_534
needs_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files to other users"
)


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache in the working folder, which nothing names."""
    monkeypatch.delenv("FEATX_CACHE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ownership, "_noted", set())
    root = location.find_root(tmp_path / "cache")
    (root / "k-0" / "shards").mkdir(parents=True)
    os.chmod(root / "k-0", 0o700)
    os.chmod(root / "k-0" / "shards", 0o700)
    return root


PARTS = ("", location.MARKER, "k-0", "k-0/shards")


def refused(root: Path) -> str:
    with pytest.raises(CacheOwnershipError, match=r"--cache .*") as raised:
        location.find_root()
    with pytest.raises(CacheOwnershipError):
        location.existing_root()
    return str(raised.value)


@pytest.mark.parametrize("part", PARTS)
def test_one_that_everybody_may_write_to(found: Path, part: str) -> None:
    assert location.find_root() == found
    os.chmod(found / part, 0o777)
    assert f"{found / part} is writable for everybody" in refused(found)
    assert location.find_root(found) == found  # it was named


@needs_root
@pytest.mark.parametrize("part", PARTS)
def test_one_of_another_user(
    found: Path, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    os.chown(found / part, STRANGER, -1)
    assert "belongs to another user (uid 65534)" in refused(found)
    monkeypatch.setenv("FEATX_CACHE", str(found))
    with caplog.at_level(logging.WARNING):
        assert location.find_root() == location.find_root(found) == found
    assert [record.message for record in caplog.records] == [
        f"the cache {found} was named, and is used: {found / part} belongs to another user "
        "(uid 65534)."
    ]


@needs_root
def test_root_in_a_checkout_of_somebody_else(found: Path) -> None:
    """As in a container into which a user's checkout is mounted."""
    for path in (found.parent, found, found / location.MARKER):
        os.chown(path, STRANGER, -1)
    assert location.find_root() == found


def test_a_checkout_of_a_group(found: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (found, found / "k-0"):
        os.chmod(path, 0o775)
    with caplog.at_level(logging.WARNING):
        assert location.find_root() == location.find_root() == found
    assert [record.message for record in caplog.records] == [
        f"the cache {found} is writable for its group, which can change what it holds."
    ]
