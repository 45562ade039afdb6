"""Hostile model files: each ends in an error of its kind, runs nothing, and crashes nothing."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from featx import Recipe, heads
from featx.classifier.file import container, head_state
from featx.dense import BatchNorm, Dropout
from tests.classifier.file.hostile_files import FORGED, FORMAT, Payload, objects, plain_files, zips
from tests.classifier.file.test_model_file import DIM, trained

LAYERS = Recipe((BatchNorm(), Dropout(0.5)))


def _untrained_dense() -> Any:
    """Return a dense head with zero weights, without Keras's training."""
    shape = head_state.Shape(DIM, np.array(["class <0>", "class <1>", "class <2>"]))
    head = heads.dense(LAYERS)
    head.classes_, head.n_features_in_ = shape.classes, DIM
    batch_norm, dense = [(DIM,)] * 4, [(DIM, 3), (3,)]
    head.weights_ = [np.zeros(width, np.float32) for width in batch_norm + dense]
    head.history_, head.n_epochs_ = {"loss": [1.0]}, 1
    return head


LOADER = """
import json, resource, sys
from featx import load
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(str.strip, sys.stdin):
    before = peak()
    try:
        load(path)
        found = ["loaded", ""]
    except Exception as error:
        found = [type(error).__name__, str(error)]
    print(json.dumps([path, *found, (peak() - before) / 1024]), flush=True)
"""


class Verdict(NamedTuple):
    """What came of loading a file; `grown` is by how many MB the peak of memory rose."""

    expected: str
    error: str
    words: str
    grown: float


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Load every file in one other process."""
    folder = tmp_path_factory.mktemp("hostile")
    sentinel = folder / "SENTINEL"
    poison = pickle.dumps(Payload(sentinel))
    models = {
        "logistic": heads.logistic(C=0.1),
        "xgboost": heads.xgboost(n_estimators=3),
        "dense": heads.dense(LAYERS),
        "skops": RidgeClassifier(),
    }
    parts = {}
    for kind, head in models.items():
        model = trained(heads.logistic(C=0.1)) if kind == "dense" else trained(head)
        if kind == "dense":
            model.head_ = _untrained_dense()
        model.save(folder / f"{kind}.sound")
        parts[kind] = container.read(folder / f"{kind}.sound")
    files: dict[str, str] = {}
    for name, (kind, change, expected) in FORGED.items():
        manifest, members = json.loads(json.dumps(parts[kind][0])), dict(parts[kind][1])
        change(manifest, members)
        fill = {b"PICKLE": poison, b"OBJECTS": objects(sentinel)}
        members = {k: fill.get(v, v) for k, v in members.items()}
        manifest.pop("members")
        container.write(folder / f"{name}.featx", manifest, members)
        files[name] = expected
    sound = (folder / "logistic.sound").read_bytes()
    for name, (content, expected) in {**plain_files(sentinel), **zips(sound)}.items():
        (folder / f"{name}.featx").write_bytes(content)
        files[name] = expected
    os.mkfifo(folder / "pipe.featx")
    (folder / "folder.featx").mkdir()
    files |= {"pipe": FORMAT, "folder": FORMAT, "logistic.sound": "loaded"}
    paths = [folder / (n if n.endswith("sound") else f"{n}.featx") for n in files]
    answer = subprocess.run(
        [sys.executable, "-c", LOADER],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(lines) == len(files), "the process ended early"
    assert not sentinel.exists(), "code of a file was run"
    return {
        name: Verdict(files[name], *answers)
        for name, (_, *answers) in zip(files, lines, strict=True)
    }


NAMES = [*FORGED, *plain_files(Path("x")), "pipe", "folder", "logistic.sound"]
NAMES += ["zip slip", "absolute path", "backslashes", "link", "device", "zip bomb"]
NAMES += ["member missing", "member changed", "member unlisted", "two of one name", "cut in half"]
NAMES += [f"manifest {what}" for what in ("that is text", "with NaN", "that is a list")]
NAMES += [f"manifest with {what} beyond floats" for what in ("iterations", "images")]
NAMES += [f"manifest {what}" for what in ("of 100,000 levels", "of 20 MB", "without members")]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_file(name: str, verdicts: dict[str, Verdict]) -> None:
    expected, error, words, grown = verdicts[name]
    assert error == expected, words
    # XGBoost, Keras and skops are imported by the first file that needs them.
    assert grown < 600, "a file of less than 2 MB"
    if expected != "loaded":
        assert name.split(".")[0] in words, "the message names the file"
        assert len(words) < 1000


def test_every_file_is_judged(verdicts: dict[str, Verdict]) -> None:
    assert set(NAMES) == set(verdicts)
    assert len(verdicts) >= 60
