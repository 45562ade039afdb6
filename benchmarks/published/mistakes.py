"""Each mistake on its own: the same recipe with it and without, everything else the same.

Where pictures are not changed at random, the frozen network gives the same row in every epoch: the
layers are then trained on kept rows, which are the same numbers in seconds, so that several seeds
and all pictures of a stand-in can be afforded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

import featx
from benchmarks.published import SYSTEMS, running
from benchmarks.published.system import misprepared
from featx import Backbone, Dataset, Recipe
from featx.dense import GlobalAveragePooling

SEEDS = range(3)
BACKBONE = Backbone("mobilenet_v2")


@dataclass(frozen=True)
class Found:
    """One mistake, measured: accuracies are means over seeds, 0 to 1."""

    mistake: str
    system: str
    stand_in: str
    published: str
    corrected: str
    how: str


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one stand-in, divided into training and test rows by a seed."""

    X: np.ndarray
    y: np.ndarray

    def split(self, seed: int, share: float = 0.3) -> tuple[np.ndarray, ...]:
        """Return X_train, X_test, y_train, y_test."""
        return tuple(
            train_test_split(self.X, self.y, test_size=share, stratify=self.y, random_state=seed)
        )


def rows_of(pictures: Dataset, mode: str | None = None, cache: Path | None = None) -> Rows:
    """Return the rows of the stand-in network, fed rightly or as another family's is fed."""
    used = BACKBONE if mode is None else misprepared(BACKBONE, mode)
    found = featx.extract(pictures, used, cache=cache, progress=False)
    return Rows(found.X, np.asarray(found.y, dtype=object))


def on_rows(recipe: Recipe, rows: Rows, seed: int) -> tuple[float, object]:
    """Return the test accuracy of a recipe's layers, trained on rows, and the trained head."""
    X, X_test, y, y_test = rows.split(seed)
    head = featx.heads.dense(_for_rows(recipe), seed=seed).fit(X, y)
    return float(accuracy_score(y_test, head.predict(X_test))), head


def _for_rows(recipe: Recipe) -> Recipe:
    layers = tuple(one for one in recipe.layers if not isinstance(one, GlobalAveragePooling))
    return replace(recipe, layers=layers, augmentation=())


def mean(values: list[float]) -> str:
    """Return the mean with the range of the seeds."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def wrong_preprocessing(stand_ins: dict[str, Dataset], cache: Path) -> list[Found]:
    """Corrosion: another family's scaling. Dogs: a division by 255."""
    found = []
    for name, stand_in, mode in (
        ("corrosion_resnet50", "magnetic_tile", "caffe"),
        ("dog_breeds_inception_resnet_v2", "flowers", "0..1"),
        ("inception_v3_mixed7", "trashnet", "0..1"),
    ):
        recipe = SYSTEMS[name].corrected.recipe
        recipe = replace(recipe, layers=(), validation_fraction=0.2, patience=5, batch_size=32)
        right, wrong = (rows_of(stand_ins[stand_in], m, cache) for m in (None, mode))
        scores = [[on_rows(recipe, rows, seed)[0] for seed in SEEDS] for rows in (wrong, right)]
        said = "caffe's BGR less mean" if mode == "caffe" else "0..1"
        found.append(
            Found(
                "wrong preprocessing",
                name,
                stand_in,
                mean(scores[0]),
                mean(scores[1]),
                f"{said} instead of -1..1; one Dense layer, up to {recipe.epochs} epochs, "
                f"{len(SEEDS)} seeds",
            )
        )
    return found


def tested_on_training(stand_ins: dict[str, Dataset], cache: Path) -> list[Found]:
    """Cracks: 32 training pictures as the test; the recipe has a rate that does not vanish."""
    rows = rows_of(stand_ins["steel"], None, cache)
    # With as many epochs as its README says, so that there is something to have learned by heart.
    recipe = replace(SYSTEMS["concrete_cracks_readme"].published.recipe, epochs=30, patience=None)
    claimed, real = [], []
    for seed in SEEDS:
        accuracy, head = on_rows(recipe, rows, seed)
        X, _, y, _ = rows.split(seed)
        chosen = np.random.default_rng(seed).permutation(len(X))[:32]
        claimed.append(float(accuracy_score(y[chosen], head.predict(X[chosen]))))  # type: ignore[attr-defined]
        real.append(accuracy)
    return [
        Found(
            "test set inside the training set",
            "concrete_cracks_mobilenet_v2",
            "steel",
            mean(claimed),
            mean(real),
            f"scored on 32 training pictures, and on the 30 % held out; {recipe.epochs} epochs, "
            f"{len(SEEDS)} seeds",
        )
    ]


def copies_across(stand_ins: dict[str, Dataset], cache: Path) -> list[Found]:
    """Corrosion's trap 7: a random split cannot keep photos of one thing together."""
    report = featx.benchmark(
        stand_ins["magnetic_tile"],
        backbones=[BACKBONE],
        heads=["nearest"],
        baseline=False,
        cache=cache,
        progress=False,
    )
    groups = report.leaks.groups["train"]
    rows = rows_of(stand_ins["magnetic_tile"], None, cache)
    scores: list[list[float]] = [[], []]
    for seed in SEEDS:
        X, X_test, y, y_test = rows.split(seed)
        head = featx.heads.logistic(seed=seed).fit(X, y)
        scores[0].append(float(head.score(X_test, y_test)))
        plan = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
        fit, score = next(plan.split(rows.X, rows.y, groups))
        head = featx.heads.logistic(seed=seed).fit(rows.X[fit], rows.y[fit])
        scores[1].append(float(head.score(rows.X[score], rows.y[score])))
    joined = int(np.sum(np.bincount(groups)[groups] > 1))
    return [
        Found(
            "copies on both sides of the split",
            "corrosion_resnet50",
            "magnetic_tile",
            mean(scores[0]),
            mean(scores[1]),
            f"{joined} of {len(groups)} pictures have a near copy; a random split of 30 %, and one "
            f"that keeps copies together (33 %); logistic regression, {len(SEEDS)} seeds",
        )
    ]


