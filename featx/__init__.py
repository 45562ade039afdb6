"""featx: image classifiers on the cached embeddings of a frozen network.

The public names load on first use (PEP 562), so that `import featx` starts neither Keras nor
TensorFlow, and a command that only reads the cache never does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Now: a fork is noticed only by who was there before it.
from featx import forking as _forking  # noqa: F401

if TYPE_CHECKING:
    from featx import dense, errors, heads
    from featx.backbones.architectures import BACKBONES
    from featx.backbones.backbone import Backbone
    from featx.classifier.classifier import ImageClassifier, load, load_unsafe_pickle
    from featx.classifier.export.parity import verify_parity
    from featx.datasets.dataset import Dataset
    from featx.dense import Recipe
    from featx.evaluation.comparison import benchmark
    from featx.evaluation.saved_model import evaluate
    from featx.extraction.api import extract
    from featx.extraction.transformer import FeatureExtractor
    from featx.features import Features
    from featx.finetune import FineTuned
    from featx.heads import HEADS
    from featx.runtimes import Runtime

_HOME = {
    "BACKBONES": "backbones.architectures",
    "Backbone": "backbones.backbone",
    "Dataset": "datasets.dataset",
    "FeatureExtractor": "extraction.transformer",
    "Features": "features",
    "FineTuned": "finetune",
    "HEADS": "heads",
    "ImageClassifier": "classifier.classifier",
    "Recipe": "dense",
    "Runtime": "runtimes",
    "benchmark": "evaluation.comparison",
    "evaluate": "evaluation.saved_model",
    "extract": "extraction.api",
    "load": "classifier.classifier",
    "load_unsafe_pickle": "classifier.classifier",
    "verify_parity": "classifier.export.parity",
}
_MODULES = ("dense", "errors", "heads")

__version__ = "0.2.0"
__all__ = [
    "BACKBONES",
    "HEADS",
    "Backbone",
    "Dataset",
    "FeatureExtractor",
    "Features",
    "FineTuned",
    "ImageClassifier",
    "Recipe",
    "Runtime",
    "benchmark",
    "dense",
    "errors",
    "evaluate",
    "extract",
    "heads",
    "load",
    "load_unsafe_pickle",
    "verify_parity",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"featx.{name}")
    if name in _HOME:
        return getattr(import_module(f"featx.{_HOME[name]}"), name)
    raise AttributeError(f"module 'featx' has no attribute {name!r}. Public: {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
