"""Content digests, and files that are believed unchanged only when that is sure."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import featx
from featx.cache import stat_index
from featx.cache.stat_index import KnownFiles, known_sources, now_ns
from featx.images import decoding
from featx.images.content_hash import of_content
from featx.images.elsewhere import RACY_NS
from tests.conftest import draw_folder
from tests.fakes import TINY, CountingRuntime


def test_bytes_and_pixels() -> None:
    assert of_content(b"x") == hashlib.sha256(b"x").digest()
    pixels = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    assert of_content(pixels) == of_content(pixels.copy(order="F"))
    assert of_content(pixels) != of_content(pixels.reshape(8, 4, 3))
    assert of_content(pixels) != of_content(pixels.tobytes())
    assert of_content(pixels[:, ::2]) == of_content(np.ascontiguousarray(pixels[:, ::2]))


def known(tmp_path: Path, read_at: int, location: Path | None = None) -> KnownFiles:
    path = tmp_path / "image"
    path.write_bytes(b"content")
    (tmp_path / "cache").mkdir(exist_ok=True)
    first = KnownFiles(tmp_path / "cache", location or tmp_path)
    first.remember(path, os.stat(path), read_at, b"d" * 32)
    first.save()
    return KnownFiles(tmp_path / "cache", location or tmp_path)


def test_a_file_is_known_only_when_it_was_read_well_after_its_change(tmp_path: Path) -> None:
    path = tmp_path / "image"
    assert known(tmp_path, now_ns() + 2 * RACY_NS).find(path) == b"d" * 32
    assert known(tmp_path, now_ns() + RACY_NS // 2).find(path) is None
    assert known(tmp_path, now_ns() - 10**15).find(path) is None  # a clock that was set back


def test_any_change_of_the_file_makes_it_unknown(tmp_path: Path) -> None:
    path = tmp_path / "image"
    files = known(tmp_path, now_ns() + 2 * RACY_NS)
    about = os.stat(path)
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert files.find(path) is None
    path.unlink()
    assert files.find(path) is None
    assert files.find(tmp_path / "other") is None


def test_another_dataset_knows_nothing_and_none_is_remembered_without_a_folder(
    tmp_path: Path,
) -> None:
    known(tmp_path, now_ns() + 2 * RACY_NS)
    other = KnownFiles(tmp_path / "cache", tmp_path / "elsewhere")
    assert other.find(tmp_path / "image") is None
    nowhere = KnownFiles(tmp_path / "cache2", None)
    nowhere.remember(tmp_path / "image", os.stat(tmp_path), 0, b"")
    nowhere.save()
    assert not (tmp_path / "cache2").exists()


def test_garbage_is_as_good_as_nothing(tmp_path: Path) -> None:
    known(tmp_path, now_ns() + 2 * RACY_NS)
    for path in (tmp_path / "cache" / "statindex").iterdir():
        path.write_bytes(b"garbage")
    assert KnownFiles(tmp_path / "cache", tmp_path).find(tmp_path / "image") is None


def test_what_was_read_by_a_relative_path_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known(Path(), now_ns() + 2 * RACY_NS)
    assert KnownFiles(tmp_path / "cache", Path()).find(Path("image")) == b"d" * 32
    monkeypatch.chdir("/")
    assert known_sources(tmp_path / "cache") == {b"d" * 32: tmp_path / "image"}


@pytest.mark.parametrize(
    ("changed_ns", "trusted"),
    [(1_700_000_000_123_456_789, True), (1_700_000_000_000_000_000, False), (10**15, False)],
)
def test_coarse_change_times_are_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed_ns: int, trusted: bool
) -> None:
    real = stat_index._stat
    monkeypatch.setattr(
        stat_index, "_stat", lambda status: (*real(status)[:2], changed_ns, *real(status)[3:])
    )
    found = known(tmp_path, now_ns() + 2 * RACY_NS).find(tmp_path / "image")
    assert (found is not None) == trusted


def test_versions_of_a_read_only_image_mounted_at_one_place(tmp_path: Path) -> None:
    """squashfs with clamped times: size, both times and inode are the same, the content is not."""
    if os.getuid() != 0 or shutil.which("mksquashfs") is None:
        pytest.skip("needs root and mksquashfs")
    (tmp_path / "mounted").mkdir()
    (tmp_path / "cache").mkdir()
    stats = []
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "image").write_text(version)
        image = tmp_path / f"{version}.sq"
        make = [
            "mksquashfs",
            str(tmp_path / version),
            str(image),
            "-all-time",
            "1700000000",
            "-quiet",
        ]
        subprocess.run([*make, "-mkfs-time", "1700000000"], check=True, capture_output=True)
        mount = ["mount", "-o", "loop,ro", str(image), str(tmp_path / "mounted")]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("this machine mounts no squashfs")
        try:
            path = tmp_path / "mounted" / "image"
            files = KnownFiles(tmp_path / "cache", tmp_path / "mounted")
            assert files.find(path) is None
            files.remember(path, os.stat(path), now_ns(), of_content(path.read_bytes()))
            files.save()
            stats.append(stat_index._stat(os.stat(path)))
        finally:
            subprocess.run(["umount", tmp_path / "mounted"], check=True)
    assert stats[0] == stats[1]


def test_nothing_is_known_where_it_is_not_wanted(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", 2)
    runtime = CountingRuntime()
    reads: list[Path] = []
    read = decoding.read_with_stat
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "read_with_stat", lambda path: reads.append(path) or read(path))
        for path in folder.rglob("*.png"):
            os.utime(path, (10**9, 10**9))
        time.sleep(RACY_NS / 1e9 + 0.1)
        for stat_cache, expected in ((True, 6), (True, 0), (False, 6)):
            reads.clear()
            featx.extract(
                folder, TINY, cache=tmp_path / "cache", runtime=runtime, stat_cache=stat_cache
            )
            assert len(reads) == expected
