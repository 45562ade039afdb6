"""Images in .zip and .tar archives, read where they lie; nothing is unpacked beside them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import tempfile
import time
import weakref
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from featx import forking
from featx.datasets.tree import Tree, TreeFolder, safe_path
from featx.errors import DatasetError, ImageChangedError, ImageReadError, ImageTooLargeError
from featx.formatting import counted, file_size
from featx.images.elsewhere import Elsewhere, Version, are_settled

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", *_TAR_SUFFIXES)
UNREAD = (".7z", ".rar", ".tar.zst", ".tzst", ".gz", ".bz2", ".xz", ".zst", ".iso", ".dmg")
"""Suffixes of archives and packed files that are known and not read."""

# Encoded images hardly shrink; Keras allows a member of a model file the same ratio.
MAX_EXPANSION = 100
# What an archive may unpack to in any case: an image has no more bytes than this.
_SPARE = 64 * 1024 * 1024
# A directory of some three million members.
_MAX_HEADER = 256 * 1024 * 1024
_CHUNK = 1024 * 1024


def is_archive(name: str) -> bool:
    """Return whether a file is an archive that featx reads, by its name."""
    return name.lower().endswith(SUFFIXES)


class Content(ABC):
    """The bytes of an archive, at any place of it: a file, one without a name, or one afar.

    Attributes
    ----------
    size : int
    """

    size: int

    @abstractmethod
    def at(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start`; fewer at the end. Threads may ask at one time."""

    @abstractmethod
    def version(self) -> str | None:
        """Return what changes whenever the bytes do; None where nothing is known to."""

    def ready(self) -> None:  # noqa: B027 - only what is afar has something to do
        """Have all of it at hand, since files in it are read now."""

    def check(self) -> None:  # noqa: B027
        """Raise ImageChangedError if the bytes are no longer those that were listed."""


