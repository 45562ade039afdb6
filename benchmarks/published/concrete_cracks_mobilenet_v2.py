"""Cracks in concrete: MobileNetV2, as the script does it, and as its README says."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.published.system import Counts, System, tensorboard
from featx import Backbone, FineTuned, Recipe
from featx.dense import CosineDecay, Dropout, Flip, GlobalAveragePooling, Rotation

AUGMENTATION = (Flip("horizontal"), Rotation(0.2))
COUNTS = Counts(2_260_546, 2_562, printed=False)

_SCRIPT = Recipe(
    layers=(GlobalAveragePooling(),),
    augmentation=AUGMENTATION,
    learning_rate=CosineDecay(5e-4, steps=50),
    epochs=3,
    batch_size=32,
    validation_fraction=0.0,
    monitor="loss",
    patience=5,
    restore_best=False,
)

SCRIPT = System(
    name="concrete_cracks_mobilenet_v2",
    source="Acoiisbae/Concrete-Crack-Images-for-Classification @ bfe6a3f, DLCV_ass3.py",
    classes=2,
    # base.trainable = True, then layers[:200] of 154 are frozen: the second phase trains no more
    # than the first did.
    published=FineTuned(
        Backbone("mobilenet_v2", image_size=224),
        _SCRIPT,
        unfreeze=0,
        unfreeze_epochs=4,
        unfreeze_learning_rate=1e-5,
        unfreeze_optimizer="rmsprop",
    ),
    # layers[:100] is what SalmanSuhaimi/Concrete-... @ 8eb724d freezes of the 154.
    corrected=FineTuned(
        Backbone("mobilenet_v2", image_size=224),
        replace(
            _SCRIPT,
            learning_rate=5e-4,
            validation_fraction=0.1,
            monitor="val_loss",
            restore_best=True,
        ),
        unfreeze=54,
        unfreeze_epochs=4,
        unfreeze_learning_rate=1e-5,
        unfreeze_optimizer="rmsprop",
    ),
    counts=COUNTS,
    steps=1_250,
    figures={
        "last epoch": "accuracy 0.9988, validation 0.9990 (on training images)",
        "test": "accuracy 1.0 on 32 training images",
        "time": "222 s an epoch of 1,250 steps",
    },
    split="none: all 40,000 images are trained on; validation and test are cut out of them",
    scored_on="training",
    callbacks=(tensorboard,),
    mistakes=(
        "Validation and test images are training images.",
        "The test set is one batch of 32.",
        "The learning rate falls to zero in 50 steps, not epochs: 3,700 steps teach nothing.",
        "layers[:200] freezes all 154 layers: nothing of the network is fine-tuned.",
        "Early stopping watches the training loss, for longer than there are epochs.",
    ),
)

_README = Recipe(
    layers=(GlobalAveragePooling(), Dropout(0.3)),
    augmentation=AUGMENTATION,
    learning_rate=1e-3,
    epochs=10,
    batch_size=32,
    image_size=160,
    validation_fraction=9_600 / 37_600,
    monitor="val_accuracy",
    patience=5,
    restore_best=False,
)

README = System(
    name="concrete_cracks_readme",
    source="the README of the same repository; closest code deenazati08/Concrete-Crack-Images-for-"
    "Classification @ 6fe83e0",
    classes=2,
    published=FineTuned(Backbone("mobilenet_v2"), _README),
    corrected=FineTuned(Backbone("mobilenet_v2"), replace(_README, restore_best=True)),
    counts=COUNTS,
    steps=875,
    figures={"test": "a report on one batch of 32; a neighbour with the same recipe: 0.9970"},
    split="validation_split 0.3, a fifth of it for the test: 28,000 / 9,600 / 2,400",
    test_share=2_400 / 40_000,
    callbacks=(tensorboard,),
    mistakes=("The best epoch is not restored.",),
    notes=(
        "The README's categorical cross-entropy on one-hot labels is the same loss as featx's "
        "sparse one.",
        "Keras keeps weights learned at 160 pixels; where they are absent, --weights FILE takes "
        "those of 224.",
    ),
)
