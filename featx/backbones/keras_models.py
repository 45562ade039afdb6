"""Keras models of the published networks: loaded through Keras, drawn untrained, cut at a layer."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones.architectures import Architecture
from featx.backbones.weights import refuse_unlearned
from featx.backend import load_keras
from featx.errors import BackboneError, WeightsIntegrityError, WeightsUnavailableError
from featx.formatting import did_you_mean

# The scheme by which untrained weights are drawn; a part of the key in place of a file's digest.
UNTRAINED = "untrained-1"


def published(
    architecture: Architecture,
    side: int,
    *,
    weights: Path | None,
    download: bool,
    pooling: str | None,
) -> Any:
    """Return a published network without its top.

    Parameters
    ----------
    architecture : Architecture
        Which network.
    side : int
        Pixels along each edge.
    weights : Path or None
        The weights file; where it is missing, `download` decides.
    download : bool
        Whether Keras's own loader may fetch a missing file.
    pooling : {"avg", "max", None}
        Keras's own pooling; some families normalise after it.

    Raises
    ------
    BackboneError
        Keras refuses the size; ``WeightsUnavailableError`` or ``WeightsIntegrityError`` for the
        weights.
    """
    load_keras()  # quietly, before its submodule is
    builder = getattr(import_module("keras.applications"), architecture.builder)
    options = {"include_top": False, "input_shape": (side, side, 3), "pooling": pooling}
    try:
        if weights is None or weights.is_file():
            network = builder(weights=None, **options)
    except ValueError as error:
        raise BackboneError(f"{architecture.name} with image_size={side}: {error}") from error
    if weights is None:
        _draw_weights(network)
        return network
    if not weights.is_file() and not download:
        raise WeightsUnavailableError(
            f"no weights file at {weights}. Expected 'imagenet', the path of a weights file of "
            f"{architecture.name} without its top, or None."
        )
    if not weights.is_file():
        return _fetched(builder, options, architecture, weights)
    # By path, so that a read-only Keras home serves too: Keras itself would look elsewhere then.
    _load_weights(network, weights)
    return network


def cut(network: Any, layer: str | None, name: str) -> Any:
    """Return the network up to a layer, or whole, as a model named "network".

    Raises
    ------
    BackboneError
        There is no such layer; the message names the nearest.
    """
    keras = load_keras()

    if layer is None:
        return keras.Model(network.inputs, network.outputs[0], name="network")
    names = [each.name for each in network.layers]
    if layer not in names:
        hint = did_you_mean(layer, names)
        raise BackboneError(
            f"{name} has no layer {layer!r}.{hint} Its last layers: {', '.join(names[-12:])}."
        )
    return keras.Model(network.inputs, network.get_layer(layer).output, name="network")


def preprocess_input(family: str) -> Any:
    """Return a family's own preparation of RGB 0-255 images."""
    load_keras()
    return import_module(f"keras.applications.{family}").preprocess_input


@contextmanager
def dtype_policy(precision: str) -> Iterator[None]:
    """Build inside this with the network's precision; the user's own policy comes back."""
    keras = load_keras()

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _fetched(builder: Any, options: dict[str, Any], architecture: Architecture, path: Path) -> Any:
    """Let Keras fetch the ImageNet weights into its own folder."""
    try:
        # Keras reports the download on standard output, where a command prints its result.
        with _impatient(), redirect_stdout(sys.stderr):
            network = builder(weights="imagenet", **options)
    except ValueError as error:
        raise BackboneError(
            f"{architecture.name} with {options['input_shape']}: {error}"
        ) from error
    except Exception as error:  # Keras reports a failed download as a bare Exception
        raise WeightsUnavailableError(
            f"the ImageNet weights of {architecture.name} are not on disk and could not be fetched "
            f"({error}). Place the file {path.name} in {path.parent} (KERAS_HOME decides that "
            "folder), pass weights=PATH, or weights=None (--weights none) for an untrained network."
        ) from error
    refuse_unlearned(network, path)
    return network


def _draw_weights(network: Any) -> None:
    """Draw every kernel from N(0, 2 / fan-in) with a fixed seed, the same on every backend.

    He et al. 2015, "Delving Deep into Rectifiers", equation 10. Keras's own drawing depends on
    the backend, so its embeddings would differ from machine to machine under one key.
    """
    generator = np.random.default_rng(0)
    for weight in network.weights:
        if len(weight.shape) < 2:
            continue  # biases and normalisation keep their constants
        shape = tuple(int(n) for n in weight.shape)
        depthwise = "depthwise" in weight.path and len(shape) == 4
        fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
        values = generator.standard_normal(shape, dtype=np.float32)
        weight.assign(values * np.float32(np.sqrt(2.0 / fan_in)))


def _load_weights(network: Any, path: Path) -> None:
    try:
        network.load_weights(os.fspath(path))
    except Exception as error:
        raise WeightsIntegrityError(
            f"{path} does not hold weights of this network without its top: {error} "
            "If the file is damaged, delete it and fetch it again."
        ) from error
    refuse_unlearned(network, path)


@contextmanager
def _impatient() -> Iterator[None]:
    """Give up on a silent server after 20 s; Keras's download itself never does."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20.0)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
