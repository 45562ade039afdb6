"""Compare heads on kept rows with the Keras baseline: same images, same splits, same seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from featx.backbones.backbone import Backbone
from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.items import labels_of
from featx.dense import Recipe
from featx.errors import FeatxError
from featx.evaluation.evidence.evidence import Material, gather
from featx.evaluation.leaks import leakage
from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.protocol import passes, plan, splits, trials
from featx.evaluation.protocol.passes import Rows
from featx.evaluation.protocol.plan import Plan
from featx.evaluation.protocol.trials import Held
from featx.evaluation.report import command, environment
from featx.evaluation.report.report import Report
from featx.evaluation.results import Circumstances, Pass, Result, Selection
from featx.features import Features

__all__ = ["Result", "benchmark"]


@dataclass(eq=False)
class _Run:
    """What a comparison has found so far; `rows` and `held` by backbone, as the report names it."""

    record: trials.Record
    passes: list[Pass] = field(default_factory=list)
    rows: dict[str, tuple[Backbone, Rows, Rows | None]] = field(default_factory=dict)
    held: dict[tuple[str, str], Held] = field(default_factory=dict)
    choosing: float = 0.0
    leaks: Leaks | None = None

    @property
    def groups(self) -> np.ndarray | None:
        """Copies of one image among those that train, which folds keep together."""
        return None if self.leaks is None else self.leaks.groups["train"]


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
    evidence: bool = True,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    runtime: str = "auto",
    on_error: str = "raise",
    progress: bool = True,
    path_column: str = "path",
    label_column: str = "label",
) -> Report:
    """Compare heads on kept rows with a Keras head trained end to end, in accuracy and seconds.

    Every image meets each backbone once; the heads train on the kept rows. The baseline sends
    the same training images through the frozen network every epoch, as most projects do.

    Parameters
    ----------
    train, test : folder, CSV, DataFrame, list of paths, array, tf.data.Dataset or featx.Dataset
        Labelled images. Without `test`, stratified cross-validation over `train`.
    backbones : sequence of str or Backbone
    precisions : sequence of str, optional
        Each backbone is compared in each of them, such as ("float32", "bfloat16"), to see what
        the lower one costs in accuracy and gains in time; in its own unless given.
    heads : sequence of str or estimators, mapping of name to estimator, or None
        None: every head of `featx.HEADS`. Estimators are cloned, never fitted in place.
    baseline : bool or Recipe
        True: one Dense softmax layer on the pooled output, Adam, `epochs` epochs over all training
        images. A Recipe: that recipe as it stands, its own epochs included. False: none. With
        folds it runs on every fold, so that it is scored on the same images as the heads.
    epochs : int
        Epochs of the default baseline, 1 or more.
    seeds : int or sequence of int
        How many seeds (0, 1, ...), or which. A seed drives the folds, the heads and the baseline.
    folds : int
        Stratified folds where there is no test set, 2 or more.
    leaks : bool
        Look for copies across the split or with two labels, for small classes and for files that
        give their class away; folds then keep copies together.
    evidence : bool
        Also show what stands behind the figures of the verdict's head: its learning curve, its
        temperature, parity with the whole network, a map of the tested images and the mistakes
        as images. Some tens of seconds at most; the report states them.
    cache, batch_size, runtime, on_error, progress
        As `featx.extract` takes them. Images skipped by `on_error="skip"` are left out for
        every method and listed in the report.
    path_column, label_column : str
        Of tables.

    Returns
    -------
    Report
        With several heads and a test set, the head of the verdict is chosen by cross-validation
        on the training rows alone, and the seconds of the choice are stated.

    Raises
    ------
    DatasetError
        No labels; one class only; a test class that was never trained; fewer images of a class
        than folds.
    FeatxError
        An unknown head, no method that gave a result, and whatever `extract` raises.
    """
    started, created = time.perf_counter(), environment.now()
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
        versions=environment.one_line(environment.versions()),
    )
    if not asked.steps:
        raise FeatxError("nothing to compare: give a head, or leave the baseline in.")
    columns = {"path_column": path_column, "label_column": label_column}
    sets = as_dataset(train, **columns), None if test is None else as_dataset(test, **columns)
    splits.check(*sets, folds)
    run = _run(asked, *sets, leaks)
    report = _report(asked, run, asked.selection_folds(*sets), created)
    if evidence:
        _add_evidence(asked, run, report)
    options = {
        "heads": _names(heads),
        "baseline": baseline,
        "epochs": epochs,
        "seeds": seeds,
        "folds": folds if test is None and folds != 5 else None,
        "leaks": None if leaks else False,
        "evidence": None if evidence else False,
        "cache": None if cache is None else str(cache),
        "batch_size": batch_size,
        "runtime": None if runtime == "auto" else runtime,
        "on_error": None if on_error == "raise" else on_error,
        **{key: name for key, name in columns.items() if name != command.COLUMNS[key]},
    }
    report.circumstances = Circumstances(
        created=created,
        command=command.command(train, test, asked.backbones, options),
        seconds=time.perf_counter() - started,
        versions=environment.versions(),
        hardware=environment.hardware(),
    )
    return report


def _names(heads: Any) -> list[str] | None:
    """Return the heads' names where all are featx's own (empty for all of them), else None."""
    if heads is None:
        return []
    own = not isinstance(heads, Mapping) and all(isinstance(head, str) for head in heads)
    return [heads] if isinstance(heads, str) else list(heads) if own else None


def _run(asked: Plan, train: Dataset, test: Dataset | None, leaks: bool) -> _Run:
    """Extract once a backbone, choose, train and score every method with every seed."""
    run = _Run(trials.Record(asked.seeds[0]))
    folds = asked.selection_folds(train, test)
    with tqdm(total=asked.steps, desc="compare", unit="fit", disable=not asked.progress) as bar:
        # All passes first: a backbone that is refused here is so before anything is trained.
        for backbone in asked.backbones:
            fit, score, done = passes.take(asked, backbone, train, test)
            run.passes.append(done)
            run.rows[done.backbone] = backbone, fit, score
        for done, (backbone, fit, score) in zip(run.passes, run.rows.values(), strict=True):
            if leaks and run.leaks is None:
                bar.set_postfix_str("looking for copies")
                run.leaks = leakage.inspect((fit[0], fit[1].X), score and (score[0], score[1].X))
            if folds:
                bar.set_postfix_str(f"{backbone.name}: choosing the head")
                started = time.perf_counter()
                run.held |= {
                    (done.backbone, head.name): _held(asked, run, head, fit[1], folds)
                    for head in asked.heads
                }
                run.choosing += time.perf_counter() - started
            _train(asked, run, done, backbone, bar)
    return run


def _report(asked: Plan, run: _Run, folds: int, created: str) -> Report:
    """Return the report of a run; `folds` are those that the head was chosen with."""
    record = run.record
    if not record.predictions:
        reasons = "; ".join(f"{f.method}: {f.reason} [{f.error}]" for f in record.failures)
        raise FeatxError(f"no method gave a result. {reasons}")
    _, fit, score = next(reversed(run.rows.values()))
    images = splits.describe(asked.names, fit, score, asked.folds)
    scores = {key: held.accuracy for key, held in run.held.items()}
    leaks = run.leaks
    if leaks is not None and score is None:
        leaks = leakage.judged(leaks, labels_of(fit[1].y), asked.folds, asked.seeds[0])
    return Report(
        images=images,
        rows=record.rows,
        predictions=record.predictions,
        passes=run.passes,
        histories=record.histories,
        selection=Selection(folds, scores, run.choosing, sum(images.n_train.values())),
        method_failures=record.failures,
        remarks=record.remarks,
        baseline=plan.in_words(asked.recipe),
        leaks=leaks,
        circumstances=Circumstances(created, "", 0.0),
    )


def _held(asked: Plan, run: _Run, head: trials.Method, rows: Features, folds: int) -> Held:
    y = labels_of(rows.y)
    cuts = splits.folds_of(y, folds, asked.seeds[0], run.groups)
    return trials.cross_validate(head, rows.X, y, cuts, asked.seeds[0])


def _train(asked: Plan, run: _Run, done: Pass, backbone: Backbone, bar: Any) -> None:
    _, fit, score = run.rows[done.backbone]
    ids = list((score or fit)[1].ids)
    for method in asked.methods(backbone):
        for seed in asked.seeds:
            bar.set_postfix_str(f"{done.backbone}: {method.name}, seed {seed}")
            cuts = splits.splits(fit, score, asked.folds, seed, groups=run.groups)
            trials.run(run.record, method, seed, cuts, asked.blank(done, method, seed), ids)
            bar.update()


def _add_evidence(asked: Plan, run: _Run, report: Report) -> None:
    subject = next((one for one in report.summaries if one.chosen), None)
    if report.leaks is not None and report.images.test is None and subject is not None:
        fit = run.rows[subject.backbone][1][1]
        head = next(head for head in asked.heads if head.name == subject.method)
        cut = labels_of(fit.y), asked.folds, asked.seeds[0]
        report.leaks = leakage.tried(report.leaks, head, fit.X, *cut)
    report.evidence = gather(_material(asked, run, report))


def _material(asked: Plan, run: _Run, report: Report) -> Material:
    """Return what the evidence of the verdict's method is made from."""
    found, seed = report.summaries, asked.seeds[0]
    subject = next((one for one in found if one.chosen), found[0])
    backbone, fit, score = run.rows[subject.backbone]
    held = {method: one for (name, method), one in run.held.items() if name == subject.backbone}
    methods = {head.name: head for head in asked.heads}
    folds = report.selection.folds
    if score is not None and not held and subject.method in methods:
        # Nothing was to be chosen, but the temperature needs answers for the training images.
        smallest = min(report.images.n_train.values())
        if smallest > 1:
            folds = min(plan.SELECTION_FOLDS, smallest)
            head = methods[subject.method]
            held = {subject.method: _held(asked, run, head, fit[1], folds)}
    return Material(
        subject=subject,
        found=found,
        answers=[one for one in report.predictions if one.seed == seed],
        backbone=backbone,
        classes=report.images.classes,
        methods=methods,
        rows=(fit, score),
        splits=list(splits.splits(fit, score, asked.folds, seed, groups=run.groups)),
        held=held,
        held_folds=folds,
        fitted={
            method: model
            for (name, method), model in run.record.fitted.items()
            if name == subject.backbone
        },
    )
