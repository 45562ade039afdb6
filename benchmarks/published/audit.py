"""The audit: every system run, every mistake measured, written to RESULTS.md as it goes."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

import featx
from benchmarks.published import SYSTEMS, dividing, mistakes, results, running
from benchmarks.published.dog_breeds_inception_resnet_v2 import labelled
from benchmarks.published.system import Parts
from featx import Backbone, Dataset

HERE = Path(__file__).parent
STATE, RESULTS = HERE / "results.json", HERE / "RESULTS.md"
# As many epochs as published: cut to a few of them, layers with BatchNorm are no better than
# guessing, since its running means have not arrived.
MOST, TEST = 200, 150
# Where --epochs cuts: their four or five augmentations cost as much as the network does, so that
# they get three fifths of it.
HEAVY = ("corrosion_resnet50", "efficientnet_b0", "inception_v3_mixed7")
# Their images are half as large in pixels: twice as many.
SMALL = ("concrete_cracks_readme", "inception_v3_mixed7")
STAND_INS = {
    "corrosion_resnet50": "magnetic_tile",
    "concrete_cracks_mobilenet_v2": "steel",
    "concrete_cracks_readme": "steel",
    "efficientnet_b0": "flowers",
    "inception_v3_mixed7": "flowers",
    "trucks_mobilenet_v2": "trashnet",
    "dog_breeds_inception_resnet_v2": "flowers",
}
TRUCKS, BREEDS = "trucks_mobilenet_v2", "dog_breeds_inception_resnet_v2"
TRUE_NETWORKS = ("corrosion_resnet50", "efficientnet_b0", "inception_v3_mixed7", BREEDS)


def run(datasets: Path, epochs: int | None, most: int) -> None:
    """Run what results.json does not hold yet; delete that file to begin anew.

    Parameters
    ----------
    datasets : Path
        The folder of flowers, magnetic_tile, steel and trashnet.
    epochs : int or None
        At most so many for the runs of whole systems; None: as each recipe says.
    most : int
        At most so many training images for these.
    """
    asked: dict[str, int | None] = {"epochs": epochs, "most": most, "test": TEST}
    steps = _steps(datasets, epochs, most)
    assert list(steps) == step_names()
    for name, step in steps.items():
        if name in state_of(STATE, asked)["steps"]:
            continue
        began, worked = time.perf_counter(), time.process_time()
        found = step()
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        state = state_of(STATE, asked)  # read again: another process may have measured another step
        state["steps"][name] = {"found": found, "seconds": seconds, "processor_seconds": worked}
        state["steps"] = {key: state["steps"][key] for key in steps if key in state["steps"]}
        STATE.write_text(json.dumps(state, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        RESULTS.write_text(results.page(state, list(steps)), encoding="utf-8")
        print(f"{name}: {seconds:.0f} s, {worked:.0f} of a processor", flush=True)
        keras.backend.clear_session()
    RESULTS.write_text(results.page(state_of(STATE, asked), list(steps)), encoding="utf-8")


def state_of(path: Path, asked: dict[str, int | None]) -> dict[str, Any]:
    """Return what was measured so far, with the same arguments, versions and number of cores."""
    now = {
        "asked": asked,
        "versions": {"featx": featx.__version__, "keras": keras.__version__},
        "cores": os.cpu_count(),
    }
    if not path.exists():
        return {**now, "steps": {}}
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for what, value in now.items():
        if state[what] != value:
            raise SystemExit(
                f"{path} is of a run with {what} {state[what]}, and this one has {value}: delete "
                "it to measure all anew, or run with the same."
            )
    return state


def step_names() -> list[str]:
    """Return the names of all that is measured, in order."""
    return [
        "parameters",
        *(f"system {name}" for name in SYSTEMS),
        *(f"mistake {measure.__name__}" for measure in mistakes.MISTAKES),
        *(f"untrained {name}" for name in TRUE_NETWORKS),
    ]


def _steps(datasets: Path, epochs: int | None, most: int) -> dict[str, Callable[[], Any]]:
    """Return everything that is measured, by name."""
    cache = HERE / ".cache"
    cache.mkdir(exist_ok=True)
    images = {
        name: Dataset.from_folder(datasets / name / "all")
        for name in ("magnetic_tile", "steel", "trashnet")
    }
    images["flowers"] = Dataset.from_folder(datasets / "flowers" / "train")
    steps: dict[str, Callable[[], Any]] = {"parameters": _params}
    for name in SYSTEMS:
        parts = partial(_parts, name, images, datasets, most, cache)
        steps[f"system {name}"] = partial(_system, name, parts, epochs, cache)
    for measure in mistakes.MISTAKES:
        steps[f"mistake {measure.__name__}"] = partial(_mistake, measure, images, cache)
    for name in TRUE_NETWORKS:
        steps[f"untrained {name}"] = partial(_untrained, name, images["flowers"])
    return steps


def _params() -> list[list[Any]]:
    return [
        [system.name, system.classes, system.counts.in_words, found]
        for system, found in running.params(list(SYSTEMS.values()))
    ]


def _mistake(
    measure: mistakes.Measure, images: dict[str, Dataset], cache: Path
) -> list[dict[str, Any]]:
    return [asdict(found) for found in measure(images, cache)]


def _parts(name: str, images: dict[str, Dataset], datasets: Path, most: int, cache: Path) -> Parts:
    whole = images[STAND_INS[name]]
    if name == TRUCKS:
        return SYSTEMS[name].divide(whole)
    if name == BREEDS:
        flowers = datasets / "flowers"
        return Parts(
            _contest(flowers / "train", most, cache), _contest(flowers / "test", TEST, cache)
        )
    most *= 2 if name in SMALL else 1
    fit, score = dividing.apart(whole, cache, most, TEST, 0)
    return Parts(whole.subset(fit), whole.subset(score))


def _contest(folder: Path, most: int, cache: Path) -> Dataset:
    """Return flowers as the dogs' contest gives its images: a labels.csv of id and breed."""
    found = Dataset.from_folder(folder)
    chosen = np.random.default_rng(0).permutation(len(found))[:most]
    table = cache / f"labels-{folder.name}.csv"
    rows = [(found[int(n)].id.removesuffix(".jpg"), found[int(n)].label) for n in sorted(chosen)]
    pd.DataFrame(rows, columns=["id", "breed"]).to_csv(table, index=False)
    return labelled(table, folder)


