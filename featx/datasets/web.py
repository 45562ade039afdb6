"""Images and archives at http and https addresses, fetched within limits.

What is followed: http and https alone, five redirects at most, none from https to http. An address
that somebody typed may lead anywhere. One in a table or a list may come from a stranger, and so may
what any address is redirected to: these lead to public addresses of the internet, or to a host that
is named in the environment variable FEATX_PRIVATE_HOSTS, so that a table cannot make this machine
ask services of its own network. Through a proxy, which finds the hosts itself, only what is written
as a number, and "localhost", can be told.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from featx import forking
from featx.datasets.archives import Content
from featx.errors import DatasetError, ImageError, ImageReadError, ImageTooLargeError
from featx.formatting import file_size
from featx.images.elsewhere import Elsewhere, Version

PRIVATE = "FEATX_PRIVATE_HOSTS"
MAX_REDIRECTS = 5
MAX_ARCHIVE_BYTES = 100 * 10**9
# Of one wait for the server, and of one image in all: 64 MB at 2 Mbit/s.
_SECONDS, _IMAGE_SECONDS = 30.0, 300.0
_CHUNK = 256 * 1024
_TRIES = 3
# What a server answers that may answer otherwise in a moment (RFC 9110, RFC 6585).
_AGAIN = (429, 500, 502, 503, 504)
# Parts of a signed address: they change from day to day, and give access.
_SIGNING = re.compile(
    r"(?i)x-(?:amz|goog)-.*|signature|sig|expires|se|sp|sv|sr|st|key-pair-id|policy|"
    r"awsaccesskeyid|googleaccessid|token|access_token"
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedError(Exception):
    """An address that is not followed; the message says why."""


@dataclass(frozen=True, slots=True)
class WebImage(Elsewhere):
    """An image at an address that stood in a table or a list.

    Attributes
    ----------
    url : str
    """

    url: str

    @property
    def waits(self) -> bool:  # type: ignore[override]
        """True."""
        return True

    @property
    def address(self) -> str:  # type: ignore[override]
        """The address without what signs it."""
        return public(self.url)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The last part of its path."""
        return name_of(self.url)

    def asked_version(self) -> Version | None:
        """Return size and ETag, as the server says without sending the image."""
        try:
            with _opened(self.url, method="HEAD") as answer:
                return _version(answer)
        except (RefusedError, OSError, http.client.HTTPException):
            return None  # whoever fetches it says why

    def read(self, max_bytes: int) -> tuple[bytes, Version | None]:
        """Fetch it."""
        return _retried(lambda: self._fetched(max_bytes))

    def _fetched(self, max_bytes: int) -> tuple[bytes, Version | None]:
        until = time.monotonic() + _IMAGE_SECONDS
        with _opened(self.url) as answer:
            declared = _length(answer)
            content = bytearray()
            while True:
                if max(declared or 0, len(content)) > max_bytes:
                    raise ImageTooLargeError(
                        f"the file has more than {max_bytes:,} bytes. Save a smaller copy"
                    )
                if time.monotonic() > until:
                    raise ImageReadError(f"not fetched within {_IMAGE_SECONDS:.0f} s")
                chunk = answer.read1(_CHUNK)
                if not chunk:
                    break
                content += chunk
            if declared is not None and len(content) != declared:
                raise ImageReadError(f"only {len(content):,} of {declared:,} bytes were sent")
            version = _version(answer)
            return bytes(content), version


