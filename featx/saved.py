"""A classifier of pictures as one file, and back: what is in it and what is checked."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from featx import head_state, model_file, skops_head
from featx.backbones import Backbone
from featx.errors import (
    BackboneError,
    ModelFileError,
    ModelFormatError,
    ModelIntegrityError,
    ModelVersionError,
)
from featx.examples import Examples
from featx.head_state import HeadState, Shape

TOLERANCE = 1e-6
"""The most by which a loaded head may miss the scores it was saved with."""

PROBES = 16
"""Rows of the training set whose scores are saved beside the head."""

_LIBRARIES = ("featx", "numpy", "scikit-learn", "xgboost", "keras", "skops")
_OPTIONS = tuple(one.name for one in fields(Backbone) if one.name not in ("name", "weights"))
_MAX_TEXT = 10_000


@dataclass(frozen=True, eq=False)
class Parts:
    """What a model file holds.

    Attributes
    ----------
    backbone : Backbone
    head : classifier
        Fitted on rows.
    classes : ndarray of shape (n_classes,)
        Class names.
    recipe : dict
        All that decides the rows.
    dim : int
        The width of a row.
    probes : ndarray of shape (n, dim) and dtype float32
        Rows whose scores are saved beside the head.
    examples : Examples
    """

    backbone: Backbone
    head: Any
    classes: np.ndarray
    recipe: dict[str, Any]
    dim: int
    probes: np.ndarray
    examples: Examples


def scores_of(head: Any, rows: np.ndarray) -> np.ndarray:
    """Return the head's probabilities, or, where it has none, its scores or its decisions."""
    for name in ("predict_proba", "decision_function"):
        if hasattr(head, name):
            return np.asarray(getattr(head, name)(rows))
    return np.searchsorted(head.classes_, head.predict(rows))


