from __future__ import annotations

import html
import html.parser
import re

import pytest

from featx import formatting


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("x@someone", "@s"),
        ("owner/repo#12", "#1"),
        ("gh-12", "gh-1"),
        ("http://evil.example", "://"),
        ("_www.evil.example", "www."),
        ("WWW.evil.example", "WWW."),
    ],
)
def test_markdown_neither_links_nor_calls(text: str, live: str) -> None:
    shown = html.unescape(re.sub(r"\\(?=[#_])", "", formatting.markdown(text)))
    assert live not in shown
    assert shown.replace("\u200d", "") == text  # and a reader sees the same


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00 s"),
        (0.004, "< 0.01 s"),
        (0.996, "1.0 s"),
        (9.96, "10 s"),
        (119.6, "2 min 0 s"),
        (7300, "2 h 1 min"),
    ],
)
def test_seconds_in_words(value: float, text: str) -> None:
    assert formatting.seconds(value) == text


def test_missing_figures_are_a_dash() -> None:
    for write in (formatting.percent, formatting.number, formatting.seconds, formatting.times):
        assert write(None) == write(float("nan")) == "–"
