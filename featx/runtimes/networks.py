"""Converted networks, kept once a machine in the user's cache folder: the next start reads one.

A kept network decides what featx answers, as a cache does. So it is sealed, and believed only if
the folder and the file belong to whoever runs this, or to root, and not everybody may write there.
It only saves time: whatever keeps it from being read or written is not an error.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.backbones.backbone import Backbone
from featx.cache import ownership
from featx.errors import CacheError
from featx.storage import reading, strict_json
from featx.storage.local import FolderStorage
from featx.versions import installed

logger = logging.getLogger(__name__)

VARIABLE = "FEATX_NETWORKS"
OFF = "none"
MARKER = "FEATX-NETWORKS.json"
FORMAT = 1
# What a stranger reads who finds the folder.
_MARK = json.dumps(
    {
        "format": FORMAT,
        "about": "Networks that featx converted, kept so that they start at once. Each file may be "
        "removed at any time; `featx cache gc` removes those that are not used.",
    }
)
_NAME = re.compile("[0-9a-f]{64}")
# All that makes a converted network what it is, besides the weights and the options. Not nncf,
# which need not be installed any more once a network is quantised.
_MAKERS = ("featx", "keras", "tensorflow", "openvino")
_HEADER_BYTES = 1 << 16

_logged: set[Path] = set()


@dataclass(frozen=True)
class Kept:
    """A network that is kept on this machine.

    Attributes
    ----------
    path : Path
    network : dict
        What of the spec decides it; empty where the file does not tell.
    versions : dict
        The packages that made it.
    bytes : int
    last_used : float
        Seconds since 1970.
    """

    path: Path
    network: dict[str, Any]
    versions: dict[str, Any]
    bytes: int
    last_used: float


def folder() -> Path | None:
    """Return where networks are kept, which may not exist: ``$FEATX_NETWORKS``, or the user's.

    None where the variable is "none", or the user has no cache folder.
    """
    named = os.environ.get(VARIABLE)
    if named == OFF:
        return None
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    try:
        # Beside the folder of the default cache: in it, a cache of version 0.1 would take it for
        # something foreign.
        found = Path(platformdirs.user_cache_dir("featx-networks", appauthor=False))
    except (OSError, RuntimeError):
        return None
    return found if found.is_absolute() else None  # "~" without a home stays as it is


def network_of(backbone: Backbone) -> dict[str, Any]:
    """Return what of a spec decides the network: all but how images are decoded and resized."""
    return {name: value for name, value in backbone.spec().items() if name != "pixels"}


def about(network: dict[str, Any]) -> dict[str, Any]:
    """Return what a converted network is found by: what decides it, and what converts it."""
    return {"format": FORMAT, "network": network, "versions": installed(_MAKERS)}


def name_of(about: dict[str, Any]) -> str:
    """Return the name of a network's file, 64 hexadecimal digits."""
    text = json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read(name: str) -> bytearray | None:
    """Return the sealed bytes of a network that is kept and may be believed, or None.

    That it was used is noted in its time.
    """
    root = existing_root()
    if root is None or not is_trusted(root / name):
        return None
    storage = FolderStorage(root)
    try:
        content = storage.read(name)
    except (OSError, CacheError) as error:
        logger.debug("the kept network %s cannot be read: %s", name, error)
        return None
    storage.touch(name)
    return content


def keep(name: str, content: Callable[[], bytes]) -> None:
    """Keep a network that is not kept, or not one to be believed, where that is possible.

    `content` makes the sealed bytes, and is called only if they can be written.
    """
    try:
        root = made_root()
        if root is None or is_trusted(root / name) or not os.access(root, os.W_OK | os.X_OK):
            return
        FolderStorage(root).replace(name, content())
    except (OSError, CacheError, RuntimeError) as error:  # RuntimeError: OpenVINO cannot write
        logger.debug("the converted network is not kept: %s", error)


def is_kept(name: str) -> bool:
    """Return whether a network is kept that may be believed."""
    root = existing_root()
    return root is not None and is_trusted(root / name)


def discard(name: str) -> None:
    """Remove a network that turned out to be damaged, so that it is made anew."""
    root = existing_root()
    if root is not None:
        with suppress(OSError, CacheError):
            FolderStorage(root).remove(name)


def existing_root() -> Path | None:
    """Return the folder of kept networks if it is there, marked, and to be believed."""
    root = folder()
    if root is None or not os.path.lexists(root):
        return None
    return root if _is_usable(root) else None


def list_kept() -> Iterator[Kept]:
    """Yield the networks that are kept, sorted by name; their seals are not verified."""
    root = existing_root()
    with suppress(OSError):
        for name in sorted(os.listdir(root) if root is not None else ()):
            if root is None or not _NAME.fullmatch(name):
                continue
            with suppress(OSError, CacheError):  # removed meanwhile, or no file
                path = root / name
                line = reading.read_line(path, _HEADER_BYTES)
                status = os.lstat(path)
                yield Kept(path, *_described(line), status.st_size, status.st_mtime)


def _described(line: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        found = strict_json.loads(line)["about"]["made"]
        return dict(found["network"]), dict(found["versions"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}, {}


def made_root() -> Path | None:
    """Return the folder of kept networks, made and marked if need be; None if it is not usable."""
    root = folder()
    if root is None:
        return None
    storage = FolderStorage(root)
    storage.make("")
    if not storage.exists(MARKER):
        # A temporary file is of a process that marks the folder now.
        if any(not name.startswith(".tmp-") for name in os.listdir(root)):
            _refuse(root, f"holds other files and no {MARKER}")
            return None
        storage.publish(MARKER, _MARK.encode() + b"\n")
    return root if _is_usable(root) else None


def _is_usable(root: Path) -> bool:
    try:
        why = (
            ownership.doubt(os.lstat(root))
            or ownership.doubt(os.stat(root))  # the folder may be a link, which its user made
            or ownership.doubt(os.lstat(root / MARKER))
        )
        if why is None:
            mark = strict_json.loads(bytes(FolderStorage(root).read(MARKER)))
            if not isinstance(mark, dict) or mark.get("format") != FORMAT:
                why = f"is marked {mark!r}, which this version does not know"
    except FileNotFoundError:
        return False  # it is not marked yet, or not featx's: who wants to write there is told
    except (OSError, CacheError, ValueError, RecursionError) as error:
        logger.debug("kept networks are not used: %s", error)
        return False
    if why is not None:
        _refuse(root, why)
    return why is None


def _refuse(root: Path, why: str) -> None:
    _log_once(root, f"{root} {why}, and no network is kept there ({VARIABLE} names another folder)")


def is_trusted(path: Path) -> bool:
    """Return whether a file is there that only the user, or root, may have written."""
    try:
        why = ownership.doubt(os.lstat(path))
    except OSError:
        return False
    if why is not None:
        _log_once(path, f"the kept network {path} {why}, and is not used")
    return why is None


def _log_once(path: Path, why: str) -> None:
    if path not in _logged:
        _logged.add(path)
        logger.warning("%s: networks are converted anew", why)
