"""ImageClassifier: images to labels, by a frozen network and a head on its embeddings."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from featx import forking, heads
from featx.backbones.backbone import Backbone, find_backbone
from featx.classifier.compatibility import (
    as_images,
    check_own_features,
    check_same_features,
    check_same_network,
    spec_of,
)
from featx.classifier.examples import CopiedInPassing, choose, sources_of
from featx.classifier.export import formats, parity
from featx.classifier.file import model
from featx.classifier.file.model import read
from featx.classifier.training_digests import compact
from featx.datasets.dataset import Dataset
from featx.datasets.groups import groups_of
from featx.errors import DatasetError, ModelFormatError, OptionError
from featx.extraction.api import extract
from featx.features import Features
from featx.formatting import counted
from featx.heads import HEADS, fitting
from featx.labels import (
    as_labels,
    as_targets,
    class_order,
    label_array,
    labels_of,
    positions_in,
)

logger = logging.getLogger(__name__)


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """Classify images: a frozen network computes an embedding, and a head classifies it.

    Parameters
    ----------
    backbone : str or Backbone
        A name of `featx.BACKBONES`, or a `Backbone` with its options.
    head : str or scikit-learn classifier
        A name of `featx.HEADS`, or a classifier of embeddings; it is cloned, never changed.
    cache : path, optional
        Where embeddings are cached; see `featx.extract`.
    batch_size : int, optional
        Images that go through the network together.
    runtime : str or Runtime
        What runs the network.
    on_error : {"raise", "skip"}
        Whether training goes on without images that cannot be used.
    examples : int
        The most training images that are stored with the model, with small copies, to be shown
        beside a prediction; 0 stores none, and a saved model then holds no image, nor what tells
        whether an image was in the training.
    progress : bool
        Whether a progress bar is shown while something is computed.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class names, or the numbers or booleans that were given as labels, in the order of
        `featx.labels.class_order`.
    head_ : classifier
        Fitted on features.
    spec_ : dict
        All that decides the features it was trained on; those of any other spec are refused.
    dim_ : int
        The width of an embedding.
    n_images_ : int
        Images trained on.
    failures_ : list of Failure
        Images that were left out of the training (`on_error="skip"`); empty in a loaded model.
    examples_ : Examples
        Training images that are stored with the model.
    trained_on_ : ndarray of shape (n,) and dtype uint64
        The first 8 bytes of the digest of each training image, by which `featx.evaluate` finds
        them; empty with ``examples=0``, or where only embeddings were given.
    probes_ : ndarray of shape (n, dim)
        A few training embeddings, whose scores are checked when a saved model is loaded.

    Examples
    --------
    >>> import numpy as np
    >>> from featx import Backbone, HEADS, ImageClassifier
    >>> tiny = Backbone("mobilenet_v2", weights=None, image_size=32)
    >>> pixels = np.stack([np.full((40, 40, 3), v, np.uint8) for v in (0, 10, 240, 250)])
    >>> model = ImageClassifier(tiny, "nearest", cache="my-cache")
    >>> model = model.set_params(head=HEADS["nearest"](k=1))
    >>> model.fit(pixels, ["dark", "dark", "light", "light"]).predict(pixels[:1])
    array(['dark'], dtype='<U5')
    """

    def __init__(
        self,
        backbone: str | Backbone = "resnet50",
        head: Any = "logistic",
        *,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
        runtime: Any = "auto",
        on_error: str = "raise",
        examples: int = 1000,
        progress: bool = False,
    ) -> None:
        self.backbone = backbone
        self.head = head
        self.cache = cache
        self.batch_size = batch_size
        self.runtime = runtime
        self.on_error = on_error
        self.examples = examples
        self.progress = progress

    def fit(
        self,
        X: Any,
        y: Sequence[Any] | None = None,
        *,
        sample_weight: Sequence[float] | np.ndarray | None = None,
        groups: Any = None,
    ) -> ImageClassifier:
        """Train the head on the embeddings of labelled images.

        Parameters
        ----------
        X : anything that `extract` takes, or Features
        y : sequence of n labels, optional
            For images that come without. Numbers and booleans keep their type in `classes_` and
            in what `predict` returns; text stays text.
        sample_weight : sequence of n numbers, optional
            0 or more, one per image; 2 is the same as the image twice, 0 as if it were not there.
            Weights of classes are the head's: ``heads.logistic(class_weight="balanced")``.
        groups : str, re.Pattern, callable or sequence of n names, optional
            The patient, site or day of each image, as `featx.benchmark` takes it: where the head
            holds images out to choose something, it holds whole groups out.

        Raises
        ------
        DatasetError
            Labels are missing, or there is one class only.
        BadImagesError
            Some images cannot be used; the embeddings of all others are cached.
        FeatureMismatchError
            The spec of the given features is that of another network than `backbone`.
        HeadError
            No head has the name given.
        """
        head = heads.find(self.head)
        images, features, labels, sources = self._training_set(
            X, y, sample_weight is not None or groups is not None
        )
        targets = as_targets(labels)
        if len(set(labels.tolist())) == 1:
            many = counted(len(labels), "image", "images")
            raise DatasetError(
                f"the training set has one class only, {labels[0]!r} ({many}); a classifier needs "
                "at least two. A folder data set has one sub-folder per class: did you mean the "
                "parent folder?"
            )
        if targets.dtype.kind == "i" and class_order(labels.tolist()) != sorted(set(labels)):
            logger.warning(
                "class names are whole numbers, and sorted by value; scikit-learn's scorers of "
                "probabilities (roc_auc, neg_log_loss) sort text by its characters: give the "
                "labels as numbers for those"
            )
        if groups is not None:
            groups = groups_of(groups, X, images)
        weight, groups = (
            _of_embedded(name, values, images, features)
            for name, values in (("sample_weight", sample_weight), ("groups", groups))
        )
        self.head_ = forking.computed(
            lambda: fitting.fit(clone(head), features.X, targets, weight, groups)
        )
        text = labels.dtype.kind in "OU"
        self.classes_ = np.asarray(self.head_.classes_).astype(str if text else labels.dtype)
        self.spec_ = spec_of(features)
        self.dim_ = int(features.X.shape[1])
        self.n_images_ = len(features)
        self.failures_ = list(features.failures)
        if self.failures_:
            logger.warning(
                "%s could not be used and %s not trained on (such as %s)",
                counted(len(self.failures_), "image", "images"),
                "was" if len(self.failures_) == 1 else "were",
                self.failures_[0],
            )
        spread = np.linspace(0, len(labels) - 1, min(model.PROBES, len(labels))).astype(int)
        self.probes_ = np.array(features.X[spread], np.float32)
        self.examples_ = choose(self.examples, features, labels, sources)
        self.trained_on_ = compact(features.digests if self.examples else None)
        return self

    def _training_set(
        self, X: Any, y: Any, by_position: bool
    ) -> tuple[Dataset | Features, Features, np.ndarray, Sequence[Any]]:
        """Return images, their features and labels, and what there is to show of each."""
        if isinstance(X, Features):
            check_own_features(find_backbone(self.backbone), X)
            labels = labels_of(X.y if y is None else label_array(as_labels(y, X.ids)))
            return X, X, labels, [None] * len(X)
        images = as_images(X, y, progress=self.progress)
        if images.known_length is None and by_position:
            raise DatasetError(
                "sample_weight and groups belong to images by their position, and a stream has no "
                "order that it promises. Give them beside a list, a table or an array."
            )
        if images.known_length is None:
            passing = CopiedInPassing(images, wanted=self.examples > 0)
            features = self._extracted(Dataset(passing), self.on_error)
            copies = [passing.copies.get(id) for id in features.ids]
            return passing.seen(), features, labels_of(features.y), copies
        features = self._extracted(images, self.on_error)
        return images, features, labels_of(features.y), sources_of(images, features.ids)

    def features(self, X: Any, *, on_error: str = "raise") -> Features:
        """Return the features of images, cached ones where there are; Features are checked.

        Raises
        ------
        FeatureMismatchError
            They come from another network, or another option of it, than this model's.
        """
        check_is_fitted(self)
        features = self._extracted(X, on_error)
        check_same_features(self.spec_, self.dim_, features)
        return features

    def _extracted(self, X: Any, on_error: str = "raise") -> Features:
        if isinstance(X, Features):
            return X
        return extract(
            as_images(X, labelled=False, progress=self.progress),
            self.backbone,
            cache=self.cache,
            batch_size=self.batch_size,
            runtime=self.runtime,
            on_error=on_error,
            progress=self.progress,
        )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (n, n_classes): images in order, columns as in `classes_`.

        Parameters
        ----------
        X : folder, path, list of paths, images, bytes or PIL images, array, or Features
            One image alone is taken as a list of one.

        Raises
        ------
        BadImagesError
            Some images cannot be used; it names all of them.
        FeatureMismatchError
            The weights on this machine, or the features given, are not those of the training.
        """
        return self.scores(self.features(X).X)

    def scores(self, X: np.ndarray) -> np.ndarray:
        """Return the head's probabilities (n, n_classes) of embeddings (n, dim)."""
        check_is_fitted(self)
        if not hasattr(self.head_, "predict_proba"):
            raise AttributeError(
                f"{type(self.head_).__name__} gives no probabilities; CalibratedClassifierCV or a "
                f"head of featx does ({', '.join(HEADS)})."
            )
        return forking.computed(lambda: self.head_.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each image, (n,), as in `classes_`."""
        features = self.features(X)
        found = forking.computed(lambda: self.head_.predict(features.X))
        return np.asarray(found).astype(self.classes_.dtype)

    def predict_top_k(self, X: Any, k: int = 5) -> list[list[tuple[str, float]]]:
        """Return for each image its `k` most probable classes with probabilities, best first."""
        if k < 1:
            raise OptionError(f"k={k}: expected 1 or more.")
        return [self.top(scores, k) for scores in self.predict_proba(X)]

    def top(self, scores: np.ndarray, k: int) -> list[tuple[str, float]]:
        """Return the `k` most probable classes of one image's scores, best first."""
        best = np.argsort(-scores, kind="stable")[:k]
        return [(str(self.classes_[i]), float(scores[i])) for i in best]

    def score(self, X: Any, y: Sequence[Any] | None = None, sample_weight: Any = None) -> float:
        """Return the share of images whose predicted class is their label.

        Raises
        ------
        DatasetError
            The images have no labels, or labels that were not in the training set.
        """
        if not isinstance(X, Features):
            X, y = self.features(as_images(X, y, progress=self.progress)), None
        labels = labels_of(X.y if y is None else label_array(as_labels(y, X.ids)))
        positions = positions_in(self.classes_, labels)
        if unknown := class_order(labels[positions < 0].tolist()):
            raise DatasetError(
                f"labels that were not in the training set: {', '.join(map(repr, unknown))}. It "
                f"had {', '.join(map(repr, self.classes_.tolist()))}."
            )
        right = positions_in(self.classes_, self.predict(X)) == positions
        return float(np.average(right, weights=sample_weight))

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write one model file, which is loaded without running anything it holds.

        It holds the head, the class names, the name and the digest of the network (not its
        weights), and, unless ``examples=0``, the examples with their small copies and 8 bytes of
        the digest of each training image.

        Returns
        -------
        str
            The sha256 of the file, for `featx.load(path, sha256=...)`.

        Raises
        ------
        HeadError
            The head has a parameter, or trees, that could not be loaded again.
        ModelTrustError
            The head is a classifier of a kind that could not be loaded safely.
        """
        check_is_fitted(self)
        return model.write(
            path,
            model.Parts(
                find_backbone(self.backbone),
                self.head_,
                self.classes_,
                self.spec_,
                self.dim_,
                self.probes_,
                self.examples_,
                self.trained_on_,
            ),
        )

    def export(self, path: str | os.PathLike[str], format: str | None = None) -> dict[str, Any]:
        """Write network and head as one network for other runtimes; see `export.formats.write`.

        It computes in float32. Where the head was trained on embeddings of lower precision, a
        warning is logged that says how many stored images get another class by that.

        Parameters
        ----------
        format : {"keras", "savedmodel", "onnx", "tflite"}, optional
            By the path's suffix unless given.

        Returns
        -------
        dict
            What the file takes and gives (`input`, `output`), and a `snippet` of Python that runs
            it in its own runtime; the same stands beside the file (`<file>.json`) and inside it.

        Raises
        ------
        ExportError
            The head cannot be expressed as layers of a network, or what is needed is not installed.
        FeatureMismatchError
            The weights on this machine are not those of the training.
        """
        check_is_fitted(self)
        backbone = find_backbone(self.backbone)
        check_same_network(self.spec_, self.dim_, backbone)
        facts = formats.write(path, backbone, self.head_, format)
        if backbone.precision != "float32":
            logger.warning("%s", parity.exported_in_float32(self))
        return facts

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _of_embedded(name: str, values: Any, images: Any, features: Features) -> Any:
    """Return those of one value per image that belong to the images with an embedding.

    Raises
    ------
    DatasetError
        There are not as many as images.
    """
    if values is None:
        return None
    found = np.asarray(values)
    if found.shape != (len(images),):
        raise DatasetError(
            f"{name} has the shape {found.shape}; expected ({len(images)},), one entry for each "
            "image."
        )
    if isinstance(images, Features) or not features.failures:
        return found
    bad = {failure.id for failure in features.failures}
    return found[[id not in bad for id in images.ids]]


def load(
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> ImageClassifier:
    """Return the classifier of a file written by `ImageClassifier.save`.

    Nothing the file holds is run. A changed file is refused where `sha256` pins it; without it,
    trust the file's numbers as much as you trust where it came from.

    Parameters
    ----------
    sha256 : str, optional
        What `save` returned.
    weights : path, optional
        The weights file, for a model trained with weights of its maker's own.
    cache : path, optional
        Where embeddings of new images are cached; see `featx.extract`.

    Raises
    ------
    ModelFormatError, ModelIntegrityError, ModelTrustError, ModelVersionError
        The file is not such a file, was changed, holds what featx never writes, or has the format
        of another version.
    """
    parts = read(path, sha256, weights)
    model = ImageClassifier(parts.backbone, parts.head, cache=cache)
    model.head_ = parts.head
    model.classes_, model.spec_, model.dim_ = parts.classes, parts.spec, parts.dim
    model.probes_, model.examples_ = parts.probes, parts.examples
    model.trained_on_ = parts.trained_on
    model.n_images_, model.failures_ = parts.examples.of, []
    return model


def load_unsafe_pickle(path: str | os.PathLike[str]) -> ImageClassifier:
    """Return the classifier of a file written by `joblib.dump`; **the file can run any code**.

    Only for files that you made yourself and that nobody else could change. `featx.load` never
    comes here.

    Raises
    ------
    ModelFormatError
        The file holds something else.
    """
    import joblib

    model = joblib.load(path)
    if not isinstance(model, ImageClassifier):
        raise ModelFormatError(
            f"{os.fspath(path)} holds {type(model).__name__}; expected an ImageClassifier."
        )
    return model
