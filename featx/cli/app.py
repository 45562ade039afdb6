"""The command line: it reads options and prints; the work is done elsewhere."""

from __future__ import annotations

import dataclasses
import logging
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

import featx
from featx.backend import hush_tensorflow
from featx.cli import cache, doctor, info, model, report
from featx.cli.examples import FIRST, HEADINGS, epilog
from featx.cli.options import (
    AsJson,
    BackboneName,
    BatchSize,
    Cache,
    Dataset,
    Decode,
    Engine,
    Filter,
    FollowLinks,
    Force,
    ImageFolder,
    ImageSize,
    Layer,
    OnError,
    PathColumn,
    Pooling,
    Precision,
    Resize,
    Runtime,
    Scheduler,
    Suffix,
    Weights,
    make_backbone,
)
from featx.cli.terminal import (
    PrintableFormatter,
    make_table,
    open_standard_streams,
    print_json,
    print_line,
    print_message,
    print_pairs,
    print_table,
)
from featx.errors import CacheSpaceError, FeatxError
from featx.formatting import file_size, pace, seconds

if TYPE_CHECKING:
    from featx.extraction.estimate import Estimate
    from featx.features import Features
    from featx.runtimes.speeds import Speed

# May stand anywhere on the line, not only before the command.
_ANYWHERE = ("--debug", "--no-progress", "--quiet", "-q", "--verbose", "-v")


class _Group(TyperGroup):
    """Accepts the common flags anywhere, and turns featx's errors into exit code 1."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _keep_brackets(self)

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
            print_message(f"Error: {error}", style="red")
            raise typer.Exit(1) from error
        except RuntimeError as error:
            if ctx.params.get("debug") or "can't start new thread" not in str(error):
                raise
            print_message(
                "Error: this user or container may start no more threads. Raise the limit "
                "(ulimit -u, or pids.max of the container), or end other processes; what was "
                "computed is cached.",
                style="red",
            )
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            print_message("Stopped. The next run continues from what is already cached.")
            raise


def _keep_brackets(command: Any) -> None:
    """Escape, in all help, what rich would take for its markup and leave out, as in featx[serve].

    A tag of rich begins with a bracket and one of these characters (rich.markup).
    """
    for one in (command, *command.params):
        if getattr(one, "help", None):
            one.help = re.sub(r"\[(?=[a-z#/@])", r"\\[", one.help)
    for inner in getattr(command, "commands", {}).values():
        _keep_brackets(inner)


app = typer.Typer(
    cls=_Group,
    help="Image classifiers on the cached embeddings of a frozen network.",
    epilog=FIRST,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line and exit with its code: 0 success, 1 an error, 2 wrong usage."""
    open_standard_streams()
    # Asked to end: what is being written is finished or dropped, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="featx")


def _version(wanted: bool) -> None:
    if wanted:
        print_line(f"featx {featx.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log.")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bars.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bars, no warnings.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also say what is done.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    hush_tensorflow()
    ctx.obj = not (no_progress or quiet) and sys.stderr.isatty()
    log = logging.StreamHandler()
    log.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[log], force=True)
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.getLogger("featx").setLevel(logging.DEBUG if debug else level)
    if not debug:  # it advises against training several small networks in one process
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if quiet:
        warnings.simplefilter("ignore")
    warnings.showwarning = lambda message, *_, **__: print_message(f"Warning: {message}")


def demo(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the images and the report.")
    ] = Path("featx-demo"),
) -> None:
    """Draw images of pipes, compare heads with a Keras head on them, and write the report."""
    from featx.demo import run

    found = run(out, progress=ctx.obj, log=print_message)
    print_table(found.table())
    print_line(f"Report: {out / 'report' / 'report.html'}")