class FileContent(Content):
    """The bytes of a file of this machine, open as long as this object is there."""

    def __init__(self, path: str | Path) -> None:
        # Not to wait for a pipe that nobody writes to.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, flags)
        weakref.finalize(self, os.close, self._descriptor)
        self._status = os.fstat(self._descriptor)
        if not stat.S_ISREG(self._status.st_mode):
            raise DatasetError(f"{path} is not a regular file (a folder, pipe, socket or device).")
        self.size = self._status.st_size
        self._path = os.path.abspath(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileContent, (self._path,)

    def at(self, start: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, start)

    def version(self) -> str | None:
        now = os.fstat(self._descriptor)
        settled = are_settled(now.st_mtime_ns, now.st_ctime_ns, time.time_ns())
        return ":".join(map(str, _about(now))) if settled else None

    def check(self) -> None:
        if _about(os.fstat(self._descriptor)) != _about(self._status):
            raise ImageChangedError(
                "the archive changed since it was listed; run again when it is whole"
            )


def _about(status: os.stat_result) -> tuple[int, ...]:
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_size, *times, status.st_ino, status.st_dev


class Unpacked(Content):
    """A compressed tar archive as a temporary file without a name, which ends with this object."""

    def __init__(self, packed: Content, archive: str, progress: bool) -> None:
        self._packed, self._archive = packed, archive
        with tempfile.TemporaryFile(prefix="featx-") as file:
            _unpack(packed, file, archive, progress)
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def __reduce__(self) -> tuple[Any, ...]:
        return Unpacked, (self._packed, self._archive, False)

    def at(self, start: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, start)

    def version(self) -> str | None:
        return self._packed.version()

    def check(self) -> None:
        self._packed.check()


class Window(io.RawIOBase):
    """A content as a file that `zipfile` and `tarfile` read."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size}
        self._position = start[whence] + offset
        if self._position < 0:
            raise OSError(f"a position of {self._position} bytes")
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        read = self.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)

    def read(self, count: int | None = -1) -> bytes:
        """Return so many bytes; all that are left for -1."""
        left = max(0, self._content.size - self._position)
        count = left if count is None or count < 0 else min(count, left)
        if count > _MAX_HEADER:  # of a header: images are read in parts
            raise zipfile.BadZipFile(f"a header of {count:,} bytes")
        read = b""
        while len(read) < count:
            more = self._content.at(self._position, count - len(read))
            if not more:
                break
            read += more
            self._position += len(more)
        return read


@dataclass(frozen=True, eq=False, slots=True)
class Member(Elsewhere):
    """An image in an archive.

    Attributes
    ----------
    archive : Archive
    path : str
        Its path in the archive.
    """

    archive: Archive
    path: str

    @property
    def address(self) -> str:  # type: ignore[override]
        """``archive:`` and the paths of the archive and in it."""
        return f"archive:{self.archive.location}!/{self.path}"

    @property
    def name(self) -> str:  # type: ignore[override]
        """The last part of its path."""
        return PurePosixPath(self.path).name

    def listed_version(self) -> Version | None:
        """Return its place in the archive, and what the archive's file system says of that."""
        return self.archive.version_of(self.path)

    def read(self, max_bytes: int) -> tuple[bytes, Version | None]:
        """Return its bytes, unpacked."""
        return self.archive.read(self.path, max_bytes)


class Archive:
    """The images of one archive.

    Parameters
    ----------
    shown : str
        Its path or address, as messages name it.
    content : Content
    progress : bool
        Whether a progress bar is shown while it is unpacked.

    Raises
    ------
    DatasetError
        It is damaged, is of another kind, or is made to do harm: paths that lead out of it,
        members that overlap, contents of over 100 times its size.
    """

    def __init__(
        self, shown: str, content: Content, address: str = "", *, progress: bool = False
    ) -> None:
        self.shown = shown
        self.location: Path | str = address or Path(os.path.abspath(shown))
        self._notes: list[str] = []
        self.content = self._packed = content
        zipped = re.search(r"(?i)\.zip(?:\?.*)?$", shown) is not None
        try:
            self._members = _zip_members(content, shown) if zipped else self._tar_members(progress)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, ValueError) as error:
            kind = "zip" if zipped else "tar"
            raise DatasetError(
                f"the archive {shown} cannot be read: it is damaged, cut short or no {kind} file "
                f"({error}). Fetch or pack it again."
            ) from error
        except OSError as error:
            raise DatasetError(
                f"the archive {shown} cannot be read: {error.strerror or error}."
            ) from error
        self._check_expansion()

    def __reduce__(self) -> tuple[Any, ...]:
        # Where it is, and not what is in it: another process opens it again.
        address = self.location if isinstance(self.location, str) else ""
        return _opened_again, (self.shown, self._packed, address)

    def folder(self) -> TreeFolder:
        """Return its root as a folder."""
        tree = Tree(
            self.shown,
            ((path, member.kind) for path, member in self._members.items()),
            lambda path: Member(self, path),
            self._head,
            self._notes,
            self._labels(),
            self.location,
        )
        return TreeFolder(tree)

    def version_of(self, path: str) -> Version | None:
        """Return what tells that a member is unchanged; None where nothing is sure to."""
        version, member = self.content.version(), self._members[path]
        return None if version is None else Version(member.size, f"{version}:{member.place}")

    def read(self, path: str, max_bytes: int) -> tuple[bytes, Version | None]:
        """Return what a member holds, with its version."""
        member = self._members[path]
        if member.size > max_bytes:
            raise ImageTooLargeError(
                f"the file has {member.size:,} bytes; the limit is {max_bytes:,}. "
                "Save a smaller copy"
            )
        try:
            self.content.ready()
            version = self.version_of(path)
            content = member.open_it(member.size)
            self.content.check()
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ImageReadError(f"cannot be read: its archive is damaged ({error})") from error
        except (OSError, RuntimeError, NotImplementedError) as error:  # encrypted, unknown methods
            raise ImageReadError(f"cannot be read from its archive: {error}") from error
        if len(content) != member.size:
            raise ImageReadError("cannot be read: its archive ends before it does")
        return content, version

    def _head(self, path: str) -> bytes:
        member = self._members[path]
        try:
            return member.open_it(min(member.size, 512))
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError):
            return b""

    def _check_expansion(self) -> None:
        unpacked = sum(member.size for member in self._members.values())
        if unpacked > MAX_EXPANSION * self.content.size + _SPARE:
            raise _bomb(self.shown)

    def _tar_members(self, progress: bool) -> dict[str, _Member]:
        self.content.ready()
        self.content = _plain_tar(self.content, self.shown, progress)
        content = self.content
        found: dict[str, _Member] = {}
        special = 0
        with tarfile.open(fileobj=_buffered(Window(content)), mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it keeps them all otherwise
                path = safe_path(info.name, self.shown)
                if info.issym() or info.islnk():
                    found[path] = _Member("link", 0, 0, lambda count: b"")
                elif info.isreg() and not info.issparse() and path:
                    found[path] = _tar_member(content, info.offset_data, info.size)
                elif not info.isdir():
                    special += 1
        if special:
            what = "of the archive that is not a file (device, pipe, file with holes), skipped"
            self._notes.append(f"{counted(special, f'entry {what}', f'entries {what}')}.")
        return found

    def _labels(self) -> dict[str, str]:
        """Return the classes of a WebDataset by the paths of its images without suffixes."""
        found = {}
        for path, member in self._members.items():
            if path.lower().endswith(".cls") and member.kind == "file" and member.size <= 4096:
                text = self.read(path, 4096)[0].decode("utf-8", "replace").strip()
                folder, _, name = path.rpartition("/")
                found[f"{folder}/{name.split('.', 1)[0]}"] = text
        return found


_opening = forking.lock()
_opened: list[tuple[str, str, Archive]] = []


def _opened_again(shown: str, packed: Content, address: str) -> Archive:
    """Return an archive of another process, opened once for all that come while it stays as it is.

    Each task of a cluster brings it anew, and its names need not be read for each.
    """
    version = packed.version()
    with _opening:
        for name, state, archive in _opened:
            if version is not None and (name, state) == (shown, version):
                return archive
        archive = Archive(shown, packed, address)
        if version is not None:
            _opened[:] = [(shown, version, archive)]
        return archive


@dataclass(frozen=True, slots=True)
class _Member:
    """A file or a link in an archive: its size, its place, and what returns its first bytes."""

    kind: str
    size: int
    place: int
    open_it: Callable[[int], bytes]


def _tar_member(content: Content, offset: int, size: int) -> _Member:
    return _Member("file", size, offset, lambda count: content.at(offset, count))


def _zip_members(content: Content, shown: str) -> dict[str, _Member]:
    archive = zipfile.ZipFile(_buffered(Window(content)))
    found: dict[str, _Member] = {}
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    end = 0
    for info in infos:
        if info.header_offset < end:
            raise DatasetError(
                f"the archive {shown} holds files that overlap, as archives do that are made to "
                "fill a disk; nothing of it was read."
            )
        end = info.header_offset + 30 + info.compress_size  # 30 bytes: the least a header has
        # Some programs of Windows write its separators.
        path = safe_path(info.filename.replace("\\", "/"), shown)
        if stat.S_ISLNK(info.external_attr >> 16):
            found[path] = _Member("link", 0, 0, lambda count: b"")
        elif not info.is_dir() and path:
            found[path] = _zip_member(archive, info)
    return found


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    def open_it(count: int) -> bytes:
        # The others unpack without a limit; nobody compresses images with them.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError(
                f"it is compressed by method {info.compress_type}; pack the archive with deflate, "
                "which every program has, or without compression"
            )
        with archive.open(info) as file:
            return file.read(count)

    return _Member("file", info.file_size, info.header_offset, open_it)


