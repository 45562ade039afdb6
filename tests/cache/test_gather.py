"""Room for rows: in memory while they fit, in a nameless file otherwise."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

import featx
from featx.cache import gather


def test_rows_that_fit_are_in_memory(tmp_path: Path) -> None:
    rows = gather.empty(3, 5, tmp_path)
    assert type(rows) is np.ndarray
    assert (rows.shape, rows.dtype) == ((3, 5), np.float32)


def test_rows_that_do_not_fit_are_in_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "free_memory", lambda: 4 * 3 * 5 * 2 - 1)
    rows = gather.empty(3, 5, tmp_path)
    assert isinstance(rows, np.memmap)
    rows[:] = np.arange(15).reshape(3, 5)
    assert rows.sum() == 105
    assert list(tmp_path.iterdir()) == []


def test_half_of_the_free_memory_is_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "free_memory", lambda: 4 * 3 * 5 * 2)
    assert not isinstance(gather.empty(3, 5, tmp_path), np.memmap)


def test_a_read_only_folder_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "free_memory", lambda: 0)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert isinstance(gather.empty(3, 5, tmp_path), np.memmap)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
def test_a_full_disk_is_told_before_a_row_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gather, "free_memory", lambda: 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        gather.empty(3, 5, tmp_path)


def test_free_memory_is_below_all_memory() -> None:
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < gather.free_memory() <= everything


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("1000\n")
    used.write_text("300\n")
    monkeypatch.setattr(gather, "_LIMITS", ((str(limit), str(used)),))
    assert gather.free_memory() == 700
    limit.write_text("max\n")
    assert gather.free_memory() > 1000


def test_extraction_maps_what_does_not_fit(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
    here = featx.extract(image_folder, tiny, progress=False)
    monkeypatch.setattr(gather, "free_memory", lambda: 0)
    mapped = featx.extract(image_folder, tiny, progress=False)
    assert isinstance(mapped.X, np.memmap)
    assert np.array_equal(mapped.X, here.X)
    assert featx.heads.nearest(1).fit(mapped.X, mapped.y).score(mapped.X, mapped.y) == 1
