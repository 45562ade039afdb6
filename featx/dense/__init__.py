"""Dense layers as data (`Recipe`), and a classifier that trains exactly those layers on rows."""

from __future__ import annotations

from featx.dense.classifier import ROWS, DenseClassifier, rows_and_labels
from featx.dense.recipe import (
    BatchNorm,
    Brightness,
    Contrast,
    CosineDecay,
    Dense,
    Dropout,
    Flatten,
    Flip,
    GlobalAveragePooling,
    Recipe,
    ReduceOnPlateau,
    Rotation,
    Shear,
    Shift,
    Zoom,
    attach,
)
from featx.dense.training import split, train, train_on_rows

__all__ = [
    "ROWS",
    "BatchNorm",
    "Brightness",
    "Contrast",
    "CosineDecay",
    "Dense",
    "DenseClassifier",
    "Dropout",
    "Flatten",
    "Flip",
    "GlobalAveragePooling",
    "Recipe",
    "ReduceOnPlateau",
    "Rotation",
    "Shear",
    "Shift",
    "Zoom",
    "attach",
    "rows_and_labels",
    "split",
    "train",
    "train_on_rows",
]