def extract(
    ctx: typer.Context,
    dataset: Dataset,
    backbone: BackboneName,
    weights: Weights = "imagenet",
    layer: Layer = None,
    pooling: Pooling = "avg",
    precision: Precision = "float32",
    decode: Decode = "auto",
    resize: Resize = "squash",
    filter: Filter = None,
    image_size: ImageSize = None,
    path_column: PathColumn = "path",
    label_column: Annotated[
        str,
        typer.Option(
            help="CSV column with the labels; A,B,C: one column per class with 0 and 1; none: "
            "without labels."
        ),
    ] = "label",
    image_folder: ImageFolder = None,
    suffix: Suffix = "",
    follow_links: FollowLinks = False,
    cache: Cache = None,
    batch_size: BatchSize = None,
    runtime: Runtime = "auto",
    engine: Engine = "local",
    scheduler: Scheduler = None,
    on_error: OnError = "raise",
    no_stat_cache: Annotated[
        bool,
        typer.Option("--no-stat-cache", help="Read every file, also those that look unchanged."),
    ] = False,
    no_gather: Annotated[
        bool,
        typer.Option(
            "--no-gather",
            help="Leave the embeddings in the cache: what is cached is not read and verified, and "
            "needs no memory.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate the cost, from a short trial.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write one HDF5 file.")
    ] = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Compute the embedding of each image once, and cache it."""
    from featx.datasets.dataset import as_dataset
    from featx.errors import OptionError
    from featx.storage.output import check_new, check_target

    chosen = make_backbone(
        backbone, weights, image_size, layer, pooling, precision, decode, resize, filter
    )
    if no_gather and out is not None:
        raise OptionError("--no-gather with --out: a feature file holds all embeddings.")
    if out is not None:
        check_target(out)  # before the work, not after it
        check_new(out, "the feature file", force)
    labels = None if label_column == "none" else label_column
    images = as_dataset(
        dataset,
        path_column=path_column,
        label_column=labels,
        image_folder=image_folder,
        suffix=suffix,
        follow_links=follow_links,
        progress=ctx.obj,
    )
    options: dict[str, Any] = {"cache": cache, "batch_size": batch_size, "runtime": runtime}
    if dry_run:
        from featx.extraction.estimate import estimate

        cost = estimate(images, chosen, **options, engine=engine, scheduler=scheduler)
        _print_estimate(cost, as_json)
        return
    features = featx.extract(
        images,
        chosen,
        **options,
        on_error=on_error,
        progress=ctx.obj,
        stat_cache=not no_stat_cache,
        engine=engine,
        scheduler=scheduler,
        gather=not no_gather,
    )
    if out is not None:
        features.save(out)
    _print_summary(features, out, as_json)


def backbones(
    match: Annotated[
        str, typer.Argument(help="Only networks whose name or family holds this text.")
    ] = "",
    sort: Annotated[
        Literal["name", "top1", "parameters", "size", "dim", "speed"],
        typer.Option(help="Order of the list."),
    ] = "name",
    on_disk: Annotated[
        bool, typer.Option("--on-disk", help="Only networks whose ImageNet weights are on disk.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the networks: input side, width, accuracy on ImageNet, size, whether weights are there.

    top-1, parameters (millions) and MB are Keras's own figures (keras.io/api/applications), of the
    network with its classification layer. images/s is what the last extraction of 256 images and
    more reached on this machine, decoding included; networks not used yet have none.
    """
    from featx.backbones.published import facts
    from featx.runtimes.speeds import known_speeds

    known = known_speeds()
    found: list[dict[str, Any]] = [facts(name) for name in featx.BACKBONES]
    shown: dict[str, Speed | None] = {}
    for one in found:
        measured = [each for each in known if each.backbone == one["name"]]
        best = shown[one["name"]] = _compared(measured, one["side"])
        one["images_per_second"] = None if best is None else best.images_per_second
        one["measured"] = [dataclasses.asdict(each) for each in measured]
    found = [
        one
        for one in found
        if match.lower() in f"{one['name']} {one['family']}" and (one["on_disk"] or not on_disk)
    ]
    if sort != "name":
        keys = {"parameters": "parameters_m", "size": "size_mb", "speed": "images_per_second"}
        key = keys.get(sort, sort)
        # The most accurate or fastest first, otherwise the smallest; what is not known comes last.
        sign = -1 if sort in ("top1", "speed") else 1
        found.sort(key=lambda one: (one[key] is None, sign * float(one[key] or 0)))
    if as_json:
        print_json(found)
        return
    columns = ["name", "pixels", "dim", "top-1 %", "par. M", "MB", "on disk", "images/s"]
    rows = []
    for one in found:
        names = ("side", "dim", "top1", "parameters_m", "size_mb")
        figures = ("" if one[name] is None else str(one[name]) for name in names)
        speed = _speed_in_words(shown[one["name"]], one["side"])
        rows.append([str(one["name"]), *figures, "yes" if one["on_disk"] else "", speed])
    measured_any = any(row[-1] for row in rows)
    width = len(columns) if measured_any else len(columns) - 1
    listing = make_table(*columns[:width])
    if measured_any:
        listing.caption = (
            "images/s: last reached on this machine; * with other pixels or precision (--json)"
        )
        listing.caption_justify, listing.caption_style = "left", ""
    for row in rows:
        listing.add_row(*row[:width])
    print_table(listing)


def _compared(measured: Sequence[Speed], side: int) -> Speed | None:
    """Return the latest speed at the network's own side in float32, else the latest, or None."""
    usual = [one for one in measured if (one.image_size, one.precision) == (side, "float32")]
    return (usual or measured)[-1] if measured else None


def _speed_in_words(speed: Speed | None, side: int) -> str:
    """Return images/s, with an asterisk where side and precision are not the usual ones."""
    if speed is None:
        return ""
    usual = (speed.image_size, speed.precision) == (side, "float32")
    return pace(speed.images_per_second) + ("" if usual else "*")


def _print_estimate(cost: Estimate, as_json: bool) -> None:
    """Print what an extraction would cost; raise as `extract` would on a full disk."""
    about = "" if cost.exact else "about "
    time = "none"
    if cost.seconds:
        time = (
            f"about {seconds(cost.seconds)}: {seconds(cost.start_seconds)} to start the network, "
            f"then {pace(cost.images_per_second)} images/s"
        )
        if cost.workers > 1:
            every = pace(cost.workers * cost.images_per_second)
            time += f" a worker, {every} by {cost.workers} as fast as this machine"
    network = f", {file_size(cost.network_bytes)} for the network" if cost.network_bytes else ""
    free = f", {file_size(cost.bytes_free)} free" if cost.bytes_free is not None else ""
    if as_json:
        print_json(dataclasses.asdict(cost))
    else:
        pairs = {
            "images": f"{cost.images:,}",
            "cached": f"{about}{cost.cached:,}",
            "to compute": f"{about}{cost.images - cost.cached:,}",
            "time": time,
            "disk": f"{file_size(cost.bytes_to_cache)} in {cost.cache}{free}{network}",
            "memory": f"{file_size(cost.features_bytes)} for the features",
            "runtime": f"{cost.runtime} on {cost.device}" if cost.runtime else "not needed",
        }
        print_pairs(pairs)
    if cost.bytes_free is not None and cost.bytes_free < cost.bytes_needed:
        raise CacheSpaceError(
            f"the disk of the cache {cost.cache} has {file_size(cost.bytes_free)} left, and "
            f"{file_size(cost.bytes_needed)} are needed. Free some space, or choose another folder "
            "(--cache, or FEATX_CACHE)."
        )


def _print_summary(features: Features, out: Path | None, as_json: bool) -> None:
    """Print how many images were computed, cached and skipped, how fast, and where they are."""
    done = features.report
    assert done is not None  # only features that were loaded from a file have none
    if features.failures:
        print_message("\n".join(f"Skipped {failure}" for failure in features.failures))
    if as_json:
        shape = {"features": len(features), "width": int(features.X.shape[1])}
        facts = {**dataclasses.asdict(done), **shape, "weights": features.spec["weights"]}
        facts["failures"] = [str(failure) for failure in features.failures]
        print_json({**facts, "file": None if out is None else str(out)})
        return
    speed = pace(done.images / done.seconds if done.seconds else 0.0)
    if not done.computed:
        speed += " read"
    if done.images_per_second is not None:
        speed += f" ({pace(done.images_per_second)} once the network had started)"
    equal = len(features) - done.computed - done.cached
    pairs = {
        "images": f"{done.images:,}" + (f", {equal:,} equal to another" if equal > 0 else ""),
        "computed": f"{done.computed:,}",
        "cached": f"{done.cached:,}",
        "failures": f"{len(features.failures):,}",
        "features": f"{len(features):,} x {features.X.shape[1]:,}",
        "weights": str(features.spec["weights"])[:12],
        "seconds": f"{done.seconds:.1f}",
        "images/s": speed,
        "cache": str(done.cache),
    }
    if out is not None:
        pairs["saved to"] = str(out)
    print_pairs(pairs)


def _register() -> None:
    """Add the commands to `featx`, in the order of work and under its headings."""
    by_name = {
        command.__name__: command
        for command in (
            *(demo, extract, backbones, doctor.doctor, info.info),
            *(*model.COMMANDS, *report.COMMANDS),
        )
    }
    for heading, names in HEADINGS.items():
        for name in names:
            if name == "cache":
                app.add_typer(cache.app, name="cache", rich_help_panel=heading)
            else:
                added = app.command(rich_help_panel=heading, epilog=epilog(name))
                added(by_name[name])


_register()
