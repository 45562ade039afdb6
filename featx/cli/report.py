"""The commands about reports: benchmark, and report, which joins several into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from featx.cli.terminal import say, show, table

Test = Annotated[str | None, typer.Option(help="Images to test on; cross-validation if not given.")]
Heads = Annotated[
    list[str] | None, typer.Option(help="Repeat for several; every head if not given.")
]
Weights = Annotated[
    str, typer.Option(help='"imagenet", "none" (untrained) or the path of a weights file.')
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Pixels along each edge; the network's own if not given.")
]
Evidence = Annotated[
    bool, typer.Option(help="Learning curve, calibration, parity, map, mistakes as images.")
]
TensorBoard = Annotated[
    Path | None, typer.Option(help="Folder for training curves and rows, for TensorBoard.")
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of kept rows; $FEATX_CACHE or the user's cache folder if not given."),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per step of the network.")]
Folds = Annotated[
    int, typer.Option(min=2, help="Of the cross-validation, where there is no test set.")
]
Leaks = Annotated[bool, typer.Option(help="Look for copies, across the split and in all.")]
Runtime = Annotated[Literal["auto", "keras", "openvino"], typer.Option(help="What computes.")]
OnError = Annotated[
    Literal["raise", "skip"], typer.Option(help="What to do when images cannot be used.")
]


def benchmark(
    ctx: typer.Context,
    train: Annotated[str, typer.Argument(help="Labelled images: a folder or a CSV file.")],
    backbone: Annotated[list[str], typer.Option("--backbone", "-b", help="Repeat for several.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.md and report.json.")],
    test: Test = None,
    head: Heads = None,
    weights: Weights = "imagenet",
    image_size: ImageSize = None,
    path_column: Annotated[str, typer.Option(help="Of a CSV file.")] = "path",
    label_column: Annotated[str, typer.Option(help="Of a CSV file.")] = "label",
    baseline: Annotated[
        bool, typer.Option(help="Also train a Keras head end to end, for comparison.")
    ] = True,
    epochs: Annotated[int, typer.Option(min=1, help="Of the baseline.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="How often each method is trained.")] = 1,
    folds: Folds = 5,
    leaks: Leaks = True,
    evidence: Evidence = True,
    tensorboard: TensorBoard = None,
    cache: Cache = None,
    batch_size: BatchSize = None,
    runtime: Runtime = "auto",
    on_error: OnError = "raise",
) -> None:
    """Compare heads on kept rows with a Keras head trained end to end."""
    from featx.backbones.backbone import Backbone
    from featx.evaluation.comparison import benchmark as compare

    own = None if weights.lower() == "none" else weights
    found = compare(
        train,
        test,
        backbones=[Backbone(name, weights=own, image_size=image_size) for name in backbone],
        heads=head or None,
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
        progress=ctx.obj,
        path_column=path_column,
        label_column=label_column,
    )
    found.save(out)
    if tensorboard is not None:
        found.save_tensorboard(tensorboard)
    show(found.table())
    say(f"Report: {out / 'report.html'}")


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders that `featx benchmark --out` wrote."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for comparison.html, comparison.md and comparison.json.")
    ] = Path("comparison"),
) -> None:
    """Join several saved reports into one comparison."""
    from featx.evaluation.report.joined import join
    from featx.formatting import percent, seconds

    joined = join(folders)
    joined.save(out)
    listing = table("data set", "backbone", "verdict", "accuracy", "95 % interval", "first answer")
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
    show(listing)
    say(f"Comparison: {out / 'comparison.html'}")


COMMANDS = (benchmark, report)
