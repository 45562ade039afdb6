"""The names under which saved models know featx's own classes, and fields that came later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featx import dense, heads

RECIPE_PARTS: dict[str, type] = {
    "BatchNorm": dense.BatchNorm,
    "Brightness": dense.Brightness,
    "Contrast": dense.Contrast,
    "CosineDecay": dense.CosineDecay,
    "Dense": dense.Dense,
    "Dropout": dense.Dropout,
    "Flatten": dense.Flatten,
    "Flip": dense.Flip,
    "GlobalAveragePooling": dense.GlobalAveragePooling,
    "Recipe": dense.Recipe,
    "ReduceOnPlateau": dense.ReduceOnPlateau,
    "Rotation": dense.Rotation,
    "Shear": dense.Shear,
    "Shift": dense.Shift,
    "Zoom": dense.Zoom,
}
"""The classes that a recipe in a model file may name. A name stays when its class is renamed."""

ESTIMATORS: dict[str, type] = {
    "CalibratedHead": heads.CalibratedHead,
    "LogisticHead": heads.LogisticHead,
    "PrimalSVC": heads.PrimalSVC,
    "RidgeHead": heads.RidgeHead,
    "ScaledHead": heads.ScaledHead,
    "StratifiedFolds": heads.StratifiedFolds,
}
"""featx's own classes that a pipeline saved by skops may hold; it names no module of featx."""

ABSENT: dict[str, dict[str, Any]] = {"Backbone": {"decode": "full"}}
"""What an absent field means, by the name of its class, where it is not the field's default.

A field that came after version 0.1 is absent from older files, and means there the one value that
0.1 knew. It stands here where that value is not what the class now takes by default."""


STEERING = frozenset(("n_jobs", "device", "verbose", "memory"))
"""Parameters that steer the machine: threads, devices, output, folders to write to.

Whoever runs a model decides on them, and never a file: one of 150 kB started 20,000 threads."""


def name_of(kind: type, table: Mapping[str, type]) -> str | None:
    """Return the name of a class in a table, or None."""
    return next((name for name, one in table.items() if one is kind), None)


def given(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a file names, and those absent from it that `ABSENT` knows.

    Those that steer the machine are left out: they have their defaults.
    """
    found = {**ABSENT.get(name, {}), **fields}
    return {field: value for field, value in found.items() if field not in STEERING}
