"""The server, as a process of its own: answers, limits, memory, and the page in a browser."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from featx import heads
from featx.classifier.classifier import ImageClassifier, load
from featx.errors import FeatxError, HeadError
from tests.classifier.file.test_model_file import trained
from tests.conftest import draw_folder
from tests.fakes import TINY
from tests.promises import images as made
from tests.promises.hostile_images import HOSTILE, gif_with, jpeg_with, segment

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from featx.serving import create_app, run
from featx.serving.answers import _text
from featx.serving.connections import REQUEST_SECONDS

ROOT = Path(__file__).resolve().parents[2]
JPEG = "image/jpeg"
PNG = "image/png"
PPM = "image/x-portable-pixmap"


@dataclass(frozen=True)
class Server:
    port: int
    pid: int
    images: Path
    scores: dict[str, np.ndarray]
    log: Path

    def ask(
        self,
        method: str = "POST",
        path: str = "/predict",
        body: bytes = b"",
        kind: str = PNG,
        **headers: str,
    ) -> tuple[int, Any, dict[str, str]]:
        """Return the status, the answer and the headers of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method, path, body, {**({"content-type": kind} if kind else {}), **named}
        )
        response = connection.getresponse()
        text = response.read()
        connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        is_json = found.get("content-type", "").startswith("application/json")
        return response.status, json.loads(text) if is_json else text.decode(), found

    def memory(self) -> float:
        """Return the resident memory of the server in MB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("VmRSS")]
        return int(line.split()[1]) / 1024


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def asked(port: int, path: str, body: bytes | None = None) -> tuple[int, Any, dict[str, str]]:
    """Return the status, the JSON and the headers that a server answers with, once it listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, json.load(response), headers
    finally:
        connection.close()


def wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(4800):
        try:
            if asked(port, "/health")[0] == 200:
                return
        except OSError:
            assert process.poll() is None, "the server ended"
        time.sleep(0.25)
    raise TimeoutError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    images = draw_folder(folder / "images")
    model = ImageClassifier(TINY, heads.logistic(C=0.1), cache=folder / "cache").fit(images)
    model.save(folder / "m.featx")
    paths = sorted(images.rglob("*.png"))
    known = dict(zip(map(str, paths), model.predict_proba(paths), strict=True))
    port = free_port()
    words = [sys.executable, "-m", "featx", "serve", str(folder / "m.featx"), "--port", str(port)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=ENVIRONMENT)
    try:
        wait_until_healthy(process, port)
        yield Server(port, process.pid, images, known, folder / "log")
    finally:
        process.terminate()
        process.wait(120)


def test_a_head_without_probabilities_is_refused_at_the_start() -> None:
    with pytest.raises(HeadError, match="RidgeClassifier does not give.*CalibratedCl"):
        create_app(trained(RidgeClassifier()))


def test_a_class_name_that_is_not_utf8_can_be_answered() -> None:
    assert json.loads(json.dumps(_text("caf\udce9"), ensure_ascii=False).encode()) == "caf\\udce9"


def test_an_image_gets_its_classes(server: Server) -> None:
    for path in sorted(server.images.rglob("00.png")):
        status, answer, _ = server.ask(body=path.read_bytes())
        assert status == 200
        top = answer["top"]
        assert top[0]["label"] == path.parent.name
        expected = np.sort(server.scores[str(path)])[::-1]
        found = [one["probability"] for one in top]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert answer["near"][0]["label"] == path.parent.name
        assert answer["near"][0]["cosine"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("form", "kind"), [("AVIF", "image/avif"), ("JPEG2000", "image/jp2"), ("PPM", PPM)]
)
def test_other_kinds_of_images(form: str, kind: str, server: Server) -> None:
    body = made.encoded(made.pixels(), form)
    for explain in ("", "?explain=1"):
        status, answer, _ = server.ask(path=f"/predict{explain}", body=body, kind=kind)
        assert status == 200, answer


def test_a_raw_photograph_is_refused_with_what_it_is(server: Server) -> None:
    body = made.raw_photograph(made.MAKE, made.SUBIFDS)
    status, answer, _ = server.ask(body=body, kind="application/octet-stream")
    assert status == 422
    assert "a RAW photograph" in answer["error"]