class WebContent(Content):
    """An archive at an address: its directory is read where it is, and all of it once a file is.

    Parameters
    ----------
    url : str
    progress : bool
        Whether a bar is shown while it is fetched.
    """

    def __init__(self, url: str, progress: bool = False) -> None:
        self._url, self._progress = url, progress
        self._descriptor: int | None = None
        self._seen: tuple[int, bytes] = (0, b"")
        self._fetching = forking.lock()
        try:
            with _opened(url, method="HEAD", typed=True) as answer:
                version, length = _version(answer), _length(answer)
                ranges = "bytes" in answer.headers.get("Accept-Ranges", "")
        except urllib.error.HTTPError:
            version, length, ranges = None, None, False  # it may know GET alone
        except (RefusedError, OSError, http.client.HTTPException) as error:
            raise unreachable(url, error) from error
        self._version = version
        self.size = length or 0
        if version is None or not length or not ranges:
            self.fetch()

    def __reduce__(self) -> tuple[Any, ...]:
        return WebContent, (self._url,)

    def at(self, start: int, count: int) -> bytes:
        if self._descriptor is not None:
            return os.pread(self._descriptor, count, start)
        first, seen = self._seen
        if not first <= start <= start + count <= first + len(seen):
            # Archives are read from their end, in small steps.
            first = max(0, min(start, self.size - _CHUNK))
            last = min(self.size, max(start + count, first + _CHUNK))
            part = self._range(first, last)
            if part is None:
                return self.at(start, count)
            seen = part
            self._seen = first, seen
        return seen[start - first : start - first + count]

    def version(self) -> str | None:
        return None if self._version is None else f"{self._version.size}:{self._version.tag}"

    def ready(self) -> None:
        with self._fetching:
            if self._descriptor is None:
                self.fetch()

    def _range(self, first: int, last: int) -> bytes | None:
        """Return a part; None where the server sends all of it, which is then at hand."""
        assert self._version is not None
        asked = {"Range": f"bytes={first}-{last - 1}", "If-Range": self._version.tag}
        try:
            with _opened(self._url, typed=True, headers=asked) as answer:
                if answer.status == 206:
                    return bytes(answer.read(last - first))
        except (RefusedError, OSError, http.client.HTTPException) as error:
            raise unreachable(self._url, error) from error
        self.fetch()
        return None

    def fetch(self) -> None:
        """Fetch all of it to a temporary file without a name."""
        from tqdm.auto import tqdm

        shown = public(self._url)
        try:
            with (
                _opened(self._url, typed=True) as answer,
                tempfile.TemporaryFile(prefix="featx-") as file,
            ):
                version, length = _version(answer), _length(answer)
                if self._version is not None and version != self._version:
                    raise DatasetError(f"{shown} changed while it was read; run again.")
                _check_room(shown, length)
                written = 0
                with tqdm(
                    total=length, unit="B", unit_scale=True, desc="fetch", delay=1,
                    disable=not self._progress,
                ) as bar:  # fmt: skip
                    while chunk := answer.read1(_CHUNK):
                        written += len(chunk)
                        if written > MAX_ARCHIVE_BYTES:
                            raise _too_large(shown)
                        file.write(chunk)
                        bar.update(len(chunk))
                file.flush()
                if length is not None and written != length:
                    raise DatasetError(f"only {written:,} of {length:,} bytes of {shown} came.")
                self._descriptor = os.dup(file.fileno())
        except (RefusedError, OSError, http.client.HTTPException) as error:
            raise unreachable(self._url, error) from error
        weakref.finalize(self, os.close, self._descriptor)
        self._version, self.size = version, written


def public(url: str) -> str:
    """Return an address without what signs it, which gives access and changes.

    >>> public("https://host/1.jpg?id=7&X-Amz-Signature=abc")
    'https://host/1.jpg?id=7'
    """
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in query if not _SIGNING.fullmatch(key)]
    changed = parts.query if len(kept) == len(query) else urlencode(kept)
    return urlunsplit((parts.scheme.lower(), parts.netloc, parts.path, changed, ""))


