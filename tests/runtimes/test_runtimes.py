"""Runtimes: every one gives Keras's own rows, and says which one ran."""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.backbones.backbone import CALIBRATION, Backbone
from featx.errors import RuntimeUnavailableError
from featx.images import decoding
from featx.runtimes import (
    RUNTIMES,
    Runtime,
    check_batch_size,
    choice,
    explain,
    forget,
    openvino_runtime,
    quantization,
    start,
    versions,
)
from featx.runtimes.openvino_runtime import OpenVINORuntime

ROOT = Path(__file__).resolve().parents[2]
TINY = Backbone("mobilenet_v2", weights=None, image_size=32)
# Of the first four drawn images of 64 pixels.
MEANS, DEVIATIONS = (156.3, 107.1, 104.7, 143.7), (70.4, 56.1, 83.6, 64.7)
NAMES = [name for name in RUNTIMES if name != "auto"]


@pytest.fixture(params=NAMES)
def runtime_name(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return str(request.param)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def photos(folder: Path, side: int, count: int) -> np.ndarray:
    paths = sorted(folder.rglob("*.jpg"))
    return np.stack([decoding.load(path, side) for path in paths[:: len(paths) // count][:count]])


def apart(rows: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest relative distance of a row from the expected one."""
    distance = np.linalg.norm(rows - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return float(distance.max())


def by_keras(backbone: Backbone, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(backbone.build().predict(pixels.astype(np.float32), verbose=0))


def test_rows_are_those_of_plain_keras(runtime_name: str, pixels: np.ndarray) -> None:
    runtime = start(TINY, 4, runtime_name)
    rows = runtime.run(pixels)
    assert rows.dtype == np.float32
    assert rows.shape == (4, 1280)
    assert apart(rows, by_keras(TINY, pixels)) < 1e-4


@pytest.mark.weights
@pytest.mark.parametrize("data", ["flowers/test", "steel", "magnetic_tile"])
def test_rows_of_photos_are_those_of_plain_keras(
    runtime_name: str, data: str, datasets: Path
) -> None:
    trained = Backbone("mobilenet_v2")
    images = photos(datasets / data, trained.side, 8)
    rows = start(trained, 8, runtime_name).run(images)
    assert apart(rows, by_keras(trained, images)) < 1e-4


@pytest.mark.parametrize(
    "backbone",
    [
        Backbone("resnet50", weights=None, image_size=32),
        Backbone("efficientnet_b0", weights=None, image_size=32, pooling="max"),
        Backbone("mobilenet_v2", weights=None, image_size=32, layer="block_3_expand_relu"),
        Backbone("convnext_tiny", weights=None, image_size=32, pooling=None),
    ],
    ids=lambda b: b.name,
)
def test_openvino_computes_other_networks_and_layers(
    backbone: Backbone, pixels: np.ndarray
) -> None:
    pytest.importorskip("openvino")
    rows = start(backbone, 4, "openvino").run(pixels)
    assert apart(rows, by_keras(backbone, pixels)) < 1e-4


@pytest.mark.weights
def test_bfloat16_is_near_float32_and_not_equal_to_it(runtime_name: str, datasets: Path) -> None:
    backbone = Backbone("mobilenet_v2", precision="bfloat16")
    if runtime_name == "openvino" and openvino_runtime.refusal(backbone):
        pytest.skip(str(openvino_runtime.refusal(backbone)))
    images = photos(datasets / "flowers/test", backbone.side, 8)
    rows = start(backbone, 8, runtime_name).run(images)
    distance = apart(rows, by_keras(Backbone("mobilenet_v2"), images))
    assert 1e-4 < distance < 0.25


def processor_flags() -> str:
    """Return what Linux says of the processor; "" elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def int8(backbone: Backbone, count: int) -> OpenVINORuntime:
    """Return the runtime, where it can be had."""
    pytest.importorskip("openvino")
    if find_spec("nncf") is None:
        pytest.skip("nncf is not installed")
    if not re.search(r"\b(avx512_vnni|avx_vnni|amx_int8|asimddp)\b", processor_flags()):
        pytest.skip("this processor adds 8-bit products in 16 bits, which saturate")
    if openvino_runtime.refusal(backbone):
        pytest.skip(str(openvino_runtime.refusal(backbone)))
    return OpenVINORuntime(backbone, count)


@pytest.mark.weights
def test_int8_is_as_near_to_float32_as_bfloat16(
    datasets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = Backbone("mobilenet_v2", precision="int8")
    images = photos(datasets / "flowers/test", backbone.side, 8)
    first = int8(backbone, 8)
    first.keep()
    assert capsys.readouterr().out == "", "the library prints nothing"
    rows = first.run(images)
    distance = apart(rows, by_keras(Backbone("mobilenet_v2"), images))
    assert 1e-3 < distance < 0.25
    assert first.environment()["nncf"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "nncf", None)
        again = OpenVINORuntime(backbone, 8)  # kept: nothing is measured a second time
    assert np.array_equal(again.run(images), rows)
    assert again.environment() == first.environment()


def test_int8_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = replace(TINY, precision="int8")
    with pytest.raises(RuntimeUnavailableError, match=r"featx\[int8\]"):
        start(backbone, 4, "keras")
    # Untrained, and 32 pixels small: what it computes does not survive the rounding.
    with pytest.raises(RuntimeUnavailableError, match="does not tolerate 8-bit integers"):
        int8(backbone, 4)
    with pytest.raises(RuntimeUnavailableError, match="does not tolerate 8-bit integers"):
        start(backbone, 4)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(RuntimeUnavailableError, match=r"featx\[int8\]"):
        OpenVINORuntime(backbone, 4)


def test_int8_has_keys_of_its_own() -> None:
    spec = replace(TINY, precision="int8").spec()
    assert (spec.pop("precision"), spec.pop("calibration")) == ("int8", CALIBRATION)
    plain = TINY.spec()
    del plain["precision"]
    assert spec == plain


def test_the_images_that_int8_is_measured_on_are_always_the_same() -> None:
    drawn = quantization.drawn(4, 64)
    assert drawn.shape == (4, 64, 64, 3)
    assert np.array_equal(drawn, quantization.drawn(4, 64))
    # Other images give other rows: then CALIBRATION, which is in the key, must change.
    np.testing.assert_allclose(drawn.mean(axis=(1, 2, 3)), MEANS, atol=0.5)
    np.testing.assert_allclose(drawn.std(axis=(1, 2, 3)), DEVIATIONS, atol=0.5)


def test_a_batch_gives_the_same_bytes_in_every_stream(
    runtime_name: str, pixels: np.ndarray
) -> None:
    runtime = start(TINY, 4, runtime_name)
    with ThreadPoolExecutor(runtime.streams) as pool:
        answers = {rows.tobytes() for rows in pool.map(runtime.run, [pixels] * 12)}
    assert len(answers) == 1


def test_the_environment_names_what_ran(runtime_name: str) -> None:
    environment = start(TINY, 4, runtime_name).environment()
    json.dumps(environment, allow_nan=False)
    assert environment["device"] == "cpu"
    assert environment["runtime"].startswith(runtime_name)
    assert set(versions()) <= set(environment)


def test_the_next_call_gets_the_runtime_of_the_last() -> None:
    first = start(TINY, 4, "keras")
    assert start(replace(TINY, decode="scaled"), 4, "keras") is first, "pixels are not its matter"
    other = start(TINY, 2, "keras")
    assert (other is first, other.batch_size) == (False, 2)
    assert start(TINY, 4, "keras") is first, "threads in turn share what is in use"
    # Two are kept that nobody uses, for two models that are asked in turn: networks are large.
    kept = [weakref.ref(other), weakref.ref(first)]
    del other, first
    gc.collect()
    assert None not in [one() for one in kept]
    start(TINY, 1, "keras")
    gc.collect()
    assert [one() is None for one in kept] == [True, False]
    forget()
    gc.collect()
    assert kept[1]() is None


def test_a_wrong_conversion_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from openvino import opset13

    read = openvino_runtime._read

    def wrong(*arguments: Any) -> Any:
        network = read(*arguments)
        (result,) = network.get_results()
        larger = opset13.multiply(result.input_value(0), np.float32(1.001))
        result.input(0).replace_source_output(larger.output(0))
        return network

    monkeypatch.setattr(openvino_runtime, "_read", wrong)
    forget()
    gc.collect()
    said = r"embeddings of mobilenet_v2 are not those of Keras.*'keras'"
    with pytest.raises(RuntimeUnavailableError, match=said):
        start(TINY, 4, "openvino")
    assert start(TINY, 4, "auto").name == "keras-tensorflow"


def test_telemetry_that_was_imported_before_is_not_found() -> None:
    name = "openvino_telemetry"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, sys)
        with openvino_runtime._without_telemetry(), pytest.raises(ImportError):
            __import__(name)
        assert sys.modules[name] is sys
        patch.delitem(sys.modules, name)
        with openvino_runtime._without_telemetry():
            assert sys.modules[name] is None
        assert name not in sys.modules


def test_openvino_reports_its_use_to_nobody() -> None:
    pytest.importorskip("openvino")
    script = (
        "import socket, sys, time, numpy as np\n"
        "asked = []\n"
        "def refuse(*args, **_):\n"
        "    asked.append(args)\n"
        "    raise OSError('no network')\n"
        "socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse\n"
        "from featx import Backbone\n"
        "from featx.runtimes import start\n"
        "tiny = Backbone('mobilenet_v2', weights=None, image_size=32)\n"
        "start(tiny, 2, 'openvino').run(np.zeros((2, 32, 32, 3), np.uint8))\n"
        "from dataclasses import replace\n"
        "from importlib.util import find_spec\n"
        "from featx.errors import RuntimeUnavailableError\n"
        "if find_spec('nncf'):\n"
        "    try:\n"
        "        start(replace(tiny, precision='int8'), 2, 'openvino')\n"
        "    except RuntimeUnavailableError:\n"
        "        assert 'nncf' in sys.modules\n"
        "import openvino\n"
        "assert not [name for name in sys.modules if 'openvino_telemetry' in name]\n"
        "time.sleep(1)\n"  # its sender would work in a thread
        "assert not asked, asked\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Stand on the machine that the rule is made for, so that each test changes one thing."""
    monkeypatch.setattr(choice, "find_spec", lambda name: object())
    monkeypatch.setattr(choice, "keras_backend", lambda: "tensorflow")
    monkeypatch.setattr(choice, "has_gpu", lambda: False)
    monkeypatch.setattr(choice.platform, "machine", lambda: "x86_64")
    return monkeypatch


def test_int8_is_openvinos_whatever_else_is_there(here: pytest.MonkeyPatch) -> None:
    here.setattr(choice, "keras_backend", lambda: "jax")
    assert explain(replace(TINY, precision="int8"))[0] == "openvino"


def test_auto_means_openvino_on_a_processor(here: pytest.MonkeyPatch) -> None:
    assert explain(TINY)[0] == "openvino"


@pytest.mark.parametrize(
    ("what", "answer", "reason"),
    [
        ("find_spec", lambda name: None, "not installed"),
        ("keras_backend", lambda: "jax", "jax, by the user's choice"),
        ("has_gpu", lambda: True, "a GPU"),
    ],
)
def test_auto_means_keras_elsewhere(
    here: pytest.MonkeyPatch, what: str, answer: Any, reason: str
) -> None:
    here.setattr(choice, what, answer)
    name, why = explain(TINY)
    assert name == "keras"
    assert reason in why


def test_auto_means_keras_for_a_precision_openvino_lacks(here: pytest.MonkeyPatch) -> None:
    name, why = explain(Backbone("mobilenet_v2", weights=None, precision="float16"))
    assert (name, "float16" in why) == ("keras", True)


def test_the_backend_is_known_without_keras(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert choice.keras_backend() == "tensorflow"
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert choice.keras_backend() == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert choice.keras_backend() == "jax"


def test_an_unknown_runtime_is_named() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"runtime='tpu': expected one of \('auto'"):
        start(TINY, 4, "tpu")


def test_openvino_absent_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'featx\[openvino\]'"):
        start(TINY, 4, "openvino")


def test_openvino_refuses_a_precision_it_lacks() -> None:
    pytest.importorskip("openvino")
    half = Backbone("mobilenet_v2", weights=None, image_size=32, precision="float16")
    with pytest.raises(RuntimeUnavailableError, match=r"'float16' is not one of.*runtime='keras'"):
        start(half, 4, "openvino")


@pytest.mark.parametrize("size", [0, -1, 1.5, 1 << 15, "8"])
def test_batch_sizes_out_of_range_are_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="1 to 16,384"):
        check_batch_size(size)


def test_a_runtime_of_ones_own_needs_two_facts_and_a_method() -> None:
    class Mean(Runtime):
        name = "mean"
        batch_size = 2

        def run(self, pixels: np.ndarray) -> np.ndarray:
            return pixels.mean(axis=(1, 2), dtype=np.float32)

    assert Mean().environment()["runtime"] == "mean"
    assert Mean().streams == 1


_ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
from featx.backbones import Backbone
from featx.runtimes import start
folder, backend, weights, side, precision = sys.argv[1:]
weights = None if weights == "none" else weights
backbone = Backbone("mobilenet_v2", weights=weights, image_size=int(side), precision=precision)
pixels = np.load(Path(folder, "pixels.npy"))
runtime = start(backbone, len(pixels))
assert runtime.name == "keras-" + backend, runtime.name
np.save(Path(folder, "rows.npy"), runtime.run(pixels))
assert "tensorflow" not in sys.modules
"""


def on_backend(backend: str, backbone: Backbone, pixels: np.ndarray, folder: Path) -> np.ndarray:
    """Return the rows that Keras's other backend computes, in a process of its own."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    np.save(folder / "pixels.npy", pixels)
    about = [backbone.weights or "none", str(backbone.side), backbone.precision]
    subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(folder), backend, *about],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
    )
    return np.asarray(np.load(folder / "rows.npy"))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_the_same_rows(
    backend: str, tmp_path: Path, pixels: np.ndarray
) -> None:
    rows = on_backend(backend, TINY, pixels, tmp_path)
    assert apart(rows, by_keras(TINY, pixels)) < 1e-4


@pytest.mark.weights
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_the_same_rows_of_photos(
    backend: str, tmp_path: Path, datasets: Path
) -> None:
    trained = Backbone("mobilenet_v2")
    images = np.concatenate(
        [photos(datasets / data, 224, 4) for data in ("flowers/test", "steel", "magnetic_tile")]
    )
    expected = by_keras(trained, images)
    assert apart(on_backend(backend, trained, images, tmp_path), expected) < 1e-4
    half = replace(trained, precision="bfloat16")
    assert 1e-4 < apart(on_backend(backend, half, images, tmp_path), expected) < 0.3


def test_openvino_without_room_for_its_temporary_file_says_so_and_auto_goes_on(
    here: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")

    def full(self: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    forget()
    gc.collect()
    here.setattr(Path, "write_bytes", full)
    with pytest.raises(RuntimeUnavailableError, match="No space left on device.*TMPDIR.*'keras'"):
        start(TINY, 4, "openvino")
    assert start(TINY, 4, "auto").name.startswith("keras")


def test_a_keras_backend_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "keras_backend", lambda: "torch")
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"run on torch .*pip install torch"):
        choice.start(TINY)