def test_explained(server: Server) -> None:
    content = (server.images / "red" / "01.png").read_bytes()
    status, answer, _ = server.ask(path="/predict?explain=1", body=content)
    assert status == 200
    assert answer["activation"].startswith("data:image/jpeg;base64,")
    assert all(one["image"].startswith("data:image/jpeg;base64,") for one in answer["near"])


def form_of(*images: bytes) -> tuple[bytes, str]:
    """Return a form of these files and a field, and its content-type, as curl -F sends it."""
    head = b'--b\r\ncontent-disposition: form-data; name="note"\r\n\r\n"filename=" no file\r\n'
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="%d.png"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n" % (n, image)
        for n, image in enumerate(images)
    ]
    return head + b"".join(parts) + b"--b--\r\n", 'multipart/form-data; boundary="b"'


def test_the_content_decides_and_not_its_type(server: Server) -> None:
    content = (server.images / "red" / "02.png").read_bytes()
    body, form = form_of(content)
    asked = [(content, kind) for kind in (JPEG, "text/plain", "application/json", "")]
    found = [server.ask(body=body, kind=kind) for body, kind in [*asked, (body, form)]]
    assert [status for status, _, _ in found] == [200] * 5
    assert len({json.dumps(answer) for _, answer, _ in found}) == 1
    assert found[0][1]["top"][0]["label"] == "red"


def test_a_form_of_several_images_is_answered_in_order(server: Server) -> None:
    contents = [(server.images / name / "03.png").read_bytes() for name in ("red", "blue")]
    body, form = form_of(contents[0], b"no image", contents[1])
    status, answer, _ = server.ask(body=body, kind=form)
    assert status == 200
    red, bad, blue = answer["images"]
    assert (red["top"][0]["label"], blue["top"][0]["label"]) == ("red", "blue")
    assert "cannot be used" in bad["error"]
    status, answer, _ = server.ask(body=body, kind=form, path="/predict?explain=1")
    assert (status, answer["error"]) == (400, "explain=1 is for one image; the form has 3")
    body, form = form_of(*[b"x"] * 33)
    status, answer, _ = server.ask(body=body, kind=form)
    assert (status, answer["error"]) == (400, "a form may have at most 32 images")


def test_health_metrics_and_description(server: Server) -> None:
    def count(name: str) -> float:
        text = server.ask("GET", "/metrics")[1]
        found = [line.split()[-1] for line in text.splitlines() if line.startswith(name)]
        return float(found[0]) if found else 0.0

    assert server.ask("GET", "/health")[1] == {"status": "ok"}
    before = count("featx_images_total"), count('featx_requests_total{status="422"}')
    server.ask(body=(server.images / "red" / "04.png").read_bytes())
    server.ask(body=b"no image")
    after = count("featx_images_total"), count('featx_requests_total{status="422"}')
    assert after == (before[0] + 1, before[1] + 1)
    assert count("featx_answer_seconds_total") > 0
    described = server.ask("GET", "/openapi.json")[1]
    assert described["info"]["title"] == "featx: m"
    for path, ways in described["paths"].items():
        for way in ways:
            assert server.ask(way.upper(), path)[0] not in {404, 405}


