"""What every test needs: no network, a cache of its own, the slow marks, weights and data."""

from __future__ import annotations

import ipaddress
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
WEIGHTS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"

# Files and single tests that `-m "not slow"` leaves out: real networks trained or compared, many
# processes killed, every failing call tried, browsers, exports. test_conftest.py checks the names.
SLOW = (
    "backbones/test_backbone.py::test_every_row_is_what_keras_builds",
    "benchmarks/test_published.py",
    "classifier/export/test_export.py",
    "classifier/export/test_lower_precision.py",
    "classifier/file/test_model_file.py::test_every_head_on_real_images_gives_the_same_bits_in_a_new_process",
    "cli/test_app.py",
    "cli/test_cache.py::test_one_network_that_cannot_be_read_does_not_hide_the_others",
    "demo/test_demo.py",
    "evaluation/leaks/test_leakage.py::test_planted_copies_of_real_images",
    "evaluation/report/test_browser.py",
    "evaluation/test_groups.py::test_thirty_patients_with_labels_by_coin",
    "extraction/test_engines.py",
    "extraction/test_api.py::test_each_option_of_the_backbone_misses",
    "extraction/test_api.py::test_other_weights_miss",
    "extraction/test_api.py::test_real_weights_on_real_images_reach_the_reference",
    "heads/test_heads.py::test_scikit_learn_contract",
    "heads/test_logistic_head.py::test_tuned_logistic_on_flowers",
    "heads/test_weights.py::test_adaboost",
    "heads/test_weights.py::test_balanced_flowers",
    "heads/test_weights.py::test_grid_search_over_class_weights_with_weights_of_samples",
    "evaluation/test_comparison.py::test_real_keras_from_images_to_report",
    "evaluation/test_comparison.py::test_flowers_with_real_weights",
    "finetune/test_finetune.py",
    "images/test_worker.py",
    "promises/test_budget.py",
    "promises/test_crash.py",
    "promises/test_faults.py",
    "promises/test_limits.py",
    "promises/test_model.py",
    "promises/test_mounts.py::test_t34_fuse_with_times_of_whole_seconds",
    "promises/test_mounts.py::test_t34_coarse_times_and_a_clock_that_is_elsewhere",
    "promises/test_network.py",
    "promises/test_others.py",
    "promises/test_power.py",
    "promises/test_upkeep.py",
    "runtimes/test_runtimes.py",
    "serving/test_server.py",
    "test_docs.py::test_readme_example",
    "test_forking.py",
    "test_other_platforms.py",
    "test_site.py::test_page",
    "test_doors.py::test_every_door_gives_the_same_embeddings",
)

# Both are read when Keras and TensorFlow are first imported, hence here and not in a fixture.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if (SHARED / "keras").is_dir():
    os.environ.setdefault("KERAS_HOME", str(SHARED / "keras"))


_BEGAN = time.monotonic()

# One seed for all processes of a run.
os.environ.setdefault("FEATX_SEED", str(random.randrange(2**31)))


def pytest_report_header() -> str:
    """Print the seed once a run; FEATX_SEED repeats it."""
    form = os.environ.get("FEATX_PROMISES", "quick")
    return f"promises: FEATX_SEED={os.environ['FEATX_SEED']}, {form} form"


def weights_on_disk() -> bool:
    """Return whether MobileNetV2's ImageNet weights are where Keras looks for them."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    return (home / "models" / WEIGHTS).is_file()


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests; skip those marked `weights` if there are none, and name the missing file."""
    for item in items:
        path = item.path.relative_to(ROOT / "tests").as_posix() if item.path else ""
        name = getattr(item, "originalname", item.name)
        if path in SLOW or f"{path}::{name}" in SLOW:
            item.add_marker(pytest.mark.slow)
    if not weights_on_disk():
        for item in items:
            if item.get_closest_marker("weights"):
                item.add_marker(pytest.mark.skip(reason=f"{WEIGHTS} is not in KERAS_HOME/models"))


@pytest.hookimpl(tryfirst=True)  # before any fixture is set up
def pytest_runtest_setup() -> None:
    """Skip what has not begun when the time that FEATX_TESTS_MINUTES gives a run is over."""
    minutes = float(os.environ.get("FEATX_TESTS_MINUTES") or "inf")
    if time.monotonic() - _BEGAN > 60 * minutes:
        pytest.skip(f"not begun within the {minutes:g} minutes of FEATX_TESTS_MINUTES")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a connection to another machine an error: tests must not depend on the network."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            local = host == "localhost" or (
                host.replace(".", "").isdigit() and ipaddress.ip_address(host).is_loopback
            )
            if not local and host != "::1":
                raise OSError(f"tests run without a network; {host} was asked for")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True, scope="session")
def no_networks_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's folder of networks out of what fixtures of modules compute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATX_NETWORKS", str(tmp_path_factory.mktemp("featx-networks") / "shared"))
        yield


@pytest.fixture(autouse=True)
def own_networks(
    no_networks_of_the_user: None,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Give each test a folder of its own for converted networks."""
    networks = tmp_path_factory.mktemp("featx-networks") / "networks"
    monkeypatch.setenv("FEATX_NETWORKS", str(networks))
    return networks


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a default cache of its own, far from the checkout's and the user's."""
    cache = tmp_path_factory.mktemp("featx-cache") / "cache"
    monkeypatch.setenv("FEATX_CACHE", str(cache))
    return cache


def draw_folder(folder: Path, n_per_class: int = 8, side: int = 40, seed: int = 0) -> Path:
    """Write PNG images of three classes that differ in colour, one sub-folder per class."""
    rng = np.random.default_rng(seed)
    for position, label in enumerate(("blue", "green", "red")):
        (folder / label).mkdir(parents=True)
        for number in range(n_per_class):
            pixels = rng.integers(0, 120, (side, side + 8, 3), dtype=np.uint8)
            pixels[..., 2 - position] += 100
            Image.fromarray(pixels).save(folder / label / f"{number:02d}.png")
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Return a folder of 3 x 8 images of 40 x 48 pixels, one sub-folder per class."""
    return draw_folder(tmp_path / "images")


@pytest.fixture(scope="session")
def datasets() -> Path:
    """Return the folder of real data sets, or skip where this machine has none."""
    folder = SHARED / "datasets"
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}")
    return folder
