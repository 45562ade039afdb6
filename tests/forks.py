"""Scripts in processes of their own, whose children are made by fork: what hangs fails in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")

# `forked(body)` returns what `body()` does in a child of this process, or the text of its error;
# "hangs" where that takes too long. With `to_its_end` the child ends as a script does, destructors
# included, which takes seconds after TensorFlow; otherwise as multiprocessing's children do.
_BEGIN = """
import json, os, select, shutil, signal, sys, tempfile, time
from pathlib import Path
import numpy as np

def forked(body, seconds=SECONDS, to_its_end=False):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = body()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, json.dumps(said, default=lambda x: x.tolist()).encode())
        sys.exit(7) if to_its_end else os._exit(7)
    os.close(writing)
    content, end, status = b"", time.monotonic() + seconds, None
    while time.monotonic() < end and status is None:
        if select.select([reading], [], [], 0.01)[0]:
            content += os.read(reading, 1 << 16)
        ended, status = os.waitpid(child, os.WNOHANG)
        status = status if ended else None
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "hangs" if not content else f"hangs at its end, after {content!r}"
    while part := os.read(reading, 1 << 16):
        content += part
    os.close(reading)
    if os.waitstatus_to_exitcode(status) != 7:
        return f"ended with {os.waitstatus_to_exitcode(status)}"
    return json.loads(content)

"""
# Images that no other call has seen, a classifier of a small untrained network, and its data.
_IMAGES = """
import featx

FOLDER = Path(sys.argv[1])
TINY = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
_drawn = np.random.default_rng(0)

def new(count=3):
    return list(_drawn.integers(0, 255, (count, 40, 40, 3)).astype(np.uint8))

LABELS = ["cat", "dog"] * 6
SEEN = [image // 4 + 190 * (label == "dog") for image, label in zip(new(12), LABELS)]
SEEN = [image.astype(np.uint8) for image in SEEN]

def fitted(head="logistic", **options):
    model = featx.ImageClassifier(TINY, head, cache=FOLDER / "cache", **options)
    return model.fit(SEEN, LABELS)

def computed(images, cache, runtime="auto", backbone=TINY):
    if (FOLDER / "cache").exists() and not (FOLDER / cache).exists():
        # The converted network is there; the images are in neither.
        shutil.copytree(FOLDER / "cache", FOLDER / cache)
    features = featx.extract(
        images, backbone, cache=FOLDER / cache, runtime=runtime, progress=False
    )
    assert features.report.computed == len(images), "these are cached"
    return features.X
"""


def answers_of(
    script: str, folder: Path, *, images: bool = True, seconds: int = 30, limit: int = 240
) -> dict[str, Any]:
    """Return the dict `told` that a script leaves.

    Parameters
    ----------
    seconds : int
        How long a child may take.
    limit : int
        How long all may take.
    """
    begin = _BEGIN.replace("SECONDS", str(seconds)) + (_IMAGES if images else "")
    end = "\nprint(json.dumps(told, default=lambda x: x.tolist()))\n"
    answer = subprocess.run(
        [sys.executable, "-c", begin + textwrap.dedent(script) + end, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=limit,
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found
