"""The table of frozen networks, and how one of them is chosen, cut and built."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featx.errors import (
    BackboneError,
    UnknownBackboneError,
    WeightsIntegrityError,
    WeightsUnavailableError,
)

PRECISIONS = ("float32", "bfloat16", "float16")
POOLINGS = ("avg", "max", None)

# The scheme by which untrained weights are drawn; a part of the key in place of a file's digest.
UNTRAINED = "untrained-1"


class Architecture(NamedTuple):
    """One published network: where Keras keeps it and what it takes and gives.

    Attributes
    ----------
    name : str
        What a user calls it.
    builder, family : str
        The function and the module of ``keras.applications``.
    side : int
        Pixels along each edge that the published weights were trained on.
    dim : int
        Width of the globally pooled output.
    preprocessing : str
        What the family's ``preprocess_input`` does: "caffe" (BGR, mean subtracted), "tf"
        (-1..1), "torch" (ImageNet mean and deviation) or "raw" (0-255; scaling is inside).
    weights_file : str
        The name under which Keras keeps the ImageNet weights without the top; ``{rows}`` stands
        for the side where a family has one file a side.
    """

    name: str
    builder: str
    family: str
    side: int
    dim: int
    preprocessing: str
    weights_file: str


_TF = "_weights_tf_dim_ordering_tf_kernels"
# Names, sides and preprocessing: Keras 3.15.1, keras/src/applications. A test builds each row,
# compares its dim, and its weights_file with the name that Keras's own loader asks for.
BACKBONES: dict[str, Architecture] = {
    row[0]: Architecture(*row)
    for row in (
        ("vgg16", "VGG16", "vgg16", 224, 512, "caffe", f"vgg16{_TF}_notop.h5"),
        ("vgg19", "VGG19", "vgg19", 224, 512, "caffe", f"vgg19{_TF}_notop.h5"),
        ("xception", "Xception", "xception", 299, 2048, "tf", f"xception{_TF}_notop.h5"),
        ("inception_v3", "InceptionV3", "inception_v3", 299, 2048, "tf",
         f"inception_v3{_TF}_notop.h5"),
        ("inception_resnet_v2", "InceptionResNetV2", "inception_resnet_v2", 299, 1536, "tf",
         f"inception_resnet_v2{_TF}_notop.h5"),
        ("mobilenet", "MobileNet", "mobilenet", 224, 1024, "tf", "mobilenet_1_0_{rows}_tf_no_top.h5"),
        ("mobilenet_v2", "MobileNetV2", "mobilenet_v2", 224, 1280, "tf",
         f"mobilenet_v2{_TF}_1.0_{{rows}}_no_top.h5"),
        ("mobilenet_v3_small", "MobileNetV3Small", "mobilenet_v3", 224, 576, "raw",
         "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"),
        ("mobilenet_v3_large", "MobileNetV3Large", "mobilenet_v3", 224, 960, "raw",
         "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5"),
        *(
            (f"efficientnet_b{i}", f"EfficientNetB{i}", "efficientnet", side, dim, "raw",
             f"efficientnetb{i}_notop.h5")
            for i, (side, dim) in enumerate([
                (224, 1280), (240, 1280), (260, 1408), (300, 1536),
                (380, 1792), (456, 2048), (528, 2304), (600, 2560),
            ])
        ),
        *(
            (f"efficientnet_v2_{size.lower()}", f"EfficientNetV2{size}", "efficientnet_v2", side,
             dim, "raw", f"efficientnetv2-{size.lower()}_notop.h5")
            for size, side, dim in [
                ("B0", 224, 1280), ("B1", 240, 1280), ("B2", 260, 1408), ("B3", 300, 1536),
                ("S", 384, 1280), ("M", 480, 1280), ("L", 480, 1280),
            ]
        ),
        *(
            (f"densenet{depth}", f"DenseNet{depth}", "densenet", 224, dim, "torch",
             f"densenet{depth}{_TF}_notop.h5")
            for depth, dim in [(121, 1024), (169, 1664), (201, 1920)]
        ),
        *(
            (f"convnext_{size.lower()}", f"ConvNeXt{size}", "convnext", 224, dim, "raw",
             f"convnext_{size.lower()}_notop.h5")
            for size, dim in [
                ("Tiny", 768), ("Small", 768), ("Base", 1024), ("Large", 1536), ("XLarge", 2048),
            ]
        ),
        ("nasnet_mobile", "NASNetMobile", "nasnet", 224, 1056, "tf", "nasnet_mobile_no_top.h5"),
        ("nasnet_large", "NASNetLarge", "nasnet", 331, 4032, "tf", "nasnet_large_no_top.h5"),
        *(
            (f"resnet{depth}", f"ResNet{depth}", "resnet", 224, 2048, "caffe",
             f"resnet{depth}{_TF}_notop.h5")
            for depth in (50, 101, 152)
        ),
        *(
            (f"resnet{depth}_v2", f"ResNet{depth}V2", "resnet_v2", 224, 2048, "tf",
             f"resnet{depth}v2{_TF}_notop.h5")
            for depth in (50, 101, 152)
        ),
    )
}  # fmt: skip

# The sides for which a family publishes a weights file of its own; Keras falls back to 224.
_ROWS = {"mobilenet": (128, 160, 192, 224), "mobilenet_v2": (96, 128, 160, 192, 224)}

# Which family's preprocess_input stands for a mode, for networks of the user's own.
_FAMILY_OF_MODE = {"caffe": "resnet", "tf": "resnet_v2", "torch": "densenet", "raw": "efficientnet"}


class _Own(NamedTuple):
    """A network of the user's own, registered under a name for this process."""

    model: Any
    preprocessing: str
    digest: str


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
        How a (height, width, channels) output becomes a row; None flattens it.
    image_size : int, optional
        Pixels along each edge; the network's published side unless given.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        What the network computes in. Rows are float32 in every case.

    Raises
    ------
    BackboneError
        An option is outside its range; ``UnknownBackboneError`` for an unknown name.

    Examples
    --------
    >>> Backbone("resnet50").dim, Backbone("mobilenet_v2", image_size=160).side
    (2048, 160)
    """

    name: str
    weights: str | os.PathLike[str] | None = "imagenet"
    layer: str | None = None
    pooling: str | None = "avg"
    image_size: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.name not in BACKBONES and self.name not in _OWN:
            known = [*BACKBONES, *_OWN]
            close = difflib.get_close_matches(str(self.name).lower(), known, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UnknownBackboneError(f"no backbone {self.name!r}.{hint} Known: {', '.join(known)}.")
        for field, value, allowed in (
            ("pooling", self.pooling, POOLINGS),
            ("precision", self.precision, PRECISIONS),
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
            Takes (n, side, side, 3) float pictures; gives (n, height, width, channels) or (n, dim).
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
        if preprocessing not in _FAMILY_OF_MODE:
            raise BackboneError(
                f"preprocessing={preprocessing!r}: expected one of {tuple(_FAMILY_OF_MODE)}."
            )
        _OWN[name] = _Own(model, preprocessing, _model_digest(name, model))
        return cls(name, weights=None)

    @property
    def side(self) -> int:
        """Pixels along each edge of the pictures the network takes."""
        if self.image_size is not None:
            return self.image_size
        if self.name in BACKBONES:
            return BACKBONES[self.name].side
        side = _OWN[self.name].model.input_shape[1]
        if side is None:
            raise BackboneError(f"{self.name!r} takes pictures of any size: give image_size.")
        return int(side)

    @property
    def dim(self) -> int | None:
        """The width of a row; None where only the built network knows it."""
        if self.name in BACKBONES and self.layer is None and self.pooling is not None:
            return BACKBONES[self.name].dim
        return None

    @property
    def preprocessing(self) -> str:
        """The mode in which RGB 0-255 is prepared for the network."""
        table = BACKBONES if self.name in BACKBONES else _OWN
        return table[self.name].preprocessing  # type: ignore[index]

    @property
    def trained(self) -> bool:
        """Whether the weights were learned from pictures, as far as featx knows."""
        return self.weights is not None or self.name in _OWN

    def recipe(self) -> dict[str, Any]:
        """Return all that decides the numbers, the weights' digest included; strict JSON."""
        return {
            "backbone": self.name,
            "weights": self.weights_digest(),
            "layer": self.layer,
            "pooling": self.pooling,
            "side": self.side,
            "preprocessing": self.preprocessing,
            "precision": self.precision,
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
            return _OWN[self.name].digest
        if self.weights is None:
            return UNTRAINED
        path = self.weights_path()
        if not path.is_file():
            if self.weights != "imagenet":
                raise WeightsUnavailableError(
                    f"no weights file at {path}. Expected 'imagenet', a weights file, or None."
                )
            self._network()  # Keras's own loader fetches the file
        try:
            about = path.stat()
            return _file_digest(path, about.st_size, about.st_mtime_ns, about.st_ino)
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
        row = BACKBONES[self.name]
        rows = self.side if self.side in _ROWS.get(self.name, ()) else 224
        return _keras_home() / "models" / row.weights_file.format(rows=rows)

    def build(self) -> Any:
        """Return the frozen network as a ``keras.Model``, preprocessing inside.

        Returns
        -------
        keras.Model
            Takes (n, side, side, 3) float32 RGB 0-255, gives (n, dim) float32 rows. The network
            itself is its layer "network"; nothing of it is trainable.

        Raises
        ------
        BackboneError
            The options do not fit the network, with Keras's own reason.
        """
        import keras

        family = (
            BACKBONES[self.name].family
            if self.name in BACKBONES
            else _FAMILY_OF_MODE[self.preprocessing]
        )
        prepare = import_module(f"keras.applications.{family}").preprocess_input
        with _dtype_policy(self.precision):
            network = self._cut(self._network())
        network.trainable = False
        image = keras.Input((self.side, self.side, 3), dtype="float32", name="image")
        rows = network(prepare(image), training=False)
        if len(rows.shape) > 2:
            pool = {"avg": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D", None: "Flatten"}
            rows = getattr(keras.layers, pool[self.pooling])(name="pooling", dtype="float32")(rows)
        elif self.precision != "float32":
            rows = keras.layers.Activation("linear", dtype="float32", name="to_float32")(rows)
        return keras.Model(image, rows, name=self.name)

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
            f"preprocessing {self.preprocessing}, {self.precision}, weights "
            f"{'untrained' if not self.trained else self.weights or 'its own'}\n"
            f"parameters: {count['total']:,} total, {count['trainable']:,} trainable, "
            f"{count['non_trainable']:,} non-trainable"
        )

    def _network(self) -> Any:
        """Return Keras's model without its top, as loaded, not yet cut."""
        if self.name in _OWN:
            return _OWN[self.name].model
        row = BACKBONES[self.name]
        builder = getattr(import_module("keras.applications"), row.builder)
        options = {
            "include_top": False,
            "input_shape": (self.side, self.side, 3),
            "pooling": self.pooling if self.layer is None else None,
        }
        try:
            if self.weights != "imagenet":
                network = builder(weights=None, **options)
            elif self.weights_path().is_file():
                # By path, so that a read-only Keras home serves too: Keras looks elsewhere then.
                network = builder(weights=os.fspath(self.weights_path()), **options)
            else:
                with _impatient_network():
                    network = builder(weights="imagenet", **options)
        except ValueError as error:
            raise self._refusal(error) from error
        except Exception as error:  # Keras reports a failed download as a bare Exception
            raise self._absent(error) from error
        if self.weights is None:
            _draw_weights(network)
        elif self.weights != "imagenet":
            _load_weights(network, Path(self.weights))
        return network

    def _refusal(self, error: ValueError) -> BackboneError:
        if self.weights == "imagenet" and self.weights_path().is_file():
            return WeightsIntegrityError(
                f"{self.name} could not load {self.weights_path()}: {error}. If the file is "
                "damaged, delete it and let Keras fetch it again."
            )
        return BackboneError(f"{self.name} with image_size={self.side}: {error}")

    def _absent(self, error: Exception) -> BackboneError:
        path = self.weights_path() if self.weights == "imagenet" else None
        if path is not None and path.is_file():
            return WeightsIntegrityError(
                f"{self.name} could not load {path}: {error}. If the file is damaged, delete it "
                "and let Keras fetch it again."
            )
        return WeightsUnavailableError(
            f"the ImageNet weights of {self.name} are not on disk and could not be fetched "
            f"({error}). Place the file {path.name if path else ''} in "
            f"{path.parent if path else ''} (KERAS_HOME decides that folder), pass weights=PATH, "
            "or weights=None for an untrained network."
        )

    def _cut(self, network: Any) -> Any:
        """Return the network up to `layer`, under the name "network"."""
        import keras

        if self.layer is None:
            output = network.output
        else:
            names = [layer.name for layer in network.layers]
            if self.layer not in names:
                close = difflib.get_close_matches(self.layer, names, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise BackboneError(
                    f"{self.name} has no layer {self.layer!r}.{hint} "
                    f"Its last layers: {', '.join(names[-12:])}."
                )
            output = network.get_layer(self.layer).output
        return keras.Model(network.input, output, name="network")


def find(backbone: str | Backbone) -> Backbone:
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


def _keras_home() -> Path:
    """Return Keras's folder by Keras's own rule, without importing Keras."""
    if "KERAS_HOME" in os.environ:
        return Path(os.environ["KERAS_HOME"]).expanduser()
    base = Path("~").expanduser()
    return (base if os.access(base, os.W_OK) else Path("/tmp")) / ".keras"  # noqa: S108


@lru_cache(maxsize=64)
def _file_digest(path: Path, *_stat: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_digest(name: str, model: Any) -> str:
    digest = hashlib.sha256()
    try:
        config = json.loads(model.to_json())
    except Exception as error:
        raise BackboneError(
            f"the model for {name!r} cannot describe itself ({error}); a cache key needs that. "
            "Give its layers get_config, or wrap it in a functional keras.Model."
        ) from error
    config.pop("compile_config", None)
    digest.update(json.dumps(config, sort_keys=True).encode())
    for weight in model.weights:
        values = np.ascontiguousarray(np.asarray(weight))
        digest.update(f"{values.shape}{values.dtype.str}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _draw_weights(network: Any) -> None:
    """Draw every kernel from N(0, 2 / fan-in) with a fixed seed, the same on every backend.

    He et al. 2015, "Delving Deep into Rectifiers", equation 10. Keras's own drawing depends on
    the backend, so its rows would differ from machine to machine under one key.
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
            f"{path} does not hold weights of this network without its top: {error}"
        ) from error


@contextmanager
def _dtype_policy(precision: str) -> Iterator[None]:
    """Build inside this with the network's precision; the user's own policy comes back."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def _impatient_network() -> Iterator[None]:
    """Give up on a silent server after 20 s; Keras's download itself never does."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20.0)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
