"""T40 and T41: what decoding an image may take is bounded, whatever its file says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx.errors import ImageLimitError, ImageMemoryError
from featx.images import worker
from tests.promises import images as made
from tests.promises import stub
from tests.promises.hostile_images import HOSTILE, flat
from tests.promises.isolated import Reader

ROOT = Path(__file__).resolve().parents[2]
FILES = [(kind, name) for kind, files in HOSTILE.items() for name in files]
# Not the image's: starting the process that decodes it, and the forms that Python makes of a file.
START_SECONDS, START_MEGABYTES = 4, 400


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as running:
        yield running


@pytest.mark.parametrize(("kind", "name"), FILES, ids=[name for _, name in FILES])
def test_t36_an_image_takes_no_more_than_one_of_its_size_may(
    kind: str, name: str, reader: Reader, tmp_path: Path, note: Callable[..., None]
) -> None:
    hostile = HOSTILE[kind][name]
    (tmp_path / name).write_bytes(hostile.make())
    found = reader.read(tmp_path / name)
    assert found["outcome"] in hostile.outcomes, found["reason"]
    # Twice: what looks damaged is decoded once more.
    seconds = worker.SECONDS + worker.SECONDS_A_MEGAPIXEL * hostile.megapixels
    assert found["seconds"] < 2 * seconds + START_SECONDS
    megabytes = worker.MEGABYTES + worker.MEGABYTES_A_MEGAPIXEL * hostile.megapixels
    assert found["rss_mb"] < 2 * megabytes + START_MEGABYTES
    note(
        f"T40 ({kind}: {name})", outcome=found["outcome"], seconds=round(found["seconds"], 2),
        rss_mb=round(found["rss_mb"]),
    )  # fmt: skip


def digests(cache: Path) -> int:
    """Return how many images the shards of a cache know."""
    found = 0
    for path in cache.glob("k-*/shards/*.h5"):
        with h5py.File(path) as file:
            found += len(file["sha256"])
    return found


def test_t36_its_neighbours_go_on_and_nothing_is_kept_of_it(tmp_path: Path) -> None:
    rows = stub.draw(tmp_path / "d", 40, seed=36)
    for kind, name in (
        ("runs of a BMP", "going nowhere.bmp"),
        ("EXIF", "30 million numbers.tif"),
        ("EXIF", "4,000 blocks of 4 kB.jpg"),
    ):
        (tmp_path / "d" / "a" / f"000003 {name}").write_bytes(HOSTILE[kind][name].make())
    for _ in range(2):  # from the cache, too
        features = stub.extract(tmp_path / "d", tmp_path / "c", on_error="skip")
        np.testing.assert_array_equal(features.X, rows)
        assert [failure.id.split()[0] for failure in features.failures] == ["a/000003"] * 3
        kinds = {failure.error for failure in features.failures}
        assert kinds == {ImageLimitError.__name__, ImageMemoryError.__name__}
    assert digests(tmp_path / "c") == 40 + 2  # and the two images that probe an environment


SHORT = """
import resource, sys
from pathlib import Path
from tests.promises import stub
stub.extract(Path(sys.argv[2]), Path(sys.argv[1]) / "w")  # what is loaded once is loaded now
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + 250_000_000, hard))
features = stub.extract(Path(sys.argv[1]) / "d", Path(sys.argv[1]) / "c", on_error="skip")
print(len(features), *[failure.error for failure in features.failures])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS is Linux's")
def test_t37_an_image_that_does_not_fit_is_named_and_the_run_goes_on(
    tmp_path: Path, note: Callable[..., None]
) -> None:
    """Of 100 bytes, it asks for hundreds of megabytes."""
    stub.draw(tmp_path / "d", 2000, seed=37)
    stub.draw(tmp_path / "warm", 4, seed=1)
    (tmp_path / "d" / "a" / "declared.png").write_bytes(made.declared_png(9400, 9400))
    (tmp_path / "d" / "b" / "flat.webp").write_bytes(flat(9400, 9400))
    done = subprocess.run(
        [sys.executable, "-c", SHORT, tmp_path, tmp_path / "warm"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    count, *errors = done.stdout.split()
    assert int(count) == 2000
    assert errors == [ImageMemoryError.__name__] * 2
    note("T41", images=2002, embeddings=int(count), named=len(errors))
