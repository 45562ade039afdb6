"""A classifier of images as one file, and back: what is in it and what is checked."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from featx.backbones.backbone import Backbone
from featx.classifier import training_digests
from featx.classifier.examples import Examples, as_members, of_members
from featx.classifier.file import container, head_state, skops_heads
from featx.classifier.file.arrays import array_of
from featx.classifier.file.head_state import HeadState, Shape
from featx.classifier.file.names import given
from featx.errors import (
    BackboneError,
    ModelFileError,
    ModelFormatError,
    ModelIntegrityError,
    ModelVersionError,
)
from featx.labels import as_targets, class_order
from featx.versions import installed

# Kernels of other processors round differently. Measured over OpenBLAS's for five processors:
# `nearest` moves by up to 9e-5, for the probe itself is in the training set, at a distance that is
# rounding alone and whose inverse is its weight; all others by up to 1e-6.
_TOLERANCES = {"nearest": 1e-3, "dense": 1e-4, "mlp": 1e-4}
_TOLERANCE = 1e-5
"""The most by which a loaded head may miss the scores it was saved with, by its kind."""

PROBES = 16
"""Embeddings of the training set whose scores are saved beside the head."""

_LIBRARIES = ("featx", "numpy", "scikit-learn", "xgboost", "keras", "skops")
_OPTIONS = {
    one.name: one.default for one in fields(Backbone) if one.name not in ("name", "weights")
}
_MAX_TEXT = 10_000
_MAX_CLASSES = 256 << 20
# What a manifest of made-up values may raise; whole numbers beyond floats overflow.
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a model file holds.

    Attributes
    ----------
    backbone : Backbone
    head : classifier
        Fitted on features.
    classes : ndarray of shape (n_classes,)
        Class names.
    spec : dict
        All that decides the embeddings.
    dim : int
        The width of an embedding.
    probes : ndarray of shape (n, dim) and dtype float32
        Embeddings whose scores are saved beside the head.
    examples : Examples
    trained_on : ndarray of shape (n,) and dtype uint64
        Of training images, as in `training_digests`.
    """

    backbone: Backbone
    head: Any
    classes: np.ndarray
    spec: dict[str, Any]
    dim: int
    probes: np.ndarray
    examples: Examples
    trained_on: np.ndarray


def scores_of(head: Any, X: np.ndarray) -> np.ndarray:
    """Return the head's probabilities, or, where it has none, its scores or its decisions."""
    for name in ("predict_proba", "decision_function"):
        if hasattr(head, name):
            return np.asarray(getattr(head, name)(X))
    return np.searchsorted(head.classes_, head.predict(X))


def write(path: str | os.PathLike[str], parts: Parts) -> str:
    """Write a model file and return its sha256.

    Raises
    ------
    ModelTrustError
        The head is a classifier that could not be loaded again without running its code.
    """
    state = head_state.state_of(parts.head)
    members: dict[str, Any] = {"probes/embeddings.npy": parts.probes}
    members["probes/scores.npy"] = scores_of(parts.head, parts.probes)
    if state is None:
        metadata: dict[str, Any] = {"kind": "skops"}
        members["head/estimator.skops"] = skops_heads.write(parts.head)
    else:
        metadata = state.metadata
        members |= {f"head/{name}.npy": array for name, array in state.arrays.items()}
        members |= {f"head/{name}.ubj": blob for name, blob in state.blobs.items()}
    examples, described = as_members(parts.examples.with_copies())
    if len(parts.trained_on):
        examples[training_digests.MEMBER] = parts.trained_on
    libraries = installed(_LIBRARIES)
    manifest = {
        "featx": libraries.get("featx"),
        "versions": libraries,
        "backbone": _backbone_data(parts.backbone),
        "spec": parts.spec,
        "dim": parts.dim,
        "classes": _classes_data(parts.classes),
        "head": metadata,
        "examples": described,
    }
    return container.write(path, manifest, members | examples)


