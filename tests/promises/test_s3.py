"""The real client against a server on loopback that speaks like S3, from extracting to gc.

Its conditional put is not atomic, so who wins a race is not asked here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featx.cli.app import app
from featx.storage import services
from tests.promises import store_life

pytest.importorskip("obstore")
server = pytest.importorskip("moto.server")
models = pytest.importorskip("moto.s3.models")
boto3 = pytest.importorskip("boto3")

KEYS = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY")
CACHE = "s3://bucket/some/prefix"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make a new bucket, and return the folder of what this machine has of it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS[1])
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    if "bucket" in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        boto3.resource("s3", endpoint_url=endpoint).Bucket("bucket").objects.all().delete()
    else:
        client.create_bucket(Bucket="bucket")
    return tmp_path / "xdg"


def test_a_cache_on_s3_from_extracting_to_gc(bucket: Path, tmp_path: Path) -> None:
    store_life.check_cache(CACHE, tmp_path, bucket, KEYS)


def test_the_doctor_tries_a_bucket_and_leaves_nothing(bucket: Path) -> None:
    # The server's conditional put is not atomic.
    store_life.check_doctor(
        CACHE, ("write", "put if absent", "put if unchanged", "listing", "delete")
    )


def test_a_listing_has_all_of_more_than_a_thousand_objects(bucket: Path) -> None:
    storage = services.connect(CACHE)
    names = [f"{number:04d}" for number in range(1101)]
    (service,) = (each["aws"] for each in models.s3_backends.values())
    for name in names:  # within the server: 1,101 requests would take 10 s of a processor
        service.put_object("bucket", f"some/prefix/k/shards/{name}", b"")
    stats = storage.stats("k/shards", "k/quarantine")
    assert sorted(stats) == names
    assert stats["1100"] == storage.stat("k/shards/1100")


def test_other_objects_under_the_prefix_are_left_alone(bucket: Path) -> None:
    services.connect("s3://bucket/some").publish("prefix/mine", b"data")
    for arguments in (["cache", "ls"], ["cache", "gc", "--yes"], ["cache", "verify"]):
        answer = CliRunner().invoke(app, [*arguments, "--cache", CACHE])
        assert answer.exit_code == 1
        assert "is not a featx cache" in answer.output
    from featx.cache.location import find_cache
    from featx.errors import CacheError

    with pytest.raises(CacheError, match="holds other objects"):
        find_cache(CACHE)
    assert [name for name, _ in services.connect(CACHE).walk("")] == ["mine"]


def test_a_bucket_that_is_not_there_is_said(bucket: Path) -> None:
    answer = CliRunner().invoke(app, ["cache", "ls", "--cache", "s3://absent/prefix"])
    assert answer.exit_code == 1
    assert "no such bucket" in answer.output, answer.output
