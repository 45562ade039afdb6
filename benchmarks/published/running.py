"""A recipe as published, the same recipe corrected, and featx's heads: run side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.base import clone

import featx
from benchmarks.published.system import Parts, System, changed, misprepared
from benchmarks.published.tables import Against, Line, against, interval
from featx import Backbone, Dataset, FineTuned
from featx.dense import GlobalAveragePooling
from featx.errors import FeatxError

# Another layer of another network in place of `mixed7`: about as far from the end.
STAND_IN_LAYERS = {"mobilenet_v2": "block_12_add"}
OWN_LAYERS = "its own layers on cached features"


@dataclass(frozen=True)
class Options:
    """How to run.

    Attributes
    ----------
    backbone : str or None
        A network in place of the system's own, where its weights are not at hand.
    weights : str or None
        As `Backbone` takes them.
    epochs : int or None
        At most so many, whatever the recipe says.
    heads : sequence of str or None
        The heads to choose among; all of them unless given.
    logs : Path or None
        Where the callbacks of a system write; a folder that is removed again unless given.
    seed : int
    draws : int
        Random augmentations over which a claim on augmented images is averaged.
    """

    backbone: str | None = None
    weights: str | None = "imagenet"
    epochs: int | None = None
    heads: Sequence[str] | None = None
    logs: Path | None = None
    seed: int = 0
    draws: int = 3


@dataclass(frozen=True)
class Heads:
    """featx's heads on cached features.

    Attributes
    ----------
    lines : list of Line
        One a head: the pass over all images, its fit and its predictions.
    best : str
        The head that cross-validation on the training rows alone chose.
    right : ndarray of bool
        Whether it got each test image right.
    alone, chosen : float
        Its seconds from no rows at all to its predictions, without and with the choice.
    layers : Line or None
        The corrected recipe's own layers on the same rows, with all its epochs and without
        augmentation; None for layers that stand on no row.
    layers_right : ndarray of bool or None
        Whether these got each test image right.
    """

    lines: list[Line]
    best: str
    right: np.ndarray
    alone: float
    chosen: float
    layers: Line | None = None
    layers_right: np.ndarray | None = None


@dataclass(frozen=True)
class Paired:
    """featx's best head against the corrected recipe on the same images: McNemar's exact test."""

    head: str
    difference: float
    only_head: int
    only_recipe: int
    p_value: float
    ratio: float
    ratio_alone: float

    @property
    def worse(self) -> bool:
        """Whether the head is worse by more than chance explains (5 %)."""
        return self.difference < 0 and self.p_value < 0.05

    @property
    def p(self) -> str:
        """The p-value with its sign of relation, three digits."""
        return "< 0.001" if self.p_value < 0.001 else f"= {self.p_value:.3f}"

    def __str__(self) -> str:
        """Return the test in words."""
        return (
            f"{self.head} is {'worse' if self.worse else 'not worse'} than the corrected recipe: "
            f"{100 * self.difference:+.1f} points ({self.only_head} images only it got right, "
            f"{self.only_recipe} only the recipe; exact McNemar p {self.p}), "
            f"{self.ratio:.1f} times as fast with the choice among all heads, "
            f"{self.ratio_alone:.1f} times without."
        )


@dataclass(frozen=True)
class Compared:
    """One system run all three ways; `corrected` is the trained network of the corrected one.

    `versus` is the verdict, of the head against the corrected recipe; `tests` are of other pairs.
    """

    lines: list[Line]
    versus: Paired
    corrected: FineTuned
    tests: list[Against]


def model(system: System, which: str, options: Options) -> FineTuned:
    """Return the published or the corrected recipe, unfitted, on the network that is to be used."""
    found = clone(system.published if which == "published" else system.corrected)
    backbone, recipe, wrong = found.backbone, found.recipe, system.preprocessing
    if options.backbone is not None and options.backbone != backbone.name:
        if backbone.layer and options.backbone not in STAND_IN_LAYERS:
            raise FeatxError(
                f"{system.name} is cut at {backbone.layer}, and no layer of {options.backbone} is "
                f"known to stand in; expected one of {', '.join(STAND_IN_LAYERS)}."
            )
        layer = STAND_IN_LAYERS[options.backbone] if backbone.layer else None
        side = backbone.image_size
        native = Backbone(options.backbone)
        if wrong == native.preprocessing:
            # Wrong for the network, right for its stand-in: the same two, the other way round.
            wrong = backbone.preprocessing
        backbone = replace(
            backbone,
            name=options.backbone,
            layer=layer,
            # Larger images than the stand-in knows would be a mistake of the stand-in.
            image_size=side if side is not None and side < native.side else None,
        )
    backbone = replace(backbone, weights=options.weights)
    if options.epochs is not None:
        recipe = replace(recipe, epochs=min(recipe.epochs, options.epochs))
    if which == "published" and wrong is not None:
        backbone = misprepared(backbone, wrong)
    return found.set_params(
        backbone=backbone, recipe=recipe, random_state=options.seed, progress=False
    )


def fitted(
    system: System, which: str, parts: Parts, options: Options
) -> tuple[FineTuned, Line, np.ndarray]:
    """Train one way and score it on clean test images; beside that, as it scored itself."""
    train, test = parts.train, parts.test
    found = model(system, which, options)
    own = which == "published"
    with tempfile.TemporaryDirectory() as folder:
        logs = (options.logs or Path(folder)) / system.name
        callbacks = [make(logs) for make in system.callbacks] if own else []
        started = time.perf_counter()
        watched = test if own and system.validated_on == "test" else parts.validation
        found.fit(train, validation=watched, callbacks=callbacks)
        predicted = found.predict(test)
        seconds = time.perf_counter() - started
    right = predicted == test.labels
    claimed, how = claim(system, found, parts, options) if own else (None, "")
    low, high = interval(right)
    line = Line(
        f"as {which}", float(right.mean()), low, high, seconds, found.n_epochs_, claimed, how
    )
    return found, line, right


def claim(
    system: System, found: FineTuned, parts: Parts, options: Options
) -> tuple[float | None, str]:
    """Return the accuracy that the system's own way of scoring gives, and that way in words."""
    random = np.random.default_rng(options.seed)
    if system.scored_on == "training":
        chosen = parts.train.subset(random.permutation(len(parts.train))[:32])
        return found.score(chosen), "on 32 of its training images"
    if system.scored_on == "augmented test":
        scores = [augmented_score(found, parts.test, seed) for seed in range(options.draws)]
        spread = f"{min(scores):.3f} to {max(scores):.3f}"
        return float(np.mean(scores)), f"mean of {options.draws} random augmentations, {spread}"
    return None, ""


