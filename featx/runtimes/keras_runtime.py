"""The backbone on the Keras backend in use: a frozen TensorFlow graph, JAX, or torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from featx import forking
from featx.backbones.backbone import Backbone
from featx.backend import check_backend, load_keras
from featx.errors import RuntimeUnavailableError
from featx.runtimes.runtime import Runtime, out_of_memory

# 16 to 32 measured fastest on CPUs; a GPU wants more work at a time.
BATCH_CPU, BATCH_GPU = 32, 256


class KerasRuntime(Runtime):
    """The backbone on the Keras backend in use: a frozen TensorFlow graph, JAX, or torch.

    Parameters
    ----------
    backbone : Backbone
    batch_size : int, optional
        32 on a CPU and 256 on a GPU or TPU unless given.

    Raises
    ------
    RuntimeUnavailableError
        The precision is "int8", or this process was made by fork after its parent had started
        Keras's backend.
    """

    def __init__(self, backbone: Backbone, batch_size: int | None = None) -> None:
        if backbone.precision == "int8":
            raise RuntimeUnavailableError(
                "precision='int8' is computed by OpenVINO alone, on a processor: pip install "
                "'featx[int8]' there, or use precision='bfloat16'."
            )
        backend = load_keras().backend.backend()
        self._kind, self._device = _DEVICES[backend]()
        self.batch_size = batch_size or (BATCH_CPU if self._kind == "cpu" else BATCH_GPU)
        # While one batch is computed on a GPU the next is copied to it and queued.
        self.streams = 1 if self._kind == "cpu" else 2
        self.name = f"keras-{backend}"
        shape = (self.batch_size, backbone.side, backbone.side, 3)
        self._function = _COMPILERS[backend](backbone.build(), shape)
        forking.leave_alone(self)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the (batch_size, dim) embeddings of a (batch_size, side, side, 3) batch."""
        check_backend()
        try:
            return np.asarray(self._function(pixels), dtype=np.float32)
        except Exception as error:
            if _is_out_of_memory(error):
                raise out_of_memory(self.batch_size, error) from error
            raise

    def environment(self) -> dict[str, str]:
        """Return the runtime, the device and the versions."""
        return {**super().environment(), "device": self._device}


def freeze_tensorflow(model: Any, shape: tuple[int | None, ...]) -> Any:
    """Return a TensorFlow function of uint8 images with the weights as constants.

    A third faster than the same graph with variables.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def forward(pixels: Any) -> Any:
        return model(tf.cast(pixels, tf.float32), training=False)

    return convert_variables_to_constants_v2(forward.get_concrete_function())


def _compile_tensorflow(model: Any, shape: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    # TensorFloat-32 keeps 10 bits of a float32's 23: embeddings of one key would then differ
    # between a GPU and a CPU in the third digit. Who wants that speed passes precision="bfloat16".
    tf.config.experimental.enable_tensor_float_32_execution(False)
    frozen = freeze_tensorflow(model, shape)
    return lambda pixels: frozen(tf.constant(pixels))[0].numpy()


def _compile_jax(model: Any, shape: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    import jax

    trainable = [v.value for v in model.trainable_variables]
    frozen = [v.value for v in model.non_trainable_variables]

    # The weights are arguments: as constants they would be folded for minutes in large networks.
    @jax.jit
    def forward(trainable: Any, frozen: Any, pixels: Any) -> Any:
        features, _ = model.stateless_call(
            trainable, frozen, pixels.astype("float32"), training=False
        )
        return features

    def run(pixels: np.ndarray) -> np.ndarray:
        # Against TensorFloat-32, as for TensorFlow above; bfloat16 kernels do not change by it.
        with jax.default_matmul_precision("highest"):
            return np.asarray(forward(trainable, frozen, pixels))

    return run


def _compile_torch(model: Any, shape: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    import torch
    from keras.src.backend.torch.core import get_device

    device = torch.device(get_device())
    on_gpu = device.type == "cuda"

    def run(pixels: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(pixels)
        # From pinned memory the copy needs no processor and does not wait for the kernels.
        batch = batch.pin_memory().to(device, non_blocking=True) if on_gpu else batch.to(device)
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            return model(batch.float(), training=False).float().cpu().numpy()

    if on_gpu:  # for the few matrix products, as for the convolutions above
        torch.backends.cuda.matmul.allow_tf32 = False
    return run


_COMPILERS: dict[str, Callable[[Any, tuple[int, ...]], Callable[[np.ndarray], Any]]] = {
    "tensorflow": _compile_tensorflow,
    "jax": _compile_jax,
    "torch": _compile_torch,
}


def _tensorflow_device() -> tuple[str, str]:
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return "cpu", "cpu"
    return "gpu", str(tf.config.experimental.get_device_details(devices[0]).get("device_name"))


def _jax_device() -> tuple[str, str]:
    import jax

    kind = jax.default_backend()
    return kind, kind if kind == "cpu" else str(jax.devices()[0].device_kind)


def _torch_device() -> tuple[str, str]:
    import torch

    if torch.cuda.is_available():
        return "gpu", str(torch.cuda.get_device_name())
    return "cpu", "cpu"


_DEVICES: dict[str, Callable[[], tuple[str, str]]] = {
    "tensorflow": _tensorflow_device,
    "jax": _jax_device,
    "torch": _torch_device,
}


def _is_out_of_memory(error: Exception) -> bool:
    """Recognise the three backends' errors for it; each has a class and a text of its own."""
    name = type(error).__name__
    return (
        isinstance(error, MemoryError)
        or name in ("ResourceExhaustedError", "OutOfMemoryError")
        or (name in ("XlaRuntimeError", "JaxRuntimeError") and "RESOURCE_EXHAUSTED" in str(error))
    )
