"""The house: who may import whom, what only one file may know, and how long things get."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import featx

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "featx"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))

# Floor by floor. A room is a module or a sub-package; a new one must be given its floor.
# Whole numbers are the design's floors; a fraction is a step of the stairs between them.
FLOORS = {
    "__main__": 8,
    "cli": 7,
    "cli_cache": 6.8,
    "cli_report": 6.8,
    "demo": 6,
    "classifier": 6,
    "cli_model": 6.8,
    "serving": 6.6,
    "explain": 6.4,
    "predictions": 6.2,
    "loading": 6.2,
    "saved": 5.6,
    "skops_head": 5.2,
    "export": 5.6,
    "tree_graph": 2.4,
    "parity": 4.8,
    "activation": 4.8,
    "folding": 4.6,
    "matching": 3,
    "exported": 2,
    "head_state": 4.5,
    "recipe_data": 2.4,
    "booster": 2,
    "head_parts": 4.4,
    "model_file": 2,
    "arrays": 1.4,
    "ubj": 1.4,
    "evaluation": 5,
    "extractor": 5,
    "extraction": 4,
    "preflight": 4,
    "scan": 3.8,
    "blocks": 3.6,
    "batches": 3.5,
    "slots": 3.2,
    "verification": 3.6,
    "probe": 3.4,
    "doctor": 3.4,
    "runtimes": 3,
    "finetune": 3,
    "heads": 3,
    "datasets": 2,
    "listing": 1.6,
    "images": 2,
    "backbones": 2,
    "store": 2,
    "features": 2,
    "inventory": 2.2,
    "examples": 2.2,
    "garbage": 2.4,
    "compaction": 2.4,
    "dense": 2,
    "gathering": 1.9,
    "index": 1.8,
    "facts": 1.7,
    "networks": 1.6,
    "shards": 1.6,
    "claims": 1.6,
    "root": 1.6,
    "remarks": 1.6,
    "events": 1.2,
    "streams": 1.6,
    "digests": 1.6,
    "items": 1.4,
    "architectures": 1.4,
    "weightfiles": 1.4,
    "filetypes": 1.2,
    "disk": 1.2,
    "reading": 1.15,
    "folders": 1.1,
    "matrix": 1.2,
    "sealed": 1.1,
    "errors": 1,
    "quiet": 1,
    "terminal": 1,
}
LONG_MODULES: dict[str, str] = {
    "featx/backbones.py": "one dataclass, and half of its lines are docstrings",
}
LONG_FUNCTIONS: dict[str, str] = {}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def code_of(path: Path) -> str:
    """Return the source without comments and docstrings: what the module does, not says."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body[0] = ast.Pass()
    return ast.unparse(tree)


def featx_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, room) of every import of featx, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: import featx by its full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            names = [a.value for a in node.args if isinstance(a, ast.Constant)]
        for name in names:
            parts = name.split(".")
            if parts[0] == "featx":
                room = parts[1] if len(parts) > 1 else "__init__"
                yield node.lineno, featx._HOME.get(room, room).split(".")[0]


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms <= set(FLOORS), "a new room: decide its floor and add it to FLOORS"
    planned = {"inventory", "garbage", "compaction"}
    assert set(FLOORS) - rooms <= planned, "no such room any more: take it out of FLOORS"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":  # the front door: it names every room, and opens none before it is used
        return
    wrong = []
    for line, target in featx_imports(path):
        if target == room:
            continue
        if target == "__init__":
            # The front door leads everywhere: only the top floors may use it.
            if FLOORS[room] < FLOORS["cli"]:
                wrong.append(f"line {line}: imports featx itself")
        elif FLOORS[target] >= FLOORS[room]:
            wrong.append(
                f"line {line}: {room} ({FLOORS[room]}) imports {target} ({FLOORS[target]})"
            )
    assert not wrong, f"{name_of(path)}: {'; '.join(wrong)}"


@pytest.mark.parametrize(
    ("pattern", "rooms"),
    [
        (r"keras\.applications", {"architectures", "networks", "backbones"}),
        (r"\b(import|from) h5py", {"shards", "features"}),
        (r"\b(import|from) tensorflow", {"streams", "datasets", "runtimes", "events"}),
        (r"(?<![.\w])print\(", set()),
    ],
)
def test_only_these_rooms_name_it(pattern: str, rooms: set[str]) -> None:
    assert {room_of(path) for path in FILES if re.search(pattern, code_of(path))} <= rooms


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_keras_is_imported_only_when_it_is_needed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {n.split(".")[0] for node in top for n in _imported(node)}
    assert not names & {"keras", "tensorflow", "openvino", "jax", "torch"}


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""]


@pytest.mark.parametrize("path", BENCHMARKS, ids=name_of)
def test_benchmarks_use_public_names_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {a.name for a in node.names if a.name.startswith("featx.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "featx":
            prefix = (node.module or "")[len("featx") :].lstrip(".")
            used |= {f"{prefix}.{a.name}".lstrip(".") for a in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "featx":
            used.add(node.attr)
    public = set(featx.__all__) | {"__version__"}
    hidden = {name for name in used if name.split(".")[0] not in public}
    assert not hidden


def test_importing_featx_is_light() -> None:
    script = "import json, sys, featx; dir(featx); print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in json.loads(answer.stdout)}
    heavy = {"keras", "tensorflow", "sklearn", "pandas", "xgboost", "h5py", "scipy", "PIL"}
    assert not loaded & heavy


def test_every_public_name_can_be_had() -> None:
    for name in featx.__all__:
        assert getattr(featx, name) is not None
    assert set(featx.__all__) == set(featx._HOME) | set(featx._MODULES)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_module_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if name_of(path) in LONG_MODULES:
        assert lines > 300, "take the exception away: the module is short again"
    else:
        assert lines <= 300, "one idea a module: split it, or give the reason in LONG_MODULES"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    long = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring.count("\n")
            name = f"{name_of(path)}:{node.name}"
            if lines > 70 and name not in LONG_FUNCTIONS:
                long[name] = lines
    assert not long, f"split them, or give the reason in LONG_FUNCTIONS: {long}"
