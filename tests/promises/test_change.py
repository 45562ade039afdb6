"""Files that change: a row of other pixels is never served, whatever the file's times say."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx.cache import stat_index
from featx.images import elsewhere

from . import stub


class Gallery:
    """Image files whose rows are known, and what the cache says of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "images"
        self.cache = folder / "cache"
        self.drawn = stub.pixels(40, seed=16)
        self.folder.mkdir()
        for i in range(20):
            self.write(i, i)

    def path(self, i: int) -> Path:
        return self.folder / f"{i:02d}.bmp"

    def write(self, i: int, image: int) -> None:
        """Write an image into file i; all images have the same size in bytes."""
        Image.fromarray(self.drawn[image]).save(self.path(i))

    def age(self) -> None:
        """Wait until the files are old enough to be believed unchanged."""
        time.sleep(elsewhere.RACY_NS / 1e9 + 0.1)

    def serves(self, images: list[int]) -> bool:
        """Return whether the rows are those of these images."""
        features = stub.extract(self.folder, self.cache)
        return np.array_equal(features.X, stub.rows(self.drawn[images]))

    def check(self, images: list[int]) -> int:
        """Assert that the rows are those of these images; return how many were computed."""
        runtime = stub.Thumbnail()
        features = stub.extract(self.folder, self.cache, runtime)
        np.testing.assert_array_equal(features.X, stub.rows(self.drawn[images]))
        return runtime.seen


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path)


ALL = list(range(20))


def test_t16_same_size_rewrite_in_one_tick(
    gallery: Gallery, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    times = scale(20, 200)
    found = 0
    for i in range(times):
        other = 20 + i % 20
        gallery.write(0, 0)
        gallery.check([0, *ALL[1:]])
        before = gallery.path(0).stat()
        gallery.write(0, other)
        # The same tick of the clock: the file system itself could not tell.
        os.utime(gallery.path(0), ns=(before.st_atime_ns, before.st_mtime_ns))
        found += gallery.serves([other, *ALL[1:]])
    note("T16 (same size, same tick)", changes=times, found=found)
    assert found == times


def test_t16_times_that_were_restored_rename_and_swap(
    gallery: Gallery, note: Callable[..., None]
) -> None:
    assert gallery.check(ALL) == 20 + 2  # the probe images
    gallery.age()
    assert gallery.check(ALL) == 0
    reads: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        from featx.images import decoding

        read = decoding.read_with_stat
        patch.setattr(decoding, "read_with_stat", lambda path: reads.append(path) or read(path))
        assert gallery.check(ALL) == 0
        assert not reads  # the stat shortcut
        before = gallery.path(3).stat()
        gallery.write(3, 23)
        os.utime(gallery.path(3), ns=(before.st_atime_ns, before.st_mtime_ns))
        found = {"times restored": gallery.serves([*ALL[:3], 23, *ALL[4:]])}
        assert reads == [gallery.path(3)]
    gallery.age()
    os.replace(gallery.path(5), gallery.folder / "zz.bmp")  # a renamed file is a hit
    kept = [*ALL[:3], 23, *ALL[4:5], *ALL[6:], 5]
    found["renamed"] = gallery.serves(kept)
    gallery.age()
    a, b, aside = gallery.path(7), gallery.path(8), gallery.folder.parent / "aside"
    os.rename(a, aside)
    os.rename(b, a)
    os.rename(aside, b)  # swapped, every time of theirs as it was
    kept[6], kept[7] = kept[7], kept[6]
    found["swapped"] = gallery.serves(kept)
    assert gallery.check(kept) == 0  # and none of these cost more than reading
    note("T16 (times restored, rename, swap)", tried=len(found), found=sum(found.values()))
    assert all(found.values()), found


def test_a_clock_set_back_makes_files_read_again(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat_index, "now_ns", lambda: time.time_ns() - 365 * 86400 * 10**9)
    from featx.extraction import scan

    monkeypatch.setattr(scan, "now_ns", stat_index.now_ns)
    gallery.check(ALL)
    gallery.write(0, 30)
    assert gallery.check([30, *ALL[1:]]) == 1
