"""The house: which package may import which, and what only one package may know."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import featx

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "featx"
FILES = sorted(PACKAGE.rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))

# A package imports only from lower floors; packages of one floor know nothing of each other.
# `evaluation` is judged by its own parts as well.
FLOORS: tuple[set[str], ...] = (
    {"errors", "forking", "formatting", "machine", "versions"},
    {"backend", "images", "labels", "storage"},
    {"dense", "features"},
    {"backbones", "cache", "datasets"},
    {"heads", "runtimes"},
    {"extraction", "finetune"},
    {"classifier", "maintenance"},
    {"evaluation", "serving"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
FLOOR = {package: number for number, packages in enumerate(FLOORS, 1) for package in packages}
EVALUATION: tuple[set[str], ...] = (
    {"results"},
    {"scores"},
    {"protocol"},
    {"leaks", "evidence"},
    {"report"},
    {"comparison", "saved_model"},
)


def module_of(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def code_of(path: Path) -> str:
    """Return the source without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body[0] = ast.Pass()
    return ast.unparse(tree)


def imports_of(path: Path, *, at_load: bool = False) -> Iterator[tuple[int, str]]:
    """Yield (line, module of featx) of every import; `at_load` leaves out those in functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if at_load and id(node) in lazy:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import featx by its full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "featx":
                while name not in MODULES:
                    name = name.rpartition(".")[0]
                yield node.lineno, name


def floor_of(name: str, floors: dict[str, int]) -> int:
    assert name in floors, f"{name} is new: decide its floor"
    return floors[name]


def test_packages_import_only_from_lower_floors() -> None:
    wrong = []
    for module, path in MODULES.items():
        package = module.split(".")[1] if "." in module else None
        if package is None:  # the front door names every package, and opens none before it is used
            continue
        for line, target in imports_of(path):
            if "." not in target:
                if FLOOR[package] < FLOOR["demo"]:
                    wrong.append(f"{module}:{line} imports featx itself")
                continue
            other = target.split(".")[1]
            if other != package and floor_of(other, FLOOR) >= floor_of(package, FLOOR):
                wrong.append(f"{module}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_evaluation_flows_one_way() -> None:
    floors = {part: number for number, parts in enumerate(EVALUATION, 1) for part in parts}
    wrong = []
    for module, path in MODULES.items():
        parts = module.split(".")
        if parts[1:2] != ["evaluation"] or len(parts) < 3:
            continue
        for line, target in imports_of(path):
            other = target.split(".")
            if other[1:2] != ["evaluation"] or len(other) < 3 or other[2] == parts[2]:
                continue
            if floor_of(other[2], floors) >= floor_of(parts[2], floors):
                wrong.append(f"{module}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {target for _, target in imports_of(path) if target not in ("featx", module)}
        for module, path in MODULES.items()
        if module != "featx"
    }
    order = tuple(TopologicalSorter(graph).static_order())  # a CycleError names the modules
    assert set(order) == set(graph)


def test_no_floor_is_empty() -> None:
    packages = {module.split(".")[1] for module in MODULES if "." in module}
    assert packages == set(FLOOR)


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"keras\.applications", {"backbones"}),
        (r"\b(import|from) h5py", {"cache", "features"}),
        (r"\b(import|from) tensorflow", {"datasets", "finetune", "runtimes", "evaluation"}),
        (r"(?<![.\w])print\(", set()),
    ],
)
def test_only_these_packages_name_it(pattern: str, allowed: set[str]) -> None:
    found = {m.split(".")[1] for m, path in MODULES.items() if re.search(pattern, code_of(path))}
    assert found <= allowed


def test_keras_is_imported_only_when_it_is_needed() -> None:
    heavy = {"keras", "tensorflow", "openvino", "jax", "torch"}
    # Derives from a class of Keras; imported inside a function that has imported Keras itself.
    late = "featx.finetune.py_dataset"
    for path in FILES:
        assert late not in {name for _, name in imports_of(path, at_load=True)}, path
        if path == MODULES[late]:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not heavy & {name.split(".")[0] for name in names}, path
        # Through `load_keras`, whoever is first: else TensorFlow's start-up lines are shown.
        source = path.read_text(encoding="utf-8")
        assert path.name == "backend.py" or not re.search(r"^ +import keras$", source, re.M), path


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_benchmarks_use_public_names_only(path: Path) -> None:
    used = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            used |= {a.name for a in node.names if a.name.startswith("featx.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "featx":
            prefix = (node.module or "")[len("featx") :].lstrip(".")
            used |= {f"{prefix}.{a.name}".lstrip(".") for a in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "featx":
            used.add(node.attr)
    public = set(featx.__all__) | {"__version__"}
    assert not {name for name in used if name.split(".")[0] not in public}


def test_importing_featx_is_light() -> None:
    script = "import json, sys, featx; dir(featx); print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in json.loads(answer.stdout)}
    heavy = {"keras", "tensorflow", "sklearn", "pandas", "xgboost", "h5py", "scipy", "PIL", "cv2"}
    assert not loaded & heavy


def test_every_public_name_can_be_had() -> None:
    for name in featx.__all__:
        assert getattr(featx, name) is not None
    assert set(featx.__all__) == set(featx._HOME) | set(featx._MODULES)


def test_one_place_assembles_what_the_cache_key_is_taken_from() -> None:
    def naming(pattern: str) -> set[str]:
        return {m for m, path in MODULES.items() if re.search(pattern, code_of(path))}

    assert naming(r"""['"](preprocessing|pixels)['"]: """) == {"featx.backbones.backbone"}
    assert naming(r"""['"]format['"]: FORMAT, \*\*""") == {"featx.cache.keys"}
