"""Proof that the head on cached embeddings and the head on the network agree."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.backbones.backbone import Backbone, find_backbone
from featx.classifier.compatibility import as_images
from featx.classifier.export import runners
from featx.classifier.export.folding import folded
from featx.datasets.dataset import Dataset
from featx.images import decoding

Network = Callable[[np.ndarray], Any]
_BATCH = 32


@dataclass(frozen=True)
class Parity:
    """How far two ways to the same probabilities are apart.

    Attributes
    ----------
    images : int
        Images compared, one by one.
    largest : float
        The largest difference of any probability of any image.
    worst : str
        The image where it is.
    same_class : int
        Images for which both ways name the same class.
    tolerance : float
        What `holds` asks for.
    against : str
        What the cached embeddings were compared with.
    seconds : float
        Wall time of the whole comparison.
    beyond : int
        Images of which a probability differs by more than the tolerance.
    """

    images: int
    largest: float
    worst: str
    same_class: int
    tolerance: float
    against: str
    seconds: float
    beyond: int = 0

    @property
    def holds(self) -> bool:
        """Whether no probability differs by more than the tolerance."""
        return self.largest <= self.tolerance

    def __str__(self) -> str:
        verdict = f"within the tolerance of {self.tolerance:g}"
        if not self.holds:
            verdict = f"MORE than the tolerance of {self.tolerance:g} for {self.beyond} of them"
        return (
            f"{self.images} images: cached embeddings and {self.against} differ by at most "
            f"{self.largest:.2g} ({self.worst}); {verdict}, the same class for {self.same_class}."
        )


def verify_parity(
    classifier: Any,
    images: Any,
    network: Network | str | os.PathLike[str] | None = None,
    *,
    tolerance: float | None = None,
) -> Parity:
    """Compare, image by image, the head on cached embeddings with one network from end to end.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.
    images : anything that `ImageClassifier.predict` takes
    network : path, callable or None
        None: the network and the head folded into one here. A path: an exported .onnx or .tflite
        file, run by its own runtime. A callable: (n, side, side, 3) uint8 to (n, n_classes), such
        as an exported Keras model that you loaded yourself.
    tolerance : float, optional
        1e-5 for the network folded here, 1e-4 for any other.

    Returns
    -------
    Parity
        `holds` is whether they agree; `largest` the largest difference.

    Raises
    ------
    ExportError
        The head cannot be folded onto a network, or no runtime for the file is installed.
    """
    dataset = as_images(images)
    X = classifier.features(dataset).X
    backbone = find_backbone(classifier.backbone)
    return compare(backbone, classifier.head_, dataset, X, network, tolerance=tolerance)


def compare(
    backbone: Backbone,
    head: Any,
    dataset: Dataset,
    X: np.ndarray,
    network: Network | str | os.PathLike[str] | None = None,
    *,
    tolerance: float | None = None,
) -> Parity:
    """Compare as `verify_parity` does, for a fitted head and the cached embeddings of a dataset."""
    began = time.perf_counter()
    against, run = _network(backbone, head, network)
    expected = head.predict_proba(X)
    sources = (item.source for item in dataset)
    found = np.concatenate([run(batch) for batch in _batches(sources, backbone)])
    apart = np.abs(found - expected).max(axis=1)
    worst = int(apart.argmax())
    if tolerance is None:
        tolerance = 1e-5 if network is None else 1e-4
    return Parity(
        len(expected),
        float(apart[worst]),
        dataset.ids[worst],
        int((found.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        tolerance,
        against,
        time.perf_counter() - began,
        int((~(apart <= tolerance)).sum()),  # so that NaN is beyond
    )


def _network(
    backbone: Backbone, head: Any, network: Network | str | os.PathLike[str] | None
) -> tuple[str, Network]:
    if network is None:
        model = folded(backbone, head)
        return "the folded network", lambda batch: np.asarray(model(batch, training=False))
    if isinstance(network, str | os.PathLike):
        return os.path.basename(os.fspath(network)), runners.runner(network)
    return "the given network", lambda batch: np.asarray(network(batch))


def _batches(sources: Iterable[Any], backbone: Backbone) -> Iterable[np.ndarray]:
    batch = []
    for source in sources:
        batch.append(decoding.load(source, backbone.side, scaled=backbone.scaled))
        if len(batch) == _BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
