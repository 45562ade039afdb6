"""Benchmarks by group: what folds by image say, what folds by group say, and the gap."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from typer.testing import CliRunner

import featx
from featx.cli import app
from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.errors import DatasetError, FeatxError
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import splits
from featx.evaluation.report.findings import CautionKind
from featx.evaluation.report.report import Report
from featx.evaluation.scores import intervals
from tests.evaluation.seam import QUICK, TRAIN, Seam, images


def cameras(seed: int = 0, sites: int = 12, each: int = 5, first: int = 0) -> Dataset:
    """Return images that show their camera by a colour of its own; the class is a coin's."""
    rng = np.random.default_rng(seed)
    classes = np.random.default_rng(9).permutation(np.arange(sites) % 2)
    items = []
    for site in range(sites):
        colour = np.random.default_rng(100 + first + site).integers(40, 215, 3)
        for number in range(each):
            noise = rng.integers(-8, 8, (32, 32, 3))
            label = ("cat", "dog")[classes[site]]
            name = f"{label}/cam{first + site:02d}_{number}.png"
            items.append(Item(name, label, (colour + noise).astype(np.uint8)))
    return Dataset(items)


BY_CAMERA = re.compile(r"cam\d+")
ONE: dict[str, Any] = {**QUICK, "heads": {"knn": KNeighborsClassifier(1)}}


def shown(report: Report) -> str:
    """Return the Markdown of a report, whose document its schema allows."""
    schema = resources.files("featx.evaluation.report").joinpath("templates/report.schema.json")
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    jsonschema.validate(document, json.loads(schema.read_text()))
    return " ".join(report.verdict.headline.split()) + " ".join(
        point.text for point in report.verdict.points
    )


def test_folds_by_group_and_the_gap(seam: Seam) -> None:
    report = benchmark(cameras(), groups=BY_CAMERA, folds=4, **ONE)
    found = report.groups
    assert found is not None
    assert (found.name, found.train, found.largest, found.folds) == (r"cam\d+", 12, 5, 4)
    assert found.by_image == 1.0, "each image's camera is known to the neighbour beside it"
    assert found.by_group == pytest.approx(report.summaries[0].accuracy)
    assert found.by_group is not None
    assert found.by_group < 0.8
    text = shown(report)
    assert "each tested once by a model that saw no other image of its group" in text
    assert "Over 4 folds by image the knn gets 100.0 %, over folds by group" in text
    assert f"a gap of +{100 * (1 - found.by_group):.1f} points" in text
    assert "comes from knowing the group and not the class" in text


def test_no_group_is_tested_where_it_trains(seam: Seam) -> None:
    trained: list[set[str]] = []

    class Spy(LogisticRegression):
        def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Spy:
            trained.append(set(groups))
            assert len(groups) == len(X)
            return super().fit(X, y)

    options = {**QUICK, "heads": {"spy": Spy()}}
    report = benchmark(cameras(), groups=lambda name: name.split("_")[0], folds=4, **options)
    tested = [
        set(report.predictions[0].ids[n].split("_")[0] for n in range(60)) - names
        for names in trained[:4]
    ]
    assert all(trained[:4])
    assert sorted(name for names in tested for name in names) == sorted(
        {name.split("_")[0] for name in report.predictions[0].ids}
    )


def test_where_the_group_does_not_help_the_report_says_so(seam: Seam) -> None:
    groups = [str(number % 9) for number in range(36)]
    report = benchmark(images(TRAIN), groups=groups, folds=3, **ONE)
    assert report.groups is not None
    assert report.groups.name == "the list given"
    assert "Knowing the group hardly helps here." in shown(report)


