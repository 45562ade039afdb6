"""Compare heads on cached features with the Keras baseline: same images, splits and seeds."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from featx.backbones.backbone import Backbone
from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.groups import groups_of
from featx.dense import Recipe
from featx.errors import FeatxError
from featx.evaluation.evidence.evidence import Limits, Material, gather
from featx.evaluation.leaks import copies as finding
from featx.evaluation.leaks import leakage
from featx.evaluation.leaks.copies import Copies
from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.protocol import (
    extractions,
    forecast,
    identity,
    plan,
    progress,
    splits,
    trials,
)
from featx.evaluation.protocol.extractions import Extraction
from featx.evaluation.protocol.forecast import Work
from featx.evaluation.protocol.options import Options
from featx.evaluation.protocol.plan import Folds, Plan
from featx.evaluation.protocol.progress import Progress
from featx.evaluation.protocol.trials import HeldOut, Trial
from featx.evaluation.report import command, environment, saved
from featx.evaluation.report.report import Report
from featx.evaluation.results import (
    Environment,
    Grouping,
    Images,
    Incomplete,
    Result,
    Selection,
)
from featx.evaluation.scores.costs import costs
from featx.evaluation.scores.summary import Summary, summaries
from featx.labels import labels_of
from featx.runtimes import Runtime

__all__ = ["Result", "benchmark"]

logger = logging.getLogger(__name__)


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
    groups: str | re.Pattern[str] | Callable[[str], Any] | Sequence[Any] | None = Options.groups,
    class_weight: Literal["balanced"] | Mapping[Any, float] | None = Options.class_weight,
    leaks: bool = Options.leaks,
    evidence: bool = Options.evidence,
    cache: str | Path | None = Options.cache,
    batch_size: int | None = Options.batch_size,
    runtime: str | Runtime = Options.runtime,
    on_error: Literal["raise", "skip"] = Options.on_error,
    progress: bool = Options.progress,
    out: str | Path | None = Options.out,
    images: bool = Options.images,
    path_column: str = Options.path_column,
    label_column: str | Sequence[str] = Options.label_column,
    image_folder: str | Path | None = Options.image_folder,
    suffix: str = Options.suffix,
    follow_links: bool = Options.follow_links,
) -> Report:
    """Compare heads on cached features with a Keras head trained end to end, in accuracy and time.

    Every image meets each backbone once; the heads train on the cached features. The baseline
    sends the same training images through the frozen network every epoch, as most projects do.

    Parameters
    ----------
    train, test : folder, CSV, DataFrame, list of paths, array, tf.data.Dataset or featx.Dataset
        Labelled images. Without `test`, stratified cross-validation over `train`; of a folder that
        holds the parts of a data set (train and test, or val), these are taken.
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
    groups : str, re.Pattern, callable, sequence or mapping, optional
        What must not be on both sides of a fold: the patient, site, camera or day of each image.
        A column of the table; a function of the image's id, which is its path in the folder, such
        as ``lambda id: id.split("/")[1]``; a pattern that is searched for in it, whose first group
        counts; or one name or number per image (with a test set, {"train": ..., "test": ...}).
        Folds, the choice of the head and each head's own choices (C, early stopping, temperature)
        then keep groups together, the report says what folds by image would have said, and names
        test images whose group trains, too.
    class_weight : None, "balanced" or dict
        Weights of classes, for the heads that are given by name and the default baseline.
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
    out : str or Path, optional
        A folder for the report, which is saved there as by `Report.save`. Finished trainings and
        choices are kept in its folder `progress` until the report is complete: a run that was
        stopped leaves an incomplete report of what is finished, which names what is missing, and
        the same call goes on from there. A head whose code or parameters changed is trained again;
        one that was made of a class or function without a source file is never kept.
    images : bool
        Whether the report saved in `out` holds small copies of images.
    path_column, label_column, image_folder, suffix
        Of tables; see `featx.Dataset.from_table`, where `image_folder` is called `folder`.
    follow_links : bool
        Whether links that lead out of a folder of images are followed.

    Returns
    -------
    Report
        With several heads and a test set, the head of the verdict is chosen by cross-validation
        on the training features alone, and the seconds of the choice are stated. Of its three
        folds so many are scored as hold 10,000 images together (or groups): the standard error of
        an accuracy is then half a point at most. From 30,000 training images on that is one.

    Raises
    ------
    DatasetError
        No labels; one class only; a test class that was never trained; fewer images of a class
        than folds; fewer groups than folds, or a class in one group alone.
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
        groups=groups,
        class_weight=class_weight,
        leaks=leaks,
        evidence=evidence,
        cache=cache,
        batch_size=batch_size,
        runtime=runtime,
        on_error=on_error,
        progress=progress,
        out=out,
        images=images,
        path_column=path_column,
        label_column=label_column,
        image_folder=image_folder,
        suffix=suffix,
        follow_links=follow_links,
    )
    return compare(train, test, options)


