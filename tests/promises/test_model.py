"""A life of a cache, drawn at random: whatever happens, the rows are those of the images."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from PIL import Image

from featx import errors
from featx.cache.location import find_root
from featx.cache.locks import Claims
from featx.cache.store import Store
from featx.extraction.settings import Settings
from featx.images.content_hash import of_content
from featx.maintenance import compaction

from . import faults, oracle, stub
from .conftest import LONG, SEED
from .jobs import spec

SMALL = Settings(block=8)
NAMES = [f"{i:02d}" for i in range(24)]
DRAWN = stub.pixels(200, seed=19)
TRUTH = stub.rows(DRAWN)


def _as_bmp(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "BMP")
    return file.getvalue()


KNOWN = {of_content(_as_bmp(image)): row for image, row in zip(DRAWN, TRUTH, strict=True)}


class _PowerCut(BaseException):
    """Ends a run as a kill does, without the cost of a process."""


class CacheLife(RuleBasedStateMachine):
    """The oracle is a dict: which image each file holds."""

    lived = steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="featx-life-"))
        self.images = self.folder / "images"
        self.images.mkdir()
        self.files: dict[str, int] = {}
        self.write("00", 0)

    def teardown(self) -> None:
        CacheLife.lived += 1
        shutil.rmtree(self.folder)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def write(self, name: str, image: int) -> None:
        Image.fromarray(DRAWN[image]).save(self.images / f"{name}.bmp")
        self.files[name] = image

    @rule(name=st.sampled_from(NAMES), image=st.integers(0, len(DRAWN) - 1))
    def add_or_modify(self, name: str, image: int) -> None:
        self.write(name, image)

    @rule(name=st.sampled_from(NAMES), image=st.integers(0, len(DRAWN) - 1))
    def modify_and_restore_times(self, name: str, image: int) -> None:
        if name in self.files:
            before = (self.images / f"{name}.bmp").stat()
            self.write(name, image)
            os.utime(self.images / f"{name}.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))

    @precondition(lambda self: len(self.files) > 1)
    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if name in self.files:
            (self.images / f"{name}.bmp").unlink()
            del self.files[name]

    @rule()
    def extract(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.CacheCorruptWarning)
            features = stub.extract(self.images, self.cache, stub.Thumbnail(4), settings=SMALL)
        names = sorted(self.files)
        assert features.ids == [f"{name}.bmp" for name in names]
        np.testing.assert_array_equal(features.X, TRUTH[[self.files[name] for name in names]])

    @rule(at=st.integers(0, 120))
    def extract_and_die(self, at: int) -> None:
        def hook(number: int, name: str, args: tuple[object, ...]) -> None:
            if number >= at and name != "close":
                raise _PowerCut

        locks: list[tuple[int, os.stat_result]] = []
        opened = Claims._opened

        def noted(claims: Claims, path: Path) -> int:
            descriptor = opened(claims, path)
            locks.append((descriptor, os.fstat(descriptor)))
            return descriptor

        with (
            warnings.catch_warnings(),
            mock.patch.object(Claims, "_opened", noted),
            faults.in_place(faults.FaultyOs(hook)),
            contextlib.suppress(_PowerCut),
        ):
            warnings.simplefilter("ignore", errors.CacheCorruptWarning)
            stub.extract(self.images, self.cache, stub.Thumbnail(4), settings=SMALL)
        # The end of a process frees its locks, also those that it was about to take, and leaves
        # their files; this one lives on. A number may belong to another file by now.
        for descriptor, status in locks:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), status):
                    os.close(descriptor)

    @rule(which=st.randoms(use_true_random=False))
    def corrupt(self, which: random.Random) -> None:
        found = sorted(self.cache.rglob("shards/*.h5"))
        if found:
            path = which.choice(found)
            content = bytearray(path.read_bytes())
            content[which.randrange(len(content))] ^= 1 << which.randrange(8)
            path.write_bytes(content)

    @rule(which=st.sampled_from(["statindex", "index", "claims", "quarantine", "key.json"]))
    def delete(self, which: str) -> None:
        for path in [self.cache / which, *self.cache.glob(f"k-*/{which}")]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @rule(which=st.sampled_from(["statindex/*", "k-*/index", "k-*/key.json"]))
    def spoil(self, which: str) -> None:
        for path in self.cache.glob(which):
            path.write_bytes(b"garbage")

    @rule()
    def compact(self) -> None:
        if not self.cache.exists():
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.CacheCorruptWarning)
            compaction.compact(Store(find_root(self.cache), spec()), grace=0)

    @invariant()
    def every_whole_shard_is_true(self) -> None:
        CacheLife.steps += 1
        wrong = oracle.judge(oracle.shards(self.cache), KNOWN)
        assert not [what for what in wrong if "row" in what]


CacheLife.TestCase.settings = settings(
    max_examples=500 if LONG else 20,
    stateful_step_count=50 if LONG else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestT29 = seed(SEED)(CacheLife).TestCase


def test_t29_figures(note: Callable[..., None]) -> None:
    """Runs behind the lives, which raise where one goes wrong."""
    if not CacheLife.lived:
        pytest.skip("no life was lived in this run")
    note("T29", lives=CacheLife.lived, steps=CacheLife.steps)
    assert CacheLife.lived >= (500 if LONG else 20)
