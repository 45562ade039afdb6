"""What a model predicts on: images in any form, and embeddings of its own network alone."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from featx.backbones.backbone import Backbone
from featx.datasets import places
from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.table import is_table
from featx.errors import FeatureMismatchError
from featx.features import Features


def as_images(X: Any, y: Any = None, *, labelled: bool = True, progress: bool = False) -> Dataset:
    """Return anything that is predicted on as a Dataset; one image alone is a list of one.

    Parameters
    ----------
    labelled, progress
        See ``as_dataset``.
    """
    alone = isinstance(X, bytes) or hasattr(X, "getexif")
    alone = alone or (isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[-1] == 3)
    if isinstance(X, str | os.PathLike):
        alone = not is_table(X) and places.is_one_image(os.fspath(X))
    return as_dataset([X] if alone else X, y, labelled=labelled, progress=progress)


def spec_of(features: Features) -> dict[str, Any]:
    """Return what decides the embeddings, without what only describes them."""
    return {name: value for name, value in features.spec.items() if name not in _DESCRIBES}


_DESCRIBES = ("trained", "runtimes", "decode")


def check_same_features(spec: dict[str, Any], dim: int, features: Features) -> None:
    """Refuse features of another network than the one a head was trained on.

    Raises
    ------
    FeatureMismatchError
        It names both networks and each field in which they differ.
    """
    came, width = spec_of(features), features.X.shape[1]
    differing = sorted(k for k in spec.keys() | came.keys() if spec.get(k) != came.get(k))
    differing = [name for name in differing if name != "key"] or differing
    if not differing and width == dim:
        return
    fields = ", ".join(f"{k} {came.get(k)!r} instead of {spec.get(k)!r}" for k in differing)
    theirs, own = (one.get("backbone", "an unnamed network") for one in (came, spec))
    raise FeatureMismatchError(
        f"these features come from {theirs!r} ({width} numbers per embedding), and the model was "
        f"trained on {own!r} ({dim}). They differ in: {fields or 'their width'}. Extract the "
        "images with the model's own backbone, or train a model on these features."
    )


def check_same_network(spec: dict[str, Any], dim: int, backbone: Backbone) -> None:
    """Refuse a network that is not the one whose features a head was trained on.

    Raises
    ------
    FeatureMismatchError
        It names each field in which they differ, such as the weights on this machine.
    """
    came = backbone.spec()
    # The others are about the cache, which has no part in it.
    came |= {name: value for name, value in spec.items() if name in ("key", "format")}
    nothing = np.zeros((0, dim), np.float32)
    check_same_features(spec, dim, Features(nothing, None, [], spec=came))


def check_own_features(backbone: Backbone, features: Features) -> None:
    """Refuse to train on given features whose spec is that of another network.

    Raises
    ------
    FeatureMismatchError
        It names each field in which they differ.
    """
    came = spec_of(features)
    own = replace(backbone, weights=None).spec()
    differing = [k for k in own if k != "weights" and k in came and came[k] != own[k]]
    # Weights that are not on this disk cannot be told from others: `predict` will compare them.
    here = backbone.weights is None or backbone.weights_path().is_file()
    if not differing and here and "weights" in came:
        own["weights"] = backbone.weights_digest()
        differing = ["weights"] if came["weights"] != own["weights"] else []
    if differing:
        fields = ", ".join(f"{k} {came[k]!r} instead of {own[k]!r}" for k in differing)
        raise FeatureMismatchError(
            f"these features come from {came.get('backbone', 'an unnamed network')!r}, and this "
            f"classifier is of {backbone.name!r}. They differ in: {fields}. Give the classifier "
            "the features' backbone, or extract the images with its own."
        )
