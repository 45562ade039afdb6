"""The errors: one base class, and built-in types where a caller would expect one."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import featx
from featx import errors

ALL = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, errors.FeatxError)
]


@pytest.mark.parametrize(
    "option", [{"on_error": "ignore"}, {"batch_size": 0}, {"batch_size": 2.5}], ids=str
)
def test_a_value_that_is_not_allowed_is_an_option_error(option: dict[str, Any]) -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(errors.OptionError, match="expected") as raised:
        featx.extract(images, featx.Backbone("mobilenet_v2", weights=None), **option)
    assert isinstance(raised.value, ValueError)
    assert repr(next(iter(option.values()))) in str(raised.value)


def test_errors_travel_between_processes() -> None:
    failure = errors.Failure("red/1.jpg", "NotAnImageError", "it is text")
    for error in ALL:
        bad = issubclass(error, errors.BadImagesError)
        made = error([failure], 3) if bad else error("the reason")
        again = pickle.loads(pickle.dumps(made))
        assert (type(again), str(again)) == (error, str(made))


def test_each_image_error_has_a_code_of_its_own() -> None:
    kinds = [one for one in ALL if issubclass(one, errors.ImageError)]
    assert sorted(errors.IMAGE_ERRORS) == sorted(one.code for one in kinds)
    assert len(set(errors.IMAGE_ERRORS)) == len(kinds)
