"""T43: a cache on an object store that fails serves no wrong row and loses nothing acknowledged."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx import errors
from featx.cache import shards
from featx.cache.location import MARKER
from featx.cache.store import Store
from featx.extraction.settings import Settings
from featx.maintenance import compaction, doctor, gc
from featx.maintenance.inventory import list_keys
from featx.storage import services as reached
from featx.storage.objects import ObjectStorage
from tests.promises import stub
from tests.promises.conftest import LONG, SEED

pytest.importorskip("obstore")

from obstore.store import MemoryStore

from tests.promises.services import Faults, KilledError, Service

SPEC = {"backbone": "none"}
N, DIM = 40, 8


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.storage.objects._FIRST_PAUSE", 0.0)


@pytest.fixture
def bucket() -> MemoryStore:
    store = MemoryStore()
    store.put(MARKER, b'{"format": 1}\n')
    return store


def storage_of(bucket: MemoryStore, scratch: Path, faults: Faults, seed: int = 0) -> ObjectStorage:
    return ObjectStorage(Service(bucket, faults, seed), "memory://bucket", scratch)


def row_of(digest: np.ndarray) -> np.ndarray:
    return np.random.default_rng(list(digest)).standard_normal(DIM, dtype=np.float32)


def block(number: int, environment: str = "here") -> shards.Block:
    rng = np.random.default_rng(number)
    sha256 = rng.integers(0, 256, (N, 32), dtype=np.uint8)
    rows = np.array([row_of(digest) for digest in sha256])
    return shards.Block(rows, sha256, np.zeros(N, np.uint8), [], 32, {"runtime": environment})


FAULTS = {
    "503": Faults(failed=0.1),
    "lost answers": Faults(lost=0.3),
    "409": Faults(conflict=0.3),
    "ignored condition": Faults(ignored=True),
    "slow and stale listings": Faults(slow=0.002, stale=0.5),
    "all": Faults(failed=0.1, lost=0.1, conflict=0.1, stale=0.3),
    "all, and ignored": Faults(failed=0.1, lost=0.1, conflict=0.1, ignored=True, stale=0.3),
}


class Life:
    """Some processes that publish, look, compact and damage what one of them has on a bucket."""

    def __init__(self, bucket: MemoryStore, scratch: Path, faults: Faults, seed: int) -> None:
        self.bucket, self.scratch, self.faults, self.seed = bucket, scratch, faults, seed
        self.acknowledged: set[int] = set()
        self.wrong = 0
        self.errors: list[BaseException] = []

    def run(self, processes: int = 3, steps: int = 12) -> None:
        threads = [
            threading.Thread(target=self._process, args=(number, steps))
            for number in range(processes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in self.errors:
            raise error

    def _process(self, number: int, steps: int) -> None:
        chance = random.Random(100 * self.seed + number)
        try:
            for _ in range(steps):
                # A process that begins knows nothing.
                storage = storage_of(self.bucket, self.scratch, self.faults, chance.randrange(9999))
                try:
                    self._step(Store(storage, SPEC), chance, f"machine {number}")
                except errors.CacheError as error:
                    # The service refused five times in a row: said, and nothing acknowledged.
                    if type(error) not in (errors.CacheError, errors.CacheWriteError):
                        raise
        except BaseException as error:
            self.errors.append(error)

    def _step(self, store: Store, chance: random.Random, environment: str) -> None:
        drawn = chance.randrange(12)
        what = chance.random()
        if what < 0.6:
            store.publish(block(drawn, environment))
            self.acknowledged.add(drawn)
        elif what < 0.7:
            compaction.compact(store, grace=0.02)
        elif what < 0.75:
            gc.remove(store.storage, gc.find(store.storage))
        elif what < 0.8:
            store.storage.remove(f"{store.folder.name}/index")
        self.look(store, chance.randrange(12))

    def look(self, store: Store, number: int) -> int:
        """Count wrong rows of a block; return how many are missing."""
        wanted = block(number)
        X, missing = store.gather(wanted.sha256, DIM)
        self.wrong += int((X[~missing] != wanted.features[~missing]).any(axis=1).sum())
        return int(missing.sum())


@pytest.mark.parametrize("kind", FAULTS)
def test_t43_nothing_acknowledged_is_lost_and_no_row_is_wrong(
    bucket: MemoryStore, tmp_path: Path, kind: str, note: Callable[..., None]
) -> None:
    rounds = 20 if LONG else 1
    lost = wrong = acknowledged = 0
    for one in range(rounds):
        life = Life(MemoryStore(), tmp_path / str(one), FAULTS[kind], SEED + one)
        life.bucket.put(MARKER, b'{"format": 1}\n')
        life.run()
        calm = Store(storage_of(life.bucket, tmp_path, Faults()), SPEC)
        lost += sum(life.look(calm, number) > 0 for number in life.acknowledged)
        wrong += life.wrong
        acknowledged += len(life.acknowledged)
    note("T43", faults=kind, acknowledged=acknowledged, lost=lost, wrong=wrong)
    assert acknowledged >= 5 * rounds
    assert (lost, wrong) == (0, 0)


@pytest.mark.parametrize("kind", FAULTS)
def test_t43_what_is_damaged_is_ignored_and_replaced_once(
    bucket: MemoryStore, tmp_path: Path, kind: str
) -> None:
    name = ""
    for one in range(4):
        store = Store(storage_of(bucket, tmp_path, Faults(), SEED), SPEC)
        store.publish(block(one))
        store.save_index()
        name = f"{store.folder.name}/shards/{sorted(store._shards)[0]}"
    content = bytearray(bucket.get(name).bytes())
    content[len(content) // 2] ^= 1
    bucket.put(name, bytes(content))
    life = Life(bucket, tmp_path, FAULTS[kind], SEED)
    damaged = 0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        stores = [Store(storage_of(bucket, tmp_path, FAULTS[kind], SEED + i), SPEC) for i in (1, 2)]
        damaged = sum(len(store.damaged) for store in stores)
        # Whoever comes now is told by the list, and need not read it; where neither could put it on
        # the list, the one who comes finds it, too.
        listed = any("/quarantine/" in one["path"] for page in bucket.list() for one in page)
        newcomer = Store(storage_of(bucket, tmp_path, Faults()), SPEC)
        assert len(newcomer.damaged) == (0 if listed else 1)
        for store in stores:
            for one in range(4):
                store.publish(block(one))
    assert damaged >= 1
    assert any("quarantined as" in str(w.message) for w in seen)
    calm = Store(storage_of(bucket, tmp_path, Faults()), SPEC)
    assert [life.look(calm, one) for one in range(4)] == [0] * 4
    assert life.wrong == 0
    assert bytes(bucket.get(name).bytes()) != bytes(content)
    # What listed it is of no use any more, and what is whole is not touched.
    pieces = gc.find(calm.storage)
    assert {piece.what for piece in pieces} == {"note on a damaged shard that was replaced"}
    assert gc.remove(calm.storage, pieces)[1] == []
    assert gc.find(calm.storage) == []
    again = Store(storage_of(bucket, tmp_path, Faults()), SPEC)
    assert [life.look(again, one) for one in range(4)] == [0] * 4


def extract_in(
    bucket: MemoryStore, dataset: Any, scratch: Path, monkeypatch: pytest.MonkeyPatch,
    faults: Faults | None = None, seed: int = 0,
) -> tuple[Any, Service, stub.Thumbnail]:  # fmt: skip
    """Extract with the stub into a bucket; return the features, who was asked, and the stub."""
    client, runtime = Service(bucket, faults or Faults(), SEED), stub.Thumbnail(batch_size=8)
    storage = ObjectStorage(client, "s3://bucket/prefix", scratch)
    monkeypatch.setattr(reached, "connect", lambda address: storage)
    settings = Settings(block=32, ahead=8)
    cache: Any = "s3://bucket/prefix"
    try:
        features = stub.extract(dataset, cache, runtime, settings=settings)
    except KilledError:
        features = None
    return features, client, runtime


def test_t43_a_process_that_ends_at_any_request_loses_one_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: Callable[..., None]
) -> None:
    images, expected = stub.pixels(150, SEED), stub.rows(stub.pixels(150, SEED))
    whole, counted, runtime = extract_in(MemoryStore(), images, tmp_path / "a", monkeypatch)
    np.testing.assert_array_equal(whole.X, expected)
    once, requests = runtime.seen, counted.asked.total()
    step = 1 if LONG else 11
    worst = 0
    for end_at in range(SEED % step, requests, step):
        bucket = MemoryStore()
        ended, _, first = extract_in(
            bucket, images, tmp_path / str(end_at), monkeypatch, Faults(end_at=end_at), SEED
        )
        after, _, second = extract_in(bucket, images, tmp_path / f"{end_at}b", monkeypatch)
        np.testing.assert_array_equal(after.X, expected)
        worst = max(worst, first.seen + second.seen - once)
        assert ended is None or np.array_equal(ended.X, expected)
    note("T43 an end at any request", requests=requests, most_computed_again=worst)
    # One block and what was computed ahead of the next, and the two probe images.
    assert worst <= 32 + 8 + 2 * 8 + 2


def test_t43_the_warm_call_is_one_listing_the_index_and_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.draw(tmp_path / "images", 100, 1)
    bucket = MemoryStore()
    cold, _, _ = extract_in(bucket, tmp_path / "images", tmp_path / "scratch", monkeypatch)
    warm, client, runtime = extract_in(
        bucket, tmp_path / "images", tmp_path / "scratch", monkeypatch
    )
    np.testing.assert_array_equal(warm.X, cold.X)
    assert runtime.seen == 0
    assert client.asked["list"] == 1
    assert client.asked["put"] == client.asked["delete"] == 0
    found = list(bucket.list())
    count = sum(each["path"].endswith(".h5") for page in found for each in page)
    # Each shard with these images once; the mark and the index.
    assert client.asked["get"] <= count + 2
    assert warm.report.cache == "s3://bucket/prefix"


def test_t43_no_file_of_a_cache_elsewhere_names_more_than_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is this machine's is below one folder, and gone without harm."""
    images = stub.pixels(40, 3)
    bucket = MemoryStore()
    extract_in(bucket, images, tmp_path / "scratch", monkeypatch)
    (tmp_path / "scratch").rename(tmp_path / "elsewhere")
    again, client, runtime = extract_in(bucket, images, tmp_path / "scratch", monkeypatch)
    assert runtime.seen == 0
    np.testing.assert_array_equal(again.X, stub.rows(images))
    assert client.asked["put"] == 0


