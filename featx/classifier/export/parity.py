"""Proof that the head on cached embeddings and the head on the network agree.

Like is compared with like: embeddings that were computed in bfloat16, float16 or int8 with the
network in that precision. What answering in float32 changes, as an exported file does, is a figure
of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featx import runtimes
from featx.backbones.backbone import Backbone, find_backbone
from featx.classifier.compatibility import as_images
from featx.classifier.export import runners
from featx.classifier.export.folding import folded, pixels_to_embeddings
from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.errors import ExportError, FeatxError
from featx.formatting import capitalized
from featx.images import decoding

Network = Callable[[np.ndarray], Any]
_BATCH = 32


# What `holds` asks of any probability, by precision. float32: sums in another order. The others are
# those up to which two embeddings of one image count as the same (extraction.probe.TOLERANCE), and
# far above what one runtime gives twice, which is no difference at all.
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2, "float16": 5e-3, "int8": 5e-2}
# Of a file that another runtime runs.
_OF_FILES = 1e-4
# Stored images that an export is measured on: some seconds.
_SHOWN = 64


@dataclass(frozen=True)
class Change:
    """What it changes to answer in float32, for a head trained on embeddings of lower precision.

    Attributes
    ----------
    precision : str
        Of the embeddings that the head was trained on.
    images : int
    other_class : int
        Images for which another class is named.
    largest : float
        The largest difference of any probability of any image.
    worst : str
        The image where it is.
    """

    precision: str
    images: int
    other_class: int
    largest: float
    worst: str

    @property
    def share(self) -> float:
        """The share of images for which another class is named, 0 to 1."""
        return self.other_class / self.images

    def __str__(self) -> str:
        return (
            f"answering in float32 in place of {self.precision}, as an exported file does, names "
            f"another class for {self.other_class} of {self.images} images ({self.share:.1%}); the "
            f"largest difference of a probability is {self.largest:.2g} ({self.worst})"
        )


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
    precision : str
        In which both ways compute.
    change : Change or None
        What answering in float32 changes; None where the head was trained on float32.
    """

    images: int
    largest: float
    worst: str
    same_class: int
    tolerance: float
    against: str
    seconds: float
    beyond: int = 0
    precision: str = "float32"
    change: Change | None = None

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
            f"{'' if self.change is None else f' {capitalized(str(self.change))}.'}"
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
        None: the whole network, computed here in the precision of the embeddings; in float32 that
        is the network and the head folded into one. A path: an exported .onnx or .tflite
        file, run by its own runtime. A callable: (n, side, side, 3) uint8 to (n, n_classes), such
        as an exported Keras model that you loaded yourself. Files and callables answer in float32,
        and are compared with the head on float32 embeddings.
    tolerance : float, optional
        By default that of the precision in `TOLERANCE`, 1e-5 for float32; 1e-4 for a network that
        is given.

    Returns
    -------
    Parity
        `holds` is whether they agree; `largest` the largest difference; `change`, for a head
        trained on lower precision, what answering in float32 changes.

    Raises
    ------
    ExportError
        The head cannot be folded onto a network, or no runtime for the file is installed.
    """
    # Read twice below: by the extraction, and as pixels. A stream may not come again the same.
    dataset = Dataset(as_images(images).items)
    X = classifier.features(dataset).X
    running = {name: getattr(classifier, name) for name in ("cache", "batch_size", "runtime")}
    return compare(
        find_backbone(classifier.backbone),
        classifier.head_,
        dataset,
        X,
        network,
        tolerance=tolerance,
        running=running,
    )


def compare(
    backbone: Backbone,
    head: Any,
    dataset: Dataset,
    X: np.ndarray,
    network: Network | str | os.PathLike[str] | None = None,
    *,
    tolerance: float | None = None,
    running: Mapping[str, Any] | None = None,
) -> Parity:
    """Compare as `verify_parity` does, for a fitted head and the cached embeddings of a dataset.

    Parameters
    ----------
    running : mapping, optional
        `cache`, `batch_size` and `runtime`, as the embeddings were extracted with: where they are
        of lower precision, the same runtime computes them again.
    """
    began = time.perf_counter()
    lower = backbone.precision != "float32"
    batches = _Pixels(dataset, backbone)
    change = None
    if network is None and not lower:
        against, model = "the folded network", folded(backbone, head)
    if not hasattr(head, "predict_proba"):
        raise ExportError(f"{type(head).__name__} gives no probabilities that could be compared.")
    cached = np.asarray(head.predict_proba(X))
    if network is not None:
        against, run = _given(network)
        found = batches.through(run)
        # In float32, as the network that is given.
        expected = _float32(backbone, head, batches) if lower else cached
        precision, allowed = "float32", _OF_FILES
        change = _change(backbone, cached, found, dataset) if lower else None
    elif lower:
        precision, allowed = backbone.precision, TOLERANCE[backbone.precision]
        against = f"the whole network in {precision}"
        expected, found = cached, head.predict_proba(batches.embedded(running or {}))
        change = _change(backbone, cached, _float32(backbone, head, batches), dataset)
    else:
        precision, allowed = "float32", TOLERANCE["float32"]
        expected = cached
        found = batches.through(lambda batch: np.asarray(model(batch, training=False)))
    tolerance = allowed if tolerance is None else tolerance
    apart = np.abs(found - expected).max(axis=1)
    worst = int(apart.argmax())
    return Parity(
        len(expected),
        float(apart[worst]),
        dataset.ids[worst],
        int((found.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        tolerance,
        against,
        time.perf_counter() - began,
        int((~(apart <= tolerance)).sum()),  # so that NaN is beyond
        precision,
        change,
    )


def change_in_float32(
    backbone: Backbone, head: Any, dataset: Dataset, X: np.ndarray
) -> Change | None:
    """Return what answering in float32 changes; None for a head trained on float32.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
        The embeddings of the images in the precision of the backbone.
    """
    if backbone.precision == "float32":
        return None
    answers = _float32(backbone, head, _Pixels(dataset, backbone))
    return _change(backbone, np.asarray(head.predict_proba(X)), answers, dataset)


def exported_in_float32(classifier: Any) -> str:
    """Return what a classifier of lower precision loses in an exported file, in a sentence.

    It is measured on the training images that are stored with the model, 64 of them at most.
    """
    backbone, examples = find_backbone(classifier.backbone), classifier.examples_
    told = (
        f"the head was trained on embeddings in {backbone.precision}, and the exported file "
        "answers in float32"
    )
    there = [n for n, source in enumerate(examples.images) if source is not None]
    chosen = np.linspace(0, len(there) - 1, min(_SHOWN, len(there))).round().astype(int)
    # Not by their ids, whose suffixes are those of the files that they are copies of.
    items = [Item(f"example {there[i]}", None, examples.images[there[i]]) for i in chosen]
    ask = "featx.verify_parity(model, images, file) measures it on images of yours"
    if not items:
        return f"{told}; the model holds no images to measure what that changes: {ask}."
    try:
        features = classifier.features(Dataset(items), on_error="skip")
        kept = set(features.ids)
        dataset = Dataset([item for item in items if item.id in kept])
        change = change_in_float32(backbone, classifier.head_, dataset, features.X)
    except FeatxError as error:
        return f"{told}; what that changes was not measured ({error}): {ask}."
    return f"{told}: on stored training images, {change}; {ask}."


def _change(
    backbone: Backbone, cached: np.ndarray, in_float32: np.ndarray, dataset: Dataset
) -> Change:
    apart = np.abs(in_float32 - cached).max(axis=1)
    worst = int(apart.argmax())
    other = int((in_float32.argmax(axis=1) != cached.argmax(axis=1)).sum())
    return Change(backbone.precision, len(cached), other, float(apart[worst]), dataset.ids[worst])


def _float32(backbone: Backbone, head: Any, batches: _Pixels) -> np.ndarray:
    """Return the probabilities of the head on embeddings in float32; it need not be foldable."""
    model = pixels_to_embeddings(replace(backbone, precision="float32"))
    embeddings = batches.through(lambda batch: np.asarray(model(batch, training=False)))
    return np.asarray(head.predict_proba(embeddings))


def _given(network: Network | str | os.PathLike[str]) -> tuple[str, Network]:
    if isinstance(network, str | os.PathLike):
        return os.path.basename(os.fspath(network)), runners.runner(network)
    return "the given network", lambda batch: np.asarray(network(batch))


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Images as a network takes them, decoded anew for each that they go through."""

    dataset: Dataset
    backbone: Backbone

    def through(self, run: Network) -> np.ndarray:
        """Return what a network gives for all of them."""
        return np.concatenate([run(batch) for batch in self._batches(_BATCH)])

    def embedded(self, running: Mapping[str, Any]) -> np.ndarray:
        """Return their embeddings, computed now by the runtime that computes the cached ones."""
        runtime = running.get("runtime", "auto")
        if isinstance(runtime, str):
            runtime = runtimes.start(self.backbone, running.get("batch_size"), runtime)
        size = runtime.batch_size
        parts = []
        for batch in self._batches(size):
            full = np.zeros((size, *batch.shape[1:]), np.uint8)
            full[: len(batch)] = batch
            parts.append(np.array(runtime.run(full))[: len(batch)])
        return np.concatenate(parts)

    def _batches(self, size: int) -> Iterator[np.ndarray]:
        batch = []
        for item in self.dataset:
            batch.append(
                decoding.load(item.source, self.backbone.side, how=self.backbone.preparation)
            )
            if len(batch) == size:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)