def test_a_column_of_the_table_on_the_command_line(tmp_path: Path) -> None:
    lines = ["path,label,camera"]
    for item in cameras(sites=6, each=3):
        (tmp_path / item.id).parent.mkdir(exist_ok=True)
        Image.fromarray(item.source).save(tmp_path / item.id)
        lines.append(f"{item.id},{item.label},{BY_CAMERA.findall(item.id)[0]}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    words = ["benchmark", str(tmp_path / "t.csv"), "-b", "mobilenet_v2", "--weights", "none"]
    words += ["--image-size", "32", "--head", "nearest", "--no-baseline", "--no-evidence"]
    words += ["--folds", "3", "--class-weight", "balanced", "--out", str(tmp_path / "report")]
    result = CliRunner().invoke(app.app, [*words, "--groups-column", "camera"])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (found["groups"]["name"], found["groups"]["train"]) == ("camera", 6)
    assert "--groups-column camera" in found["command"]
    assert "--class-weight balanced" in found["command"]
    both = CliRunner().invoke(app.app, [*words, "--groups-column", "a", "--groups-pattern", "b"])
    assert both.exit_code == 2
    bad = CliRunner().invoke(app.app, [*words, "--groups-pattern", "("])
    assert bad.exit_code == 2
    model = tmp_path / "m.featx"
    words = ["train", str(tmp_path / "t.csv"), *words[2:10], "--class-weight", "balanced"]
    result = CliRunner().invoke(app.app, [*words, "--groups-column", "camera", "--out", str(model)])
    assert result.exit_code == 0, result.output
    assert featx.load(model).head_.class_weight == "balanced"


def test_a_test_set_whose_groups_train_is_named_with_the_score_without_it(seam: Seam) -> None:
    test = Dataset([*cameras(seed=1, sites=4), *cameras(seed=2, sites=4, first=50)])
    report = benchmark(cameras(), test, groups=BY_CAMERA, **ONE)
    found = report.groups
    assert found is not None
    assert (found.test, found.shared) == (8, ("cam00", "cam01", "cam02", "cam03"))
    assert len(found.shared_ids) == 20
    (caution,) = [one for one in report.findings.cautions if one.kind is CautionKind.SHARED_GROUPS]
    assert (caution.images, caution.different, caution.scored) == (20, 4, 20)
    answers = report.predictions[0]
    new = np.array([name not in set(found.shared_ids) for name in answers.ids])
    assert caution.accuracy == np.mean(answers.y_true[new] == answers.y_pred[new])
    words = " ".join(report.verdict.cautions)
    assert "20 test images are of 4 groups that train, too (such as cam00)" in words
    assert "Without them knn gets" in words
    assert "of the training images by image the knn gets 100.0 %" in shown(report)


def test_a_test_set_of_new_groups_is_not_warned_of(seam: Seam) -> None:
    test = cameras(seed=2, sites=4, first=50)
    report = benchmark(cameras(), test, groups=BY_CAMERA, **ONE)
    assert report.groups is not None
    assert report.groups.shared == ()
    assert not any(one.kind is CautionKind.SHARED_GROUPS for one in report.findings.cautions)


def test_lists_for_both_sets(seam: Seam) -> None:
    train, test = cameras(), cameras(seed=1, sites=4)
    lists = {
        "train": [BY_CAMERA.findall(name)[0] for name in train.ids],
        "test": [BY_CAMERA.findall(name)[0] for name in test.ids],
    }
    report = benchmark(train, test, groups=lists, **ONE)
    assert report.groups is not None
    assert len(report.groups.shared) == 4
    alone = benchmark(train, test, groups=lists["train"], **ONE).groups
    assert alone is not None
    assert alone.test is None
    with pytest.raises(FeatxError, match="keys 'all': expected 'train' and 'test'"):
        benchmark(train, test, groups={"all": []}, **ONE)


def test_the_head_is_chosen_by_group(seam: Seam) -> None:
    """A neighbour knows the camera; by image it would be chosen, by group nothing is better."""
    options = {**QUICK, "heads": {"knn": KNeighborsClassifier(1), "lr": LogisticRegression(C=1e-4)}}
    test = cameras(seed=2, sites=4, first=50)
    by_image = benchmark(cameras(), test, **options).selection
    by_group = benchmark(cameras(), test, groups=BY_CAMERA, **options).selection
    key = ("mobilenet_v2", "knn")
    image, group = by_image.scores[key], by_group.scores[key]
    assert image == 1.0
    assert group is not None
    assert group < 0.8


def test_images_that_fail_leave_their_groups(seam: Seam) -> None:
    data = images(TRAIN, bad=(0, 13, 35))
    groups = [str(number % 9) for number in range(36)]
    report = benchmark(data, groups=groups, folds=3, on_error="skip", **ONE)
    assert report.groups is not None
    assert report.groups.train == 9
    assert len(report.predictions[0].ids) == 33


@pytest.mark.parametrize(
    ("groups", "folds", "message"),
    [
        (["a"] * 18 + ["b"] * 18, 3, "needs 3 groups, and there are 2 .a, b.. Pass folds=2"),
        (["a"] * 36, 3, "there is 1 .a.. Give images of more groups"),
        (
            ["p"] * 12 + [str(n % 6) for n in range(24)],
            3,
            "by group a class must be in two groups or more.*'a' .all in 'p'.",
        ),
    ],
)
def test_groups_that_cannot_be_folded(
    groups: list[str], folds: int, message: str, seam: Seam
) -> None:
    with pytest.raises(DatasetError, match=message):
        benchmark(images(TRAIN), groups=groups, folds=folds, **ONE)
    assert not seam.extracted, "before any work"


def test_a_splitter_as_folds_belongs_to_groups(seam: Seam) -> None:
    with pytest.raises(
        FeatxError, match=r"folds=GroupKFold.*expected a whole number.*pass groups="
    ):
        benchmark(images(TRAIN), folds=GroupKFold(5), **ONE)


@pytest.mark.parametrize("seed", range(10))
def test_group_folds_are_whole_and_every_class_trains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 8, 80)
    y = rng.choice(["a", "b", "c"], 80, p=[0.6, 0.3, 0.1])
    copies = np.arange(80)
    copies[[3, 9]] = 3
    found = splits.folds_of(y, 4, seed, copies, groups)
    assert sorted(np.concatenate([score for _, score in found])) == list(range(80))
    for fit, score in found:
        assert not set(groups[fit]) & set(groups[score])
        assert set(y[score]) <= set(y[fit])