def test_t43_the_doctor_tells_a_service_that_ignores_the_condition(tmp_path: Path) -> None:
    def states(faults: Faults) -> dict[str, str]:
        found = doctor.in_store(storage_of(MemoryStore(), tmp_path, faults))
        return {finding.name: finding.state for finding in found}

    good = states(Faults())
    assert set(good.values()) == {"good"}
    assert {"put if absent", "race", "put if unchanged"} <= set(good)
    bad = states(Faults(ignored=True))
    assert [bad[name] for name in ("put if absent", "race", "put if unchanged")] == ["poor"] * 3
    assert set(states(Faults(failed=1.0)).values()) & {"poor"}


def test_a_network_of_version_0_1_on_this_machine_is_removed(
    bucket: MemoryStore, tmp_path: Path
) -> None:
    storage = storage_of(bucket, tmp_path, Faults())
    path = tmp_path / f"k-{'0' * 32}" / "openvino"
    path.parent.mkdir()
    path.write_bytes(b"a network")
    found = gc.find(storage)
    assert [piece.path for piece in found] == [path]
    assert gc.remove(storage, found) == (9, [])
    assert not path.exists()


def test_t43_keys_of_a_store_are_listed_and_removed(bucket: MemoryStore, tmp_path: Path) -> None:
    storage = storage_of(bucket, tmp_path, Faults())
    Store(storage, SPEC).publish(block(0))
    Store(storage, {"backbone": "other"}).publish(block(1))
    bucket.put("k-" + "0" * 32 + "/key.json", b'{"format": 99, "backbone": "later"}')
    kept = list_keys(storage)
    assert sorted(entry.embeddings for entry in kept) == [0, N, N]
    assert [entry.location for entry in kept if entry.store is None] == [
        f"memory://bucket/k-{'0' * 32}"
    ]
    assert gc.find(storage) == []
    pieces = gc.find(storage, unused_days=0, now=4e9)
    assert len(pieces) == 2  # what a later version wrote is not touched
    # Used since it was found: it stays.
    other = next(e.store for e in kept if e.store and e.store.spec["backbone"] == "other")
    gc.remove(storage, [piece for piece in pieces if piece.path.name != other.folder.name])
    assert [e.store.spec["backbone"] for e in list_keys(storage) if e.store] == ["other"]
    assert gc.find(storage, unused_days=1) == []