@dataclass(eq=False)
class _Run:
    """What was measured, so far.

    Attributes
    ----------
    copies : Copies or None
        None where they were not sought.
    folds : Folds
        Those that the head is chosen with; none where no choice is to be or can be made.
    held_out : dict
        (backbone, head) -> its predictions in those folds, None where it failed.
    identities : dict
        Backbone -> a digest of its features and of all that they are of.
    """

    progress: Progress
    extractions: list[Extraction] = field(default_factory=list)
    copies: Copies | None = None
    folds: Folds = Folds()
    held_out: dict[tuple[str, str], HeldOut | None] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    identities: dict[str, str | None] = field(default_factory=dict)

    @property
    def groups(self) -> np.ndarray | None:
        """Copies of one image among those that train, which folds keep together."""
        return None if self.copies is None else self.copies.groups

    def extraction(self, backbone: str) -> Extraction:
        """Return the extraction of a backbone, as the report names it."""
        return next(one for one in self.extractions if one.cost.backbone == backbone)


@dataclass(frozen=True)
class _Started:
    """What a report says of its run: when it began, with what, and the command that repeats it."""

    clock: float
    created: str
    versions: Mapping[str, str]
    command: str

    @property
    def environment(self) -> Environment:
        return Environment(
            created=self.created,
            command=self.command,
            seconds=time.perf_counter() - self.clock,
            versions=self.versions,
            hardware=environment.hardware(),
        )


def compare(train: Any, test: Any, options: Options, limits: Limits | None = None) -> Report:
    """Return the report of a comparison: `benchmark` with its options as one object.

    Parameters
    ----------
    limits : Limits, optional
        Of the evidence.
    """
    clock, created = time.perf_counter(), environment.now()
    versions = environment.versions()
    train, test, notes = splits.parts(train, test, progress=options.progress)
    asked = plan.read(train, test, options, environment.one_line(versions))
    repeat = command.command(train, test, asked.backbones, options)
    started = _Started(clock, created, versions, repeat)
    out = None if options.out is None else Path(options.out)
    run = _Run(Progress(None if out is None else out / progress.FOLDER))
    try:
        _measure(run, asked, train, test, options, notes)
        report = _report(run, asked, options, started, limits or Limits())
    except (Exception, KeyboardInterrupt) as error:
        if out is not None:
            _save_unfinished(run, asked, options, started, error, out)
        raise
    if out is not None:
        report.save(out, images=options.images)
        if report.incomplete is None:
            run.progress.remove()
    return report


def _save_unfinished(
    run: _Run, asked: Plan, options: Options, started: _Started, error: BaseException, out: Path
) -> None:
    """Save a report of what is finished, if that is a method and no complete report is there."""
    if not any(one.predictions is not None for one in run.trials):
        return
    if (out / saved.NAME).exists() and not saved.is_incomplete(out):
        logger.warning("The complete report in %s stays as it was.", out)
        return
    try:
        report = _report(run, asked, options, started, None, error)
        report.save(out, images=options.images)
    except Exception:  # what ended the run is what is to be raised
        logger.warning("no report of what is finished could be saved", exc_info=True)
        return
    logger.warning("Saved in %s is an incomplete report of what is finished.", out)


