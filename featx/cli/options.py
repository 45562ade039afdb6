"""Options that several commands have: each type, and what it means, stands here once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from featx.backbones.backbone import Backbone

Dataset = Annotated[
    str,
    typer.Argument(help="A folder with one sub-folder per class, an archive of it, or a CSV file."),
]
PathColumn = Annotated[str, typer.Option(help="CSV column with the paths of the images.")]
LabelColumn = Annotated[
    str,
    typer.Option(help="CSV column with the labels; A,B,C: one column per class with 0 and 1."),
]
ImageFolder = Annotated[
    Path | None,
    typer.Option(help="Folder that the paths of a CSV file are relative to; by default its own."),
]
Suffix = Annotated[str, typer.Option(help='Appended to each path of a CSV file, such as ".png".')]
BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone", "-b", envvar="FEATX_BACKBONE", help="`featx backbones` lists the names."
    ),
]
BackboneNames = Annotated[
    list[str],
    typer.Option(
        "--backbone",
        "-b",
        envvar="FEATX_BACKBONE",
        help="`featx backbones` lists the names; can be repeated.",
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        envvar="FEATX_WEIGHTS",
        help='"imagenet", "none" (untrained) or the path of a weights file.',
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(help="Weights file, for a model that was trained with custom weights."),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="FEATX_IMAGE_SIZE",
        help="Input height and width in pixels; by default the network's own.",
    ),
]
Layer = Annotated[str | None, typer.Option(help="Layer whose output is used; the last by default.")]
Pooling = Annotated[
    Literal["avg", "max", "none"], typer.Option(help="none: the output is flattened.")
]
Precision = Annotated[
    Literal["float32", "bfloat16", "float16", "int8"],
    typer.Option(envvar="FEATX_PRECISION", help="Number format the network computes in."),
]
Decode = Annotated[
    Literal["auto", "full", "scaled"],
    typer.Option(
        help="auto: JPEGs of a megapixel and more are decoded to a half, a quarter or an eighth, "
        "several times as fast; scaled: JPEGs of any size; full: none."
    ),
]
Resize = Annotated[
    Literal["squash", "crop"],
    typer.Option(help="crop: shorter edge to the side, centre kept; squash: both edges."),
]
Filter = Annotated[
    Literal["bilinear", "bicubic"] | None,
    typer.Option(help="Of the resizing; by default bilinear, with crop the network's own."),
]
Cache = Annotated[
    str | None,
    typer.Option(
        help="Cache: a folder, s3://bucket/prefix, gs://... or az://...; by default $FEATX_CACHE, "
        "else ./cache if it is marked, else the user's cache folder."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="FEATX_BATCH_SIZE",
        help="Images per batch; chosen automatically by default.",
    ),
]
Runtime = Annotated[
    Literal["auto", "keras", "openvino"],
    typer.Option(envvar="FEATX_RUNTIME", help="What runs the network."),
]
Engine = Annotated[
    Literal["local", "joblib", "dask"],
    typer.Option(help="Where images are computed: in this process, or by workers of joblib, Dask."),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler, such as tcp://head:8786.")
]
GroupsColumn = Annotated[
    str | None,
    typer.Option(help="CSV column with the group of each image (patient, site): never divided."),
]
GroupsPattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression that finds the group in each path, such as 'patient_([0-9]+)'."
    ),
]
ClassWeight = Annotated[
    Literal["balanced"] | None,
    typer.Option(help="balanced: every class counts alike, however many images it has."),
]
OnError = Annotated[
    Literal["raise", "skip"],
    typer.Option(envvar="FEATX_ON_ERROR", help="What to do with images that cannot be used."),
]

ModelFile = Annotated[Path, typer.Argument(help="A file written by `featx train`.")]
Sha256 = Annotated[str | None, typer.Option(help="Refuse the file unless its sha256 is this one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Force = Annotated[bool, typer.Option("--force", help="Replace what is already at the target.")]

FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Follow links that lead out of a folder of images.")
]


def make_backbone(
    name: str,
    weights: str,
    image_size: int | None,
    layer: str | None,
    pooling: str,
    precision: str,
    decode: str,
    resize: str,
    filter: str | None,
) -> Backbone:
    """Return the backbone that these options ask for; "none" as weights means untrained."""
    from featx.backbones.backbone import Backbone

    return Backbone(
        name,
        weights=None if weights.lower() == "none" else weights,
        image_size=image_size,
        layer=layer,
        pooling=None if pooling == "none" else pooling,
        precision=precision,
        decode=decode,
        resize=resize,
        filter=filter,
    )


def make_groups(column: str | None, pattern: str | None) -> str | re.Pattern[str] | None:
    """Return what these options group by: a column, a pattern or nothing.

    Raises
    ------
    typer.BadParameter
        Both are given, or the pattern is not a regular expression.
    """
    if pattern is None:
        return column
    if column is not None:
        raise typer.BadParameter("--groups-column or --groups-pattern, not both.")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise typer.BadParameter(
            f"--groups-pattern {pattern!r} is not a regular expression: {error}."
        ) from error