def test_groups_that_share_an_image_are_one() -> None:
    names = np.array(["p", "p", "q", "r", "r", "s"])
    copies = np.array([0, 1, 1, 2, 3, 4])  # an image of p is one of q, too
    found = splits.joined_groups(names, copies)
    assert found[0] == found[1] == found[2]
    assert len(set(found)) == 3
    assert splits.joined_groups(names, None).tolist() == [0, 0, 1, 2, 2, 3]


def test_intervals_are_over_groups() -> None:
    """Ten groups that are right or wrong as a whole say no more than ten images do."""
    correct = np.repeat(np.arange(10) < 7, 40)
    groups = np.repeat(np.arange(10), 40)
    narrow, wide = (intervals.accuracy_interval(correct, each) for each in (None, groups))
    assert narrow.high - narrow.low < 0.1
    assert wide.high - wide.low > 0.4
    other = np.repeat(np.arange(10) < 4, 40)
    assert intervals.compare(correct, other).p_value < 1e-6
    test = intervals.compare(correct, other, groups)
    assert test.p_value > 0.1
    assert test.test == "sign-flip permutation test over groups"
    each = intervals.compare(correct, other, np.arange(400))
    assert each.p_value < 0.001


def skin(number: int) -> Image.Image:
    """Return one patient's background: colours and blobs that all images of the patient share."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", (400, 400), tuple(int(x) for x in rng.integers(60, 220, 3)))
    pen = ImageDraw.Draw(image)
    for _ in range(25):
        x, y, size = (int(v) for v in rng.integers(0, 400, 3))
        colour = tuple(int(v) for v in rng.integers(40, 240, 3))
        pen.ellipse([x, y, x + size // 4 + 8, y + size // 5 + 8], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(3))


@pytest.mark.weights
def test_thirty_patients_with_labels_by_coin(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for patient in range(30):
        label = ("benign", "malignant")[int(np.random.default_rng(1000 + patient).integers(2))]
        (tmp_path / "lesions" / label).mkdir(parents=True, exist_ok=True)
        base = skin(patient)
        for view in range(6):
            x, y = (int(v) for v in rng.integers(40, 160, 2))
            turned = base.rotate(int(rng.integers(-25, 25))).crop((x, y, x + 200, y + 200))
            turned.save(tmp_path / "lesions" / label / f"p{patient:02d}_v{view}.png")
    out = tmp_path / "report"
    words = ["benchmark", str(tmp_path / "lesions"), "-b", "mobilenet_v2", "--head", "logistic"]
    words += ["--no-baseline", "--no-evidence", "--groups-pattern", r"/(p\d+)_", "--out", str(out)]
    result = CliRunner().invoke(app.app, words)
    assert result.exit_code == 0, result.output
    found = json.loads((out / "report.json").read_text())
    assert found["groups"]["train"] == 30
    assert found["groups"]["by_image"] > 0.8
    assert 0.3 < found["groups"]["by_group"] < 0.68
    assert found["methods"][0]["accuracy"] == found["groups"]["by_group"]
    output = " ".join(result.output.split())
    assert "a gap of +" in output
    assert "comes from knowing the group and not the class" in output
    assert "a gap of +" in (out / "report.md").read_text().replace("\xa0", " ")
    assert "a gap of +" in (out / "report.html").read_text().replace("\xa0", " ")
    assert r"--groups-pattern '/(p\d+)_'" in found["command"]


def test_weights_of_classes_reach_the_heads_and_the_baseline(seam: Seam) -> None:
    given = {**QUICK, "heads": ["logistic", "nearest"], "baseline": True, "epochs": 2}
    uneven = {"a": 24, "b": 6, "c": 6}
    report = benchmark(images(uneven), class_weight="balanced", folds=3, **given)
    assert "classes weighted alike" in report.baseline
    assert "class_weight='balanced'" in report.environment.command
    plain = benchmark(images(uneven), folds=3, **given)
    assert "weighted" not in plain.baseline
    one, two = (
        next(p.proba for p in each.predictions if p.method == "logistic")
        for each in (report, plain)
    )
    assert one is not None
    assert not np.allclose(one, two)
    with pytest.raises(FeatxError, match="the baseline knows 'balanced' alone"):
        benchmark(images(uneven), class_weight={"b": 2}, folds=3, **given)
    alone = {**given, "baseline": False}
    assert benchmark(images(uneven), class_weight={"a": 1, "b": 2, "c": 1}, folds=3, **alone)
