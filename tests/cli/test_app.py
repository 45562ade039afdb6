"""The command line: what it prints where, its exit codes, and names that mean harm."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.version import Version
from PIL import Image
from typer.testing import CliRunner

import featx
from featx.cache import location
from featx.cache.store import Store
from featx.cli import app
from featx.errors import DatasetError
from featx.evaluation.report.document import VERSION
from featx.extraction.estimate import Estimate
from featx.runtimes.speeds import note_speed
from tests.conftest import draw_folder

ROOT = Path(__file__).resolve().parents[2]
TINY = ["-b", "mobilenet_v2", "--weights", "none", "--image-size", "32"]


def run(*args: str | Path, **environment: str) -> Any:
    return CliRunner(env=environment).invoke(app.app, [str(arg) for arg in args])


def summary(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w[\w/ ]*?)  +(.+)$", text, re.MULTILINE))


def spawn(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own, as a user does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-m", "featx", *map(str, args)],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def watch(*args: str | Path) -> str:
    """Return all that the command shows on a terminal of 80 columns."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = [sys.executable, "-m", "featx", *map(str, args)]
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        words, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as screen:
        while True:
            try:
                part = screen.read(65536)
            except OSError:  # Linux: the other end was closed
                break
            if not part:
                break
            shown += part
    assert process.wait() == 0, shown
    return shown.decode()


