"""The commands about reports: benchmark, evaluate, and report, which shows saved ones again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, cast

import typer

from featx.cli.info import facts
from featx.cli.options import (
    AsJson,
    BackboneNames,
    BatchSize,
    Cache,
    ClassWeight,
    Dataset,
    Decode,
    Filter,
    FollowLinks,
    Force,
    GroupsColumn,
    GroupsPattern,
    ImageFolder,
    ImageSize,
    LabelColumn,
    Layer,
    ModelFile,
    OnError,
    PathColumn,
    Pooling,
    Precision,
    Resize,
    Runtime,
    Sha256,
    Suffix,
    Weights,
    WeightsFile,
    make_backbone,
    make_groups,
)
from featx.cli.terminal import (
    make_table,
    print_json,
    print_line,
    print_message,
    print_raw,
    print_table,
)
from featx.evaluation.protocol.options import Options
from featx.formatting import counted

Test = Annotated[str | None, typer.Option(help="Images to test on; by default cross-validation.")]
Heads = Annotated[list[str] | None, typer.Option(help="Can be repeated; by default every head.")]
Evidence = Annotated[
    bool, typer.Option(help="Learning curve, calibration, parity, map, images of mistakes.")
]
TensorBoard = Annotated[
    Path | None, typer.Option(help="Folder for TensorBoard: training curves and features.")
]
Images = Annotated[
    bool, typer.Option("--images/--no-images", help="Keep small copies of images in the report.")
]
Folds = Annotated[int, typer.Option(min=2, help="Number of folds, if there is no test set.")]
Leaks = Annotated[
    bool, typer.Option(help="Look for duplicates, within the data set and across the split.")
]


def benchmark(
    ctx: typer.Context,
    train: Annotated[
        str, typer.Argument(help="Labelled images: a folder, an archive or a CSV file.")
    ],
    backbone: BackboneNames,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for report.html, report.md and report.json.")
    ],
    test: Test = None,
    head: Heads = None,
    weights: Weights = "imagenet",
    image_size: ImageSize = None,
    layer: Layer = None,
    pooling: Pooling = "avg",
    precision: Precision = "float32",
    decode: Decode = "auto",
    resize: Resize = "squash",
    filter: Filter = None,
    path_column: PathColumn = Options.path_column,
    label_column: LabelColumn = str(Options.label_column),
    image_folder: ImageFolder = None,
    suffix: Suffix = Options.suffix,
    follow_links: FollowLinks = Options.follow_links,
    baseline: Annotated[
        bool, typer.Option(help="Also train a Keras head end to end, for comparison.")
    ] = cast(bool, Options.baseline),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the baseline.")] = Options.epochs,
    seeds: Annotated[int, typer.Option(min=1, help="How often each method is trained.")] = cast(
        int, Options.seeds
    ),
    folds: Folds = Options.folds,
    groups_column: GroupsColumn = None,
    groups_pattern: GroupsPattern = None,
    class_weight: ClassWeight = None,
    leaks: Leaks = Options.leaks,
    evidence: Evidence = Options.evidence,
    images: Images = True,
    tensorboard: TensorBoard = None,
    cache: Cache = None,
    batch_size: BatchSize = None,
    runtime: Runtime = Options.runtime,
    on_error: OnError = Options.on_error,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Compare heads on cached features with a Keras head trained end to end."""
    from featx.evaluation import comparison
    from featx.evaluation.protocol import forecast
    from featx.evaluation.report import saved
    from featx.storage.output import check_new

    groups = make_groups(groups_column, groups_pattern)
    if logging.getLogger("featx").level == logging.WARNING:  # not --quiet: say what it will cost
        logging.getLogger(forecast.__name__).setLevel(logging.INFO)
    # An incomplete report is there to be completed.
    check_new(out / saved.NAME, "the report", force or saved.is_incomplete(out))
    found = comparison.benchmark(
        train,
        test,
        backbones=[
            make_backbone(
                name, weights, image_size, layer, pooling, precision, decode, resize, filter
            )
            for name in backbone
        ],
        heads=head or None,
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
        progress=ctx.obj,
        out=out,
        images=images,
        path_column=path_column,
        label_column=label_column,
        image_folder=image_folder,
        suffix=suffix,
        follow_links=follow_links,
    )
    if tensorboard is not None:
        found.save_tensorboard(tensorboard)
    if as_json:
        print_json(facts(out))
        return
    print_table(found.table())
    if found.groups is not None:
        from featx.evaluation.report import wording

        print_line(" ".join(wording.groups(found.to_dict())))
    from featx.evaluation.report import document

    held = document.images_in(found.to_dict()) if images else 0
    print_line(f"Report: {out / 'report.html'}{_held(held)}")


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders that `featx benchmark --out` wrote."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the pages; if not given, DIR itself for one, and `comparison` for "
            "several.",
        ),
    ] = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Render one saved report again, or join several into one comparison.

    One DIR: report.html and report.md are written again from its report.json, which stays as it
    is. Several: comparison.html, comparison.md and comparison.json are written.
    """
    from featx.storage.output import check_new

    if len(folders) > 1:
        out = out or Path("comparison")
        check_new(out / "comparison.html", "the comparison", force)
        _join(folders, out, as_json)
        return
    if out is not None and out.resolve() != folders[0].resolve():
        check_new(out / "report.html", "the report", force)
    _render(folders[0], out, as_json)


def _render(folder: Path, out: Path | None, as_json: bool) -> None:
    from featx.evaluation.report import terminal
    from featx.evaluation.report.rendering import render

    written, document = render(folder, out)
    if as_json:
        print_json({"file": written / "report.html", **facts(folder)})
        return
    print_table(terminal.table(document))
    print_line(f"Report: {written / 'report.html'}")


def _join(folders: list[Path], out: Path, as_json: bool) -> None:
    from featx.evaluation.report.joined import join
    from featx.formatting import percent, seconds

    joined = join(folders)
    joined.save(out)
    if as_json:
        print_json([{"name": run.name, **run.subject} for run in joined.runs])
        return
    listing = make_table(
        "data set", "backbone", "verdict", "accuracy", "95 % interval", "first prediction"
    )
    for run in joined.runs:
        one = run.subject
        low, high = one["interval"]["low"], one["interval"]["high"]
        listing.add_row(
            run.name,
            one["backbone"],
            one["method"],
            percent(one["accuracy"]),
            f"{percent(low)} to {percent(high)}",
            seconds(one["cost"]["total"]),
        )
    print_table(listing)
    for run in joined.runs:
        for caution in run.cautions:
            print_message(f"Caution ({run.name}): {caution}")
    print_line(f"Comparison: {out / 'comparison.html'}")


def evaluate(
    ctx: typer.Context,
    model: ModelFile,
    dataset: Dataset,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for evaluation.html and evaluation.json."),
    ] = None,
    images: Images = True,
    as_json: AsJson = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    image_folder: ImageFolder = None,
    suffix: Suffix = "",
    follow_links: FollowLinks = False,
    sha256: Sha256 = None,
    weights: WeightsFile = None,
    cache: Cache = None,
    batch_size: BatchSize = None,
    runtime: Runtime = "auto",
    on_error: OnError = "raise",
    force: Force = False,
) -> None:
    """Score a trained model on labelled images that it was not trained on."""
    from featx.classifier.classifier import load
    from featx.evaluation.report import files
    from featx.evaluation.saved_model import evaluate as score
    from featx.storage.output import check_new

    if out is not None:
        check_new(out / "evaluation.json", "the evaluation", force)
    loaded = load(model, sha256=sha256, weights=weights, cache=cache)
    loaded.set_params(batch_size=batch_size, runtime=runtime, progress=bool(ctx.obj))
    found = score(
        loaded,
        dataset,
        name=model.name,
        dataset=str(dataset),
        on_error=on_error,
        path_column=path_column,
        label_column=label_column,
        image_folder=image_folder,
        suffix=suffix,
        follow_links=follow_links,
    )
    if out is not None:
        found.save(out, images=images)
    if as_json:
        print_raw(files.strict(found.to_dict()).rstrip())
        return
    print_line(found.headline)
    print_table(found.table())
    print_line(found.looked_for)
    for caution in found.cautions:
        print_message(f"Caution: {caution}")
    for failure in found.failures:
        print_message(f"Skipped {failure}")
    if out is not None:
        held = len(found.mistakes) if images else 0
        print_line(f"Report: {out / 'evaluation.html'}{_held(held)}")


def _held(images: int) -> str:
    """Return how many small copies of images a saved report holds, and how to have none."""
    copies = counted(images, "small copy", "small copies")
    return f" ({copies} of images in it; --no-images: none)" if images else ""


COMMANDS = (benchmark, evaluate, report)
