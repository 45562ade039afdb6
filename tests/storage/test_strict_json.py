"""JSON that its standard does not know is refused."""

from __future__ import annotations

import pytest

from featx.storage import strict_json


def test_what_the_standard_knows_is_read() -> None:
    assert strict_json.loads(b'{"a": [1, 2.5, null, true, "\\ud800"]}') == {
        "a": [1, 2.5, None, True, "\ud800"]
    }
    assert strict_json.loads("12345678901234567890") == 12345678901234567890


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "[-1e999]"])
def test_no_number_is_beyond_every_float(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of JSON|beyond every float"):
        strict_json.loads(text)


@pytest.mark.parametrize("text", ["", "{", "[1,]", b"\xff"])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (Python's own words)
        strict_json.loads(text)
