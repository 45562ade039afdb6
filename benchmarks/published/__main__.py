"""Run the published systems: `python -m benchmarks.published --help`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from benchmarks.published import SYSTEMS, predicting, running, tables
from benchmarks.published.system import System
from featx import HEADS
from featx.errors import FeatxError, WeightsUnavailableError

DIFFERENT = "DIFFERENT"


def main() -> None:
    """Read the command line and run what it asks for."""
    parser = _parser()
    asked = parser.parse_args()
    systems = [SYSTEMS[asked.name]] if asked.name else list(SYSTEMS.values())
    if asked.params:
        text = _params(systems)
        print(text)
        if DIFFERENT in text:
            raise SystemExit("some parameter counts are not the published ones.")
    elif asked.audit:
        from benchmarks.published import audit

        audit.run(asked.audit, asked.epochs, asked.most or audit.MOST)
    elif asked.train:
        failed = [system.name for system in systems if not _run(system, asked)]
        if failed:
            raise SystemExit(f"not run: {', '.join(failed)}")
    else:
        parser.error("give --train IMAGES, or --params, or --audit DATASETS")


def _run(system: System, asked: argparse.Namespace) -> bool:
    """Run one system and print its table; return whether it could be run."""
    options = running.Options(
        backbone=asked.backbone,
        weights=None if asked.weights == "none" else asked.weights,
        epochs=asked.epochs,
        heads=asked.head,
        logs=asked.logs,
    )
    try:
        parts = predicting.parts(system, asked.train, asked.test, asked.validation)
        found = running.side_by_side(system, parts, options, _log)
        if asked.predict:
            out = asked.out / system.name
            _log(f"{system.name}: predictions to {out}")
            predicting.write(found, parts.train, asked.predict, options, out)
    except WeightsUnavailableError as error:
        _log(
            f"{system.name}: {error}\nHere, --backbone mobilenet_v2 takes another network in its "
            "place, and --weights none runs it untrained, for structure and time."
        )
        return False
    except (FeatxError, OSError) as error:
        _log(f"{system.name}: {error}")
        return False
    print(f"\n## {system.name}\n\n{tables.sizes(parts)}\n\n{tables.shown(found.lines)}\n")
    print(found.versus, flush=True)
    return True


def _log(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _params(systems: list[System]) -> str:
    rows = [
        (
            system.name,
            system.classes,
            system.counts.in_words,
            "printed" if system.counts.printed else "computed",
            f"{found['total']:,} / {found['trainable']:,} / {found['non_trainable']:,}",
            "equal"
            if (found["total"], found["trainable"])
            == (system.counts.total, system.counts.trainable)
            else DIFFERENT,
        )
        for system, found in running.params(systems)
    ]
    header = (
        "system",
        "classes",
        "published: total / trainable / frozen",
        "in the source",
        "here: total / trainable / frozen",
        "",
    )
    return tables.table(header, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__)
    parser.add_argument("name", nargs="?", choices=SYSTEMS, help="one system; all unless given")
    parser.add_argument(
        "--train", type=Path, help="folder with one sub-folder per class, or a table (labels.csv)"
    )
    parser.add_argument(
        "--test", type=Path, help="others; without it --train is divided as the system divided"
    )
    parser.add_argument("--validation", type=Path, help="images to watch the training with")
    parser.add_argument("--predict", type=Path, metavar="DIR", help="images without labels")
    parser.add_argument(
        "--out", type=Path, default=Path("predictions"), help="where their tables go: predictions/"
    )
    parser.add_argument(
        "--head", choices=HEADS, action="append", help="one of featx's, once a head; all of them"
    )
    parser.add_argument("--params", action="store_true", help="parameters beside the published")
    parser.add_argument("--audit", type=Path, metavar="DATASETS", help="regenerate RESULTS.md")
    parser.add_argument("--backbone", help="a network in place of the system's own")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file")
    parser.add_argument("--epochs", type=int, help="at most so many, whatever the recipe says")
    parser.add_argument("--most", type=int, help="images to train on with --audit")
    parser.add_argument("--logs", type=Path, help="where TensorBoard's logs go")
    return parser


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # keras saves and featx notes: the tables are the output
    main()
