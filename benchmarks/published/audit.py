"""The audit: every mistake measured, every system run, written to RESULTS.md as it goes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import train_test_split

import featx
from benchmarks.published import SYSTEMS, mistakes, running
from benchmarks.published.dog_breeds_inception_resnet_v2 import labelled
from featx import Backbone, Dataset

HERE = Path(__file__).parent
STATE, RESULTS = HERE / "results.json", HERE / "RESULTS.md"
STAND_INS = {
    "corrosion_resnet50": "magnetic_tile",
    "concrete_cracks_mobilenet_v2": "steel",
    "concrete_cracks_readme": "steel",
    "efficientnet_b0": "flowers",
    "inception_v3_mixed7": "flowers",
    "trucks_mobilenet_v2": "trashnet",
    "dog_breeds_inception_resnet_v2": "flowers",
}
BREEDS = "dog_breeds_inception_resnet_v2"


def run(datasets: Path, epochs: int, most: int) -> None:
    """Run what results.json does not hold yet; delete that file to begin anew.

    Parameters
    ----------
    datasets : Path
        The folder of flowers, magnetic_tile, steel and trashnet.
    epochs, most : int
        At most so many epochs, and so many training pictures, for the runs of whole systems.
    """
    state: dict[str, Any] = json.loads(STATE.read_text()) if STATE.exists() else {}
    cache = HERE / ".cache"
    cache.mkdir(exist_ok=True)
    pictures = {name: _all(datasets / name) for name in ("magnetic_tile", "steel", "trashnet")}
    pictures["flowers"] = Dataset.from_folder(datasets / "flowers" / "train")
    steps: dict[str, Any] = {"parameters": lambda: _params()}
    for measure in mistakes.MISTAKES:
        steps[f"mistake {measure.__name__}"] = lambda measure=measure: [
            asdict(one) for one in measure(pictures, cache)
        ]
    for name in SYSTEMS:
        steps[f"system {name}"] = lambda name=name: _system(name, pictures, datasets, epochs, most)
    for name in ("corrosion_resnet50", "efficientnet_b0", "inception_v3_mixed7", BREEDS):
        steps[f"untrained {name}"] = lambda name=name: _untrained(name, pictures["flowers"])
    for name, step in steps.items():
        if name in state:
            continue
        began = time.perf_counter()
        found = step()
        state[name] = {"found": found, "seconds": time.perf_counter() - began}
        STATE.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        RESULTS.write_text(written(state, epochs, most, list(steps)), encoding="utf-8")
        print(f"{name}: {state[name]['seconds']:.0f} s", flush=True)
        keras.backend.clear_session()
    RESULTS.write_text(written(state, epochs, most, list(steps)), encoding="utf-8")


def _all(folder: Path) -> Dataset:
    return Dataset.from_folder(folder / "all")


def _params() -> list[list[Any]]:
    return [
        [system.name, system.classes, system.counts.total, system.counts.trainable, found]
        for system, found in running.params(list(SYSTEMS.values()))
    ]


def _parts(
    name: str, pictures: dict[str, Dataset], datasets: Path, most: int
) -> tuple[Dataset, Dataset]:
    if name == "trucks_mobilenet_v2":
        return mistakes.trucks_cut(pictures["trashnet"])
    if name == BREEDS:
        return _csv(datasets / "flowers" / "train", most), _csv(datasets / "flowers" / "test", 200)
    whole = pictures[STAND_INS[name]]
    labels = [item.label for item in whole.items]
    fit, score = train_test_split(
        np.arange(len(labels)), train_size=most, test_size=200, stratify=labels, random_state=0
    )
    return whole.subset(fit), whole.subset(score)


def _csv(folder: Path, most: int) -> Dataset:
    """Return flowers as the dogs' contest gives its pictures: a labels.csv of id and breed."""
    import pandas as pd

    found = Dataset.from_folder(folder)
    chosen = np.random.default_rng(0).permutation(len(found))[:most]
    table = HERE / ".cache" / f"labels-{folder.name}.csv"
    rows = [(found[int(n)].id.removesuffix(".jpg"), found[int(n)].label) for n in sorted(chosen)]
    pd.DataFrame(rows, columns=["id", "breed"]).to_csv(table, index=False)
    return labelled(table, folder)