def _buffered(window: Window) -> IO[bytes]:
    return window  # type: ignore[return-value]


_MAGIC: dict[bytes, Callable[[Any], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),  # type: ignore[dict-item,return-value]
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


def _plain_tar(content: Content, shown: str, progress: bool) -> Content:
    """Return a tar archive without compression, whatever its name says."""
    head = content.at(0, 8)
    if any(head.startswith(magic) for magic in _MAGIC):
        return Unpacked(content, shown, progress)
    return content


def _unpack(packed: Content, target: IO[bytes], shown: str, progress: bool) -> None:
    """Write what a compressed file holds to another one, up to a limit."""
    head = packed.at(0, 8)
    from tqdm.auto import tqdm  # slow to import, and rarely needed

    opened = next(make for magic, make in _MAGIC.items() if head.startswith(magic))
    window = Window(packed)
    written = 0
    limit = MAX_EXPANSION * packed.size + _SPARE
    with (
        opened(io.BufferedReader(window, _CHUNK)) as source,
        # A bar for what takes longer than a moment.
        tqdm(
            total=packed.size, unit="B", unit_scale=True, desc="unpack", delay=2,
            disable=not progress,
        ) as bar,
    ):  # fmt: skip
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > limit:
                raise _bomb(shown)
            try:
                target.write(chunk)
            except OSError as error:
                raise DatasetError(
                    f"no room to unpack {shown}: {error.strerror} in {tempfile.gettempdir()} after "
                    f"{file_size(written)}. Free some space, name another folder in TMPDIR, or "
                    "unpack the archive yourself and give the folder."
                ) from error
            bar.update(window.tell() - bar.n)
    target.flush()


def _bomb(shown: str) -> DatasetError:
    return DatasetError(
        f"the archive {shown} unpacks to over {MAX_EXPANSION} times its size, as archives do that "
        "are made to fill a disk; nothing of it was read. If it is sound, unpack it yourself."
    )