def _report(
    run: _Run,
    asked: Plan,
    options: Options,
    started: _Started,
    limits: Limits | None,
    error: BaseException | None = None,
) -> Report:
    """Return the report of what was measured.

    Parameters
    ----------
    limits : Limits or None
        Of the evidence; None where the run has ended early, and nothing more is computed.
    error : BaseException, optional
        What ended it.
    """
    predictions = [one.predictions for one in run.trials if one.predictions is not None]
    failures = [one.failure for one in run.trials if one.failure is not None]
    if not predictions:
        reasons = "; ".join(f"{f.method}: {f.reason} [{f.error}]" for f in failures)
        raise FeatxError(f"no method gave a result. {reasons}")
    last = run.extractions[-1]
    named = run.extractions[0].tested.groups
    networks = dict.fromkeys(one.backbone.weights_note() for one in run.extractions)
    images = splits.describe(
        asked.names, last.train, last.test, asked.folds, [note for note in networks if note]
    )
    results = [result for one in run.trials for result in one.results]
    extracted = [one.cost for one in run.extractions]
    selection = _selection(run)
    found = summaries(predictions, images.classes, costs(results, extracted), selection, named)
    leaks, grouping, evidence = None, None, None
    if limits is not None:
        leaks = _leaks(asked, run, found, options)
        grouping = _grouping(asked, run, found, options)
        if options.evidence:
            evidence = gather(_material(asked, run, found, images, limits), progress=asked.progress)
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
        groups=grouping,
        leaks=leaks,
        evidence=evidence,
        environment=started.environment,
        incomplete=_incomplete(run, asked, options, error),
        taken=run.progress.taken,
    )


def _selection(run: _Run) -> Selection:
    """Return how the head was chosen."""
    tried = [held for held in run.held_out.values() if held is not None]
    return Selection(
        folds=run.folds.drawn,
        scores={key: None if held is None else held.accuracy for key, held in run.held_out.items()},
        seconds=sum(held.seconds for held in tried),
        n=max((len(held.right) for held in tried), default=0),
        scored_folds=run.folds.scored,
    )


def _incomplete(
    run: _Run, asked: Plan, options: Options, error: BaseException | None
) -> Incomplete | None:
    """Return what the report of a run lacks; None where that is nothing."""
    done = {
        (one.backbone, one.method, one.seed) for one in run.trials if one.predictions is not None
    }
    methods = tuple(
        (asked.label(backbone), method.name, seed)
        for backbone in asked.backbones
        for method in asked.methods(backbone)
        for seed in asked.seeds
        if (asked.label(backbone), method.name, seed) not in done
    )
    if error is None:
        kept = options.out is not None
        return Incomplete("methods failed", methods=methods, kept=kept) if methods else None
    parts = {
        "leaks": options.leaks,
        "groups": options.groups is not None,
        "evidence": options.evidence,
    }
    stopped = isinstance(error, KeyboardInterrupt)
    return Incomplete(
        "interrupted" if stopped else "error",
        None if stopped else f"{type(error).__name__}: {error}",
        methods,
        tuple(name for name, wanted in parts.items() if wanted),
        kept=True,
    )


