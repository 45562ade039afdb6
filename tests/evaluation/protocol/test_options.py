from __future__ import annotations

import inspect
from dataclasses import fields

from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol.options import Options


def test_benchmark_takes_each_option_with_its_default() -> None:
    taken = list(inspect.signature(benchmark).parameters.values())[2:]
    assert [(one.name, one.default) for one in taken] == [
        (one.name, one.default) for one in fields(Options)
    ]
    assert all(one.kind is one.KEYWORD_ONLY for one in taken)
