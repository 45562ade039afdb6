"""The backbone in OpenVINO: the fast path on x86 processors."""

from __future__ import annotations

import logging
import os
import queue
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx import forking
from featx.backbones.backbone import Backbone
from featx.backend import load_keras
from featx.errors import CacheCorruptError, RuntimeUnavailableError
from featx.runtimes import networks
from featx.runtimes.quantization import quantized
from featx.runtimes.runtime import Runtime, out_of_memory
from featx.storage.checksummed import pack, unpack
from featx.versions import installed

logger = logging.getLogger(__name__)

BATCH = 16

# How far OpenVINO's float32 may be from Keras's own, relative; 1e-6 measured on photos.
TOLERANCE = 1e-4
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
_CAPABILITIES = {"bfloat16": "BF16", "int8": "INT8"}


class OpenVINORuntime(Runtime):
    """The backbone in OpenVINO on this machine's CPU.

    Keras builds the network once; its converted form is kept on this machine (``networks``), so
    that the next start needs neither Keras nor TensorFlow. In a process made by fork the converted
    network is compiled anew: what the parent compiled has its threads, and stays untouched.

    Parameters
    ----------
    backbone : Backbone
        Its precision is "float32" or, where the processor computes in it, "bfloat16" or "int8".
    batch_size : int, optional
        16 unless given.

    Raises
    ------
    RuntimeUnavailableError
        OpenVINO is missing, or cannot run this backbone as asked.
    """

    name = "openvino"

    def __init__(self, backbone: Backbone, batch_size: int | None = None) -> None:
        # Of its own: its end ends the threads of what was compiled for checks. A process made by
        # fork would otherwise inherit them idle, without their threads, and crash at its own end.
        core = load().Core()
        reason = refusal(backbone)
        if reason is not None:
            raise RuntimeUnavailableError(f"runtime='openvino': {reason}. Use runtime='keras'.")
        self.batch_size = batch_size or BATCH
        self._precision = backbone.precision
        self._network = _network(backbone, core)
        self._model, self._quantizer = self._network.model, self._network.quantizer
        self._model.reshape([self.batch_size, backbone.side, backbone.side, 3])
        self._compiling = forking.lock()
        del core
        self._compiled = _Compiled(self._model, self._precision)
        self.streams = self._compiled.streams

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the (batch_size, dim) embeddings of a (batch_size, side, side, 3) batch."""
        requests = self._here().requests
        request = requests.get()
        try:
            features: np.ndarray = request.infer([pixels], share_inputs=True)[0]
            return features
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "alloc" in str(error):
                raise out_of_memory(self.batch_size, error) from error
            raise
        finally:
            requests.put(request)

    def keep(self) -> None:
        """Keep the converted network on this machine, unless it is kept or cannot be."""
        networks.keep(networks.name_of(self._network.about), self._packed)

    @property
    def bytes_to_keep(self) -> int:
        """What ``keep`` would write: 0 for a network that is kept, or where none are."""
        kept = networks.is_kept(networks.name_of(self._network.about))
        return 0 if kept or networks.folder() is None else len(self._packed())

    def _packed(self) -> bytes:
        made = {"made": self._network.about, "nncf": self._quantizer}
        return pack(_serialized(self._model), made)

    def _here(self) -> _Compiled:
        """Return what this process compiled, which it does now where its parent did it."""
        if self._compiled.process != os.getpid():
            with self._compiling:
                if self._compiled.process != os.getpid():
                    self._compiled = _Compiled(self._model, self._precision)
        return self._compiled

    def environment(self) -> dict[str, str]:
        """Return the runtime, the device and the versions."""
        made_by = {} if self._quantizer is None else {"nncf": self._quantizer}
        return {**super().environment(), "device": "cpu", **made_by}


class _Compiled:
    """A network compiled by one process, and its requests, each for one batch at a time."""

    def __init__(self, model: Any, precision: str) -> None:
        compiled = (
            load()
            .Core()
            .compile_model(
                model,
                "CPU",
                {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "THROUGHPUT"},
            )
        )
        self.process = os.getpid()
        self.streams = max(2, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
        self.requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.streams):
            self.requests.put(compiled.create_infer_request())
        forking.leave_alone(self)


def load() -> Any:
    """Return the package openvino, imported so that it reports its use to nobody.

    Its import sends an event to its maker through the package openvino_telemetry, if that is
    there, and does without where it is not.

    Raises
    ------
    RuntimeUnavailableError
        It is not installed, or does not start here.
    """
    try:
        with _IMPORTING, _without_telemetry():
            import openvino
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"runtime='openvino' needs the package openvino ({error}): "
            "pip install 'featx[openvino]'."
        ) from error
    return openvino


# The table of modules is changed meanwhile, and put back: by one thread at a time.
_IMPORTING = forking.lock()


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let what is imported meanwhile find no openvino_telemetry, also where it was imported."""
    before = {name: sys.modules[name] for name in ("openvino_telemetry",) if name in sys.modules}
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["openvino_telemetry"]
        sys.modules.update(before)


