"""The end-to-end baseline: images through the frozen network every epoch, a head on top."""

from __future__ import annotations

from featx.finetune.model import FineTuned

__all__ = ["FineTuned"]
