"""Windows by its seam: without fcntl, descriptors of folders, links, owners and statvfs.

No Windows is needed: in a process of its own, featx's modules see an `os` that lacks what Windows's
lacks, and cannot import what it has not. Libraries see the real ones. macOS differs from Linux in
less (no limit on a process's memory), and the matrix of .github/workflows runs both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import draw_folder

ROOT = Path(__file__).resolve().parent.parent

SEAM = """
import builtins, errno, os, types

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty"}
NAMES = {
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "fchmod", "fchown", "fork", "getegid",
    "geteuid", "getgid", "getuid", "posix_fadvise", "posix_fallocate", "register_at_fork",
    "sched_getaffinity", "sched_setaffinity", "statvfs",
}


def no_links(*names, **options):
    raise OSError(errno.EPERM, "this file system has no hard links")


class Windows(types.ModuleType):
    supports_dir_fd = frozenset()
    supports_fd = frozenset()
    supports_follow_symlinks = frozenset()
    asked = set()

    def __getattr__(self, name):
        if name == "link":  # as on FAT and some shares
            return no_links
        if name in NAMES:
            self.asked.add(name)
            raise AttributeError(f"module 'os' has no attribute {name!r}")
        found = getattr(os, name)
        if not callable(found) or name in ("PathLike", "fspath"):
            return found

        def call(*args, **options):
            for option in ("dir_fd", "src_dir_fd", "dst_dir_fd"):
                assert options.pop(option, None) is None, f"os.{name}({option}=) is not on Windows"
            return found(*args, **options)

        return call if not isinstance(found, type) else found


windows, real = Windows("os"), builtins.__import__


def importing(name, globals=None, locals=None, fromlist=(), level=0):
    if globals and str(globals.get("__name__", "")).startswith("featx"):
        if name in MODULES:
            windows.asked.add(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name == "os" and not fromlist:
            return windows
    return real(name, globals, locals, fromlist, level)


builtins.__import__ = importing
"""

WORK = (
    SEAM
    + """
import numpy as np
import featx

tiny = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
first = featx.extract("images", tiny, cache="cache", progress=False)
again = featx.extract("images", tiny, cache="cache", progress=False)
assert (first.report.computed, again.report.computed) == (24, 0), again.report
np.testing.assert_array_equal(first.X, again.X)
assert all("\\\\\\\\" not in name for name in again.ids)
again.save("features.h5")
assert len(featx.Features.load("features.h5")) == 24
model = featx.ImageClassifier(tiny, "ridge", cache="cache").fit("images")
model.save("model.featx")
assert featx.load("model.featx", cache="cache").predict("images").tolist() == list(first.y)
from featx.cache.location import existing_root
from featx.maintenance import compaction, gc, inventory

(entry,) = inventory.list_keys(existing_root("cache"))
entry.store.verify()
compaction.compact(entry.store, grace=0)
gc.find(existing_root("cache"))
print(sorted(windows.asked))
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="there the whole suite does")
def test_an_extraction_and_a_model_without_what_windows_lacks(tmp_path: Path) -> None:
    draw_folder(tmp_path / "images")
    answer = subprocess.run(
        [sys.executable, "-c", WORK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "fcntl" in answer.stdout, "the seam was not used"