def test_metadata_and_pages(server: Server) -> None:
    status, answer, _ = server.ask("GET", "/metadata")
    assert (status, answer["classes"]) == (200, ["blue", "green", "red"])
    assert answer["name"] == "m"
    for path in ("/", "/api", "/page.js", "/api.js", "/page.css"):
        status, _, headers = server.ask("GET", path)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def bomb() -> bytes:
    """Return a PNG of 69 bytes that claims 20,000 x 20,000 pixels."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty": ({"body": b""}, 422, "the file is empty"),
    "text": ({"body": b"GIF89 no, text"}, 422, "cannot be used"),
    "a page": ({"body": b"<script>alert(1)</script>"}, 422, "cannot be used"),
    "cut": ({"body": b"\xff\xd8\xff\xe0" + bytes(50), "kind": JPEG}, 422, "cannot be used"),
    "too many pixels": ({"body": bomb()}, 422, "pixels"),
    "eps": ({"body": b"%!PS-Adobe-3.0 EPSF-3.0\n"}, 422, "cannot be used"),
    "of another type": ({"body": b"{}", "kind": "application/json"}, 422, "cannot be used"),
    "an empty form": ({"body": b"x", "kind": "multipart/form-data; boundary=x"}, 400, "no file"),
    "without boundary": ({"body": b"x", "kind": "multipart/form-data"}, 400, "boundary"),
    "from a page elsewhere": ({"body": b"x", "sec_fetch_site": "cross-site"}, 403, "own page"),
    "too large by its header": ({"content_length": str(1 << 40)}, 413, "16,777,216 bytes"),
    "of negative length": ({"content_length": "-5"}, 400, ""),
    "of another name": ({"body": b"x", "host": "evil.example"}, 400, ""),
    "a misspelt wish": (
        {"body": b"x", "path": "/predict?explian=1"},
        400,
        "?explian=1 is not known: expected explain=1, or none",
    ),
    "a wish of another value": (
        {"body": b"x", "path": "/predict?explain=yes"},
        400,
        "?explain=yes is not known",
    ),
    "by another way": ({"method": "DELETE"}, 405, "Method Not Allowed"),
    "outside": ({"method": "GET", "path": "/../../etc/passwd"}, 404, "Not Found"),
    "encoded outside": ({"method": "GET", "path": "/..%2f..%2fetc%2fpasswd"}, 404, "Not Found"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, server: Server) -> None:
    request, expected, words = REFUSED[name]
    status, answer, _ = server.ask(**request)
    assert status == expected, answer
    assert words in str(answer)
    text = json.dumps(answer)
    assert str(ROOT) not in text
    assert str(server.images.parent) not in text


def test_too_large_without_a_header_is_cut_off(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    parts = (bytes(1 << 20) for _ in range(17))
    try:
        connection.request("POST", "/predict", parts, {"content-type": PNG}, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        status = 413  # the server answered and hung up before all was sent
    connection.close()
    assert status == 413


def test_200_requests_with_hostile_ones_among_them_leave_memory_flat(server: Server) -> None:
    paths = sorted(server.images.rglob("*.png"))
    contents = {path: path.read_bytes() for path in paths}

    def one(number: int) -> tuple[int, int, bool]:
        if number % 5 == 4:
            name = list(REFUSED)[number // 5 % 5]
            request, expected, _ = REFUSED[name]
            return expected, server.ask(**request)[0], True
        path = paths[number % len(paths)]
        status, answer, _ = server.ask(body=contents[path])
        return 200, status, answer["top"][0]["label"] == path.parent.name

    with ThreadPoolExecutor(4) as pool:
        assert all(a == b and right for a, b, right in pool.map(one, range(50)))
        before = server.memory()
        assert all(a == b and right for a, b, right in pool.map(one, range(200)))
    assert server.memory() - before < 30, "MB that 200 requests left"


DROP = """(base64) => {
  const text = atob(base64);
  const data = new DataTransfer();
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  data.items.add(new File([bytes], "x.png", {type: "image/png"}));
  return data;
}"""


def test_silent_connections_shut_nobody_out(server: Server) -> None:
    """Forty of them once did, for as long as they liked; single bytes are silence, too."""
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for connection in silent[::2]:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
    began = time.monotonic()
    try:
        content = next(server.images.rglob("*.png")).read_bytes()
        assert server.ask(body=content)[0] == 200
        while silent and time.monotonic() < began + 5 * REQUEST_SECONDS:
            for connection in list(silent):
                connection.settimeout(0.01)
                try:
                    connection.sendall(b"X")
                    closed = connection.recv(1) == b""
                except TimeoutError:
                    continue
                except OSError:
                    closed = True
                if closed:
                    connection.close()
                    silent.remove(connection)
            time.sleep(0.2)
        assert not silent
    finally:
        for connection in silent:
            connection.close()


SLOW = ("EXIF", "4,000 blocks of 4 kB.jpg")
# Images that hold a decoder up or take gigabytes, small enough to be posted.
POSTED = [
    SLOW,
    ("tiles and strips", "the same tile 20 times.tif"),
    ("markers of a JPEG", "short.jpg"),
    ("parts without end", "short.gif"),
]


def posted(kind: str, name: str) -> bytes:
    if name == "short.jpg":  # a comment, and then 16 MB that are no marker
        return jpeg_with(segment(0xFE, b""), bytes(16_000_000))
    if name == "short.gif":
        return gif_with(b"\1x" * 8_000_000)
    return HOSTILE[kind][name].make()


@pytest.mark.parametrize(("kind", "name"), POSTED)
def test_t42_a_hostile_image_is_answered_and_holds_up_nobody(
    kind: str, name: str, server: Server
) -> None:
    good = next(server.images.rglob("*.png")).read_bytes()
    with ThreadPoolExecutor(2) as pool:
        hostile = [
            pool.submit(server.ask, body=posted(kind, name), kind="application/octet-stream")
            for _ in range(2)
        ]
        assert server.ask(body=good)[0] == 200
        for one in hostile:
            status, answer, _ = one.result()
            # 200: a good image, where the machine is fast enough; 503: a busy machine.
            assert status in (200, 422, 503), answer
            if status != 200:
                said = "this image cannot be used: " if status == 422 else "no answer within 30 s"
                assert said in answer["error"]
    assert server.ask(body=good)[0] == 200


HOLD = """
import sys, time
from featx.cli.app import main
from featx.serving import answers
load = answers.decoding.load
def held(content, *args, **options):  # as what is not known to hold a decoder
    if content == b"abc":
        time.sleep(3600)
    return load(content, *args, **options)
