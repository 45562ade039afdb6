"""Dense layers as data (`Recipe`), and a classifier that trains them on features."""

from __future__ import annotations

from featx.dense.classifier import DEFAULT_RECIPE, DenseClassifier
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
from featx.dense.samples import features_and_labels, of_classes, samples_of
from featx.dense.training import seed_of, split, train, train_on_features

__all__ = [
    "DEFAULT_RECIPE",
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
    "features_and_labels",
    "of_classes",
    "samples_of",
    "seed_of",
    "split",
    "train",
    "train_on_features",
]
