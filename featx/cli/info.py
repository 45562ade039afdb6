"""What a file or folder of featx is: a model, an export, features, a report, a cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from featx.cli.options import AsJson
from featx.cli.terminal import print_json, print_line, print_pairs
from featx.errors import FeatxError

_START = 64  # bytes that tell an image
_PAGES = {
    "report.html": "report.json",
    "report.md": "report.json",
    "evaluation.html": "evaluation.json",
}
_OF_IMAGES = (
    " Of images, `featx extract DATASET --dry-run` says what would be done, and `featx predict "
    "MODEL IMAGE` what a model says."
)


def info(
    path: Annotated[
        Path,
        typer.Argument(
            help="A model, an exported model, a feature file, a cache, or the folder of a report "
            "or an evaluation."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Say what a file or folder of featx holds; no network is started."""
    found = facts(path)
    if as_json:
        print_json(found)
        return
    cautions = found.pop("cautions", ())  # sentences, a line each
    print_pairs({name: _text(value) for name, value in found.items()})
    for caution in cautions:
        print_line(f"Caution: {caution}")


def facts(path: Path) -> dict[str, Any]:
    """Return what a file or folder holds, by name.

    Raises
    ------
    FeatxError
        It is nothing that featx writes.
    """
    from featx.cache.location import MARKER
    from featx.images import formats

    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path}. Expected a file or folder that featx wrote: a model, an export, "
            "features, a report, an evaluation or a cache."
        )
    if path.name in _PAGES and (path.parent / _PAGES[path.name]).is_file():
        path = path.parent
    if (path / MARKER).is_file():
        return _cache(path)
    if (path / "report.json").is_file() or path.name == "report.json":
        return _report(path)
    if (path / "evaluation.json").is_file() or path.name == "evaluation.json":
        return _evaluation(path)
    if (known := _export(path)) is not None:
        return known
    if path.is_dir():
        raise FeatxError(
            f"{path} is a folder without {MARKER}, report.json or evaluation.json: neither a cache "
            f"nor a report.{_OF_IMAGES}"
        )
    with path.open("rb") as file:
        start = file.read(_START)
    if formats.is_image(start):
        raise FeatxError(f"{path} is an image, not a file that featx writes.{_OF_IMAGES}")
    return _features(path) if start.startswith(b"\x89HDF\r\n\x1a\n") else _model(path)


def _export(path: Path) -> dict[str, Any] | None:
    """Return the facts of an exported model, by itself or by the JSON beside it; None if none."""
    from featx.classifier.export import usage
    from featx.storage import strict_json

    file = path if path.suffix == ".json" else usage.beside(path)
    if not file.is_file():
        return None
    try:
        known = strict_json.loads(file.read_bytes())
        given, image = known["input"], known["input"]["image"]
        found = {
            "kind": f"exported model ({known['format']})",
            "backbone": known["backbone"],
            "input": f"{given['shape']} {given['dtype']}, {given['channels']}",
            "range": given["range"],
            "geometry": f"{image['geometry']}, {image['resize']}",
            "classes": [str(name) for name in known["output"]["classes"]],
            "made by": known["made_by"],
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # some other JSON
    model = file.with_suffix("")
    if model.is_file():
        found["bytes"] = model.stat().st_size
    return {**found, "how to run it": f"the snippet in {file}"}


def _features(path: Path) -> dict[str, Any]:
    from featx.features import Features
    from featx.maintenance.inventory import options_of

    found = Features.load(path)
    return {
        "kind": "features",
        "images": len(found),
        "width": int(found.X.shape[1]),
        "classes": [str(name) for name in found.classes] if found.y is not None else None,
        "failures": len(found.failures),
        "backbone": found.spec["backbone"],
        "options": options_of(found.spec),
        "weights": found.spec["weights"],
        "bytes": path.stat().st_size,
    }


def _model(path: Path) -> dict[str, Any]:
    from featx.classifier.classifier import load
    from featx.maintenance.inventory import options_of

    found = load(path)
    head = getattr(found.head_, "steps", [(None, found.head_)])[-1][1]
    return {
        "kind": "model",
        "head": type(head).__name__,
        "classes": [str(name) for name in found.classes_],
        "backbone": found.spec_["backbone"],
        "options": options_of(found.spec_),
        "weights": found.spec_["weights"],
        "width": found.dim_,
        "stored images": sum(image is not None for image in found.examples_.images),
        "digests of training images": len(found.trained_on_),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _report(path: Path) -> dict[str, Any]:
    from featx.evaluation.report import saved, wording

    document = saved.read(path)
    verdict = wording.verdict(document)
    images = document["images"]
    return {
        "kind": "report",
        "verdict": verdict.headline,
        "cautions": list(verdict.cautions),
        "images": f"{images['train']}{' -> ' + images['test'] if images['test'] else ''}",
        "methods": [f"{one['backbone']} {one['method']}" for one in document["methods"]],
        "created": document["created"],
        "command": document["command"],
    }


def _evaluation(path: Path) -> dict[str, Any]:
    from featx.storage import strict_json

    file = path if path.is_file() else path / "evaluation.json"
    try:
        document = strict_json.loads(file.read_bytes())
        names = ("model", "dataset", "headline", "cautions", "created")
        return {"kind": "evaluation", **{name: document[name] for name in names}}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FeatxError(f"{file} is not what `featx evaluate` writes: {error}.") from error


def _cache(path: Path) -> dict[str, Any]:
    from featx.cache.location import existing_cache
    from featx.maintenance.inventory import list_keys

    cache = existing_cache(path)
    assert cache is not None  # its marker is there
    stock = list_keys(cache)
    return {
        "kind": "cache",
        "networks": len(stock),
        "embeddings": sum(entry.embeddings for entry in stock),
        "bytes": sum(entry.bytes for entry in stock),
        "details": f"featx cache ls --cache {path}",
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
