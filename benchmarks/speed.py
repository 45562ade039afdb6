"""featx against the hand-written way, the bound of this machine, and other extractors.

Run `python benchmarks/speed.py [--quick]` from the checkout. Every figure is a ratio of runs of
this one command: the two sides take turns, most in a process of its own, and the median of the
turns' ratios is shown. Writes benchmarks/results/speed-<date>-<hardware>.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(ROOT))

import images  # noqa: E402
import tasks  # noqa: E402


@dataclass
class Line:
    """One line of the table: what was measured, the ratio, and the target."""

    what: str
    value: float
    target: float | None = None
    least: bool = True
    unit: str = "x"
    detail: str = ""
    accurate: bool | None = None  # not less than what it is compared with; None: not asked

    @property
    def met(self) -> bool | None:
        """Whether the target is met, at no less accuracy; None where there is none."""
        if self.target is None:
            return None
        reached = self.value >= self.target if self.least else self.value <= self.target
        return reached and self.accurate is not False


@dataclass
class Bench:
    """What is measured with, and what came of it."""

    quick: bool
    work: Path
    flowers: Path
    others: list[Path]
    weights: str | None
    peers_python: str
    turns: int
    lines: list[Line] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @cached_property
    def has_int8(self) -> bool:
        """Whether int8 can be measured: untrained networks, and some processors, are refused."""
        if self.weights is None or find_spec("nncf") is None:
            return False
        folder = str(self.flowers / "test")
        about = {"name": "mobilenet_v2", "weights": self.weights, "precision": "int8"}
        try:
            self.run("extract", folder=folder, **about)
        except RuntimeError as error:
            self.skipped.append(f"int8: {str(error).strip().splitlines()[-1]}")
            print(self.skipped[-1], flush=True)
            return False
        return True

    def add(self, line: Line) -> None:
        """Keep a line and show it at once."""
        self.lines.append(line)
        print(_shown(line), flush=True)

    def run(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Run a task and record its raw answer."""
        answer = tasks.run(task, **arguments)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        raw = {"arguments": arguments, "answer": answer, "load": load}
        self.raw.setdefault(task, []).append(raw)
        return answer

    def turn(self, sides: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, list[float]]:
        """Let the sides, each a task and its arguments, take turns; return images/s."""
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(self.turns):
            for name, (task, arguments) in sides.items():
                answer = self.run(task, **arguments)
                speeds[name].append(answer["images"] / answer["seconds"])
        return speeds


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the ratios of paired turns."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def extraction(bench: Bench) -> None:
    """Each precision against the hand-written script and against the bound, two networks."""
    eight = {"int8": None} if bench.has_int8 else {}
    for name, weights, targets in (
        ("mobilenet_v2", bench.weights, {"float32": 1.5, "bfloat16": 2.6, **eight}),
        ("resnet50", None, {"float32": 1.25, "bfloat16": 2.3}),
    ):
        folder = str(bench.flowers / ("train" if name == "mobilenet_v2" else "test"))
        first = bench.run("extract", folder=str(bench.flowers / "test"), name=name, weights=weights)
        runtime = "openvino" if first["runtime"] == "openvino" else "keras"
        about = {"name": name, "weights": weights}
        sides = {
            "hand": ("hand_extract", {"folder": folder, **about}),
            "D": ("decode", {"folder": folder}),
        }
        for precision in targets:
            options = {**about, "precision": precision}
            sides[precision] = ("extract", {"folder": folder, **options})
            if precision != "int8":  # its bound by hand would be that of another quantisation
                sides[f"F {precision}"] = ("forward", {**options, "runtime": runtime})
        speeds = bench.turn(sides)
        for precision, target in targets.items():
            ours = speeds[precision]
            detail = (
                f"{statistics.median(ours):.0f} against {statistics.median(speeds['hand']):.0f} "
                f"images/s; runtime {first['runtime']}"
            )
            bench.add(
                Line(
                    f"{name} {precision} / hand-written Keras",
                    median_ratio(ours, speeds["hand"]),
                    target,
                    detail=detail,
                )
            )
            if f"F {precision}" not in speeds:
                continue
            forward = speeds[f"F {precision}"]
            bound = [1 / (1 / f + 1 / d) for f, d in zip(forward, speeds["D"], strict=True)]
            detail = (
                f"F {statistics.median(forward):.0f}, D {statistics.median(speeds['D']):.0f}, "
                f"bound {statistics.median(bound):.0f} images/s"
            )
            what = f"{name} {precision} / bound 1/(1/F+1/D)"
            bench.add(Line(what, median_ratio(ours, bound), 0.95, detail=detail))


