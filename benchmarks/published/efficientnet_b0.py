"""Scenes: EfficientNetB0 on raw pixels and a wide head; the nearest code to an anonymous README."""

from __future__ import annotations

from benchmarks.published.system import Counts, System
from featx import Backbone, FineTuned, Recipe
from featx.dense import (
    BatchNorm,
    Brightness,
    Dense,
    Dropout,
    Flip,
    GlobalAveragePooling,
    Rotation,
    Shift,
    Zoom,
)

RECIPE = Recipe(
    layers=(
        GlobalAveragePooling(),
        BatchNorm(),
        Dropout(0.2),
        Dense(256, l2=0.01),
        BatchNorm(),
        Dropout(0.2),
    ),
    augmentation=(
        Rotation(30 / 360, fill_mode="nearest"),
        Shift(0.2, 0.2, fill_mode="nearest"),
        Zoom(0.2, fill_mode="nearest"),
        Flip("horizontal"),
        Brightness(0.2),
    ),
    learning_rate=1e-3,
    epochs=50,
    batch_size=16,
    validation_fraction=0.2,
    monitor="val_loss",
    patience=10,
    restore_best=True,
)
MODEL = FineTuned(Backbone("efficientnet_b0", image_size=224), RECIPE)

SYSTEM = System(
    name="efficientnet_b0",
    source="kushalac/Transfer-learning-Image-classification @ 8b743cfd (the README's own code was "
    "not found)",
    classes=6,
    published=MODEL,
    corrected=MODEL,
    counts=Counts(4_385_193, 332_550, printed=False),
    steps=702,
    figures={
        "test accuracy": "0.92 of 3,000",
        "best validation accuracy": "0.9194 in epoch 40",
        "time": "19,439 s for 50 epochs",
    },
    split="11,230 / 2,804 / 3,000; 20 % of the training part watches it",
    test_share=3_000 / 17_034,
    notes=(
        "Its brightness is a factor of 0.8 to 1.2; Keras's layer adds up to 20 % of the range.",
        "No mistake was found: it is run once and stands for both.",
    ),
)
