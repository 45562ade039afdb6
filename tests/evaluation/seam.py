"""A stand-in for `extract` and `FineTuned`, and images whose class their mean colour shows."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from featx.backbones.backbone import Backbone
from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.dense import Recipe
from featx.errors import Failure
from featx.evaluation.protocol.splits import EmbeddedImages
from featx.features import ExtractionReport, Features

TINY = Backbone("mobilenet_v2", weights=None, image_size=32)
QUICK: dict[str, Any] = {
    "backbones": [TINY],
    "baseline": False,
    "evidence": False,
    "progress": False,
}
TRAIN = {"a": 12, "b": 12, "c": 12}
TEST = {"a": 6, "b": 6, "c": 6}


def images(counts: dict[str, int], seed: int = 0, bad: tuple[int, ...] = ()) -> Dataset:
    """Return images of which the mean colour tells the class, and what `bad` numbers are no."""
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    for position, (label, n) in enumerate(sorted(counts.items())):
        for _ in range(n):
            pixels = rng.integers(0, 90, (32, 32, 3), dtype=np.uint8)
            pixels[..., position % 3] += np.uint8(90 + 25 * (position // 3))
            source: Any = b"no image" if len(items) in bad else pixels
            items.append(Item(f"{label}/{len(items):03d}", label, source))
    return Dataset(items, notes=("1 hidden file skipped",))


def embedded(dataset: Dataset, X: np.ndarray) -> EmbeddedImages:
    """Return images with these features."""
    return EmbeddedImages(dataset, Features(X, dataset.labels, list(dataset.ids)))


class Seam:
    """Stands for `extract` and `FineTuned`: counts what they are asked, and is quick."""

    def __init__(self) -> None:
        self.extracted: list[int] = []
        self.fitted: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []
        self.cached = 0
        self.start = 0.0

    def extract(self, dataset: Dataset, backbone: Backbone, **options: Any) -> Features:
        self.extracted.append(len(dataset))
        self.options = options
        good = [item for item in dataset if isinstance(item.source, np.ndarray)]
        failures = [
            Failure(item.id, "NotAnImageError", "is no image")
            for item in dataset
            if not isinstance(item.source, np.ndarray)
        ]
        X = np.array([i.source.mean(axis=(0, 1)) for i in good], dtype=np.float32)
        y = np.array([item.label for item in good], dtype=object)
        cached = min(self.cached, len(good))
        return Features(
            X,
            None if any(label is None for label in y) else y,
            [item.id for item in good],
            failures=failures,
            notes=(*dataset.notes, "1 newly read image is tiny"),
            report=ExtractionReport(
                len(dataset),
                len(good) - cached,
                cached,
                0.5,
                0.5,
                "fake",
                "cache",
                start_seconds=self.start,
            ),
        )

    def fine_tuned(
        self, backbone: Any, recipe: Recipe, *, random_state: int, progress: bool
    ) -> Any:
        return _FakeBaseline(self, recipe, random_state)


class _FakeBaseline:
    def __init__(self, seam: Seam, recipe: Recipe, seed: int) -> None:
        self.seam, self.recipe, self.seed = seam, recipe, seed

    def fit(self, dataset: Dataset, callbacks: Sequence[Any] = ()) -> None:
        labels = dataset.labels
        assert labels is not None
        self.classes_ = np.unique(labels.astype(str))
        self.trained = tuple(dataset.ids)
        self.n_epochs_ = self.recipe.epochs
        # A head on a feature map, which is not cached: no curve on the tested images is drawn.
        on_map = SimpleNamespace(name="head_pooling", input=SimpleNamespace(shape=(None, 7, 7, 8)))
        self.model_ = SimpleNamespace(layers=[on_map])
        self.history_ = {"loss": [1.0] * self.n_epochs_, "seconds": [2.0] * self.n_epochs_}

    def predict_proba(self, dataset: Dataset) -> np.ndarray:
        self.seam.fitted.append((self.seed, self.trained, tuple(dataset.ids)))
        return np.full((len(dataset), len(self.classes_)), 1 / len(self.classes_))
