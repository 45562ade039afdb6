"""What a path or an address that is given as a data set leads to, where it is not a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from featx.datasets import archives, buckets
from featx.datasets.archives import Archive, FileContent
from featx.datasets.tree import TreeFolder
from featx.errors import DatasetError
from featx.formatting import did_you_mean
from featx.images.elsewhere import Elsewhere

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# The numbered shards of a WebDataset: train-{000000..000012}.tar.
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SHARDS = 100_000
_WEB = ("https", "http")


def scheme_of(source: object) -> str | None:
    """Return the scheme of an address, such as "https", in lower case; None for what is none.

    >>> scheme_of("S3://bucket/photos"), scheme_of("C:/photos")
    ('s3', None)
    """
    found = _SCHEME.match(source) if isinstance(source, str) else None
    return found[1].lower() if found else None


def folders_at(
    source: str | os.PathLike[str], *, progress: bool = False
) -> list[TreeFolder] | None:
    """Return the folders that an archive or several, or an address, stand for.

    Parameters
    ----------
    source : path or address
        An archive, of this machine or at an address (``https://host/photos.zip``), a folder in one
        (``photos.zip/train``), or a pattern of several (``train-{000..009}.tar``,
        ``train-*.tar``).
    progress : bool
        Whether a progress bar is shown while something is unpacked or fetched.

    Returns
    -------
    list of TreeFolder or None
        None where it is none of these, such as a folder.
    """
    text = os.fspath(source)
    if (scheme := scheme_of(text)) is not None:
        return [_at_address(text, scheme, progress)]
    shards = _shards(text)
    if shards is not None:
        return [folder for one in shards for folder in _archive(one, progress) or ()]
    return _archive(text, progress)


def is_one_image(source: str) -> bool:
    """Return whether a path or an address leads to a single file that is not an archive."""
    if scheme_of(source) in _WEB:
        return _in_archive(source) is None
    return Path(source).is_file() and not archives.is_archive(source)


def image_at(address: str) -> Elsewhere:
    """Return the image at an address that stood in a table or a list; nothing is asked yet.

    Raises
    ------
    DatasetError
        Its scheme is not followed.
    """
    _parsed(address)
    if scheme_of(address) not in _WEB:
        raise _not_followed(address)
    from featx.datasets import web  # its clients take longer to import than a folder to list

    return web.WebImage(address)


def _parsed(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise DatasetError(f"{address!r} is not an address: {error}.") from error


def _not_followed(address: str) -> DatasetError:
    from featx.datasets import web

    file = " Give a file of this machine as its path." if scheme_of(address) == "file" else ""
    return DatasetError(
        f"the address {web.public(address)} is not followed: featx reads images at "
        f"{' and '.join(_WEB)}, and folders of them at {', '.join(buckets.SCHEMES)}.{file}"
    )


def _at_address(address: str, scheme: str, progress: bool) -> TreeFolder:
    from featx.datasets import web

    _parsed(address)
    if scheme in buckets.SCHEMES:
        return buckets.folder_at(address)
    if scheme not in _WEB:
        raise _not_followed(address)
    found = _in_archive(address)
    if found is None:
        raise DatasetError(
            f"{web.public(address)} is the address of a single file or a page. Expected that of an "
            f"archive ({', '.join(archives.SUFFIXES)}); addresses of images stand in a list, or in "
            "the column of paths of a table."
        )
    url, inside = found
    shown = web.public(url)
    content = web.WebContent(url, progress)
    return within(Archive(shown, content, shown, progress=progress).folder(), inside)


def _in_archive(address: str) -> tuple[str, str] | None:
    """Return the address of the archive that an address leads to or into, and the path in it."""
    parts = _parsed(address)
    names = parts.path.split("/")
    for number, name in enumerate(names):
        if archives.is_archive(name):
            path = "/".join(names[: number + 1])
            inside = unquote("/".join(names[number + 1 :])).strip("/")
            return urlunsplit(parts._replace(path=path, fragment="")), inside
    return None


def _archive(text: str, progress: bool) -> list[TreeFolder] | None:
    found = _split(text)
    if found is None:
        return None
    path, inside = found
    try:
        content = FileContent(path)
    except OSError as error:
        raise DatasetError(f"the archive {path} cannot be read: {error.strerror}.") from error
    root = Archive(os.fspath(path), content, progress=progress).folder()
    return [within(root, inside)]


def within(root: TreeFolder, inside: str) -> TreeFolder:
    """Return a folder of an archive or a bucket by its path; "" is the root.

    Raises
    ------
    DatasetError
        There is none.
    """
    if inside in root.tree:
        return TreeFolder(root.tree, inside)
    names = sorted(entry.name for entry in root.entries() if entry.is_dir())
    there = ", ".join(map(repr, names[:10])) or "no folders"
    raise DatasetError(
        f"there is no folder {inside!r} in {root}; it holds {there}.{did_you_mean(inside, names)}"
    )


def _split(text: str) -> tuple[Path, str] | None:
    """Return the archive that a path leads to or into, and the path in it."""
    path = Path(text)
    for one in (path, *path.parents):
        if archives.is_archive(one.name) and one.is_file():
            return one, "" if one == path else path.relative_to(one).as_posix()
    return None


def _shards(text: str) -> Sequence[str] | None:
    """Return the archives that a pattern stands for; None where it is not a pattern of archives."""
    if not archives.is_archive(text) or os.path.exists(text):
        return None
    if found := _RANGE.search(text):
        first, last = found[1], found[2]
        numbers = range(int(first), int(last) + 1)
        if len(numbers) > _MAX_SHARDS:
            raise DatasetError(f"{text} stands for {len(numbers):,} archives.")
        names = [text[: found.start()] + str(n).zfill(len(first)) for n in numbers]
        names = [name + text[found.end() :] for name in names]
        missing = [name for name in names if not os.path.isfile(name)]
        if missing:
            raise DatasetError(
                f"{text} stands for {len(names):,} archives, of which {len(missing):,} do not "
                f"exist (such as {missing[0]})."
            )
        return names
    return sorted(glob(text)) or None if has_magic(text) else None
