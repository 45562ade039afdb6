"""What the processes of the promises do; each is a function of JSON options."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import h5py  # noqa: F401  (loaded before the fork, so that no job pays for it)
import numpy as np
from PIL import Image

import featx
from featx.cache import locks as claims
from featx.cache.location import find_root
from featx.cache.store import Store
from featx.extraction import api, probe  # noqa: F401
from featx.extraction.settings import DEFAULT, Settings
from featx.images import decoding  # noqa: F401
from tests.promises import faults, stub
from tests.promises.processes import digest


def extract(
    dataset: str | list[str],
    cache: str,
    log: str,
    out: str | None = None,
    die_at: int | None = None,
    locks: str = "",
    block: int = DEFAULT.block,
    begin: float = 0.0,
) -> int:
    """Extract a folder, or files in this order, with the stub; write what came out."""
    stub.SETTINGS = Settings(block=block)  # of this process
    _break_locks(locks)
    time.sleep(max(0.0, begin - time.time()))
    runtime = stub.Thumbnail(log=Path(log))
    paths = Path(dataset) if isinstance(dataset, str) else [Path(path) for path in dataset]
    if die_at is not None:
        with faults.in_place(faults.dying(die_at)):
            features = stub.extract(paths, Path(cache), runtime)
    else:
        features = stub.extract(paths, Path(cache), runtime)
    if out is not None:
        Path(out).write_text(json.dumps({"X": digest(features.X), "ids": len(features.ids)}))
    return 0


def read_on(cache: str, truth: str, out: str, until: str) -> int:
    """Open the cache and read all its rows, again and again; write how that went."""
    with np.load(truth) as file:
        digests, rows = file["digests"], file["rows"]
    passes = wrong = served = 0
    raised: list[str] = []
    parent = os.getppid()  # who is stopped from outside must leave no reader behind
    while not os.path.exists(until) and os.getppid() == parent:
        try:
            store = Store(find_root(cache), spec())
            got, missing = store.gather(digests, stub.DIM)
            wrong += int((got[~missing] != rows[~missing]).any(axis=1).sum())
            served += int((~missing).sum())
        except Exception:
            raised.append(traceback.format_exc())
        passes += 1
        time.sleep(0.001 if served else 0.01)  # an empty cache is no work for a reader
    report = {"passes": passes, "wrong": wrong, "served": served, "raised": raised}
    Path(out).write_text(json.dumps(report))
    return 0


def spec() -> dict[str, Any]:
    """Return the spec of the stub's key."""
    return stub.BACKBONE.spec()


def fill_up(dataset: str, cache: str, log: str, limit: int = 0, save: str = "") -> int:
    """Extract where the disk is full or files may not grow; 3 says that the error was typed."""
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        features = stub.extract(Path(dataset), Path(cache), stub.Thumbnail(log=Path(log)))
        if save:
            features.save(save)
    except featx.errors.CacheSpaceError:
        return 3
    except OSError as error:
        traceback.print_exc()
        return 4 if save and error.errno in (errno.ENOSPC, errno.EFBIG) else 5
    return 0


def as_nobody(dataset: str, cache: str, log: str) -> int:
    """Extract as a user who owns nothing; the code says which error came."""
    # Nobody may not be able to read this Python: what is loaded on first use is loaded now.
    decoding.load(probe.images(stub.SIDE)[0][1], stub.SIDE)
    Image.init()
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    warnings.simplefilter("ignore", featx.errors.CacheCorruptWarning)
    codes = {"CacheWriteError": 3, "CacheError": 4}
    try:
        stub.extract(Path(dataset), Path(cache), stub.Thumbnail(log=Path(log) if log else None))
    except featx.errors.CacheError as error:
        return codes.get(type(error).__name__, 5)
    return 0


def limited(dataset: str, cache: str, log: str, limit: str, amount: int) -> int:
    """Extract with little memory, few files or little time; the code says how it ended."""
    import resource

    stub.SETTINGS = Settings(block=32)
    decoding.load(probe.images(stub.SIDE)[0][1], stub.SIDE)
    Image.init()
    if limit == "memory":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        have = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (have + (amount << 20),) * 2)
    elif limit == "files":
        opened = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + amount,) * 2)
    else:
        signal.setitimer(signal.ITIMER_REAL, amount / 1000 + 1e-6)
    try:
        stub.extract(Path(dataset), Path(cache))  # no log, which would need a file itself
    except featx.errors.FeatxError:
        traceback.print_exc()
        return 3
    except (MemoryError, RuntimeError):  # RuntimeError: Python cannot start a thread
        return 4
    return 0


def in_folder(dataset: str, work: str, uid: int, name: bool = False) -> int:
    """Extract as a user in a working folder, whose cache is found, or named; 3: not believed."""
    decoding.load(probe.images(stub.SIDE)[0][1], stub.SIDE)  # as in `as_nobody`
    Image.init()
    os.chdir(work)
    os.environ.pop("FEATX_CACHE", None)
    if uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    warnings.simplefilter("ignore", featx.errors.CacheCorruptWarning)
    try:
        stub.extract(Path(dataset), Path("cache") if name else None)
    except featx.errors.CacheOwnershipError:
        return 3
    return 0


def _break_locks(how: str) -> None:
    if not how:
        return

    def flock(descriptor: int, operation: int) -> None:
        if how == "unknown":
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        if how == "hang":
            time.sleep(3600)

    class _Fcntl:
        LOCK_EX, LOCK_NB = 2, 4

    _Fcntl.flock = staticmethod(flock)
    claims.fcntl = _Fcntl  # type: ignore[assignment]
