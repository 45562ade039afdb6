"""The commands about models: train, predict, export, serve."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from featx.cli.options import (
    AsJson,
    BackboneName,
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
from featx.cli.terminal import print_json, print_line, print_message, print_pairs, print_raw
from featx.formatting import counted, file_size

if TYPE_CHECKING:
    from featx.classifier.classifier import ImageClassifier
    from featx.classifier.predictions import Prediction


def train(
    ctx: typer.Context,
    dataset: Dataset,
    backbone: BackboneName,
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file, such as model.featx.")],
    head: Annotated[str, typer.Option(help="logistic, mlp, xgboost, dense, ...")] = "logistic",
    test: Annotated[str | None, typer.Option(help="Labelled images to test it on.")] = None,
    weights: Weights = "imagenet",
    image_size: ImageSize = None,
    layer: Layer = None,
    pooling: Pooling = "avg",
    precision: Precision = "float32",
    decode: Decode = "auto",
    resize: Resize = "squash",
    filter: Filter = None,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    image_folder: ImageFolder = None,
    suffix: Suffix = "",
    class_weight: ClassWeight = None,
    groups_column: GroupsColumn = None,
    groups_pattern: GroupsPattern = None,
    examples: Annotated[
        int,
        typer.Option(
            min=0,
            help="Thumbnails of training images to store in the file; 0 stores neither these nor "
            "what tells whether an image was in the training.",
        ),
    ] = 1000,
    as_json: AsJson = False,
    follow_links: FollowLinks = False,
    cache: Cache = None,
    batch_size: BatchSize = None,
    runtime: Runtime = "auto",
    on_error: OnError = "raise",
    force: Force = False,
) -> None:
    """Train a head on a folder of images and write one model file."""
    from featx import heads
    from featx.backbones.backbone import untrained_caution
    from featx.classifier.classifier import ImageClassifier
    from featx.datasets.dataset import as_dataset
    from featx.datasets.groups import groups_of
    from featx.storage.output import check_new, check_target

    groups = make_groups(groups_column, groups_pattern)
    check_target(out)  # before the work, not after it
    check_new(out, "the model", force)
    estimator = heads.find(head)
    table: dict[str, Any] = {
        "path_column": path_column,
        "label_column": label_column,
        "image_folder": image_folder,
        "suffix": suffix,
        "follow_links": follow_links,
        "progress": bool(ctx.obj),
    }
    images = as_dataset(dataset, **table)
    tested = None if test is None else as_dataset(test, **table)
    if class_weight is not None:
        estimator.set_params(class_weight=class_weight)
    began = time.perf_counter()
    chosen = make_backbone(
        backbone, weights, image_size, layer, pooling, precision, decode, resize, filter
    )
    model = ImageClassifier(
        chosen,
        estimator,
        cache=cache,
        batch_size=batch_size,
        runtime=runtime,
        on_error=on_error,
        examples=examples,
        progress=bool(ctx.obj),
    )
    named = None if groups is None else groups_of(groups, dataset, images)
    model.fit(images, groups=named)
    digest = model.save(out)
    if model.failures_:
        print_message("\n".join(f"Skipped {failure}" for failure in model.failures_))
    stored = sum(image is not None for image in model.examples_.images)
    pairs = {
        "classes": ", ".join(map(str, model.classes_)),
        "images": f"{model.n_images_:,}",
        "skipped": f"{len(model.failures_):,}",
        "stored images": f"{stored:,} small copies of training images, and what tells whether an "
        "image was in the training (--examples 0: neither)"
        if examples
        else "none, nor what tells whether an image was in the training",
        "seconds": f"{time.perf_counter() - began:.1f}",
        "file": f"{out} ({file_size(out.stat().st_size)})",
        "sha256": digest,
    }
    known = _accuracy(model, images, named, tested)
    if as_json:
        facts = {
            "file": str(out),
            "bytes": out.stat().st_size,
            "sha256": digest,
            "classes": model.classes_.tolist(),
            "images": model.n_images_,
            "failures": [str(failure) for failure in model.failures_],
            "stored_images": stored,
            "seconds": time.perf_counter() - began,
        }
        print_json({**facts, "accuracy": known and {**known, "test": test}})
    else:
        print_pairs({**pairs, "accuracy": _accuracy_in_words(known, test)})
    cautions = list(known["cautions"] if known else ())
    if not chosen.trained and untrained_caution(chosen.name) not in cautions:
        cautions.append(untrained_caution(chosen.name))
    for caution in cautions:
        print_message(f"Caution: {caution}")


def predict(
    ctx: typer.Context,
    model: ModelFile,
    paths: Annotated[
        list[str], typer.Argument(help='Images, folders, archives, CSV files, patterns ("*.jpg").')
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes for each image.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a file: JSON by its suffix .json, else CSV."),
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Folder for index.html: nearest images, activation maps.")
    ] = None,
    on_error: Annotated[
        Literal["raise", "skip"],
        typer.Option(help="Exit code 1 (raise) or 0 (skip) after images that cannot be used."),
    ] = "raise",
    path_column: PathColumn = "path",
    image_folder: ImageFolder = None,
    suffix: Suffix = "",
    follow_links: FollowLinks = False,
    sha256: Sha256 = None,
    weights: WeightsFile = None,
    cache: Cache = None,
    batch_size: BatchSize = None,
    runtime: Runtime = "auto",
    force: Force = False,
) -> None:
    """Print the classes of images, a line per image, with the reason if it cannot be used."""
    from featx.backbones.backbone import find_backbone, untrained_caution
    from featx.classifier import predictions
    from featx.datasets.table import Columns
    from featx.storage import atomic
    from featx.storage.output import check_new, check_target

    if as_json and as_csv:
        raise typer.BadParameter("--json or --csv, not both.")
    if explain is not None:
        _check_folder(explain)
        check_new(explain / "index.html", "the page", force)
    if out is not None:
        as_json, as_csv = out.suffix.lower() == ".json", out.suffix.lower() != ".json"
        check_target(out)
        check_new(out, "the predictions", force)
    loaded = _loaded(model, sha256, weights, cache)
    loaded.set_params(batch_size=batch_size, runtime=runtime)
    if not find_backbone(loaded.backbone).trained:
        print_message(f"Caution: {untrained_caution(loaded.spec_['backbone'])}")
    columns = Columns(path_column, None, image_folder, suffix)
    found = predictions.images_of(paths, columns, follow_links=follow_links, progress=bool(ctx.obj))
    k = min(top, len(loaded.classes_))
    made = _with_progress(predictions.predictions(loaded, found, k), len(found), bool(ctx.obj))
    if explain is not None:
        made = iter(_explained(loaded, list(made), explain))
    bad: list[str] = []
    lines = _lines(_noting_errors(made, bad), "json" if as_json else "csv" if as_csv else "", k)
    if out is not None:
        text = "\n".join([*lines, ""])
        atomic.replace_all({out: text.encode("utf-8", "backslashreplace")})
    else:
        show = print_raw if as_json or as_csv else print_line
        for line in lines:
            show(line)
    if explain is not None:
        print_message(f"Explained: {explain / 'index.html'}")
    if bad:
        print_message(f"{len(bad)} of {len(found)} images cannot be used.")
        if on_error == "raise":
            raise typer.Exit(1)


def export(
    model: ModelFile,
    out: Annotated[Path, typer.Argument(help="Such as model.onnx, .tflite, .keras, or a folder.")],
    format: Annotated[
        Literal["keras", "savedmodel", "onnx", "tflite"] | None,
        typer.Option(help="By default chosen by the suffix of OUT."),
    ] = None,
    as_json: AsJson = False,
    sha256: Sha256 = None,
    weights: WeightsFile = None,
    force: Force = False,
) -> None:
    """Write network and head as one network, from uint8 images to class probabilities."""
    from featx.storage.output import check_new

    check_new(out, "the exported model", force)
    facts = _loaded(model, sha256, weights, None).export(out, format)
    if as_json:
        print_json({"file": str(out), **facts})
        return
    given = facts["input"]
    print_pairs(
        {
            "file": str(out),
            "facts": f"{out}.json",
            "input": f"{given['shape']} {given['dtype']}, {given['channels']}",
            "range": given["range"],
            "geometry": f"{given['image']['geometry']}, {given['image']['resize']}",
            "EXIF": "images are turned upright first",
            "output": ", ".join(facts["output"]["classes"]),
        }
    )
    print_line("")
    for line in facts["snippet"].split("\n"):
        print_line(line)


def serve(
    model: ModelFile,
    host: Annotated[
        str,
        typer.Option(
            envvar="FEATX_HOST",
            help="0.0.0.0 accepts connections from other machines; there is no password.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, envvar="FEATX_PORT", help="Port to listen on.")
    ] = 8000,
    top: Annotated[int, typer.Option(min=1, help="Classes and nearest images to show.")] = 5,
    sha256: Sha256 = None,
    weights: WeightsFile = None,
) -> None:
    """Serve a page to drop an image on, and POST /predict; needs pip install 'featx[serve]'."""
    from featx.errors import RuntimeUnavailableError

    try:
        from featx.serving import LOADING, run
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{error.name} is not installed: pip install 'featx[serve]'."
        ) from error

    def announce() -> None:
        print_message(f"http://{host}:{port} (stop with Ctrl-C), and, once the model is loaded:")
        here = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        print_message(f"curl -F image=@photo.jpg http://{here}:{port}/predict")

    run(
        lambda: _loaded(model, sha256, weights, None),
        host=host,
        port=port,
        k=top,
        name=model.stem,
        announce=announce,
    )
    # A thread inside a decoder, or one that loads the model, cannot be stopped, and Python would
    # wait for it.
    if any(thread.name.startswith(("AnyIO", LOADING)) for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(0)


def _accuracy(
    model: ImageClassifier, images: Any, groups: Any, tested: Any
) -> dict[str, Any] | None:
    """Return the accuracy on test images or, without them, on training images held out.

    None where there are too few images of a class to hold some out. `folds` are those that were
    scored, 0 for test images.
    """
    from featx.evaluation.saved_model import cross_validated, evaluate

    if tested is not None:
        found = evaluate(model, tested)
        accuracy, interval, folds = found.scores.accuracy, found.interval, 0
        cautions = found.cautions
    else:
        held = cross_validated(model, images, groups)
        if held is None:
            return None
        accuracy, interval, folds = held.accuracy, held.interval, held.folds.scored
        cautions = ()
    return {
        "value": accuracy,
        "low": interval.low,
        "high": interval.high,
        "folds": folds,
        "cautions": list(cautions),
    }


def _accuracy_in_words(known: dict[str, Any] | None, test: str | None) -> str:
    if known is None:
        return "not known: too few images of a class to hold some out; give --test"
    figures = f"{known['value']:.4f} (95 % interval {known['low']:.4f} to {known['high']:.4f})"
    if test is not None:
        return (
            f"{figures} on {test}; changed copies of training images were not looked for "
            "(featx benchmark does)"
        )
    return (
        f"{figures} on training images held out in {counted(known['folds'], 'fold', 'folds')}; "
        "copies were not looked for (featx benchmark does)"
    )


def _loaded(
    model: Path, sha256: str | None, weights: Path | None, cache: str | None
) -> ImageClassifier:
    from featx.classifier.classifier import load

    return load(model, sha256=sha256, weights=weights, cache=cache)


def _with_progress(made: Iterator[Prediction], total: int, progress: bool) -> Iterator[Prediction]:
    if not progress:
        return made
    from tqdm.auto import tqdm

    return iter(tqdm(made, total=total, desc="predict", unit="img"))


def _noting_errors(made: Iterator[Prediction], bad: list[str]) -> Iterator[Prediction]:
    """Yield the predictions, and put the names of images that cannot be used into a list."""
    for one in made:
        if one.error:
            bad.append(one.image)
        yield one


def _lines(made: Iterator[Prediction], form: str, k: int) -> Iterator[str]:
    """Yield the lines of a JSON list, of CSV, or for people."""
    from featx.classifier import predictions

    if form == "json":
        objects = [json.dumps(predictions.as_json(one), ensure_ascii=True) for one in made]
        yield "[" + ",\n ".join(objects) + "]"
        return
    if form == "csv":
        yield predictions.as_csv(None, k)
    for one in made:
        yield predictions.as_csv(one, k) if form == "csv" else _line(one)


def _line(one: Prediction) -> str:
    classes = [label if p is None else f"{label} {p:.3f}" for label, p in one.top]
    # Names of files and classes may contain line breaks.
    return "  ".join([one.image, *(classes or ["-", one.error])]).replace("\n", "\\n")


def _check_folder(folder: Path) -> None:
    from featx.classifier import explanations

    explanations.check_folder(folder)


def _explained(loaded: Any, made: Sequence[Prediction], folder: Path) -> Sequence[Prediction]:
    """Write the page of explanations and return the predictions as they came."""
    from featx.classifier import explanations

    explainer = explanations.Explainer(loaded)

    def explain(one: Prediction) -> Any:
        if one.embedding is None:
            return None
        return explainer.explain(one.source, one.embedding, one.top[0][0])

    explanations.save(((one, explain(one)) for one in made), folder)
    return made


COMMANDS = (train, predict, export, serve)
