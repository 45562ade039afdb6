"""Addresses of object stores, and what an error of a service may say."""

from __future__ import annotations

import http.server
import logging
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from featx.cache.location import chosen, existing_root, find_cache
from featx.errors import CacheError
from featx.storage import objects, services

pytest.importorskip("obstore")

SECRETS = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY", "the-session-token")
_REFUSAL = f"""<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code>
<AWSAccessKeyId>{SECRETS[0]}</AWSAccessKeyId><StringToSign>{SECRETS[1]}</StringToSign></Error>"""


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name, secret in zip(names, SECRETS, strict=True):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers everything with one status, and tells in the text whom it does not trust."""

    status = 403

    def do_GET(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b"" if self.command == "HEAD" else _REFUSAL.encode()
        self.send_response(self.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service(keys: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Refusing]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("featx.storage.objects._FIRST_PAUSE", 0.001)
    retries = {**services._RETRIES, "max_retries": 0}
    monkeypatch.setattr(services, "_RETRIES", retries)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield Refusing
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://", "is not the address of a bucket"),
        ("s3:///prefix", "is not the address of a bucket"),
        ("s3://bucket/a//b", "is not the address of a bucket"),
        ("s3://bucket/../other", "is not the address of a bucket"),
        ("s3://bucket/a?versionId=1", "credentials belong"),
        ("s3://bucket/a#part", "credentials belong"),
        ("http://bucket/a", "Known are a folder, and s3://bucket/prefix"),
        ("file:///tmp/a", "Known are a folder"),
        ("s3://[bucket/a", "is not the address of a bucket"),
    ],
)
def test_what_is_not_the_address_of_a_place(address: str, told: str, keys: None) -> None:
    with pytest.raises(CacheError, match=told):
        find_cache(address)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    for address in (
        f"s3://{SECRETS[0]}:{SECRETS[1]}@bucket/prefix",
        f"az://container/prefix?sig={SECRETS[1]}",
    ):
        with pytest.raises(CacheError, match="AZURE_STORAGE|AWS_ACCESS_KEY_ID") as refused:
            services.connect(address)
        assert not any(secret in str(refused.value) for secret in SECRETS)


def test_an_address_made_a_path_is_named() -> None:
    with pytest.raises(CacheError, match="Give it as text"):
        chosen(Path("s3://bucket/prefix"))


def test_an_address_is_chosen_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen("s3://bucket/prefix") == "s3://bucket/prefix"
    monkeypatch.setenv("FEATX_CACHE", "gs://bucket/prefix")
    assert chosen() == "gs://bucket/prefix"
    with pytest.raises(CacheError, match="is not a folder"):
        existing_root()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
def test_no_secret_is_in_an_error_a_log_or_a_representation(
    service: type[Refusing], status: int, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(service, "status", status)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(CacheError) as refused:
        find_cache("s3://bucket/prefix")
    storage = services.connect("s3://bucket/prefix")
    raised: list[BaseException | None] = [refused.value]
    # Unlike a HEAD, these are answered with a text.
    for ask in (
        lambda: storage.read("k/key.json"),
        lambda: storage.publish("k/key.json", b"content"),
        lambda: storage.replace("k/key.json", b"content"),
        lambda: storage.names("k"),
        lambda: storage.walk("k"),
    ):
        with pytest.raises(OSError, match=str(status)) as asked:
            ask()
        raised.append(asked.value)
    texts = [repr(storage), repr(vars(storage)), caplog.text]
    for error in raised:
        assert error is not None
        texts += traceback.format_exception(error)
        while error is not None:  # also what a traceback does not print
            texts += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
    for text in texts:
        assert not any(secret in text for secret in SECRETS), text
    assert str(status) in str(refused.value)
    if status in (401, 403):
        assert "credentials" in str(refused.value)


def test_without_credentials_it_is_said_where_they_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(boto3.Session, "get_credentials", lambda self: None)
    with pytest.raises(CacheError, match=r"no credentials.*AWS_PROFILE"):
        services.connect("s3://bucket/prefix")


def test_a_profile_of_aws_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    (tmp_path / "credentials").write_text(
        f"[mine]\naws_access_key_id = {SECRETS[0]}\naws_secret_access_key = {SECRETS[1]}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    provider = services._boto3()
    assert provider()["access_key_id"] == SECRETS[0]


def test_an_azure_container_needs_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CacheError, match="Set AZURE_STORAGE_ACCOUNT_NAME"):
        services.connect("az://container/prefix")


@pytest.mark.parametrize(
    ("given", "tag"),
    [('"0x1F"', '"0x1F"'), ("0x1F", '"0x1F"'), ('W/"1"', 'W/"1"'), ("", ""), (None, None)],
)
def test_a_tag_is_the_same_from_a_listing_without_quotes(
    given: str | None, tag: str | None
) -> None:
    assert objects.tag_of({"e_tag": given}) == tag


@pytest.mark.parametrize("value", ["", "127.0.0.1:9000", "https://"])
def test_an_endpoint_that_is_no_address_is_refused_by_name(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would panic."""
    pytest.importorskip("obstore", reason="pip install 'featx[cloud]'")
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    with pytest.raises(CacheError, match="the variable AWS_ENDPOINT_URL is not the address"):
        services.connect("s3://photos/cache")
