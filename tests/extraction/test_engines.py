"""Engines: the same names and bytes wherever tasks run, and nothing lost with a worker."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image

import featx
from featx import runtimes
from featx.errors import DatasetError, EngineError, OptionError, OutOfMemoryError
from featx.extraction import engines, tasks
from featx.extraction.api import extract_with
from featx.extraction.settings import Settings
from featx.extraction.tasks import Result, Task
from featx.runtimes.runtime import out_of_memory
from featx.storage import services
from tests.promises import oracle, stub

distributed = pytest.importorskip("distributed", reason="pip install 'featx[dask]'")

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ["FEATX_SEED"])
LONG = os.environ.get("FEATX_PROMISES") == "long"

# Blocks of 24 places, a task each.
SMALL = Settings(block=32, ahead=8)
BATCH = 8


class Slow(stub.Thumbnail):
    """The stub, at a pace at which a process can be ended in the midst of it."""

    seconds = 0.004

    def run(self, pixels: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        return super().run(pixels)


class Slower(Slow):
    """At 4 seconds in all: a driver on a busy machine takes two to notice that it is ended."""

    seconds = 0.1


class Unsettled(stub.Thumbnail):
    """The stub, at a pace of its own for each batch: tasks end in another order each time."""

    def __init__(self, seed: int) -> None:
        super().__init__(BATCH)
        self._seed = seed

    def run(self, pixels: np.ndarray) -> np.ndarray:
        time.sleep(random.Random(f"{self._seed} {os.getpid()} {self.seen}").uniform(0, 0.01))
        return super().run(pixels)


class Deadly(stub.Thumbnail):
    """Ends its process at an image whose first pixel is (1, 2, 3), as a crash in C would."""

    def run(self, pixels: np.ndarray) -> np.ndarray:
        if (pixels[:, 0, 0] == (1, 2, 3)).all(axis=1).any():
            os._exit(9)
        return super().run(pixels)


def extract(
    dataset: Any,
    cache: Path | str,
    engine: str = "dask",
    runtime: Any = None,
    settings: Settings = SMALL,
    **options: Any,
) -> featx.Features:
    return extract_with(
        settings, dataset, stub.BACKBONE, cache=cache, runtime=runtime or stub.Thumbnail(BATCH),
        progress=False, engine=engine, **options,
    )  # fmt: skip


@contextmanager
def cluster(folder: Path) -> Iterator[Any]:
    """Give the client of two worker processes on this machine; it is the current one."""
    import dask

    settings = {"distributed.worker.profile.enabled": False, "temporary-directory": str(folder)}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as workers,
        distributed.Client(workers) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with cluster(tmp_path_factory.mktemp("dask")) as client:
        yield client


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Return a folder of 700 images, two of which are copies of others, and their rows."""
    folder = tmp_path_factory.mktemp("images")
    rows = stub.draw(folder, 700, seed=5)
    for copy, of in ((150, 3), (690, 600)):
        path = next(folder.rglob(f"{copy:06d}.bmp"))
        path.write_bytes(next(folder.rglob(f"{of:06d}.bmp")).read_bytes())
        rows[copy] = rows[of]
    return folder, rows


