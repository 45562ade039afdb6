"""Cases 48-66: image files that vanish, change, block, or have names of every kind."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
import types
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featx
from featx.errors import BadImagesError, DatasetError, Failure
from featx.images import decoding
from tests.fakes import TINY, CountingRuntime
from tests.promises import images as made
from tests.promises.cases import case

READ = "ImageReadError"

GOOD = made.encoded(made.pixels(), "PNG")


def other(seed: int) -> bytes:
    return made.encoded(made.pixels(seed=seed), "PNG")


def extract(dataset: Any, **options: Any) -> featx.Features:
    return featx.extract(
        dataset, TINY, runtime=options.pop("runtime", CountingRuntime()),
        on_error=options.pop("on_error", "skip"), progress=False, **options,
    )  # fmt: skip


def only_failure(dataset: Any, id: str) -> Failure:
    """Extract twice; return the one failure, which must come again: it is not kept."""
    first = extract(dataset)
    runtime = CountingRuntime()
    again = extract(dataset, runtime=runtime)
    assert first.failures == again.failures
    assert runtime.seen == 0
    with pytest.raises(BadImagesError, match=re.escape(str(first.failures[0]))):
        extract(dataset, on_error="raise")
    (failure,) = first.failures
    assert failure.id == id
    return failure


class FaultyOs(types.SimpleNamespace):
    """The module os, but for what is replaced; put in the place of ``featx.images.decoding.os``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def refusing(number: int, suffix: str) -> FaultyOs:
    """Refuse to open files of this suffix."""

    def open_(path: Any, *rest: Any) -> int:
        if os.fspath(path).endswith(suffix):
            raise OSError(number, os.strerror(number))
        return os.open(path, *rest)

    return FaultyOs(open=open_)


@case(48, READ)
def deleted_after_listing(folder: Path) -> str:
    (folder / "a" / "gone.png").write_bytes(GOOD)
    dataset = featx.Dataset.from_folder(folder)
    (folder / "a" / "gone.png").unlink()
    failure = only_failure(dataset, "a/gone.png")
    assert "No such file" in failure.reason
    (folder / "a" / "gone.png").write_bytes(GOOD)
    assert len(extract(dataset)) == 3
    return failure.error


@case(49, "ImageChangedError")
def rewritten_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = folder / "a" / "busy.png"
    path.write_bytes(GOOD)
    stats: list[Any] = []

    def fstat(descriptor: int) -> os.stat_result:
        about = os.fstat(descriptor)
        if os.path.samestat(about, path.stat()) and not stats:
            stats.append(about)
            path.write_bytes(GOOD + b"more")
        return about

    with monkeypatch.context() as patched:
        patched.setattr(decoding, "os", FaultyOs(fstat=fstat))
        (failure,) = extract(folder).failures
    assert failure.id == "a/busy.png"
    assert "run again" in failure.reason
    assert not extract(folder).failures  # and so it is not kept
    return failure.error


@case(
    50, variants=(False, True),
    why="no verify='content': the change time cannot be set back, so restored times hide nothing",
)  # fmt: skip
def same_size_edit(folder: Path, monkeypatch: pytest.MonkeyPatch, variant: bool) -> None:
    path = folder / "a" / "edited.png"
    one, two = other(5), other(6)
    size = max(len(one), len(two))
    one, two = one.ljust(size, b"\0"), two.ljust(size, b"\0")
    path.write_bytes(one)
    before = path.stat()
    # As if long ago: otherwise the rule for fresh files alone would have it read again.
    monkeypatch.setattr("featx.extraction.scan.now_ns", lambda: time.time_ns() + 10**12)
    first = extract(folder)
    path.write_bytes(two)
    if variant:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    second = extract(folder)
    where = first.ids.index("a/edited.png")
    assert not np.array_equal(first.X[where], second.X[where])


@case(51, READ)
def permission_denied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "a" / "mine.png").write_bytes(GOOD)
    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(decoding, "os", refusing(errno.EACCES, "mine.png"))
    failure = only_failure(folder, "a/mine.png")
    assert "Permission denied" in failure.reason
    return failure.error


