"""The storage that is an object store: S3, Google Cloud Storage, Azure, and what speaks like S3.

An object store has no links, locks, folders or renames. It has a put that succeeds only where
nothing has the name, and one that succeeds only where the object is still the one that was seen.
So a shard is published by the first, a damaged one is put on a list of what is to be ignored
instead of being moved, and its name is taken again by the second.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from featx.errors import CacheCorruptError, CacheSecurityError
from featx.storage.checksummed import SEAL, SEAL_BYTES
from featx.storage.interface import Stat, Storage
from featx.storage.reading import MAX_BYTES, PLAIN_BYTES

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Requests that are under way at a time: each waits some 20 to 100 ms for the service.
_READERS = 16
# How often a request is made whose answer was lost, or that a concurrent one got in the way of
# (409): the client's own attempts, with their pauses, are inside each of these.
_ATTEMPTS = 5
_FIRST_PAUSE = 0.05
# What a damaged object is listed by, behind its name: which state of it is meant.
_TOKEN = re.compile(r"(.+)-([0-9a-f]{16})")


class Client(Protocol):
    """What is asked of ``obstore.store.ObjectStore``, whose methods these are."""

    def put(self, path: str, file: bytes, *, mode: Any, use_multipart: bool) -> Any:
        """Write an object."""

    def get(self, path: str) -> Any:
        """Return an answer with `meta` and ``bytes()``."""

    def get_range(self, path: str, *, start: int, length: int) -> Any:
        """Return some bytes of an object."""

    def head(self, path: str) -> Any:
        """Return path, last_modified, size and e_tag."""

    def list(self, prefix: str | None = None) -> Iterable[Sequence[Any]]:
        """Return pages of what ``head`` returns."""

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        """Return the common prefixes and the objects right below one."""

    def delete(self, paths: str) -> None:
        """Remove an object."""


class ChangedError(OSError):
    """An object is no longer in the state that it was to be replaced in."""


class Seen(NamedTuple):
    """One state of an object: its token, and what a put is told that shall replace it alone."""

    stat: Stat
    unchanged: dict[str, str]


class ObjectStorage(Storage):
    """Objects below a prefix of a bucket.

    What it has of a folder's promises: an entry is visible whole or not at all, is never replaced
    by ``publish``, and is durable when the service has answered. It has no claims between machines,
    no free space to ask for, and whoever may delete from the bucket may delete from the cache.

    Parameters
    ----------
    client : Client
        Of ``obstore``, below the prefix.
    address : str
        How messages call the place, such as ``s3://bucket/prefix``; nothing secret.
    scratch : Path
        A folder of this machine for claims and digests of files.
    """

    readers = _READERS

    def __init__(self, client: Client, address: str, scratch: Path) -> None:
        self._client = client
        self._address = address.rstrip("/")
        self._scratch = scratch
        # What is known to be damaged: the state in which each name is to be ignored.
        self._ignored: dict[str, Stat] = {}

    @property
    def scratch(self) -> Path:
        return self._scratch

    def location(self, name: str) -> str:
        return f"{self._address}/{name}".rstrip("/")

    def names(self, folder: str) -> list[str]:
        found = self._ask(folder, lambda: self._client.list_with_delimiter(folder or None))
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return [path.rstrip("/").rpartition("/")[2] for path in paths]

    def walk(self, folder: str) -> list[tuple[str, Stat]]:
        """Return every entry below a folder, in the folders in it as well."""

        def ask() -> list[tuple[str, Stat]]:
            # Whole or not at all: a listing that breaks off has to begin anew.
            pages = self._client.list(folder or None)
            return [(each["path"], _seen(each).stat) for page in pages for each in page]

        return self._ask(folder, ask)

    def stats(self, folder: str, quarantine: str) -> dict[str, Stat]:
        # One listing shows both what there is and what of it is damaged.
        both = os.path.commonprefix([f"{folder}/", f"{quarantine}/"]).rpartition("/")[0]
        found: dict[str, Stat] = {}
        tokens: set[tuple[str, str]] = set()
        for path, stat in self.walk(both):
            where, _, name = path.rpartition("/")
            if where == folder:
                found[name] = stat
            elif where == quarantine and (match := _TOKEN.fullmatch(name)):
                tokens.add((match[1], match[2]))
        for name in [name for name, stat in found.items() if (name, _token(stat)) in tokens]:
            self._ignored[f"{folder}/{name}"] = found.pop(name)
        return found

    @staticmethod
    def lists(entry: str, stats: Mapping[str, Stat]) -> bool:
        """Return whether an entry of a quarantine is about the present state of one of these."""
        match = _TOKEN.fullmatch(entry.rpartition("/")[2])
        return match is None or (match[1] in stats and _token(stats[match[1]]) == match[2])

    def exists(self, name: str) -> bool:
        with suppress(FileNotFoundError):
            self.seen(name)
            return True
        below = self._ask(name, lambda: self._client.list_with_delimiter(name))
        return bool(below["common_prefixes"] or below["objects"])

    def stat(self, name: str) -> Stat:
        stat = self.seen(name).stat
        if self._ignored.get(name) == stat:
            raise FileNotFoundError(errno.ENOENT, "what is there is damaged", self.location(name))
        return stat

    def read(self, name: str) -> bytearray:
        return bytearray(self._get(name))

    def publish(self, name: str, content: bytes) -> bool:
        for attempt in range(_ATTEMPTS):
            _pause(attempt)
            with suppress(FileExistsError):
                self._put(name, content, "create")
                return True
            # FileNotFoundError, after 409: somebody else was about to write, and did not.
            with suppress(FileNotFoundError):
                there = self.seen(name)
                if self._ignored.get(name) == there.stat:
                    return self.replace_unchanged(name, content, there)
                # A lost answer: it is our own. Equal bytes of somebody else are as good.
                return there.stat.size == len(content) and self._get(name) == content
        raise self._crowded(name)

    def replace_unchanged(self, name: str, content: bytes, seen: Seen) -> bool:
        """Write an object in place of one in that state; False if it is in another by now."""
        for attempt in range(_ATTEMPTS):
            _pause(attempt)
            with suppress(FileExistsError, ChangedError):
                self._put(name, content, seen.unchanged)
                return True
            if self.seen(name).stat != seen.stat:
                # Perhaps by us, and the answer was lost.
                return self._get(name) == content
        raise self._crowded(name)

    def _crowded(self, name: str) -> OSError:
        return OSError(errno.EAGAIN, "others keep writing it at this moment", self.location(name))

    def replace(self, name: str, content: bytes) -> None:
        self._put(name, content, "overwrite")

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._ask(name, lambda: self._client.delete(name))

    def quarantine(self, name: str, stat: Stat, folder: str) -> str | None:
        try:
            if self.seen(name).stat != stat:
                return None
        except FileNotFoundError:
            return None
        # Only its state is listed: a delete or a move could hit what was published since.
        entry = f"{folder}/{name.rpartition('/')[2]}-{_token(stat)}"
        about = json.dumps({"name": name, "size": stat.size}).encode()
        self._ignored[name] = stat
        with suppress(FileExistsError):
            self._put(entry, about, "create")
        return self.location(entry)

    def touch(self, name: str) -> None:
        # A store has no times to be set: the object is written again, at most once an hour.
        with suppress(OSError, CacheCorruptError):
            if time.time() - self.seen(name).stat.modified / 1e9 > _TOUCH_SECONDS:
                self.replace(name, bytes(self._get(name)))

    def make(self, folder: str) -> None:
        """Make what this machine has of a folder: there are no others here."""
        with suppress(OSError):  # it saves double work, and nothing depends on it
            os.makedirs(self._scratch / folder.partition("/")[0], mode=0o700, exist_ok=True)

    def rehearse(self, folder: str) -> None:
        name = f"{folder}/.tmp-{secrets.token_hex(8)}"
        self._put(name, b"", "create")
        with suppress(OSError):  # a bucket in which nothing may be deleted can have a cache
            self.remove(name)

    def _get(self, name: str) -> memoryview:
        """Return the bytes of an object that featx may have written."""

        def ask() -> memoryview:
            answer = self._client.get(name)
            size = answer.meta["size"]
            if size > MAX_BYTES:
                raise CacheSecurityError(f"{name} has {size:,} bytes; featx writes none so large")
            if size > PLAIN_BYTES:
                start = size - SEAL_BYTES
                end = self._client.get_range(name, start=start, length=len(SEAL))
                if bytes(end) != SEAL:
                    raise CacheCorruptError(
                        f"{name} has no checksum at its end: it is truncated or was not written by "
                        "featx"
                    )
            return memoryview(answer.bytes())

        return self._ask(name, ask)

    def _put(self, name: str, content: bytes, mode: Any) -> None:
        # In one request: of one in parts, nothing says what was there when it began.
        self._ask(name, lambda: self._client.put(name, content, mode=mode, use_multipart=False))

    def seen(self, name: str) -> Seen:
        """Return an object's present state."""
        return _seen(self._ask(name, lambda: self._client.head(name)))

    def _ask(self, name: str, request: Callable[[], T]) -> T:
        """Return the answer to a request, made again where the service fails.

        Its errors hold addresses, headers and the service's text, in which a key or a signature
        may stand: they become an OSError in words of featx, and are not chained to it.
        """
        import obstore.exceptions as raised

        for attempt in range(_ATTEMPTS):
            _pause(attempt)
            try:
                return request()
            except (raised.BaseError, OSError) as error:
                failure = _failure(error, self.location(name))
            if failure.errno != errno.EIO:
                break
            logger.info("asked again: %s", failure)
        raise failure


