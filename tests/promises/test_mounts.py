"""File systems that tell little of a file: other images at one place, coarse times, other clocks.

T33 and T34: an embedding of other pixels is never served, whatever a file's times say.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from featx.cache import stat_index
from featx.extraction import scan

from . import stub
from .test_change import ALL, Gallery

SECOND = 10**9
CLAMPED = 1_700_000_000


def can_mount(image: Path, place: Path) -> str:
    """Return why an image cannot be mounted here, or "" if it was."""
    done = subprocess.run(
        ["mount", "-o", "loop,ro", image, place], capture_output=True, text=True, check=False
    )
    return done.stderr.strip()


def squashfs(folder: Path, image: Path) -> list[str]:
    times = ["-all-time", str(CLAMPED), "-mkfs-time", str(CLAMPED)]
    return ["mksquashfs", str(folder), str(image), "-noappend", *times, "-quiet", "-no-progress"]


def ext4(folder: Path, image: Path) -> list[str]:
    return ["mke2fs", "-q", "-t", "ext4", "-d", str(folder), str(image), "4M"]


def fat(folder: Path, image: Path) -> list[str]:
    return ["sh", "-c", f"mkfs.vfat -C {image} 4096 >&2 && mcopy -s -m -i {image} {folder}/* ::"]


MAKERS = {"mksquashfs": squashfs, "mke2fs": ext4, "mcopy": fat}


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    why = can_mount(image, place)
    if why:
        pytest.skip(f"no right to mount an image here, or no such file system: {why}")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("tool", MAKERS)
def test_t33_two_read_only_images_mounted_at_one_place(
    tool: str, tmp_path: Path, note: Callable[..., None]
) -> None:
    """Versions of a data set with clamped times: same sizes, times and inodes, other pixels."""
    for name in (tool, "mkfs.vfat") if tool == "mcopy" else (tool,):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    place = tmp_path / "place"
    place.mkdir()
    # mke2fs is told its times so; mksquashfs refuses it beside its own options.
    clamped = {"SOURCE_DATE_EPOCH": str(CLAMPED)} if tool == "mke2fs" else {}
    wrong, rows = 0, {}
    for version in (1, 2):
        folder = tmp_path / f"v{version}"
        rows[version] = stub.draw(folder, 12, seed=version)
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (CLAMPED, CLAMPED))
        subprocess.run(
            MAKERS[tool](folder, tmp_path / f"{version}.img"),
            check=True,
            capture_output=True,
            env={**os.environ, **clamped},
        )
    for version in (1, 2, 1):
        with mounted(tmp_path / f"{version}.img", place):
            got = stub.extract(place, tmp_path / "cache").X
        wrong += int((got != rows[version]).any(axis=1).sum())
    note(f"T33 ({tool})", images=36, wrong=wrong)
    assert wrong == 0


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path)


@pytest.mark.parametrize("shift", [-3, 0, 3, 3600 * 24 * 365])
@pytest.mark.parametrize("granularity", [10**6, 10**7, SECOND, 2 * SECOND])
def test_t34_coarse_times_and_a_clock_that_is_elsewhere(
    granularity: int, shift: int, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change times that are modification times in whole ticks, as sshfs shows; and a reader whose
    clock is some seconds, or a year, from that of the files."""
    whole = stat_index._stat

    def coarse(status: os.stat_result) -> tuple[int, int, int, int]:
        size, modified, _, place = whole(status)
        tick = modified // granularity * granularity
        return size, tick, tick, place

    monkeypatch.setattr(stat_index, "_stat", coarse)
    for module in (stat_index, scan):
        monkeypatch.setattr(module, "now_ns", lambda: time.time_ns() + shift * SECOND)
    gallery.check(ALL)
    for i, image in ((0, 30), (1, 31)):
        before = gallery.path(i).stat()
        gallery.write(i, image)
        # The same tick, or the same time to the last digit.
        os.utime(gallery.path(i), ns=(before.st_atime_ns, before.st_mtime_ns))
    gallery.age()
    kept = [30, 31, *ALL[2:]]
    assert gallery.check(kept) == 2
    assert gallery.check(kept) == 0


@pytest.mark.parametrize("shift", [0, 3])
def test_t34_fuse_with_times_of_whole_seconds(shift: int, tmp_path: Path) -> None:
    if importlib.util.find_spec("fuse") is None:
        pytest.skip("fusepy is not installed (pip install fusepy, and libfuse 2)")
    back, place = tmp_path / "back", tmp_path / "place"
    drawn = stub.pixels(12, seed=34)
    stub.draw(back, 12, seed=34)
    place.mkdir()
    served = subprocess.Popen(
        [sys.executable, "-m", "tests.promises.coarse_fuse", back, place],
        cwd=Path(__file__).resolve().parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 20
        while not os.path.ismount(place):
            if served.poll() is not None or time.monotonic() > until:
                pytest.skip(f"no FUSE here: {served.communicate()[1].strip()[-200:]}")
            time.sleep(0.05)
        _rewrite_on(place, tmp_path / "cache", drawn, shift)
    finally:
        subprocess.run(["umount", "-l", place], capture_output=True, check=False)
        served.kill()
        served.communicate()


def _rewrite_on(place: Path, cache: Path, drawn: np.ndarray, shift: int) -> None:
    from PIL import Image

    first = sorted(place.rglob("*.bmp"))[0]
    with pytest.MonkeyPatch.context() as patch:
        for module in (stat_index, scan):
            patch.setattr(module, "now_ns", lambda: time.time_ns() + shift * SECOND)
        for image in range(1, 4):
            while time.time() % 1 > 0.1:  # so that both writes have one time
                time.sleep(0.01)
            Image.fromarray(drawn[image]).save(first)
            stub.extract(place, cache)
            Image.fromarray(drawn[image + 4]).save(first)
            time.sleep(2.5)
            got = stub.extract(place, cache).X
            np.testing.assert_array_equal(got[0], stub.rows(drawn[[image + 4]])[0])
