"""120 dog breeds from a labels.csv: InceptionResNetV2 at 331 pixels and a deep head."""

from __future__ import annotations

from pathlib import Path

from benchmarks.published.system import Counts, System
from featx import Backbone, Dataset, FineTuned, Recipe
from featx.dense import BatchNorm, Dense, Dropout, Flip, GlobalAveragePooling

BACKBONE = Backbone("inception_resnet_v2", image_size=331)
RECIPE = Recipe(
    layers=(
        BatchNorm(renorm=True),
        GlobalAveragePooling(),
        Dense(512),
        Dense(256),
        Dropout(0.5),
        Dense(128),
    ),
    augmentation=(Flip("horizontal"),),
    learning_rate=1e-3,
    epochs=25,
    batch_size=32,
    validation_fraction=0.2,
    monitor="val_loss",
    min_delta=0.001,
    patience=10,
    restore_best=True,
)

SYSTEM = System(
    name="dog_breeds_inception_resnet_v2",
    source="AnimeshBasak-14/Multiclass-image-classification-using-Transfer-learning @ ba4b77c, "
    "Multiclass_image_classification_using_Transfer_learning.ipynb",
    classes=120,
    published=FineTuned(BACKBONE, RECIPE),
    corrected=FineTuned(Backbone("inception_resnet_v2"), RECIPE),
    counts=Counts(55_314_136, 969_720, printed=True),
    steps=256,
    figures={
        "validation accuracy": "0.9008 in epoch 2 (flipped at random); stopped by hand in epoch 4",
        "time": "about 7,100 s an epoch, no accelerator",
    },
    split="validation_split 0.2: 8,178 / 2,044; 10,357 test images have no labels",
    preprocessing="0..1",
    scored_on="augmented test",
    mistakes=(
        "Images are scaled to 0..1 for a network that wants -1..1.",
        "Validation images are flipped at random.",
        "331 pixels for a network of 299.",
        "The run was broken off: no figure is that of a finished training.",
    ),
)


def labelled(table: Path, images: Path) -> Dataset:
    """Return the images of a labels.csv with the columns id and breed, as the contest has it."""
    import pandas as pd

    frame = pd.read_csv(table, dtype=str)
    frame["path"] = frame["id"] + ".jpg"
    return Dataset.from_table(frame, label_column="breed", folder=images)
