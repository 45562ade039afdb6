"""What a model may be asked about: pictures in any form, and rows of its own network alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featx.datasets import Dataset, as_dataset
from featx.errors import FeatureMismatchError
from featx.features import Features


def as_pictures(X: Any, y: Sequence[Any] | None = None) -> Dataset:
    """Return anything that is predicted on as a Dataset; one picture alone is a list of one."""
    alone = isinstance(X, bytes) or hasattr(X, "getexif")
    alone = alone or (isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[-1] == 3)
    if isinstance(X, str | os.PathLike):
        alone = not os.fspath(X).lower().endswith(".csv") and Path(X).is_file()
    return as_dataset([X] if alone else X, y)


def rows_recipe(features: Features) -> dict[str, Any]:
    """Return what decides the rows, without what only describes them."""
    return {name: value for name, value in features.recipe.items() if name not in _DESCRIBES}


_DESCRIBES = ("trained", "runtimes")


def check_same_rows(recipe: dict[str, Any], dim: int, features: Features) -> None:
    """Refuse rows that another network made than the one a head was trained on.

    Raises
    ------
    FeatureMismatchError
        It names both networks and each field in which they differ.
    """
    came, width = rows_recipe(features), features.X.shape[1]
    differing = sorted(k for k in recipe.keys() | came.keys() if recipe.get(k) != came.get(k))
    differing = [name for name in differing if name != "key"] or differing
    if not differing and width == dim:
        return
    fields = ", ".join(f"{k} {came.get(k)!r} instead of {recipe.get(k)!r}" for k in differing)
    raise FeatureMismatchError(
        f"these rows come from {came.get('backbone', 'an unnamed network')!r} ({width} numbers a "
        f"row), and the model was trained on {recipe.get('backbone', 'an unnamed network')!r} "
        f"({dim}). They differ in: {fields or 'their width'}. Extract the pictures with the "
        "model's own backbone, or train a model on these rows."
    )
