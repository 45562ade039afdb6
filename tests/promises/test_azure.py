"""The real client against Azurite, which Microsoft makes to emulate Azure's storage."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featx.cli.app import app
from featx.datasets.buckets import BucketImage
from featx.datasets.dataset import as_dataset
from featx.errors import CacheError
from featx.storage import services
from tests.promises import store_life

pytest.importorskip("obstore")
AZURITE = shutil.which("azurite-blob")
pytestmark = pytest.mark.skipif(
    AZURITE is None, reason="needs azurite-blob on the PATH: npm install azurite"
)

# The account that every Azurite has, published in its documentation.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CACHE = "az://container/some/prefix"
TRIED = ("write", "put if absent", "race", "put if unchanged", "listing", "delete")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    words = [AZURITE, "--blobPort", number, "--location", tmp_path_factory.mktemp("azurite")]
    options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    process = subprocess.Popen([*map(str, words), *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                _make_container(number)
                break
            except OSError:
                assert process.poll() is None, "azurite ended"
                time.sleep(0.1)
        yield number
    finally:
        process.terminate()
        process.wait(60)


def _make_container(port: int) -> None:
    """Ask for a container, signed with the shared key; obstore has no call for it."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    path = f"/{ACCOUNT}/container"
    named = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + 12 * "\n" + f"{named}/{ACCOUNT}{path}\nrestype:container"
    signed = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("PUT", f"{path}?restype=container", headers=headers)
    response = connection.getresponse()
    assert response.status == 201, response.read()
    connection.close()


@pytest.fixture
def here(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Name the emulator in the environment; return the folder of what this machine has of it."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{port}/{ACCOUNT}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg"


def test_a_cache_on_azure_from_extracting_to_gc(here: Path, tmp_path: Path) -> None:
    store_life.check_cache(CACHE, tmp_path, here, [KEY])


def test_the_doctor_tries_a_container_and_leaves_nothing(here: Path) -> None:
    store_life.check_doctor("az://container/other", TRIED)


def test_an_unchanged_image_is_known_by_its_listing(here: Path) -> None:
    """Listings of Azure give ETags without quotes, everything else with them."""
    obstore = pytest.importorskip("obstore")
    client, _ = services.client_at("az://container/photos", CacheError)
    obstore.put(client, "cat/1.png", b"content")
    (item,) = as_dataset("az://container/photos").items
    image = item.source
    assert isinstance(image, BucketImage)
    content, read = image.read(100)
    assert content == b"content"
    assert image.listed_version() == read is not None
    obstore.put(client, "cat/1.png", b"another")
    assert image.read(100)[1] != read


def test_a_container_that_is_not_there_is_said(here: Path) -> None:
    answer = CliRunner().invoke(app, ["cache", "ls", "--cache", "az://absent/prefix"])
    assert answer.exit_code == 1
    assert "no such bucket" in answer.output, answer.output
