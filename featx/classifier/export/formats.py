"""A classifier as one network in a file: Keras, TensorFlow SavedModel, ONNX, TFLite."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones.backbone import Backbone
from featx.backend import load_keras
from featx.classifier.export import onnx_trees, usage
from featx.classifier.export.folding import folded, pixels_to_embeddings
from featx.errors import ExportError, ModelFormatError
from featx.heads.boosting import checked_model
from featx.heads.boosting.xgboost_head import XGBoostHead
from featx.storage import atomic
from featx.storage.output import check_parent, check_target

SUFFIXES = {"keras": ".keras", "savedmodel": "", "onnx": ".onnx", "tflite": ".tflite"}
"""What a file of each format is called; a SavedModel is a folder."""

NAMES = "labels.txt"
"""The class names, one per line, in a .keras or .tflite file (both are readable as a zip)."""


def write(
    path: str | os.PathLike[str], backbone: Backbone, head: Any, format: str | None = None
) -> dict[str, Any]:
    """Write the network and the head as one: uint8 images in, class probabilities out, in float32.

    The input is (n, side, side, 3) RGB 0-255, resized beforehand as `featx.images.decoding.resize`
    does with the backbone's `preparation`, for the same probabilities. The class names are inside:
    as `labels.txt` in a .keras or .tflite file (read it with any zip tool), as `assets.extra/
    labels.txt` in a SavedModel, as the metadata "classes" (a JSON list) in ONNX. What the network
    takes and gives stands beside the file, as `<file>.json`, and inside it: as `featx.json` in the
    same places, as the metadata "featx" in ONNX.

    Trees jump at their thresholds: where a number of an embedding lies so near to one that another
    runtime rounds it across, the image takes another branch, and its probabilities differ by
    hundredths. featx keeps thresholds away from the training embeddings, so that this is rare;
    `verify_parity` finds such images. On the same embeddings the exported trees give the head's own
    probabilities.

    Parameters
    ----------
    format : {"keras", "savedmodel", "onnx", "tflite"}, optional
        By the path's suffix unless given.

    Returns
    -------
    dict
        What stands beside the file: `input`, `output` and `snippet`, Python that runs it.

    Raises
    ------
    ExportError
        The head cannot be expressed as layers of a network, the format is unknown, or what it needs
        is not installed.
    OSError
        The folder of `path` is missing or cannot be written, or `path` is a folder and the format
        a file.
    """
    path = Path(path)
    chosen = format or next((f for f, suffix in SUFFIXES.items() if suffix == path.suffix), None)
    if chosen not in SUFFIXES:
        asked = f"{path} does not tell the format" if format is None else f"format={format!r}"
        raise ExportError(
            f"{asked}: expected a path that ends with .keras, .onnx or .tflite, or one of the "
            f"formats {', '.join(SUFFIXES)} (format=, --format)."
        )
    _check_target(path, chosen)
    for package in _NEEDS.get(chosen, ()):  # before the network is built
        if find_spec(package) is None:
            raise ExportError(
                f"{chosen} files need the package {package}: pip install 'featx[export]'."
            )
    # Runtimes of such files compute in it everywhere, and Keras has no int8.
    backbone = replace(backbone, precision="float32")
    trees = isinstance(head, XGBoostHead)
    planted = trees and chosen == "onnx"
    network = pixels_to_embeddings(backbone) if planted else folded(backbone, head)
    names = [str(name) for name in head.classes_]
    facts = usage.usage(backbone, names, chosen, path.name)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".featx-export-") as folder:
        # Beside the target: a folder can be renamed within one file system only.
        made = Path(folder, f"model{SUFFIXES[chosen]}")
        try:
            _WRITERS[chosen](network, made, names, usage.text(facts))
        except ImportError as error:
            raise ExportError(
                f"{chosen} needs {error.name}: pip install 'featx[export]'."
            ) from error
        if trees:
            _plant(made, head)
        _move(made, path, chosen)
    atomic.replace_all({usage.beside(path): usage.text(facts).encode()})
    return facts


def _keras(network: Any, made: Path, names: Sequence[str], facts: str) -> None:
    network.save(made)
    _append(made, names, facts)


def _saved_model(network: Any, made: Path, names: Sequence[str], facts: str) -> None:
    network.export(made, format="tf_saved_model", verbose=False)
    # TensorFlow's own place for files that travel with a SavedModel.
    (made / "assets.extra").mkdir()
    (made / "assets.extra" / NAMES).write_bytes(_lines(names))
    (made / "assets.extra" / usage.NAME).write_text(facts, encoding="utf-8")


def _onnx(network: Any, made: Path, names: Sequence[str], facts: str) -> None:
    import onnx

    network(np.zeros((1, *network.input_shape[1:]), np.uint8))  # Keras exports what was called
    with warnings.catch_warnings():
        # tf2onnx 1.17 asks NumPy for names of types that are gone, and goes on without them.
        warnings.simplefilter("ignore", FutureWarning)
        network.export(made, format="onnx", verbose=False)
    model = onnx.load(made)
    _fill_constants(model, network)
    onnx.helper.set_model_props(model, {"classes": _json(names), "featx": facts})
    onnx.save(model, made)


def _fill_constants(model: Any, network: Any) -> None:
    """Put in the means and deviations of the preprocessing, which tf2onnx leaves as inputs."""
    from onnx import numpy_helper

    others = [one for one in model.graph.input if one.name != network.input.name]
    values = list(_constants(network)) if others else []
    if len(others) != len(values):
        raise ExportError(f"ONNX would need {len(others)} inputs besides the image.")
    for one, value in zip(others, values, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value, one.name))
        model.graph.input.remove(one)


def _constants(network: Any) -> Iterator[np.ndarray]:
    """Yield the tensors that a network's operations were given, in order."""
    keras = load_keras()

    for operation in network.operations:
        if isinstance(operation, keras.Model):
            yield from _constants(operation)
            continue
        for node in operation._inbound_nodes:
            for value in keras.tree.flatten((node.arguments.args, node.arguments.kwargs)):
                if keras.ops.is_tensor(value) and not isinstance(value, keras.KerasTensor):
                    yield keras.ops.convert_to_numpy(value)


