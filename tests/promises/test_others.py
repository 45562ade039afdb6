"""Others on the same machine: another user's files, and folders swapped for links (T31, T32)."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from featx import errors
from featx.cache.location import MARKER, find_root
from featx.cache.locks import Claims
from featx.extraction.settings import Settings
from featx.maintenance import doctor
from featx.maintenance.inventory import key_folders

from . import faults, oracle, stub, swaps
from .processes import Processes
from .test_upkeep import DRAWN, ROWS, fill, upkeep

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)
needs_descriptors = pytest.mark.skipif(
    not os.supports_dir_fd, reason="this system has no descriptors of folders"
)
INSIDE = ("", "shards", "claims", "quarantine")


def damage(cache: Path) -> None:
    """Flip a bit of one shard, so that it is set aside."""
    shard = min(cache.rglob("shards/*.h5"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)


def extracted(cache: Path) -> None:
    """Extract images of which a third is cached in a shard that is damaged."""
    stub.extract(DRAWN, cache, settings=Settings(block=32))


WORK: dict[str, Callable[[Path], object]] = {"extract": extracted, "compact and gc": upkeep}


@needs_descriptors
@pytest.mark.parametrize("work", WORK)
def test_t31_a_folder_that_is_swapped_for_a_link_leads_nowhere(
    work: str,
    tmp_path: Path,
    rng: random.Random,
    scale: Callable[[int, int], int],
    note: Callable[..., None],
) -> None:
    """At any call, whichever folder: no file outside the cache is removed, replaced or added."""
    filled, cache, precious = (tmp_path / name for name in ("filled", "cache", "precious"))
    if work == "extract":
        stub.extract(DRAWN[:20], filled)
        damage(filled)
    else:
        fill(filled)
    key = max(key_folders(filled), key=lambda one: len(list(one.rglob("*.h5"))))
    for name in INSIDE:
        (key / name).mkdir(exist_ok=True)
    run = WORK[work]

    def copied() -> Path:
        shutil.rmtree(cache, ignore_errors=True)
        return shutil.copytree(filled, cache)

    def warned(root: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.CacheCorruptWarning)
            run(root)

    calls = swaps.count(lambda: warned(copied()))
    # What a folder would be swapped for holds, under the names of this run, files of somebody.
    lures = {}
    for name in INSIDE:
        lures[name] = precious / (name or "key")
        swaps.lure(lures[name], cache / key.name / name)
    before = swaps.content(precious)
    cases = [(at, name) for at in range(calls) for name in INSIDE]
    chosen = cases if scale(0, 1) else rng.sample(cases, min(len(cases), 80))
    outcomes: Counter[str] = Counter()
    for at, name in chosen:
        folder = copied() / key.name / name
        folder.mkdir(exist_ok=True)
        shim = swaps.swapping(at, folder, lures[name])
        try:
            with faults.in_place(shim):
                warned(cache)
            outcomes["done"] += 1
        except errors.CacheError as error:
            outcomes[type(error).__name__] += 1
        swapped = shim.names[at] if at < len(shim.names) else "none"
        assert swaps.content(precious) == before, f"{name or 'key'} at call {at}: {swapped}"
        swaps.restored(folder)
    # And the cache is as good as before; the last case may have ended before the damage was found.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.CacheCorruptWarning)
        np.testing.assert_array_equal(stub.extract(DRAWN, cache).X, ROWS)
    note(f"T31 ({work})", calls=calls, cases=len(chosen), **outcomes)


@needs_descriptors
def test_t31_the_harness_finds_a_path_that_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without descriptors of folders the same search finds a file that was replaced."""
    monkeypatch.setattr(os, "supports_dir_fd", set())
    stub.extract(DRAWN[:20], tmp_path / "filled")
    (key,) = key_folders(tmp_path / "filled")
    swaps.lure(tmp_path / "precious", key)
    before, lost = swaps.content(tmp_path / "precious"), 0
    for at in range(swaps.count(lambda: extracted(tmp_path / "filled"))):
        cache = shutil.copytree(tmp_path / "filled", tmp_path / f"c{at}")
        (cache / key.name / "index").unlink(missing_ok=True)
        with (
            suppress(errors.CacheError),
            faults.in_place(swaps.swapping(at, cache / key.name, tmp_path / "precious")),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", errors.CacheCorruptWarning)
            extracted(cache)
        lost += swaps.content(tmp_path / "precious") != before
        if lost:
            break
    assert lost


@needs_descriptors
def test_t31_a_claim_empties_no_file_that_is_somebodys(tmp_path: Path) -> None:
    """A hard link has the name of a claim: who has it is not written into that file."""
    claims = tmp_path / "cache" / "k-0" / "claims"
    claims.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"precious")
    os.link(tmp_path / "precious", claims / "block.lock")
    claim = Claims(claims).take("block")
    assert claim is not None
    claim.release()
    assert (tmp_path / "precious").read_bytes() == b"precious"
    # And where the key's folder is a link, its claim is not removed.
    (tmp_path / "outside" / "claims").mkdir(parents=True)
    (tmp_path / "outside" / "claims" / "block.lock").touch()
    held = Claims(claims).take("block")
    assert held is not None
    (tmp_path / "cache" / "k-0").rename(tmp_path / "cache" / "aside")
    (tmp_path / "cache" / "k-0").symlink_to(tmp_path / "outside")
    held.release()
    assert (tmp_path / "outside" / "claims" / "block.lock").exists()


