"""Images in a bucket: the same as in the folder, and what is unchanged is not fetched again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import featx
from featx.datasets import buckets
from featx.datasets.dataset import as_dataset
from featx.errors import DatasetError
from featx.images import decoding
from tests.conftest import draw_folder
from tests.fakes import TINY, CountingRuntime


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "pets", 3)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("obstore")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield url
    server.stop()


@pytest.fixture
def bucket(endpoint: str, folder: Path) -> str:
    import urllib.request

    import obstore
    from obstore.store import from_url

    made = urllib.request.Request(f"{endpoint}/photos", method="PUT")
    urllib.request.urlopen(made).close()
    client = from_url("s3://photos/pets")
    for path in folder.rglob("*.png"):
        obstore.put(client, path.relative_to(folder).as_posix(), path.read_bytes())
    return "s3://photos/pets"


def test_a_bucket_gives_what_the_folder_gives(
    bucket: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = CountingRuntime()
    options = {"cache": tmp_path / "c", "progress": False, "runtime": runtime}
    expected = featx.extract(folder, TINY, **options)
    seen = runtime.seen
    found = featx.extract(bucket, TINY, **options)
    assert runtime.seen == seen
    assert found.ids == expected.ids
    assert found.y.tolist() == expected.y.tolist()
    assert np.array_equal(found.X, expected.X)
    fetched = []
    really = buckets.BucketImage.read

    def count(self: buckets.BucketImage, most: int) -> object:
        fetched.append(self.path)
        return really(self, most)

    monkeypatch.setattr(buckets.BucketImage, "read", count)
    featx.extract(bucket, TINY, **options)
    assert not fetched
    import obstore
    from obstore.store import from_url

    other = (folder / "red" / "00.png").read_bytes()
    obstore.put(from_url(bucket), "blue/00.png", other)
    turned = featx.extract(bucket, TINY, **options)
    assert fetched == ["blue/00.png"]
    assert np.array_equal(turned.X[0], expected.X[6])


def test_a_bucket_that_is_not_there_or_empty(endpoint: str, bucket: str) -> None:
    with pytest.raises(DatasetError, match=r"s3://none cannot be listed"):
        as_dataset("s3://none")
    with pytest.raises(DatasetError, match="nothing below s3://photos/dogs"):
        as_dataset("s3://photos/dogs")
    with pytest.raises(DatasetError, match="credentials belong"):
        as_dataset("s3://key:secret@photos/pets")


def test_limits_and_objects_that_went(bucket: str) -> None:
    import obstore
    from obstore.store import from_url

    item = as_dataset(bucket)[0]
    with pytest.raises(featx.errors.ImageTooLargeError):
        item.source.read(10)
    obstore.delete(from_url(bucket), "blue/00.png")
    with pytest.raises(featx.errors.ImageReadError, match="cannot be fetched"):
        decoding.content_of(item.source)


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(DatasetError, match=r"pip install 'featx\[cloud\]'"):
        as_dataset("s3://bucket/photos")
