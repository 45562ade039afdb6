"""A recipe as published, the same recipe corrected, and featx's heads: run side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import binomtest
from sklearn.base import clone

import featx
from benchmarks.published.system import System, misprepared
from featx import Backbone, Dataset, FineTuned

# Another layer of another network in place of `mixed7`: about as far from the end.
STAND_IN_LAYERS = {"mobilenet_v2": "block_12_add"}
DRAWS = 5


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
    """

    backbone: str | None = None
    weights: str | None = "imagenet"
    epochs: int | None = None
    cache: Path | None = None
    logs: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Line:
    """One way of doing it, on the same test pictures."""

    way: str
    accuracy: float
    low: float
    high: float
    seconds: float
    epochs: int | None
    claimed: float | None = None
    claimed_how: str = ""


@dataclass(frozen=True)
class Paired:
    """featx's best head against the corrected recipe on the same pictures: McNemar's exact test."""

    head: str
    difference: float
    only_head: int
    only_recipe: int
    p_value: float
    ratio: float

    @property
    def worse(self) -> bool:
        """Whether the head is worse by more than chance explains (5 %)."""
        return self.difference < 0 and self.p_value < 0.05


def model(system: System, which: str, options: Options) -> FineTuned:
    """Return the published or the corrected recipe, unfitted, on the network that is to be used."""
    found = clone(system.published if which == "published" else system.corrected)
    backbone = found.backbone if isinstance(found.backbone, Backbone) else Backbone(found.backbone)
    recipe = found.recipe
    if options.backbone is not None and options.backbone != backbone.name:
        layer = STAND_IN_LAYERS[options.backbone] if backbone.layer else None
        side = backbone.image_size
        native = Backbone(options.backbone).side
        backbone = replace(
            backbone,
            name=options.backbone,
            layer=layer,
            # Larger pictures than the stand-in knows would be a mistake of the stand-in.
            image_size=side if side is not None and side < native else None,
        )
    backbone = replace(backbone, weights=options.weights)
    if options.epochs is not None:
        recipe = replace(recipe, epochs=min(recipe.epochs, options.epochs))
    if which == "published" and system.preprocessing is not None:
        backbone = misprepared(backbone, system.preprocessing)
    return found.set_params(backbone=backbone, recipe=recipe, seed=options.seed, progress=False)


def fitted(
    system: System, which: str, train: Dataset, test: Dataset, options: Options
) -> tuple[FineTuned, Line, np.ndarray]:
    """Train one way and score it on clean test pictures; beside that, as it scored itself."""
    found = model(system, which, options)
    own = which == "published"
    with tempfile.TemporaryDirectory() as folder:
        logs = options.logs or Path(folder)
        callbacks = [make(logs) for make in system.callbacks] if own else []
        started = time.perf_counter()
        watched = test if own and system.validated_on == "test" else None
        found.fit(train, validation=watched, callbacks=callbacks)
        predicted = found.predict(test)
        seconds = time.perf_counter() - started
    right = predicted == test.labels
    claimed, how = claim(system, found, train, test, options) if own else (None, "")
    low, high = interval(right)
    line = Line(
        f"as {which}", float(right.mean()), low, high, seconds, found.n_epochs_, claimed, how
    )
    return found, line, right


def claim(
    system: System, found: FineTuned, train: Dataset, test: Dataset, options: Options
) -> tuple[float | None, str]:
    """Return the accuracy that the system's own way of scoring gives, and that way in words."""
    random = np.random.default_rng(options.seed)
    if system.scored_on == "training":
        chosen = train.subset(random.permutation(len(train))[:32])
        return found.score(chosen), "on 32 of its training pictures"
    if system.scored_on == "augmented test":
        scores = [augmented_score(found, test, seed) for seed in range(DRAWS)]
        spread = f"{min(scores):.3f} to {max(scores):.3f}"
        return float(np.mean(scores)), f"mean of {DRAWS} random augmentations, {spread}"
    return None, ""


