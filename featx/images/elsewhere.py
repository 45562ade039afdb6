"""Images that are not files of their own, and when content is known to be unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

# A file changed within this time of its reading may be changed again without a trace in its
# times: git's "racy" rule (git documentation, technical/racy-git).
RACY_NS = 2_000_000_000
# Change times that are multiples of this are a file system's of whole seconds (squashfs, ISO 9660,
# FAT, sshfs, ext3) or of milliseconds, or were set by whoever built its image: the same may stand
# beside other content. On others one file in a million has such a time, and is only read again.
COARSE_NS = 1_000_000


def are_settled(modified: int, changed: int, read_at: int) -> bool:
    """Return whether a file with these times (ns), read then, shows any later change in them."""
    return max(modified, changed) < read_at - RACY_NS and changed % COARSE_NS != 0


class Version(NamedTuple):
    """What tells that an image is still the one that was read before.

    Attributes
    ----------
    size : int
        Bytes.
    tag : str
        Changes whenever the content does: an ETag, or the times of an archive.
    """

    size: int
    tag: str


class Elsewhere(ABC):
    """The encoded bytes of an image that is read from somewhere else than a file of its own.

    Attributes
    ----------
    address : str
        Where it is, such as ``https://host/cat/1.jpg``; the same image has the same address in
        every run. It begins with a scheme, so that it is never the path of a file.
    name : str
        Its file's name, for the suffix.
    waits : bool
        Whether reading it is mostly waiting, so that many should be read at one time.
    """

    address: str
    name: str
    waits: bool = False

    def listed_version(self) -> Version | None:
        """Return the version where it is known without asking anybody, such as from a listing."""
        return None

    def asked_version(self) -> Version | None:
        """Return the version, asked for where it was not listed; None where there is none."""
        return self.listed_version()

    @abstractmethod
    def read(self, max_bytes: int) -> tuple[bytes, Version | None]:
        """Return the content, and the version of just this content; None where it has none.

        Raises
        ------
        ImageError
            It cannot be read, or has more than `max_bytes` bytes.
        """
