"""The versions of installed packages, read without importing (or starting) any of them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata


def installed(names: Iterable[str]) -> dict[str, str]:
    """Return name -> version of those packages that are installed, in the order of `names`.

    >>> list(installed(["numpy", "no-such-package"]))
    ['numpy']
    """
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