_TOUCH_SECONDS = 3600.0


def _pause(attempt: int) -> None:
    if attempt:
        time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1) * (0.5 + random.random()))


def tag_of(meta: Mapping[str, Any]) -> str | None:
    """Return an object's ETag as HTTP writes it: Azure's listings leave the quotes out."""
    tag: str | None = meta["e_tag"]
    return f'"{tag}"' if tag and not tag.endswith('"') else tag


def _seen(meta: Mapping[str, Any]) -> Seen:
    e_tag = tag_of(meta)
    # Listings give times of another precision than heads do, and no versions.
    seconds = int(meta["last_modified"].timestamp())
    digest = hashlib.sha256(repr((e_tag, meta["size"], seconds)).encode()).digest()
    version, identity = (int.from_bytes(part) >> 1 for part in (digest[:8], digest[8:16]))
    # Google Cloud Storage goes by its version, the others by the e_tag.
    known = {"e_tag": e_tag, "version": meta.get("version")}
    unchanged = {name: value for name, value in known.items() if value is not None}
    return Seen(Stat(int(meta["size"]), seconds * 1_000_000_000, version, identity), unchanged)


def _token(stat: Stat) -> str:
    return f"{stat.version:016x}"


_STATUS = re.compile(r"status code: (\d{3})")
# The service's own word for what it refuses, such as NoSuchBucket or AccessDenied: letters only.
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
# What the client says where no service answered, and in our words.
_REASONS = {
    "BareRedirect": "the bucket is in another region: set AWS_REGION",
    "BadScheme": "it is reached over http://, which is not encrypted: set AWS_ALLOW_HTTP=true if "
    "that is wanted",
    "MissingAccount": "no account is named: set AZURE_STORAGE_ACCOUNT_NAME",
    "dns error": "its name is not known to this machine's name service",
    "ConnectError": "no connection to it",
    "TimedOut": "it did not answer in time",
}
_REFUSED = (401, 403)
_CREDENTIALS = "check the credentials and what they may do there"


def _failure(error: Exception, location: str) -> OSError:
    """Return what an error of the client means, in words that hold nothing of its text."""
    import obstore.exceptions as raised

    text = str(error)
    status = int(found[1]) if (found := _STATUS.search(text)) else None
    code = found[1] if (found := _CODE.search(text)) else None
    about = f" ({', '.join(str(one) for one in (status, code) if one)})" if status or code else ""
    if isinstance(error, raised.AlreadyExistsError):
        return FileExistsError(errno.EEXIST, "something has that name", location)
    if isinstance(error, raised.PreconditionError):
        return ChangedError(errno.ESTALE, "it was changed meanwhile", location)
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(
            errno.ENOENT, f"the service has no such bucket or object{about}", location
        )
    refused = isinstance(error, raised.PermissionDeniedError | raised.UnauthenticatedError)
    if refused or status in _REFUSED:
        return PermissionError(
            errno.EACCES, f"the service refuses{about}: {_CREDENTIALS}", location
        )
    reason = next((text_ for word, text_ in _REASONS.items() if word in text), None)
    what = f"the service failed{about}" if reason is None else f"the service failed: {reason}"
    if reason is None and not about:
        what += f" ({type(error).__name__})"
    return OSError(errno.EIO, what, location)
