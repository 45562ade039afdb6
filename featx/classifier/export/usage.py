"""What an exported file takes and gives, and how to run it: said beside the file and inside it.

An exported network gives probabilities for whatever pixels it is fed. Blue and red swapped, or
another filter of resizing, changes the answers without an error, so the facts travel with the file.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Template

from featx.backbones.backbone import Backbone
from featx.images.preparation import Preparation

NAME = "featx.json"
"""The facts inside a .keras or .tflite file (as a zip), or in a SavedModel's assets.extra."""

_REDUCED = (
    "featx reduces those of a megapixel and more while it decodes them; in full they differ by "
    "less than a grey level"
)
_GEOMETRY = {
    "squash": "the aspect ratio is not kept: resized to",
    "crop": "the largest square at the centre, resized to",
}


def usage(backbone: Backbone, classes: list[str], format: str, file: str) -> dict[str, Any]:
    """Return what a file takes and gives, with a snippet that runs it; plain data for JSON.

    Parameters
    ----------
    backbone : Backbone
        In the precision in which the file computes.
    classes : list of str
        In the order of the output's columns.
    format : {"keras", "savedmodel", "onnx", "tflite"}
    file : str
        Name of the file, for the snippet.
    """
    side, how = backbone.side, backbone.preparation
    return {
        "made_by": f"featx {sys.modules['featx'].__version__}",
        "format": format,
        "backbone": backbone.name,
        "input": {
            "shape": [None, side, side, 3],
            "dtype": "uint8",
            "channels": "RGB, not BGR as OpenCV reads them",
            "range": "0 to 255 as decoded: the network scales them itself",
            "image": {
                **how.policy(),
                **({"large JPEGs": _REDUCED} if how.decode == "auto" else {}),
                "geometry": f"{_GEOMETRY[how.resize]} {side} x {side}",
            },
        },
        "output": {
            "shape": [None, len(classes)],
            "dtype": "float32",
            "meaning": "probabilities, one column per class",
            "classes": classes,
        },
        "snippet": snippet(format, file, side, how),
    }


def beside(path: Path) -> Path:
    """Return where the facts lie beside an exported file: its name with .json behind it."""
    return path.with_name(f"{path.name}.json")


def text(facts: dict[str, Any]) -> str:
    """Return the facts as strict JSON; names of folders that are not Unicode are escaped."""
    made = json.dumps(facts, ensure_ascii=False, indent=1)
    return made if made.isascii() or _encodable(made) else json.dumps(facts, indent=1)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def snippet(format: str, file: str, side: int, how: Preparation) -> str:
    """Return Python that runs a file of this format on photo.jpg in its own runtime."""
    template = files("featx.classifier").joinpath("templates/run_export.py.j2")
    name = {"file": json.dumps(file), "facts": json.dumps(f"{file}.json")}
    return Template(template.read_text(encoding="utf-8"), trim_blocks=True).render(
        format=format, side=side, how=how, **name
    )
