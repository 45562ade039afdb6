"""The documentation site's pages: every block of Python and every command of featx on them is run.

The site itself is built by `nox -s docs`; here its sources are read. The pages run on drawn images
and on an untrained network of 32 pixels. All of them run in the long form (FEATX_PROMISES=long,
which `nox -s docs` asks for); the quick one runs what a new user reads first.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer.main
from typer.testing import CliRunner

import featx
from featx import demo
from featx.backbones.backbone import Backbone
from featx.cli import app

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob("*.md")
    if path.relative_to(DOCS).parts[0] not in ("_build", "generated")
)
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)$", re.M | re.S)
LONG = os.environ.get("FEATX_PROMISES") == "long"
FIRST = ("start.md",)
# Directives of the site, and what is shown and not run: data, output, files.
SHOWN = {"", "text", "json", "csv", "html", "toml", "yaml", "ini", "dockerfile"}
DIRECTIVES = {"{toctree}", "{eval-rst}", "{image}", "{include}", "{note}", "{warning}"}


def blocks(page: str) -> list[tuple[str, str]]:
    """Return (what stands behind the fence, its text) of every block of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(one["info"].strip(), one["body"]) for one in FENCE.finditer(text)]


def commands(body: str) -> list[list[str]]:
    joined = body.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def runs(page: str) -> bool:
    return page != "ARCHITECTURE.md" and any(info in ("python", "sh") for info, _ in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_run_or_say_that_they_are_not(page: str) -> None:
    for info, body in blocks(page):
        if info.startswith("{code-block}"):
            assert re.search(r"^:caption: Not run here", body, re.M), (page, body[:80])
            assert info.split()[1] in ("python", "sh"), info
        elif info in ("python", "sh"):
            for words in commands(body) if info == "sh" else []:
                assert words[0] == "featx", f"{page}: {words}: only featx's commands are run"
        else:
            assert info in SHOWN or info.split()[0] in DIRECTIVES, (page, info)


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_these_options(page: str) -> None:
    """Of all blocks, also of those that are not run."""
    root: Any = typer.main.get_command(app.app)
    for info, body in blocks(page):
        if info not in ("sh", "{code-block} sh"):
            continue
        for words in commands(re.sub(r"^:\w+:.*\n", "", body, flags=re.M)):
            if words[0] != "featx":
                continue
            command = root.commands.get(words[1])
            if command is None:  # an option of featx itself
                assert words[1].startswith("-"), words
                continue
            if words[1] == "cache":
                command = command.commands[words[2]]
            names = [name for one in command.params for name in (*one.opts, *one.secondary_opts)]
            assert {word for word in words if word.startswith("-")} <= set(names), words


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages(page: str) -> None:
    text = FENCE.sub("", (DOCS / page).read_text(encoding="utf-8"))
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        path = ((DOCS / page).parent / link).resolve()
        made = path.is_relative_to(DOCS / "generated")  # by the build, which checks these
        assert made or path.is_file(), f"{page} -> {link}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with flowers/train, flowers/test (pipes, in truth) and labels.csv."""
    folder = tmp_path_factory.mktemp("site")
    demo.write_images(folder / "flowers", 15)
    paths = sorted((folder / "flowers" / "train").rglob("*.jpg"))
    rows = [
        {
            "path": path.relative_to(folder).as_posix(),
            "label": path.parent.name,
            "patient": f"patient{number % 6}",
        }
        for number, path in enumerate(paths)
    ]
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site-cache") / "cache"


RUN = [page for page in PAGES if runs(page) and (LONG or page in FIRST)]


@pytest.mark.timeout(1200)  # models.md writes and runs four exports
@pytest.mark.parametrize("page", RUN)
def test_page(
    page: str,
    drawn: Path,
    shared_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page from its first block to its last, in one folder and one namespace."""
    shutil.copytree(drawn, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FEATX_CACHE", str(shared_cache))
    monkeypatch.setenv("FEATX_WEIGHTS", "none")
    monkeypatch.setenv("FEATX_IMAGE_SIZE", "32")
    changed = {"weights": None, "image_size": 32}
    fields = [field for field in dataclasses.fields(Backbone) if field.name != "name"]
    defaults = tuple(changed.get(field.name, field.default) for field in fields)
    monkeypatch.setattr(Backbone.__init__, "__defaults__", defaults)
    assert featx.Backbone("mobilenet_v2").weights is None
    names: dict[str, Any] = {}
    for info, body in blocks(page):
        if info == "python":
            exec(compile(body, f"docs/{page}", "exec"), names)
        elif info == "sh":
            for words in commands(body):
                answer = CliRunner().invoke(app.app, words[1:])
                assert answer.exit_code == 0, (words, answer.output, answer.stderr)


def test_blocks_that_are_not_run_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "extensions")
    site_pages = importlib.import_module("site_pages")
    counted = len(site_pages.blocks_not_run(DOCS))
    assert counted == sum(
        info.startswith("{code-block}") for page in PAGES for info, _ in blocks(page)
    )
    sys.modules.pop("site_pages")


def test_every_guide_case_and_example_has_its_page() -> None:
    indexes = {
        folder: (DOCS / folder / "index.md").read_text()
        for folder in ("guide", "coming-from", "case-studies")
    }
    for folder, text in indexes.items():
        for path in (DOCS / folder).glob("*.md"):
            assert path.stem == "index" or re.search(rf"^{re.escape(path.stem)}$", text, re.M), path
    for path in (DOCS / "examples").glob("*.py"):
        compile(path.read_text(encoding="utf-8"), str(path), "exec")
        assert "weights=None" in path.read_text(encoding="utf-8"), "runs offline"
