"""The commands train, predict and export; predictions for many images, the bad ones included."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from featx.classifier import predictions
from featx.classifier.predictions import Prediction
from featx.cli import app
from featx.cli import model as cli_model
from featx.errors import EmptyDatasetError, FeatxError
from tests.conftest import draw_folder
from tests.promises import images as made

OPTIONS = ["-b", "mobilenet_v2", "--weights", "none", "--image-size", "32"]


def run(*words: object, code: int = 0) -> str:
    answer = CliRunner().invoke(app.app, [str(word) for word in words])
    assert answer.exit_code == code, (answer.output, answer.exception)
    return answer.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    images = draw_folder(folder / "images")
    words = [*OPTIONS, "--out", folder / "m.featx", "--test", images, "--cache", folder / "cache"]
    out = run("train", images, *words)
    assert "blue, green, red" in out
    assert re.search(
        r"^accuracy +1\.0000 \(95 % interval 0\.\d+ to 1\.0000\) on ", out, re.MULTILINE
    )
    assert "sha256" in out
    return folder / "m.featx"


@pytest.fixture(autouse=True)
def kept(model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the embeddings of the model's training: the tests draw the same images."""
    monkeypatch.setenv("FEATX_CACHE", str(model.parent / "cache"))


def test_train_goes_on_without_bad_images_when_asked(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "green" / "00.png").write_bytes(b"no image")
    run("train", image_folder, *OPTIONS, "--out", tmp_path / "m.featx", code=1)
    assert not (tmp_path / "m.featx").exists()
    words = ["--out", tmp_path / "m.featx", "--on-error", "skip"]
    assert re.search(r"^images +23$", run("train", image_folder, *OPTIONS, *words), re.MULTILINE)


def test_predict_in_every_form(model: Path, image_folder: Path) -> None:
    red = image_folder / "red"
    assert run("predict", model, red / "00.png").split()[-2] == "red"
    rows = json.loads(run("predict", model, red, "--json", "--top", "2"))
    assert [row["label"] for row in rows] == ["red"] * 8
    assert rows[0]["image"] == str(red / "00.png")
    assert len(rows[0]["top"]) == 2
    assert rows[0]["error"] is None
    table = list(csv.DictReader(io.StringIO(run("predict", model, f"{red}/0[12].png", "--csv"))))
    assert [row["label"] for row in table] == ["red", "red"]
    assert float(table[0]["probability"]) > 0.4
    run("predict", model, red, "--json", "--csv", code=2)


