"""Fashion images: a middle layer of InceptionV3 at 150 pixels, flattened into a wide head."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.published.system import Counts, System
from featx import Backbone, FineTuned, Recipe
from featx.dense import Dense, Dropout, Flatten, Flip, Rotation, Shear, Shift, Zoom

BACKBONE = Backbone("inception_v3", layer="mixed7", pooling=None, image_size=150)
RECIPE = Recipe(
    layers=(Flatten(), Dense(1024), Dropout(0.2)),
    augmentation=(
        Rotation(40 / 360, fill_mode="nearest"),
        Shift(0.2, 0.2, fill_mode="nearest"),
        Shear(0.0035, fill_mode="nearest"),  # the tangent of 0.2 degrees
        Zoom(0.2, fill_mode="nearest"),
        Flip("horizontal"),
    ),
    optimizer="rmsprop",
    learning_rate=1e-4,
    epochs=10,
    batch_size=100,
    validation_fraction=0.0,
    patience=None,
)

SYSTEM = System(
    name="inception_v3_mixed7",
    source="wngaw/wngaw.github.io, _posts/2020-07-08-transfer-learning-for-image-classification.md",
    classes=10,
    published=FineTuned(BACKBONE, RECIPE),
    corrected=FineTuned(BACKBONE, replace(RECIPE, validation_fraction=0.1, patience=3)),
    counts=Counts(47_521_706, 38_546_442, printed=False),
    steps=100,
    figures={"validation accuracy": "0.8; in the plot at most 0.833, on the test images"},
    split="60,000 / 10,000; the test images are the validation",
    test_share=10_000 / 70_000,
    preprocessing="0..1",
    validated_on="test",
    mistakes=(
        "Images are scaled to 0..1 for a network that wants -1..1.",
        "The test images watch the training.",
        "The callback that should stop the training reads a figure that is not there.",
    ),
    notes=("Its epoch is 100 steps of 100, a sixth of its images; here it is all of them.",),
)
