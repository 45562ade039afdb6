"""Where in an image the network saw a class: class activation maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featx import dense, forking
from featx.backbones.backbone import Backbone
from featx.backend import load_keras
from featx.classifier.export.folding import Step, steps_of
from featx.dense import DEFAULT_RECIPE, DenseClassifier
from featx.images import decoding

# The derivative of each activation, from what goes in; by Keras's names.
_SLOPES: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: lambda z: np.ones_like(z),
    "linear": lambda z: np.ones_like(z),
    "relu": lambda z: (z > 0).astype(z.dtype),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "sigmoid": lambda z: 1 / (2 + np.exp(z) + np.exp(-z)),
}
_VALUES: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: lambda z: z,
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}
CLOSE, CLOSE_IN_FEWER_BITS = 1e-3, 0.3
"""How far, relative to its length, an embedding may be from the mean of its map: runtimes differ,
and the map of one in int8 or bfloat16 is that of Keras's network."""


@dataclass(frozen=True, eq=False)
class Missing:
    """Why there is no map."""

    reason: str


class Activation:
    """Class activation maps of a head on a network (Zhou et al. 2016, arXiv 1512.04150).

    An embedding is the mean of the network's last feature map over its positions, so that a class
    score splits into one part per position. A head that is not linear is linearised at the
    embedding.

    Parameters
    ----------
    backbone : Backbone
    head : classifier
        Fitted on its embeddings.
    """

    def __init__(self, backbone: Backbone, head: Any) -> None:
        self.backbone = backbone
        self._steps = _steps(head)
        self._network: Any = None
        self.missing = self._why_not(head)

    def _why_not(self, head: Any) -> Missing | None:
        if self._steps is None:
            return Missing(f"{type(head).__name__} cannot be expressed as layers of a network")
        if self.backbone.pooling != "avg":
            return Missing("embeddings are not the mean of a feature map (pooling is not 'avg')")
        return None

    def map(self, source: Any, embedding: np.ndarray, position: int) -> np.ndarray | Missing:
        """Return how much each position of the image counted for a class.

        Parameters
        ----------
        source : Path, bytes, pixels or PIL image
        embedding : ndarray of shape (dim,)
            The image's cached embedding.
        position : int
            Of the class in the head's `classes_`.

        Returns
        -------
        ndarray of shape (height, width), of the feature map; or Missing
            Above 0 for, below 0 against the class, compared with the mean of all classes. The
            mean over the positions is what the whole image adds.
        """
        if self.missing is not None:
            return self.missing
        if (reason := forking.refusal()) is not None:
            return Missing(reason)
        if self._network is None:
            self._network = _map_network(self.backbone)
        if self._network is None:
            self.missing = Missing("the network has no feature map at its end")
            return self.missing
        pixels = decoding.load(source, self.backbone.side, how=self.backbone.preparation)
        pixels = pixels[None].astype(np.float32)
        at_positions = np.asarray(self._network(pixels, training=False), np.float64)[0]
        apart = np.linalg.norm(at_positions.mean((0, 1)) - embedding)
        close = CLOSE if self.backbone.precision == "float32" else CLOSE_IN_FEWER_BITS
        if at_positions.shape[-1] != len(embedding) or apart > close * np.linalg.norm(embedding):
            self.missing = Missing("the network goes on after the mean of its last feature map")
            return self.missing
        return at_positions @ self._weights(embedding.astype(np.float64))[:, position]

    def _weights(self, embedding: np.ndarray) -> np.ndarray:
        """Return (dim, n_classes): what a small step along each feature adds to each class."""
        assert self._steps is not None
        slope: np.ndarray | None = None
        value = embedding
        for step in self._steps:
            before = value @ step.kernel + step.bias
            local = step.kernel * _SLOPES[step.activation](before)
            slope = local if slope is None else slope @ local
            value = _VALUES[step.activation](before)
        assert slope is not None
        return slope - slope.mean(axis=1, keepdims=True)


def _steps(head: Any) -> list[Step] | None:
    if not isinstance(head, DenseClassifier):
        return steps_of(head)
    weights = iter(np.asarray(weight, np.float64) for weight in head.weights_)
    found: list[Step] = []
    for layer in (head.recipe or DEFAULT_RECIPE).layers:
        if isinstance(layer, dense.BatchNorm):
            gamma, beta, mean, variance = (next(weights) for _ in range(4))
            if layer.renorm:
                for _ in range(3):
                    next(weights)
            scale = gamma / np.sqrt(variance + layer.epsilon)
            found.append(Step(np.diag(scale), beta - mean * scale, "linear"))
        elif isinstance(layer, dense.Dense):
            if layer.activation not in _SLOPES:
                return None
            found.append(Step(next(weights), next(weights), layer.activation or "linear"))
    return [*found, Step(next(weights), next(weights), "linear")]


def _map_network(backbone: Backbone) -> Any:
    keras = load_keras()

    # Unpooled, the backbone ends on its own layer "pooling", which flattens the map.
    built = replace(backbone, pooling=None).build()
    names = [layer.name for layer in built.layers]
    if "pooling" not in names:
        return None
    return keras.Model(built.input, built.get_layer("pooling").input)
