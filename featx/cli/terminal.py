"""What the command line prints: results to standard output, all the rest to standard error."""

from __future__ import annotations

import os
import sys

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from featx.formatting import printable


def output() -> Console:
    """Return standard output; when it is no terminal, wide enough not to cut a table."""
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if narrow else 160)


def say(text: str) -> None:
    """Print a line of the result."""
    output().print(Text(printable(text, multiline=True)), soft_wrap=True)


def deliver(text: str) -> None:
    """Print a line for another program: exactly, unless it is a terminal that reads it.

    Names of files are bytes; those that are no UTF-8 come out as the same bytes.
    """
    stream = sys.stdout
    if stream.isatty() or not hasattr(stream, "buffer"):
        say(text)
        return
    try:
        line = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no bytes of a name, and so nothing that stands for itself
        line = text.encode("utf-8", "backslashreplace")
    stream.flush()
    stream.buffer.write(line + b"\n")
    stream.buffer.flush()


def tell(text: str, style: str = "") -> None:
    """Print a line about the work, in a style of rich's, to standard error."""
    Console(stderr=True).print(Text(printable(text, multiline=True), style=style), soft_wrap=True)


def show(made: Table) -> None:
    """Print a table, or, where the terminal is too narrow for it, each row as a sentence."""
    console = output()
    natural = console.measure(made, options=console.options.update(max_width=10_000))
    if natural.maximum <= console.width:
        console.print(made)
        return
    heads = [_plain(console, column.header) for column in made.columns]
    cells = [[_plain(console, cell) for cell in column.cells] for column in made.columns]
    for name, *values in zip(*cells, strict=True):
        facts = [f"{head} {value}" for head, value in zip(heads[1:], values, strict=True) if value]
        console.print(Text(name, style="bold"))
        console.print(Padding(Text(", ".join(facts)), (0, 0, 0, 2)))
    if made.caption:
        console.print(made.caption, highlight=False)


def _plain(console: Console, cell: RenderableType) -> str:
    text = console.render_str(cell) if isinstance(cell, str) else cell
    # A heading that was broken to be narrow is made whole.
    return " ".join(str(text).replace("-\n", "").split())


def size(count: int) -> str:
    """Return a number of bytes in the unit a reader would use."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def table(*columns: str) -> Table:
    """Return an empty table without lines, fit for a screen and for grep."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column)
    return made
