"""Which runtime computes: the one asked for, or the one that is fastest here."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from weakref import WeakValueDictionary

from featx import forking
from featx.backbones.backbone import Backbone
from featx.backend import hush_tensorflow
from featx.errors import RuntimeUnavailableError
from featx.runtimes.runtime import Runtime

logger = logging.getLogger(__name__)

RUNTIMES = ("auto", "keras", "openvino")

# Those that featx does not bring itself.
_BACKENDS = ("jax", "torch")
_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def check_runtime(runtime: str | Runtime) -> None:
    """Raise RuntimeUnavailableError unless it is a Runtime or the name of one."""
    if not isinstance(runtime, Runtime) and runtime not in RUNTIMES:
        raise RuntimeUnavailableError(
            f"runtime={runtime!r}: expected one of {RUNTIMES}, or a featx.Runtime."
        )


# The runtimes of the last calls, the newest last: the usual next call asks the same network for the
# test images, and a program that asks two models in turn would start each of them anew.
_last: dict[tuple[object, ...], Runtime] = {}
_KEPT = 2  # networks are large
# Those that somebody still has: threads that ask several networks in turn share them.
_in_use: WeakValueDictionary[tuple[object, ...], Runtime] = WeakValueDictionary()
# One start at a time: imports, Keras's building and the conversion are not made for several.
_starting = forking.lock()


def start(
    backbone: Backbone,
    batch_size: int | None = None,
    runtime: str = "auto",
    keep: bool = True,
) -> Runtime:
    """Return a runtime for the backbone, ready to run; one of the last two again if it is the same.

    Parameters
    ----------
    backbone : Backbone
    batch_size : int, optional
        Images at a time; what suits the runtime and the device unless given.
    runtime : {"auto", "keras", "openvino"}, default="auto"
        "auto" follows the rule that ``explain`` states.
    keep : bool, default=True
        Whether a network that had to be converted is kept on this machine for the next start. One
        that is kept is read either way.

    Raises
    ------
    RuntimeUnavailableError
        The name is unknown, or what it needs is not installed.
    """
    # Here and below: a call whose images are all cached imports no runtime.
    from featx.runtimes.networks import network_of
    from featx.runtimes.openvino_runtime import OpenVINORuntime

    check_runtime(runtime)
    with _starting:
        # The weights' digest is in it: a file, or a model of the user's, may have changed.
        network = json.dumps(network_of(backbone), sort_keys=True)
        asked = network, batch_size, runtime, keras_backend()
        found = _in_use.get(asked)
        if found is None:
            _forget_but(_KEPT - 1)  # before another takes memory
            found = _started(backbone, batch_size, runtime)
        _last.pop(asked, None)
        _last[asked] = _in_use[asked] = found
        _forget_but(_KEPT)
        if keep and isinstance(found, OpenVINORuntime):
            found.keep()
        return found


def _forget_but(count: int) -> None:
    for oldest in list(_last)[:-count]:
        del _last[oldest]


def forget() -> None:
    """Release the runtimes that the next call would reuse, and their memory."""
    _last.clear()


def bytes_to_keep(runtime: Runtime) -> int:
    """Return what the runtime's converted network would take of the disk; 0 if it is kept."""
    from featx.runtimes.openvino_runtime import OpenVINORuntime

    return runtime.bytes_to_keep if isinstance(runtime, OpenVINORuntime) else 0


def _started(backbone: Backbone, batch_size: int | None, runtime: str) -> Runtime:
    from featx.runtimes.keras_runtime import KerasRuntime
    from featx.runtimes.openvino_runtime import OpenVINORuntime

    backend = keras_backend()
    if backend in _BACKENDS and find_spec(backend) is None:
        raise RuntimeUnavailableError(
            f"Keras is configured to run on {backend} (KERAS_BACKEND, or keras.json), and "
            "that is not "
            f"installed: pip install {backend}, or choose another backend."
        )
    if runtime == "openvino":
        return OpenVINORuntime(backbone, batch_size)
    if runtime == "auto":
        name, reason = explain(backbone)
        logger.debug("runtime %s: %s", name, reason)
        if name == "openvino":
            try:
                return OpenVINORuntime(backbone, batch_size)
            except RuntimeUnavailableError as error:
                if backbone.precision == "int8":
                    raise
                logger.info("falling back to the Keras runtime: %s", error)
    return KerasRuntime(backbone, batch_size)


def explain(backbone: Backbone) -> tuple[str, str]:
    """Return the runtime that "auto" means for a backbone here, and the reason in a sentence.

    OpenVINO computes on x86-64 processors, where it measured 1.3 to 4 times as fast as
    TensorFlow; Keras on its backend computes where OpenVINO is not installed, where there is a
    GPU, where another backend than TensorFlow was chosen, and in the precisions that OpenVINO
    lacks.

    Returns
    -------
    name : {"openvino", "keras"}
    reason : str
    """
    if backbone.precision == "int8":
        return "openvino", "nothing else computes in int8"
    backend = keras_backend()
    if backend != "tensorflow":
        return "keras", f"Keras runs on {backend}, by the user's choice"
    if find_spec("openvino") is None:
        return "keras", "openvino is not installed (pip install 'featx[openvino]' is faster)"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "keras", f"OpenVINO was not measured on {platform.machine()} processors"
    if has_gpu():
        return "keras", "there is a GPU"
    from featx.runtimes import openvino_runtime

    reason = openvino_runtime.refusal(backbone)
    if reason is not None:
        return "keras", f"for OpenVINO {reason}"
    return "openvino", "openvino is installed and this is an x86-64 processor without a GPU"


def keras_backend() -> str:
    """Return the backend that Keras uses or would use, without importing it."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    home = os.environ.get("KERAS_HOME") or Path("~", ".keras").expanduser()
    try:
        return str(json.loads(Path(home, "keras.json").read_bytes())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def has_gpu() -> bool:
    """Return whether TensorFlow would find a GPU; it is asked only where a driver is there."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if not any(map(os.path.exists, _GPUS)):
        return False
    hush_tensorflow()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