def _tflite(network: Any, made: Path, names: Sequence[str], facts: str) -> None:
    network.export(made, format="litert", verbose=False)
    # As TensorFlow Lite's own tools attach label files: a zip behind the model.
    _append(made, names, facts)


def _append(made: Path, names: Sequence[str], facts: str) -> None:
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr(NAMES, _lines(names))
        archive.writestr(usage.NAME, facts)


def _lines(names: Sequence[str]) -> bytes:
    # A name with a line break would become two classes. The names of folders may be any bytes.
    text = "".join(" ".join(name.splitlines()) + "\n" for name in names)
    return text.encode("utf-8", "surrogateescape")


def _json(names: Sequence[str]) -> str:
    text = json.dumps(list(names), ensure_ascii=False)
    return text if text.isprintable() else json.dumps(list(names))


def _plant(made: Path, head: XGBoostHead) -> None:
    """Put the trees of a head behind the ONNX network that computes its embeddings."""
    import onnx

    raw = bytes(head.model_.get_booster().save_raw("ubj"))
    try:
        checked = checked_model.checked(raw, head.n_features_in_, len(head.classes_))
    except ModelFormatError as error:
        raise ExportError(
            f"{type(head).__name__} cannot be exported: what XGBoost grew is not a model of trees "
            f"as featx knows them ({error.__cause__}). Fit it again as featx.heads.xgboost makes "
            "it, or with another version of XGBoost."
        ) from error
    model = onnx.load(made)
    onnx_trees.plant(model, checked, len(head.classes_))
    onnx.checker.check_model(model)
    onnx.save(model, made)


def _check_target(path: Path, format: str) -> None:
    if format != "savedmodel":
        check_target(path)
        return
    check_parent(path)
    if path.is_dir() and not path.is_symlink() and not (path / "saved_model.pb").exists():
        raise ExportError(f"{path} is a folder that holds something else; it was left alone.")


def _move(made: Path, path: Path, format: str) -> None:
    _check_target(path, format)  # again: the writing takes seconds
    if format != "savedmodel":
        atomic.replace_all({path: made.read_bytes()})
        return
    # No system call puts a folder in the place of one that holds files, so between these two there
    # is none; what `atomic` does is for files.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    os.replace(made, path)


_NEEDS = {"onnx": ("onnx", "tf2onnx")}
_WRITERS: dict[str, Callable[[Any, Path, Sequence[str], str], None]] = {
    "keras": _keras,
    "savedmodel": _saved_model,
    "onnx": _onnx,
    "tflite": _tflite,
}
