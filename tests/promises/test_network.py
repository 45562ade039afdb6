"""The network as it meets images: frozen, the same each time, within the memory there is."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featx
from featx import errors, runtimes
from featx.datasets.items import Item
from featx.extraction.settings import Settings

from . import oracle, stub

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest relative distance of two sets of rows."""
    return float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())


def frozen(
    backbone: featx.Backbone, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[bool, float]:
    """Return whether the weights are untouched, and how far a row alone is from it in a crowd."""
    side = backbone.side
    drawn = np.random.default_rng(0).integers(0, 256, (40, side, side, 3), dtype=np.uint8)
    model = backbone.build()
    before = [weights.tobytes() for weights in model.get_weights()]
    # The network that computes is the one that is looked at.
    monkeypatch.setattr(featx.Backbone, "build", lambda self: model)
    runtimes.forget()
    gc.collect()
    runtime = runtimes.start(backbone, None, "auto")

    def rows(pixels: np.ndarray, name: str) -> np.ndarray:
        return featx.extract(
            pixels, backbone, cache=folder / name, runtime=runtime, progress=False
        ).X

    crowd = rows(drawn, "crowd")
    alone = [rows(drawn[i : i + 1], f"alone{i}") for i in (0, 17, 39)]
    after = [weights.tobytes() for weights in model.get_weights()]
    return before == after, relative(np.concatenate(alone), crowd[[0, 17, 39]])


def test_t20_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: Callable[..., None]
) -> None:
    same, distance = frozen(stub.BACKBONE, tmp_path, monkeypatch)
    note("T20 (untrained)", weights_same=same, row_alone=f"{distance:.1e}")
    assert same
    assert distance <= 1e-5


@pytest.mark.weights
def test_t20_frozen_with_real_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: Callable[..., None]
) -> None:
    same, distance = frozen(featx.Backbone("mobilenet_v2"), tmp_path, monkeypatch)
    note("T20 (ImageNet weights)", weights_same=same, row_alone=f"{distance:.1e}")
    assert same
    assert distance <= 1e-5


FRESH = """
import hashlib, sys
from pathlib import Path
import numpy as np
import featx
from tests.promises import oracle, stub
X = stub.pixels(300, seed=17)
features = featx.extract(X, stub.BACKBONE, cache=sys.argv[1], progress=False)
files = b"".join(oracle.shards(Path(sys.argv[1])).values())
print(hashlib.sha256(features.X.tobytes()).hexdigest(), hashlib.sha256(files).hexdigest())
"""


