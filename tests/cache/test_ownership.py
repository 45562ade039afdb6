"""A cache that lies in the working folder is used only if it is the user's own."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from featx.cache import location, ownership
from featx.errors import CacheOwnershipError
from featx.storage import atomic, folders

STRANGER = 65_534
needs_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files to other users"
)


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache in the working folder, which nothing names."""
    monkeypatch.delenv("FEATX_CACHE")
    monkeypatch.chdir(tmp_path)
    root = location.find_root(tmp_path / "cache")
    for name in PARTS[2:]:
        path = root / name
        folders.make(path.parent if "." in path.name else path)
        if "." in path.name:
            atomic.publish(path, b"")
    atomic.publish(root / "README.md", b"")
    os.chmod(root / "README.md", 0o666)  # which featx does not read
    for name in ("_noted", "_looked_at"):
        monkeypatch.setattr(ownership, name, set())
    return root


# Every file of a cache: those without a suffix have one here.
PARTS = (
    "", location.MARKER, "k-0", "k-0/shards", "k-0/shards/0.h5", "k-0/key.json", "k-0/index.x",
    "k-0/openvino.x", "k-0/claims", "statindex", "statindex/0.x",
)  # fmt: skip


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
