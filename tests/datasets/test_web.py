"""Images and archives at addresses, from a server of this machine, and what is not followed."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featx
from featx.classifier import predictions
from featx.datasets import web
from featx.datasets.dataset import as_dataset
from featx.errors import BadImagesError, DatasetError, ImageError
from featx.images import decoding
from tests.conftest import draw_folder
from tests.fakes import TINY, CountingRuntime
from tests.promises import images as made


class Server(ThreadingHTTPServer):
    """Serves bytes by path, with ETags and ranges, and notes what is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.tags, self.ranges, self.encoding, self.lies = True, True, "", 0
        self.failing = 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:  # noqa: N802
        self.answer(False)

    def do_GET(self) -> None:  # noqa: N802
        self.answer(True)

    def answer(self, body: bool) -> None:
        server, path = self.server, self.path.split("?")[0]
        span = self.headers.get("Range", "")
        server.asked.append((self.command, path, span))
        if path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, content = 200, server.files.get(path)
        if server.failing:
            server.failing -= 1
            status, content = 503, b""
        elif content is None:
            status, content = 404, b"no"
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        if span and server.ranges and status == 200:
            first, last = map(int, span.removeprefix("bytes=").split("-"))
            status, content = 206, content[first : last + 1]
        self.send_response(status)
        if server.tags:
            self.send_header("ETag", tag)
        if server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if server.encoding:
            self.send_header("Content-Encoding", server.encoding)
        self.send_header("Content-Length", str(len(content) + server.lies))
        if server.lies:
            self.close_connection = True
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(web.PRIVATE, "127.0.0.1")
    made_ = Server()
    thread = threading.Thread(target=made_.serve_forever, args=(0.01,))
    thread.start()
    yield made_
    made_.shutdown()
    thread.join()
    made_.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "pets", 3)


def table(server: Server, folder: Path, tmp_path: Path) -> Path:
    """Serve the images of a folder, and write a table of their addresses."""
    images = sorted(folder.rglob("*.png"))
    for path in images:
        server.files[f"/{path.parent.name}/{path.name}"] = path.read_bytes()
    frame = {
        "path": [f"{server.url}/{path.parent.name}/{path.name}" for path in images],
        "label": [path.parent.name for path in images],
    }
    pd.DataFrame(frame).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_a_table_of_addresses_gives_what_the_folder_gives(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    runtime = CountingRuntime()
    options = {"cache": tmp_path / "c", "progress": False, "runtime": runtime}
    expected = featx.extract(folder, TINY, **options)
    seen = runtime.seen
    path = table(server, folder, tmp_path)
    found = featx.extract(path, TINY, **options)
    assert runtime.seen == seen
    assert np.array_equal(found.X, expected.X)
    assert found.y.tolist() == expected.y.tolist()
    assert found.ids[0] == f"{server.url}/blue/00.png"
    # The second time the server is asked whether they changed, and sends none.
    server.asked.clear()
    again = featx.extract(path, TINY, **options)
    assert {method for method, _, _ in server.asked} == {"HEAD"}
    assert np.array_equal(again.X, expected.X)
    # One that changed is sent again.
    server.files["/blue/00.png"] = server.files["/blue/01.png"]
    server.asked.clear()
    turned = featx.extract(path, TINY, **options)
    assert [path for method, path, _ in server.asked if method == "GET"] == ["/blue/00.png"]
    assert np.array_equal(turned.X[0], expected.X[1])


def test_without_etags_they_are_fetched_again(server: Server, folder: Path, tmp_path: Path) -> None:
    server.tags = False
    path = table(server, folder, tmp_path)
    for _ in range(2):
        server.asked.clear()
        featx.extract(path, TINY, cache=tmp_path / "c", runtime=CountingRuntime(), progress=False)
        assert sum(method == "GET" for method, _, _ in server.asked) == 9


@pytest.mark.parametrize("ranges", [True, False])
def test_an_archive_at_an_address(
    server: Server, folder: Path, tmp_path: Path, ranges: bool
) -> None:
    server.ranges = ranges
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, f"pets/{path.relative_to(folder).as_posix()}")
    server.files["/pets.zip"] = (tmp_path / "pets.zip").read_bytes()
    options = {"cache": tmp_path / "c", "progress": False, "runtime": CountingRuntime()}
    expected = featx.extract(folder, TINY, **options)
    found = featx.extract(f"{server.url}/pets.zip", TINY, **options)
    assert np.array_equal(found.X, expected.X)
    assert found.ids == expected.ids
    gets = [span for method, _, span in server.asked if method == "GET" and not span]
    assert len(gets) == 1  # it was fetched once, as a whole
    server.asked.clear()
    featx.extract(f"{server.url}/pets.zip", TINY, **options)
    whole = [span for method, _, span in server.asked if method == "GET" and not span]
    assert len(whole) == (0 if ranges else 1)  # its directory is enough
    within = as_dataset(f"{server.url}/pets.zip/pets/blue")
    assert within.ids == ["00.png", "01.png", "02.png"]


