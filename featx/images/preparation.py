"""How an encoded image becomes the pixels that a network takes: a part of every cache key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

DECODINGS = ("auto", "full", "scaled")
GEOMETRIES = ("squash", "crop")
FILTERS = ("bilinear", "bicubic")

# What the pixels depend on besides the bytes, as version 0.1 knew it.
_POLICY = {
    "decoder": "pillow",
    "orientation": "exif",
    "alpha": "dropped",
    "grey16": "scaled by 1/257",
    "frame": "first",
    "resize": "pillow bilinear antialiased",
}
# What other values put in the place of these, or add to them.
_SCALED = "pillow; JPEG at the smallest of 8/8, 4/8, 2/8, 1/8 that is twice the side or more"
_CROP = "shorter edge to the side, centre kept"


@dataclass(frozen=True)
class Preparation:
    """How an image is decoded and resized to (side, side, 3).

    Parameters
    ----------
    decode : {"full", "auto", "scaled"}, default="full"
        "auto" reduces large JPEGs while they are decoded, by the rule of ``reduction``; "scaled" is
        what version 0.1 had for that.
    resize : {"squash", "crop"}, default="squash"
        "squash" resizes both edges to the side, "crop" the shorter one, and keeps the centre.
    filter : {"bilinear", "bicubic"}, default="bilinear"
        Pillow's, antialiased.
    """

    decode: str = "full"
    resize: str = "squash"
    filter: str = "bilinear"

    def policy(self) -> dict[str, str]:
        """Return what the pixels depend on besides the bytes; a part of every cache key.

        A value that version 0.1 knew as the only one adds nothing; nor does "auto", which is a part
        of the address of those images that it changes (``reduction``).
        """
        found = {**_POLICY, "resize": f"pillow {self.filter} antialiased"}
        if self.decode == "scaled":
            found["decoder"] = _SCALED
        if self.resize == "crop":
            found["geometry"] = _CROP
        return found

    @classmethod
    def of_policy(cls, policy: object) -> Preparation | None:
        """Return the preparation that has a policy, or None where this version knows none.

        "full" and "auto" have the same: it returns "full".
        """
        if not isinstance(policy, Mapping):
            return None
        every = (cls(*values) for values in product(("full", "scaled"), GEOMETRIES, FILTERS))
        return next((one for one in every if one.policy() == policy), None)


AS_EVER = Preparation()
"""Decoded in full, squashed, bilinear: what version 0.1 did unless it was asked otherwise."""