@pytest.fixture(scope="module")
def local(images: tuple[Path, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the shards of a local run."""
    cache = tmp_path_factory.mktemp("local") / "cache"
    features = extract(images[0], cache, "local")
    np.testing.assert_array_equal(features.X, images[1])
    return oracle.shards(cache)


def test_dask_gives_the_names_and_bytes_of_a_local_run(
    client: Any, images: tuple[Path, np.ndarray], local: Any, tmp_path: Path
) -> None:
    features = extract(images[0], tmp_path / "cache")
    np.testing.assert_array_equal(features.X, images[1])
    assert oracle.shards(tmp_path / "cache") == local
    assert features.report is not None
    assert (features.report.computed, features.report.runtime) == (698, "thumbnail")
    again = extract(images[0], tmp_path / "cache")
    assert again.report is not None
    assert (again.report.computed, again.report.cached) == (0, 698)


@pytest.mark.parametrize(("settings", "number"), [({}, 6), ({"tasks": 1}, 2), ({"task": 1}, 30)])
def test_a_small_data_set_is_cut_by_the_number_of_workers(
    client: Any,
    images: tuple[Path, np.ndarray],
    tmp_path: Path,
    settings: dict[str, int],
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """30 blocks of at most 24 images on two workers: three tasks each, unless asked otherwise."""
    sent: list[int] = []
    completed = engines.completed

    def counted(engine: Any, plan: Any, made: Iterator[Task]) -> Any:
        def noted() -> Iterator[Task]:
            for task in made:
                sent.append(len(task.images))
                yield task

        return completed(engine, plan, noted())

    monkeypatch.setattr(engines, "completed", counted)
    extract(images[0], tmp_path, settings=replace(SMALL, **settings))
    assert sum(sent) == 700
    assert len(sent) == number, sent


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_in_which_tasks_end_changes_nothing(
    client: Any, images: tuple[Path, np.ndarray], local: Any, tmp_path: Path, seed: int
) -> None:
    features = extract(images[0], tmp_path, runtime=Unsettled(seed))
    np.testing.assert_array_equal(features.X, images[1])
    assert oracle.shards(tmp_path) == local


def test_joblib_gives_the_names_and_bytes_of_a_local_run(
    images: tuple[Path, np.ndarray], local: Any, tmp_path: Path
) -> None:
    with joblib.parallel_config("loky", n_jobs=2):
        features = extract(images[0], tmp_path / "cache", "joblib")
    np.testing.assert_array_equal(features.X, images[1])
    assert oracle.shards(tmp_path / "cache") == local
    with joblib.parallel_config("threading", n_jobs=2):
        extract(images[0], tmp_path / "threads", "joblib")
    assert oracle.shards(tmp_path / "threads") == local
    with joblib.parallel_config("multiprocessing", n_jobs=2):  # whose results come together
        extract(images[0], tmp_path / "pool", "joblib")
    assert oracle.shards(tmp_path / "pool") == local


def test_ray_gives_the_names_and_bytes_of_a_local_run_and_names_an_image_that_ends_its_worker(
    images: tuple[Path, np.ndarray], local: Any, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray", reason="pip install 'featx[ray]' (not in the test extra)")
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    drawn = stub.pixels(12, seed=6)
    drawn[7, 0, 0] = (1, 2, 3)
    small = Settings(block=4, ahead=2)
    try:
        with joblib.parallel_config("ray", n_jobs=2):
            features = extract(images[0], tmp_path / "cache", "joblib")
            poisoned = extract(
                drawn, tmp_path / "few", "joblib", Deadly(2), settings=small, on_error="skip"
            )
    finally:
        ray.shutdown()
    np.testing.assert_array_equal(features.X, images[1])
    assert oracle.shards(tmp_path / "cache") == local
    assert [failure.id for failure in poisoned.failures] == ["7"]
    np.testing.assert_array_equal(poisoned.X, np.delete(stub.rows(drawn), 7, axis=0))


@pytest.mark.timeout(3600 if LONG else 400)
def test_a_killed_worker_costs_its_task_and_no_bit(
    images: tuple[Path, np.ndarray], local: Any, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    for run in range(50 if LONG else 1):
        # Anew each time: Dask's nannies do not always start another in place of a killed one.
        with cluster(tmp_path / "dask") as client:
            cache, log = tmp_path / f"cache{run}", tmp_path / f"log{run}"
            pids = [nanny.pid for nanny in client.cluster.workers.values()]
            kill = partial(os.kill, rng.choice(pids), signal.SIGKILL)
            killer = threading.Timer(rng.uniform(0.05, 2.0), kill)
            killer.start()
            features = extract(images[0], cache, runtime=Slow(BATCH, log))
            killer.join()
        np.testing.assert_array_equal(features.X, images[1])
        assert oracle.shards(cache) == local
        # 700 places, and a task of 24; two probe images by each process, twice by the first.
        begun = len({line.split()[0] for line in log.read_text().splitlines()})
        assert stub.logged(log) <= 700 + 24 + 2 * begun + 2


def test_an_image_that_ends_its_worker_is_named_and_its_neighbours_have_embeddings(
    tmp_path: Path,
) -> None:
    drawn = stub.pixels(12, seed=6)
    drawn[7, 0, 0] = (1, 2, 3)
    small = Settings(block=4, ahead=2)  # tasks of one block, of 2 images
    with joblib.parallel_config("loky", n_jobs=2):
        features = extract(
            drawn, tmp_path / "cache", "joblib", Deadly(2), settings=small, on_error="skip"
        )
    (failure,) = features.failures
    assert (failure.id, failure.error) == ("7", "WorkerDiedError")
    assert "ended each time that it had this image" in failure.reason
    np.testing.assert_array_equal(features.X, np.delete(stub.rows(drawn), 7, axis=0))


class Short(stub.Thumbnail):
    """Has memory for 8 images at a time."""

    def run(self, pixels: np.ndarray) -> np.ndarray:
        if len(pixels) > 8:
            raise out_of_memory(len(pixels), MemoryError())
        return super().run(pixels)


def test_workers_without_memory_go_on_with_half_the_batch(
    images: tuple[Path, np.ndarray], local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def start(backbone: Any, batch_size: int | None, runtime: str) -> Short:
        started.append(batch_size)
        return Short(batch_size or 32)

    monkeypatch.setattr(runtimes, "start", start)
    with joblib.parallel_config("threading", n_jobs=2):
        features = extract(images[0], tmp_path / "cache", "joblib", "auto")
        np.testing.assert_array_equal(features.X, images[1])
        assert list(dict.fromkeys(started)) == [None, 16, 8]
        assert oracle.shards(tmp_path / "cache") == local
        # A runtime of the user's own decides its batch itself.
        with pytest.raises(OutOfMemoryError, match="a batch of 16 images"):
            extract(images[0], tmp_path / "own", "joblib", Short(16))


def test_two_drivers_on_one_set_publish_one_shard_for_each_block(
    client: Any, images: tuple[Path, np.ndarray], local: Any, tmp_path: Path
) -> None:
    found: list[featx.Features] = []

    def drive() -> None:
        found.append(extract(images[0], tmp_path / "cache", runtime=Slow(BATCH)))

    drivers = [threading.Thread(target=drive) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert len(found) == 2
    for features in found:
        np.testing.assert_array_equal(features.X, images[1])
    assert oracle.shards(tmp_path / "cache") == local


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_next_run_computes_what_a_driver_that_was_ended_left(
    client: Any, images: tuple[Path, np.ndarray], local: Any, tmp_path: Path, how: signal.Signals
) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.extraction.test_engines import Slower, extract, BATCH\n"
        "extract(Path(sys.argv[1]), Path(sys.argv[2]), scheduler=sys.argv[3],\n"
        "        runtime=Slower(BATCH, Path(sys.argv[4])))"
    )
    cache, log = tmp_path / "cache", tmp_path / "log"
    driver = subprocess.Popen(
        [sys.executable, "-c", script, images[0], cache, client.scheduler.address, log],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    while len(oracle.shards(cache)) < 5:
        assert driver.poll() is None
        time.sleep(0.02)
    driver.send_signal(how)
    driver.wait(60)
    left, before = 0, -1
    while before != stub.logged(log):  # a worker ends the task that it has
        left, before = len(oracle.shards(cache)), stub.logged(log)
        time.sleep(2)
    assert left < len(local)
    features = extract(images[0], cache, runtime=Slow(BATCH, log))
    assert features.report is not None
    assert 0 < features.report.computed <= 24 * (len(local) - left)
    # What it computed is what was missing: the probe images once more by each worker.
    assert stub.logged(log) - before <= features.report.computed + 2 * 3 + 2
    np.testing.assert_array_equal(features.X, images[1])


def test_a_worker_that_lacks_what_is_needed_is_named_before_it_computes(
    client: Any, tmp_path: Path
) -> None:
    def exchange(back: bool) -> None:
        from featx.extraction import worker
        from featx.runtimes import runtime

        worker.versions = runtime.versions if back else lambda: {"featx": "0.0.1"}

    (first, *_) = client.nthreads()
    client.run(exchange, False, workers=[first])
    try:
        with pytest.raises(EngineError, match=f"1 of 2 workers.*\n  {first} .*has featx 0.0.1"):
            extract(stub.pixels(40, seed=1), tmp_path / "cache")
    finally:
        client.run(exchange, True, workers=[first])
    assert not oracle.shards(tmp_path / "cache")


def test_bad_images_and_repeats_are_those_of_a_local_run(client: Any, tmp_path: Path) -> None:
    stub.draw(tmp_path / "d", 100, seed=7)
    (tmp_path / "d" / "a" / "000010.bmp").write_text("text")
    (tmp_path / "d" / "b" / "gone.bmp").symlink_to(tmp_path / "d" / "b" / "nowhere.bmp")
    ours = extract(tmp_path / "d", tmp_path / "c", on_error="skip")
    theirs = extract(tmp_path / "d", tmp_path / "l", "local", on_error="skip")
    assert (ours.ids, ours.failures) == (theirs.ids, theirs.failures)
    assert ours.failures
    assert ours.y is not None
    assert theirs.y is not None
    assert ours.y.tolist() == theirs.y.tolist()
    assert oracle.shards(tmp_path / "c") == oracle.shards(tmp_path / "l")


def test_what_is_listed_twice_is_computed_once_whoever_has_it(client: Any, tmp_path: Path) -> None:
    drawn = stub.pixels(60, seed=12)
    stub.draw(tmp_path / "d", 60, seed=12)
    paths = sorted((tmp_path / "d").rglob("*.bmp"))
    for name, images in {
        "files": featx.Dataset.from_paths([*paths, *paths[:10], *paths[40:]]),
        "pixels": np.concatenate([drawn, drawn[:10], drawn[40:]]),
    }.items():
        log = tmp_path / f"{name}.log"
        ours = extract(images, tmp_path / name, runtime=stub.Thumbnail(BATCH, log))
        theirs = extract(images, tmp_path / f"{name} local", "local")
        np.testing.assert_array_equal(ours.X, theirs.X)
        assert oracle.shards(tmp_path / name) == oracle.shards(tmp_path / f"{name} local")
        assert stub.logged(log) <= 60 + 2 * 3


def test_a_script_without_a_guard_starts_a_cluster_of_its_own(tmp_path: Path) -> None:
    stub.draw(tmp_path / "d", 40, seed=8)
    (tmp_path / "script.py").write_text(
        "from tests.promises import stub\n"
        "from featx.extraction.api import extract\n"
        f"f = extract({str(tmp_path / 'd')!r}, stub.BACKBONE, cache={str(tmp_path / 'c')!r},\n"
        "            runtime=stub.Thumbnail(8), progress=False, engine='dask')\n"
        "print(f)\n"
    )
    answer = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=300,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "40 x 192 float32" in answer.stdout
    assert "workers of this machine" in answer.stderr


def test_a_dry_run_counts_the_workers_of_a_cluster(client: Any) -> None:
    assert engines.workers_elsewhere("local", None) == 1
    assert engines.workers_elsewhere("joblib", None) == 1
    assert engines.workers_elsewhere("dask", client.scheduler.address) == 2
    assert engines.workers_elsewhere("dask", None) == 2  # of the current client, which goes on
    assert client.status == "running"


def test_engines_are_asked_for_by_name() -> None:
    with pytest.raises(OptionError, match="engine='spark': expected one of"):
        engines.check_engine("spark")
    with pytest.raises(OptionError, match="only engine='dask' has a scheduler"):
        engines.check_engine("joblib", "tcp://head:8786")


@pytest.mark.parametrize("address", ["nonsense", "tcp://no.such.host.invalid:8786", "foo://a:1"])
def test_what_is_no_address_is_refused_without_a_client(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was refused an address prints a traceback a minute after the process is done."""
    monkeypatch.setattr(distributed, "Client", None)
    with pytest.raises(EngineError, match=f"no Dask scheduler answers at {address} "):
        engines.opened("dask", address)


def test_a_task_is_halved_between_blocks_and_then_between_images() -> None:
    images = [(str(i), b"") for i in range(6)]
    task = Task(3, images, [0, 1, 2, 3, 4, 5])
    first, second = task.halves(2)
    assert ([name for name, _ in first.images], first.begin) == (["0", "1"], 0)
    assert ([name for name, _ in second.images], second.begin) == (["2", "3", "4", "5"], 2)
    one, other = first.halves(2)
    assert (one.places, other.places, other.begin) == ([0], [1], 1)


def test_only_what_is_needed_of_a_path_is_sent(tmp_path: Path) -> None:
    inside = featx.Dataset.from_paths([tmp_path / "a.png"]).items[0]
    named = tasks.Item("a/b.png", None, tmp_path / "a" / "b.png")
    task = Task.of(0, [named, inside], [0, 1], tmp_path)
    assert task.images[0] == ("a/b.png", None)
    assert Task.of(0, [named], [0], None).images == [("a/b.png", str(named.source))]
    assert [item.source for item in task.items()] == [named.source, inside.source]


def test_images_that_are_no_files_do_not_make_tasks_large(tmp_path: Path) -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    one, file = tasks.Item("0", None, pixels), tasks.Item("a", None, tmp_path / "a.png")
    assert tasks.carried(one) == 30_000
    assert tasks.carried(tasks.Item("0", None, b"x" * 500)) == 500
    assert tasks.carried(tasks.Item("0", None, Image.fromarray(pixels))) >= 30_000
    assert tasks.carried(file) < 1000


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Give the address of an empty bucket on loopback; it is reached with a key that is no word."""
    pytest.importorskip("obstore", reason="pip install 'featx[cloud]'")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET,
        "XDG_CACHE_HOME": str(tmp_path / "xdg"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    made = urllib.request.Request(f"http://{host}:{port}/photos", method="PUT")
    urllib.request.urlopen(made).close()
    yield "s3://photos"
    server.stop()


SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"


def test_images_and_cache_in_a_bucket_are_reached_by_each_worker_itself(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = stub.draw(tmp_path / "d", 60, seed=9)
    client, _ = services.client_at(f"{bucket}/images", DatasetError)
    for path in (tmp_path / "d").rglob("*.bmp"):
        client.put(path.relative_to(tmp_path / "d").as_posix(), path.read_bytes())
    extract(tmp_path / "d", tmp_path / "c", "local")
    sent: list[bytes] = []
    of = Task.of

    def noted(*args: Any) -> Task:
        task = of(*args)
        sent.append(pickle.dumps(task))
        return task

    with cluster(tmp_path / "dask"):  # its processes have the environment of this test
        monkeypatch.setattr(Task, "of", noted)
        features = extract(f"{bucket}/images", f"{bucket}/cache")
    np.testing.assert_array_equal(features.X, rows)
    assert sent
    assert not any(SECRET.encode() in content for content in sent)
    storage = services.connect(f"{bucket}/cache")
    found = {name: bytes(storage.read(name)) for name, _ in storage.walk("") if ".h5" in name}
    assert {name.split("/")[-1]: content for name, content in found.items()} == {
        Path(name).name: content for name, content in oracle.shards(tmp_path / "c").items()
    }
    # Their ETags are known here now: no worker is asked.
    monkeypatch.setattr(engines, "opened", None)
    again = extract(f"{bucket}/images", f"{bucket}/cache")
    np.testing.assert_array_equal(again.X, rows)


def test_an_archive_is_opened_once_by_a_process(tmp_path: Path) -> None:
    stub.draw(tmp_path / "d", 4, seed=10)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for path in sorted((tmp_path / "d").rglob("*.bmp")):
            archive.write(path, path.relative_to(tmp_path / "d"))
    os.utime(tmp_path / "d.zip", ns=(1_600_000_000_000_000_001,) * 2)
    time.sleep(2.1)  # until then nobody may say that it is unchanged
    items = featx.Dataset.from_archive(tmp_path / "d.zip").items
    sent = [pickle.dumps(Task.of(0, [item], [0], None)) for item in items[:2]]
    first, second = (pickle.loads(content).items()[0].source for content in sent)
    assert first.archive is second.archive
    assert first.read(1 << 20)[0] == next((tmp_path / "d").rglob("000000.bmp")).read_bytes()


class _Alone(engines.Engine):
    """Dies of every task with number 7 in it, and blames a neighbour when it is not alone."""

    def greeting(self, plan: Any) -> Any: ...

    def check(self, plan: Any) -> None: ...

    def workers(self) -> int:
        return 1

    def close(self) -> None: ...

    def run(self, plan: Any, asked: Iterator[Task]) -> engines.Results:
        asked_now = list(asked)
        for task in asked_now:
            dies = any(name == "7" for name, _ in task.images) or len(asked_now) > 1
            yield task, None if dies else Result()


def test_nobody_is_blamed_for_another() -> None:
    def cut() -> Iterator[Task]:
        for number in range(4):
            images = [(str(3 * number + i), b"") for i in range(3)]
            yield Task(number, images, [3 * number + i for i in range(3)])

    plan: Any = type("Plan", (), {"entries": 3})
    found = list(engines.completed(_Alone(), plan, cut()))
    died = [task.images for task, result in found if not isinstance(result, Result)]
    assert died == [[("7", b"")]]
    done = [name for task, result in found if isinstance(result, Result) for name, _ in task.images]
    assert sorted(done, key=int) == [str(i) for i in range(12) if i != 7]


DRIVER = r'''
import json, pickle, sys, time
from pathlib import Path
import numpy as np
import featx
from featx.extraction import engines
from tests.promises import stub

class Narrow(stub.Thumbnail):
    """Few numbers an image, so that what is measured is not the matrix."""

    def run(self, pixels):
        return super().run(pixels)[:, :8].copy()

def peak():
    (line,) = [one for one in Path("/proc/self/status").read_text().split("\n") if "VmHWM" in one]
    return 1024 * int(line.split()[1])

if __name__ == "__main__":
    found = {"sent": 0, "returned": 0, "tasks": 0}
    run = engines.Dask.run

    def counted(self, plan, tasks):
        def noted():
            for task in tasks:
                found.setdefault("first", time.perf_counter() - began)
                found["sent"] += len(pickle.dumps(task))
                found["tasks"] += 1
                yield task
        for task, result in run(self, plan, noted()):
            found["returned"] += len(pickle.dumps(result))
            yield task, result

    engines.Dask.run = counted
    start, begin = peak(), time.perf_counter()
    images = featx.Dataset.from_folder(sys.argv[1])
    found["listing"] = time.perf_counter() - begin
    found["listed"] = peak() - start
    began = time.perf_counter()
    features = featx.extract(
        images, stub.BACKBONE, cache=sys.argv[2], runtime=Narrow(64), progress=False,
        engine="dask", scheduler=sys.argv[3],
    )
    found |= {"memory": peak() - start, "seconds": time.perf_counter() - began}
    assert features.X.shape == (len(images), 8)
    print(json.dumps(found))
'''


@pytest.mark.timeout(3600 if LONG else 400)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is Linux's")
def test_a_listed_image_costs_driver_and_scheduler_few_bytes(client: Any, tmp_path: Path) -> None:
    """Measured in a driver of its own; FEATX_PROMISES=long: of a million."""
    count, each = (1_000_000, 1000) if LONG else (6_000, 200)
    stub.draw(tmp_path / "drawn", each, seed=11)
    drawn = sorted((tmp_path / "drawn").rglob("*.bmp"))
    for number in range(count // each):
        folder = tmp_path / "listed" / "ab"[number % 2] / f"{number:04d}"
        folder.mkdir(parents=True)
        for path in drawn:
            os.link(path, folder / path.name)
    (tmp_path / "driver.py").write_text(DRIVER)
    answer = subprocess.run(
        [sys.executable, tmp_path / "driver.py", tmp_path / "listed", tmp_path / "cache",
         client.scheduler.address],
        cwd=ROOT, capture_output=True, text=True, timeout=3000,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    sys.stdout.write(f"{count:,} images: {answer.stdout}")  # shown with -rP
    # An id and a place; a digest and what the stat index remembers.
    assert found["sent"] < 100 * count
    assert found["returned"] < 200 * count
    assert found["first"] < 10
