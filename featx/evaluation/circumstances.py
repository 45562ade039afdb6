"""When, where and with what a comparison ran: the versions, the machine, the command."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from featx.backbones import Backbone

LIBRARIES = (
    "featx",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "openvino",
    "scikit-learn",
    "xgboost",
    "numpy",
    "scipy",
    "h5py",
    "Pillow",
)


def now() -> str:
    """Return the time as ISO 8601 with its offset, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return name -> version of Python and of each library that is installed.

    Read from the packages' metadata: asking does not import (or start) any of them.
    """
    found = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "featx" not in found:
        # A checkout that is used in place has no metadata of its own.
        found["featx"] = str(sys.modules["featx"].__version__)
    keras = sys.modules.get("keras")
    if keras is not None:
        found["Keras backend"] = str(keras.backend.backend())
    return found


def one_line(found: dict[str, str]) -> str:
    """Return the versions that shape the numbers of a row, in one line."""
    names = ("featx", "keras", "tensorflow", "scikit-learn", "xgboost", "Python")
    return ", ".join(f"{name} {found[name]}" for name in names if name in found)


def hardware() -> dict[str, str]:
    """Return what is known of the machine without asking for its name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "Processor": _processor(),
        "Cores usable": str(cores),
        "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
    }
    memory = _memory()
    if memory:
        found["Memory"] = memory
    found["Accelerator"] = _accelerators()
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return ""
    return f"{size / 2**30:.0f} GiB"


def _accelerators() -> str:
    keras = sys.modules.get("keras")
    if keras is None:
        return "not asked: no network was started in this run"
    devices = [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]
    return ", ".join(devices) or "none"


def command(train: Any, test: Any, backbones: Sequence[Backbone], options: dict[str, Any]) -> str:
    """Return what to type to run the comparison again.

    The command line where every argument has a form there, else the Python call.

    Parameters
    ----------
    options : dict
        `heads` (list of str, empty for all, or None where they are objects), `baseline` (bool, or
        another object), `epochs`, `seeds` (int or list), and where they are not the default, else
        None or absent: `folds`, `leaks` and `evidence` (False), `cache` (str), `batch_size`,
        `runtime` and `on_error`.
    """
    paths = all(isinstance(path, (str, Path)) for path in (train, test) if path is not None)
    shared = {(one.weights, one.image_size) for one in backbones}
    plain = len(shared) == 1 and all(
        one == Backbone(one.name, weights=one.weights, image_size=one.image_size)
        for one in backbones
    )
    simple = isinstance(options["baseline"], bool) and isinstance(options["seeds"], int)
    if paths and plain and simple and options["heads"] is not None:
        return _shell(train, test, backbones, options)
    shown = "".join(f", {key}={value!r}" for key, value in options.items() if value is not None)
    sets = ", ".join(
        repr(str(part)) if isinstance(part, (str, Path)) else kind
        for part, kind in ((train, "train"), (test, "test"))
        if part is not None
    )
    return f"featx.benchmark({sets}, backbones={list(backbones)!r}{shown})"


def _shell(train: Any, test: Any, backbones: Sequence[Backbone], options: dict[str, Any]) -> str:
    words = ["featx", "benchmark", str(train)]
    if test is not None:
        words += ["--test", str(test)]
    for backbone in backbones:
        words += ["-b", backbone.name]
    weights, size = backbones[0].weights, backbones[0].image_size
    if weights != "imagenet":
        words += ["--weights", "none" if weights is None else str(weights)]
    if size is not None:
        words += ["--image-size", str(size)]
    for name in options["heads"]:
        words += ["--head", name]
    words += ["--epochs", str(options["epochs"])] if options["baseline"] else ["--no-baseline"]
    words += [f"--no-{name}" for name in ("leaks", "evidence") if options.get(name) is False]
    words += ["--seeds", str(options["seeds"])]
    for name in ("folds", "cache", "batch_size", "runtime", "on_error"):
        if options.get(name) is not None:
            words += ["--" + name.replace("_", "-"), str(options[name])]
    words += ["--out", "report"]
    return shlex.join(words)
