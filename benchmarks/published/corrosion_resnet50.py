"""Corroded, cracked and healthy pipelines: ResNet50, a narrow head, augmentation everywhere."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.published.system import Counts, System
from featx import Backbone, FineTuned, Recipe
from featx.dense import BatchNorm, Dense, Dropout, Flatten, Flip, Rotation, Shear, Shift, Zoom

BACKBONE = Backbone("resnet50", image_size=224)
RECIPE = Recipe(
    layers=(
        Flatten(),
        BatchNorm(),
        Dense(45),
        Dropout(0.5),
        BatchNorm(),
        Dense(9),
        Dropout(0.5),
        BatchNorm(),
    ),
    augmentation=(
        Rotation(20 / 360, fill_mode="nearest"),
        Shift(0.2, 0.2, fill_mode="nearest"),
        Shear(0.0035, fill_mode="nearest"),  # the tangent of 0.2 degrees
        Zoom(0.2, fill_mode="nearest"),
        Flip("horizontal_and_vertical"),
    ),
    learning_rate=1e-3,
    epochs=50,
    batch_size=32,
    validation_fraction=0.2,
    monitor="val_accuracy",
    min_delta=0.01,
    patience=5,
    restore_best=False,
)

SYSTEM = System(
    name="corrosion_resnet50",
    source="poornachandra24/Transfer_learning @ 42ad621, transferlearning_resnet50.ipynb",
    classes=3,
    published=FineTuned(BACKBONE, RECIPE),
    corrected=FineTuned(BACKBONE, replace(RECIPE, restore_best=True, min_delta=0.0)),
    counts=Counts(23_688_769, 96_853, printed=True),
    steps=146,
    figures={
        "test accuracy": "0.9191 of 2,498 (augmented)",
        "best validation accuracy": "0.9330 in epoch 14; 0.9039 in epoch 19, the one tested",
        "time": "1,731 s for 19 epochs on a T4",
    },
    split="train_test_split 70 / 30 (not stratified), then 20 % of the training part to watch it: "
    "4,662 / 1,165 / 2,498",
    test_share=0.3,
    preprocessing="tf",
    scored_on="augmented test",
    mistakes=(
        "Images are scaled to -1..1 for a network that wants BGR less the ImageNet mean.",
        "Validation and test images are augmented at random.",
        "The best epoch is saved and never loaded: the last one is tested.",
        "min_delta 0.01 hides better epochs from the patience.",
    ),
    notes=("Augmented validation is not repeated: featx augments while training only.",),
)
