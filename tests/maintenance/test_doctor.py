from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from featx.backbones.backbone import Backbone
from featx.cache.location import MARKER, find_root
from featx.errors import CacheError
from featx.maintenance import doctor, gc
from featx.maintenance.doctor import FAIR, GOOD, POOR, Finding


def test_a_verdict_within_thirty_seconds(tmp_path: Path) -> None:
    list(doctor._computing())  # on a machine full of tests the start of Keras may take longer
    began = time.monotonic()
    findings = list(doctor.examine(tmp_path / "not" / "there"))
    assert time.monotonic() - began < 30
    names = [finding.name for finding in findings]
    assert names == [
        "free space", "write", "hard links", "fsync", "flock", "weights", "processor", "keras",
        "runtime",
    ]  # fmt: skip
    fit, sentence = doctor.verdict(findings)
    assert fit, sentence
    assert list(tmp_path.iterdir()) == []  # nothing is left, nothing was made


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    finding = doctor._links(tmp_path)
    assert finding.state == FAIR
    assert "renaming" in finding.text


def test_links_that_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda one, two: two.write_bytes(one.read_bytes()))
    assert doctor._links(tmp_path).state == POOR


def test_locks_that_lock_nothing(tmp_path: Path) -> None:
    """As on some network file systems: every process gets the lock at once."""
    program = doctor._HOLDER.replace("fcntl.flock(descriptor, fcntl.LOCK_EX)", "pass")
    assert program != doctor._HOLDER
    finding = doctor._locks(tmp_path, program=program)
    assert finding.state == FAIR
    assert "overlaps in 4 processes x 100 holds" in finding.text


def test_locks_that_never_answer(tmp_path: Path) -> None:
    began = time.monotonic()
    finding = doctor._locks(tmp_path, 0.5, "import time; time.sleep(60)")
    assert time.monotonic() - began < 10
    assert (finding.state, "no answer" in finding.text) == (FAIR, True)


def test_locks_that_are_refused(tmp_path: Path) -> None:
    finding = doctor._locks(tmp_path, program="raise OSError(37, 'No locks available')")
    assert finding.state == FAIR
    assert "No locks available" in finding.text


def test_sync_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("featx.storage.atomic.publish", fail)
    assert doctor._sync(tmp_path).state == POOR


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    (finding,) = doctor._in_trial(tmp_path)
    assert finding.state == POOR
    assert "FEATX_CACHE" in finding.text


def test_verdicts() -> None:
    good, fair, poor = (Finding(state, state, "") for state in (GOOD, FAIR, POOR))
    assert doctor.verdict([good]) == (True, "fit")
    assert doctor.verdict([good, fair]) == (True, "fit, with reservations: fair")
    assert doctor.verdict([good, fair, poor]) == (False, "not fit as it is: poor")


def test_what_never_answers_is_a_finding() -> None:
    over = threading.Event()

    def look() -> Generator[Finding, None, None]:
        yield Finding("write", GOOD, "yes")
        over.wait(60)

    began = time.monotonic()
    first, second = doctor._until(began + 0.3, "file system", POOR, look)
    assert time.monotonic() - began < 5
    over.set()
    assert (first.name, second.state) == ("write", POOR)
    assert "no answer within" in second.text


def test_a_look_that_breaks_is_a_finding() -> None:
    def look() -> Generator[Finding, None, None]:
        raise ValueError("odd")
        yield

    (finding,) = doctor._until(time.monotonic() + 5, "weights", FAIR, look)
    assert (finding.name, finding.state, finding.text) == ("weights", POOR, "ValueError: odd")


def test_free_space_that_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "statvfs", refuse)
    finding = doctor._space(tmp_path)
    assert (finding.state, "Input/output error" in finding.text) == (FAIR, True)


def test_what_an_extraction_would_refuse_is_not_fit(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    for folder in (tmp_path, tmp_path / "photo.jpg", tmp_path / "photo.jpg" / "below"):
        (finding,) = doctor._disk(folder)
        assert (finding.name, finding.state) == ("folder", POOR)
        with pytest.raises(CacheError):
            find_root(folder)
    cache = find_root(tmp_path / "cache")
    assert len(list(doctor._disk(cache))) == 6
    (cache / MARKER).write_text('{"format": 99}')
    (finding,) = doctor._disk(cache)
    assert "format 1" in finding.text


def test_a_full_disk_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(doctor, "_write_new", full)
    (finding,) = doctor._in_trial(tmp_path)
    assert (finding.name, finding.state) == ("write", POOR)
    assert "Free some space" in finding.text
    assert list(tmp_path.iterdir()) == []


def test_a_look_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr("subprocess.Popen", fail)
    findings = {finding.name: finding for finding in doctor._in_trial(tmp_path)}
    assert findings["write"].state == findings["hard links"].state == GOOD
    assert "no more processes" in findings["flock"].text


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    findings = doctor._until(
        time.monotonic() + 30, "file system", POOR, lambda: doctor._disk(tmp_path), 20
    )
    for finding in findings:
        if finding.name == "write":
            break
    assert isinstance(findings, Generator)
    findings.close()  # as Ctrl-C does
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    (cache := tmp_path / "c").mkdir()
    with doctor._trial_folder(cache) as trial:
        find_root(cache)
        (trial / "one").touch()
        os.utime(trial, (10**9, 10**9))
        (piece,) = gc.find(cache)
        assert gc.remove(cache, [piece])[1] == []
        assert not trial.exists()
        trial.mkdir()


def test_weights_are_named_with_their_digest_and_others_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    for name in ("mobilenet_v2", "vgg16"):
        Backbone(name).weights_path().write_bytes(b"other weights")
    named, noted = doctor._weights()
    digest = hashlib.sha256(b"other weights").hexdigest()[:12]
    assert f"mobilenet_v2 (sha256 {digest}), vgg16 (sha256 {digest})" in named.text
    assert (noted.name, noted.state) == ("weights", FAIR)
    assert "vgg16_weights" in noted.text
