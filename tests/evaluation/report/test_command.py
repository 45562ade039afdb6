from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import featx
from featx.backbones.backbone import Backbone
from featx.cli import app
from featx.dense import Dense, Dropout, Recipe
from featx.errors import FeatxError
from featx.evaluation import comparison
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol.options import Options
from featx.evaluation.report import command
from tests.evaluation.seam import TEST, TINY, TRAIN, Seam, images


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --seeds 1 --out report"),
        (
            {"heads": ["mlp"], "baseline": False},
            "featx benchmark 'my flowers' --test t -b resnet50 --head mlp --no-baseline --seeds 1 "
            "--out report",
        ),
        (
            {"evidence": False},
            "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --no-evidence --seeds 1 "
            "--out report",
        ),
        (
            {"leaks": False, "cache": "my rows", "batch_size": 4, "on_error": "skip"},
            "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --no-leaks --seeds 1 "
            "--cache 'my rows' --batch-size 4 --on-error skip --out report",
        ),
        (
            {"runtime": "keras"},
            "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --seeds 1 "
            "--runtime keras --out report",
        ),
        (
            {"path_column": "my file", "label_column": "kind"},
            "featx benchmark 'my flowers' --test t -b resnet50 --epochs 8 --seeds 1 --path-column "
            "'my file' --label-column kind --out report",
        ),
        (
            {"heads": {"mine": LogisticRegression()}},
            "import featx\nfrom featx import Backbone\n"
            "# No command can repeat heads: the estimators that this run was given.\n"
            "report = featx.benchmark('my flowers', 't', backbones=[Backbone(name='resnet50', "
            "weights='imagenet', layer=None, pooling='avg', image_size=None, "
            "precision='float32', decode='auto', resize='squash', filter=None)], baseline=True, "
            "epochs=8, seeds=1, heads=heads)\n"
            "report.save('report')",
        ),
    ],
)
def test_command_to_run_it_again(change: dict[str, Any], expected: str) -> None:
    options = Options(**{"heads": [], **change})
    found = command.command("my flowers", Path("t"), [Backbone("resnet50")], options)
    assert found == expected


def test_folds_stand_in_the_command_where_they_are_used() -> None:
    network = [Backbone("resnet50")]
    options = Options(folds=3, runtime="keras")
    assert command.command("f", None, network, options) == (
        "featx benchmark f -b resnet50 --epochs 8 --seeds 1 --folds 3 --runtime keras --out report"
    )
    assert "--folds" not in command.command("f", "t", network, options)
    assert "--folds" not in command.command("f", None, network, Options())


def test_the_printed_command_repeats_the_options(
    seam: Seam, quick: dict[str, Any], tmp_path: Path
) -> None:
    options = {"cache": tmp_path, "batch_size": 4, "runtime": "keras", "on_error": "skip"}
    report = benchmark(images(TRAIN), leaks=False, folds=3, **options, **quick)
    shown = report.environment.command
    for name, value in (options | {"cache": str(tmp_path), "leaks": False, "folds": 3}).items():
        assert f", {name}={value!r}" in shown
    plain = benchmark(images(TRAIN), images(TEST), **quick).environment.command
    assert not any(f"{name}=" in plain for name in (*options, "leaks", "folds"))


def test_the_printed_command_is_one_that_the_command_line_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def stand_in(*sets: Any, **options: Any) -> None:
        asked.update(options)
        raise FeatxError("asked")

    monkeypatch.setattr(comparison, "benchmark", stand_in)
    given = {"folds": 3, "leaks": False, "cache": "rows", "batch_size": 4, "runtime": "keras"}
    options: dict[str, Any] = {
        "heads": ["mlp"],
        "baseline": True,
        "epochs": 2,
        "seeds": 2,
        "evidence": False,
    }
    options |= given | {"on_error": "skip", "path_column": "file", "label_column": "kind"}
    words = shlex.split(command.command("x", None, [TINY], Options(**options)))

    CliRunner().invoke(app.app, words[1:])
    for name, value in options.items():
        assert (str(asked[name]) if name == "cache" else asked[name]) == value, name