def augmented_score(found: FineTuned, test: Dataset, seed: int) -> float:
    """Return the accuracy on test images that were changed at random as training ones are."""
    side = found.model_.input_shape[1]
    return found.score(changed(test, found.recipe.augmentation, side, seed))


def heads(system: System, parts: Parts, options: Options) -> Heads:
    """Run every head on cached features; cross-validation on the training set chooses the best."""
    name = options.backbone or model(system, "corrected", options).backbone.name
    backbone = Backbone(name, weights=options.weights)
    with tempfile.TemporaryDirectory() as fresh:
        report = featx.benchmark(
            parts.train,
            parts.test,
            backbones=[backbone],
            heads=options.heads,
            baseline=False,
            seeds=[options.seed],
            leaks=False,  # its seconds would stand in no line
            cache=fresh,
            progress=False,
        )
        spent = report.extractions[0].seconds
        own = _own_layers(system, parts, backbone, Path(fresh), spent)
    lines, best, right, alone = [], "", np.empty(0, bool), 0.0
    for one in report.summaries:
        answers = next(p for p in report.predictions if p.method == one.method)
        row = next(r for r in report.results if r.method == one.method)
        correct = np.asarray(answers.y_pred == answers.y_true)
        low, high = interval(correct)
        seconds = spent + row.fit_seconds + row.predict_seconds
        lines.append(Line(f"head {one.method}", float(correct.mean()), low, high, seconds, None))
        if one.chosen:
            best, right, alone = one.method, correct, seconds
    chosen = alone + report.selection.seconds
    return Heads(lines, best, right, alone, chosen, *(own or (None, None)))