def name_of(url: str) -> str:
    """Return the name of the file at an address, for its suffix."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def unreachable(url: str, error: BaseException) -> DatasetError:
    """Return the error for a data set that cannot be fetched."""
    return DatasetError(f"{public(url)} cannot be fetched: {_reason(error)}.")


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return _reason(error.reason)
    if isinstance(error, TimeoutError):
        return f"the server does not answer within {_SECONDS:.0f} s"
    return str(error) or type(error).__name__


def _retried(fetch: Any) -> Any:
    for attempt in range(_TRIES):
        try:
            return fetch()
        except ImageError:
            raise
        except RefusedError as error:
            raise ImageReadError(f"not fetched: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            again = not isinstance(error, urllib.error.HTTPError) or error.code in _AGAIN
            if not again or attempt == _TRIES - 1:
                raise ImageReadError(f"cannot be fetched: {_reason(error)}") from error
            time.sleep(0.5 * 4**attempt)
    raise AssertionError


@contextmanager
def _opened(
    url: str,
    *,
    method: str = "GET",
    typed: bool = False,
    headers: dict[str, str] | None = None,
) -> Iterator[Any]:
    """Open an address.

    Parameters
    ----------
    typed : bool, default=False
        Whether somebody named this very address, so that its host may be a private one.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise RefusedError("the address holds a name or a password, which would be written down")
    hosts = {host.strip().lower() for host in os.environ.get(PRIVATE, "").split(",")}
    if typed and parts.hostname:
        hosts.add(parts.hostname)
    request = urllib.request.Request(
        url,
        method=method,
        headers={"User-Agent": "featx", "Accept-Encoding": "identity"} | (headers or {}),
    )
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(hosts),
        _Http(hosts),
        _Https(hosts),
    ):
        opener.add_handler(handler)
    _check_written(parts.hostname or "", hosts)
    answer = opener.open(request, timeout=_SECONDS)
    if answer is None:
        raise RefusedError(f"{parts.scheme}: is not followed; http and https are")
    with answer:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise RefusedError("the server sends it compressed, without being asked to")
        yield answer


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS
    max_repeats = MAX_REDIRECTS

    def __init__(self, hosts: set[str]) -> None:
        self._hosts = hosts

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        """Return the request that follows a redirect, or refuse it."""
        parts = urlsplit(newurl)
        if parts.scheme not in ("http", "https") or (
            parts.scheme == "http" and req.type == "https"
        ):
            raise RefusedError(
                f"it is redirected to {parts.scheme}:, which is not followed from there"
            )
        _check_written(parts.hostname or "", self._hosts)
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None:
            made.method = req.get_method()
        return made


class _Http(urllib.request.HTTPHandler):
    def __init__(self, hosts: set[str]) -> None:
        super().__init__()
        self._hosts = hosts

    def http_open(self, req: Any) -> Any:
        """Open a connection to a host that may be asked."""
        return self.do_open(_checked(http.client.HTTPConnection, req, self._hosts), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, hosts: set[str]) -> None:
        super().__init__()
        self._hosts = hosts

    def https_open(self, req: Any) -> Any:
        """Open a connection to a host that may be asked."""
        return self.do_open(_checked(http.client.HTTPSConnection, req, self._hosts), req)


def _checked(kind: Any, request: Any, hosts: set[str]) -> Any:
    """Return what makes a connection, which looks at the address that it is made to."""
    if request.has_proxy() or getattr(request, "_tunnel_host", None):
        return kind  # the proxy's own address may be private, and it finds the host

    def connect(
        address: tuple[str, int], timeout: Any = None, source: Any = None, **more: Any
    ) -> socket.socket:
        host, port = address
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for one in found:
            _check_address(str(one[4][0]), host, hosts)
        # To the address that was looked at: asked again, the name may have another.
        error: OSError | None = None
        for one in found:
            try:
                return socket.create_connection((str(one[4][0]), port), timeout, source)
            except OSError as failed:
                error = failed
        raise error or OSError("no address")

    def made(*arguments: Any, **options: Any) -> Any:
        connection = kind(*arguments, **options)
        connection._create_connection = connect
        return connection

    return made


def _check_written(host: str, hosts: set[str]) -> None:
    """Refuse a host that is written as a private address."""
    if host.lower() == "localhost":
        _check_address("127.0.0.1", host, hosts)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    _check_address(host, host, hosts)


def _check_address(address: str, host: str, hosts: set[str]) -> None:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = inner or found
    if (not found.is_global or found.is_multicast) and host.lower() not in hosts:
        raise RefusedError(
            f"{host} is an address of this machine or its own network, which a table, a list or a "
            f"redirect may not lead to; {PRIVATE}={host} in the environment allows it"
        )


def _version(answer: Any) -> Version | None:
    """Return size and ETag; None where the ETag is missing or weak (RFC 9110, 8.8.1)."""
    tag, length = answer.headers.get("ETag", ""), _length(answer)
    return Version(length, tag) if tag.startswith('"') and length is not None else None


def _length(answer: Any) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _check_room(shown: str, length: int | None) -> None:
    if length is None:
        return
    if length > MAX_ARCHIVE_BYTES:
        raise _too_large(shown)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if length > free:
        raise DatasetError(
            f"{shown} has {file_size(length)}, and {tempfile.gettempdir()} has {file_size(free)} "
            "left. Name another folder in TMPDIR, or fetch the archive yourself."
        )


def _too_large(shown: str) -> DatasetError:
    return DatasetError(
        f"{shown} has over {file_size(MAX_ARCHIVE_BYTES)}: fetch it yourself, and give the file."
    )
