"""The usual way, done well: pictures through the frozen network every epoch, a head on top."""

from __future__ import annotations

from featx.finetune.model import FineTuned
from featx.finetune.pictures import UnusableImagesError

__all__ = ["FineTuned", "UnusableImagesError"]