def read(
    path: str | os.PathLike[str],
    sha256: str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Parts:
    """Return the parts of a model file; its probes have been computed again and agree.

    Parameters
    ----------
    sha256 : str, optional
        The digest that the whole file must have.
    weights : path, optional
        The weights file, for a model trained with weights of its maker's own.

    Raises
    ------
    ModelFileError
        Its subclass tells what is wrong: format, integrity, trust or version.
    """
    name = os.fspath(path)
    manifest, members = container.read(path, sha256)
    try:
        backbone = _backbone_of(name, manifest["backbone"], weights)
        return _parts(name, manifest, members, backbone)
    except ModelFileError:
        raise
    except BackboneError as error:
        raise ModelFileError(f"{name}: {error}") from error
    except _DAMAGE as error:
        raise ModelFormatError(
            f"{name}: its manifest is not what featx writes ({type(error).__name__}: {error})."
        ) from error


def _parts(
    name: str, manifest: dict[str, Any], members: dict[str, bytes], backbone: Backbone
) -> Parts:
    classes = _classes_of(name, manifest["classes"])
    dim, spec = manifest["dim"], manifest["spec"]
    if not isinstance(dim, int) or not 1 <= dim <= 1 << 24 or not isinstance(spec, dict):
        raise ModelFormatError(f"{name}: its embeddings are not described as featx does.")
    arrays = {
        member: array_of(content, f"{name}: {member}")
        for member, content in members.items()
        if member.endswith(".npy")
    }
    shape = Shape(dim, as_targets(classes))
    head = _head(name, manifest["head"], members, arrays, shape)
    probes = arrays["probes/embeddings.npy"]
    fits = probes.shape[1:] == (dim,) and probes.dtype == np.float32 and 1 <= len(probes) <= PROBES
    if not fits or arrays["probes/scores.npy"].shape[:1] != probes.shape[:1]:
        raise ModelFormatError(f"{name}: its probes are not 1 to {PROBES} embeddings with scores.")
    _check_probes(name, head, probes, arrays["probes/scores.npy"], manifest)
    try:
        examples = of_members(manifest["examples"], arrays, dim, classes)
        trained_on = training_digests.of_members(arrays, examples.of)
    except ModelFormatError as error:
        raise ModelFormatError(f"{name}: {error}") from error
    return Parts(backbone, head, classes, spec, dim, probes, examples, trained_on)


def _classes_data(classes: np.ndarray) -> list[Any]:
    data: list[Any] = classes.tolist()
    return data


def _classes_of(name: str, data: Any) -> np.ndarray:
    """Return class names, or classes that are numbers or booleans, as they were written."""
    kinds = {type(one) for one in data} if isinstance(data, list) else set()
    alike = kinds in ({str}, {int}, {float}, {bool})
    if not alike or len(data) < 2 or data != class_order(data):
        raise ModelFormatError(
            f"{name}: its classes are not two or more names or numbers, sorted and distinct."
        )
    if kinds != {str}:
        return np.array(data)
    longest = max(map(len, data))
    # NumPy gives every name the memory of the longest one.
    small = longest < _MAX_TEXT and 4 * longest * len(data) <= _MAX_CLASSES
    classes = np.array(data if small else [])
    if classes.tolist() != data:  # NumPy drops a name's zeros at the end
        raise ModelFormatError(f"{name}: its class names are too long, too many or cut off.")
    return classes


def _head(
    name: str,
    metadata: dict[str, Any],
    members: dict[str, bytes],
    arrays: dict[str, np.ndarray],
    shape: Shape,
) -> Any:
    if metadata["kind"] == "skops":
        return skops_heads.read(name, members["head/estimator.skops"], shape)
    state = HeadState(
        metadata,
        {m[5:-4]: array for m, array in arrays.items() if m.startswith("head/")},
        {m[5:-4]: members[m] for m in members if m.startswith("head/") and m.endswith(".ubj")},
    )
    try:
        return head_state.head_of(state, shape)
    except ModelFormatError as error:
        raise ModelFormatError(f"{name}: {error}") from error


def _check_probes(
    name: str, head: Any, probes: np.ndarray, expected: np.ndarray, manifest: dict[str, Any]
) -> None:
    """Compute the scores of the probes again.

    Raises
    ------
    ModelVersionError, ModelIntegrityError
        They differ by more than rounding does, with other versions of the libraries or with the
        same.
    """
    try:
        found = scores_of(head, probes)
        same = found.shape == expected.shape
        worst = float(np.abs(found - expected).max(initial=0)) if same else np.inf
    except Exception as error:  # whatever the parts of a made-up head do not fit in
        raise ModelFormatError(f"{name}: its head cannot compute: {error}.") from error
    then = manifest["versions"] if isinstance(manifest["versions"], dict) else {}
    if worst <= _TOLERANCES.get(str(manifest["head"].get("kind")), _TOLERANCE):
        # Only there: featx's own heads are numbers, and computed by featx.
        now = installed(_LIBRARIES)["scikit-learn"]
        saved = str(then.get("scikit-learn"))[:20]
        if manifest["head"]["kind"] == "skops" and saved != now:
            warnings.warn(
                f"{name}: its head was saved by scikit-learn {saved}, and this is {now}. It gives "
                "the saved scores on the embeddings saved with it; train it again to be sure.",
                UserWarning,
                stacklevel=5,
            )
        return
    differ = [
        f"{library} {str(then.get(library))[:20]} then, {now} now"
        for library, now in installed(_LIBRARIES).items()
        if then.get(library) != now
    ]
    if differ:
        raise ModelVersionError(
            f"{name}: the head gives other scores than when it was saved (by {worst:.2g}), with "
            f"other versions: {'; '.join(differ)}. Install those, or train it again."
        )
    raise ModelIntegrityError(
        f"{name}: the head gives other scores than when it was saved (by {worst:.2g}): its parts "
        "do not belong together. Obtain the file again from a source you trust."
    )


def _backbone_data(backbone: Backbone) -> dict[str, Any]:
    is_own = backbone.weights not in ("imagenet", None) or (
        not backbone.weights and backbone.trained
    )
    return {
        "name": backbone.name,
        # Not the path: it would mean nothing elsewhere, and describe this machine.
        "weights": "given" if is_own else backbone.weights,
        **{name: getattr(backbone, name) for name in _OPTIONS},
    }


def _backbone_of(name: str, data: dict[str, Any], path: str | os.PathLike[str] | None) -> Backbone:
    weights = data["weights"] if path is None else path
    if data["weights"] not in ("imagenet", None, "given"):
        raise ModelFormatError(f"{name}: the source of its weights is not known.")
    if weights == "given":
        try:
            found = Backbone(data["name"], weights=None)
        except BackboneError:
            found = None
        if found is None or not found.trained:
            raise ModelFileError(
                f"{name} was trained with custom weights for {data['name']!r:.80}. "
                "Pass load(..., weights=PATH) (--weights), or register the network under that name "
                "first."
            )
        weights = None
    named = given("Backbone", data)
    options = {name: named.get(name, default) for name, default in _OPTIONS.items()}
    for option, value in options.items():
        if not (value is None or isinstance(value, str) or option == "image_size"):
            raise ModelFormatError(f"{name}: its network has {option}={value!r:.40}.")
    return Backbone(data["name"], weights=weights, **options)
