"""The commands about models: train, predict, export, serve."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from featx.cli.terminal import deliver, say, tell

if TYPE_CHECKING:
    from featx.classifier.classifier import ImageClassifier
    from featx.classifier.predictions import Prediction

ModelFile = Annotated[Path, typer.Argument(help="A file written by `featx train`.")]
Pin = Annotated[str | None, typer.Option(help="Refuse the file unless it has this sha256.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of kept rows; $FEATX_CACHE or the user's cache folder if not given."),
]
Own = Annotated[
    Path | None, typer.Option(help="Weights file, for a model trained with weights of your own.")
]


def train(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help="A folder (a sub-folder a class) or a CSV file.")],
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="`featx backbones` lists the names.")
    ],
    out: Annotated[Path, typer.Option(help="The model file, such as model.featx.")],
    head: Annotated[str, typer.Option(help="logistic, mlp, xgboost, dense, ...")] = "logistic",
    test: Annotated[str | None, typer.Option(help="Labelled images to test it on.")] = None,
    weights: Annotated[
        str, typer.Option(help='"imagenet", "none" (untrained) or the path of a weights file.')
    ] = "imagenet",
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels along each edge; the network's own if none.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="Small copies of training images kept in the file.")
    ] = 1000,
    cache: Cache = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per step.")] = None,
    on_error: Annotated[
        Literal["raise", "skip"], typer.Option(help="What to do when images cannot be used.")
    ] = "raise",
) -> None:
    """Train a head on a folder of images and write one model file."""
    from featx import heads
    from featx.backbones.backbone import Backbone
    from featx.classifier.classifier import ImageClassifier
    from featx.storage.output import check_target

    check_target(out)  # before the work, not after it
    estimator = heads.find(head)
    began = time.perf_counter()
    chosen = Backbone(
        backbone,
        weights=None if weights.lower() == "none" else weights,
        image_size=image_size,
    )
    model = ImageClassifier(
        chosen,
        estimator,
        cache=cache,
        batch_size=batch_size,
        on_error=on_error,
        examples=examples,
        progress=bool(ctx.obj),
    ).fit(dataset)
    digest = model.save(out)
    facts = {
        "classes": ", ".join(map(str, model.classes_)),
        "images": f"{model.n_images_:,}",
        "seconds": f"{time.perf_counter() - began:.1f}",
        "file": f"{out} ({out.stat().st_size / 1e6:.1f} MB)",
        "sha256": digest,
    }
    if test is not None:
        facts["accuracy"] = f"{model.score(test):.4f} on {test}"
    for name, value in facts.items():
        say(f"{name:<9} {value}")


def predict(
    ctx: typer.Context,
    model: ModelFile,
    paths: Annotated[list[str], typer.Argument(help='Images, folders, or patterns ("*.jpg").')],
    top: Annotated[int, typer.Option(min=1, help="Classes for each image.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    explain: Annotated[
        Path | None, typer.Option(help="Folder for index.html: similar images, activation maps.")
    ] = None,
    on_error: Annotated[
        Literal["raise", "skip"],
        typer.Option(help="Exit code 1 (raise) or 0 (skip) after images that cannot be used."),
    ] = "raise",
    sha256: Pin = None,
    weights: Own = None,
    cache: Cache = None,
) -> None:
    """Tell the classes of images; each has a row, with the reason where it cannot be used."""
    from featx.classifier import predictions

    if as_json and as_csv:
        raise typer.BadParameter("--json or --csv, not both.")
    if explain is not None:
        _check_folder(explain)
    loaded = _loaded(model, sha256, weights, cache)
    found = predictions.paths_of(paths)
    k = min(top, len(loaded.classes_))
    rows = _watched(predictions.predictions(loaded, found, k), len(found), bool(ctx.obj))
    if explain is not None:
        rows = iter(_explained(loaded, list(rows), explain))
    bad = 0
    if as_csv:
        deliver(predictions.as_csv(None, k))
    lines = []
    for row in rows:
        bad += bool(row.error)
        if as_json:
            lines.append(json.dumps(predictions.as_json(row), ensure_ascii=True))
        elif as_csv:
            deliver(predictions.as_csv(row, k))
        else:
            say(_line(row))
    if as_json:
        deliver("[" + ",\n ".join(lines) + "]")
    if explain is not None:
        tell(f"Explained: {explain / 'index.html'}")
    if bad:
        tell(f"{bad} of {len(found)} images cannot be used.")
        if on_error == "raise":
            raise typer.Exit(1)


def export(
    model: ModelFile,
    out: Annotated[Path, typer.Argument(help="Such as model.onnx, .tflite, .keras, or a folder.")],
    format: Annotated[
        Literal["keras", "savedmodel", "onnx", "tflite"] | None,
        typer.Option(help="By the name of OUT if not given."),
    ] = None,
    sha256: Pin = None,
    weights: Own = None,
) -> None:
    """Write network and head as one network: uint8 images in, class probabilities out."""
    _loaded(model, sha256, weights, None).export(out, format)
    say(f"Written: {out}")


def serve(
    model: ModelFile,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets other machines in; there is no password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page.")] = 8000,
    top: Annotated[int, typer.Option(min=1, help="Classes, and similar images, shown.")] = 5,
    sha256: Pin = None,
    weights: Own = None,
) -> None:
    """Serve a page to drop a image on, and POST /predict; needs `pip install featx[serve]`."""
    from featx.errors import RuntimeUnavailableError

    try:
        from featx.serving import run
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{error.name} is not installed: pip install 'featx[serve]'."
        ) from error
    loaded = _loaded(model, sha256, weights, None)
    tell(f"http://{host}:{port} (Ctrl-C ends it)")
    run(loaded, host=host, port=port, k=top)


def _loaded(
    model: Path, sha256: str | None, weights: Path | None, cache: Path | None
) -> ImageClassifier:
    from featx.classifier.classifier import load

    return load(model, sha256=sha256, weights=weights, cache=cache)


def _watched(rows: Iterator[Prediction], total: int, shown: bool) -> Iterator[Prediction]:
    if not shown:
        return rows
    from tqdm.auto import tqdm

    return iter(tqdm(rows, total=total, desc="predict", unit="img"))


def _line(row: Prediction) -> str:
    told = [label if p is None else f"{label} {p:.3f}" for label, p in row.top]
    # Names of files and classes may hold line breaks.
    return "  ".join([row.image, *(told or ["-", row.error])]).replace("\n", "\\n")


def _check_folder(folder: Path) -> None:
    from featx.classifier import explanations

    explanations.check_folder(folder)


def _explained(loaded: Any, rows: Sequence[Prediction], folder: Path) -> Sequence[Prediction]:
    from featx.classifier import explanations

    explainer = explanations.Explainer(loaded)
    explanations.save(
        (
            (
                row,
                None
                if row.embedding is None
                else explainer.explain(Path(row.image), row.embedding, row.top[0][0]),
            )
            for row in rows
        ),
        folder,
    )
    return rows


COMMANDS = (train, predict, export, serve)