answers.decoding.load = held
sys.argv = ["featx", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("sign", "body"),
    [(signal.SIGTERM, b"abc"), (signal.SIGTERM, None), (signal.SIGINT, b"abc")],
    ids=["SIGTERM, held", "SIGTERM, slow image", "SIGINT, held"],
)
def test_t42_a_signal_ends_it_whatever_it_does(
    sign: signal.Signals, body: bytes | None, server: Server
) -> None:
    body = body or posted(*SLOW)
    port = free_port()
    model = server.log.parent / "m.featx"
    words = [sys.executable, "-c", HOLD, "serve", str(model), "--port", str(port)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    try:
        wait_until_healthy(process, port)
        with socket.create_connection(("127.0.0.1", port)) as asking:
            head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            asking.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(1)
            began = time.monotonic()
            process.send_signal(sign)
            process.wait(60)
            assert time.monotonic() < began + 30
    finally:
        process.kill()
        process.wait()


# The model loads when the file that FEATX_TEST_GO names is there.
WAIT = """
import os, sys, time
import featx.classifier.classifier as classifier
from featx.cli.app import main
load = classifier.load
def waiting(*args, **options):
    while not os.path.exists(os.environ["FEATX_TEST_GO"]):
        time.sleep(0.05)
    return load(*args, **options)
classifier.load = waiting
sys.argv = ["featx", *sys.argv[1:]]
main()
"""


@contextmanager
def loading_server(model: Path, go: Path, *options: str) -> Iterator[tuple[Any, int]]:
    """Start a server that listens and loads its model once `go` is there."""
    port = free_port()
    words = [sys.executable, "-c", WAIT, "serve", str(model), "--port", str(port), *options]
    environment = {**ENVIRONMENT, "FEATX_TEST_GO": str(go)}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, env=environment, text=True)
    try:
        for _ in range(480):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.25)
        yield process, port
    finally:
        process.kill()
        process.communicate()


def test_it_listens_while_the_model_loads(server: Server, tmp_path: Path) -> None:
    content = (server.images / "red" / "00.png").read_bytes()
    with loading_server(server.log.parent / "m.featx", tmp_path / "go") as (process, port):
        status, answer, headers = asked(port, "/health")
        assert (status, answer) == (503, {"status": "loading"})
        for path, body in (("/predict", content), ("/predict?explain=1", content)):
            status, answer, headers = asked(port, path, body)
            assert (status, int(headers["retry-after"])) == (503, 2)
            assert answer["error"] == "the model is loading: ask again in 2 seconds"
        assert asked(port, "/metadata")[0] == 503
        assert asked(port, "/openapi.json")[0] == 200
        (tmp_path / "go").touch()
        wait_until_healthy(process, port)
        status, answer, _ = asked(port, "/predict", content)
        assert (status, answer["top"][0]["label"]) == (200, "red")
        assert asked(port, "/health")[1] == {"status": "ok"}