def _own_layers(
    system: System, parts: Parts, backbone: Backbone, cache: Path, spent: float
) -> tuple[Line, np.ndarray] | None:
    """Train the corrected recipe's layers on the rows that the heads were trained on."""
    recipe = system.corrected.recipe
    if system.corrected.backbone.pooling is None:
        return None
    layers = tuple(one for one in recipe.layers if not isinstance(one, GlobalAveragePooling))
    rows, asked = (
        featx.extract(some, backbone, cache=cache, progress=False)
        for some in (parts.train, parts.test)
    )
    started = time.perf_counter()
    head = featx.heads.dense(replace(recipe, layers=layers, augmentation=())).fit(rows.X, rows.y)
    right = np.asarray(head.predict(asked.X) == asked.y)
    seconds = spent + time.perf_counter() - started
    line = Line(OWN_LAYERS, float(right.mean()), *interval(right), seconds, head.n_epochs_)
    return line, right


def paired(head: Heads, theirs: np.ndarray, seconds: float) -> Paired:
    """Compare two methods image by image (McNemar 1947, the exact binomial form)."""
    found = against(head.best, head.right, "the corrected recipe", theirs)
    return Paired(
        head=head.best,
        difference=found.difference,
        only_head=found.only_one,
        only_recipe=found.only_other,
        p_value=found.p_value,
        ratio=seconds / head.chosen,
        ratio_alone=seconds / head.alone,
    )


def side_by_side(
    system: System, parts: Parts, options: Options, tell: Callable[[str], None] = str
) -> Compared:
    """Run all three ways on the same images.

    Parameters
    ----------
    tell : callable
        Is given a few words before each step, since a step can take minutes.
    """
    tell(f"{system.name}: as published")
    found, published, as_published = fitted(system, "published", parts, options)
    right = as_published
    corrected = replace(published, way="as corrected (nothing to mend)", claimed=None)
    if system.mistakes:
        tell(f"{system.name}: as corrected")
        found, corrected, right = fitted(system, "corrected", parts, options)
    tell(f"{system.name}: featx's heads")
    ours = heads(system, parts, options)
    chosen = next(line for line in ours.lines if line.way == f"head {ours.best}")
    chosen = replace(
        chosen, way=f"featx: {ours.best}, chosen among {len(ours.lines)} heads", seconds=ours.chosen
    )
    return Compared(
        [published, corrected, chosen, *([ours.layers] if ours.layers else []), *ours.lines],
        paired(ours, right, corrected.seconds),
        found,
        _tests(system, ours, as_published, right),
    )


def _tests(
    system: System, ours: Heads, published: np.ndarray, corrected: np.ndarray
) -> list[Against]:
    """Compare the other pairs of ways that the table invites to compare."""
    found = []
    if system.mistakes:
        found.append(against("corrected", corrected, "published", published))
        found.append(against(ours.best, ours.right, "published", published))
    if ours.layers_right is not None:
        found.append(against(OWN_LAYERS, ours.layers_right, "corrected", corrected))
        found.append(against(ours.best, ours.right, OWN_LAYERS, ours.layers_right))
    return found


def params(systems: Sequence[System]) -> list[tuple[System, dict[str, int]]]:
    """Return each system with the parameters that its declaration has in this Keras."""
    return [(system, system.published.parameter_counts(system.classes)) for system in systems]