@needs_descriptors
def test_t31_doctor_removes_its_trial_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").mkdir()
    for name in ("first", "one", "two", "other", "lock"):
        (tmp_path / "precious" / name).write_bytes(b"precious")
    before = swaps.content(tmp_path / "precious")
    (tmp_path / "cache").mkdir()
    look = doctor._links

    def swapped(trial: Path) -> doctor.Finding:
        trial.rename(tmp_path / "aside")
        trial.symlink_to(tmp_path / "precious")
        return look(trial)

    monkeypatch.setattr(doctor, "_links", swapped)
    list(doctor._in_trial(tmp_path / "cache"))
    after = swaps.content(tmp_path / "precious")
    assert {name: after[name] for name in before} == before


PLANTED = ("k/shards/x.h5", "k/index", "k/key.json", "k/openvino", "statindex/x", MARKER, "k", "")


@pytest.fixture
def found(open_folder: Path) -> tuple[Path, Path, np.ndarray]:
    """Return images, a working folder with a cache of nobody's, and the images' rows."""
    expected = stub.draw(open_folder / "images", 12, seed=9)
    cache = open_folder / "work" / "cache"
    stub.extract(open_folder / "images", cache)
    (key,) = key_folders(cache)
    (key / "openvino").write_bytes(b"a network")
    for path in [open_folder / "work", cache, *cache.rglob("*")]:
        os.chown(path, 65534, 65534)
    for path in [open_folder / "images", *(open_folder / "images").rglob("*")]:
        path.chmod(0o755)
    return open_folder / "images", open_folder / "work", expected


def named(work: Path, part: str) -> Path:
    """Return a part of the cache: `k` is its key, and `x` a file of any name."""
    (key,) = key_folders(work / "cache")
    path = (
        work / "cache" / part.replace("k", key.name, 1)
        if part[:1] == "k"
        else (work / "cache" / part)
    )
    return next(path.parent.glob(f"*{path.suffix}")) if path.stem == "x" else path


def extract_as(
    uid: int, processes: Processes, found: tuple[Path, Path, np.ndarray], name: bool = False
) -> str:
    """Return how an extraction in the working folder ends: the name of its error, or "done"."""
    images, work, _ = found
    code = processes.run("in_folder", dataset=str(images), work=str(work), uid=uid, name=name)
    return {0: "done", 3: "CacheOwnershipError"}.get(code, f"code {code}")


@needs_root
@pytest.mark.parametrize("owner", [0, 1234])
@pytest.mark.parametrize("part", PLANTED)
def test_t32_what_another_user_planted_is_not_believed(
    part: str, owner: int, processes: Processes, found: tuple[Path, Path, np.ndarray]
) -> None:
    """In a folder of one's own, file by file; root is trusted, and whoever is named."""
    os.chown(named(found[1], part), owner, -1)
    os.chmod(named(found[1], part), 0o755)
    expected = "CacheOwnershipError" if owner else "done"
    assert extract_as(65534, processes, found) == expected
    assert extract_as(65534, processes, found, name=True) == "done"


@needs_root
@pytest.mark.parametrize("part", PLANTED)
def test_t32_what_everybody_may_write_is_not_believed(
    part: str, processes: Processes, found: tuple[Path, Path, np.ndarray]
) -> None:
    path = named(found[1], part)
    path.chmod(path.stat().st_mode | 0o002)
    assert extract_as(65534, processes, found) == "CacheOwnershipError"


@needs_root
def test_t32_a_checkout_goes_on_working(
    processes: Processes, found: tuple[Path, Path, np.ndarray]
) -> None:
    """With umask 002; and root, in a container on a user's checkout that is mounted into it."""
    cache = found[1] / "cache"
    for path in [cache, *cache.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o060)
    assert extract_as(65534, processes, found) == "done"
    assert extract_as(0, processes, found) == "done"
    # What root wrote there is root's; the user goes on all the same.
    damage(cache)
    assert extract_as(0, processes, found) == "done"
    assert any(path.stat().st_uid == 0 for path in cache.rglob("*"))
    for path in cache.rglob("*"):
        path.chmod(path.stat().st_mode | 0o055)  # a user who cannot read root's would be told that
    assert extract_as(65534, processes, found) == "done"
    assert oracle.shards(cache)
    assert find_root(cache) == cache
