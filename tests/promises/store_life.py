"""What a cache on a real object store goes through, whichever service it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from featx.cli.app import app
from featx.maintenance import doctor
from featx.storage import services
from tests.promises import stub


def check_doctor(cache: str, names: Sequence[str]) -> None:
    """Check that all that the doctor tries in a store is good, and that it leaves nothing."""
    found = {each.name: each for each in doctor.in_store(services.connect(cache))}
    for name in names:
        assert found[name].state == "good", found[name]
    assert services.connect(cache).walk("") == []


def check_cache(cache: str, tmp_path: Path, here: Path, secrets: Sequence[str]) -> None:
    """Check a cache from extracting to gc, a damaged shard on the way, and that no secret is kept.

    Parameters
    ----------
    cache : str
        An address without any object.
    here : Path
        What this machine keeps of the cache.
    """

    def run(*arguments: str) -> str:
        answer = CliRunner().invoke(app, [*arguments, "--cache", cache])
        assert answer.exit_code == 0, answer.output
        return answer.output

    expected = stub.draw(tmp_path / "images", 100, 7)
    runtime = stub.Thumbnail()
    cold = stub.extract(tmp_path / "images", cache, runtime)
    np.testing.assert_array_equal(cold.X, expected)
    assert cold.report.cache == cache
    seen = runtime.seen
    warm = stub.extract(tmp_path / "images", cache, runtime)
    np.testing.assert_array_equal(warm.X, expected)
    assert runtime.seen == seen
    assert f"In {cache}: " in run("cache", "ls")
    assert "2 shards intact, 0 damaged" in run("cache", "verify")  # one of the probe images

    storage = services.connect(cache)
    shards = [(stat.size, name) for name, stat in storage.walk("") if name.endswith(".h5")]
    _, shard = max(shards)
    content = storage.read(shard)
    content[len(content) // 2] ^= 1
    storage.replace(shard, bytes(content))
    answer = CliRunner().invoke(app, ["cache", "verify", "--cache", cache])
    assert answer.exit_code == 1
    assert "1 damaged" in answer.stdout
    again = stub.extract(tmp_path / "images", cache, runtime)
    np.testing.assert_array_equal(again.X, expected)
    assert "2 shards intact, 0 damaged" in run("cache", "verify")
    assert "note on a damaged shard that was replaced" in run("cache", "gc", "--yes")
    assert "Nothing to remove" in run("cache", "gc", "--yes")
    run("cache", "compact", "--grace", "0")

    # Nothing that was written, here or there, holds a secret.
    written = [bytes(storage.read(name)) for name, _ in storage.walk("")]
    written += [path.read_bytes() for path in here.rglob("*") if path.is_file()]
    assert written
    assert not any(secret.encode() in text for secret in secrets for text in written)
    assert "Freed" in run("cache", "gc", "--unused-days", "0", "--yes")
    assert "Nothing is cached" in run("cache", "ls")
