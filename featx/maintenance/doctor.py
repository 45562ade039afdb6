"""Is this machine fit for featx? What computes, which weights exist, what the disk promises."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from featx.backbones.architectures import BACKBONES
from featx.backbones.backbone import Backbone
from featx.backend import devices, load_keras
from featx.cache import location, ownership
from featx.errors import CacheError, FeatxError
from featx.runtimes import cpu_count, explain
from featx.storage import atomic, services
from featx.storage.objects import ObjectStorage
from featx.versions import installed

GOOD, FAIR, POOR = "good", "fair", "poor"

# filelock's own check of a file system: 4 processes, 100 holds each, no two at one time.
HOLDERS, HOLDS = 4, 100
# Puts to an object store under one name that begin together, and how often.
RACERS, RACES = 8, 4
_LOW_SPACE = 5 << 30
_SLOW_SYNC = 0.2
# How long an interrupted trial may take to remove its files: one look, a second or two.
_PATIENCE = 8.0
_HOLDER = """
import fcntl, json, os, sys, time
spans = []
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    descriptor = os.open(sys.argv[1], os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    begin = time.monotonic_ns()
    time.sleep(0.0002)
    spans.append((begin, time.monotonic_ns()))
    os.close(descriptor)
print(json.dumps(spans))
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: its name, "good", "fair" or "poor", and a sentence."""

    name: str
    state: str
    text: str


def examine(place: Path | str) -> Iterator[Finding]:
    """Yield findings on the machine and on where a cache is or may be, within 30 seconds.

    A folder may not exist yet: then its nearest parent is tried; of an object store, an address is
    given. What is written there for the trial is removed again. What has not answered when its time
    is over is a finding, too.
    """
    began = time.monotonic()
    if isinstance(place, str):
        yield from _until(began + 10, "object store", POOR, lambda: _store(place), _PATIENCE)
    else:
        yield from _until(began + 10, "file system", POOR, lambda: _disk(place), _PATIENCE)
    yield from _until(began + 12, "weights", FAIR, _weights)
    # Keras takes 5 to 10 s to start, and longer on a busy machine, which is no fault of it.
    yield from _until(began + 29, "keras", FAIR, _computing)


def _until(
    end: float,
    name: str,
    late: str,
    look: Callable[[], Generator[Finding, None, None]],
    patience: float = 0.0,
) -> Iterator[Finding]:
    """Yield what a look finds until its time is over: a dead network disk may never answer."""
    answers: SimpleQueue[Finding | None] = SimpleQueue()
    interrupted = threading.Event()
    began = time.monotonic()

    def work() -> None:
        try:
            with closing(look()) as findings:  # an interrupted one tidies up at once
                for finding in findings:
                    answers.put(finding)
                    if interrupted.is_set():
                        return
        except Exception as error:  # whatever keeps it from being looked at is the finding
            answers.put(Finding(name, POOR, f"{type(error).__name__}: {error}"))
        answers.put(None)

    # A daemon: one that never comes back must not hold up the verdict.
    thread = threading.Thread(target=work, name=f"featx-doctor-{name}", daemon=True)
    thread.start()
    try:
        while (finding := answers.get(timeout=max(end - time.monotonic(), 0.1))) is not None:
            yield finding
    except Empty:
        yield Finding(name, late, f"no answer within {time.monotonic() - began:.0f} s")
    except BaseException:  # Ctrl-C: give the thread time to take its trial away
        interrupted.set()
        thread.join(patience)
        raise


def _disk(folder: Path) -> Generator[Finding, None, None]:
    place = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        location.refuse_foreign(folder if place.is_dir() else place)
    except CacheError as error:  # what every extraction would raise
        yield Finding("folder", POOR, str(error).rstrip("."))
        return
    if location.is_marked(folder):
        notes = ownership.note_strangers(folder, location.MARKER)
        text = "; ".join(notes[:3]) or "the cache belongs to whoever runs this"
        yield Finding("owner", FAIR if notes else GOOD, text)
    yield _space(place)
    yield from _in_trial(place)


def _store(address: str) -> Generator[Finding, None, None]:
    """Yield what an object store promises, tried on objects that are removed again."""
    try:
        storage = services.connect(address)
    except CacheError as error:
        yield Finding("address", POOR, str(error).rstrip("."))
        return
    yield from in_store(storage)


def in_store(storage: ObjectStorage) -> Generator[Finding, None, None]:
    """Yield what an object store promises, tried on objects that are removed again."""
    try:
        if not storage.exists(location.MARKER) and storage.names(""):
            text = f"{storage.location('')} holds other objects and no {location.MARKER}"
            yield Finding("prefix", POOR, f"{text}: choose a new or an empty prefix")
            return
    except OSError as error:
        yield Finding("read", POOR, f"{storage.location('')}: {error.strerror}")
        return
    trial = f".tmp-{atomic.this_host()}-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        began = time.perf_counter()
        storage.publish(f"{trial}/first", os.urandom(1 << 20))
        text = f"1 MB put in {1000 * (time.perf_counter() - began):.0f} ms"
        began = time.perf_counter()
        storage.read(f"{trial}/first")
        text += f" and read in {1000 * (time.perf_counter() - began):.0f} ms"
        yield Finding("write", GOOD, f"{storage.location('')} can be written: {text}")
        for name, look in (
            ("put if absent", _absent),
            ("race", _race),
            ("put if unchanged", _unchanged),
            ("listing", _listing),
        ):
            try:
                yield look(storage, f"{trial}/{name.replace(' ', '-')}", name)
            except OSError as error:
                yield Finding(name, POOR, f"failed: {error.strerror}")
    except OSError as error:
        yield Finding("write", POOR, f"{storage.location('')}: {error.strerror}")
    finally:
        refused = _removed(storage, trial)
    if refused:
        yield Finding(
            "delete", FAIR, f"refused ({refused}): embeddings are safe, but gc, compact and this "
            f"trial's objects at {storage.location(trial)} cannot be tidied from here",
        )  # fmt: skip
    else:
        yield Finding("delete", GOOD, "what the trial wrote was removed")


def _removed(storage: ObjectStorage, trial: str) -> str:
    """Remove the objects of a trial; return what keeps them, if anything."""
    try:
        for name, _ in storage.walk(trial):
            storage.remove(name)
    except OSError as error:
        return error.strerror or str(error)
    return ""


_OVERWRITES = (
    "the service accepts the condition and ignores it, so a later write replaces an earlier one: "
    "use another service, or a newer version of this one"
)


def _absent(storage: ObjectStorage, name: str, what: str) -> Finding:
    """Put twice under one name: the second must be refused."""
    first = storage.publish(name, b"first")
    second = storage.publish(name, b"second")
    if not first:
        return Finding(what, POOR, "a new object was refused as if its name were taken")
    if second or bytes(storage.read(name)) != b"first":
        return Finding(what, POOR, _OVERWRITES)
    return Finding(what, GOOD, "yes: the second of two puts was refused and changed nothing")


def _race(storage: ObjectStorage, name: str, what: str) -> Finding:
    """Put under one name from several threads at once: one must win, and be what is there."""
    failed = 0
    with ThreadPoolExecutor(RACERS) as pool:
        for race in range(RACES):
            start = threading.Barrier(RACERS)

            def put(
                racer: int, name: str = f"{name}-{race}", start: threading.Barrier = start
            ) -> bool:
                start.wait()
                return storage.publish(name, bytes([racer]) * 1000)

            won = [racer for racer, wins in enumerate(pool.map(put, range(RACERS))) if wins]
            there = storage.read(f"{name}-{race}")
            failed += len(won) != 1 or there != bytes(won[:1]) * 1000
    tried = f"{RACES} races of {RACERS}"
    if failed:
        return Finding(what, POOR, f"in {failed} of {tried} not one put won: {_OVERWRITES}")
    return Finding(what, GOOD, f"one put won in each of {tried}")


def _unchanged(storage: ObjectStorage, name: str, what: str) -> Finding:
    """Replace an object on the condition that it is the one that was seen."""
    storage.publish(name, b"damaged")
    seen = storage.seen(name)
    harm = "a damaged shard stays in its place until it is removed by hand"
    if not storage.replace_unchanged(name, b"whole", seen):
        return Finding(what, FAIR, f"refused: {harm}")
    if storage.replace_unchanged(name, b"late", seen):
        return Finding(what, POOR, _OVERWRITES)
    return Finding(what, GOOD, "yes: an object that had changed was not replaced")


def _listing(storage: ObjectStorage, name: str, what: str) -> Finding:
    """Look whether a listing shows what was just written, and no longer what was removed."""
    storage.publish(f"{name}/one", b"")
    if not storage.walk(name):
        return Finding(what, FAIR, "it lags behind writes: some embeddings are computed twice")
    return Finding(what, GOOD, "it shows what was just written")


def _computing() -> Generator[Finding, None, None]:
    """Yield what would compute embeddings here."""
    yield Finding("processor", GOOD, f"{cpu_count()} cores may be used")
    try:
        keras = load_keras()
        backend = keras.backend.backend()
        names = ", ".join(devices()) or "cpu"
    except Exception as error:  # whatever keeps it from starting is what is asked here
        yield Finding("keras", POOR, f"cannot be started: {type(error).__name__}: {error}")
        return
    version = installed([backend]).get(backend, "")
    yield Finding("keras", GOOD, f"{keras.version()} on {backend} {version}, devices: {names}")
    name, reason = explain(Backbone("mobilenet_v2"))
    fair = "not installed" in reason
    yield Finding("runtime", FAIR if fair else GOOD, f"'auto' means {name}: {reason}")


def _weights() -> Generator[Finding, None, None]:
    """Yield which ImageNet weights are on disk, by Keras's own rule of where."""
    paths = {name: Backbone(name).weights_path() for name in BACKBONES}
    found = sorted(name for name, path in paths.items() if path.is_file())
    home = next(iter(paths.values())).parent
    if found:
        shown = ", ".join(
            f"{name} (sha256 {Backbone(name).weights_digest()[:12]})" for name in found[:6]
        ) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
        yield Finding("weights", GOOD, f"{len(found)} of {len(paths)} in {home}: {shown}")
        for note in filter(None, (Backbone(name).weights_note() for name in found)):
            yield Finding("weights", FAIR, note)
    else:
        yield Finding(
            "weights", FAIR, f"none in {home}; Keras fetches them when they are first needed"
        )


def _space(folder: Path) -> Finding:
    """Return how much may still be written."""
    try:
        status = os.statvfs(folder)
    except (OSError, AttributeError) as error:  # AttributeError: Windows has no such call
        return Finding("free space", FAIR, f"not known: {error}")
    free = status.f_bavail * status.f_frsize
    embeddings = free // (2048 * 4)
    text = f"{free / 1e9:,.1f} GB free: about {embeddings:,} embeddings of 2,048 numbers"
    return Finding("free space", GOOD if free > _LOW_SPACE else FAIR, text)


def _in_trial(place: Path) -> Iterator[Finding]:
    looks = (("hard links", _links), ("fsync", _sync), ("flock", _locks))
    try:
        with _trial_folder(place) as trial:
            # A full disk still takes folders and empty files.
            _write_new(trial / "first", bytes(1 << 16))
            yield Finding("write", GOOD, f"{place} can be written")
            for name, look in looks:
                try:
                    finding = look(trial)
                except OSError as error:
                    finding = Finding(name, POOR, f"failed: {error}")
                yield finding
    except OSError as error:
        yield Finding("write", POOR, str(atomic.refusal(error, place)).rstrip("."))


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist: in a folder that was swapped, none is overwritten."""
    with path.open("xb") as file:
        file.write(content)


def _links(trial: Path) -> Finding:
    """Check that a file can be made visible in one step that replaces nothing."""
    one, two, other = trial / "one", trial / "two", trial / "other"
    _write_new(one, b"1")
    _write_new(other, b"2")
    try:
        os.link(one, two)
    except OSError as error:
        return Finding(
            "hard links", FAIR,
            f"none here ({error.strerror}): shards are put in place by renaming, which may "
            "replace one of the same content",
        )  # fmt: skip
    try:
        os.link(other, two)
    except FileExistsError:
        return Finding("hard links", GOOD, "yes, and they replace nothing")
    except OSError as error:
        return Finding(
            "hard links", FAIR, f"an unexpected error for a second link: {error.strerror}"
        )
    return Finding("hard links", POOR, "a link replaced a file: use another file system")


def _sync(trial: Path) -> Finding:
    """Measure how long it takes until a shard's bytes are durable."""
    spent = []
    for number in range(5):
        began = time.perf_counter()
        try:
            atomic.publish(trial / f"shard-{number}", os.urandom(1 << 20))
        except (OSError, FeatxError) as error:
            return Finding("fsync", POOR, f"failed: {error}. Embeddings cached here may be lost")
        spent.append(time.perf_counter() - began)
    middle = sorted(spent)[2]
    text = f"1 MB written, synced and published in {1000 * middle:.1f} ms (median of 5)"
    if middle > _SLOW_SYNC:
        return Finding("fsync", FAIR, f"{text}: slow; it overlaps with computing")
    return Finding("fsync", GOOD, text)


def _locks(trial: Path, patience: float = 6.0, program: str = _HOLDER) -> Finding:
    """Check that flock keeps processes apart; featx only saves double work by it."""
    harmless = "embeddings are right all the same, but processes may compute a block twice"
    if atomic.fcntl is None:
        return Finding("flock", FAIR, f"not on this system: {harmless}")
    _write_new(trial / "lock", b"")
    holders = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program, trial / "lock", str(HOLDS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(HOLDERS)
    ]  # fmt: skip
    spans: list[tuple[int, int]] = []
    until = time.monotonic() + patience
    try:
        for holder in holders:
            assert holder.stdin is not None
            with suppress(OSError):
                holder.stdin.write("go\n")
                holder.stdin.flush()
        for holder in holders:
            out, err = holder.communicate(timeout=max(until - time.monotonic(), 0.1))
            if holder.returncode:
                last = err.strip().splitlines()[-1:]
                return Finding("flock", FAIR, f"refused ({' '.join(last)}): {harmless}")
            spans += [(begin, end) for begin, end in json.loads(out)]
    except subprocess.TimeoutExpired:
        return Finding("flock", FAIR, f"no answer within {patience:.0f} s: {harmless}")
    finally:
        for holder in holders:
            with suppress(OSError):
                holder.kill()
            holder.communicate()
    return _judged(spans, harmless)


def _judged(spans: list[tuple[int, int]], harmless: str) -> Finding:
    spans.sort()
    overlaps = sum(b[0] < a[1] for a, b in zip(spans, spans[1:], strict=False))
    tried = f"{HOLDERS} processes x {HOLDS} holds"
    if overlaps:
        return Finding("flock", FAIR, f"{overlaps} overlaps in {tried}: {harmless}")
    return Finding("flock", GOOD, f"no overlap in {tried}")


@contextmanager
def _trial_folder(place: Path) -> Iterator[Path]:
    # Named like temporary files, which gc knows and no extraction takes for a user's.
    trial = place / f".tmp-{atomic.this_host()}-{os.getpid()}-{secrets.token_hex(8)}"
    trial.mkdir(0o700)
    try:
        yield trial
    finally:
        # By descriptors: a trial folder that was swapped for a link leads nowhere.
        shutil.rmtree(trial)


def verdict(findings: list[Finding]) -> tuple[bool, str]:
    """Return whether featx can work here, and a sentence for the user."""
    poor = [finding.name for finding in findings if finding.state == POOR]
    fair = [finding.name for finding in findings if finding.state == FAIR]
    if poor:
        return False, f"not fit as it is: {', '.join(poor)}"
    if fair:
        return True, f"fit, with reservations: {', '.join(fair)}"
    return True, "fit"
