from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.table import Table

from featx.cli import terminal


def test_results_and_messages_go_to_their_own_streams(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_line("a result")
    terminal.print_message("a message")
    assert capsys.readouterr() == ("a result\n", "a message\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größe, 汉字\ntwo lines", "plain, größe, 汉字\ntwo lines"),
        ("[bold]no markup[/bold] :smile:", "[bold]no markup[/bold] :smile:"),
        ("\x1b[2J", "\\x1b[2J"),  # would clear the screen
        ("a\rb\x07", "a\\rb\\x07"),
        ("\u2028\u200e", "\\u2028\\u200e"),
        ("\u202egpj", "\\u202egpj"),  # would turn the rest of the line round
        ("caf\udce9", "caf\\udce9"),  # a file name that is not UTF-8
    ],
)
def test_text_is_shown_and_not_obeyed(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.print_line(text)
    assert capsys.readouterr().out == shown + "\n"


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_line("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1


def made(rows: int) -> Table:
    table = terminal.make_table("name", "accu-\nracy", "seconds")
    for number in range(rows):
        table.add_row(f"[bold]{'n' * 40}[/bold]{number}", "0.5", "" if number else "3 s")
    table.caption = "the caption"
    return table


def shown(rows: int, columns: int | None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(columns))
    terminal.print_table(made(rows))
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("columns", [None, 80])
def test_a_table_that_fits_is_a_table(
    columns: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(2, columns, monkeypatch, capsys).splitlines()
    assert lines[0].split() == ["accu-"]
    assert lines[1].split() == ["name", "racy", "seconds"]
    assert lines[2].split() == ["n" * 40 + "0", "0.5", "3", "s"]
    assert len(lines) == 5


def test_a_table_that_does_not_fit_becomes_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(2, 50, monkeypatch, capsys).splitlines()
    assert [line.rstrip() for line in lines] == [
        "n" * 40 + "0",
        "  accuracy 0.5, seconds 3 s",
        "n" * 40 + "1",
        "  accuracy 0.5",
        "the caption",
    ]


@pytest.mark.parametrize("closed", ["1", "2", "0", "1 2"])
def test_closed_streams_end_nothing(closed: str) -> None:
    done = run_with_closed(closed, "backbones")
    assert ("is lost" in done.stderr) == (closed == "1")
    assert ("resnet50" in done.stdout) == ("1" not in closed)


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """The first file that is opened would get its descriptor, and what libraries print."""
    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    Image.new("RGB", (40, 40), (200, 0, 0)).save(folder / "1.png")
    options = ["-b", "mobilenet_v2", "--weights", "none", "--image-size", "32"]
    command = ["extract", str(folder), *options, "--cache", str(tmp_path / "cache")]
    run_with_closed("1 2", *command)
    assert "cached    1" in run_with_closed("0", *command).stdout


def run_with_closed(descriptors: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    shut = " ".join(f"{descriptor}>&-" for descriptor in descriptors.split())
    command = ["sh", "-c", f'"$@" {shut}', "sh", sys.executable, "-m", "featx", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_names_in_the_log_steer_no_terminal() -> None:
    record = logging.LogRecord("featx", logging.WARNING, "", 0, "%s", ("a\x1b[2J\rb",), None)
    assert terminal.PrintableFormatter("%(message)s").format(record) == "a\\x1b[2J\\rb"
