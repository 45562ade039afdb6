"""Compare heads on cached features with the Keras baseline: same images, splits and seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from featx.backbones.backbone import Backbone
from featx.datasets.dataset import as_dataset
from featx.dense import Recipe
from featx.errors import FeatxError
from featx.evaluation.evidence.evidence import Limits, Material, gather
from featx.evaluation.leaks import copies as finding
from featx.evaluation.leaks import leakage
from featx.evaluation.leaks.copies import Copies
from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.protocol import extractions, plan, splits, trials
from featx.evaluation.protocol.extractions import Extraction
from featx.evaluation.protocol.options import Options
from featx.evaluation.protocol.plan import Plan
from featx.evaluation.protocol.trials import HeldOut, Trial
from featx.evaluation.report import command, environment
from featx.evaluation.report.report import Report
from featx.evaluation.results import Environment, Images, Result, Selection
from featx.evaluation.scores.costs import costs
from featx.evaluation.scores.summary import Summary, summaries
from featx.runtimes import Runtime

__all__ = ["Result", "benchmark"]


def benchmark(
    train: Any,
    test: Any = None,
    *,
    backbones: Sequence[str | Backbone] = Options.backbones,
    precisions: Sequence[str] | None = Options.precisions,
    heads: Sequence[Any] | Mapping[str, Any] | None = Options.heads,
    baseline: bool | Recipe = Options.baseline,
    epochs: int = Options.epochs,
    seeds: int | Sequence[int] = Options.seeds,
    folds: int = Options.folds,
    leaks: bool = Options.leaks,
    evidence: bool = Options.evidence,
    cache: str | Path | None = Options.cache,
    batch_size: int | None = Options.batch_size,
    runtime: str | Runtime = Options.runtime,
    on_error: Literal["raise", "skip"] = Options.on_error,
    progress: bool = Options.progress,
    path_column: str = Options.path_column,
    label_column: str = Options.label_column,
) -> Report:
    """Compare heads on cached features with a Keras head trained end to end, in accuracy and time.

    Every image meets each backbone once; the heads train on the cached features. The baseline
    sends the same training images through the frozen network every epoch, as most projects do.

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
        on the training features alone, and the seconds of the choice are stated.

    Raises
    ------
    DatasetError
        No labels; one class only; a test class that was never trained; fewer images of a class
        than folds.
    HeadError
        An unknown head.
    FeatxError
        No method gave a result; also whatever `extract` raises.
    """
    options = Options(
        backbones=backbones,
        precisions=precisions,
        heads=heads,
        baseline=baseline,
        epochs=epochs,
        seeds=seeds,
        folds=folds,
        leaks=leaks,
        evidence=evidence,
        cache=cache,
        batch_size=batch_size,
        runtime=runtime,
        on_error=on_error,
        progress=progress,
        path_column=path_column,
        label_column=label_column,
    )
    return compare(train, test, options)


@dataclass(frozen=True, eq=False)
class _Run:
    """What was measured.

    Attributes
    ----------
    copies : Copies or None
        None where they were not sought.
    folds : int
        Those that the head is chosen with; 0 where no choice is to be or can be made.
    held_out : mapping
        (backbone, head) -> its predictions in those folds, None where it failed.
    choosing : float
        Seconds of the choice.
    """

    extractions: Sequence[Extraction]
    copies: Copies | None
    folds: int
    held_out: Mapping[tuple[str, str], HeldOut | None]
    choosing: float
    trials: Sequence[Trial]

    @property
    def groups(self) -> np.ndarray | None:
        """Copies of one image among those that train, which folds keep together."""
        return None if self.copies is None else self.copies.groups

    def extraction(self, backbone: str) -> Extraction:
        """Return the extraction of a backbone, as the report names it."""
        return next(one for one in self.extractions if one.cost.backbone == backbone)


def compare(train: Any, test: Any, options: Options, limits: Limits | None = None) -> Report:
    """Return the report of a comparison: `benchmark` with its options as one object.

    Parameters
    ----------
    limits : Limits, optional
        Of the evidence.
    """
    started, created = time.perf_counter(), environment.now()
    versions = environment.versions()
    asked = plan.read(train, test, options, environment.one_line(versions))
    run = _measure(asked, train, test, options)
    predictions = [one.predictions for one in run.trials if one.predictions is not None]
    failures = [one.failure for one in run.trials if one.failure is not None]
    if not predictions:
        reasons = "; ".join(f"{f.method}: {f.reason} [{f.error}]" for f in failures)
        raise FeatxError(f"no method gave a result. {reasons}")
    last = run.extractions[-1]
    images = splits.describe(asked.names, last.train, last.test, asked.folds)
    results = [result for one in run.trials for result in one.results]
    extracted = [one.cost for one in run.extractions]
    held_out = run.held_out.items()
    selection = Selection(
        folds=run.folds,
        scores={key: None if held is None else held.accuracy for key, held in held_out},
        seconds=run.choosing,
        n=sum(images.n_train.values()),
    )
    found = summaries(predictions, images.classes, costs(results, extracted), selection)
    leaks = _leaks(asked, run, found, options)
    evidence = None
    if options.evidence:
        evidence = gather(_material(asked, run, found, images, limits or Limits()))
    return Report(
        images=images,
        results=results,
        predictions=predictions,
        summaries=found,
        extractions=extracted,
        selection=selection,
        histories=[history for one in run.trials for history in one.histories],
        method_failures=failures,
        warnings=list(dict.fromkeys(remark for one in run.trials for remark in one.remarks)),
        baseline=plan.in_words(asked.recipe),
        leaks=leaks,
        evidence=evidence,
        environment=Environment(
            created=created,
            command=command.command(train, test, asked.backbones, options),
            seconds=time.perf_counter() - started,
            versions=versions,
            hardware=environment.hardware(),
        ),
    )


def _measure(asked: Plan, train: Any, test: Any, options: Options) -> _Run:
    """Extract once per backbone, look for copies, choose a head, and try every method."""
    train = as_dataset(train, **options.columns)
    test = None if test is None else as_dataset(test, **options.columns)
    splits.check(train, test, asked.folds)
    folds = asked.selection_folds(train, test)
    with tqdm(total=asked.steps, desc="compare", unit="fit", disable=not asked.progress) as bar:
        # All extractions first: a backbone that is refused here is so before anything is trained.
        done = [extractions.run(asked, backbone, train, test) for backbone in asked.backbones]
        copies = None
        if options.leaks:
            bar.set_postfix_str("looking for copies")
            copies = finding.find(done[0].train, done[0].test)
        groups = None if copies is None else copies.groups
        started = time.perf_counter()
        held_out = _hold_out(asked, done, folds, groups, bar) if folds else {}
        choosing = time.perf_counter() - started
        tried = _try(asked, done, groups, bar)
    return _Run(done, copies, folds, held_out, choosing, tried)


def _hold_out(
    asked: Plan, done: Sequence[Extraction], folds: int, groups: np.ndarray | None, bar: Any
) -> dict[tuple[str, str], HeldOut | None]:
    """Return every head's predictions for the training images, cross-validated."""
    found = {}
    for one in done:
        bar.set_postfix_str(f"{one.cost.backbone}: choosing the head")
        for head in asked.heads:
            found[one.cost.backbone, head.name] = _cross_validated(asked, one, head, folds, groups)
    return found


