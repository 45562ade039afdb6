"""What is written is run: the README's example and commands, and every example in a docstring."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer.main

import featx
from featx import demo
from featx.backbones.backbone import Backbone
from featx.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


WITH_EXAMPLES = [
    _module(path)
    for path in sorted((ROOT / "featx").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a new folder that holds flowers/train and flowers/test: pipes, 10 + 5 a class."""
    monkeypatch.chdir(tmp_path)
    return demo.write_images(tmp_path / "flowers", 15)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    failures: list[str] = []
    extra = {"np": np}
    for case in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=extra):
        runner.run(case, out=failures.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert not failures, "".join(failures)


def test_examples_of_public_names_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need no name that they do not import themselves."""
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    failures: list[str] = []
    for name in featx.__all__:
        found = doctest.DocTestFinder(exclude_empty=True, recurse=False)
        for case in found.find(getattr(featx, name), name, globs={}):
            runner.run(case, out=failures.append)
    assert runner.summarize(verbose=False).attempted > 10
    assert not failures, "".join(failures)


def test_readme_example(
    flowers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks("python")
    # The example as it stands, with a network that needs no download and is small enough to test.
    changed = {"weights": None, "image_size": 32}
    options = [field for field in dataclasses.fields(Backbone) if field.name != "name"]
    defaults = tuple(changed.get(field.name, field.default) for field in options)
    monkeypatch.setattr(Backbone.__init__, "__defaults__", defaults)
    assert Backbone("mobilenet_v2") == Backbone("mobilenet_v2", weights=None, image_size=32)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert capsys.readouterr().out.strip()
    assert sorted(path.name for path in Path("report").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_readme_two_commands_come_first() -> None:
    first = blocks("sh")[0]
    assert "pip install '.[openvino]' && featx demo" in first
    assert "pip install '.[test]' && pytest" in first


def _commands() -> list[str]:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("featx ")]


@pytest.mark.parametrize("line", _commands())
def test_readme_commands_exist_with_these_options(line: str) -> None:
    words = shlex.split(line)
    command = typer.main.get_command(app.app).commands[words[1]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words[2:] if word.startswith("-")} <= known


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)


PAPERS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/ARCHITECTURE.md", "cache/README.md")


@pytest.mark.parametrize("paper", PAPERS)
def test_files_that_the_papers_name_exist(paper: str) -> None:
    text = (ROOT / paper).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+\.(?:py|md|cfg|toml|html))`", text))
    named |= {link.split("#")[0] for link in re.findall(r"\]\((?!https?:)([^)#]+)", text)}
    known = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]
    for name in named - {"report.html", "report.md"}:
        # "../" leads out of the paper's folder; a module may be named from its package on.
        wanted = name.rpartition("../")[2]
        assert any(path == wanted or path.endswith("/" + wanted) for path in known), name