def best_not_restored(stand_ins: dict[str, Dataset], cache: Path) -> list[Found]:
    """Corrosion: the last epoch is tested, not the best one."""
    rows = rows_of(stand_ins["magnetic_tile"], None, cache)
    recipe = SYSTEMS["corrosion_resnet50"].published.recipe
    scores = [
        [on_rows(replace(recipe, restore_best=best), rows, seed)[0] for seed in range(5)]
        for best in (False, True)
    ]
    return [
        Found(
            "best epoch not restored",
            "corrosion_resnet50",
            "magnetic_tile",
            mean(scores[0]),
            mean(scores[1]),
            "its layers, up to 50 epochs, early stopping as published; 5 seeds",
        )
    ]


def rate_reaches_zero(stand_ins: dict[str, Dataset], cache: Path) -> list[Found]:
    """Cracks: the cosine ends after 50 steps."""
    rows = rows_of(stand_ins["steel"], None, cache)
    recipe = replace(SYSTEMS["concrete_cracks_mobilenet_v2"].published.recipe, epochs=7)
    scores = [
        [on_rows(replace(recipe, learning_rate=rate), rows, seed)[0] for seed in SEEDS]
        for rate in (recipe.learning_rate, 5e-4)
    ]
    steps = recipe.epochs * -(-int(0.7 * len(rows.y)) // recipe.batch_size)
    return [
        Found(
            "learning rate zero after 50 steps",
            "concrete_cracks_mobilenet_v2",
            "steel",
            mean(scores[0]),
            mean(scores[1]),
            f"{recipe.epochs} epochs of a head are {steps} steps, {steps - 50} of them at rate "
            f"zero; a constant 5e-4 instead; {len(SEEDS)} seeds",
        )
    ]


def last_batch_only(stand_ins: dict[str, Dataset], cache: Path) -> list[Found]:
    """Trucks: the training accuracy of an epoch is that of its last batch. Really on pictures."""
    train, _ = trucks_cut(stand_ins["trashnet"])
    system = SYSTEMS["trucks_mobilenet_v2"]
    curves = []
    for callbacks in (system.callbacks, ()):
        found = running.model(
            system, "published", running.Options(backbone=BACKBONE.name, weights=BACKBONE.weights)
        )
        found.fit(train, callbacks=[make(cache) for make in callbacks])
        curves.append(found.history_["accuracy"])
    shown = [" ".join(f"{value:.3f}" for value in curve) for curve in curves]
    apart = max(abs(a - b) for a, b in zip(*curves, strict=True))
    return [
        Found(
            "metrics of the last batch only",
            "trucks_mobilenet_v2",
            "trashnet",
            shown[0],
            shown[1],
            "training accuracy epoch by epoch of one and the same training: as the last 28 of 60 "
            f"pictures have it, and of all 60; up to {100 * apart:.1f} points apart",
        )
    ]


def augmented_test(stand_ins: dict[str, Dataset], cache: Path, n: int = 300) -> list[Found]:
    """Corrosion: the same trained network, test pictures changed at random or left alone."""
    pictures = stand_ins["magnetic_tile"]
    system = SYSTEMS["corrosion_resnet50"]
    labels = [item.label for item in pictures.items]
    train, test = train_test_split(
        np.arange(len(labels)), train_size=n, test_size=n // 2, stratify=labels, random_state=0
    )
    options = running.Options(backbone=BACKBONE.name, weights=BACKBONE.weights, epochs=8)
    found = running.model(replace(system, preprocessing=None), "published", options)
    found.fit(pictures.subset(train))
    scored = pictures.subset(test)
    scores = [running.augmented_score(found, scored, seed) for seed in range(5)]
    return [
        Found(
            "augmentation on the test set",
            system.name,
            "magnetic_tile",
            mean(scores),
            f"{found.score(scored):.3f}",
            f"one training of 8 epochs on {n} pictures; {n // 2} test pictures changed at random, "
            "five times, and left alone, which gives the same figure every time",
        )
    ]


def trucks_cut(pictures: Dataset) -> tuple[Dataset, Dataset]:
    """Return ten training pictures a class and 25 test pictures a class (60 and 150 for six)."""
    labels = np.asarray([item.label for item in pictures.items])
    random = np.random.default_rng(0)
    chosen: tuple[list[int], list[int]] = ([], [])
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        chosen[0].extend(members[:10])
        chosen[1].extend(members[35:60])  # 10 to 35 would be the validation pictures
    return pictures.subset(chosen[0]), pictures.subset(chosen[1])


MISTAKES: tuple[Callable[[dict[str, Dataset], Path], list[Found]], ...] = (
    wrong_preprocessing,
    tested_on_training,
    augmented_test,
    best_not_restored,
    rate_reaches_zero,
    last_batch_only,
    copies_across,
)
