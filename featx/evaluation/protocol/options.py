"""The options of a comparison, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the command line reads the defaults, and must start without the heads
    from featx.backbones.backbone import Backbone
    from featx.dense import Recipe


@dataclass(frozen=True, eq=False)
class Options:
    """What `featx.benchmark` takes beside the images, as the user gave it.

    The defaults of `featx.benchmark`, of `featx benchmark` and of the command that a report prints
    are those of this class. What each option means is said in `featx.benchmark`.
    """

    backbones: Sequence[str | Backbone] = ("resnet50",)
    precisions: Sequence[str] | None = None
    heads: Sequence[Any] | Mapping[str, Any] | None = None
    baseline: bool | Recipe = True
    epochs: int = 8
    seeds: int | Sequence[int] = 1
    folds: int = 5
    groups: Any = None
    class_weight: Literal["balanced"] | Mapping[Any, float] | None = None
    leaks: bool = True
    evidence: bool = True
    cache: str | Path | None = None
    batch_size: int | None = None
    runtime: Any = "auto"
    on_error: Literal["raise", "skip"] = "raise"
    progress: bool = True
    out: str | Path | None = None
    images: bool = True
    path_column: str = "path"
    label_column: str | Sequence[str] = "label"
    image_folder: str | Path | None = None
    suffix: str = ""
    follow_links: bool = False

    @property
    def extraction(self) -> dict[str, Any]:
        """What goes to `featx.extract` beside images and backbone."""
        names = ("cache", "batch_size", "runtime", "on_error", "progress")
        return {name: getattr(self, name) for name in names}

    @property
    def table(self) -> dict[str, Any]:
        """What goes to `as_dataset` beside the images."""
        names = (
            "path_column",
            "label_column",
            "image_folder",
            "suffix",
            "follow_links",
            "progress",
        )
        return {name: getattr(self, name) for name in names}
