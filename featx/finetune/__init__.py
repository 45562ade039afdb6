"""The usual way, done well: images through the frozen network every epoch, a head on top."""

from __future__ import annotations

from featx.finetune.batches import UnusableImagesError
from featx.finetune.model import FineTuned

__all__ = ["FineTuned", "UnusableImagesError"]
