"""A saved classifier, from its file."""

from __future__ import annotations

import os

from featx.classifier.classifier import ImageClassifier
from featx.classifier.file.model import read
from featx.errors import ModelFormatError


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
        Where rows of new pictures are kept; see `featx.extract`.

    Raises
    ------
    ModelFormatError, ModelIntegrityError, ModelTrustError, ModelVersionError
        The file is no such file, was changed, holds what featx never writes, or is too new.
    """
    parts = read(path, sha256, weights)
    model = ImageClassifier(parts.backbone, parts.head, cache=cache)
    model.head_ = parts.head
    model.classes_, model.recipe_, model.dim_ = parts.classes, parts.recipe, parts.dim
    model.probes_, model.examples_ = parts.probes, parts.examples
    model.n_pictures_ = parts.examples.of
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
