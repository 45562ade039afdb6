"""Exported networks, each run by its own runtime."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from featx.errors import ExportError

Run = Callable[[np.ndarray], np.ndarray]


def runner(path: str | os.PathLike[str]) -> Run:
    """Return what runs an exported file: (n, side, side, 3) uint8 to (n, n_classes) float32.

    Raises
    ------
    ExportError
        It is neither .onnx nor .tflite, or its runtime is not installed. Keras and TensorFlow
        files can run code when they are loaded: load those yourself.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in _RUNNERS:
        raise ExportError(
            f"{os.fspath(path)} cannot be run here: expected one of {', '.join(_RUNNERS)}. Keras "
            "and TensorFlow models can run code when they are loaded: load it yourself, and pass "
            "the loaded model."
        )
    try:
        return _RUNNERS[suffix](os.fspath(path))
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed: pip install 'featx[export]'.") from error


def _onnx(path: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about a graph help no user of the graph
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: np.asarray(session.run(None, {name: batch})[0])


def _tflite(path: str) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    size = 0

    def run(batch: np.ndarray) -> np.ndarray:
        nonlocal size
        given = interpreter.get_input_details()[0]["index"]
        if len(batch) != size:
            interpreter.resize_tensor_input(given, batch.shape)
            interpreter.allocate_tensors()
            size = len(batch)
        interpreter.set_tensor(given, batch)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))

    return run


_RUNNERS: dict[str, Callable[[str], Any]] = {".onnx": _onnx, ".tflite": _tflite}
