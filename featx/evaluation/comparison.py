"""Compare heads on kept rows with the Keras baseline: same pictures, same splits, same seeds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from featx.backbones import Backbone
from featx.datasets import Dataset, as_dataset
from featx.dense import Recipe
from featx.errors import FeatxError
from featx.evaluation import circumstances, leakage, plan, splits, trials
from featx.evaluation.leakage import Leaks
from featx.evaluation.plan import Plan
from featx.evaluation.report import Report
from featx.evaluation.results import Circumstances, Pass, Pictures, Result, Selection
from featx.extraction import extract
from featx.features import Features

__all__ = ["Result", "benchmark"]

logger = logging.getLogger(__name__)

Rows = tuple[Dataset, Features]


def benchmark(
    train: Any,
    test: Any = None,
    *,
    backbones: Sequence[str | Backbone] = ("resnet50",),
    precisions: Sequence[str] | None = None,
    heads: Sequence[Any] | Mapping[str, Any] | None = None,
    baseline: bool | Recipe = True,
    epochs: int = 8,
    seeds: int | Sequence[int] = 1,
    folds: int = 5,
    leaks: bool = True,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    runtime: str = "auto",
    on_error: str = "raise",
    progress: bool = True,
) -> Report:
    """Compare heads on kept rows with a Keras head trained end to end, in accuracy and seconds.

    Every picture meets each backbone once; the heads train on the kept rows. The baseline sends
    the same training pictures through the frozen network every epoch, as most projects do.

    Parameters
    ----------
    train, test : folder, CSV, DataFrame, list of paths, array, tf.data.Dataset or featx.Dataset
        Labelled pictures. Without `test`, stratified cross-validation over `train`.
    backbones : sequence of str or Backbone
    precisions : sequence of str, optional
        Each backbone is compared in each of them, such as ("float32", "bfloat16"), to see what
        the lower one costs in accuracy and gains in time; in its own unless given.
    heads : sequence of str or estimators, mapping of name to estimator, or None
        None: every head of `featx.HEADS`. Estimators are cloned, never fitted in place.
    baseline : bool or Recipe
        True: one Dense softmax layer on the pooled output, Adam, `epochs` epochs over all training
        pictures. A Recipe: that recipe as it stands, its own epochs included. False: none. With
        folds it runs on every fold, so that it is scored on the same pictures as the heads.
    epochs : int
        Epochs of the default baseline, 1 or more.
    seeds : int or sequence of int
        How many seeds (0, 1, ...), or which. A seed drives the folds, the heads and the baseline.
    folds : int
        Stratified folds where there is no test set, 2 or more.
    leaks : bool
        Look for copies across the split or with two labels, for small classes and for files that
        give their class away; folds then keep copies together.
    cache, batch_size, runtime, on_error, progress
        As `featx.extract` takes them. Pictures skipped by `on_error="skip"` are left out for
        every method and listed in the report.

    Returns
    -------
    Report
        With several heads and a test set, the head of the verdict is chosen by cross-validation
        on the training rows alone, and the seconds of the choice are stated.

    Raises
    ------
    DatasetError
        No labels; one class only; a test class that was never trained; fewer pictures of a class
        than folds.
    FeatxError
        An unknown head, no method that gave a result, and whatever `extract` raises.
    """
    started, created = time.perf_counter(), circumstances.now()
    asked = Plan(
        names=(splits.name_of(train), None if test is None else splits.name_of(test)),
        backbones=tuple(plan.several(backbones, precisions)),
        heads=tuple(trials.methods(heads)),
        recipe=plan.recipe_of(baseline, epochs),
        seeds=plan.seeds_of(seeds),
        folds=folds,
        extraction={
            "cache": cache,
            "batch_size": batch_size,
            "runtime": runtime,
            "on_error": on_error,
            "progress": progress,
        },
        versions=circumstances.one_line(circumstances.versions()),
    )
    if not asked.steps:
        raise FeatxError("nothing to compare: give a head, or leave the baseline in.")
    sets = as_dataset(train), None if test is None else as_dataset(test)
    splits.check(*sets, folds)
    record, passes, choice, pictures, found = _run(asked, *sets, leaks)
    if not record.predictions:
        reasons = "; ".join(f"{f.method}: {f.reason} [{f.error}]" for f in record.failures)
        raise FeatxError(f"no method gave a result. {reasons}")
    options = {
        "heads": _names(heads),
        "baseline": baseline,
        "epochs": epochs,
        "seeds": seeds,
        "folds": folds if test is None and folds != 5 else None,
    }
    return Report(
        pictures=pictures,
        rows=record.rows,
        predictions=record.predictions,
        passes=passes,
        histories=record.histories,
        selection=choice,
        method_failures=record.failures,
        remarks=record.remarks,
        baseline=plan.in_words(asked.recipe),
        leaks=found,
        circumstances=Circumstances(
            created=created,
            command=circumstances.command(train, test, asked.backbones, options),
            seconds=time.perf_counter() - started,
            versions=circumstances.versions(),
            hardware=circumstances.hardware(),
        ),
    )


def _names(heads: Any) -> list[str] | None:
    """Return the heads' names where all are featx's own (empty for all of them), else None."""
    if heads is None:
        return []
    own = not isinstance(heads, Mapping) and all(isinstance(head, str) for head in heads)
    return [heads] if isinstance(heads, str) else list(heads) if own else None


def _run(
    asked: Plan, train: Dataset, test: Dataset | None, leaks: bool
) -> tuple[trials.Record, list[Pass], Selection, Pictures, Leaks | None]:
    """Extract once a backbone, choose, train and score every method with every seed."""
    record = trials.Record()
    passes: list[Pass] = []
    scores: dict[tuple[str, str], float] = {}
    choosing = 0.0
    found: Leaks | None = None
    folds = asked.selection_folds(train, test)
    with tqdm(total=asked.steps, desc="compare", unit="fit", disable=not asked.progress) as bar:
        for backbone in asked.backbones:
            fit, score, done = _extract(asked, backbone, train, test)
            passes.append(done)
            if leaks and found is None:
                bar.set_postfix_str("looking for copies")
                found = leakage.inspect((fit[0], fit[1].X), score and (score[0], score[1].X))
            groups = None if found is None else found.groups["train"]
            if folds:
                bar.set_postfix_str(f"{backbone.name}: choosing the head")
                started = time.perf_counter()
                scores |= _choose(asked, done, fit[1], folds, groups)
                choosing += time.perf_counter() - started
            cuts = partial(splits.splits, fit, score, asked.folds, groups=groups)
            _train(asked, record, done, backbone, cuts, (score or fit)[1].ids, bar)
    pictures = splits.describe(asked.names, fit, score, asked.folds)
    choice = Selection(folds, scores, choosing, sum(pictures.n_train.values()))
    return record, passes, choice, pictures, found


def _choose(
    asked: Plan, done: Pass, rows: Features, folds: int, groups: np.ndarray | None
) -> dict[tuple[str, str], float]:
    y = splits.labels_of(rows)
    plan = splits.folds_of(y, folds, asked.seeds[0], groups)
    return {
        (done.backbone, head.name): trials.cross_validate(head, rows.X, y, plan, asked.seeds[0])
        for head in asked.heads
    }


def _extract(
    asked: Plan, backbone: Backbone, train: Dataset, test: Dataset | None
) -> tuple[Rows, Rows | None, Pass]:
    parts: list[Rows] = []
    seconds, computed, reused, images = 0.0, 0, 0, 0
    runtimes = set()
    for pictures in (train, test):
        if pictures is None:
            continue
        started = time.perf_counter()
        rows = extract(pictures, backbone, **asked.extraction)
        seconds += time.perf_counter() - started
        parts.append((splits.without_failures(pictures, rows), rows))
        if rows.report is not None:
            computed += rows.report.computed
            reused += rows.report.reused
            images += rows.report.images
            runtimes.add(rows.report.runtime)
    cost, source = _cost(computed, reused, seconds)
    done = Pass(
        backbone=asked.label(backbone),
        images=images,
        computed=computed,
        reused=reused,
        seconds=seconds,
        runtime=", ".join(sorted(name for name in runtimes if name)),
        cost=cost,
        source=source,
        dim=int(parts[0][1].X.shape[1]),
        untrained=not backbone.trained,
    )
    return parts[0], parts[1] if test is not None else None, done


def _cost(computed: int, reused: int, seconds: float) -> tuple[float | None, str]:
    """Return what a whole pass costs, as far as this run shows it, and in words how it does.

    A part of the pictures stands for all only if it is the larger part: else loading and compiling
    the network, which a few pictures cost just as much, would be multiplied.
    """
    if computed and not reused:
        return seconds, "measured in this run"
    if computed > reused:
        return (
            seconds * (computed + reused) / computed,
            f"scaled from the {computed} of {computed + reused} that were computed in this run",
        )
    return None, "not measured in this run, since the rows were kept from before"


def _train(
    asked: Plan,
    record: trials.Record,
    done: Pass,
    backbone: Backbone,
    cuts: Callable[[int], Iterator[splits.Split]],
    ids: list[str],
    bar: Any,
) -> None:
    for method in asked.methods(backbone):
        for seed in asked.seeds:
            bar.set_postfix_str(f"{done.backbone}: {method.name}, seed {seed}")
            trials.run(record, method, seed, cuts(seed), asked.blank(done, method, seed), list(ids))
            bar.update()
