from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from featx import backend

ROOT = Path(__file__).resolve().parents[1]

# Stands for TensorFlow: it writes to file descriptor 2, past Python's sys.stderr.
NOISY = "import os\nos.write(2, b'I0000 00:00:1795957701.16 7 port.cc:1] noise\\n')\n"


def start(folder: Path, package: str, script: str, **environment: str) -> tuple[str, str, int]:
    """Run a script where `import tensorflow` finds a package of this source."""
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(package, encoding="utf-8")
    (folder / "tensorflow" / "part.py").write_text("", encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    answer = subprocess.run(
        [sys.executable, "-c", f"from featx.backend import hush_tensorflow\n{script}"],
        env={**clean, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), **environment},
        capture_output=True,
        text=True,
    )
    return answer.stdout, answer.stderr, answer.returncode


def test_import_is_silent_and_standard_error_comes_back(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "hush_tensorflow()\n"
        "import tensorflow, tensorflow.part\n"
        "print(os.environ['TF_CPP_MIN_LOG_LEVEL'], type(tensorflow.__loader__).__name__)\n"
        "os.write(2, b'after\\n')\n"
    )
    out, err, code = start(tmp_path, NOISY, script)
    assert (out.split(), err, code) == (["3", "SourceFileLoader"], "after\n", 0)


def test_without_it_the_noise_is_heard(tmp_path: Path) -> None:
    assert (
        start(tmp_path, NOISY, "import tensorflow")[1]
        == "I0000 00:00:1795957701.16 7 port.cc:1] noise\n"
    )


@pytest.mark.parametrize(("level", "heard"), [("0", True), ("1", False), ("2", False)])
def test_the_user_decides_the_level(tmp_path: Path, level: str, heard: bool) -> None:
    script = "import os; hush_tensorflow(); import tensorflow\nprint(os.environ['%s'])"
    name = "TF_CPP_MIN_LOG_LEVEL"
    out, err, code = start(tmp_path, NOISY, script % name, **{name: level})
    assert (out.strip(), "noise" in err, code) == (level, heard, 0)


def test_what_was_held_back_is_shown_when_the_import_fails(tmp_path: Path) -> None:
    broken = NOISY + "raise ImportError('no such library')"
    _, err, code = start(tmp_path, broken, "hush_tensorflow(); import tensorflow")
    assert code == 1
    assert "port.cc:1] noise" in err
    assert "no such library" in err


def test_nothing_is_imported_by_it(tmp_path: Path) -> None:
    script = "import sys; hush_tensorflow(); print('tensorflow' in sys.modules)"
    assert start(tmp_path, NOISY, script)[0].strip() == "False"


def test_what_others_write_meanwhile_is_not_lost(tmp_path: Path) -> None:
    mixed = NOISY + (
        "os.write(2, b'WARNING: All log messages before absl::InitializeLog() is called are\\n')\n"
        "os.write(2, b'a warning of another thread\\n')\n"
        "os.write(2, b'2026-11-29 12:00:00.123: I tensorflow/core/util/port.cc:153] oneDNN\\n')\n"
    )
    _, err, _ = start(tmp_path, mixed, "hush_tensorflow(); import tensorflow")
    assert err == "a warning of another thread\n"


def with_featx(script: str, **environment: str) -> tuple[str, str]:
    """Return what a script writes to standard output and to standard error."""
    clean = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    answer = subprocess.run(
        [sys.executable, "-c", "import featx, numpy as np\n" + script],
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return answer.stdout.strip(), answer.stderr


def test_keras_starts_quietly_from_python() -> None:
    script = (
        "print(featx.Backbone('mobilenet_v2', weights=None, image_size=32)"
        ".build()(np.zeros((1, 32, 32, 3), 'float32')).shape[-1])"
    )
    assert with_featx(script) == ("1280", "")


def test_keras_starts_quietly_where_weights_cannot_be_fetched(tmp_path: Path) -> None:
    script = (
        "try: featx.extract(np.zeros((2, 32, 32, 3), 'uint8'), 'resnet50', cache='c')\n"
        "except featx.errors.WeightsUnavailableError as error: print(error)"
    )
    nobody = "http://127.0.0.1:9"
    out, err = with_featx(
        script.replace("'c'", repr(str(tmp_path / "cache"))),
        KERAS_HOME=str(tmp_path),
        FEATX_NETWORKS="none",
        HTTPS_PROXY=nobody,
        https_proxy=nobody,
    )
    assert "the ImageNet weights of resnet50 are not on disk" in out
    assert [line for line in err.splitlines() if not line.startswith("Downloading data")] == []


def test_devices_are_listed_on_every_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras's own list fails on PyTorch, at the end of a benchmark."""
    assert backend.devices()
    keras = backend.load_keras()

    def unlisted() -> None:
        raise AttributeError("'NoneType' object has no attribute 'list_devices'")

    monkeypatch.setattr(keras.distribution, "list_devices", unlisted)
    for count, expected in ((0, ["cpu:0"]), (2, ["gpu:0", "gpu:1"])):
        cuda = SimpleNamespace(device_count=lambda count=count: count)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        assert backend.devices() == expected
