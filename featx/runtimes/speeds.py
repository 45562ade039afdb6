"""How fast networks were on this machine: the last measured images/s of each, kept for choosing.

The file lies among the converted networks, under the same rule of ownership. It decides nothing:
whatever keeps it from being read or written is not an error, and of two processes that write at
once one entry may be lost.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from featx.backbones.architectures import BACKBONES
from featx.backbones.backbone import Backbone
from featx.errors import CacheError
from featx.runtimes import networks
from featx.storage import reading, strict_json
from featx.storage.local import FolderStorage

logger = logging.getLogger(__name__)

FILE = "speeds.json"
FORMAT = 1
ENOUGH = 256
"""Images below which a run says little of the speed.

Measured with mobilenet_v2 on two busy cores: 256 images give 56 to 65 images/s and 512 give 57 to
58, but 64 give 20 to 39 and 32 give 9 to 11: threads and kernels are still starting.
"""
# The networks at some sides, precisions and runtimes each; the oldest make room.
_MOST = 1000
_BYTES = 1 << 20


@dataclass(frozen=True)
class Speed:
    """What one network last reached on this machine, decoding of the images included.

    Attributes
    ----------
    backbone : str
    image_size : int
        Pixels along each edge.
    precision, runtime : str
    images_per_second : float
        Once the network had started.
    images : int
        That were computed.
    measured : float
        Seconds since 1970.
    """

    backbone: str
    image_size: int
    precision: str
    runtime: str
    images_per_second: float
    images: int
    measured: float

    @property
    def of(self) -> tuple[str, int, str, str]:
        """What it is the speed of."""
        return self.backbone, self.image_size, self.precision, self.runtime


def note_speed(backbone: Backbone, runtime: str, images: int, seconds: float) -> None:
    """Keep what a network of the table reached, where that is possible.

    Parameters
    ----------
    backbone : Backbone
        One of the user's own is not noted, nor one that is cut at a layer: other networks have
        that name elsewhere.
    runtime : str
    images : int
        That were read, decoded and computed; fewer than `ENOUGH` are not noted.
    seconds : float
        That this took once the network had started.
    """
    if backbone.name not in BACKBONES or backbone.layer is not None:
        return
    if images < ENOUGH or seconds <= 0:
        return
    found = Speed(
        backbone.name, backbone.side, backbone.precision, runtime,
        round(images / seconds, 1), images, round(time.time()),
    )  # fmt: skip
    try:
        root = networks.made_root()
        if root is not None:
            kept = [one for one in known_speeds() if one.of != found.of]
            speeds = [asdict(one) for one in (*kept, found)][-_MOST:]
            text = json.dumps({"format": FORMAT, "speeds": speeds})
            FolderStorage(root).replace(FILE, text.encode() + b"\n")
    except (OSError, CacheError) as error:
        logger.debug("the images/s of %s are not kept: %s", backbone.name, error)


def known_speeds() -> list[Speed]:
    """Return what was measured on this machine, the oldest first; what is damaged is left out."""
    root = networks.existing_root()
    if root is None or not networks.is_trusted(root / FILE):
        return []
    try:
        found = strict_json.loads(bytes(reading.read(root / FILE, _BYTES)))
        if found["format"] != FORMAT:
            return []
        return [one for given in found["speeds"] if (one := _speed(given)) is not None]
    except (OSError, CacheError, ValueError, KeyError, TypeError, RecursionError) as error:
        logger.debug("the images/s kept in %s cannot be read: %s", root / FILE, error)
        return []


_TYPES: dict[str, type | tuple[type, ...]] = {
    "backbone": str,
    "image_size": int,
    "precision": str,
    "runtime": str,
    "images_per_second": (int, float),
    "images": int,
    "measured": (int, float),
}


def _speed(given: object) -> Speed | None:
    if not isinstance(given, dict):
        return None
    values: dict[str, Any] = {name: given.get(name) for name in _TYPES}
    if not all(isinstance(value, _TYPES[name]) for name, value in values.items()):
        return None
    return Speed(**values)
