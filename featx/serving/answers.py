"""The answer to one posted image; nothing about the image is stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from featx import forking, runtimes
from featx.backbones.backbone import find_backbone
from featx.errors import HeadError
from featx.images import decoding


class Answers:
    """Answers for single images by one classifier, one at a time.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.
    k : int
        Number of classes, and of training images, in an answer.

    Raises
    ------
    HeadError
        The head does not give probabilities.
    FeatureMismatchError
        The weights on this machine are not those the classifier was trained with.
    """

    def __init__(self, classifier: Any, k: int = 5) -> None:
        # The server listens before it has scikit-learn and a model.
        from featx.classifier.compatibility import check_same_network
        from featx.classifier.explanations import Explainer

        self._classifier = classifier
        self._k = k
        self._backbone = find_backbone(classifier.backbone)
        if not hasattr(classifier.head_, "predict_proba"):
            raise HeadError(
                f"{type(classifier.head_).__name__} does not give probabilities, which the "
                "answers contain. Train again with one of featx's heads, or wrap the classifier in "
                "CalibratedClassifierCV."
            )
        check_same_network(classifier.spec_, classifier.dim_, self._backbone)
        self._runtime = runtimes.start(self._backbone, 1)
        self._explainer = Explainer(classifier, k)
        # One image at a time: a decoded one may have 89 million pixels.
        self._lock = forking.lock()

    def metadata(self) -> dict[str, Any]:
        """Return the model's classes, backbone and head."""
        return {
            "classes": [_text(name) for name in self._classifier.classes_],
            "backbone": self._backbone.name,
            "head": type(self._classifier.head_).__name__,
        }

    def answer(self, content: bytes, explain: bool = False) -> dict[str, Any]:
        """Return the classes of an image and the labels of its nearest training images.

        Parameters
        ----------
        content : bytes
            An encoded image.
        explain : bool
            Also return the training images, and the activation map of the first class.

        Raises
        ------
        ImageError
            The bytes are not an image that can be used.
        """
        # Not under the lock, and in a process with limits whatever it is: an image that holds its
        # decoder up holds up nobody else, and is stopped.
        pixels = decoding.load(
            content, self._backbone.side, how=self._backbone.preparation, apart=True
        )
        with self._lock:
            features = np.asarray(self._runtime.run(pixels[None]))[:1]
            top = self._classifier.top(self._classifier.scores(features)[0], self._k)
            found: dict[str, Any] = {
                "top": [{"label": _text(label), "probability": chance} for label, chance in top]
            }
            # Never their ids: those may be paths.
            if not explain:
                near = self._explainer.near(features[0])
                found["near"] = [{"label": _text(one.label), "cosine": one.cosine} for one in near]
                return found
            explained = self._explainer.explain(content, features[0], top[0][0])

        from featx.classifier.explanations import inline

        found["near"] = [
            {
                "label": _text(one.label),
                "cosine": one.cosine,
                "image": inline(one.image) if one.image else None,
            }
            for one in explained.near
        ]
        shown = explained.activation
        return {**found, "activation": inline(shown) if shown else None, "note": explained.note}


def _text(name: Any) -> str:
    """Return a class name as valid UTF-8: the name of a folder may be any bytes."""
    return str(name).encode("utf-8", "backslashreplace").decode()
