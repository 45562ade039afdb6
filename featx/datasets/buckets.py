"""Images in a bucket of an object store, listed as a folder is and read one by one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from featx.datasets.tree import Tree, TreeFolder
from featx.errors import DatasetError, ImageReadError, ImageTooLargeError
from featx.images.elsewhere import Elsewhere, Version
from featx.storage import services

SCHEMES = tuple(services.SERVICES)


@dataclass(frozen=True, eq=False, slots=True)
class BucketImage(Elsewhere):
    """An image in a bucket.

    Attributes
    ----------
    address : str
        Such as ``s3://bucket/photos/cat/1.jpg``.
    client : obstore.store.ObjectStore
    path : str
        Below the address that was listed.
    size : int
        Bytes, as it was listed.
    tag : str
        Its ETag, as it was listed; empty where the store gives none.
    """

    address: str
    client: Any
    path: str
    size: int
    tag: str

    @property
    def name(self) -> str:  # type: ignore[override]
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def waits(self) -> bool:  # type: ignore[override]
        """True."""
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # Where it is, and no client: another process takes the credentials of its own machine.
        # The part that all have in common is one object, which a list of them holds once.
        below = sys.intern(self.address.removesuffix(f"/{self.path}"))
        return _image_at, (below, self.path, self.size, self.tag)

    def listed_version(self) -> Version | None:
        """Return size and ETag; None where the ETag is missing or weak."""
        return Version(self.size, self.tag) if self.tag and self.tag[:2] != "W/" else None

    def read(self, max_bytes: int) -> tuple[bytes, Version | None]:
        """Fetch it as it is now, which may be other than it was listed."""
        import obstore
        from obstore.exceptions import BaseError

        from featx.storage.objects import tag_of

        if self.size > max_bytes:
            raise ImageTooLargeError(
                f"the object has {self.size:,} bytes; the limit is {max_bytes:,}. "
                "Save a smaller copy"
            )
        try:
            answer = obstore.get(self.client, self.path)
            if answer.meta["size"] > max_bytes:
                raise ImageTooLargeError(
                    f"the object has {answer.meta['size']:,} bytes; the limit is {max_bytes:,}. "
                    "Save a smaller copy"
                )
            content = bytes(answer.bytes())
        except (BaseError, OSError) as error:
            # Its text may hold what the environment says; its kind says enough.
            raise ImageReadError(f"cannot be fetched: {_kind(error)}") from None
        tag = tag_of(answer.meta) or ""
        known = tag and tag[:2] != "W/"
        return content, Version(len(content), tag) if known else None


def _image_at(below: str, path: str, size: int, tag: str) -> BucketImage:
    return BucketImage(f"{below}/{path}", _client_at(below), path, size, tag)


@lru_cache(maxsize=16)
def _client_at(address: str) -> Any:
    client, _ = services.client_at(address, DatasetError)
    return client


def folder_at(address: str) -> TreeFolder:
    """Return the images below an address such as ``s3://bucket/photos`` as a folder.

    Names alone are listed, so that a name without the suffix of an image is not one. Credentials
    come from where the service's own programs have them (`featx.storage.services`).

    Raises
    ------
    DatasetError
        It cannot be listed, or the package for it is missing.
    """
    client, address = services.client_at(address, DatasetError)
    import obstore
    from obstore.exceptions import BaseError

    from featx.storage.objects import tag_of

    objects: dict[str, Any] = {}
    try:
        for chunk in obstore.list(client, chunk_size=1000):
            objects.update((one["path"], one) for one in chunk)
    except (BaseError, OSError, ValueError) as error:
        raise DatasetError(
            f"{address} cannot be listed: {_kind(error)}. Is the name right, and do your "
            "credentials reach it? For a public bucket of S3: AWS_SKIP_SIGNATURE=true"
        ) from None
    if not objects:
        raise DatasetError(f"there is nothing below {address}.")

    def image(path: str) -> Elsewhere:
        one = objects[path]
        return BucketImage(f"{address}/{path}", client, path, one["size"], tag_of(one) or "")

    named = ((path, "file") for path in objects)
    return TreeFolder(Tree(address, named, image, lambda path: b"", location=address))


def _kind(error: Exception) -> str:
    return f"the store answers {type(error).__name__}"