def write(path: str | os.PathLike[str], parts: Parts) -> str:
    """Write a model file and return its sha256.

    Raises
    ------
    ModelTrustError
        The head is a classifier that could not be loaded again without running its code.
    """
    state = head_state.state_of(parts.head)
    members: dict[str, Any] = {"probes/rows.npy": parts.probes}
    members["probes/scores.npy"] = scores_of(parts.head, parts.probes)
    if state is None:
        about: dict[str, Any] = {"kind": "skops"}
        members["head/estimator.skops"] = skops_head.write(parts.head)
    else:
        about = state.about
        members |= {f"head/{name}.npy": array for name, array in state.arrays.items()}
        members |= {f"head/{name}.ubj": blob for name, blob in state.blobs.items()}
    examples, described = _examples_members(parts.examples.with_copies())
    manifest = {
        "featx": _versions().get("featx"),
        "versions": _versions(),
        "backbone": _backbone_data(parts.backbone),
        "rows": parts.recipe,
        "dim": parts.dim,
        "classes": [str(name) for name in parts.classes],
        "head": about,
        "examples": described,
    }
    return model_file.write(path, manifest, members | examples)


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
        The child that says what is wrong: format, integrity, trust, version.
    """
    name = os.fspath(path)
    manifest, members = model_file.read(path, sha256)
    try:
        backbone = _backbone_of(name, manifest["backbone"], weights)
        return _parts(name, manifest, members, backbone)
    except ModelFileError:
        raise
    except BackboneError as error:
        raise ModelFileError(f"{name}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelFormatError(
            f"{name}: its manifest is not what featx writes ({type(error).__name__}: {error})."
        ) from error


def _parts(
    name: str, manifest: dict[str, Any], members: dict[str, bytes], backbone: Backbone
) -> Parts:
    classes = manifest["classes"]
    texts = isinstance(classes, list) and all(
        isinstance(text, str) and len(text) < _MAX_TEXT for text in classes
    )
    if not texts or len(classes) < 2 or classes != sorted(set(classes)):
        raise ModelFormatError(f"{name}: its class names are not two or more, sorted and distinct.")
    dim, rows = manifest["dim"], manifest["rows"]
    if not isinstance(dim, int) or not 1 <= dim <= 1 << 24 or not isinstance(rows, dict):
        raise ModelFormatError(f"{name}: its rows are not described as featx does.")
    arrays = {
        member: model_file.array_of(content, f"{name}: {member}")
        for member, content in members.items()
        if member.endswith(".npy")
    }
    shape = Shape(dim, np.array(classes))
    head = _head(name, manifest["head"], members, arrays, shape)
    probes = arrays["probes/rows.npy"]
    _check_probes(name, head, probes, arrays["probes/scores.npy"], manifest)
    examples = _examples_of(manifest["examples"], arrays, dim)
    return Parts(backbone, head, shape.classes, rows, dim, probes, examples)


def _head(
    name: str,
    about: dict[str, Any],
    members: dict[str, bytes],
    arrays: dict[str, np.ndarray],
    shape: Shape,
) -> Any:
    if about["kind"] == "skops":
        return skops_head.read(name, members["head/estimator.skops"], shape)
    state = HeadState(
        about,
        {m[5:-4]: array for m, array in arrays.items() if m.startswith("head/")},
        {m[5:-4]: members[m] for m in members if m.startswith("head/") and m.endswith(".ubj")},
    )
    try:
        return head_state.head_of(state, shape)
    except ModelFormatError as error:
        raise ModelFormatError(f"{name}: {error}") from error


def _check_probes(
    name: str, head: Any, rows: np.ndarray, expected: np.ndarray, manifest: dict[str, Any]
) -> None:
    """Compute the saved rows' scores again.

    Raises
    ------
    ModelVersionError, ModelIntegrityError
        They differ by more than 1e-6, with other versions of the libraries or with the same.
    """
    try:
        found = scores_of(head, rows)
        same = found.shape == expected.shape
        worst = float(np.abs(found - expected).max(initial=0)) if same else np.inf
    except Exception as error:  # whatever the parts of a made-up head do not fit in
        raise ModelFormatError(f"{name}: its head cannot compute: {error}.") from error
    then = manifest["versions"] if isinstance(manifest["versions"], dict) else {}
    if worst <= TOLERANCE:
        # Only there: featx's own heads are numbers, and computed by featx.
        saved, now = str(then.get("scikit-learn"))[:20], version("scikit-learn")
        if manifest["head"]["kind"] == "skops" and saved != now:
            warnings.warn(
                f"{name}: its head was saved by scikit-learn {saved}, and this is {now}. It gives "
                "the saved scores on the rows saved with it; train it again to be sure.",
                UserWarning,
                stacklevel=5,
            )
        return
    differ = [
        f"{library} {str(then.get(library))[:20]} then, {now} now"
        for library, now in _versions().items()
        if then.get(library) != now
    ]
    if differ:
        raise ModelVersionError(
            f"{name}: the head gives other scores than when it was saved (by {worst:.2g}), with "
            f"other versions: {'; '.join(differ)}. Install those, or train it again."
        )
    raise ModelIntegrityError(
        f"{name}: the head gives other scores than when it was saved (by {worst:.2g}): its parts "
        "do not belong together. Get the file again from whom you trust."
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _backbone_data(backbone: Backbone) -> dict[str, Any]:
    given = backbone.weights not in ("imagenet", None) or not backbone.weights and backbone.trained
    return {
        "name": backbone.name,
        # Not the path: it would mean nothing elsewhere, and tell about this machine.
        "weights": "given" if given else backbone.weights,
        **{name: getattr(backbone, name) for name in _OPTIONS},
    }


def _backbone_of(name: str, data: dict[str, Any], given: str | os.PathLike[str] | None) -> Backbone:
    weights = data["weights"] if given is None else given
    if data["weights"] not in ("imagenet", None, "given"):
        raise ModelFormatError(f"{name}: its weights are neither published nor given.")
    if weights == "given":
        try:
            found = Backbone(data["name"], weights=None)
        except BackboneError:
            found = None
        if found is None or not found.trained:
            raise ModelFileError(
                f"{name} was trained with weights of its maker's own for {data['name']!r:.80}. "
                "Pass load(..., weights=PATH) (--weights), or register the network under that name "
                "first."
            )
        weights = None
    options = {name: data[name] for name in _OPTIONS}
    return Backbone(data["name"], weights=weights, **options)


def _examples_members(examples: Examples) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    copies = [p if isinstance(p, bytes) else b"" for p in examples.pictures]
    ends = np.cumsum([len(copy) for copy in copies], dtype=np.int64)
    arrays = {
        "examples/rows.npy": examples.rows,
        "examples/pictures.npy": np.frombuffer(b"".join(copies), np.uint8),
        "examples/ends.npy": ends,
    }
    about = {"ids": examples.ids, "labels": examples.labels, "of": examples.of}
    return arrays, about


def _examples_of(about: dict[str, Any], arrays: dict[str, np.ndarray], dim: int) -> Examples:
    rows, ends = arrays["examples/rows.npy"], arrays["examples/ends.npy"]
    blob = arrays["examples/pictures.npy"]
    ids, labels = about["ids"], about["labels"]
    texts = [text for text in (*ids, *labels) if not isinstance(text, str)]
    steps = np.diff(ends, prepend=0)
    fits = rows.shape == (len(ids), dim) and len(labels) == len(ids) == len(ends)
    fits = fits and rows.dtype == np.float32 and blob.dtype == np.uint8 and blob.ndim == 1
    if texts or not fits or (steps < 0).any() or int(ends[-1:].sum()) != len(blob):
        raise ModelFormatError("the examples are damaged.")
    pictures = [
        bytes(blob[end - step : end]) or None for end, step in zip(ends, steps, strict=True)
    ]
    return Examples(rows, list(ids), list(labels), list(pictures), int(about["of"]))
