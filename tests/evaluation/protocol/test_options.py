from __future__ import annotations

import inspect
from dataclasses import fields

from featx.cli import report
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol.options import Options


def test_benchmark_takes_each_option_with_its_default() -> None:
    taken = list(inspect.signature(benchmark).parameters.values())[2:]
    assert [(one.name, one.default) for one in taken] == [
        (one.name, one.default) for one in fields(Options)
    ]
    assert all(one.kind is one.KEYWORD_ONLY for one in taken)


def test_the_command_line_has_the_same_defaults() -> None:
    taken = inspect.signature(report.benchmark).parameters
    # There the folder of the report must be named.
    shared = [one for one in fields(Options) if one.name in taken and one.name != "out"]
    assert len(shared) > 10
    assert [(one.name, taken[one.name].default) for one in shared] == [
        (one.name, one.default) for one in shared
    ]
