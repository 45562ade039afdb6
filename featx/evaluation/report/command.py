"""What to type to run a comparison again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx import dense
from featx.backbones.architectures import BACKBONES
from featx.backbones.backbone import Backbone
from featx.datasets.tree import TreeFolder
from featx.evaluation.protocol.options import Options

FOLDER = "report"
"""Where a report is to be saved that was not saved yet."""

_DEFAULT = Options()
_FLAGS = (
    "folds", "class_weight", "cache", "batch_size", "runtime", "on_error", "path_column",
    "label_column", "image_folder", "suffix", "follow_links",
)  # fmt: skip


def command(train: Any, test: Any, backbones: Sequence[Backbone], options: Options) -> str:
    """Return what to type to run the comparison again.

    The command line where every argument has a form there. Else the Python call, and in comments
    above it what no command can name: images that were made in the caller's process, estimators
    and networks of the user's own.

    Parameters
    ----------
    backbones : sequence of Backbone
        Those of the options, each in each of its precisions.
    """
    paths = all(_is_path(part) for part in (train, test) if part is not None)
    shared = {replace(one, name=backbones[0].name) for one in backbones}
    plain = len(shared) == 1 and all(one.name in BACKBONES for one in backbones)
    seeds = np.asarray(options.seeds).tolist()
    cache = None if options.cache is None else str(options.cache)
    options = replace(options, seeds=seeds, cache=cache)
    simple = isinstance(options.baseline, bool) and isinstance(seeds, int)
    simple = simple and isinstance(options.runtime, str)
    simple = simple and (options.class_weight is None or isinstance(options.class_weight, str))
    simple = simple and (options.groups is None or isinstance(options.groups, str | re.Pattern))
    if paths and plain and simple and _names(options.heads) is not None:
        return _shell(train, test, backbones, options)
    return _python(train, test, backbones, options)


def _names(heads: Any) -> list[str] | None:
    """Return the heads' names where all are featx's own (empty for all of them), else None."""
    if heads is None:
        return []
    own = not isinstance(heads, Mapping) and all(isinstance(head, str) for head in heads)
    return [heads] if isinstance(heads, str) else list(heads) if own else None


def _changed(options: Options, test: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return those of these options that are not the default; folds only where they are used."""
    return {
        name: value
        for name in names
        if (value := getattr(options, name)) != getattr(_DEFAULT, name)
        and (name != "folds" or test is None)
    }


def _is_path(part: Any) -> bool:
    return isinstance(part, (str, Path, TreeFolder))


def _shell(train: Any, test: Any, backbones: Sequence[Backbone], options: Options) -> str:
    words = ["featx", "benchmark", str(train)]
    if test is not None:
        words += ["--test", str(test)]
    for backbone in backbones:
        words += ["-b", backbone.name]
    for one in fields(Backbone):
        value = getattr(backbones[0], one.name)  # they share all but their names
        if one.name != "name" and value != one.default:
            words += ["--" + one.name.replace("_", "-"), "none" if value is None else str(value)]
    for name in _names(options.heads) or ():
        words += ["--head", name]
    words += ["--epochs", str(options.epochs)] if options.baseline else ["--no-baseline"]
    words += [f"--no-{name}" for name in ("leaks", "evidence") if not getattr(options, name)]
    words += ["--seeds", str(options.seeds)]
    for name, value in _changed(options, test, _FLAGS).items():
        text = ",".join(value) if isinstance(value, list | tuple) else str(value)
        words += ["--" + name.replace("_", "-"), *([] if value is True else [text])]
    if isinstance(options.groups, re.Pattern):
        words += ["--groups-pattern", options.groups.pattern]
    elif options.groups is not None:
        words += ["--groups-column", options.groups]
    return shlex.join([*words, "--out", FOLDER])  # that of `out` takes its place when it is saved


def _python(train: Any, test: Any, backbones: Sequence[Backbone], options: Options) -> str:
    told, sets = [], []
    for part, name in ((train, "train"), (test, "test")):
        if part is None:
            continue
        sets.append(repr(str(part)) if _is_path(part) else name)
        if not _is_path(part):
            told.append(
                f"# No command can repeat {name}: the {_kind(part)} that this run was given. Make "
                "it as you did then."
            )
    backbones = [
        one if one.weights is None else replace(one, weights=str(one.weights)) for one in backbones
    ]
    names = ("leaks", "evidence", *_FLAGS)
    values = {name: getattr(options, name) for name in ("baseline", "epochs", "seeds")}
    values |= _changed(options, test, names)
    if not isinstance(options.runtime, str):
        told.append("# No command can repeat runtime: the object that this run was given.")
        values["runtime"] = _Name("runtime")
    if isinstance(options.groups, str | re.Pattern):
        values["groups"] = options.groups
    elif options.groups is not None:
        told.append(
            f"# No command can repeat groups: the {type(options.groups).__name__} that this run "
            "was given."
        )
        values["groups"] = _Name("groups")
    own = [one.name for one in backbones if one.name not in BACKBONES]
    told += [f"# Register the network {name!r} first: Backbone.register(...)." for name in own]
    heads = _names(options.heads)
    shown = {"heads": repr(heads)} if heads else {}
    shown |= {name: repr(value) for name, value in values.items()}
    if heads is None:
        told.append("# No command can repeat heads: the estimators that this run was given.")
        shown["heads"] = "heads"
    if options.out is not None:
        shown |= {"out": repr(str(options.out))} | ({} if options.images else {"images": "False"})
    listed = "".join(f", {key}={value}" for key, value in shown.items())
    call = f"featx.benchmark({', '.join(sets)}, backbones={list(backbones)!r}{listed})"
    saving = [f"report.save({FOLDER!r})"] if options.out is None else []
    return "\n".join([*_imports(call), *told, f"report = {call}", *saving])


def saved_in(command: str, folder: Path, images: bool = True) -> str:
    """Return the command with the folder that its report is saved in, with or without images."""
    flag, argument = ("", "") if images else ("--no-images ", ", images=False")
    forms = {
        f"--out {FOLDER}": f"{flag}--out {shlex.quote(str(folder))}",
        f"report.save({FOLDER!r})": f"report.save({str(folder)!r}{argument})",
    }
    for unnamed, named in forms.items():
        if command.endswith(unnamed):
            return command.removesuffix(unnamed) + named
    return command


class _Name(str):
    """What stands in a call as it is, without quotes."""

    __repr__ = str.__str__


def _kind(part: Any) -> str:
    size = f" of {len(part):,} images" if hasattr(part, "__len__") else ""
    return f"{type(part).__name__}{size}"


def _imports(call: str) -> list[str]:
    """Return the imports of the classes that the call names."""
    names = sorted(set(re.findall(r"\b[A-Z]\w*(?=\()", call)))
    layers = [name for name in names if name in dense.__all__]
    more = [f"from featx.dense import {', '.join(layers)}"] if layers else []
    plain = ["import re"] if "groups=re.compile(" in call else []
    return [*plain, "import featx", "from featx import Backbone", *more]