def _measure(
    run: _Run, asked: Plan, train: Any, test: Any, options: Options, notes: Sequence[str]
) -> None:
    """Extract once per backbone, look for copies, choose a head, and try every method."""
    sources = train, test
    began = time.perf_counter()
    train = splits.named(as_dataset(train, **options.table), notes)
    test = None if test is None else splits.named(as_dataset(test, **options.table))
    splits.check(train, test, asked.folds)
    groups = _groups(options.groups, sources, train, test)
    if test is None and groups[0] is not None:
        splits.check_groups(labels_of(train.labels), groups[0], asked.folds)
    forecast.announce_extraction(asked, train, test, leaks=options.leaks, evidence=options.evidence)
    # All extractions first: a backbone that is refused here is so before anything is trained.
    for each in asked.backbones:
        run.extractions.append(extractions.run(asked, each, train, test, groups))
    first = run.extractions[0]
    if run.progress.folder is not None:
        for one in run.extractions:
            run.identities[one.cost.backbone] = _identity(one, asked.versions)
    run.folds = asked.selection_folds(first.train.images, test, first.train.groups)
    # What an earlier run has finished is known by its folds, which copies have a part in.
    work = _work(run, asked) if run.progress.empty else None
    if work is not None:
        forecast.announce_fits(work, time.perf_counter() - began)
    if options.leaks:
        run.copies = finding.find(first.train, first.test, progress=asked.progress)
    if work is None:
        work = _work(run, asked)
        forecast.announce_fits(work, time.perf_counter() - began)
    with _Bar(work, asked.progress) as bar:
        if run.folds:
            _hold_out(run, asked, bar)
        _try(run, asked, bar)


class _Bar:
    """A bar of the work on all methods: of its seconds where all are known, else of its fits."""

    def __init__(self, work: Sequence[Work], progress: bool) -> None:
        timed = all(one.seconds is not None for one in work)
        self._weights: dict[tuple[str, str], tuple[float, float]] = {}
        for one in work:
            weights = (one.choice or 0.0, one.training or 0.0) if timed else (0.0, 1.0)
            self._weights[one.backbone, one.method] = weights
        total = sum(map(sum, self._weights.values()))
        # Time left is shown by both; the count itself only where it is one of fits.
        shown = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}" if timed else None
        self._bar = tqdm(
            total=total, desc="compare", unit="method", disable=not progress, bar_format=shown
        )

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def begins(self, text: str) -> None:
        """Say what is being done."""
        self._bar.set_postfix_str(text)

    def chosen(self, backbone: str, method: str) -> None:
        """Count the choice of a method as done."""
        self._bar.update(self._weights[backbone, method][0])

    def trained(self, backbone: str, method: str, share: float) -> None:
        """Count a share of a method's trainings as done."""
        self._bar.update(self._weights[backbone, method][1] * share)


def _work(run: _Run, asked: Plan) -> list[Work]:
    """Return what is left to do for each method, timed by trials where that is cheap."""
    found = []
    for one in run.extractions:
        n, n_test = len(one.train.labels), None if one.test is None else len(one.test.labels)
        for method in asked.methods(one.backbone):
            choice: forecast.Fits = ()
            kept = 0
            if method.kind == "head" and run.folds:
                if run.progress.has(_key(run, asked, one, method, asked.seeds[0], run.folds)):
                    kept += 1
                else:
                    choice = forecast.fits_of_choice(n, run.folds)
            folds = Folds() if one.test is not None else Folds(asked.folds, asked.folds)
            done = sum(
                run.progress.has(_key(run, asked, one, method, seed, folds)) for seed in asked.seeds
            )
            seeds = len(asked.seeds) - done
            training = forecast.fits_of_training(n, n_test, asked.folds, seeds)
            seconds = forecast.tried(method, one.train, asked.seeds[0], choice, training)
            fits = len(choice) + len(training)
            found.append(Work(one.cost.backbone, method.name, fits, kept + done, *seconds))
    return found


def _identity(one: Extraction, versions: str) -> str | None:
    """Return a digest of a backbone's features, of what they are of and what trains on them."""
    sets = [one.train] if one.test is None else [one.train, one.test]
    told = [
        (each.features.X, each.labels, np.asarray(each.features.ids, dtype=object), each.groups)
        for each in sets
    ]
    return identity.digest(versions, one.train.features.spec, told)


