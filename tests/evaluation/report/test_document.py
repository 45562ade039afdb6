from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from featx.evaluation.report import document
from featx.evaluation.report.report import Report
from featx.evaluation.results import (
    MethodFailure,
)
from tests.evaluation.report.conftest import Page, saved


@pytest.fixture
def schema() -> Any:
    text = (
        resources.files("featx.evaluation.report")
        .joinpath("templates/report.schema.json")
        .read_text()
    )
    return json.loads(text)


def test_json_is_strict_and_follows_its_schema(
    build: Callable[..., Report], schema: Any, tmp_path: Path
) -> None:
    report = build(
        seeds=2,
        method_failures=[MethodFailure("net", "mlp", 0, None, "ValueError", "no")],
        warnings=["slow"],
    )
    data = saved(report, tmp_path)[2]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"].split(":")[-1] == schema["title"].split()[-1] == str(document.VERSION)
    jsonschema.validate(data, schema)
    assert data["histories"][0]["curves"]["loss"] == [None, 0.5, 0.45]  # NaN is null
    assert len(data["trainings"]) == 6
    assert data["methods"][0]["confusion"][0][0] > 0


def test_a_report_without_evidence_follows_its_schema_too(
    build: Callable[..., Report], schema: Any, tmp_path: Path
) -> None:
    text, _, data = saved(build(evidence=False), tmp_path)
    jsonschema.validate(data, schema)
    assert data["evidence"] is None
    assert 'id="map"' not in text


def test_the_schema_refuses_what_it_does_not_know(
    build: Callable[..., Report], schema: Any
) -> None:
    data = build().to_dict()
    inner = [("evidence",), ("evidence", "map"), ("evidence", "parity", 0)]
    for path in (
        (),
        ("findings",),
        ("methods", 0),
        ("methods", 0, "cost"),
        ("trainings", 0),
        *inner,
    ):
        broken = copy.deepcopy(data)
        place: Any = broken
        for step in path:
            place = place[step]
        place["surprise"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_predictions_can_be_counted_again_from_json(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    data = saved(build(), tmp_path)[2]
    truth = np.array(data["tested"]["y_true"])
    for one in data["predictions"]:
        method = next(m for m in data["methods"] if m["method"] == one["method"])
        assert np.mean(truth == one["y_pred"]) == pytest.approx(method["accuracy"])
        loss = -np.mean(np.log(np.maximum(one["p_true"], 1e-6)))
        assert loss == pytest.approx(method["log_loss"], rel=0.01)
    assert len(data["tested"]["ids"]) == len(truth) == 240


def test_no_mistakes_and_no_probabilities_make_a_page_too(
    build: Callable[..., Report], schema: Any, tmp_path: Path
) -> None:
    report = build(
        shares=(1.0, 1.0, 1.0),
        changed=lambda one: dataclasses.replace(one, proba=None, y_pred=one.y_true),
    )
    text, _, data = saved(report, tmp_path)
    assert Page(text).text.count("No image was given a wrong class.") == 1
    assert data["methods"][0]["calibration"] is None
    assert data["methods"][0]["interval"]["low"] < 1
    jsonschema.validate(data, schema)
