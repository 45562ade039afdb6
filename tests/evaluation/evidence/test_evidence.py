from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.svm import LinearSVC

from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.evaluation.comparison import compare
from featx.evaluation.evidence import evidence, image_map, mistakes
from featx.evaluation.evidence.evidence import Limits
from featx.evaluation.protocol import plan
from featx.evaluation.protocol.options import Options
from featx.evaluation.report.report import Report
from featx.evaluation.results import Predictions
from tests.evaluation.seam import QUICK, TEST, TINY, TRAIN, Seam, images

FULL = {**QUICK, "evidence": True, "heads": ["logistic", "nearest"]}


def said(method: str, truth: list[str], given: list[str], sure: list[float]) -> Predictions:
    proba = np.zeros((len(truth), 2))
    for row, (name, p) in enumerate(zip(given, sure, strict=True)):
        proba[row] = (p, 1 - p) if name == "a" else (1 - p, p)
    return Predictions(
        "net",
        method,
        "head",
        0,
        tuple(map(str, range(len(truth)))),
        np.array(truth, dtype=object),
        np.array(given, dtype=object),
        proba,
    )


def test_mistakes_by_confidence_and_by_how_many_methods() -> None:
    truth = list("aaabbb")
    first = said("one", truth, list("abbbba"), [0.9, 0.7, 0.95, 0.6, 0.8, 0.6])
    second = said("two", truth, list("bbabaa"), [0.9, 0.9, 0.8, 0.6, 0.6, 0.9])
    assert mistakes.most_confident(first) == [2, 1, 5]
    # 1 and 5 are wrong twice, and 1 has the lower mean probability of the true class.
    assert mistakes.worst([first, second], ["a", "b"]) == [1, 5, 2, 0, 4]
    assert mistakes.worst([first, second], ["a", "b"], besides=[1, 2]) == [5, 0, 4]


def test_images_that_are_gone_are_left_out() -> None:
    items = [Item("x", "a", b"no image"), Item("y", "a", np.zeros((300, 90, 3), np.uint8))]
    found = mistakes.images(items, [0, 1])
    assert list(found) == [1]
    assert Image.open(io.BytesIO(found[1])).size == (60, 200)