def _cross_validated(
    asked: Plan, one: Extraction, head: trials.Method, folds: int, groups: np.ndarray | None
) -> HeldOut | None:
    cuts = splits.folds_of(one.train.labels, folds, asked.seeds[0], groups)
    return trials.cross_validate(head, one.train.features.X, one.train.labels, cuts, asked.seeds[0])


def _try(
    asked: Plan, done: Sequence[Extraction], groups: np.ndarray | None, bar: Any
) -> list[Trial]:
    """Train and score every method on every backbone with every seed."""
    found = []
    for one in done:
        setting = asked.setting(one.cost, one.train, one.tested)
        for method in asked.methods(one.backbone):
            for seed in asked.seeds:
                bar.set_postfix_str(f"{one.cost.backbone}: {method.name}, seed {seed}")
                cuts = splits.splits(one.train, one.test, asked.folds, seed, groups=groups)
                found.append(trials.run(method, seed, cuts, setting))
                bar.update()
    return found


def _leaks(asked: Plan, run: _Run, found: Sequence[Summary], options: Options) -> Leaks | None:
    """Return the leaks, with what they do to folds where folds are tested."""
    copies, first = run.copies, run.extractions[0]
    if copies is None:
        return None
    apart, divided = False, None
    if first.test is None:
        cut = asked.folds, asked.seeds[0]
        apart = leakage.divides(copies, first.train.labels, *cut)
        chosen = next((one for one in found if one.chosen), None)
        worth = options.evidence and not apart and copies.share >= leakage.MANY_COPIES
        if worth and chosen is not None:
            train = run.extraction(chosen.backbone).train
            head = next(head for head in asked.heads if head.name == chosen.method)
            divided = leakage.divided_accuracy(head, train.features.X, train.labels, *cut)
    return leakage.inspect(first.train, first.test, copies=copies, apart=apart, divided=divided)


def _material(
    asked: Plan, run: _Run, found: Sequence[Summary], images: Images, limits: Limits
) -> Material:
    """Return what the evidence of the verdict's method is made from."""
    subject, seed = next((one for one in found if one.chosen), found[0]), asked.seeds[0]
    one = run.extraction(subject.backbone)
    methods = {head.name: head for head in asked.heads}
    folds, held_out = run.folds, {}
    for (backbone, method), answers in run.held_out.items():
        if backbone == subject.backbone and answers is not None:
            held_out[method] = answers
    smallest = min(images.n_train.values())
    if one.test is not None and not folds and subject.method in methods and smallest > 1:
        # Nothing was to be chosen, but the temperature needs answers for the training images.
        folds = min(plan.SELECTION_FOLDS, smallest)
        answers = _cross_validated(asked, one, methods[subject.method], folds, run.groups)
        held_out = {} if answers is None else {subject.method: answers}
    first = [trial for trial in run.trials if trial.seed == seed]
    return Material(
        subject=subject,
        found=found,
        answers=[trial.predictions for trial in first if trial.predictions is not None],
        backbone=one.backbone,
        classes=images.classes,
        methods=methods,
        train=one.train,
        test=one.test,
        splits=list(splits.splits(one.train, one.test, asked.folds, seed, groups=run.groups)),
        held_out=held_out,
        held_out_folds=folds,
        fitted={
            trial.method: trial.fitted
            for trial in first
            if trial.backbone == subject.backbone and trial.fitted is not None
        },
        limits=limits,
    )
