"""What the command line prints: results to standard output, messages to standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from featx.formatting import printable


class PrintableFormatter(logging.Formatter):
    """Formats log lines so that no name in them can steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line with control characters escaped."""
        return printable(super().format(record), multiline=True)


def open_standard_streams() -> None:
    """Have standard input, output and error, whatever the caller closed.

    A closed descriptor would be given to the next file that is opened, and what a library prints
    would be written into that file.
    """
    closed = []
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free one: this
            closed.append(descriptor)
    # Open until the process ends.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not a failure: a name that a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    if 1 in closed:
        print_message("Standard output is closed: what would be printed there is lost.")


def output() -> Console:
    """Return standard output; if it is not a terminal, wide enough not to cut a table."""
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if narrow else 160)


def print_line(text: str) -> None:
    """Print a line of the result."""
    output().print(Text(printable(text, multiline=True)), soft_wrap=True)


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print a line per name and value, the values in one column."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print_line(f"{name:<{width}}  {value}")


def print_raw(text: str) -> None:
    """Print a line for another program: unescaped, unless a terminal reads it.

    Names of files are bytes; those that are not UTF-8 are written as the same bytes.
    """
    stream = sys.stdout
    if stream.isatty() or not hasattr(stream, "buffer"):
        print_line(text)
        return
    try:
        line = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that does not stand for a byte of a name
        line = text.encode("utf-8", "backslashreplace")
    stream.flush()
    stream.buffer.write(line + b"\n")
    stream.buffer.flush()


def print_json(facts: Any) -> None:
    """Print facts as JSON in ASCII; what JSON has no form for, such as a path, as its text."""
    print_raw(json.dumps(facts, indent=1, ensure_ascii=True, default=str))


def print_message(text: str, style: str = "") -> None:
    """Print a message about the work, in one of rich's styles, to standard error."""
    shown = Text(printable(text, multiline=True), style=style)
    Console(stderr=True).print(shown, soft_wrap=True)


def make_table(*columns: str) -> Table:
    """Return an empty table without lines, fit for a screen and for grep."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column)
    return made


def print_table(table: Table) -> None:
    """Print a table, or, where the terminal is too narrow for it, each row as a sentence."""
    console = output()
    natural = console.measure(table, options=console.options.update(max_width=10_000))
    if natural.maximum <= console.width:
        console.print(table)
        return
    headers = [_plain(console, column.header) for column in table.columns]
    cells = [[_plain(console, cell) for cell in column.cells] for column in table.columns]
    for name, *values in zip(*cells, strict=True):
        named = zip(headers[1:], values, strict=True)
        console.print(Text(name, style="bold"))
        sentence = ", ".join(f"{header} {value}" for header, value in named if value)
        console.print(Padding(Text(sentence), (0, 0, 0, 2)))
    if table.caption:
        console.print(table.caption, highlight=False)


def _plain(console: Console, cell: RenderableType) -> str:
    text = console.render_str(cell) if isinstance(cell, str) else cell
    # A heading that was broken to be narrow is made whole.
    return " ".join(str(text).replace("-\n", "").split())