def test_the_printed_call_is_python_that_runs(
    seam: Seam, quick: dict[str, Any], tmp_path: Path
) -> None:
    """And it says in words what it cannot repeat: images in memory, estimators."""
    given = {"baseline": Recipe(layers=(Dropout(0.5), Dense(8)), epochs=2), "seeds": [3]}
    options = quick | given | {"heads": {"mine": DummyClassifier()}, "evidence": False}
    report = benchmark(images(TRAIN), images(TEST), **options)
    printed = report.environment.command
    n = sum(TRAIN.values())
    assert f"# No command can repeat train: the Dataset of {n} images" in printed
    assert "# No command can repeat test: the Dataset of" in printed
    report.save(tmp_path)
    for page in ("report.md", "report.html"):
        lines = (tmp_path / page).read_text(encoding="utf-8").splitlines()
        assert "import featx" in [line.rpartition(">")[2] for line in lines], page
    asked: dict[str, Any] = {}

    class Report:
        def save(self, folder: str) -> None:
            asked["saved"] = folder

    def stand_in(*sets: Any, **options: Any) -> Report:
        asked.update(options, sets=sets)
        return Report()

    names = {"train": "my train", "test": "my test", "heads": "my heads"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(featx, "benchmark", stand_in)
        exec(printed, names)
    assert asked["sets"] == ("my train", "my test")
    assert asked["heads"] == "my heads"
    assert asked["backbones"] == [TINY]
    assert (asked["baseline"], asked["seeds"], asked["saved"]) == (
        given["baseline"],
        [3],
        "report",
    )


def test_a_network_of_one_s_own_is_to_be_registered_first() -> None:
    import keras

    image = keras.Input((8, 8, 3))
    own = Backbone.register("own", keras.Model(image, keras.layers.Conv2D(2, 3)(image)))
    found = command.command("x", None, [own], Options(heads=[]))
    assert "# Register the network 'own' first" in found
    assert "report = featx.benchmark('x', backbones=[Backbone(name='own'" in found


def test_the_network_s_options_have_flags_where_all_networks_share_them() -> None:
    one = Backbone("resnet50", layer="conv4_block6_out", pooling="max", precision="bfloat16")
    found = command.command("x", None, [one], Options(heads=[]))
    assert "-b resnet50 --layer conv4_block6_out --pooling max --precision bfloat16 " in found
    two = [one, Backbone("mobilenet_v2")]
    assert "featx.benchmark('x', backbones=[" in command.command("x", None, two, Options(heads=[]))


def test_the_command_names_the_folder_the_report_was_saved_in() -> None:
    shell = command.command("x", None, [TINY], Options(heads=[]))
    assert command.saved_in(shell, Path("my reports/1")).endswith(" --out 'my reports/1'")
    python = command.command(np.zeros((2, 4, 4, 3)), None, [TINY], Options(heads=[]))
    assert command.saved_in(python, Path("it's")).endswith('report.save("it\'s")')


def test_command_keeps_weights_and_size() -> None:
    found = command.command("x", None, [TINY], Options(heads=[]))
    assert "-b mobilenet_v2 --weights none --image-size 32 " in found


def test_what_no_command_can_say_is_said_in_words(tmp_path: Path) -> None:
    options: dict[str, Any] = {"heads": [], "baseline": False, "epochs": 1, "seeds": np.arange(2)}
    backbones = [Backbone("resnet50", weights=tmp_path / "w.h5")]
    told = command.command("x", None, backbones, Options(**options, runtime=object()))
    assert "# No command can repeat runtime" in told
    assert f"weights='{tmp_path / 'w.h5'}'" in told
    assert "seeds=[0, 1]" in told
    assert "runtime=runtime" in told
    once = command.command(
        "x", None, [Backbone("resnet50")], Options(**{**options, "seeds": np.int64(2)})
    )
    assert "--seeds 2" in once
