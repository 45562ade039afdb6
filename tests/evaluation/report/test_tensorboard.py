from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featx.errors import FeatxError
from featx.evaluation.evidence import image_map
from featx.evaluation.report import tensorboard
from featx.evaluation.report.report import Report
from tests.evaluation.report.conftest import HOSTILE


def read(path: Path) -> list[Any]:
    """Return the events of a file; TensorFlow's own reader checks their checksums."""
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    return [Event.FromString(record) for record in records]


def test_scalars_come_back(tmp_path: Path) -> None:
    path = tensorboard.write(
        tmp_path / "a run", {"loss": [(1, 0.5), (2, math.nan), (3, 0.25)]}, 12.0
    )
    first, *rest = read(path)
    assert first.file_version == "brain.Event:2"
    found = [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in rest]
    assert found == [(1, "loss", 0.5), (3, "loss", 0.25)]


def test_a_report_s_curves_and_embeddings(build: Callable[..., Report], tmp_path: Path) -> None:
    report = build()
    report.save_tensorboard(tmp_path / "tb")
    runs = sorted(path.parent.name for path in (tmp_path / "tb").rglob("events.*"))
    assert runs == ["baseline-net-seed_0", "learning_curve-net-logistic"]
    curve = next((tmp_path / "tb" / runs[0]).iterdir())
    losses = [e for e in read(curve)[1:] if e.summary.value[0].tag == "loss"]
    assert [e.step for e in losses] == [2, 3]  # the first is no number

    assert report.evidence is not None
    assert report.evidence.map is not None
    folder = tmp_path / "tb"
    rows = np.loadtxt(folder / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(rows, report.evidence.map.embeddings)
    header, *lines = (folder / "metadata.tsv").read_text().splitlines()
    assert header.split("\t") == ["label", "given", "answer", "image"]
    assert len(lines) == len(rows)
    answers = report.predictions[0]
    for line, position in zip(lines, report.evidence.map.positions, strict=True):
        label, given, answer, name = line.split("\t")
        assert (label, given, name) == (
            answers.y_true[position],
            answers.y_pred[position],
            answers.ids[position],
        )
        assert answer == ("right" if label == given else "wrong")
    config = (folder / "projector_config.pbtxt").read_text()
    assert f"single_image_dim: {image_map.SIDE}" in config
    sprite = Image.open(io.BytesIO((folder / "sprite.jpg").read_bytes()))
    assert sprite.width % image_map.SIDE == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_projector_s_own_code_reads_them(build: Callable[..., Report], tmp_path: Path) -> None:
    plugin = pytest.importorskip(
        "tensorboard.plugins.projector.projector_plugin", reason="tensorboard is not installed"
    )
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    folder = build().save_tensorboard(tmp_path / "tb")
    config = ProjectorConfig()
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    (one,) = config.embeddings
    rows = plugin._read_tensor_tsv_file(str(folder / one.tensor_path))
    lines = (folder / one.metadata_path).read_text().splitlines()
    assert len(rows) == len(lines) - 1  # the first names the columns, as there are several
    with Image.open(folder / one.sprite.image_path) as sprite:
        across, down = one.sprite.single_image_dim
        assert sprite.width % across == sprite.height % down == 0


def test_the_largest_sprite_is_one_that_the_projector_shows() -> None:
    """It shows none of more than 8,192 pixels along an edge."""
    columns = math.ceil(math.sqrt(image_map.MOST))
    assert columns * image_map.SIDE <= 8192


def test_names_stay_in_their_cells_and_folders(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    report = build([*HOSTILE, "../../up"], n=242)
    (one,) = report.histories
    report.histories = [type(one)("../../out of here", 0, 2, one.curves)]
    report.save_tensorboard(tmp_path / "tb")
    assert [path.name for path in tmp_path.iterdir()] == ["tb"]
    assert (tmp_path / "tb" / "baseline-.._.._out_of_here-seed_0-fold_2").is_dir()
    lines = (tmp_path / "tb" / "metadata.tsv").read_text().split("\n")
    assert {line.count("\t") for line in lines[:-1]} == {3}
    assert len(lines) == 1 + 121 + 1


def test_nothing_to_show_and_nowhere_to_write_are_refused(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    with pytest.raises(FeatxError, match="nothing for TensorBoard in this report"):
        build(baseline=False, evidence=False).save_tensorboard(tmp_path / "tb")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FeatxError, match="cannot be written to '.*file'"):
        build().save_tensorboard(tmp_path / "file")