def test_extract_prints_what_it_did_and_does_nothing_twice(
    image_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "features.h5"
    first = run("extract", image_folder, *TINY, "--out", file)
    assert first.exit_code == 0, first.output
    printed = summary(first.stdout)
    assert (printed["images"], printed["computed"], printed["cached"]) == ("24", "24", "0")
    assert (printed["features"], printed["failures"]) == ("24 x 1,280", "0")
    assert printed["cache"] == os.environ["FEATX_CACHE"]
    assert printed["saved to"] == str(file)
    assert {"seconds", "images/s"} <= set(printed)
    assert featx.Features.load(file).X.shape == (24, 1280)

    again = summary(run("extract", image_folder, *TINY).stdout)
    assert (again["computed"], again["cached"]) == ("0", "24")


def test_embeddings_may_stay_in_the_cache(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gather(*asked: object) -> None:
        raise AssertionError("embeddings were read")

    monkeypatch.setattr(Store, "gather", gather)
    printed = summary(run("extract", image_folder, *TINY, "--no-gather").stdout)
    assert (printed["features"], printed["computed"]) == ("24 x 1,280", "24")
    refused = run("extract", image_folder, *TINY, "--no-gather", "--out", tmp_path / "all.h5")
    assert refused.exit_code == 1
    assert "--no-gather with --out: a feature file holds all embeddings." in refused.output


def test_options_of_the_network_reach_it(image_folder: Path) -> None:
    options = ["--layer", "block_1_project_BN", "--pooling", "max", "--precision", "bfloat16"]
    result = run("extract", image_folder, *TINY, *options)
    assert result.exit_code == 0, result.output
    listed = run("cache", "ls").stdout
    # 24 images, and the two that show whether another environment computes the same.
    for word in ("mobilenet_v2", "block_1_project_BN", "max", "bfloat16", "32", "26"):
        assert re.search(rf"\b{word}\b", listed)


def test_csv_with_columns_of_other_names(image_folder: Path) -> None:
    table = image_folder / "list.csv"
    table.write_text("file,kind\nblue/00.png,blue\nred/00.png,red\n", encoding="utf-8")
    columns = ["--path-column", "file", "--label-column", "kind"]
    result = run("extract", table, *TINY, *columns)
    assert result.exit_code == 0, result.output
    assert summary(result.stdout)["images"] == "2"


def test_benchmark_of_a_csv_with_columns_of_other_names(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", n_per_class=6)
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.png")]
    table = folder / "list.csv"
    table.write_text("\n".join(["id,breed", *lines]), encoding="utf-8")
    columns = ["--path-column", "id", "--label-column", "breed"]
    heads = ["--head", "nearest", "--no-baseline", "--no-evidence"]
    result = run("benchmark", table, *TINY, *columns, *heads, "--out", tmp_path / "report")
    assert result.exit_code == 0, result.output
    first = json.loads((tmp_path / "report" / "report.json").read_bytes())
    words = shlex.split(first["command"])
    assert words[:2] == ["featx", "benchmark"]
    again = run(*words[1:-1], tmp_path / "again")
    assert again.exit_code == 0, again.output
    second = json.loads((tmp_path / "again" / "report.json").read_bytes())
    assert [*words[:-1], str(tmp_path / "again")] == shlex.split(second["command"])
    assert second["predictions"] == first["predictions"]


def test_bad_images_stop_the_run_or_are_skipped(image_folder: Path) -> None:
    (image_folder / "red" / "text.jpg").write_text("not an image", encoding="utf-8")
    (image_folder / "red" / "empty.jpg").write_bytes(b"")
    stopped = run("extract", image_folder, *TINY)
    assert stopped.exit_code == 1
    assert stopped.stdout == ""
    for word in ("2 of 26", "red/text.jpg", "red/empty.jpg", "--on-error skip"):
        assert word in stopped.stderr
    assert "Traceback" not in stopped.output

    skipped = run("extract", image_folder, *TINY, "--on-error", "skip")
    assert skipped.exit_code == 0
    printed = summary(skipped.stdout)
    assert (printed["computed"], printed["cached"], printed["failures"]) == ("0", "24", "2")
    assert "Skipped red/text.jpg" in skipped.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["extract", "absent", *TINY], ["absent does not exist", "Expected a folder"]),
        (["extract", ".", "-b", "mobilnet_v2"], ["mobilnet_v2", "Did you mean 'mobilenet_v2'?"]),
        (
            ["extract", ".", *TINY, "--layer", "block_1_project"],
            ["no image in ."],
        ),
        (
            ["extract", "IMAGES", "-b", "mobilenet_v2", "--weights", "absent.h5"],
            ["absent.h5"],
        ),
        (
            ["benchmark", "IMAGES", *TINY, "--head", "logistik", "--out", "report"],
            ["logistik", "Did you mean 'logistic'?"],
        ),
        (["cache", "ls", "--cache", "IMAGES"], ["FEATX-CACHE.json"]),
    ],
)
def test_errors_are_one_readable_message_and_exit_code_1(
    args: list[str],
    words: list[str],
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = run(*[str(image_folder) if arg == "IMAGES" else arg for arg in args])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["extrakt"],
        ["extract"],
        ["extract", "folder"],
        ["extract", "folder", *TINY, "--precision", "float17"],
        ["extract", "folder", *TINY, "--pooling", "sum"],
        ["extract", "folder", *TINY, "--batch-size", "0"],
        ["extract", "folder", *TINY, "--on-error", "ignore"],
        ["benchmark", "folder", "-b", "resnet50"],
        ["benchmark", "folder", "-b", "resnet50", "--out", "x", "--epochs", "0"],
        ["cache", "rm"],
    ],
)
def test_wrong_usage_is_exit_code_2(args: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage" in result.stderr or "Error" in result.stderr


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    for args in (["--debug", "extract", "absent", *TINY], ["extract", "absent", *TINY, "--debug"]):
        result = run(*args)
        assert result.exit_code == 1
        assert isinstance(result.exception, DatasetError)
    shown = spawn("extract", "absent", *TINY, "--debug")
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr


def test_a_flag_after_two_dashes_is_a_name() -> None:
    result = run("extract", *TINY, "--", "--debug")
    assert result.exit_code == 1
    assert "--debug does not exist" in result.stderr


def test_an_operating_system_error_is_a_message_too(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    result = run("extract", image_folder, *TINY, "--out", tmp_path / "file" / "features.h5")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert str(tmp_path / "file") in result.stderr.replace("\n", "")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(location, "existing_root", broken)
    assert isinstance(run("cache", "ls").exception, ZeroDivisionError)


def test_hostile_names_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", n_per_class=2)
    names = [
        "[red]bold[red].jpg",
        "\x1b[2J\x1b]0;title\x07.jpg",
        "two\nlines.jpg",
        "\u202egpj.jpg",
    ]
    for name in names:
        (folder / "red" / name).write_text("not an image", encoding="utf-8")
    result = run("extract", folder, *TINY)
    assert result.exit_code == 1
    assert "[red]bold[red].jpg" in result.stderr
    assert "\\x1b[2J" in result.stderr
    assert "\\u202egpj.jpg" in result.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(result.stderr)


def test_hostile_names_are_not_obeyed_in_python_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = draw_folder(tmp_path / "images", n_per_class=2)
    good = (folder / "red" / "00.png").read_bytes()
    (folder / "blue" / "copy\x1b[5m\u202e.jpg").write_bytes(good)  # another label, another format
    (folder / "red" / "\x1b[2Jdeep").mkdir()
    (folder / "red" / "\x1b[2Jdeep" / "a.png").write_bytes(good)
    (folder / "loose\x1b[2J.png").write_bytes(good)
    backbone = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
    featx.extract(folder, backbone, progress=False)
    for words in ("of the same content", "of another format", "beside the class", "deeper than"):
        assert words in caplog.text
    assert not {"\x1b", "\u202e"} & set(caplog.text)
    (folder / "red" / "\x1b[2J.jpg").write_text("not an image", encoding="utf-8")
    with pytest.raises(featx.errors.BadImagesError) as raised:
        featx.extract(folder, backbone, progress=False)
    assert "\\x1b[2J.jpg" in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert raised.value.failures[0].id == "red/\x1b[2J.jpg", "the name itself stays as it is"


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 need Linux")
def test_a_name_that_is_not_text_is_shown_escaped(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", n_per_class=2)
    (folder / "red" / os.fsdecode(b"caf\xe9.jpg")).write_text("not an image", encoding="utf-8")
    result = spawn("extract", folder, *TINY)
    assert result.returncode == 1
    assert "caf\\udce9.jpg" in result.stderr


def test_a_terminal_of_ascii_is_not_a_failure(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "größe", n_per_class=2)
    (folder / "red" / "ж.jpg").write_text("not an image", encoding="utf-8")
    result = spawn("extract", folder, *TINY, PYTHONIOENCODING="ascii")
    assert result.returncode == 1
    assert "\\u0436.jpg" in result.stderr


def test_benchmark_writes_the_report_and_prints_the_table(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", n_per_class=6)
    out = tmp_path / "report"
    heads = ["--head", "logistic", "--head", "nearest", "--no-baseline", "--no-evidence"]
    result = run("benchmark", folder, *TINY, *heads, "--out", out)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {"report.html", "report.md", "report.json"}
    assert str(out / "report.html") in result.stdout
    assert "logistic" in result.stdout
    assert "nearest" in result.stdout


def test_benchmark_with_a_test_set_and_the_baseline(tmp_path: Path) -> None:
    train = draw_folder(tmp_path / "train", n_per_class=6)
    test = draw_folder(tmp_path / "test", n_per_class=3, seed=1)
    options = ["--test", test, "--head", "logistic", "--epochs", "1", "--seeds", "2"]
    options += ["--tensorboard", tmp_path / "tb"]
    result = run("benchmark", train, *TINY, *options, "--out", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "tb" / "tensors.tsv").is_file()
    assert list((tmp_path / "tb").glob("baseline-*/events.*"))
    assert "baseline" in result.stdout


def test_demo_prints_the_table_and_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.table import Table

    class Report:
        def table(self) -> Table:
            return Table("the column")

    def stand_in(directory: Path, *, progress: bool, log: Any) -> Report:
        assert directory == tmp_path / "out"
        assert progress is False
        log("Untrained weights: none to be had")
        return Report()

    monkeypatch.setattr("featx.demo.run", stand_in)
    result = run("demo", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "the column" in result.stdout
    assert str(tmp_path / "out" / "report" / "report.html") in result.stdout
    assert "Untrained weights" in result.stderr


def test_backbones_lists_every_network_uncut() -> None:
    lines = run("backbones").stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[1:] == list(featx.BACKBONES)
    assert not any("…" in line for line in lines)


def test_backbones_helps_to_choose() -> None:
    def listed(*options: str) -> list[dict[str, Any]]:
        return json.loads(run("backbones", "--json", *options).stdout)

    names = [one["name"] for one in listed("mobilenet", "--sort", "top1")]
    assert names[:2] == ["mobilenet_v2", "mobilenet"]  # 71.3 and 70.4 percent
    sizes = [one["size_mb"] for one in listed("--sort", "size")]
    known = [size for size in sizes if size is not None]
    assert known == sorted(known)
    assert sizes[len(known) :] == [None, None], "MobileNetV3, of which Keras publishes no line"
    assert all(one["on_disk"] for one in listed("--on-disk"))


def test_backbones_says_what_was_fast_here() -> None:
    def listed(*options: str) -> list[dict[str, Any]]:
        return json.loads(run("backbones", "--json", *options).stdout)

    assert "images/s" not in run("backbones").stdout
    assert all(one["images_per_second"] is None for one in listed())
    for name, options, seconds in (
        ("vgg16", {}, 100.0),
        ("resnet50", {"image_size": 64, "precision": "bfloat16"}, 5.0),
        ("mobilenet_v2", {}, 10.0),
        ("mobilenet_v2", {"image_size": 96}, 2.0),
    ):
        note_speed(featx.Backbone(name, weights=None, **options), "keras", 1000, seconds)
    lines = {line.split()[0]: line for line in run("backbones").stdout.splitlines()}
    assert lines["name"].rstrip().endswith("images/s"), "80 columns are enough"
    assert lines["resnet50"].rstrip().endswith("  200*")
    assert lines["mobilenet_v2"].rstrip().endswith(" 100"), "its own side comes before later ones"
    assert "images/s" not in run("backbones", "densenet").stdout
    found = listed("--sort", "speed")
    assert [one["name"] for one in found[:3]] == ["resnet50", "mobilenet_v2", "vgg16"]
    assert [one["images_per_second"] for one in found[:4]] == [200.0, 100.0, 10.0, None]
    assert [one["image_size"] for one in found[1]["measured"]] == [224, 96]


def test_cache_ls_of_an_empty_cache() -> None:
    result = run("cache", "ls")
    assert result.exit_code == 0
    assert result.stdout.startswith("Nothing is cached in ")


def test_version_and_help() -> None:
    assert run("--version").stdout.split() == ["featx", featx.__version__]
    helped = run("--help")
    assert helped.exit_code == 0
    for command in ("demo", "extract", "benchmark", "backbones", "cache"):
        assert command in helped.stdout


@pytest.mark.parametrize("columns", ["40", "80"])
def test_narrow_terminals_can_read_it(columns: str) -> None:
    for args in (["extract", "--help"], ["backbones"]):
        lines = run(*args, COLUMNS=columns, TERMINAL_WIDTH=columns).stdout.splitlines()
        assert max(len(line.rstrip()) for line in lines) <= int(columns)


def test_help_shows_brackets() -> None:
    for args in (["--help"], ["serve", "--help"]):
        text = " ".join(run(*args).stdout.replace("│", " ").split())
        assert "pip install 'featx[serve]'" in text


def test_help_starts_without_the_heavy_libraries() -> None:
    script = (
        "import sys; from featx.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: print(sorted(m.split('.')[0] for m in sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(re.findall(r"'(\w+)'", answer.stdout.splitlines()[-1]))
    assert "featx" in loaded
    assert not loaded & {
        "keras",
        "tensorflow",
        "sklearn",
        "pandas",
        "h5py",
        "xgboost",
        "numpy",
        "PIL",
    }


def test_a_cached_extraction_never_loads_tensorflow_and_a_new_one_is_quiet(
    image_folder: Path, tmp_path: Path
) -> None:
    first = spawn("extract", image_folder, *TINY)
    assert first.returncode == 0, first.stderr
    said = first.stderr.splitlines()
    if Version(metadata.version("tensorflow")) < Version("2.21"):
        # They log two lines of a network's conversion before their log is set up, at any level.
        said = [line for line in said if not line.startswith(("I0000 ", "WARNING: All log "))]
    assert not said  # neither TensorFlow's log nor a bar: this is no terminal
    (tmp_path / "traps").mkdir()
    for name in ("tensorflow", "keras", "openvino"):
        trap = tmp_path / "traps" / f"{name}.py"
        trap.write_text("raise SystemExit('loaded!')", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "traps"), str(ROOT)])
    again = spawn("extract", image_folder, *TINY, PYTHONPATH=path)
    assert again.returncode == 0, again.stderr
    assert summary(again.stdout)["cached"] == "24"
    # The trap is a trap: an image that is not cached springs it.
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(image_folder / "red" / "new.png")
    sprung = spawn("extract", image_folder, *TINY, PYTHONPATH=path)
    assert "loaded!" in sprung.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("flags", "expected"), [([], True), (["--no-progress"], False)])
def test_a_bar_is_shown_on_a_terminal_only(
    flags: list[str], expected: bool, image_folder: Path
) -> None:
    shown = watch("extract", image_folder, *TINY, *flags)
    assert summary(shown.replace("\r", ""))["computed"] == "24"
    assert ("extract: 100%" in shown) is expected


@pytest.fixture
def links(image_folder: Path, tmp_path: Path) -> Path:
    """Return a split made of links: a folder per class, each file in another folder."""
    for path in sorted(image_folder.rglob("*.png")):
        link = tmp_path / "links" / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return tmp_path / "links"


def test_links_are_followed_where_that_is_asked_for(links: Path, tmp_path: Path) -> None:
    without = run("extract", links, *TINY)
    assert without.exit_code == 1
    assert "--follow-links" in " ".join(without.stderr.split())
    done = run("extract", links, *TINY, "--follow-links")
    assert done.exit_code == 0, done.output
    assert summary(done.stdout)["images"] == "24"
    model = tmp_path / "m.featx"
    done = run("train", links, *TINY, "--out", model, "--test", links, "--follow-links")
    assert summary(done.stdout)["images"] == "24", done.output
    done = run("predict", model, links, "--follow-links", "--csv")
    assert len(done.stdout.splitlines()) == 25
    assert run("predict", model, links).exit_code == 1
    words = ["--no-baseline", "--no-evidence", "--no-leaks", "--folds", "2", "--head", "nearest"]
    done = run("benchmark", links, *TINY, *words, "--out", tmp_path / "r", "--follow-links")
    assert done.exit_code == 0, done.output
    assert "--follow-links" in (tmp_path / "r" / "report.md").read_text()


def test_nothing_is_overwritten_unless_force_is_given(image_folder: Path, tmp_path: Path) -> None:
    features, model, report = tmp_path / "f.h5", tmp_path / "m.featx", tmp_path / "report"
    report.mkdir()
    for path in (features, model, report / "report.json", tmp_path / "m.onnx"):
        path.write_text("mine")
    commands = (
        ("extract", image_folder, *TINY, "--out", features),
        ("train", image_folder, *TINY, "--out", model),
        ("export", model, tmp_path / "m.onnx"),
        ("benchmark", image_folder, *TINY, "--no-baseline", "--out", report),
    )
    for command in commands:
        refused = run(*command)
        assert refused.exit_code == 1, command
        assert "is there already and was left as it is" in refused.stderr
    assert run("cache", "ls").stdout.startswith("Nothing is cached"), "refused before the work"
    assert {path.read_text() for path in (features, model, report / "report.json")} == {"mine"}
    assert run("extract", image_folder, *TINY, "--out", features, "--force").exit_code == 0
    assert len(featx.Features.load(features)) == 24


def test_an_incomplete_report_is_there_to_be_completed(tmp_path: Path) -> None:
    report = tmp_path / "report" / "report.json"
    report.parent.mkdir()
    command = ("benchmark", tmp_path / "none", *TINY, "--no-baseline", "--out", report.parent)
    for incomplete, refused in ((None, True), ({"reason": "interrupted"}, False)):
        found = {"schema": "featx-report", "version": VERSION, "incomplete": incomplete}
        report.write_text(json.dumps(found))
        done = run(*command)
        assert done.exit_code == 1
        assert ("is there already" in done.stderr) is refused


def test_train_names_what_it_left_out_and_untrained_weights(
    image_folder: Path, tmp_path: Path
) -> None:
    (image_folder / "red" / "00.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    options = ["--out", tmp_path / "m.featx", "--head", "nearest", "--examples", "5"]
    done = run("train", image_folder, *TINY, *options, "--on-error", "skip")
    assert done.exit_code == 0, done.output
    assert "Skipped red/00.png" in done.stderr
    assert "1 image could not be used and was not trained on (such as red/00.png" in done.stderr
    assert "Caution: mobilenet_v2 ran with random weights" in done.stderr
    printed = summary(done.stdout)
    assert (printed["images"], printed["skipped"]) == ("23", "1")
    assert printed["stored images"].startswith("5 small copies of training images")
    asked = run("predict", tmp_path / "m.featx", image_folder / "red" / "01.png")
    assert "Caution: mobilenet_v2 ran with random weights" in asked.stderr
    private = [*options[:-1], "0", "--force", "--on-error", "skip"]
    done = run("train", image_folder, *TINY, *private)
    assert summary(done.stdout)["stored images"].startswith("none, nor what tells whether")


def test_an_estimate_for_a_cluster_says_the_pace_of_one_worker_and_of_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cost = Estimate(
        images=2000, cached=0, exact=True, seconds=11.0, start_seconds=1.0, images_per_second=50.0,
        bytes_to_cache=10_000, network_bytes=0, bytes_needed=10_000, bytes_free=None,
        features_bytes=10_000, runtime="openvino", device="cpu", cache="c", workers=4,
    )  # fmt: skip
    app._print_estimate(cost, as_json=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "then 50 images/s a worker, 200 by 4 as fast as this machine" in printed


def test_a_limit_of_threads_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # CPython's words

    images = draw_folder(tmp_path / "images")
    monkeypatch.setattr(threading.Thread, "start", start)
    words = ("extract", images, "-b", "mobilenet_v2", "--weights", "none", "--image-size", "32")
    answer = run(*words, "--cache", tmp_path / "cache")
    assert answer.exit_code == 1
    assert "may start no more threads" in answer.stderr
    assert "ulimit -u" in answer.stderr
    with pytest.raises(RuntimeError, match="can't start new thread"):
        CliRunner().invoke(
            app.app,
            ["--debug", *map(str, words), "--cache", str(tmp_path / "cache")],
            catch_exceptions=False,
        )