@case(52, READ)
def the_disk_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "a" / "bad-sector.png").write_bytes(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(decoding, "os", refusing(errno.EIO, "bad-sector.png"))
        failure = only_failure(folder, "a/bad-sector.png")
    assert not extract(folder).failures
    return failure.error


@case(53)
def a_folder_named_like_an_image(folder: Path) -> None:
    (folder / "a" / "x.jpg").mkdir()
    (folder / "c.jpg").mkdir()
    features = extract(folder)
    assert features.ids == ["a/good.png", "b/good.png"]
    assert any("c.jpg" in note for note in features.notes)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # as /dev/zero, which never ends
    except PermissionError:
        pytest.skip("only root makes devices")


@case(54, READ, variants=(os.mkfifo, _socket, _device))
def no_regular_file(folder: Path, variant: Callable[[Path], None]) -> str:
    variant(folder / "a" / "x.jpg")
    return only_failure(folder, "a/x.jpg").error


@case(55, READ)
def broken_link(folder: Path) -> str:
    (folder / "a" / "x.jpg").symlink_to(folder / "a" / "nothing.jpg")
    return only_failure(folder, "a/x.jpg").error


@case(56)
def links_in_a_circle(folder: Path) -> None:
    (folder / "a" / "up").symlink_to(folder)
    (folder / "a" / "self").symlink_to(folder / "a" / "self")
    features = extract(folder)
    assert features.ids == ["a/good.png", "b/good.png"]
    assert any("visited once" in note for note in features.notes)


@case(57)
def a_link_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.png").write_bytes(GOOD)
    (folder / "a" / "out").symlink_to(tmp_path / "outside")
    features = extract(folder)
    assert len(features) == 2
    assert any("follow_links=True" in note for note in features.notes)
    followed = extract(featx.Dataset.from_folder(folder, follow_links=True))
    assert "a/out/x.png" in followed.ids


@case(58)
def a_hard_link_is_computed_once(folder: Path) -> None:
    os.link(folder / "a" / "good.png", folder / "a" / "same.png")
    features = extract(folder)
    assert features.report is not None
    assert (len(features), features.report.computed) == (3, 2)
    np.testing.assert_array_equal(features.X[0], features.X[1])


@case(59)
def the_same_image_in_two_classes(folder: Path) -> None:
    (folder / "b" / "copy.png").write_bytes((folder / "a" / "good.png").read_bytes())
    for _ in range(2):  # also when nothing has to be read
        features = extract(folder)
        assert len(features) == 3
        (note,) = features.notes
        assert "a/good.png and b/copy.png" in note


@case(60)
def a_name_that_is_no_utf8(folder: Path, tmp_path: Path) -> None:
    name = os.fsencode(folder / "a") + b"/\xff\xfe.png"
    with open(name, "wb") as file:
        file.write(GOOD)
    features = extract(folder)
    assert os.fsencode(features.ids[1]) == b"a/\xff\xfe.png"
    features.save(tmp_path / "x.h5")
    assert featx.Features.load(tmp_path / "x.h5").ids == features.ids
    with open(name, "wb") as file:
        file.write(b"no image")
    (failure,) = extract(folder).failures
    assert os.fsencode(failure.id) == b"a/\xff\xfe.png"


@case(61)
def names_that_differ_in_their_unicode_form(folder: Path) -> None:
    for form in ("NFC", "NFD"):
        (folder / "a" / unicodedata.normalize(form, "é.png")).write_bytes(other(len(form) + 4))
    features = extract(folder)
    assert len(features) == 4
    assert any("Unicode form" in note for note in features.notes)


@case(62, variants=("a\nb.png", "a\tb.png", "a'\"b.png", "<script>.png", "=1+1.png"))
def odd_characters(folder: Path, tmp_path: Path, variant: str) -> None:
    name = variant
    (folder / "a" / name).write_bytes(GOOD)
    features = extract(folder)
    assert f"a/{name}" in features.ids
    features.save(tmp_path / "x.h5")
    assert featx.Features.load(tmp_path / "x.h5").ids == features.ids
    (folder / "a" / name).write_bytes(b"no image")
    (failure,) = extract(folder).failures
    assert failure.id == f"a/{name}"


@case(63, READ, why="a folder too deep to be listed is a DatasetError: its files have no names")
def long_names(folder: Path) -> str:
    (folder / "a" / ("x" * 251 + ".png")).write_bytes(GOOD)
    assert len(extract(folder)) == 3
    too_long = folder / "/".join(["d" * 200] * 25) / "x.png"
    failure = only_failure([folder / "a" / "good.png", too_long], too_long.as_posix())
    assert "too long" in failure.reason
    home = os.getcwd()
    try:
        os.chdir(folder)
        for _ in range(25):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        with pytest.raises(DatasetError, match="cannot be listed: File name too long"):
            featx.Dataset.from_folder(folder)
    finally:
        os.chdir(home)
    return failure.error


@case(64)
def names_that_differ_in_case(folder: Path) -> None:
    (folder / "a" / "X.png").write_bytes(other(7))
    (folder / "a" / "x.png").write_bytes(other(8))
    if len(list((folder / "a").iterdir())) < 3:
        pytest.skip("this file system does not tell upper from lower case")
    assert extract(folder).ids == ["a/X.png", "a/good.png", "a/x.png", "b/good.png"]


@case(65)
def files_that_systems_leave(folder: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "._good.png", "desktop.ini"):
        (folder / "a" / name).write_bytes(GOOD)
    (folder / "__MACOSX").mkdir()
    features = extract(folder)
    assert features.ids == ["a/good.png", "b/good.png"]
    assert any(note.startswith("5 hidden or system files") for note in features.notes)


@case(66)
def the_content_decides(folder: Path) -> None:
    (folder / "a" / "UPPER.JPG").write_bytes(made.jpeg())
    (folder / "a" / "no-suffix").write_bytes(GOOD)
    (folder / "a" / "notes.txt").write_bytes(b"words")
    features = extract(folder)
    assert features.ids == ["a/UPPER.JPG", "a/good.png", "a/no-suffix", "b/good.png"]
    assert any("1 file that is not an image (.txt)" in note for note in features.notes)