def test_bad_images_have_their_row_and_decide_the_exit_code(
    model: Path, image_folder: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    words = [image_folder / "red" / "00.png", bad, tmp_path / "none.png", bad]
    words.append(image_folder / "blue" / "00.png")
    rows = json.loads(run("predict", model, *words, "--json", code=1))
    assert [row["label"] for row in rows] == ["red", None, None, None, "blue"]
    assert "not an image" in rows[1]["error"] or "no image" in rows[1]["error"]
    assert "cannot be read" in rows[2]["error"]
    lines = run("predict", model, *words, "--csv", "--on-error", "skip").splitlines()
    assert lines[0] == "image,label,probability,error"
    assert len(lines) == 6


def test_many_bad_images_are_no_reason_to_stop(
    model: Path, image_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number:02d}.png").write_bytes(b"no image")
    (folder / "99.png").write_bytes((image_folder / "red" / "00.png").read_bytes())
    rows = json.loads(run("predict", model, folder, "--json", "--on-error", "skip"))
    assert [row["label"] for row in rows] == [None] * 50 + ["red"]


def test_explain_writes_a_page(model: Path, image_folder: Path, tmp_path: Path) -> None:
    run("predict", model, image_folder / "red", "--explain", tmp_path / "why")
    page = (tmp_path / "why" / "index.html").read_text(encoding="utf-8")
    assert page.count("<article>") == 8
    assert page.count('alt="what speaks for red"') == 8
    assert len(list((tmp_path / "why").glob("*.jpg"))) == 8


def test_an_older_page_leaves_no_map_behind(
    model: Path, image_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "why"
    run("predict", model, image_folder / "red", "--explain", folder)
    (folder / "notes.txt").write_text("mine")
    shutil.copy(image_folder / "red" / "00.png", folder / "mine.jpg")
    run("predict", model, image_folder / "red" / "00.png", "--explain", folder, "--force")
    names = ["00001.jpg", "index.html", "mine.jpg", "notes.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    with Image.open(folder / "00001.jpg") as shown:
        shown.load()


@pytest.mark.parametrize("name", ["00007.jpg", "index.html"])
def test_files_that_featx_did_not_write_are_left_alone(
    name: str, model: Path, image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    words = ["predict", str(model), str(image_folder / "red"), "--explain", str(tmp_path)]
    answer = CliRunner().invoke(app.app, words)
    assert answer.exit_code == 1
    assert f"{name} was not written by featx" in " ".join(answer.stderr.split())
    assert (tmp_path / name).read_bytes() == b"mine"


def test_cells_name_their_files_exactly(model: Path, image_folder: Path, tmp_path: Path) -> None:
    names = [b"narrow\xe2\x80\xafnb\xc2\xa0sp.png", b"caf\xe9.png", b"esc\x1b[31m.png"]
    paths = [os.path.join(os.fsencode(tmp_path), name) for name in names]
    for path in paths:
        shutil.copy(os.fsencode(image_folder / "red" / "00.png"), path)
    words = ["predict", str(model), *map(os.fsdecode, paths), "--csv"]
    answer = CliRunner().invoke(app.app, words)
    assert answer.exit_code == 0, answer.exception
    cells = [line.split(b",")[0] for line in answer.stdout_bytes.splitlines()[1:]]
    assert cells == paths
    shown = run("predict", model, *map(os.fsdecode, paths))
    assert "narrow\u202fnb\xa0sp.png" in shown
    assert "\x1b" not in shown


def test_a_wrong_option_is_found_before_the_work(
    image_folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("images were read")

    monkeypatch.setattr("featx.classifier.classifier.extract", work)
    monkeypatch.setattr("featx.classifier.export.formats.folded", work)
    missing = tmp_path / "none" / "m"
    train = ["train", str(image_folder), *OPTIONS]
    for words, expected in (
        ([*train, "--out", f"{tmp_path}/m.featx", "--head", "nope"], "no head 'nope'. Known: log"),
        ([*train, "--out", f"{missing}.featx"], f"the folder {missing.parent} does not exist"),
        (["export", str(model), f"{missing}.onnx"], f"the folder {missing.parent} does not exist"),
    ):
        answer = CliRunner().invoke(app.app, words, env={"COLUMNS": "1000"})
        assert answer.exit_code == 1, answer.exception
        assert answer.stderr.startswith(f"Error: {expected}")
    assert list(tmp_path.glob("*.featx")) == []


def test_pin_and_export(model: Path, tmp_path: Path) -> None:
    run("predict", model, "x.png", "--sha256", "0" * 64, code=1)
    run("export", model, tmp_path / "m.keras")
    assert (tmp_path / "m.keras").stat().st_size > 1_000_000
    run("export", model, tmp_path / "m.pb", code=1)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(start: str) -> None:
    evil = f'{start}cmd|"/c calc"!A1'
    line = predictions.as_csv(Prediction(evil, [(evil, 0.25)], ""), 2)
    (cells,) = csv.reader(io.StringIO(line, newline=""))
    assert cells == [f"'{evil}", f"'{evil}", "0.250000", "", "", ""]
    (cells,) = csv.reader(
        io.StringIO(predictions.as_csv(Prediction(evil, [], evil), 1), newline="")
    )
    assert cells == [f"'{evil}", "", "", f"'{evil}"]


def test_line_breaks_stay_in_their_cell_and_their_line() -> None:
    evil = "a\nb\r\nc"
    row = Prediction(evil, [(evil, 0.25)], "")
    (cells,) = csv.reader(io.StringIO(predictions.as_csv(row, 1), newline=""))
    assert cells == [evil, evil, "0.250000", ""]
    assert "\n" not in cli_model._line(row)
    assert "\n" not in cli_model._line(Prediction(evil, [], evil))


def test_a_folder_is_every_image_in_it(image_folder: Path, tmp_path: Path) -> None:
    shutil.copy(image_folder / "red" / "00.png", image_folder / "beside.png")
    (image_folder / "red" / "notes.txt").write_text("no image")
    found = predictions.images_of([str(image_folder)]).ids
    assert str(image_folder / "beside.png") in found
    assert len(found) == 25
    assert predictions.images_of([f"{image_folder}/*"]).ids == sorted(found)
    assert sorted(predictions.images_of([f"{image_folder}/**/*.png"]).ids) == sorted(found)


def test_nothing_to_predict_says_so(tmp_path: Path) -> None:
    with pytest.raises(FeatxError, match="no image in"):
        predictions.images_of([str(tmp_path)])
    with pytest.raises(FeatxError, match=r"nothing matches .*\*.jpg"):
        predictions.images_of([str(tmp_path / "*.jpg")])


def test_a_folder_of_nothing_but_raw_photographs_says_so(tmp_path: Path) -> None:
    for name in ("1.nef", "2.nef"):
        (tmp_path / name).write_bytes(made.raw_photograph(made.MAKE, made.SUBIFDS))
    with pytest.raises(EmptyDatasetError, match=r"no image in .* 2 RAW photographs \(.nef\)"):
        predictions.images_of([str(tmp_path)])
    assert predictions.images_of([str(tmp_path / "1.nef")]).ids == [
        str(tmp_path / "1.nef")
    ]  # refused later


def test_a_nas_folder_is_left_out_and_may_not_stand_alone(tmp_path: Path) -> None:
    thumbnail = tmp_path / "@eaDir" / "1.png" / "SYNOPHOTO_THUMB_M.jpg"
    thumbnail.parent.mkdir(parents=True)
    thumbnail.write_bytes(made.jpeg())
    with pytest.raises(EmptyDatasetError, match=r"@eaDir"):
        predictions.images_of([str(tmp_path)])
    (tmp_path / "1.png").write_bytes(made.png())
    assert predictions.images_of([str(tmp_path)]).ids == [str(tmp_path / "1.png")]