def peers(bench: Bench) -> None:
    """Two other extractors, where they are installed."""
    # embetter sends each image through the network alone: few are enough.
    folder = str(images.repeated([bench.flowers / "test"], bench.work / "peers", 100))
    ours = "extract", {"folder": folder, "name": "mobilenet_v2", "weights": None}
    for name in ("thingsvision", "embetter"):
        theirs = name, {"folder": folder, "python": bench.peers_python}
        try:
            speeds = bench.turn({name: theirs, "featx": ours})
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            bench.skipped.append(f"{name}: {reason}")
            print(f"{name} skipped: {reason}", flush=True)
            continue
        middle = {side: statistics.median(each) for side, each in speeds.items()}
        detail = f"{middle['featx']:.0f} against {middle[name]:.1f} images/s"
        ratio = median_ratio(speeds["featx"], speeds[name])
        bench.add(Line(f"float32 / {name}", ratio, 3.0, detail=detail))


def end_to_end(bench: Bench) -> None:
    """One extraction and a tuned logistic head against the Keras head, for 8 and 19 epochs."""
    data = {"train": str(bench.flowers / "train"), "test": str(bench.flowers / "test")}
    epochs = [1, 2] if bench.quick else [1, 8, 19]
    hand = bench.run("hand_head", **data, weights=bench.weights, epochs=epochs)["after"]
    least = {"float32": {8: 9, 19: 20}, "bfloat16": {8: 14, 19: 32}}
    if bench.has_int8:
        least["int8"] = {}
    for precision, targets in least.items():
        turns = [
            bench.run("one_extraction", **data, weights=bench.weights, precision=precision)
            for _ in range(bench.turns)
        ]
        ours = sorted(turns, key=lambda answer: answer["seconds"])[len(turns) // 2]
        for count in epochs[1:]:
            theirs = hand[str(count)]
            clock = (theirs["seconds"] + theirs["stalled_seconds"]) / ours["seconds"]
            bench.add(
                Line(
                    f"one extraction + logistic, {precision} / Keras head of {count} epochs",
                    theirs["seconds"] / ours["seconds"],
                    targets.get(count),
                    detail=f"{ours['seconds']:.1f} s at accuracy {ours['accuracy']:.3f} against "
                    f"{theirs['seconds']:.1f} s at {theirs['accuracy']:.3f}, and "
                    f"{theirs['stalled_seconds']:.1f} s of TensorFlow's stalls: "
                    f"{clock:.1f}x by the clock",
                    accurate=ours["accuracy"] >= theirs["accuracy"],
                )
            )
        if precision == "float32":
            # Both ask for the test set once: the difference is training alone, without compiling.
            last, first = hand[str(epochs[-1])]["seconds"], hand["1"]["seconds"]
            per_epoch = (last - first) / (epochs[-1] - 1)
            bench.add(
                Line(
                    "break-even: epochs that cost as much as extraction and head",
                    ours["seconds"] / per_epoch,
                    1.0,
                    least=False,
                    unit=" epochs",
                )
            )
            for name, head in ours["heads"].items():
                bench.add(
                    Line(
                        f"a further head, {name} / Keras head of {epochs[-1]} epochs",
                        last / head["seconds"],
                        None if bench.quick else 100,
                        detail=f"{head['seconds']:.2f} s at accuracy {head['accuracy']:.3f}",
                    )
                )


def heads(bench: Bench) -> None:
    """Compare the XGBoost head with XGBoost's defaults, the sweep of C with one fit."""
    folders = [str(bench.flowers / part) for part in ("train", "test")]
    if not bench.quick:
        folders += map(str, bench.others)
    cache = str(bench.work / "heads")
    found = bench.run("heads", folders=folders, weights=bench.weights, cache=cache)
    ours, theirs = found["xgboost_head"], found["xgboost_default"]
    size = f"{found['rows']} x {found['columns']} x {found['classes']} classes"
    bench.add(
        Line(
            "XGBoost head / XGBoost's defaults, time",
            ours["seconds"] / theirs["seconds"],
            0.25,
            least=False,
            detail=f"{size}: {ours['seconds']:.1f} s at accuracy {ours['accuracy']:.3f} against "
            f"{theirs['seconds']:.1f} s at {theirs['accuracy']:.3f}",
            accurate=ours["accuracy"] >= theirs["accuracy"],
        )
    )
    sweep, one = found["logistic_20_values"], found["logistic_one_fit"]
    bench.add(
        Line(
            "20 values of C / one fit, time",
            sweep["seconds"] / one["seconds"],
            3.0,
            least=False,
            detail=f"{size}: {sweep['seconds']:.2f} s against {one['seconds']:.2f} s; "
            f"{found['values_fitted']} of the values had to be fitted",
        )
    )


def start_up(bench: Bench) -> None:
    """Time whole processes: with nothing cached, with the network kept, with all cached."""
    folder = bench.work / "ten"
    images.repeated([bench.flowers], folder, 10)
    shutil.rmtree(os.environ["FEATX_NETWORKS"], ignore_errors=True)  # no part before converted one
    cache = str(bench.work / "start")
    for what, target in (("nothing is cached", None), ("everything is cached", None)):
        answer = bench.run(
            "whole", folder=str(folder), weights=bench.weights, cache=cache, precision="float32"
        )
        loads = ", ".join(answer["loaded"]) or "none of keras, tensorflow, openvino"
        bench.add(
            Line(
                f"10 images, whole process, {what}",
                answer["wall_seconds"],
                target,
                least=False,
                unit=" s",
                detail=f"loads {loads}",
            )
        )
        if what == "nothing is cached":
            images.repeated([bench.flowers], folder, 20)
            again = bench.run(
                "whole", folder=str(folder), weights=bench.weights, cache=cache,
                precision="float32",
            )  # fmt: skip
            bench.add(
                Line(
                    "10 more images, whole process, the network is kept",
                    again["wall_seconds"],
                    unit=" s",
                    detail=f"loads {', '.join(again['loaded'])}",
                )
            )


def warm(bench: Bench) -> None:
    """Time a whole process whose images are all cached, and the reading of many embeddings."""
    count = 1000 if bench.quick else 10_000
    folder = images.repeated([bench.flowers, *bench.others], bench.work / "warm", count)
    arguments = {
        "folder": str(folder),
        "weights": bench.weights,
        "cache": str(bench.work / "warm-cache"),
        "precision": "bfloat16",
    }
    bench.run("whole", **arguments)
    answers = [bench.run("whole", **arguments) for _ in range(3)]
    assert not any(answer["computed"] for answer in answers)
    middle = sorted(answers, key=lambda answer: answer["wall_seconds"])[1]
    bench.add(
        Line(
            f"{count:,} cached images, whole process with import",
            middle["wall_seconds"],
            1.0,
            least=False,
            unit=" s",
            detail=f"{middle['seconds_in_extract']:.2f} s of it in extract; loads "
            f"{', '.join(middle['loaded']) or 'no network library'}",
        )
    )
    found = bench.run("gather", count=20_000 if bench.quick else 200_000)
    bench.add(
        Line(
            f"gather of {found['rows']:,} x 2,048 verified embeddings / np.load, speed",
            found["np_load_seconds"] / found["gather_seconds"],
            0.5,
            detail=f"{found['gather_seconds']:.2f} s against {found['np_load_seconds']:.2f} s",
        )
    )


def growth(bench: Bench) -> None:
    """Cost and memory per image, from few images to many; the features are not counted."""
    counts = [250, 1000] if bench.quick else [500, 2000, 5000, 20_000]
    costs, peaks = [], []
    for count in counts:
        folder = bench.work / f"growth-{count}"
        images.repeated([bench.flowers, *bench.others], folder, count)
        answer = bench.run(
            "extract", folder=str(folder), name="mobilenet_v2", weights=None,
            precision="bfloat16", image_size=96,
        )  # fmt: skip
        costs.append(answer["cpu_seconds"] / count)
        answer = bench.run(
            "memory", folder=str(folder), name="mobilenet_v2", weights=None, image_size=96
        )
        peaks.append(answer["peak_bytes_without_features"])
        shutil.rmtree(folder)
    shown = ", ".join(f"{n}: {c * 1e3:.2f} ms" for n, c in zip(counts, costs, strict=True))
    bench.add(
        Line(
            f"cost per image does not grow, {counts[-1]:,} / the least of fewer",
            costs[-1] / min(costs[:-1]),
            1.05,
            least=False,
            detail=f"processor time per image at 96 pixels: {shown}",
        )
    )
    # From where the features, present at the peak, exceed what the extraction needs.
    slope = (peaks[-1] - peaks[-2]) / (counts[-1] - counts[-2])
    bench.add(
        Line(
            "memory per image besides its embedding and its entry in the list of images",
            slope / 1000,
            0.5,
            least=False,
            unit=" kB",
            detail=", ".join(f"{n}: {p / 1e6:.0f} MB" for n, p in zip(counts, peaks, strict=True)),
        )
    )


PARTS = {
    part.__name__: part for part in (extraction, end_to_end, heads, start_up, warm, growth, peers)
}


def hardware() -> tuple[str, str]:
    """Return a short name for file names and a sentence."""
    name = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    short = re.sub(r"[^a-z0-9]+", "-", f"{name} {cores} cores".lower()).strip("-")
    return short, f"{name}, {cores} cores, {platform.system()}"


def versions() -> dict[str, str]:
    """Return the versions of what was measured, peers included."""
    names = (
        "featx", "keras", "tensorflow", "openvino", "numpy", "pillow", "h5py", "scikit-learn",
        "xgboost", "xxhash", "nncf",
    )  # fmt: skip
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    import featx

    found["featx"] = featx.__version__
    return found


def peers_versions(python: str) -> dict[str, str]:
    """Return the versions that the peers' Python has of them and of what they run on."""
    script = (
        "import json\nfrom importlib.metadata import version, PackageNotFoundError\nfound = {}\n"
        "for name in ('thingsvision', 'embetter', 'torch', 'timm', 'torchvision'):\n"
        "    try: found[name] = version(name)\n"
        "    except PackageNotFoundError: found[name] = 'not installed'\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _shown(line: Line) -> str:
    sign = "" if line.target is None else f"{'>=' if line.least else '<='} {line.target:g}"
    met = {True: "met", False: "NOT MET", None: ""}[line.met]
    return f"{line.what:<66} {line.value:8.2f}{line.unit:<7} {sign:<8} {met:<8} {line.detail}"


def table(bench: Bench, about: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the Markdown table of benchmarks/README.md."""
    yield f"`{about['command']}`, {about['date']}, {about['hardware']}"
    yield ""
    yield "| what | measured | target | |"
    yield "|---|---|---|---|"
    for line in bench.lines:
        asked = "" if line.target is None else f"{'≥' if line.least else '≤'} {line.target:g}"
        missed = " **not met**" if line.met is False else ""
        yield f"| {line.what} | {line.value:.2f}{line.unit} | {asked}{missed} | {line.detail} |"
    yield from (["", *(f"Skipped: {reason}" for reason in bench.skipped)] if bench.skipped else [])


def write(bench: Bench, about: dict[str, Any]) -> Path:
    """Write the JSON file and put the table into benchmarks/README.md (full runs only)."""
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    # A part alone does not take the place of a whole run of the same day.
    kind = "".join(
        f"-{word}" for word in (["quick"] if bench.quick else []) + (about["only"] or [])
    )
    path = results / f"speed{kind}-{about['date'][:10]}-{about['short']}.json"
    lines = [{**asdict(line), "met": line.met} for line in bench.lines]
    content = {**about, "lines": lines, "skipped": bench.skipped, "raw": bench.raw}
    text = json.dumps(content, indent=1) + "\n"
    # Paths of this machine mean nothing elsewhere.
    for place, name in (
        (bench.work, "WORK"), (bench.flowers.parent, "DATASETS"), (bench.peers_python, "python"),
    ):  # fmt: skip
        text = text.replace(str(place), name)
    path.write_text(text, encoding="utf-8")
    readme = Path(__file__).parent / "README.md"
    begin, end = "<!-- speed table -->", "<!-- end of speed table -->"
    if not bench.quick and not about["only"] and readme.is_file():
        text = readme.read_text(encoding="utf-8")
        head, rest = text.split(begin)
        tail = rest.split(end)[1]
        shown = "\n".join(table(bench, about))
        readme.write_text(f"{head}{begin}\n{shown}\n{end}{tail}", encoding="utf-8")
    return path


def main() -> int:
    """Measure, print, write; 1 where a part failed, 0 whatever the figures are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer images, one turn")
    parser.add_argument("--turns", type=int, help="how often the sides take turns")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="repeat for several")
    parser.add_argument(
        "--peers-python", default=sys.executable, help="a Python that has the peers installed"
    )
    options = parser.parse_args()
    trained = images.use_shared_weights()
    short, sentence = hardware()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="featx-speed-") as folder:
        work = Path(folder)
        os.environ["FEATX_NETWORKS"] = str(work / "networks")
        flowers = images.real("flowers") or images.drawn(work / "drawn")
        others = [
            found / "all" if (found / "all").is_dir() else found
            for name in ("trashnet", "steel", "magnetic_tile")
            if (found := images.real(name)) is not None
        ]
        bench = Bench(
            options.quick, work, flowers, others, "imagenet" if trained else None,
            options.peers_python, options.turns or (1 if options.quick else 3),
        )  # fmt: skip
        about = {
            "command": " ".join(["python", "benchmarks/speed.py", *sys.argv[1:]]).replace(
                options.peers_python, "PYTHON"
            ),
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "hardware": sentence,
            "short": short,
            "only": options.only,
            "versions": versions(),
            "versions of the peers": peers_versions(options.peers_python),
            "weights": bench.weights,
            "data": "flowers, trashnet, steel, magnetic_tile" if others else "drawn images",
        }
        for name in options.only or PARTS:
            try:
                PARTS[name](bench)
            except Exception:
                failed = 1
                bench.skipped.append(f"{name}: {traceback.format_exc().splitlines()[-1][:300]}")
                print(f"{name} failed:\n{traceback.format_exc()[-1500:]}", flush=True)
        about["load_after"] = os.getloadavg() if hasattr(os, "getloadavg") else None
        print(f"written: {write(bench, about).relative_to(ROOT)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
