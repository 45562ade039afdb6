"""A batch of uint8 pictures to float32 rows: one compiled function, one shape."""

from __future__ import annotations

import logging
import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from featx.backbones import Backbone
from featx.errors import FeatxError, OutOfMemoryError, RuntimeUnavailableError

logger = logging.getLogger(__name__)

# 16 to 32 measured fastest on CPUs; a GPU wants more work at a time.
BATCH_CPU, BATCH_GPU = 32, 256
MAX_BATCH = 1 << 14


class Runtime(ABC):
    """What computes rows; a subclass of your own may be passed as ``extract(runtime=...)``.

    Attributes
    ----------
    name : str
        Stands in reports and in the provenance of each shard.
    batch_size : int
        Pictures a call of ``run`` gets, always the same.
    """

    name: str
    batch_size: int

    @abstractmethod
    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the rows of one batch.

        Parameters
        ----------
        pixels : numpy.ndarray of shape (batch_size, side, side, 3) and dtype uint8
            RGB 0-255.

        Returns
        -------
        numpy.ndarray of shape (batch_size, dim) and dtype float32
        """

    def environment(self) -> dict[str, str]:
        """Return what, besides the recipe, may move the last digits of a row."""
        return {"runtime": self.name, **versions()}


class KerasRuntime(Runtime):
    """The backbone on the Keras backend in use: a frozen TensorFlow graph, JAX, or torch."""

    def __init__(self, backbone: Backbone, batch_size: int | None = None) -> None:
        import keras

        self._backend = keras.backend.backend()
        self._device = _device(self._backend)
        self.batch_size = batch_size or (BATCH_GPU if self._device != "cpu" else BATCH_CPU)
        self.name = f"keras-{self._backend}"
        model = backbone.build()
        shape = (self.batch_size, backbone.side, backbone.side, 3)
        self._function = _COMPILERS[self._backend](model, shape)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the (batch_size, dim) float32 rows of a (batch_size, side, side, 3) batch."""
        try:
            return np.asarray(self._function(pixels), dtype=np.float32)
        except Exception as error:
            if _is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"no memory for a batch of {self.batch_size} pictures ({error}). "
                    "Pass a smaller batch_size (--batch-size)."
                ) from error
            raise

    def environment(self) -> dict[str, str]:
        """Return the runtime, the device and the versions."""
        return {**super().environment(), "device": self._device}


def start(backbone: Backbone, batch_size: int | None = None, runtime: str = "auto") -> Runtime:
    """Return a runtime for the backbone, ready to run.

    Parameters
    ----------
    backbone : Backbone
    batch_size : int, optional
        Pictures at a time; 32 on a CPU and 256 on a GPU unless given.
    runtime : {"auto", "keras"}, default="auto"

    Raises
    ------
    RuntimeUnavailableError
        The name is unknown, or what it needs is not installed.
    """
    if runtime not in RUNTIMES:
        raise RuntimeUnavailableError(
            f"runtime={runtime!r}: expected one of {tuple(RUNTIMES)}, or a featx.runtimes.Runtime."
        )
    return RUNTIMES[runtime](backbone, batch_size)


RUNTIMES: dict[str, Callable[[Backbone, int | None], Runtime]] = {
    "auto": KerasRuntime,
    "keras": KerasRuntime,
}


def check_batch_size(batch_size: int | None) -> None:
    """Raise ValueError unless the batch size is None or from 1 to 16,384."""
    if batch_size is None:
        return
    if not isinstance(batch_size, int | np.integer) or not 1 <= batch_size <= MAX_BATCH:
        raise _BatchSizeError(
            f"batch_size={batch_size!r}: expected a whole number from 1 to {MAX_BATCH:,}, or None."
        )


class _BatchSizeError(FeatxError, ValueError):
    pass


def versions() -> dict[str, str]:
    """Return the versions of all that touches a picture between its bytes and its row."""
    names = ("featx", "pillow", "numpy", "keras", "tensorflow", "jax", "torch", "openvino")
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _compile_tensorflow(model: Any, shape: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    """Freeze the variables into a graph: a third faster than the same graph with variables."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def forward(pixels: Any) -> Any:
        return model(tf.cast(pixels, tf.float32), training=False)

    frozen = convert_variables_to_constants_v2(forward.get_concrete_function())
    return lambda pixels: frozen(tf.constant(pixels))[0]


def _compile_jax(model: Any, shape: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    import jax

    trainable = [v.value for v in model.trainable_variables]
    frozen = [v.value for v in model.non_trainable_variables]

    @jax.jit
    def forward(pixels: Any) -> Any:
        rows, _ = model.stateless_call(trainable, frozen, pixels.astype("float32"), training=False)
        return rows

    return forward


def _compile_torch(model: Any, shape: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    import torch
    from keras.src.backend.torch.core import get_device

    device = get_device()

    def forward(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).to(device).float()
            return model(batch, training=False).float().cpu().numpy()

    return forward


_COMPILERS = {
    "tensorflow": _compile_tensorflow,
    "jax": _compile_jax,
    "torch": _compile_torch,
}


def _device(backend: str) -> str:
    if backend == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    if backend == "jax":
        import jax

        return str(jax.default_backend())
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def _is_out_of_memory(error: Exception) -> bool:
    """Recognise the three backends' ways of saying so; each has a class and a text of its own."""
    name = type(error).__name__
    return (
        isinstance(error, MemoryError)
        or name in ("ResourceExhaustedError", "OutOfMemoryError")
        or (name == "XlaRuntimeError" and "RESOURCE_EXHAUSTED" in str(error))
    )


def cpu_count() -> int:
    """Return the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
