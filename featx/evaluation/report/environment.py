"""When, where and with what a comparison ran: the versions and the machine."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path

from featx.backend import devices
from featx.versions import installed

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
    """Return name -> version of Python and of each library that is installed."""
    found = {"Python": platform.python_version(), **installed(LIBRARIES)}
    if "featx" not in found:
        # A checkout that is used in place has no metadata of its own.
        found["featx"] = str(sys.modules["featx"].__version__)
    keras = sys.modules.get("keras")
    if keras is not None:
        found["Keras backend"] = str(keras.backend.backend())
    return found


def one_line(found: dict[str, str]) -> str:
    """Return the versions that decide the last digits of an embedding, in one line."""
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
    if "keras" not in sys.modules:
        return "not asked: no network was started in this run"
    return ", ".join(name for name in devices() if not name.startswith("cpu")) or "none"
