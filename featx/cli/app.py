"""The command line: a thin face over featx's public names."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

import featx
from featx.cli import cache as cli_cache
from featx.cli import doctor, model
from featx.cli import report as cli_report
from featx.cli.terminal import say, show, size, table, tell
from featx.errors import CacheSpaceError, FeatxError
from featx.runtimes.quiet import hush_tensorflow

if TYPE_CHECKING:
    from featx.extraction.estimate import Estimate
    from featx.features import Features

# May stand anywhere on the line, not only before the command.
_ANYWHERE = ("--debug", "--no-progress")


class _Group(TyperGroup):
    """Takes the common flags wherever they stand, and turns featx's errors into exit code 1."""

    # Any: typer 0.29 brought a context of its own, and its typer.Context is a child of it.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        flags = [arg for arg in args[:end] if arg in _ANYWHERE]
        others = [arg for arg in args[:end] if arg not in _ANYWHERE]
        return super().parse_args(ctx, [*flags, *others, *args[end:]])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output left: typer ends quietly
        except (FeatxError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            tell(f"Error: {error}", style="red")
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            tell("Stopped. Rows already kept are found again by the next run.")
            raise


app = typer.Typer(
    cls=_Group,
    help="Every image meets a frozen network once; classifiers train on the kept rows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(cli_cache.app, name="cache")
app.command()(doctor.doctor)
for command in (*cli_report.COMMANDS, *model.COMMANDS):
    app.command()(command)

Name = Annotated[str, typer.Option("--backbone", "-b", help="`featx backbones` lists the names.")]
Weights = Annotated[
    str, typer.Option(help='"imagenet", "none" (untrained) or the path of a weights file.')
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Pixels along each edge; the network's own if not given.")
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of kept rows; $FEATX_CACHE or the user's cache folder if not given."),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per step of the network.")]
OnError = Annotated[
    Literal["raise", "skip"], typer.Option(help="What to do when images cannot be used.")
]


PathColumn = Annotated[str, typer.Option(help="Of a CSV file.")]
LabelColumn = Annotated[str, typer.Option(help="Of a CSV file.")]


def main() -> None:
    """Run the command line and leave with its exit code: 0 done, 1 an error, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show is no failure
            stream.reconfigure(errors="backslashreplace")
    # Asked to end: what is being written is finished or dropped, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="featx")


def _version(wanted: bool) -> None:
    if wanted:
        say(f"featx {featx.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log.")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bars.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    hush_tensorflow()
    ctx.obj = not no_progress and sys.stderr.isatty()
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("featx").setLevel(logging.DEBUG if debug else logging.WARNING)
    if not debug:  # it advises against training several small networks in one process
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.showwarning = lambda message, *_, **__: tell(f"Warning: {message}")


@app.command()
def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the images and the report.")] = Path(
        "featx-demo"
    ),
) -> None:
    """Draw images of pipes, compare heads with a Keras head on them, and write the report."""
    from featx.demo import run

    report = run(out, progress=ctx.obj, tell=tell)
    show(report.table())
    say(f"Report: {out / 'report' / 'report.html'}")


@app.command()
def extract(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help="A folder (a sub-folder a class) or a CSV file.")],
    backbone: Name,
    weights: Weights = "imagenet",
    layer: Annotated[str | None, typer.Option(help="Take this layer's output.")] = None,
    pooling: Annotated[Literal["avg", "max", "none"], typer.Option(help="none: flatten.")] = "avg",
    precision: Annotated[
        Literal["float32", "bfloat16", "float16", "int8"],
        typer.Option(help="The network computes in."),
    ] = "float32",
    decode: Annotated[
        Literal["full", "scaled"], typer.Option(help="scaled: large JPEGs are read faster.")
    ] = "full",
    image_size: ImageSize = None,
    path_column: PathColumn = "path",
    label_column: Annotated[str, typer.Option(help="Of a CSV file; none: no labels.")] = "label",
    cache: Cache = None,
    batch_size: BatchSize = None,
    runtime: Annotated[
        Literal["auto", "keras", "openvino"], typer.Option(help="What computes.")
    ] = "auto",
    on_error: OnError = "raise",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what it would cost, from a short trial.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Also write one HDF5 file.")] = None,
) -> None:
    """Send each image through the network once and keep its row."""
    from featx.datasets.dataset import as_dataset
    from featx.storage.output import check_target

    chosen = featx.Backbone(
        backbone,
        weights=_weights(weights),
        layer=layer,
        pooling=None if pooling == "none" else pooling,
        image_size=image_size,
        precision=precision,
        decode=decode,
    )
    if out is not None:
        check_target(out)  # before the work, not after it
    labels = None if label_column == "none" else label_column
    images = as_dataset(dataset, path_column=path_column, label_column=labels)
    for note in images.notes:
        tell(f"Note: {note}")
    options: dict[str, Any] = {"cache": cache, "batch_size": batch_size, "runtime": runtime}
    if dry_run:
        from featx.extraction.estimate import estimate

        _forecast(estimate(images, chosen, **options))
        return
    features = featx.extract(images, chosen, **options, on_error=on_error, progress=ctx.obj)
    if out is not None:
        features.save(out)
    _summary(features, out)


@app.command()
def backbones() -> None:
    """List the networks by name."""
    listing = table("name", "pixels", "row", "family", "preprocessing")
    for row in featx.BACKBONES.values():
        listing.add_row(row.name, str(row.side), str(row.dim), row.family, row.preprocessing)
    show(listing)


def _forecast(cost: Estimate) -> None:
    """Print what an extraction would cost, and refuse it as `extract` would on a full disk."""
    from featx.formatting import pace, seconds

    about = "" if cost.exact else "about "
    time = "none"
    if cost.seconds:
        time = (
            f"about {seconds(cost.seconds)}: {seconds(cost.start_seconds)} to start the network, "
            f"then {pace(cost.images_per_second)} images/s"
        )
    network = f", {size(cost.network_bytes)} of it the network" if cost.network_bytes else ""
    left = f", which has {size(cost.bytes_free)} left" if cost.bytes_free is not None else ""
    facts = {
        "images": f"{cost.images:,}",
        "kept already": f"{about}{cost.kept:,}",
        "to compute": f"{about}{cost.images - cost.kept:,}",
        "time": time,
        "to be kept": f"{size(cost.bytes_to_keep)}{network}, in {cost.cache}{left}",
        "in memory": f"{size(cost.rows_bytes)} of rows",
        "runtime": f"{cost.runtime} on {cost.device}" if cost.runtime else "not needed",
    }
    for name, value in facts.items():
        say(f"{name:<12} {value}")
    if cost.bytes_free is not None and cost.bytes_free < cost.bytes_needed:
        raise CacheSpaceError(
            f"the disk of the cache {cost.cache} has {size(cost.bytes_free)} left, and "
            f"{size(cost.bytes_needed)} are needed. Free some space, or choose another folder "
            "(--cache, or FEATX_CACHE)."
        )


def _weights(text: str) -> str | None:
    return None if text.lower() == "none" else text


def _summary(features: Features, out: Path | None) -> None:
    """Print what was asked, what was computed, what failed, how fast, and where it is kept."""
    report = features.report
    assert report is not None  # only features that were loaded from a file have none
    if features.failures:
        tell("\n".join(f"Skipped {failure}" for failure in features.failures))
    from featx.formatting import pace

    speed = pace(report.images / report.seconds if report.seconds else 0.0)
    if report.images_per_second is not None:
        speed += f" ({pace(report.images_per_second)} once the network had started)"
    facts = {
        "images": f"{report.images:,}",
        "computed": f"{report.computed:,}",
        "reused": f"{report.reused:,}",
        "failures": f"{len(features.failures):,}",
        "rows": f"{len(features):,} x {features.X.shape[1]:,}",
        "seconds": f"{report.seconds:.1f}",
        "images/s": speed,
        "kept in": report.cache,
    }
    if out is not None:
        facts["saved to"] = str(out)
    for name, value in facts.items():
        say(f"{name:<9} {value}")
