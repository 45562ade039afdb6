"""Run the published systems: `python -m benchmarks.published --help`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from benchmarks.published import SYSTEMS, running
from featx import Dataset


def main() -> None:
    """Read the command line and run what it asks for."""
    asked = _parser().parse_args()
    logging.disable(logging.WARNING)  # keras saves and featx notes: the tables are the output
    systems = [SYSTEMS[asked.name]] if asked.name else list(SYSTEMS.values())
    if asked.params:
        print(_params(systems))
        return
    if asked.audit:
        from benchmarks.published import audit

        audit.run(asked.audit, asked.epochs or 6, asked.most or 300)
        return
    if not (asked.train and asked.test):
        raise SystemExit("give --train DIR and --test DIR, or --params, or --audit DATASETS")
    options = running.Options(
        backbone=asked.backbone,
        weights=None if asked.weights == "none" else asked.weights,
        epochs=asked.epochs,
        logs=asked.logs,
    )
    train, test = Dataset.from_folder(asked.train), Dataset.from_folder(asked.test)
    for system in systems:
        lines, test_of_two = running.side_by_side(system, train, test, options)
        print(f"\n## {system.name}\n\n{running.shown(lines)}\n\n{verdict(test_of_two)}", flush=True)


def verdict(found: running.Paired) -> str:
    """Return the paired test in words."""
    how = "worse" if found.worse else "not worse"
    return (
        f"{found.head} is {how} than the corrected recipe: {100 * found.difference:+.1f} points "
        f"({found.only_head} pictures only it got right, {found.only_recipe} only the recipe; "
        f"exact McNemar p = {found.p_value:.3f}), {found.ratio:.1f} times as fast."
    )


def _params(systems: list[running.System]) -> str:
    rows = [
        (
            system.name,
            system.classes,
            f"{system.counts.total:,} / {system.counts.trainable:,}",
            "printed" if system.counts.printed else "computed",
            f"{found['total']:,} / {found['trainable']:,} / {found['non_trainable']:,}",
            "equal"
            if (found["total"], found["trainable"])
            == (system.counts.total, system.counts.trainable)
            else "DIFFERENT",
        )
        for system, found in running.params(systems)
    ]
    header = ("system", "classes", "published", "", "here: total / trainable / not", "")
    return running.table(header, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__)
    parser.add_argument("name", nargs="?", choices=SYSTEMS, help="one system; all unless given")
    parser.add_argument("--train", type=Path, help="folder with a sub-folder a class")
    parser.add_argument("--test", type=Path, help="the same of pictures that are not trained on")
    parser.add_argument("--params", action="store_true", help="parameters beside the published")
    parser.add_argument("--audit", type=Path, metavar="DATASETS", help="regenerate RESULTS.md")
    parser.add_argument("--backbone", help="a network in place of the system's own")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file")
    parser.add_argument("--epochs", type=int, help="at most so many; --audit takes 6")
    parser.add_argument("--most", type=int, help="pictures to train on with --audit: 300")
    parser.add_argument("--logs", type=Path, help="where TensorBoard's logs go")
    return parser


if __name__ == "__main__":
    main()