def _key(
    run: _Run, asked: Plan, one: Extraction, method: trials.Method, seed: int, folds: Folds
) -> str | None:
    """Return what decides the answers of a method, as a digest; None where that cannot be told.

    Parameters
    ----------
    folds : Folds
        Of the training images that are scored; none where test images are.
    """
    known = run.identities.get(one.cost.backbone)
    if known is None:
        return None
    made = asked.recipe if method.kind == "baseline" else method.make(seed)
    cut = (folds.drawn, folds.scored, run.groups) if folds else None
    return identity.digest(known, method.kind, made, seed, cut)


def _groups(
    groups: Any, sources: tuple[Any, Any], train: Dataset, test: Dataset | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the groups of the training and of the test images, None where they are not known.

    Parameters
    ----------
    sources : pair
        What the two data sets were made from: a table knows the columns that they left out.
    """
    if groups is None:
        return None, None
    asked = {"train": groups}
    if isinstance(groups, Mapping):
        asked = dict(groups)
        if not {"train"} <= set(asked) <= {"train", "test"}:
            raise FeatxError(
                f"groups with the keys {', '.join(map(repr, asked))}: expected 'train' and 'test', "
                "a list with one name per image for each."
            )
    elif isinstance(groups, str | re.Pattern) or callable(groups):
        asked["test"] = groups  # the same rule holds for both sets
    tested = None
    if test is not None and "test" in asked:
        tested = groups_of(asked["test"], sources[1], test)
    return groups_of(asked["train"], sources[0], train), tested


def _hold_out(run: _Run, asked: Plan, bar: _Bar) -> None:
    """Find every head's predictions for training images that it had not seen."""
    for one in run.extractions:
        cuts = None
        for head in asked.heads:
            bar.begins(f"{one.cost.backbone}: choosing the head, {head.name}")
            key = _key(run, asked, one, head, asked.seeds[0], run.folds)
            held = run.progress.held_out(key)
            if held is None:
                cuts = _cuts(asked, one, run.folds, run.groups) if cuts is None else cuts
                held = _cross_validated(asked, one, head, cuts)
                run.progress.keep_held_out(key, held)
            run.held_out[one.cost.backbone, head.name] = held
            bar.chosen(one.cost.backbone, head.name)


def _cuts(
    asked: Plan, one: Extraction, folds: Folds, groups: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the folds of the training images that are scored, with the first seed."""
    train = one.train
    cuts = splits.folds_of(train.labels, folds.drawn, asked.seeds[0], groups, train.groups)
    return cuts[: folds.scored]


def _cross_validated(
    asked: Plan, one: Extraction, head: trials.Method, cuts: Sequence[Any]
) -> HeldOut | None:
    X, y, groups = one.train.features.X, one.train.labels, one.train.groups
    return trials.cross_validate(head, X, y, cuts, asked.seeds[0], groups=groups)


def _try(run: _Run, asked: Plan, bar: _Bar) -> None:
    """Train and score every method on every backbone with every seed."""
    for one in run.extractions:
        setting = asked.setting(one.cost, one.train, one.tested)
        folds = Folds() if one.test is not None else Folds(asked.folds, asked.folds)
        for method in asked.methods(one.backbone):
            for seed in asked.seeds:
                bar.begins(f"{one.cost.backbone}: {method.name}, seed {seed}")
                key = _key(run, asked, one, method, seed, folds)
                trial = run.progress.trial(key, method.name, seed, setting)
                if trial is None:
                    cuts = splits.splits(one.train, one.test, asked.folds, seed, groups=run.groups)
                    trial = trials.run(method, seed, cuts, setting)
                    run.progress.keep_trial(key, trial, setting.classes)
                run.trials.append(trial)
                bar.trained(one.cost.backbone, method.name, 1 / len(asked.seeds))


def _leaks(asked: Plan, run: _Run, found: Sequence[Summary], options: Options) -> Leaks | None:
    """Return the leaks, with what they do to folds where folds are tested."""
    copies, first = run.copies, run.extractions[0]
    if copies is None:
        return None
    apart, divided = False, None
    # With groups it is said what folds by image give, which holds what copies do to them, too.
    if first.test is None and first.train.groups is None:
        cut = asked.folds, asked.seeds[0]
        apart = leakage.divides(copies, first.train.labels, *cut)
        chosen = next((one for one in found if one.chosen), None)
        worth = options.evidence and not apart and copies.share >= leakage.MANY_COPIES
        if worth and chosen is not None:
            train = run.extraction(chosen.backbone).train
            head = next(head for head in asked.heads if head.name == chosen.method)
            divided = leakage.divided_accuracy(head, train.features.X, train.labels, *cut)
    return leakage.inspect(first.train, first.test, copies=copies, apart=apart, divided=divided)


def _grouping(
    asked: Plan, run: _Run, found: Sequence[Summary], options: Options
) -> Grouping | None:
    """Return what the groups are, and what folds by image and folds by group say."""
    first = run.extractions[0]
    names = first.train.groups
    if names is None:
        return None
    by_image, by_group, folds = None, None, Folds()
    chosen = next((one for one in found if one.chosen), None)
    if chosen is not None:
        one = run.extraction(chosen.backbone)
        head = next(head for head in asked.heads if head.name == chosen.method)
        folds = Folds(asked.folds, asked.folds)
        if one.test is not None:
            folds = run.folds or plan.held_out_folds(one.train.labels, names)
        if folds:
            by_group = _by_group(asked, run, chosen, head, folds)
            cuts = splits.folds_of(one.train.labels, folds.drawn, asked.seeds[0], run.groups)
            cuts = cuts[: folds.scored]
            X, y = one.train.features.X, one.train.labels
            answers = trials.cross_validate(head, X, y, cuts, asked.seeds[0])
            by_image = None if answers is None else answers.accuracy
    tested = None if first.test is None else first.test.groups
    shared = np.zeros(0, bool) if tested is None else np.isin(tested, names)
    return Grouping(
        name=_name_of(options.groups),
        train=len(set(names)),
        test=None if tested is None else len(set(tested)),
        largest=max(Counter(names).values()),
        folds=folds.drawn,
        scored_folds=folds.scored,
        by_image=by_image,
        by_group=by_group,
        shared=() if tested is None else tuple(sorted(set(tested[shared]))),
        shared_ids=()
        if first.test is None
        else tuple(first.test.features.ids[n] for n in np.flatnonzero(shared)),
    )


def _by_group(
    asked: Plan, run: _Run, chosen: Summary, head: trials.Method, folds: Folds
) -> float | None:
    """Return the accuracy of the verdict's head over folds by group, with the first seed."""
    one = run.extraction(chosen.backbone)
    if one.test is None:
        return float(np.mean(chosen.first.y_true == chosen.first.y_pred))
    held = run.held_out.get((chosen.backbone, chosen.method))
    if held is None:
        held = _cross_validated(asked, one, head, _cuts(asked, one, folds, run.groups))
    return None if held is None else held.accuracy


def _name_of(groups: Any) -> str:
    """Return what groups were given by."""
    if isinstance(groups, str):
        return groups
    if isinstance(groups, re.Pattern):
        return groups.pattern
    name = getattr(groups, "__name__", "")
    if callable(groups):
        return "a function of the path" if name in ("", "<lambda>") else name
    return "the list given"


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
    possible = plan.held_out_folds(one.train.labels, one.train.groups)
    if one.test is not None and not folds and subject.method in methods and possible:
        # Nothing was to be chosen, but the temperature needs answers for the training images.
        folds = possible
        cuts = _cuts(asked, one, folds, run.groups)
        answers = _cross_validated(asked, one, methods[subject.method], cuts)
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
            if trial.backbone == subject.backbone and trial.predictions is not None
        },
        limits=limits,
        extraction=asked.extraction,
    )