def refusal(backbone: Backbone) -> str | None:
    """Return why OpenVINO cannot compute this backbone here, or None if it can."""
    if backbone.precision not in _HINTS:
        return f"precision {backbone.precision!r} is not one of {tuple(_HINTS)}"
    capability = _CAPABILITIES.get(backbone.precision)
    if capability is not None:
        able = load().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if capability not in able:
            return f"this processor does not compute in {backbone.precision}"
    return None


@dataclass(frozen=True, eq=False)
class _Network:
    """A converted network.

    Attributes
    ----------
    model : openvino.Model
    about : dict
        What it is found by.
    quantizer : str or None
        The version of what quantised it.
    content : object
        What must live as long; None where it was converted now, and not read.
    """

    model: Any
    about: dict[str, Any]
    quantizer: str | None = None
    content: Any = None


def _network(backbone: Backbone, core: Any) -> _Network:
    """Return the backbone's network: the one that is kept, or converted now."""
    network = networks.network_of(backbone)
    if backbone.precision != "int8":
        network["precision"] = "float32"  # OpenVINO itself lowers it while it compiles
    about = networks.about(network)
    found = _kept(about, core)
    if found is not None:
        return found
    model = _converted(backbone, core)
    quantizer = None
    if backbone.precision == "int8":
        with _IMPORTING, _without_telemetry():
            model = quantized(model, core, backbone.side, backbone.name)
        quantizer = installed(["nncf"])["nncf"]
    return _Network(model, about, quantizer)


def _kept(about: dict[str, Any], core: Any) -> _Network | None:
    """Return the network that is kept under its name, or None if there is no whole one."""
    name = networks.name_of(about)
    content = networks.read(name)
    if content is None:
        return None
    try:
        arrays, stored = unpack(content, name)
        if stored["made"] == about:
            # Shared, not copied: the arrays stay alive by whoever holds them.
            weights = load().Tensor(arrays["weights"])
            model = core.read_model(arrays["graph"].tobytes(), weights)
            return _Network(model, about, stored["nncf"], (arrays, weights))
    except (CacheCorruptError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        logger.debug("the kept network %s is converted anew: %s", name, error)
    networks.discard(name)
    return None


def _converted(backbone: Backbone, core: Any) -> Any:
    """Build the network in Keras, freeze it, and have OpenVINO read the frozen graph."""
    from featx.runtimes.keras_runtime import freeze_tensorflow

    keras = load_keras()
    if keras.backend.backend() != "tensorflow":
        raise RuntimeUnavailableError(
            f"runtime='openvino' reads the network from TensorFlow, and Keras runs on "
            f"{keras.backend.backend()}. Set KERAS_BACKEND=tensorflow, or use runtime='keras'."
        )
    # Float32 in the graph whatever the precision: OpenVINO itself lowers it while it compiles.
    model = replace(backbone, precision="float32").build()
    shape = (None, backbone.side, backbone.side, 3)
    frozen = freeze_tensorflow(model, shape)
    converted = _read(backbone, core, frozen.graph.as_graph_def().SerializeToString())
    _check(backbone, core, converted, frozen)
    return converted


def _read(backbone: Backbone, core: Any, graph: bytes) -> Any:
    """Return TensorFlow's graph as OpenVINO reads it, which is from a file."""
    try:
        with tempfile.TemporaryDirectory(prefix="featx-") as folder:
            path = Path(folder, "network.pb")
            path.write_bytes(graph)
            return core.read_model(path)
    except RuntimeError as error:
        raise RuntimeUnavailableError(
            f"OpenVINO cannot read {backbone.name}: {error}. Use runtime='keras'."
        ) from error
    except OSError as error:
        raise RuntimeUnavailableError(
            f"OpenVINO reads {backbone.name} from a temporary file of {len(graph):,} bytes, which "
            f"cannot be written in {tempfile.tempdir or 'any folder'}: {error.strerror or error}. "
            "Free some space, set TMPDIR to another folder, or use runtime='keras'."
        ) from error


def _check(backbone: Backbone, core: Any, converted: Any, frozen: Any) -> None:
    """Refuse a conversion whose embeddings are not those of Keras, on two drawn images."""
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, (2, backbone.side, backbone.side, 3))
    pixels = pixels.astype(np.uint8)
    expected = frozen(tf.constant(pixels))[0].numpy()
    compiled = core.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    difference = np.linalg.norm(compiled(pixels)[0] - expected)
    if not difference <= TOLERANCE * np.linalg.norm(expected):
        raise RuntimeUnavailableError(
            f"OpenVINO's embeddings of {backbone.name} are not those of Keras: they differ "
            f"by {difference / np.linalg.norm(expected):.1e}, expected {TOLERANCE:.0e} at most. "
            "Use runtime='keras'."
        )


def _serialized(model: Any) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory(prefix="featx-") as folder:
        graph, weights = Path(folder, "network.xml"), Path(folder, "network.bin")
        load().save_model(model, graph, compress_to_fp16=False)
        return {
            "graph": np.frombuffer(graph.read_bytes(), np.uint8),
            "weights": np.frombuffer(weights.read_bytes(), np.uint8),
        }