def fresh(cache: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FRESH, str(cache)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_t21_fresh_processes_give_the_same_bytes(
    tmp_path: Path, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    """Each start of TensorFlow takes seconds: two in the quick form, three in the long."""
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    environments = [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", **threads}, threads]
    started = [
        fresh(tmp_path / str(i), **environment)
        for i, environment in enumerate(environments[: scale(2, 3)])
    ]
    found = {process.communicate(timeout=600)[0] for process in started}
    codes = [process.returncode for process in started]
    note("T21", processes=len(started), distinct_results=len(found))
    assert codes == [0] * len(started)
    assert len(found) == 1
    assert len(found.pop().split()) == 2


class Tight(stub.Thumbnail):
    """A device with memory for 8 images; or one that runs out in its fifth batch, once."""

    fifth_only = False
    batches = 0

    def run(self, pixels: np.ndarray) -> np.ndarray:
        Tight.batches += 1
        if Tight.batches == 5 if self.fifth_only else self.batch_size > 8:
            raise errors.OutOfMemoryError("no memory (injected)")
        return super().run(pixels)


@pytest.mark.parametrize("fifth_only", [False, True])
def test_t22_out_of_memory_halves_the_batch(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    note: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    fifth_only: bool,
) -> None:
    monkeypatch.setattr(Tight, "fifth_only", fifth_only)
    monkeypatch.setattr(Tight, "batches", 0)
    sizes: list[int] = []

    def start(backbone: Any, batch_size: int | None, *_: Any) -> Any:
        sizes.append(batch_size or 128)
        return Tight(sizes[-1])

    monkeypatch.setattr(runtimes, "start", start)
    drawn = stub.pixels(700, seed=18)
    settings = Settings(block=64)
    features = stub.extract(drawn, tmp_path / "cache", "auto", settings=settings)
    np.testing.assert_array_equal(features.X, stub.rows(drawn))
    assert features.report is not None
    assert features.report.computed == 700
    note(f"T22 ({'fifth batch only' if fifth_only else 'over 8'})", batch_sizes=sizes)
    if fifth_only:
        assert sizes == [128, 64]
        kept = oracle.shards(tmp_path / "cache")
        # Of the probe images, once for each size; of 128 before, of 64 after.
        assert len(kept) == 2 + 4 + 3
    else:
        assert sizes == [128, 64, 32, 16, 8]
        calm = stub.extract(drawn, tmp_path / "calm", stub.Thumbnail(8), settings=settings)
        np.testing.assert_array_equal(features.X, calm.X)
        ours, theirs = oracle.shards(tmp_path / "cache"), oracle.shards(tmp_path / "calm")
        assert ours.keys() == theirs.keys()
    assert "no memory for 128 images at a time; going on with 64" in caplog.text


def test_t22_the_users_own_runtime_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(errors.OutOfMemoryError):
        stub.extract(stub.pixels(20, seed=1), tmp_path / "cache", Tight(16))


def test_t22_it_gives_up_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Full(stub.Thumbnail):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            raise errors.OutOfMemoryError("no memory (injected)")

    def start(backbone: Any, batch_size: int | None, *_: Any) -> Any:
        sizes.append(batch_size or 1024)
        return Full(sizes[-1])

    monkeypatch.setattr(runtimes, "start", start)
    with pytest.raises(errors.OutOfMemoryError):
        featx.extract(stub.pixels(4, seed=1), stub.BACKBONE, cache=tmp_path / "c", progress=False)
    assert sizes == [1024, 512, 256, 128, 64, 32, 16]


class Endless:
    """Images that are drawn when they are asked for; the memory in use is noted on the way."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.resident: list[tuple[int, int]] = []
        self._page = os.sysconf("SC_PAGE_SIZE")

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Item:
        if i >= self.n:
            raise IndexError(i)
        self.note(i)
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[:8, :8] = np.frombuffer(np.random.default_rng(i).bytes(192), np.uint8).reshape(
            8, 8, 3
        )
        pixels[0, 0, 0] = 255
        return Item(str(i), "a", pixels)

    def note(self, i: int) -> None:
        if i % 1000 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.resident.append((i, pages * self._page))

    def write(self, folder: Path) -> None:
        """Make files of the images."""
        folder.mkdir()
        for item in self:
            Image.fromarray(item.source).save(folder / f"{item.id}.bmp")

    def watch(self) -> None:
        """Note the memory in use as the images of a scan are entered into its ledger."""
        from featx.extraction import scan

        enter = scan.Ledger.enter

        def watched(ledger: scan.Ledger, *args: Any) -> None:
            self.note(ledger.total)
            enter(ledger, *args)

        scan.Ledger.enter = watched  # type: ignore[method-assign, assignment]


MEMORY = """
import json, sys
from pathlib import Path
import numpy as np
from featx import Dataset
from tests.promises import stub
from tests.promises.test_network import Endless
images = Endless(int(sys.argv[2]))
if len(sys.argv) > 3:
    images.write(Path(sys.argv[3]))
    images.resident.clear()
    images.watch()
    stub.extract(Path(sys.argv[3]), Path(sys.argv[1]))
else:
    stub.extract(Dataset(images), Path(sys.argv[1]))
print(json.dumps(images.resident))
"""


@pytest.mark.parametrize("source", ["drawn", "files"])
def test_t23_memory_does_not_grow_with_the_dataset(
    tmp_path: Path, scale: Callable[[int, int], int], note: Callable[..., None], source: str
) -> None:
    if source == "files" and not scale(0, 1):
        pytest.skip("in the long form only: FEATX_PROMISES=long")
    n = scale(20_000, 200_000)
    folder = [str(tmp_path / "images")] if source == "files" else []
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "cache"), str(n), *folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    resident = np.array(json.loads(answer.stdout))
    late = resident[resident[:, 0] >= n // 4]
    slope = float(np.polyfit(late[:, 0], late[:, 1], 1)[0])
    peak = int(resident[:, 1].max() / 1e6)
    note(f"T23 ({source})", images=n, bytes_per_image=round(slope), peak_MB=peak)
    assert slope < 500


@pytest.mark.weights
def test_t3_kills_with_the_real_network(
    tmp_path: Path, rng: Any, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    """10 kills of MobileNetV2 on 512 real images; each start of TensorFlow takes seconds."""
    if not scale(0, 1):
        pytest.skip("in the long form only: FEATX_PROMISES=long")
    train = SHARED / "datasets" / "flowers" / "train"
    if not train.is_dir():
        pytest.skip(f"no real images at {train}")
    files = sorted(map(str, train.rglob("*.jpg")))[:512]
    script = (
        "import hashlib, sys\n"
        "from featx.extraction.api import extract_with\n"
        "from featx.extraction.settings import Settings\n"
        "features = extract_with(\n"
        "    Settings(block=64), sys.argv[2:], 'mobilenet_v2', cache=sys.argv[1], progress=False)\n"
        "print(hashlib.sha256(features.X.tobytes()).hexdigest())\n"
    )

    def start(cache: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script, str(cache), *files],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    began = time.monotonic()
    calm = start(tmp_path / "calm")
    expected, seconds = calm.communicate(timeout=600)[0], time.monotonic() - began
    kills = rounds = identical = 0
    while kills < 10:
        cache = tmp_path / f"cache{rounds}"
        for _ in range(4):
            process = start(cache)
            try:
                process.wait(rng.uniform(0.3, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.communicate()
        result = start(cache).communicate(timeout=600)[0]
        shards_same = oracle.shards(cache) == oracle.shards(tmp_path / "calm")
        identical += result == expected and shards_same
        rounds += 1
    note("T3", images=len(files), kills=kills, runs=rounds, identical=identical)
    assert identical == rounds
