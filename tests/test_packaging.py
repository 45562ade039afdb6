"""What is installed is what was written: files, requirements, entry point, cache folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import featx

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel that `pip install .` would install, built from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    ignore = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "*.h5")
    shutil.copytree(ROOT, copy, ignore=ignore)
    script = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=copy, capture_output=True, text=True, check=True
    )
    return zipfile.ZipFile(copy / answer.stdout.splitlines()[-1])


def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "featx").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == wanted
    assert {"featx/py.typed", "featx/cli/app.py"} <= packed
    assert any(name.startswith("featx/evaluation/report/templates/") for name in packed)
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_wheel_says_who_it_is(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    about = HeaderParser().parsestr(wheel.read(name).decode())
    assert (about["Name"], about["Version"]) == ("featx", featx.__version__)
    assert about["Requires-Python"] == ">=3.11"
    assert {"openvino", "dask", "export", "test", "dev"} <= set(about.get_all("Provides-Extra"))
    scripts = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert "featx = featx.cli.app:main" in scripts


def test_floors_stand_with_what_tensorflow_and_keras_ask_for() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    floors = {}
    for line in setup["options"]["install_requires"].split("\n"):
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (floor,) = [spec for spec in requirement.specifier if spec.operator == ">="]
            floors[requirement.name.lower()] = floor.version
    asked = {
        name: [Requirement(text) for text in metadata.requires(name) or []]
        for name in ("tensorflow", "keras")
    }
    compared = 0
    for name, requirements in asked.items():
        for other in requirements:
            mine = floors.get(other.name.lower())
            if mine is not None and (other.marker is None or other.marker.evaluate({"extra": ""})):
                compared += 1
                # A floor below theirs is met by their floor; one above their ceiling by nothing.
                ceilings = [spec for spec in other.specifier if spec.operator.startswith("<")]
                assert all(spec.contains(mine) for spec in ceilings), (name, str(other), mine)
    assert compared >= 3


def test_every_third_party_import_is_required() -> None:
    import ast

    names = {"PIL": "pillow", "sklearn": "scikit-learn", "ai_edge_litert": "ai-edge-litert"}
    names["cv2"] = "opencv-python-headless"
    instead = {"jax", "torch"}  # of TensorFlow, where KERAS_BACKEND says so
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    lines = setup["options"]["install_requires"] + "".join(extras[e] for e in extras if e != "dev")
    required = {
        Requirement(line).name.lower()
        for line in lines.split("\n")
        if line and not line.startswith("#")
    }
    missing = set()
    for path in (ROOT / "featx").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module or ""]
            else:
                continue
            for name in (name.split(".")[0] for name in found):
                if name not in sys.stdlib_module_names | {"featx"} | instead:
                    package = names.get(name, name).lower()
                    if package not in required:
                        missing.add((path.name, package))
    assert not missing


def test_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## \[{re.escape(featx.__version__)}\] - (\d{{4}}-\d\d-\d\d)$", text, re.M)
    assert found
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(featx.__version__)}$", citation, re.M)
    assert re.search(rf"^date-released: \"?{found[1]}\"?$", citation, re.M)


def test_cache_of_a_checkout_holds_data_only() -> None:
    folder = ROOT / "cache"
    assert json.loads((folder / "FEATX-CACHE.json").read_text(encoding="utf-8"))["format"] == 1
    assert "README.md" in os.listdir(folder)
    assert not [path for path in folder.rglob("*.py")]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_embeddings_are_never_committed() -> None:
    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)

    assert git("check-ignore", "-q", "cache/some-key/shard.h5").returncode == 0
    assert git("check-ignore", "-q", "cache/FEATX-CACHE.json").returncode == 1
    tracked = git("ls-files", "cache").stdout.split()
    assert sorted(tracked) == ["cache/.gitignore", "cache/FEATX-CACHE.json", "cache/README.md"]


def test_ci_command_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    text = script.read_text(encoding="utf-8")
    assert "pip install --quiet '.[test]'" in text
    assert "ruff check" in text
    assert "ruff format --check" in text
    assert "mypy featx" in text


def _requirements(*, extras: bool) -> dict[str, Requirement]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    text = setup["options"]["install_requires"]
    if extras:
        others = setup["options.extras_require"]
        text += "".join(others[name] for name in others if name not in ("test", "dev", "docs"))
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    return {one.name: one for one in map(Requirement, lines) if one.name != "featx"}


def test_licences_of_all_dependencies_are_listed() -> None:
    text = (ROOT / "RELEASING.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([\w-]+) \| [\w-]+ \| \S.* \|$", text, re.M)
    assert sorted(set(listed) - {"package"}) == sorted(_requirements(extras=True))


def test_everything_for_other_platforms_and_releases_is_there() -> None:
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert all(f"{system}-latest" in workflow for system in ("ubuntu", "macos", "windows"))
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M))
    assert {"tests", "newest", "floors", "backends", "docs", "lint", "types", "build"} <= sessions
    asked = re.search(r"session: \[(.+)\]", workflow)
    assert asked
    assert {re.sub(r"\W.*", "", name.strip(' "')) for name in asked[1].split(", ")} <= sessions


def test_the_image_of_the_server_copies_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        assert all((ROOT / name).exists() for name in line.split())
    extras = re.search(r"\.\[([\w,]+)\]", text)
    assert extras
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(extras[1].split(",")) <= set(setup["options.extras_require"])


def test_the_floors_of_the_session_are_those_of_the_requirements() -> None:
    lines = (ROOT / "constraints-floors.txt").read_text(encoding="utf-8").splitlines()
    pinned = [
        line.replace("==", ">=").removesuffix(".*") for line in lines if not line.startswith("#")
    ]
    assert pinned == [str(one) for one in _requirements(extras=False).values()]
