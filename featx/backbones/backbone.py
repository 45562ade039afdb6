"""A frozen network and everything that decides its numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featx.backbones import keras_models
from featx.backbones import weights as weight_files
from featx.backbones.architectures import BACKBONES, BICUBIC, FAMILY_OF_MODE, ROWS
from featx.backend import load_keras
from featx.errors import BackboneError, UnknownBackboneError, WeightsUnavailableError
from featx.formatting import did_you_mean
from featx.images.preparation import DECODINGS, FILTERS, GEOMETRIES, Preparation

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
# The images on which a network's ranges are measured for int8; another number, other embeddings.
CALIBRATION = 1
POOLINGS = ("avg", "max", None)


class _Own(NamedTuple):
    """A network of the user's own, registered under a name for this process."""

    model: Any
    preprocessing: str
    config: bytes  # as it was registered: to use it freezes its layers


_OWN: dict[str, _Own] = {}


@dataclass(frozen=True)
class Backbone:
    """A frozen network and everything that decides its numbers.

    Parameters
    ----------
    name : str
        A key of ``BACKBONES``, or a name given to ``Backbone.register``.
    weights : str, os.PathLike or None, default="imagenet"
        "imagenet" (through Keras's own loader, which downloads once), the path of a weights file
        of this network without its top, or None: untrained, drawn the same way on every machine.
    layer : str, optional
        The Keras layer whose output is taken instead of the last one.
    pooling : {"avg", "max", None}, default="avg"
        How a (height, width, channels) output becomes an embedding; None flattens it.
    image_size : int, optional
        Pixels along each edge; the network's published side unless given.
    precision : {"float32", "bfloat16", "float16", "int8"}, default="float32"
        What the network computes in; embeddings are float32 in every case. "int8" is OpenVINO's
        alone (``pip install 'featx[int8]'``); its ranges are measured once per network, on drawn
        images.
    decode : {"auto", "full", "scaled"}, default="auto"
        "auto" lets the JPEG decoder reduce images of a megapixel and more by 2, 4 or 8, to no less
        than twice the side: five times as fast on photos of 12 megapixels. Pixels differ by about a
        fifth of a grey level; the cache tells their embeddings from those of "full". All other
        images are the same with both. "scaled" is what version 0.1 had for it, with a key of its
        own.
    resize : {"squash", "crop"}, default="squash"
        "squash" resizes both edges to the network's side; "crop" resizes the shorter one and keeps
        the centre, so that shapes stay what they are and the ends of the longer edge are lost.
    filter : {"bilinear", "bicubic"}, optional
        Of the resizing. By default bilinear with "squash", and with "crop" what the network was
        trained with: bicubic for EfficientNet and ConvNeXt.

    Raises
    ------
    BackboneError
        An option is outside its range; ``UnknownBackboneError`` for an unknown name.

    Examples
    --------
    >>> from featx import Backbone
    >>> Backbone("resnet50").dim, Backbone("mobilenet_v2", image_size=160).side
    (2048, 160)
    """

    name: str
    weights: str | os.PathLike[str] | None = "imagenet"
    layer: str | None = None
    pooling: str | None = "avg"
    image_size: int | None = None
    precision: str = "float32"
    decode: str = "auto"
    resize: str = "squash"
    filter: str | None = None

    def __post_init__(self) -> None:
        if self.name not in BACKBONES and self.name not in _OWN:
            known = [*BACKBONES, *_OWN]
            hint = did_you_mean(str(self.name).lower(), known, cutoff=0.5)
            raise UnknownBackboneError(
                f"no backbone {self.name!r}.{hint} Known: {', '.join(known)}."
            )
        if self.name in _OWN:
            object.__setattr__(self, "weights", None)  # they came with the model
        for field, value, allowed in (
            ("pooling", self.pooling, POOLINGS),
            ("precision", self.precision, PRECISIONS),
            ("decode", self.decode, DECODINGS),
            ("resize", self.resize, GEOMETRIES),
            ("filter", self.filter, (*FILTERS, None)),
        ):
            if value not in allowed:
                raise BackboneError(f"{field}={value!r}: expected one of {allowed}.")
        if self.image_size is not None and not (
            isinstance(self.image_size, int) and 1 <= self.image_size <= 8192
        ):
            raise BackboneError(
                f"image_size={self.image_size!r}: expected whole pixels from 1 to 8192, or None "
                "for the network's own side."
            )

    @classmethod
    def register(cls, name: str, model: Any, *, preprocessing: str = "raw") -> Backbone:
        """Make a ``keras.Model`` of your own a backbone under a name, for this process.

        Parameters
        ----------
        name : str
            A new name; the published names cannot be replaced.
        model : keras.Model
            Takes (n, side, side, 3) float images; gives (n, height, width, channels) or (n, dim).
            Name its layers: their names, too, are in the key, since `layer` chooses by them, and
            Keras numbers unnamed ones in the order in which a process makes them.
        preprocessing : {"raw", "tf", "caffe", "torch"}, default="raw"
            What is done to RGB 0-255 before the network: nothing, scaling to -1..1, BGR with the
            ImageNet mean subtracted, or ImageNet mean and deviation.

        Returns
        -------
        Backbone

        Raises
        ------
        BackboneError
            The name is taken by a published network, the mode is unknown, or the model cannot
            describe itself (its configuration is a part of the cache key).
        """
        if name in BACKBONES:
            raise BackboneError(f"{name!r} is a published backbone; choose another name.")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
            raise BackboneError(
                f"name={name!r}: expected letters, digits, '_', '-' and '.'; Keras takes no other."
            )
        if preprocessing not in FAMILY_OF_MODE:
            raise BackboneError(
                f"preprocessing={preprocessing!r}: expected one of {tuple(FAMILY_OF_MODE)}."
            )
        if len(model.inputs or ()) != 1 or len(model.outputs or ()) != 1:
            raise BackboneError(
                f"the model for {name!r} must have one input, images of (side, side, 3), and one "
                f"output; it has {len(model.inputs or ())} and {len(model.outputs or ())}. A model "
                "that was never called has none: call it once, or give it a keras.Input."
            )
        _OWN[name] = _Own(model, preprocessing, weight_files.model_config(name, model))
        return cls(name, weights=None)

    @property
    def side(self) -> int:
        """Pixels along each edge of the images the network takes."""
        if self.image_size is not None:
            return self.image_size
        if self.name in BACKBONES:
            return BACKBONES[self.name].side
        side = _OWN[self.name].model.input_shape[1]
        if side is None:
            raise BackboneError(f"{self.name!r} takes images of any size: give image_size.")
        return int(side)

    @property
    def dim(self) -> int | None:
        """The width of an embedding; None where only the built network knows it."""
        if self.name in BACKBONES and self.layer is None and self.pooling is not None:
            return BACKBONES[self.name].dim
        return None

    @property
    def preprocessing(self) -> str:
        """The mode in which RGB 0-255 is prepared for the network."""
        table = BACKBONES if self.name in BACKBONES else _OWN
        return table[self.name].preprocessing

    @property
    def trained(self) -> bool:
        """Whether the weights were learned from images, as far as featx knows."""
        return self.weights is not None or self.name in _OWN

    @property
    def preparation(self) -> Preparation:
        """How images are decoded and resized."""
        trained = BACKBONES[self.name].family if self.name in BACKBONES else None
        usual = "bicubic" if self.resize == "crop" and trained in BICUBIC else "bilinear"
        return Preparation(self.decode, self.resize, self.filter or usual)

    def spec(self) -> dict[str, Any]:
        """Return all that decides the embeddings, the weights' digest included; strict JSON.

        This is what the cache key is taken from. A field added later is absent while it has the
        value that version 0.1 knew as the only one, so that old keys stay valid.
        """
        return {
            "backbone": self.name,
            "weights": self.weights_digest(),
            "layer": self.layer,
            "pooling": self.pooling,
            "side": self.side,
            "preprocessing": self.preprocessing,
            "precision": self.precision,
            **({"calibration": CALIBRATION} if self.precision == "int8" else {}),
            "pixels": self.preparation.policy(),
        }

    def weights_digest(self) -> str:
        """Return the sha256 of the weights, without loading them; fetch the file if need be.

        Returns
        -------
        str
            64 hexadecimal digits, or the name of the drawing scheme for untrained weights.

        Raises
        ------
        WeightsUnavailableError
            The file is not on disk and could not be fetched.
        """
        if self.name in _OWN:
            # Anew each time: the model is the user's, who may have trained it since.
            return weight_files.model_digest(_OWN[self.name].config, _OWN[self.name].model)
        if self.weights is None:
            return keras_models.UNTRAINED
        if not self.weights_path().is_file():
            self._network()  # Keras's own loader fetches the file, or raises the reason
        return self._of_file(weight_files.file_digest)

    def weights_note(self) -> str:
        """Return a sentence on weights that only have a published file's name, or "".

        Keras publishes no digest of some files, such as mobilenet_v2's: there is none of those.
        """
        if self.weights is None or self.name in _OWN or not self.weights_path().is_file():
            return ""
        return self._of_file(weight_files.note)

    def _of_file(self, ask: Callable[..., str]) -> str:
        """Return what is found in the weights file, asked anew when its size or times changed."""
        path = self.weights_path()
        try:
            stat = path.stat()
            return ask(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        except OSError as error:
            raise WeightsUnavailableError(
                f"the weights at {path} cannot be read: {error.strerror}."
            ) from error

    def weights_path(self) -> Path:
        """Return where the weights file lies, or where Keras would put it."""
        if self.weights is None or self.name in _OWN:
            raise BackboneError(f"{self.name!r} with weights={self.weights!r} has no weights file.")
        if self.weights != "imagenet":
            return Path(self.weights)
        architecture = BACKBONES[self.name]
        rows = self.side if self.side in ROWS.get(self.name, ()) else 224
        return weight_files.keras_home() / "models" / architecture.weights_file.format(rows=rows)

    def build(self) -> Any:
        """Return the frozen network as a ``keras.Model``, preprocessing inside.

        Returns
        -------
        keras.Model
            Takes (n, side, side, 3) float32 RGB 0-255, gives (n, dim) float32 embeddings. The
            network itself is its layer "network"; nothing of it is trainable. Keras has no int8:
            that network is in float32 here.

        Raises
        ------
        BackboneError
            The options do not fit the network, with Keras's own reason.
        RuntimeUnavailableError
            This process was made by fork after its parent had started Keras's backend.
        """
        keras = load_keras()
        family = (
            BACKBONES[self.name].family
            if self.name in BACKBONES
            else FAMILY_OF_MODE[self.preprocessing]
        )
        precision = "float32" if self.precision == "int8" else self.precision
        with keras_models.dtype_policy(precision):
            network = keras_models.cut(self._network(), self.layer, self.name)
        network.trainable = False
        image = keras.Input((self.side, self.side, 3), dtype="float32", name="image")
        features = network(keras_models.preprocess_input(family)(image), training=False)
        if len(features.shape) > 2:
            pool = {"avg": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D", None: "Flatten"}
            features = getattr(keras.layers, pool[self.pooling])(name="pooling", dtype="float32")(
                features
            )
        elif precision != "float32":
            features = keras.layers.Activation("linear", dtype="float32", name="to_float32")(
                features
            )
        return keras.Model(image, features, name=self.name)

    def parameters(self) -> dict[str, int]:
        """Return the counts of total, trainable and non-trainable parameters; no weights needed."""
        model = (self if self.name in _OWN else replace(self, weights=None)).build()
        total = model.count_params()
        trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
        return {"total": total, "trainable": trainable, "non_trainable": total - trainable}

    def summary(self) -> str:
        """Return a few lines for a person: input, output, preprocessing, weights, parameters."""
        count = self.parameters()
        width = self.dim or self.build().output_shape[-1]
        return (
            f"{self.name}: RGB {self.side} x {self.side} -> {width} numbers "
            f"(layer {self.layer or 'last'}, pooling {self.pooling or 'none: flattened'})\n"
            f"preprocessing {self.preprocessing}, {self.precision}, "
            f"weights {self._weights_text()}\n"
            f"parameters: {count['total']:,} total, {count['trainable']:,} trainable, "
            f"{count['non_trainable']:,} non-trainable"
        )

    def _weights_text(self) -> str:
        """Return whose weights these are, with the digest of a file that is there."""
        if not self.trained:
            return "untrained"
        if self.name in _OWN or not self.weights_path().is_file():
            return str(self.weights or "its own")
        digest, note = self.weights_digest()[:12], self.weights_note()
        return f"{self.weights}, sha256 {digest}" + (f"\nnote: {note}" if note else "")

    def _network(self) -> Any:
        """Return Keras's model without its top, weights loaded, not yet cut."""
        if self.name in _OWN:
            return _OWN[self.name].model
        return keras_models.published(
            BACKBONES[self.name],
            self.side,
            weights=None if self.weights is None else self.weights_path(),
            download=self.weights == "imagenet",
            pooling=self.pooling if self.layer is None else None,
        )


def find_backbone(backbone: str | Backbone) -> Backbone:
    """Return the backbone of that name with its default options, or the one given.

    Raises
    ------
    UnknownBackboneError
        No network has that name; the message names the nearest.
    BackboneError
        What came is neither a name nor a Backbone.
    """
    if isinstance(backbone, Backbone):
        return backbone
    if isinstance(backbone, str):
        return Backbone(backbone)
    raise BackboneError(
        f"backbone={backbone!r}: expected a name such as 'resnet50' or a featx.Backbone. A "
        "keras.Model of your own becomes one by featx.Backbone.register(name, model)."
    )


def untrained_caution(names: str) -> str:
    """Return what is said beside every accuracy of networks with random weights.

    >>> untrained_caution("resnet50")
    'resnet50 ran with random weights: an accuracy says nothing of what the network can do.'
    """
    return f"{names} ran with random weights: an accuracy says nothing of what the network can do."
