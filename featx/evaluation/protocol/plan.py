"""What a comparison was asked to do: the arguments of `benchmark`, read and checked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any

import numpy as np

from featx.backbones.backbone import Backbone, find_backbone
from featx.datasets.dataset import Dataset
from featx.dense import Recipe
from featx.errors import FeatxError
from featx.evaluation.protocol import splits, trials
from featx.evaluation.protocol.options import Options
from featx.evaluation.protocol.splits import EmbeddedImages
from featx.evaluation.results import ExtractionCost
from featx.finetune import FineTuned
from featx.formatting import epochs as epochs_in_words

BASELINE = "keras_baseline"
# Three folds: enough to tell heads apart by more than chance, at twice the price of one fit.
SELECTION_FOLDS = 3
# Held-out samples, or groups of them, after which no further fold is scored. The standard error of
# an accuracy over so many is half a point at most, sqrt(0.25 / 10,000), and that of the difference
# of two heads that disagree about a tenth of them a third of a point: more would only cost time.
ENOUGH_HELD_OUT = 10_000


@dataclass(frozen=True)
class Folds:
    """How training images are held out: folds, of which the first ones are scored.

    Attributes
    ----------
    drawn : int
        0 where a class has too few images for any.
    scored : int
        Those that hold `ENOUGH_HELD_OUT` samples together, else all of them.
    """

    drawn: int = 0
    scored: int = 0

    def __bool__(self) -> bool:
        return self.drawn > 0


@dataclass(frozen=True)
class Plan:
    """The arguments of `benchmark`, read and checked.

    Attributes
    ----------
    names : tuple of str and (str or None)
        What the report calls the training and the test set.
    recipe : Recipe or None
        Of the baseline; None runs none.
    extraction : mapping
        What goes to `extract` beside images and backbone.
    """

    names: tuple[str, str | None]
    backbones: tuple[Backbone, ...]
    heads: tuple[trials.Method, ...]
    recipe: Recipe | None
    seeds: tuple[int, ...]
    folds: int
    extraction: Mapping[str, Any]
    versions: str

    @property
    def progress(self) -> bool:
        """Whether bars are shown."""
        return bool(self.extraction["progress"])

    @property
    def steps(self) -> int:
        """Methods to train, each seed counted."""
        return len(self.seeds) * sum(len(self.methods(each)) for each in self.backbones)

    def label(self, backbone: Backbone) -> str:
        """Return the name, a precision other than float32, and what tells it from namesakes."""
        namesakes = [other for other in self.backbones if other.name == backbone.name]
        words = [backbone.name]
        for field in fields(Backbone):
            value = getattr(backbone, field.name)
            alike = all(getattr(other, field.name) == value for other in namesakes)
            if field.name == "precision" and (not alike or value != field.default):
                words.append(value)
            elif not alike and value != field.default:
                words.append(f"{field.name}={value}")
        return " ".join(words)

    def methods(self, backbone: Backbone) -> list[trials.Method]:
        """Return the heads and, last because it is slow, the baseline.

        Keras trains nothing on int8: the baseline of such a backbone would be that of float32.
        """
        recipe = self.recipe
        if recipe is None or backbone.precision == "int8":
            return list(self.heads)

        def make(seed: int) -> FineTuned:
            return FineTuned(backbone, recipe, random_state=seed, progress=self.progress)

        return [*self.heads, trials.Method(BASELINE, "baseline", make)]

    def selection_folds(self, train: Dataset, test: Dataset | None, groups: Any = None) -> Folds:
        """Return the folds to choose the head with; none where no choice is to be or can be made.

        Parameters
        ----------
        groups : ndarray of shape (n_train,), optional
            Which the folds must not divide.
        """
        if test is None or len(self.heads) * len(self.backbones) < 2 or train.labels is None:
            return Folds()
        return held_out_folds(train.labels, groups)

    def setting(
        self, extraction: ExtractionCost, train: EmbeddedImages, tested: EmbeddedImages
    ) -> trials.Setting:
        """Return what all trials on one backbone share."""
        return trials.Setting(
            dataset=" -> ".join(name for name in self.names if name is not None),
            classes=splits.classes_of(train),
            ids=tuple(tested.features.ids),
            extraction=extraction,
            versions=self.versions,
        )


def held_out_folds(labels: np.ndarray, groups: np.ndarray | None = None) -> Folds:
    """Return the folds that hold out training images; none where a class has too few of them.

    Parameters
    ----------
    groups : ndarray of shape (n,), optional
        A class then has as many as the groups that it is in, and groups are what is counted.
    """
    names = [str(label) for label in labels]
    independent = len(names) if groups is None else len(set(groups.tolist()))
    if groups is not None:
        names = [name for name, _ in set(zip(names, groups, strict=True))]
    smallest = min(Counter(names).values())
    if smallest < 2:
        return Folds()
    drawn = min(SELECTION_FOLDS, smallest)
    return Folds(drawn, min(drawn, math.ceil(ENOUGH_HELD_OUT * drawn / independent)))


def read(train: Any, test: Any, options: Options, versions: str) -> Plan:
    """Return the plan of a comparison; the images themselves are not looked at.

    Raises
    ------
    FeatxError
        An option that cannot be, or nothing to compare.
    """
    folds: Any = options.folds
    if not isinstance(folds, Integral):
        raise FeatxError(
            f"folds={options.folds!r:.80}: expected a whole number. featx draws the folds itself, "
            "stratified and with copies together. To keep a patient, a site or a day together, "
            "pass groups=: a column, a list with one name per image, or a function of the path."
        )
    asked = Plan(
        names=(splits.name_of(train), None if test is None else splits.name_of(test)),
        backbones=tuple(several(options.backbones, options.precisions)),
        heads=tuple(trials.methods(options.heads, options.class_weight)),
        recipe=recipe_of(options.baseline, options.epochs, options.class_weight),
        seeds=seeds_of(options.seeds),
        folds=options.folds,
        extraction=options.extraction,
        versions=versions,
    )
    if not asked.steps:
        raise FeatxError("nothing to compare: pass at least one head, or keep baseline=True.")
    return asked


def several(backbones: Any, precisions: Sequence[str] | None = None) -> list[Backbone]:
    """Return the backbones asked for, one or many, by name or as such, each in each precision."""
    asked = [backbones] if isinstance(backbones, (str, Backbone)) else list(backbones)
    found = list(dict.fromkeys(find_backbone(one) for one in asked))
    if precisions is not None:
        wanted = [precisions] if isinstance(precisions, str) else precisions
        pairs = ((one, precision) for one in found for precision in wanted)
        found = list(dict.fromkeys(replace(one, precision=each) for one, each in pairs))
    if not found:
        raise FeatxError("no backbone to compare with: give one or more, such as 'resnet50'.")
    return found


def seeds_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds: the first so many, or those given."""
    found = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not found or len(set(found)) < len(found):
        raise FeatxError(f"seeds must be 1 or more, or different whole numbers; got {seeds!r}.")
    return found


