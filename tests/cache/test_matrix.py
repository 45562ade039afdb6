"""A matrix that stays in the cache: its rows are those of the array, and damage is never served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featx
from featx import heads
from featx.errors import CacheCorruptError, CacheCorruptWarning, OptionError
from featx.extraction.api import extract_with
from featx.extraction.settings import Settings
from tests.promises import stub


def extract(images: Any, cache: Path, gather: bool = False) -> featx.Features:
    return extract_with(
        Settings(block=16, ahead=8), images, stub.BACKBONE, cache=cache,
        runtime=stub.Thumbnail(8), progress=False, gather=gather,
    )  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[featx.Features, featx.Features]:
    """Return features that were not gathered, and those that were."""
    folder = tmp_path_factory.mktemp("matrix")
    stub.draw(folder / "images", 50, seed=3)
    lazy = extract(folder / "images", folder / "cache")
    return lazy, extract(folder / "images", folder / "cache", gather=True)


@pytest.mark.parametrize(
    "rows",
    [
        3, -1, slice(5, 40, 3), slice(None, None, -1), [7, 7, 2], np.arange(50) % 2 == 0,
        slice(0, 0), (slice(2, 9), 5), (4, slice(0, 3)), (slice(2, 9), slice(1, 3)),
    ],
)  # fmt: skip
def test_rows_are_those_of_the_array(
    both: tuple[featx.Features, featx.Features], rows: Any
) -> None:
    lazy, whole = both
    np.testing.assert_array_equal(lazy.X[rows], whole.X[rows])


def test_it_is_described_as_the_array_is(both: tuple[featx.Features, featx.Features]) -> None:
    lazy, whole = both
    for name in ("shape", "ndim", "size", "nbytes", "dtype"):
        assert getattr(lazy.X, name) == getattr(whole.X, name)
    assert "50 x 192 float32 in " in repr(lazy.X)
    assert repr(lazy) == repr(whole)
    np.testing.assert_array_equal(np.asarray(lazy), whole.X)
    np.testing.assert_array_equal(np.array([*lazy.X]), whole.X)
    assert np.asarray(lazy.X, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="is a copy"):
        np.array(lazy.X, copy=False)
    assert lazy.report is not None
    assert lazy.report.computed == 50


def test_blocks_have_labels_and_ids(both: tuple[featx.Features, featx.Features]) -> None:
    lazy, whole = both
    blocks = list(lazy.blocks(16))
    assert [len(block) for block in blocks] == [16, 16, 16, 2]
    np.testing.assert_array_equal(np.concatenate([block.X for block in blocks]), whole.X)
    assert [name for block in blocks for name in block.ids] == whole.ids
    assert blocks[1].y.tolist() == whole.y[16:32].tolist()
    with pytest.raises(OptionError, match="1 or more"):
        next(lazy.blocks(0))


def test_heads_train_on_a_file_of_them(
    both: tuple[featx.Features, featx.Features], tmp_path: Path
) -> None:
    lazy, whole = both
    kept = lazy.memmap(tmp_path / "X.npy")
    assert isinstance(kept.X, np.memmap)
    np.testing.assert_array_equal(kept.X, whole.X)
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), whole.X)
    assert (kept.ids, kept.y.tolist()) == (whole.ids, whole.y.tolist())
    one, other = (heads.ridge().fit(each.X, each.y) for each in (kept, whole))
    np.testing.assert_array_equal(one.predict_proba(whole.X), other.predict_proba(whole.X))


def test_a_file_and_a_table_hold_what_the_array_would_give(
    both: tuple[featx.Features, featx.Features], tmp_path: Path
) -> None:
    lazy, whole = both
    lazy.save(tmp_path / "features.h5")
    np.testing.assert_array_equal(featx.Features.load(tmp_path / "features.h5").X, whole.X)
    assert lazy.to_frame().equals(whole.to_frame())


def test_damage_is_an_error_when_it_is_read_and_computed_by_the_next_call(tmp_path: Path) -> None:
    drawn = stub.pixels(50, seed=4)
    lazy = extract(drawn, tmp_path / "c")
    shard = max((tmp_path / "c").rglob("*.h5"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.unlink()
    shard.write_bytes(content)
    with (
        pytest.warns(CacheCorruptWarning),
        pytest.raises(CacheCorruptError, match="call extract again"),
    ):
        np.asarray(lazy.X)
    np.testing.assert_array_equal(extract(drawn, tmp_path / "c").X[:], stub.rows(drawn))
