"""Which items hold the same content, byte for byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from featx.datasets.items import Item
from featx.errors import ImageError
from featx.images import decoding
from featx.images.content_hash import of_content


def content(item: Item) -> bytes | None:
    """Return the sha256 of what an image holds; None where it cannot be read any more."""
    try:
        return of_content(decoding.content_of(item.source))
    except ImageError:
        return None


def contents(items: Sequence[Item]) -> str | None:
    """Return one sha256, as hex, of what these images hold, in their order.

    None where one of them cannot be read any more, for nothing is known of it then.
    """
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        found = list(pool.map(content, items))
    known = [one for one in found if one is not None]
    return hashlib.sha256(b"".join(known)).hexdigest() if len(known) == len(found) else None
