"""What every test needs: no network, a cache of its own, the slow marks, weights and data."""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import signal
import socket
import time
import warnings
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
    "backbones/test_backbone.py",
    "benchmarks/test_decoding.py::test_a_tiny_table",
    "benchmarks/test_published.py",
    "cache/test_shards.py::test_hdf5s_own_locking_has_no_effect",
    "cache/test_stat_index.py::test_nothing_is_known_where_it_is_not_wanted",
    "classifier/export/test_export.py",
    "classifier/export/test_lower_precision.py",
    "classifier/file/test_hostile_models.py::test_hostile_file",
    "classifier/file/test_model_file.py",
    "classifier/test_classifier.py::test_a_pil_image_is_predicted_as_its_file_is",
    "classifier/test_explanations.py::test_the_mean_of_a_map_is_what_a_step_along_the_embedding_does",
    "classifier/test_labels.py",
    "classifier/test_predictions.py",
    "classifier/test_weights.py::test_a_weighted_head_is_the_same_after_loading",
    "cli/test_app.py",
    "cli/test_cache.py::test_one_network_that_cannot_be_read_does_not_hide_the_others",
    "cli/test_terminal.py",
    "datasets/test_listing.py::test_folders_may_be_deeper_than_pythons_stack",
    "demo/test_demo.py",
    "dense/test_dense.py::test_a_pickle_is_opened_without_keras",
    "dense/test_dense.py::test_default_recipe_learns_embeddings",
    "dense/test_dense.py::test_global_random_state_is_neither_read_nor_changed",
    "dense/test_dense.py::test_stops_early_and_keeps_the_best_epoch",
    "evaluation/evidence/test_evidence.py",
    "evaluation/leaks/test_copies.py",
    "evaluation/leaks/test_leakage.py",
    "evaluation/protocol/test_extractions.py",
    "evaluation/protocol/test_plan.py::test_a_recipe_is_the_baseline_as_it_stands",
    "evaluation/protocol/test_plan.py::test_two_recipes_of_one_network_are_kept_apart",
    "evaluation/protocol/test_splits.py::test_a_class_without_test_images_is_noted",
    "evaluation/protocol/test_splits.py::test_a_skipped_image_is_skipped_for_the_baseline_too",
    "evaluation/protocol/test_splits.py::test_folds_are_the_same_for_every_method_and_differ_by_seed",
    "evaluation/protocol/test_trials.py",
    "evaluation/report/test_browser.py",
    "evaluation/report/test_command.py::test_the_printed_call_is_python_that_runs",
    "evaluation/report/test_command.py::test_the_printed_command_repeats_the_options",
    "evaluation/report/test_document.py::test_json_is_strict_and_follows_its_schema",
    "evaluation/report/test_document.py::test_the_schema_refuses_what_it_does_not_know",
    "evaluation/report/test_rendering.py::test_pages_rendered_again_are_those_saved_at_first",
    "evaluation/test_comparison.py",
    "evaluation/test_groups.py",
    "extraction/test_api.py",
    "extraction/test_batches.py::test_a_block_that_is_claimed_slowly_is_not_overtaken",
    "extraction/test_batches.py::test_the_next_block_is_begun_while_one_is_published_and_no_more",
    "extraction/test_engines.py",
    "extraction/test_estimate.py",
    "extraction/test_kinds.py",
    "extraction/test_lazy_runtime.py::test_each_shortage_halves_the_batch_until_no_smaller_one_is_tried",
    "extraction/test_progress.py::test_streams_that_count_at_once_lose_none",
    "finetune/test_finetune.py",
    "heads/boosting/test_checked_model.py::test_random_damage_to_trees_never_reaches_xgboost_unchecked",
    "heads/test_cluster.py::test_cross_validation_sends_the_matrix_once_and_a_search_for_c_never",
    "heads/test_groups.py::test_layers_stop_by_whole_groups",
    "heads/test_heads.py",
    "heads/test_linear_solver.py",
    "heads/test_logistic_head.py::test_logistic_chooses_the_c_that_a_full_search_finds",
    "heads/test_logistic_head.py::test_tuned_logistic_on_flowers",
    "heads/test_weights.py",
    "images/test_bounds.py",
    "images/test_reduction.py",
    "images/test_shortage.py",
    "images/test_worker.py",
    "maintenance/test_compact.py::test_a_reader_is_never_hurt",
    "maintenance/test_compact.py::test_two_at_once_lose_nothing",
    "promises/test_budget.py",
    "promises/test_cases.py::test_case",
    "promises/test_change.py::test_t16_times_that_were_restored_rename_and_swap",
    "promises/test_claims.py",
    "promises/test_crash.py",
    "promises/test_faults.py",
    "promises/test_hostile.py::test_the_secret_is_never_opened",
    "promises/test_images.py",
    "promises/test_limits.py",
    "promises/test_model.py",
    "promises/test_mounts.py::test_t34_coarse_times_and_a_clock_that_is_elsewhere",
    "promises/test_mounts.py::test_t34_fuse_with_times_of_whole_seconds",
    "promises/test_mutations.py::test_only_image_errors",
    "promises/test_network.py",
    "promises/test_others.py",
    "promises/test_power.py",
    "promises/test_rot.py::test_t8_no_damage_is_silent",
    "promises/test_s3.py",
    "promises/test_stores.py::test_t43_nothing_acknowledged_is_lost_and_no_row_is_wrong",
    "promises/test_upkeep.py",
    "runtimes/test_networks.py",
    "runtimes/test_runtimes.py",
    "serving/test_server.py",
    "test_backend.py::test_keras_starts_quietly_from_python",
    "test_conftest.py::test_what_has_not_begun_in_time_is_skipped_by_name",
    "test_docs.py::test_readme_example",
    "test_doors.py",
    "test_forking.py",
    "test_other_platforms.py",
    "test_packaging.py::test_every_third_party_import_is_required",
    "test_site.py::test_page",
)

# Both are read when Keras and TensorFlow are first imported, hence here and not in a fixture.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if (SHARED / "keras").is_dir():
    os.environ.setdefault("KERAS_HOME", str(SHARED / "keras"))

# A shell that starts the tests in the background has Ctrl-C ignored in them and in what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Take back what the command line, called in this process, sets for its own."""
    root, featx, shown = logging.getLogger(), logging.getLogger("featx"), warnings.showwarning
    yield
    featx.setLevel(logging.NOTSET)
    warnings.showwarning = shown
    for handler in list(root.handlers):
        if type(handler.formatter).__name__ == "PrintableFormatter":
            root.removeHandler(handler)


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
