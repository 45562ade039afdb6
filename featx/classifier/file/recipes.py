"""A Recipe as strict JSON and back, and the arrays that its layers must have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from featx import dense
from featx.classifier.file.names import RECIPE_PARTS, given, name_of
from featx.dense import Recipe
from featx.errors import HeadError, ModelFormatError

MAX_LAYERS = 200
"""More than any head has; Keras needs 8 ms to build one."""


def as_data(value: Any) -> Any:
    """Return a recipe, or a part of one, as JSON holds it; HeadError if it cannot be saved."""
    if isinstance(value, Recipe) and len(value.layers) > MAX_LAYERS:
        raise HeadError(f"a recipe of more than {MAX_LAYERS} layers cannot be saved.")
    kind = name_of(type(value), RECIPE_PARTS)
    if kind is not None:
        return {"kind": kind} | {
            one.name: as_data(getattr(value, one.name)) for one in fields(value)
        }
    if isinstance(value, tuple):
        return [as_data(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise HeadError(f"a recipe with {type(value).__name__} cannot be saved.")


def of_data(data: Any) -> Any:
    """Return the recipe, or the part of one, that JSON holds.

    Raises
    ------
    ModelFormatError
        A kind of layer or a field that featx does not know, or a value outside its range.
    """
    if isinstance(data, list):
        return tuple(of_data(part) for part in data)
    if not isinstance(data, dict):
        return data
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in RECIPE_PARTS:
        raise ModelFormatError(f"no layer {kind!r:.60}. Known: {', '.join(RECIPE_PARTS)}.")
    named = {name: of_data(value) for name, value in data.items() if name != "kind"}
    try:
        # From this table alone: a file cannot name any other class.
        return RECIPE_PARTS[kind](**given(kind, named))
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{kind} is damaged: {error}.") from error


def check_weights(recipe: Any, dim: int, n_classes: int, weights: Sequence[np.ndarray]) -> None:
    """Expect the arrays of the recipe's layers, before Keras allocates memory.

    Raises
    ------
    ModelFormatError
        An array is missing, or there is one of another shape.
    """
    if not isinstance(recipe, Recipe):
        raise ModelFormatError("a dense head without a recipe.")
    if len(recipe.layers) > MAX_LAYERS:
        raise ModelFormatError(f"{len(recipe.layers)} layers; at most {MAX_LAYERS} are read.")
    expected: list[tuple[int, ...]] = []
    width = dim
    for layer in (*recipe.layers, dense.Dense(n_classes)):
        if isinstance(layer, dense.BatchNorm):
            expected += [(width,)] * (7 if layer.renorm else 4)
        elif isinstance(layer, dense.Dense):
            if not isinstance(layer.units, int) or layer.units < 1:
                raise ModelFormatError(f"a layer of {layer.units!r:.40} units.")
            expected += [(width, layer.units), (layer.units,)]
            width = layer.units
    found = [weight.shape for weight in weights]
    if found != expected or any(weight.dtype != np.float32 for weight in weights):
        raise ModelFormatError(f"weights of the shapes {found}; the recipe has {expected}.")