def augmented_score(found: FineTuned, test: Dataset, seed: int) -> float:
    """Return the accuracy on test pictures that were changed at random as training ones are."""
    import keras

    side = found.model_.input_shape[1]
    pixels = np.stack(
        [
            np.asarray(Image.open(item.source).convert("RGB").resize((side, side)), np.float32)
            for item in test.items
        ]
    )
    for position, change in enumerate(found.recipe.augmentation):
        layer = change.build(f"change_{position}", 1000 * seed + position)
        parts = np.array_split(pixels, max(1, len(pixels) // 32))
        pixels = np.concatenate(
            [keras.ops.convert_to_numpy(layer(part, training=True)) for part in parts]
        )
    changed = Dataset.from_array(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), test.labels)
    return found.score(changed)


def interval(right: np.ndarray) -> tuple[float, float]:
    """Return the exact 95 % interval of a share (Clopper & Pearson 1934)."""
    found = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def heads(
    system: System, train: Dataset, test: Dataset, options: Options
) -> tuple[list[Line], str, np.ndarray, float]:
    """Run every head on kept rows; the best is chosen by cross-validation on training rows alone.

    Returns
    -------
    tuple
        A line a head, the chosen head's name, whether it got each test picture right, and the
        seconds from no rows at all to its answer: the pass, the choice among all heads, its fit.
    """
    name = options.backbone or model(system, "corrected", options).backbone.name
    backbone = Backbone(name, weights=options.weights)
    with tempfile.TemporaryDirectory() as fresh:
        report = featx.benchmark(
            train,
            test,
            backbones=[backbone],
            baseline=False,
            seeds=[options.seed],
            cache=fresh,
            progress=False,
        )
    spent = report.passes[0].seconds
    lines, best, right, seconds = [], "", np.empty(0, bool), 0.0
    for one in report.summaries:
        answers = next(p for p in report.predictions if p.method == one.method)
        row = next(r for r in report.rows if r.method == one.method)
        correct = np.asarray(answers.y_pred == answers.y_true)
        low, high = interval(correct)
        own = row.fit_seconds + row.predict_seconds
        lines.append(Line(one.method, float(correct.mean()), low, high, spent + own, None))
        if one.chosen:
            best, right = one.method, correct
            seconds = spent + report.selection.seconds + own
    return lines, best, right, seconds


def paired(head: str, ours: np.ndarray, theirs: np.ndarray, ratio: float) -> Paired:
    """Compare two methods picture by picture (McNemar 1947, the exact binomial form)."""
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    differ = only_ours + only_theirs
    p = binomtest(only_ours, differ).pvalue if differ else 1.0
    difference = float(ours.mean() - theirs.mean())
    return Paired(head, difference, only_ours, only_theirs, float(p), ratio)


def side_by_side(
    system: System, train: Dataset, test: Dataset, options: Options
) -> tuple[list[Line], Paired]:
    """Run all three ways on the same pictures."""
    _, published, right = fitted(system, "published", train, test, options)
    corrected = replace(published, way="as corrected (nothing to mend)", claimed=None)
    if system.mistakes:
        _, corrected, right = fitted(system, "corrected", train, test, options)
    others, best, ours, seconds = heads(system, train, test, options)
    chosen = next(line for line in others if line.way == best)
    chosen = replace(
        chosen, way=f"featx: {best}, chosen among {len(others)} heads", seconds=seconds
    )
    rest = [replace(line, way=f"head {line.way}") for line in others]
    return (
        [published, corrected, chosen, *rest],
        paired(best, ours, right, corrected.seconds / seconds),
    )


def params(systems: Sequence[System]) -> list[tuple[System, dict[str, int]]]:
    """Return each system with the parameters that its declaration has in this Keras."""
    return [(system, system.published.parameter_counts(system.classes)) for system in systems]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def shown(lines: Sequence[Line]) -> str:
    """Return the lines of one system as a Markdown table."""
    return table(
        ("way", "test accuracy", "95 %", "seconds", "epochs", "as it scored itself"),
        [
            (
                line.way,
                f"{line.accuracy:.3f}",
                f"{line.low:.3f} to {line.high:.3f}",
                f"{line.seconds:.1f}",
                line.epochs or "",
                "" if line.claimed is None else f"{line.claimed:.3f} ({line.claimed_how})",
            )
            for line in lines
        ],
    )
