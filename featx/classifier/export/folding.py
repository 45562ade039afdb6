"""A head folded onto its frozen network: one network from pixels to class probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from featx.backbones.backbone import Backbone
from featx.backend import load_keras
from featx.dense import DEFAULT_RECIPE, DenseClassifier, attach
from featx.errors import ExportError
from featx.heads.boosting.xgboost_head import XGBoostHead
from featx.heads.kinds import kind_of

# scikit-learn's names of activations, by Keras's.
_ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}


@dataclass(frozen=True, eq=False)
class Step:
    """A dense layer: `activation(X @ kernel + bias)`.

    Attributes
    ----------
    kernel : ndarray of shape (width, units) and dtype float64
    bias : ndarray of shape (units,)
    activation : str
        By Keras's name.
    """

    kernel: np.ndarray
    bias: np.ndarray
    activation: str


def steps_of(head: Any) -> list[Step] | None:
    """Return the dense layers that a linear head or an MLP of featx comes to, scaling inside.

    Returns
    -------
    list of Step or None
        The last one gives logarithms whose softmax is the probabilities; None for a head that
        comes to no such layers.
    """
    kind = kind_of(head)
    if kind in ("logistic", "ridge"):
        return [_two_columns(head.coef_.T, head.intercept_, "linear")]
    if kind == "linear_svm":
        return [_svm(head)]
    return _mlp(head) if kind == "mlp" else None


def folded(backbone: Backbone, head: Any) -> Any:
    """Return the network and the head as one `keras.Model`.

    Returns
    -------
    keras.Model
        Takes (n, side, side, 3) uint8 RGB, gives (n, n_classes) float32 probabilities.

    Raises
    ------
    ExportError
        The head cannot be expressed as layers of a network.
    """
    keras = load_keras()

    network = pixels_to_embeddings(backbone)
    model = keras.Model(network.input, _on(network.output, head), name="classifier")
    model.trainable = False
    if isinstance(head, DenseClassifier):
        _set_weights(model, head.weights_)
    else:
        for number, step in enumerate(steps_of(head) or ()):
            model.get_layer(f"head_{number:02d}").set_weights([step.kernel, step.bias])
    return model


def pixels_to_embeddings(backbone: Backbone) -> Any:
    """Return the network as a `keras.Model` that takes uint8 images, and gives float32 embeddings.

    Raises
    ------
    ExportError
        The embeddings were computed in int8, which Keras models cannot.
    """
    keras = load_keras()

    if backbone.precision == "int8":
        raise ExportError(
            "embeddings in int8 are what only OpenVINO computes: as one network of Keras they are "
            "in float32, and differ. Take the backbone with precision='float32' for that."
        )

    image = keras.Input((backbone.side, backbone.side, 3), dtype="uint8", name="image")
    pixels = keras.layers.Rescaling(1.0, dtype="float32", name="pixels")(image)
    return keras.Model(image, backbone.build()(pixels, training=False), name="embeddings")


def _on(tensor: Any, head: Any) -> Any:
    keras = load_keras()

    if isinstance(head, DenseClassifier):
        return attach(head.recipe or DEFAULT_RECIPE, tensor, len(head.classes_))
    steps = steps_of(head)
    if steps is None:
        raise ExportError(
            f"{type(head).__name__} cannot be expressed as layers of a network, so it cannot "
            "be folded. "
            "logistic, ridge, mlp, dense and linear_svm can; xgboost can be written as ONNX."
            if not isinstance(head, XGBoostHead)
            else "trees are not layers of a network: xgboost can be written as ONNX alone, "
            "export(path, format='onnx')."
        )
    for number, step in enumerate(steps):
        layer = keras.layers.Dense(
            len(step.bias), activation=step.activation, dtype="float32", name=f"head_{number:02d}"
        )
        tensor = layer(tensor)
    return keras.layers.Softmax(dtype="float32", name="probabilities")(tensor)


def _set_weights(model: Any, weights: list[np.ndarray]) -> None:
    layers = [layer for layer in model.layers if layer.name.startswith("head_")]
    variables = [weight for layer in layers for weight in layer.weights]
    for variable, weight in zip(variables, weights, strict=True):
        variable.assign(weight)


def _two_columns(kernel: np.ndarray, bias: np.ndarray, activation: str) -> Step:
    """Return the step with one column per class; scikit-learn gives two classes one column."""
    if kernel.shape[1] == 1:
        # softmax of (-z/2, z/2) is (1 - sigmoid(z), sigmoid(z))
        kernel = np.hstack([-kernel, kernel]) / 2
        bias = np.concatenate([-bias, bias]) / 2
    return Step(kernel, bias, activation)


def _unscaled(kernel: np.ndarray, bias: np.ndarray, scaler: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias for embeddings as they come."""
    kernel = kernel.astype(np.float64)
    if scaler.with_std:
        kernel = kernel / scaler.scale_[:, None]
    return kernel, bias - scaler.mean_ @ kernel if scaler.with_mean else bias


def _mlp(head: Pipeline) -> list[Step]:
    scaler, net = head[0], head[1]
    kernels, biases = list(net.coefs_), list(net.intercepts_)
    kernels[0], biases[0] = _unscaled(kernels[0], biases[0], scaler)
    hidden = _ACTIVATIONS[net.activation]
    steps = [
        Step(kernel, bias, hidden) for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True)
    ]
    return [*steps, _two_columns(kernels[-1], biases[-1], "linear")]


def _svm(head: Pipeline) -> Step:
    calibrated = head[1].calibrated_classifiers_[0]
    machine = calibrated.estimator
    kernel, bias = _unscaled(machine.coef_.T, machine.intercept_, head[0])
    beta = calibrated.calibrators[0].beta_
    if kernel.shape[1] == 1:
        beta = 2 * beta  # two classes: its softmax is over (-z, z)
    return _two_columns(beta * kernel, beta * bias, "linear")
