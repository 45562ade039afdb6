from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featx import terminal

ROOT = Path(__file__).resolve().parent.parent


def test_results_and_remarks_go_to_their_own_streams(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("a result")
    terminal.tell("a remark")
    assert capsys.readouterr() == ("a result\n", "a remark\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größe, 汉字\ntwo lines", "plain, größe, 汉字\ntwo lines"),
        ("[bold]no markup[/bold] :smile:", "[bold]no markup[/bold] :smile:"),
        ("\x1b[2J", "\\x1b[2J"),  # would clear the screen
        ("a\rb\x07", "a\\rb\\x07"),
        ("\u202egpj", "\\u202egpj"),  # would turn the rest of the line round
        ("caf\udce9", "caf\\udce9"),  # a file name that is no UTF-8
    ],
)
def test_text_is_shown_and_not_obeyed(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.say(text)
    assert capsys.readouterr().out == shown + "\n"


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1


def test_a_table_is_cut_to_a_terminal_but_not_to_a_pipe() -> None:
    script = (
        "from featx.terminal import output, table\n"
        "made = table('name', 'value')\n"
        "made.add_row('n' * 60, 'v' * 60)\n"
        "output().print(made)\n"
    )
    clean = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    for columns, whole in (({}, True), ({"COLUMNS": "40"}, False)):
        answer = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**clean, **columns},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (f"{'n' * 60}  {'v' * 60}" in answer.stdout) is whole
