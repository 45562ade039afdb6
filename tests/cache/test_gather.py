"""Room for a matrix: in memory while it fits, in a nameless file otherwise."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

import featx
from featx import machine
from featx.cache import gather
from tests.promises import stub


def test_a_matrix_that_fits_is_in_memory(tmp_path: Path) -> None:
    X = gather.empty_matrix(3, 5, tmp_path)
    assert type(X) is np.ndarray
    assert (X.shape, X.dtype) == ((3, 5), np.float32)


def test_a_matrix_that_does_not_fit_is_in_a_file_without_a_name(tmp_path: Path) -> None:
    X = gather.empty_matrix(3, 5, tmp_path, free=4 * 3 * 5 * 2 - 1)
    assert isinstance(X, np.memmap)
    X[:] = np.arange(15).reshape(3, 5)
    assert X.sum() == 105
    assert list(tmp_path.iterdir()) == []


def test_half_of_the_free_memory_is_the_limit(tmp_path: Path) -> None:
    X = gather.empty_matrix(3, 5, tmp_path, free=4 * 3 * 5 * 2)
    assert not isinstance(X, np.memmap)


def test_a_read_only_folder_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert isinstance(gather.empty_matrix(3, 5, tmp_path, free=0), np.memmap)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
def test_a_full_disk_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        gather.empty_matrix(3, 5, tmp_path, free=0)


def test_extraction_maps_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = stub.draw(tmp_path / "images", 12, seed=1)
    monkeypatch.setattr(machine, "free_memory", lambda: 0)
    mapped = stub.extract(tmp_path / "images", tmp_path / "cache")
    assert isinstance(mapped.X, np.memmap)
    np.testing.assert_array_equal(mapped.X, expected)
    assert featx.heads.nearest(1).fit(mapped.X, mapped.y).score(mapped.X, mapped.y) == 1
