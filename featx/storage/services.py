"""Which object stores featx reaches, for caches and for images: addresses and credentials."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from featx.errors import CacheError, FeatxError

if TYPE_CHECKING:
    from featx.storage.objects import ObjectStorage

# 64 MB, the largest shard, pass in this time at 2 Mbit/s.
_REQUEST_SECONDS = 300
_CONNECT_SECONDS = 10
# The client's own attempts at one request that is answered by 5xx or by nothing.
_RETRIES = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=120),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}
_INSTALL = "is installed with: pip install 'featx[cloud]'"


def is_address(cache: str | os.PathLike[str]) -> bool:
    """Return whether a cache is named by the address of an object store, and not by a path.

    Raises
    ------
    CacheError
        It is an address that was made a path, which has lost a slash by that.
    """
    if isinstance(cache, str):
        return "://" in cache
    scheme, colon, _ = os.fspath(cache).partition(":/")
    if colon and scheme in SERVICES:
        raise CacheError(
            f"the cache {os.fspath(cache)} is an address that was made a path. Give it as text: "
            f'cache="{scheme}://..."'
        )
    return False


def connect(address: str) -> ObjectStorage:
    """Return the storage at an address such as ``s3://bucket/prefix``; nothing is asked yet.

    Raises
    ------
    CacheError
        As `client_at` says.
    """
    from featx.storage.objects import ObjectStorage  # a cache in a folder needs none of it

    client, address = client_at(address, CacheError)
    return ObjectStorage(client, address, _scratch(address))


def client_at(address: str, error_type: type[FeatxError]) -> tuple[Any, str]:
    """Return obstore's client of a place such as ``s3://bucket/prefix``, and the usual address.

    Raises
    ------
    error_type
        It is not the address of a place in an object store, or holds credentials; or there are
        none where the service looks for them; or a package is missing.
    """
    scheme, bucket, prefix = _parsed(address, error_type)
    address = "/".join(filter(None, (f"{scheme}://{bucket}", prefix)))
    try:
        import obstore.exceptions
    except ImportError as error:
        raise error_type(f"{address} needs the package obstore, which {_INSTALL}.") from error
    for name, value in os.environ.items():
        # The client would panic, which nothing catches; the value may hold a key.
        own = name.upper() in _ENDPOINTS and name.upper().startswith(_OWNERS[scheme])
        if own and not re.match(r"https?://[^/]", value):
            raise error_type(
                f"{address} cannot be reached: the variable {name} is not the address of a "
                "service. Expected one such as https://host:9000, or none."
            )
    try:
        return SERVICES[scheme](bucket, prefix), address
    except CacheError as error:
        raise error_type(str(error)) from error
    except obstore.exceptions.BaseError as error:
        # Its text may hold what the environment says, a key included.
        problem = "AZURE_STORAGE_ACCOUNT_NAME" if "MissingAccount" in str(error) else ""
    raise error_type(
        f"{address} cannot be reached: "
        + (
            f"no account is named. Set {problem}."
            if problem
            else f"its settings in the environment are not valid ({_SETTINGS[scheme]})."
        )
    )


def _parsed(address: str, error_type: type[FeatxError]) -> tuple[str, str, str]:
    scheme = address.partition("://")[0].lower()
    if scheme not in SERVICES:
        raise error_type(
            f"there is no object store at {scheme[:20]}://. Known are a folder, and "
            + ", ".join(f"{name}://bucket/prefix" for name in SERVICES)
        )
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit(f"{scheme}://")
    bucket, prefix = parts.netloc, parts.path.strip("/")
    if "@" in bucket or parts.query or parts.fragment:
        raise error_type(
            f"the address of a bucket is {scheme}://bucket/prefix and no more: credentials belong "
            f"where the service looks for them ({_SETTINGS[scheme]}), and not into an address, "
            "which is shown and written down"
        )
    if not bucket or {"", ".", ".."} & set(prefix.split("/") if prefix else ()):
        raise error_type(
            f"{address!r} is not the address of a bucket: expected {scheme}://bucket/prefix, "
            "without empty parts, '.' and '..'"
        )
    return scheme, bucket, prefix


def _options() -> dict[str, Any]:
    return {
        "client_options": {
            "timeout": timedelta(seconds=_REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            # Plain http only where whoever runs this named such an address.
            "allow_http": any(
                value.startswith("http://")
                for name, value in os.environ.items()
                if name.upper() in _ENDPOINTS
            ),
        },
        "retry_config": _RETRIES,
    }


_ENDPOINTS = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT", "GOOGLE_BASE_URL",
)  # fmt: skip


def _s3(bucket: str, prefix: str) -> Any:
    from obstore.store import S3Store

    given = {name.upper() for name in os.environ}
    provider = None
    # Of Amazon's chain the client knows the environment and the machine's role; boto3 also knows
    # profiles, ~/.aws and single sign-on.
    if not given & {"AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE"}:
        provider = _boto3()
    return S3Store(bucket, prefix=prefix or None, credential_provider=provider, **_options())


def _boto3() -> Any:
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise CacheError(
            "no credentials for s3:// in the environment, and boto3, which knows the other places, "
            f"{_INSTALL}."
        ) from error
    session = boto3.Session()
    if session.get_credentials() is None:
        raise CacheError(
            f"no credentials for s3:// were found ({_SETTINGS['s3']}). For a public bucket that "
            "is only read: AWS_SKIP_SIGNATURE=true"
        )
    return Boto3CredentialProvider(session)


def _google(bucket: str, prefix: str) -> Any:
    from obstore.store import GCSStore

    return GCSStore(bucket, prefix=prefix or None, **_options())


def _azure(container: str, prefix: str) -> Any:
    from obstore.store import AzureStore

    return AzureStore(container, prefix=prefix or None, **_options())


SERVICES: dict[str, Callable[[str, str], Any]] = {"s3": _s3, "gs": _google, "az": _azure}
_OWNERS = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
_SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ~/.aws, the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, the machine's",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, a SAS key or an identity",
}


def _scratch(address: str) -> Path:
    """Return this machine's folder for a cache that is elsewhere; it is not made."""
    import platformdirs

    name = hashlib.sha256(address.encode()).hexdigest()[:32]
    try:
        return Path(platformdirs.user_cache_dir("featx-elsewhere", appauthor=False), name)
    except (OSError, RuntimeError):  # no home
        return Path(tempfile.gettempdir(), f"featx-elsewhere-{name}")