def recipe_of(baseline: bool | Recipe, epochs: int, class_weight: Any = None) -> Recipe | None:
    """Return the baseline's recipe; None for no baseline. A recipe that is given stands as it is.

    Raises
    ------
    FeatxError
        No epochs; or weights by label, of which a recipe knows "balanced" alone.
    """
    if isinstance(baseline, Recipe):
        return baseline
    if not baseline:
        return None
    if epochs < 1:
        raise FeatxError(f"epochs must be 1 or more; got {epochs}. baseline=False leaves it out.")
    # No validation part and no early stopping: the heads train on every training image, so the
    # baseline does too, and its epochs are the stated number.
    if class_weight not in (None, "balanced"):
        raise FeatxError(
            f"class_weight={class_weight!r:.80}: the baseline knows 'balanced' alone. Pass "
            "baseline=False, or class_weight='balanced'."
        )
    return Recipe(
        layers=(),
        epochs=epochs,
        validation_fraction=0.0,
        patience=None,
        class_weight=class_weight,
    )


def in_words(recipe: Recipe | None) -> str:
    """Return a recipe in words for the report; empty for none."""
    if recipe is None:
        return ""
    layers = " + ".join([*(type(layer).__name__ for layer in recipe.layers), "Dense softmax"])
    held = recipe.validation_fraction
    watched = f"{held:.0%} of the training images held out" if held else "all training images"
    stop = (
        ""
        if recipe.patience is None
        else f", early stopping after {epochs_in_words(recipe.patience)}"
    )
    weighted = "; classes weighted alike" if recipe.class_weight else ""
    augmented = ", ".join(type(step).__name__ for step in recipe.augmentation)
    return (
        f"Frozen network + {layers}; {recipe.optimizer}, learning rate {recipe.learning_rate}, "
        f"batches of {recipe.batch_size}, {epochs_in_words(recipe.epochs)}{stop}; {watched}"
        f"{weighted}{f'; augmentation: {augmented}' if augmented else ''}; every image is decoded "
        "and sent through the whole network every epoch"
    )
