"""Processes made by fork: they have their parent's memory, and none of its threads.

What waits for such a thread waits for ever: an inherited network that computes in threads of its
own, its destructor, which joins them, and a lock that another thread held at that moment.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

Result = TypeVar("Result")

_locks: WeakSet[threading.Lock] = WeakSet()
_left_alone: WeakSet[Any] = WeakSet()
# What computed in the parent of this process when it was forked, and cannot go on here.
_inherited: list[str] = []


def lock() -> threading.Lock:
    """Return a lock that is free in a process made by fork, whoever held it in the parent."""
    made = threading.Lock()
    _locks.add(made)
    return made


def leave_alone(thing: Any) -> None:
    """Let no process that inherits a thing destroy it, not at its exit either.

    Parameters
    ----------
    thing : object
        What has threads, or holds something that has; it takes weak references.
    """
    import ctypes  # noqa: F401  now, and not first between a fork and what follows it

    _left_alone.add(thing)


def computed(work: Callable[[], Result]) -> Result:
    """Return what `work` returns; in a process made by fork it is done by a thread of its own.

    GNU's OpenMP, in which XGBoost and scikit-learn compute, has its threads by the thread that
    asked for them: the one that forked would wait for those of the parent.
    """
    if not _forked:
        return work()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "featx-forked") as pool:
        return pool.submit(work).result()


def refusal() -> str | None:
    """Return why Keras cannot compute in this process, and what to do; None where it can."""
    if not _inherited:
        return None
    return (
        f"this process was made by fork after its parent had started {' and '.join(_inherited)}, "
        "whose threads a forked process does not have: it would wait for them for ever. Start "
        "processes by 'spawn' (multiprocessing.get_context('spawn'), joblib's backend 'loky', a "
        "server without preloading), or fork before the parent computes anything; "
        "runtime='openvino' computes in forked processes networks that this machine has kept"
    )


def _running() -> list[str]:
    """Return the backends that have started to compute here; none is imported for it."""
    found = []
    # Imported alone, TensorFlow has no threads yet; they come with its context.
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    if context is not None and getattr(context, "_initialized", True):
        found.append("TensorFlow")
    if getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None):
        found.append("JAX")
    cuda = sys.modules.get("torch.cuda")
    if cuda is not None and cuda.is_initialized():
        found.append("PyTorch on a GPU")
    return found


def _before() -> None:
    # Asked in the parent: the child of a child inherits what its parent could not use either.
    global _at_fork
    _at_fork = [*_inherited, *(name for name in _running() if name not in _inherited)]


def _in_child() -> None:
    global _forked
    _forked = True
    _inherited[:] = _at_fork
    for one in list(_locks):
        if one.locked():
            one.release()
    things = list(_left_alone)
    if not things:
        return
    import ctypes

    for thing in things:
        # One reference more than anyone gives back, so that its destructor never runs.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_at_fork: list[str] = []
_forked = False
if hasattr(os, "register_at_fork"):  # not on Windows, which knows no fork
    os.register_at_fork(before=_before, after_in_child=_in_child)
