"""Files of each present format, written once, are still read: models, features, reports.

How they were made, in a checkout, with `GOLDEN` the folder tests/data/golden:

    X = np.sin(np.arange(48, dtype=np.float32)).reshape(12, 4)
    X[np.arange(12), np.arange(12) % 3] += 1
    y = np.array(["daisy", "rose", "tulip"] * 4, dtype=object)
    ids = [f"{label}/{number}.png" for number, label in enumerate(y)]
    failures = [Failure("rose/é\\t.png", "TruncatedError", "the file ends early")]
    spec = {"backbone": "mobilenet_v2", "side": 32, "key": "golden"}
    features = Features(X, y, ids, failures=failures, spec=spec)
    features.save(GOLDEN / "features-3.h5")

    backbone = Backbone("mobilenet_v2", weights=None, image_size=32)
    ImageClassifier(backbone, heads.logistic(C=0.1)).fit(features).save(GOLDEN / "model-2.featx")

    folder = tests.evaluation.report.conftest.make(n=24).save("report")
    (folder / "report.json").rename(GOLDEN / "report-6.json")

A change of a format adds a file under the new number, with a line in CHANGELOG.md; those of 0.2.0
stay, as the cache's do, and are never written again. The cache's own are in
tests/promises/test_rot.py.
"""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

from featx import Backbone, Features, heads, load
from featx import features as feature_files
from featx.classifier.file import container
from featx.cli import app
from featx.errors import Failure
from featx.evaluation.report import document

GOLDEN = Path(__file__).resolve().parent / "data" / "golden"
LABELS = ["daisy", "rose", "tulip"]
SPEC = {"backbone": "mobilenet_v2", "side": 32, "key": "golden"}
SCORES = [
    [0.360137635, 0.207598456, 0.432263909],
    [0.334575488, 0.517988987, 0.147435526],
    [0.247659335, 0.280189916, 0.472150750],
]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("model-{}.featx", container.VERSION),
        ("features-{}.h5", feature_files.FORMAT),
        ("report-{}.json", document.VERSION),
    ],
)
def test_each_present_format_has_a_golden_file(name: str, number: int) -> None:
    assert (GOLDEN / name.format(number)).is_file(), "make one, as told above"


def test_features_3() -> None:
    features = Features.load(GOLDEN / "features-3.h5")
    X = np.sin(np.arange(48, dtype=np.float64)).reshape(12, 4)
    X[np.arange(12), np.arange(12) % 3] += 1
    assert features.X.dtype == np.float32
    np.testing.assert_allclose(features.X, X, atol=1e-6)
    assert features.y is not None
    assert features.y.tolist() == LABELS * 4
    assert features.classes == LABELS
    assert features.ids == [f"{label}/{number}.png" for number, label in enumerate(LABELS * 4)]
    assert features.failures == [
        Failure("rose/é\t.png", "TruncatedError", "the file ends early"),
    ]
    assert features.spec == SPEC


def test_model_2() -> None:
    model = load(GOLDEN / "model-2.featx")
    features = Features.load(GOLDEN / "features-3.h5")
    # Saved when every image was decoded in full, it goes on so.
    assert model.backbone == Backbone("mobilenet_v2", weights=None, image_size=32, decode="full")
    assert type(model.head_) is heads.LogisticHead
    assert model.head_.get_params() == heads.logistic(C=0.1).get_params()
    assert (model.classes_.tolist(), model.dim_, model.spec_) == (LABELS, 4, SPEC)
    np.testing.assert_allclose(model.predict_proba(features)[:3], SCORES, atol=1e-6)
    tulip, daisy = ["tulip", "rose", "tulip"], ["daisy", "rose", "tulip"]
    assert model.predict(features).tolist() == tulip + 3 * daisy


def test_report_6(tmp_path: Path) -> None:
    text = (GOLDEN / "report-6.json").read_text(encoding="utf-8")
    template = "templates/report.schema.json"
    schema = resources.files("featx.evaluation.report").joinpath(template).read_text()
    data = json.loads(text, parse_constant=pytest.fail)
    jsonschema.validate(data, json.loads(schema))
    found = {one["method"]: one["accuracy"] for one in data["trainings"]}
    assert found == pytest.approx({"logistic": 1, "linear_svm": 0.875, "keras_baseline": 19 / 24})
    shutil.copy(GOLDEN / "report-6.json", tmp_path / "report.json")
    answer = CliRunner().invoke(app.app, ["report", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert "linear_svm" in answer.output
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == text
    for page in ("report.html", "report.md"):
        shown = (tmp_path / page).read_text(encoding="utf-8")
        assert "87.5 %" in shown.replace("\N{NO-BREAK SPACE}", " ")
        assert "flowers/train" in shown
