"""Keras and its backend: started quietly, and refused where a fork would let them hang."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import ModuleType
from typing import Any

from featx import forking
from featx.errors import RuntimeUnavailableError

# What TensorFlow and the libraries that it loads write when they start: lines of absl's log, of
# the log before it, and what belongs to them.
_START_UP = re.compile(
    rb"^(?:"
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|[IWE]\d{4} \d\d:\d\d:\d\d"
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] "
    rb"|To enable the following instructions: "
    rb").*(?:\n|$)",
    re.MULTILINE,
)


def load_keras() -> Any:
    """Return the package keras, imported without TensorFlow's start-up lines.

    Raises
    ------
    RuntimeUnavailableError
        This process was made by fork after its parent had started Keras's backend.
    """
    check_backend()
    if "keras" not in sys.modules:
        hush_tensorflow()
    import keras

    return keras


def devices() -> list[str]:
    """Return the devices of Keras's backend, such as "gpu:0" or "cpu:0"; it is started for that."""
    keras = load_keras()
    try:
        return list(keras.distribution.list_devices())
    except AttributeError:  # Keras 3.15 has no such list on PyTorch
        import torch

        return [f"gpu:{number}" for number in range(torch.cuda.device_count())] or ["cpu:0"]


def check_backend() -> None:
    """Raise RuntimeUnavailableError where Keras cannot compute in this forked process."""
    reason = forking.refusal()
    if reason is not None:
        raise RuntimeUnavailableError(f"{reason}.")


def hush_tensorflow() -> None:
    """Silence TensorFlow's C++ log for this process, its first import included.

    TF_CPP_MIN_LOG_LEVEL=0 in the environment keeps the log, and any value that is there stays. No
    value reaches what TensorFlow 2.21 logs before its log is set up (tensorflow issue 100442), so
    standard error is held back while the package is imported. Where it is imported, nothing is
    changed.
    """
    if "tensorflow" in sys.modules:
        return
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if level != "0" and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextmanager
def tracing_unsaid() -> Iterator[None]:
    """Hold back TensorFlow's warning that a function was traced again and again.

    Keras traces a function for each model that predicts, once, as it must; from the fifth model on
    TensorFlow takes that for a mistake of the caller's. Errors are logged as ever, and
    TF_CPP_MIN_LOG_LEVEL=0 shows all.
    """
    logger = logging.getLogger("tensorflow")
    level = logger.level
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":
        logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)


class _Finder(importlib.abc.MetaPathFinder):
    """Hands the import of tensorflow to the usual finders, and the running of it to `_Loader`."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.loader
        with _start_up_left_out():
            self.loader.exec_module(module)


@contextmanager
def _start_up_left_out() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and write it afterwards without those lines.

    All of it if the body fails. Other threads may write there meanwhile: what they say must last.
    """
    with ExitStack() as stack:
        try:
            aside = stack.enter_context(tempfile.TemporaryFile())
            stderr = os.dup(2)
        except OSError:  # no standard error, or no room: then nothing is held back
            yield
            return
        _flush()
        os.dup2(aside.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            _flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            aside.seek(0)
            held = aside.read()
            _write(held if failed else _START_UP.sub(b"", held))


def _flush() -> None:
    with suppress(OSError, ValueError):  # closed, or its pipe is
        if sys.stderr is not None:
            sys.stderr.flush()


def _write(content: bytes) -> None:
    while content:
        content = content[os.write(2, content) :]
