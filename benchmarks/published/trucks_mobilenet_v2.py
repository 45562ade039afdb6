"""Six trucks from ten images each: MobileNetV2 and one linear layer."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.published.system import Counts, System, last_batch_metrics
from featx import Backbone, FineTuned, Recipe

BACKBONE = Backbone("mobilenet_v2", image_size=224)
RECIPE = Recipe(
    layers=(),
    from_logits=True,
    learning_rate=1e-3,
    epochs=8,
    batch_size=32,
    validation_fraction=0.0,
    patience=None,
)

SYSTEM = System(
    name="trucks_mobilenet_v2",
    source="skyindde/Transfer_Learning_Classification_Truck @ d4cbf06, TL_Truck.ipynb",
    classes=6,
    published=FineTuned(BACKBONE, RECIPE),
    # The training loss still falls in epoch 8: more epochs, and the best of them by the images
    # that it has for that, or by some of the 60 where there are none.
    corrected=FineTuned(BACKBONE, replace(RECIPE, epochs=40, validation_fraction=0.2, patience=5)),
    counts=Counts(2_265_670, 7_686, printed=True),
    steps=2,
    figures={
        "test accuracy": "1.00 of 150",
        "epoch 8": "loss 0.4760, accuracy 1.0 (of its last batch)",
        "time": "54 s for 8 epochs",
    },
    split="60 / 150 / 150 images in three folders",
    per_class=(10, 25, 25),
    callbacks=(last_batch_metrics,),
    mistakes=(
        "The training figures of an epoch are those of its last batch.",
        "Training ends by hand while the loss still falls.",
        "The bars called scores are logits, not probabilities.",
    ),
    notes=(
        "The notebook's network is a TF Hub module that wants 0..1; Keras's own MobileNetV2 is "
        "given -1..1, as it wants: the same images to the same network.",
    ),
)