def _system(
    name: str, pictures: dict[str, Dataset], datasets: Path, epochs: int, most: int
) -> dict[str, Any]:
    train, test = _parts(name, pictures, datasets, most)
    options = running.Options(
        backbone="mobilenet_v2", epochs=None if name == "trucks_mobilenet_v2" else epochs
    )
    lines, versus = running.side_by_side(SYSTEMS[name], train, test, options)
    return {
        "stand_in": STAND_INS[name],
        "train": len(train),
        "test": len(test),
        "lines": [asdict(line) for line in lines],
        "versus": asdict(versus),
    }


def _untrained(name: str, pictures: Dataset) -> dict[str, Any]:
    """Time the true network, untrained: an epoch of 32 pictures, and one pass of them."""
    system = SYSTEMS[name]
    chosen = pictures.subset(np.linspace(0, len(pictures) - 1, 32).astype(int))
    options = running.Options(weights=None, epochs=2)
    model = running.model(system, "published", options)
    model.fit(chosen)
    pass_seconds = []
    for _ in range(2):  # the first one compiles
        began = time.perf_counter()
        model.predict(chosen)
        pass_seconds.append(time.perf_counter() - began)
    backbone = model.backbone
    assert isinstance(backbone, Backbone)
    return {
        "classes": len(model.classes_),
        "side": backbone.side,
        "epoch": min(model.history_["seconds"]) / len(chosen),
        "pass": min(pass_seconds) / len(chosen),
        "counts": model.parameter_counts(),
    }


def written(state: dict[str, Any], epochs: int, most: int, steps: Sequence[str]) -> str:
    """Return RESULTS.md; it says which of the steps were not measured."""
    missing = [name for name in steps if name not in state]
    found = [
        one for key, step in state.items() if key.startswith("mistake") for one in step["found"]
    ]
    parts = [
        "# Five published systems: audited\n",
        "Regenerated by `python -m benchmarks.published --audit DATASETS` (results.json keeps what "
        "was measured; delete it to begin anew). Real pictures, real MobileNetV2 weights; where a "
        f"system has another network, MobileNetV2 stands in. Runs of whole systems are cut to "
        f"{epochs} epochs and {most} training pictures so that the audit ends in minutes; the "
        "trucks run as long as published.",
        f"featx {featx.__version__}, Keras {keras.__version__}, CPU; "
        f"{sum(step['seconds'] for step in state.values()) / 60:.0f} minutes in all, beside other "
        "work on the same two cores: ratios of seconds are worth more than seconds.\n",
        *([f"**Not measured yet: {', '.join(missing)}.**\n"] if missing else []),
        "## Parameters\n",
        running.table(
            ("system", "classes", "published total / trainable", "here total / trainable / not"),
            [
                (
                    name,
                    n,
                    f"{total:,} / {trainable:,}",
                    " / ".join(
                        f"{counts[key]:,}" for key in ("total", "trainable", "non_trainable")
                    ),
                )
                for name, n, total, trainable, counts in state.get("parameters", {}).get(
                    "found", []
                )
            ],
        ),
        "\n## Each mistake on its own\n",
        "Test accuracy unless said otherwise; in brackets the range over seeds.\n",
        running.table(
            ("mistake", "system", "pictures", "as published", "corrected", "how"),
            [
                (
                    one["mistake"],
                    one["system"],
                    one["stand_in"],
                    one["published"],
                    one["corrected"],
                    one["how"],
                )
                for one in found
            ],
        ),
        "\n## As published, corrected, and featx's heads\n",
        "The head of the verdict is chosen by cross-validation on the training rows alone; its "
        "seconds hold the pass of all pictures, the choice among all heads and its fit. A single "
        "head's seconds hold the pass and its own fit. Seconds of a recipe hold training and "
        "prediction.\n",
    ]
    for key, step in state.items():
        if key.startswith("system "):
            parts.append(_section(key.removeprefix("system "), step["found"]))
    parts += [
        "\n## The true networks, untrained: what an epoch costs\n",
        running.table(
            ("system", "side", "seconds a picture and epoch", "seconds a picture, one pass"),
            [
                (
                    key.removeprefix("untrained "),
                    step["found"]["side"],
                    f"{step['found']['epoch']:.3f}",
                    f"{step['found']['pass']:.3f}",
                )
                for key, step in state.items()
                if key.startswith("untrained ")
            ],
        ),
    ]
    return "\n".join(parts) + "\n"


def _section(name: str, found: dict[str, Any]) -> str:
    from benchmarks.published.__main__ import verdict

    lines = [running.Line(**line) for line in found["lines"]]
    said = verdict(running.Paired(**found["versus"]))
    return (
        f"\n### {name} on {found['stand_in']} ({found['train']} / {found['test']} pictures)\n\n"
        f"{running.shown(lines)}\n\n{said}"
    )
