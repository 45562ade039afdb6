"""What `--help` shows: every command has its place and examples whose options it knows."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from featx.cli import app
from featx.cli.examples import EXAMPLES, HEADINGS

ROOT: Any = typer.main.get_command(app.app)


def commands() -> dict[str, Any]:
    found = {name: one for name, one in ROOT.commands.items() if name != "cache"}
    return found | {f"cache {name}": one for name, one in ROOT.commands["cache"].commands.items()}


def test_every_command_has_its_place_and_examples() -> None:
    assert set(EXAMPLES) == set(commands())
    placed = [name for names in HEADINGS.values() for name in names]
    assert sorted(placed) == sorted(ROOT.commands)
    assert [name for name in ROOT.commands if name != "cache"] == [
        p for p in placed if p != "cache"
    ]


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines]
)
def test_examples_are_of_the_command_and_its_options(name: str, line: str) -> None:
    words = shlex.split(line)
    assert " ".join(words).startswith(f"featx {name}")
    options = [(one.opts, one.secondary_opts) for one in commands()[name].params]
    known = {option for pair in options for names in pair for option in names}
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_help_shows_the_examples(name: str) -> None:
    answer = CliRunner(env={"COLUMNS": "200"}).invoke(app.app, [*name.split(), "--help"])
    assert answer.exit_code == 0
    for line in EXAMPLES[name]:
        assert line in answer.output


def test_commands_that_print_facts_print_json() -> None:
    without = {
        name
        for name, one in commands().items()
        if not {"--json"} & {option for parameter in one.params for option in parameter.opts}
    }
    assert without == {"demo", "serve"}  # a demonstration for people, and a service


def test_variables_set_options_and_the_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(app, "make_backbone", lambda *options: seen.append(options) or 1 / 0)
    environment = {"FEATX_BACKBONE": "resnet50", "FEATX_WEIGHTS": "none", "FEATX_IMAGE_SIZE": "64"}
    runner = CliRunner(env=environment)
    runner.invoke(app.app, ["extract", "anywhere"])
    runner.invoke(app.app, ["extract", "anywhere", "--image-size", "32", "-b", "vgg16"])
    assert [one[:3] for one in seen] == [("resnet50", "none", 64), ("vgg16", "none", 32)]