def test_a_compressed_tar_at_an_address(server: Server, folder: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as archive:
        archive.add(folder, "pets")
    server.files["/d/pets.tar.gz"] = (tmp_path / "pets.tar.gz").read_bytes()
    found = as_dataset(f"{server.url}/d/pets.tar.gz?signature=secret")
    assert found.labels.tolist() == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3
    assert "secret" not in repr(found)
    assert decoding.content_of(found[0].source) == (folder / "blue" / "00.png").read_bytes()


def test_private_addresses_in_a_table(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(server, folder, tmp_path)
    monkeypatch.delenv(web.PRIVATE)
    server.asked.clear()
    with pytest.raises(BadImagesError, match=r"FEATX_PRIVATE_HOSTS=127\.0\.0\.1") as raised:
        featx.extract(path, TINY, cache=tmp_path / "c", runtime=CountingRuntime(), progress=False)
    assert len(raised.value.failures) == 9
    assert not server.asked
    # Whoever types an address may mean this machine.
    server.files["/a.zip"] = b""
    with pytest.raises(DatasetError, match="no zip file"):
        as_dataset(f"{server.url}/a.zip")
    assert server.asked


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]",
        "[fe80::1]", "[64:ff9b::7f00:1]", "0.0.0.0", "100.64.0.1", "[2002:7f00:1::]",
    ],
)  # fmt: skip
def test_hosts_that_a_list_may_not_lead_to(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(web.PRIVATE, raising=False)
    item = as_dataset([f"http://{host}/1.png"])[0]
    with pytest.raises(ImageError, match="own network"):
        decoding.content_of(item.source)


def test_a_name_that_leads_to_a_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(web.PRIVATE, raising=False)
    found = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("192.168.1.1", 80))]
    monkeypatch.setattr(web.socket, "getaddrinfo", lambda *asked, **more: found)
    item = as_dataset(["http://images.example/1.png"])[0]
    with pytest.raises(ImageError, match=r"images\.example is an address of this machine or its"):
        decoding.content_of(item.source)


def test_redirects(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/1.png"] = made.png()
    server.redirects = {
        "/a": "/b", "/b": "/1.png", "/loop": "/loop", "/file": "file:///etc/passwd",
        "/metadata": "http://169.254.169.254/latest", "/ftp": "ftp://127.0.0.1/x",
    }  # fmt: skip

    def content(path: str) -> object:
        return decoding.content_of(as_dataset([f"{server.url}{path}"])[0].source)

    assert content("/a") == made.png()
    for path, reason in (
        ("/loop", "redirect"),
        ("/file", "file:"),
        ("/metadata", "own network"),
        ("/ftp", "ftp:"),
    ):
        with pytest.raises(ImageError, match=reason):
            content(path)


def test_limits_of_bytes_and_lies_about_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/1.png"] = made.png()
    source = as_dataset([f"{server.url}/1.png"])[0].source
    with pytest.raises(ImageError, match="more than 10 bytes"):
        source.read(10)
    monkeypatch.setattr(web, "_TRIES", 1)
    server.lies = 5
    with pytest.raises(ImageError, match="bytes were sent"):
        source.read(10**6)
    server.lies, server.encoding = 0, "gzip"
    with pytest.raises(ImageError, match="compressed"):
        source.read(10**6)


def test_a_server_that_fails_for_a_moment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.time, "sleep", lambda seconds: None)
    server.files["/1.png"] = made.png()
    server.failing = 2
    item = as_dataset([f"{server.url}/1.png", f"{server.url}/2.png"])
    assert decoding.content_of(item[0].source) == made.png()
    with pytest.raises(ImageError, match="404"):
        decoding.content_of(item[1].source)
    server.failing = 3
    with pytest.raises(ImageError, match="503"):
        decoding.content_of(item[0].source)


def test_schemes_that_are_not_followed(tmp_path: Path) -> None:
    for address in ("ftp://host/1.png", "file:///etc/passwd", "gopher://host/1"):
        with pytest.raises(DatasetError, match="is not followed"):
            as_dataset([address])
        with pytest.raises(DatasetError, match="is not followed"):
            as_dataset(address)
    with pytest.raises(DatasetError, match="a single file or a page"):
        as_dataset("https://host/gallery.html")
    with pytest.raises(DatasetError, match="made a path"):
        as_dataset(Path("https://host/a.zip"))
    with pytest.raises(DatasetError, match="fetch it to this machine first"):
        as_dataset("https://host/table.csv")


def test_what_signs_an_address_is_written_nowhere(server: Server) -> None:
    server.files["/1.png"] = made.png()
    item = as_dataset([f"{server.url}/1.png?id=7&X-Amz-Signature=abc&Expires=9"])[0]
    assert item.id == f"{server.url}/1.png?id=7"
    assert item.source.address == item.id
    with pytest.raises(ImageError, match="password"):
        decoding.content_of(as_dataset(["http://user:secret@127.0.0.1/1.png"])[0].source)


def test_predict_takes_an_address(server: Server) -> None:
    server.files["/1.png"] = made.png()
    found = predictions.images_of([f"{server.url}/1.png"])
    assert found.ids == [f"{server.url}/1.png"]
    assert decoding.content_of(found[0].source) == made.png()