def drawn(n: int, groups: int = 3) -> tuple[list[Item], np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(0, 0.1, (n, 16)).astype(np.float32)
    X[np.arange(n), np.arange(n) % groups] += 3
    grey = [np.full((40, 60, 3), 20 + 200 * i // n, np.uint8) for i in range(n)]
    return [Item(str(i), "a", image) for i, image in enumerate(grey)], X


def test_look_alikes_lie_side_by_side_on_the_map() -> None:
    items, X = drawn(90)
    found = image_map.layout("net", items, X)
    assert found.how == "t-SNE"
    assert found.places.min() == 0
    assert found.places.max() == 1
    far = np.linalg.norm(found.places[:, None] - found.places[None], axis=2)
    np.fill_diagonal(far, np.inf)
    assert np.all(far.argmin(axis=1) % 3 == np.arange(90) % 3)


def test_the_sheet_holds_each_image_in_its_cell() -> None:
    items, X = drawn(30)
    found = image_map.layout("net", items, X)
    sheet = np.asarray(Image.open(io.BytesIO(found.sheet)).convert("L"))
    side = image_map.SIDE
    assert sheet.shape == (side * 5, side * found.columns)
    for cell in (0, 17, 29):
        x, y = side * (cell % found.columns), side * (cell // found.columns)
        assert abs(int(sheet[y + side // 2, x + side // 2]) - (20 + 200 * cell // 30)) < 8


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_or_equal_images_have_a_map_too(n: int) -> None:
    items, X = drawn(n)
    assert image_map.layout("net", items, X).how == "PCA"
    same = image_map.layout("net", items, np.ones_like(X))
    assert np.isfinite(same.places).all()


def test_more_images_than_a_map_holds_are_taken_at_even_steps() -> None:
    items, X = drawn(101)
    found = list(image_map.layout("net", items, X, most=20).positions)
    assert found == [round(step * 100 / 19) for step in range(20)]


# Which points a curve has depends on the clock: here it has time.
UNHURRIED = Limits(curve_seconds=float("inf"), other_seconds=float("inf"))


def compared(train: Dataset, test: Dataset | None = None, **options: Any) -> Report:
    return compare(train, test, Options(**options), UNHURRIED)


def test_with_a_test_set_the_training_rows_give_curve_and_temperature(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence.parity, "compare", _same)
    report = compared(images(TRAIN), images(TEST, seed=1), **FULL)
    found = report.evidence
    assert found is not None
    assert not found.missing
    assert {one.method for one in found.temperatures} == {"logistic", "nearest"}
    assert "on the training images" in found.temperatures[0].source
    assert [point.per_class for point in found.learning[0].points] == [2, 5, 10, 12]
    assert found.learning[0].points[-1].accuracy == report.summaries[0].accuracy
    assert found.map is not None
    assert list(found.map.positions) == list(range(18))
    assert set(found.images) == {*found.most_confident, *found.worst}


def _same(
    backbone: Any, head: Any, dataset: Dataset, rows: np.ndarray, *, running: dict[str, Any]
) -> Any:
    assert len(dataset) == len(rows) == len(head.predict(rows))
    return evidence.parity.Parity(len(rows), 1e-7, dataset.ids[0], len(rows), 1e-5, "it", 0.1)


def test_one_head_alone_is_cross_validated_for_its_temperature(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence.parity, "compare", _same)
    options = {**FULL, "heads": ["nearest"]}
    report = compared(images(TRAIN), images(TEST, seed=1), **options)
    assert report.evidence is not None
    (one,) = report.evidence.temperatures
    assert one.source.startswith("3-fold cross-validation")
    assert report.selection.folds == 0


def test_a_temperature_is_fitted_on_the_part_that_was_held_out(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence.parity, "compare", _same)
    monkeypatch.setattr(plan, "ENOUGH_HELD_OUT", 12)
    options = {**FULL, "heads": ["nearest", "logistic"]}
    report = compared(images(TRAIN), images(TEST, seed=1), **options)
    assert report.evidence is not None
    assert not report.evidence.missing
    sources = [one.source for one in report.evidence.temperatures]
    assert sources == ["12 of the training images, held out"] * 2


def test_with_folds_each_model_is_proved_on_images_it_had_not_seen(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []

    def compare(backbone: Any, head: Any, dataset: Dataset, rows: np.ndarray, **more: Any) -> Any:
        seen.append(tuple(dataset.ids))
        return _same(backbone, head, dataset, rows, **more)

    monkeypatch.setattr(evidence.parity, "compare", compare)
    report = compared(images(TRAIN), folds=3, **FULL)
    assert report.evidence is not None
    assert not report.evidence.missing
    (proof,) = report.evidence.proofs
    assert proof.of == len(seen[0]) == 12
    assert "other folds" in report.evidence.temperatures[0].source
    assert report.evidence.learning[0].points[-1].per_class == 8


def test_a_head_that_cannot_be_folded_says_so_and_the_next_is_proved(seam: Seam) -> None:
    options = {**FULL, "heads": ["nearest"]}
    alone = compared(images(TRAIN), images(TEST, seed=1), **options).evidence
    assert alone is not None
    (proof,) = alone.proofs
    assert proof.found is None
    assert "cannot be folded" in proof.reason


def test_a_part_that_fails_leaves_the_others_and_its_reason(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **options: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(image_map, "layout", broken)
    monkeypatch.setattr(evidence.parity, "compare", broken)
    found = compared(images(TRAIN), images(TEST, seed=1), **FULL).evidence
    assert found is not None
    assert found.map is None
    assert found.missing == (
        "No map: no memory [RuntimeError]",
        "No parity: no memory [RuntimeError]",
    )
    assert found.learning


def test_it_can_be_left_out(seam: Seam) -> None:
    report = compared(images(TRAIN), images(TEST, seed=1), **{**FULL, "evidence": False})
    assert report.evidence is None
    assert report.to_dict()["evidence"] is None


def test_heads_without_probabilities_and_several_seeds_and_networks_make_a_page(
    seam: Seam, tmp_path: Path
) -> None:
    options = {**FULL, "heads": {"svm": LinearSVC()}}
    networks = [TINY, replace(TINY, image_size=48)]
    report = compared(images(TRAIN), **{**options, "backbones": networks}, seeds=2, folds=3)
    found = report.evidence
    assert found is not None
    assert not found.temperatures
    assert [proof.found for proof in found.proofs] == [None]
    assert found.learning[0].points[-1].repeats == 2
    text = (report.save(tmp_path) / "report.html").read_text()
    assert "cannot be attached to the network" in text


def test_a_baseline_alone_has_a_map_and_its_mistakes(seam: Seam, tmp_path: Path) -> None:
    options = {**FULL, "heads": [], "baseline": True}
    report = compared(images(TRAIN), folds=3, **options)
    found = report.evidence
    assert found is not None
    assert not found.missing
    assert found.map is not None
    assert not found.learning
    assert not found.proofs
    report.save(tmp_path)
