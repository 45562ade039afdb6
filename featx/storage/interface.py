"""What the cache asks of the medium that stores its shards and indexes: the only way to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from featx.errors import CacheCorruptError, CacheError, CacheSpaceError


class Stat(NamedTuple):
    """A token of one state of an entry: two are equal only where the content is the same.

    Attributes
    ----------
    size : int
        Bytes.
    modified : int
        When it was written, in ns since 1970.
    version, identity : int
        Compared and never interpreted: change time and inode of a file, or what an object store
        has for a version.
    """

    size: int
    modified: int
    version: int
    identity: int


class Storage(ABC):
    """Named entries of bytes, each whole or absent.

    A name is a relative path with slashes, ``k-0123/shards/4567.h5``; what stands before the last
    slash is its folder. Errors of the medium are ``OSError``; an absent entry is
    ``FileNotFoundError``.

    A subclass implements the abstract methods. The others are for media with folders, a durability
    that must be asked for and a known limit; their defaults do nothing.

    Attributes
    ----------
    readers : int
        How many entries are read at a time where many are wanted.
    """

    readers = 1

    @property
    @abstractmethod
    def scratch(self) -> Path:
        """A folder for what is this machine's: claims and digests of its files.

        It may not exist.
        """

    @abstractmethod
    def location(self, name: str) -> str:
        """Return the name of an entry or a folder in messages to the user."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, without the folder and in any order; none if absent."""

    @abstractmethod
    def stats(self, folder: str, quarantine: str) -> dict[str, Stat]:
        """Return the entries in a folder, each with the token of its present state.

        Without those that are in `quarantine`.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Return whether an entry, or a folder, exists."""

    @abstractmethod
    def stat(self, name: str) -> Stat:
        """Return the token of an entry's present state."""

    @abstractmethod
    def read(self, name: str) -> bytearray:
        """Return the bytes of an entry.

        Raises
        ------
        CacheCorruptError
            It cannot be what featx wrote: a link, say, or bytes that the disk cannot read.
        """

    def read_into(self, name: str, parts: Sequence[memoryview]) -> None:
        """Fill `parts`, one after the other, with the bytes of an entry.

        Raises
        ------
        CacheCorruptError
            As for ``read``, or the entry is longer or shorter than the parts together.
        """
        content = memoryview(self.read(name))
        if len(content) != sum(map(len, parts)):
            raise CacheCorruptError(f"{name} has another size than when it was verified")
        for part in parts:
            part[:] = content[: len(part)]
            content = content[len(part) :]

    @abstractmethod
    def publish(self, name: str, content: bytes) -> bool:
        """Write a new entry; False if the name is taken, whose entry stays as it is.

        No reader sees a part of it. Either way the entry is durable when this returns.
        """

    @abstractmethod
    def replace(self, name: str, content: bytes) -> None:
        """Write an entry in one step, replacing any that has the name; not durable."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove an entry; an absent one is not an error."""

    @abstractmethod
    def quarantine(self, name: str, stat: Stat, folder: str) -> str | None:
        """Move an entry in that state to a folder; return where it is, or None if it changed."""

    @abstractmethod
    def touch(self, name: str) -> None:
        """Let the time of an entry say that it is used now; nothing where that is not allowed."""

    def refuse_links(self, *folders: str) -> None:
        """Raise CacheSecurityError if one of these folders leads out of the cache."""

    def make(self, folder: str) -> None:
        """Make a folder and those above it, durable."""

    def sync(self, *folders: str) -> None:
        """Make the entries of folders durable, whoever wrote them."""

    def rehearse(self, folder: str) -> None:
        """Raise OSError if no entry can be written in a folder."""

    def free_bytes(self, folder: str) -> int | None:
        """Return the bytes that can still be written; None where that is not known."""
        return None

    def check_space(self, folder: str, needed: int, what: str = "the next shard needs") -> None:
        """Raise CacheSpaceError if fewer bytes than needed can be written."""
        free = self.free_bytes(folder)
        if free is not None and free < needed:
            raise CacheSpaceError(
                f"the disk of the cache {self.location(folder)} has {free:,} bytes left; {what} "
                f"{needed:,}. Free some space and run again: what was cached is not computed again."
            )

    def try_read(self, name: str) -> bytearray | None:
        """Return the bytes of an entry that only saves time, or None where it cannot be used."""
        try:
            self.refuse_links(_folder_of(name))
            return self.read(name)
        except (OSError, CacheError):
            return None

    def try_replace(self, name: str, content: bytes) -> None:
        """Write an entry that only saves time, or do nothing where that is not allowed.

        Its folder is not made: one that was removed meanwhile stays so.
        """
        with suppress(OSError, CacheError):
            self.refuse_links(_folder_of(name))
            self.replace(name, content)


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]
