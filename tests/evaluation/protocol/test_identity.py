from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featx.dense import Recipe
from featx.evaluation.protocol import trials
from featx.evaluation.protocol.identity import digest


def twice(x: Any) -> Any:
    return 2 * x


VALUES: list[Any] = [
    None,
    False,
    0,
    0.0,
    "0",
    b"0",
    np.float64(0),
    [0],
    (0,),
    {"a": 0},
    {"a": 1},
    {0},
    np.zeros(3, np.float32),
    np.zeros(3),
    np.zeros((3, 1)),
    np.array(["a", "b"], dtype=object),
    np.array(["a", None], dtype=object),
    LogisticRegression(),
    LogisticRegression(C=2.0),
    LogisticRegression(class_weight={"a": 1.0}),
    LogisticRegression(class_weight={"a": 2.0}),
    LogisticRegression(random_state=np.random.RandomState(0)),
    LogisticRegression(random_state=np.random.RandomState(1)),
    make_pipeline(StandardScaler(), LogisticRegression()),
    GridSearchCV(LogisticRegression(), {"C": np.logspace(-3, 3, 2000)}),
    GridSearchCV(LogisticRegression(), {"C": np.logspace(-3, 3.1, 2000)}),
    functools.partial(twice, 1),
    functools.partial(twice, 2),
    twice,
    Recipe(),
    Recipe(epochs=3),
    *(one.make(0) for one in trials.methods(None)),
    *(one.make(1) for one in trials.methods(["logistic", "linear_svm", "dense"])),
]


def test_each_value_has_a_digest_of_its_own() -> None:
    found = [digest(value) for value in VALUES]
    assert None not in found
    assert len(set(found)) == len(VALUES)
    assert found == [digest(value) for value in VALUES]


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    script = (
        "from featx.evaluation.protocol import trials\n"
        "from featx.evaluation.protocol.identity import digest\n"
        "print(digest({'a', 'b', 'c'}, *(one.make(0) for one in trials.methods(None))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    expected = digest({"c", "b", "a"}, *(one.make(0) for one in trials.methods(None)))
    assert done.stdout.strip() == expected


def test_what_only_a_place_in_memory_tells_has_none() -> None:
    class Local(LogisticRegression):
        pass

    for value in (lambda x: x, Local(), threading.Lock(), {"a": [lambda: 0]}):
        assert digest(value) is None
    deep: list[Any] = []
    for _ in range(50):
        deep = [deep]
    assert digest(deep) is None
    assert digest(list(range(20_000))) is None


def test_an_edited_head_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_file(text: str) -> str | None:
        path = tmp_path / "mine.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "mine", module)
        spec.loader.exec_module(module)
        return digest(module.Mine())

    text = "class Mine:\n    def fit(self, X, y):\n        return self\n"
    first = of_file(text)
    assert first is not None
    assert first == of_file(text)
    assert first != of_file(text.replace("return self", "return None"))