def _system(
    name: str, divided: Callable[[], Parts], epochs: int | None, cache: Path
) -> dict[str, Any]:
    """Run one system three ways; the trucks, whose images are few, always as long as they say."""
    parts = divided()
    if epochs is not None:
        epochs = None if name == TRUCKS else max(1, epochs * 3 // 5) if name in HEAVY else epochs
    # By its path: at 160 pixels Keras would ask for another file, of weights learned at that size.
    weights = str(Backbone("mobilenet_v2").weights_path())
    options = running.Options(backbone="mobilenet_v2", weights=weights, epochs=epochs)
    found = running.side_by_side(SYSTEMS[name], parts, options)
    return {
        "stand_in": STAND_INS[name],
        "train": len(parts.train),
        "validation": 0 if parts.validation is None else len(parts.validation),
        "test": len(parts.test),
        "largest": max(Counter(parts.test.labels).values()) / len(parts.test),
        "near_duplicates": dividing.near_duplicates(parts, cache),
        "lines": [asdict(line) for line in found.lines],
        "versus": asdict(found.versus),
        "tests": [asdict(test) for test in found.tests],
    }


def _untrained(name: str, images: Dataset) -> dict[str, Any]:
    """Time the true network, untrained: an epoch of 16 images, and one extraction of them."""
    chosen = images.subset(np.linspace(0, len(images) - 1, 16).astype(int))
    model = running.model(SYSTEMS[name], "published", running.Options(weights=None, epochs=2))
    model.fit(chosen)
    extractions = []
    for _ in range(2):  # the first one compiles
        began = time.perf_counter()
        model.predict(chosen)
        extractions.append(time.perf_counter() - began)
    return {
        "side": model.backbone.side,
        "epoch": min(model.history_["seconds"]) / len(chosen),
        "extraction": min(extractions) / len(chosen),
        "counts": model.parameter_counts(),
    }