@pytest.mark.parametrize("wrong", ["digest", "damaged"])
def test_a_model_that_cannot_be_loaded_ends_the_server(
    wrong: str, server: Server, tmp_path: Path
) -> None:
    model = tmp_path / "m.featx"
    content = (server.log.parent / "m.featx").read_bytes()
    model.write_bytes(content[: len(content) // 2] if wrong == "damaged" else content)
    options = ["--sha256", "0" * 64] if wrong == "digest" else []
    with loading_server(model, tmp_path / "go", *options) as (process, port):
        assert asked(port, "/health")[0] == 503
        (tmp_path / "go").touch()
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 1
        assert "Error: " in said
        assert ("sha256" in said) == (wrong == "digest")
        assert "Traceback" not in said


def test_a_port_in_use_is_named_and_nothing_else(server: Server) -> None:
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "featx", "serve", str(server.log.parent / "m.featx")),
            *("--port", str(server.port)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith(
        f"Error: cannot listen on port {server.port} of 127.0.0.1: Address already in use"
    ), answer.stderr
    assert "Choose another port (--port)" in answer.stderr
    assert "http://" not in answer.stderr, "an address that is not ours"
    assert "Traceback" not in answer.stderr


def test_a_host_of_another_machine_is_refused() -> None:
    # 192.0.2.0/24 is kept for documentation (RFC 5737).
    with pytest.raises(FeatxError, match=r"cannot listen on port 80 of 192\.0\.2\.1: Cannot"):
        run(lambda: None, host="192.0.2.1", port=80)
    with pytest.raises(FeatxError, match=r"0\.0\.0\.0 every address of it \(--host\)"):
        run(lambda: None, host="no.such.host.invalid", port=8000)


def test_a_signal_ends_it_while_the_model_loads(server: Server, tmp_path: Path) -> None:
    with loading_server(server.log.parent / "m.featx", tmp_path / "go") as (process, port):
        assert asked(port, "/health")[0] == 503
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_the_page_goes_on_by_itself_once_the_model_is_loaded(
    server: Server, tmp_path: Path
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with (
        loading_server(server.log.parent / "m.featx", tmp_path / "go") as (_, port),
        sync_api.sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#model:has-text('loading')")
        page.set_input_files("#file", server.images / "green" / "02.png")
        page.wait_for_selector("#status:has-text('loading')")
        page.screenshot(path=os.environ.get("FEATX_LOADING_SCREENSHOT", tmp_path / "page.png"))
        (tmp_path / "go").touch()
        page.wait_for_selector("#result:not([hidden])", timeout=120_000)
        assert page.inner_text("#top li:first-child").startswith("green")
        page.wait_for_selector("#model:has-text('3 classes')")
        browser.close()


@pytest.mark.parametrize(
    ("host", "asked", "allowed"),
    [
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.2", "evil.example", False),
        ("127.0.0.2", "127.0.0.2", True),
        ("LOCALHOST", "evil.example", False),
        ("LOCALHOST", "localhost", True),
        ("::1", "evil.example", False),
        ("0.0.0.0", "evil.example", True),
    ],
)
def test_whom_a_server_answers(host: str, asked: str, allowed: bool, server: Server) -> None:
    app = create_app(load(server.log.parent / "m.featx"), host=host)
    found: list[int] = []

    async def ask() -> None:
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])

        scope = {
            "type": "http", "method": "GET", "path": "/page.css", "raw_path": b"/page.css",
            "query_string": b"", "headers": [(b"host", asked.encode())], "scheme": "http",
            "http_version": "1.1", "server": (host, 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(ask())
    assert found == [200 if allowed else 400]


def test_the_page_in_a_browser(server: Server, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    errors: list[str] = []
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: line.type == "error" and errors.append(line.text))
        page.goto(f"http://127.0.0.1:{server.port}/")
        content = (server.images / "green" / "02.png").read_bytes()
        dropped = page.evaluate_handle(DROP, base64.b64encode(content).decode())
        page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
        page.wait_for_selector("#result:not([hidden])", timeout=120_000)
        assert page.inner_text("#top li:first-child").startswith("green")
        assert page.locator("#near figure").count() == 5
        assert page.locator("#near img").first.evaluate("one => one.naturalWidth") > 0
        assert page.locator("#activation").evaluate("one => one.naturalWidth") > 0
        assert not errors
        page.screenshot(path=os.environ.get("FEATX_SCREENSHOT", tmp_path / "page.png"))
        (tmp_path / "bad.png").write_bytes(b"not an image")
        page.set_input_files("#file", tmp_path / "bad.png")
        page.wait_for_selector("#status.error", timeout=120_000)
        assert "cannot be used" in page.inner_text("#status")
        browser.close()
