"""Hostile model files: sound ones changed as a forger would, and other programs' files."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from featx.classifier.file.arrays import array_bytes
from featx.heads.boosting import ubj
from tests.classifier.file.test_model_file import DIM, features_of

Members = dict[str, bytes]
Change = Callable[[dict[str, Any], Members], Any]

FORMAT, INTEGRITY, TRUST, VERSION = (
    f"Model{kind}Error" for kind in ("Format", "Integrity", "Trust", "Version")
)


class Payload:
    """What a pickle of it does when it is loaded: make the sentinel file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.sentinel}",)


def array(values: Any) -> bytes:
    return array_bytes(np.asarray(values))


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def objects(sentinel: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(sentinel)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def put(name: str, content: bytes) -> Change:
    return lambda manifest, members: members.__setitem__(name, content)


def edited(*path: Any, value: Any) -> Change:
    def change(manifest: dict[str, Any], members: Members) -> None:
        group = manifest
        for key in path[:-1]:
            group = group[key]
        group[path[-1]] = value

    return change


def tree(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Change the first tree of the XGBoost member."""

    def apply(manifest: dict[str, Any], members: Members) -> None:
        document = ubj.decoded(members["head/trees.ubj"])
        change(document["learner"]["gradient_booster"]["model"])
        members["head/trees.ubj"] = ubj.encoded(document)

    return apply


def node(name: str, position: int, value: int) -> Change:
    return tree(lambda model: model["trees"][0][name].__setitem__(position, value))


def cut(manifest: dict[str, Any], members: Members) -> None:
    members["head/trees.ubj"] = members["head/trees.ubj"][:-100]


class Stranger:
    """A type that no list of trusted ones knows."""


def skops_of(value: Any) -> bytes:
    return skops.io.dumps(value)


def estimator_of(head: Any, **changed: Any) -> Change:
    """Put in a fitted estimator with other numbers than those of its training."""
    features = features_of()
    head.fit(features.X, features.y.astype(str))
    for name, value in changed.items():
        setattr(head, name, value)
    return put("head/estimator.skops", skops_of(head))


def with_schema(schema: dict[str, Any], members: Members, how: int = zipfile.ZIP_STORED) -> Change:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, content in {**members, "schema.json": json.dumps(schema).encode()}.items():
            archive.writestr(name, content)
    return put("head/estimator.skops", buffer.getvalue())


def listed(number: int, content: list[Any]) -> dict[str, Any]:
    about = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
    return {**about, "__id__": number, "content": content}


def unfolding() -> dict[str, Any]:
    """Return lists in lists, each ten times the same: eight of them hold 10 ** 8 numbers."""
    one: dict[str, Any] = listed(1, [])
    for number in range(2, 10):
        one = listed(number, [one, *[{"__id__": number - 1}] * 9])
    return {**one, "protocol": 2, "_skops_version": "0.14"}


def stored(name: str) -> dict[str, Any]:
    about = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode"}
    return {**about, "__id__": 7, "type": "numpy", "file": name, "protocol": 2}


def probes(X: Any, scores: Any) -> Change:
    def change(manifest: dict[str, Any], members: Members) -> None:
        members["probes/embeddings.npy"] = array(np.asarray(X, np.float32))
        members["probes/scores.npy"] = array(scores)

    return change


def overlapping(manifest: dict[str, Any], members: Members) -> None:
    """Let images overlap, by ends whose differences wrap around to positive numbers."""
    count, length = len(manifest["examples"]["ids"]), 1000
    pattern = np.array([length, -(2**63) + 5, 0], np.int64)
    ends = np.concatenate([np.tile(pattern, count // 3 - 1), [0, 0, length]])
    members["examples/ends.npy"] = array(ends)
    members["examples/images.npy"] = array(np.zeros(length, np.uint8))


LONG_NAMES = [*(f"{number:07d}" for number in range(40_000)), "9" * 9999]

# Changes of a sound file, written again with digests that fit: what a forger would do.
FORGED: dict[str, tuple[str, Change, str]] = {
    "array of pickled objects": ("logistic", put("head/coef.npy", b"OBJECTS"), TRUST),
    "array of records": (
        "logistic",
        put("head/coef.npy", npy("{'descr':[('a','<f8')],'fortran_order':False,'shape':(0,)}")),
        TRUST,
    ),
    "array of 4 TB": (
        "logistic",
        put("head/coef.npy", npy("{'descr':'<f8','fortran_order':False,'shape':(1000000,500000)}")),
        FORMAT,
    ),
    "array of negative length": (
        "logistic",
        put(
            "head/coef.npy", npy("{'descr':'<f8','fortran_order':False,'shape':(-1,-1)}", bytes(8))
        ),
        FORMAT,
    ),
    "array cut": ("logistic", put("head/coef.npy", array(np.zeros((3, DIM)))[:-8]), FORMAT),
    "array of code in its header": (
        "logistic",
        put("head/coef.npy", npy("__import__('os').abort()")),
        FORMAT,
    ),
    "array of NaN": ("logistic", put("head/coef.npy", array(np.full((3, DIM), np.nan))), FORMAT),
    "array of another shape": ("logistic", put("head/coef.npy", array(np.zeros((3, 5)))), FORMAT),
    "weights for another class": (
        "logistic",
        put("head/coef.npy", array(np.ones((3, DIM)))),
        INTEGRITY,
    ),
    "no array": ("logistic", lambda manifest, members: members.pop("head/coef.npy"), FORMAT),
    "npz": ("logistic", put("head/coef.npy", b"PK\x03\x04 npz"), FORMAT),
    "another kind of head": ("logistic", edited("head", "kind", value="os.system"), FORMAT),
    "kind that is a list": ("logistic", edited("head", "kind", value=["logistic"]), FORMAT),
    "parameter that is a mapping": (
        "logistic",
        edited("head", "parameters", value={"C": {}}),
        FORMAT,
    ),
    "parameter that does not exist": (
        "logistic",
        edited("head", "parameters", value={"x": 1}),
        FORMAT,
    ),
    "classes twice": ("logistic", edited("classes", value=["a", "a", "b"]), FORMAT),
    "classes of two kinds": ("logistic", edited("classes", value=[1, 2, "a"]), FORMAT),
    "classes that are not numbers": ("logistic", edited("classes", value=[False, True]), FORMAT),
    "classes of 1.6 GB": ("logistic", edited("classes", value=LONG_NAMES), FORMAT),
    "classes that differ in a zero": (
        "logistic",
        edited("classes", value=["class <0>", "class <0>\0", "class <2>"]),
        FORMAT,
    ),
    "number of 400 digits": ("logistic", edited("head", "C", value=10**400), FORMAT),
    "epochs of 400 digits": ("dense", edited("head", "epochs", value=10**400), FORMAT),
    "too many probes": ("logistic", probes(np.zeros((17, DIM)), np.zeros((17, 3))), FORMAT),
    "no probes": ("logistic", probes(np.zeros((0, DIM)), np.zeros((0, 3))), FORMAT),
    "probes of another width": ("logistic", probes(np.zeros((3, 5)), np.zeros((3, 3))), FORMAT),
    "examples that overlap": ("logistic", overlapping, FORMAT),
    "network whose layer is a list": (
        "logistic",
        edited("backbone", "layer", value=["x"]),
        FORMAT,
    ),
    "fewer classes": ("logistic", edited("classes", value=["a", "b"]), FORMAT),
    "width of an embedding": ("logistic", edited("dim", value=2**40), FORMAT),
    "later format": ("logistic", edited("version", value=99), VERSION),
    "network that does not exist": (
        "logistic",
        edited("backbone", "name", value="../x"),
        "ModelFileError",
    ),
    "weights by a path": ("logistic", edited("backbone", "weights", value="/etc/passwd"), FORMAT),
    "layer that does not exist": (
        "dense",
        edited("head", "recipe", "layers", value=[{"kind": "Lambda", "function": "os.system"}]),
        FORMAT,
    ),
    "layer of a billion units": (
        "dense",
        edited("head", "recipe", "layers", value=[{"kind": "Dense", "units": 10**9}]),
        FORMAT,
    ),
    "recipe of 300 layers": (
        "dense",
        edited("head", "recipe", "layers", value=[{"kind": "Dropout", "rate": 0.5}] * 300),
        FORMAT,
    ),
    "recipe that is text": ("dense", edited("head", "recipe", value="Recipe()"), FORMAT),
    "trees with children out of range": ("xgboost", node("left_children", 0, 10**6), FORMAT),
    "trees in a circle": ("xgboost", node("left_children", 1, 0), FORMAT),
    "trees with features out of range": ("xgboost", node("split_indices", 0, 10**6), FORMAT),
    "trees with negative features": ("xgboost", node("split_indices", 0, -5), FORMAT),
    "trees with wrong parents": ("xgboost", node("parents", 1, 77), FORMAT),
    "trees by category": ("xgboost", node("split_type", 0, 1), FORMAT),
    "trees of a class that does not exist": (
        "xgboost",
        tree(lambda model: model["tree_info"].__setitem__(0, 1000)),
        FORMAT,
    ),
    "trees with arrays of other lengths": (
        "xgboost",
        tree(lambda model: model["trees"][0].__setitem__("parents", np.zeros(1, np.int32))),
        FORMAT,
    ),
    "trees cut": ("xgboost", cut, FORMAT),
    "trees that are text": ("xgboost", put("head/trees.ubj", b"trees"), FORMAT),
    "trees with a length of 2**62": (
        "xgboost",
        put("head/trees.ubj", b"{L" + (2**62).to_bytes(8, "big") + b"x"),
        FORMAT,
    ),
    "trees of 10,000 levels": ("xgboost", put("head/trees.ubj", b"[#i\x01" * 10_000), FORMAT),
    "trees that are a pickle": ("xgboost", put("head/trees.ubj", b"PICKLE"), FORMAT),
    "skops with a function that runs commands": (
        "skops",
        put("head/estimator.skops", skops_of(FunctionTransformer(os.popen))),
        TRUST,
    ),
    "skops with a type of its own": (
        "skops",
        put("head/estimator.skops", skops_of(Stranger())),
        TRUST,
    ),
    "skops with a support vector machine": (
        "skops",
        estimator_of(SVC(), _n_support=np.array([10**6] * 3, np.int32)),
        TRUST,
    ),
    "skops with neighbours of a class out of range": (
        "skops",
        estimator_of(KNeighborsClassifier(3, algorithm="brute"), _y=np.full(36, 10**9)),
        TRUST,
    ),
    "skops with trees": ("skops", estimator_of(RandomForestClassifier(2)), TRUST),
    "skops with a class of featx by its path": (
        "skops",
        with_schema(
            {
                "__class__": "StratifiedFolds",
                "__module__": "featx.heads.folds",
                "__loader__": "ObjectNode",
                "__id__": 1,
                "content": {
                    "__loader__": "JsonNode",
                    "__class__": "str",
                    "__module__": "builtins",
                    "__id__": 2,
                    "content": "null",
                },
            },
            {},
        ),
        TRUST,
    ),
    "skops with arrays of objects": (
        "skops",
        estimator_of(RidgeClassifier(), alpha=np.array([1, "a"], object)),
        TRUST,
    ),
    "skops that unfolds without end": ("skops", with_schema(unfolding(), {}), FORMAT),
    "skops with an array of 4 TB": (
        "skops",
        with_schema(
            stored("7.npy"),
            {"7.npy": npy("{'descr':'<f8','fortran_order':False,'shape':(1000000,500000)}")},
        ),
        FORMAT,
    ),
    "skops with a zip bomb": (
        "skops",
        with_schema(stored("7.npy"), {"7.npy": array(np.zeros(10**6))}, zipfile.ZIP_DEFLATED),
        FORMAT,
    ),
    "skops for other embeddings": (
        "skops",
        put("head/estimator.skops", skops_of(RidgeClassifier().fit([[0], [1]], ["a", "b"]))),
        FORMAT,
    ),
    "skops that is not a classifier": ("skops", put("head/estimator.skops", skops_of([1])), FORMAT),
    "skops that is a pickle": ("skops", put("head/estimator.skops", b"PICKLE"), FORMAT),
    "member of another kind": ("logistic", put("head/x.pkl", b"PICKLE"), TRUST),
}


def plain_files(sentinel: Path) -> dict[str, tuple[bytes, str]]:
    """Return files that are not zips, or another program's."""
    poison = pickle.dumps(Payload(sentinel))
    buffer = io.BytesIO()
    joblib.dump(Payload(sentinel), buffer)
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("archive/data.pkl", poison)
    keras = io.BytesIO()
    with zipfile.ZipFile(keras, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    return {
        "pickle": (poison, FORMAT),
        "joblib": (buffer.getvalue(), FORMAT),
        "gzip joblib": (gzip.compress(poison), FORMAT),
        "zlib joblib": (zlib.compress(poison), FORMAT),
        "zip of a pickle": (other.getvalue(), FORMAT),
        "keras": (keras.getvalue(), FORMAT),
        "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), FORMAT),
        "skops": (skops.io.dumps([1]), FORMAT),
        "empty": (b"", FORMAT),
        "text": (b"a model\n", FORMAT),
        "zip's end": (b"PK\x05\x06" + bytes(18), FORMAT),
    }


def rezipped(sound: bytes, change: Callable[[zipfile.ZipFile, list[Any]], Any]) -> bytes:
    """Write the members of a zip again, without new digests, as `change` decides."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sound)) as old, zipfile.ZipFile(buffer, "w") as new:
        change(new, [(info, old.read(info)) for info in old.infolist()])
    return buffer.getvalue()


def with_more(
    name: str, content: bytes = b"x", mode: int = 0, how: int = zipfile.ZIP_STORED
) -> Any:
    def change(new: zipfile.ZipFile, parts: list[Any]) -> None:
        for info, old in parts:
            new.writestr(info, old)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = how
        new.writestr(info, content)

    return change


def without_one(new: zipfile.ZipFile, parts: list[Any]) -> None:
    for info, old in parts[:-1]:
        new.writestr(info, old)


def one_changed(new: zipfile.ZipFile, parts: list[Any]) -> None:
    for info, old in parts[:-1]:
        new.writestr(info, old)
    info, old = parts[-1]
    new.writestr(info, old[:-1] + bytes([old[-1] ^ 1]))


def numbered(field: str, number: str) -> Any:
    """Write a number that Python's JSON would not into the manifest."""

    def change(new: zipfile.ZipFile, parts: list[Any]) -> None:
        for info, old in parts:
            if info.filename == "manifest.json":
                old, count = re.subn(rf'"{field}": \d+', f'"{field}": {number}', old.decode())
                assert count == 1
            new.writestr(info, old)

    return change


def manifest_of(text: bytes) -> Any:
    return lambda new, parts: new.writestr("manifest.json", text)


def zips(sound: bytes) -> dict[str, tuple[bytes, str]]:
    """Return a sound file with its zip changed."""
    changes = {
        "zip slip": (with_more("../../x.npy"), TRUST),
        "absolute path": (with_more("/tmp/x.npy"), TRUST),
        "backslashes": (with_more("..\\x.npy"), TRUST),
        "link": (with_more("head/link.npy", b"/etc/passwd", stat.S_IFLNK | 0o777), TRUST),
        "device": (with_more("head/device.npy", b"", stat.S_IFBLK | 0o600), TRUST),
        "zip bomb": (
            with_more("head/bomb.npy", bytes(50 << 20), how=zipfile.ZIP_DEFLATED),
            TRUST,
        ),
        "member missing": (without_one, INTEGRITY),
        "member changed": (one_changed, INTEGRITY),
        "member unlisted": (with_more("head/more.npy"), INTEGRITY),
        "manifest that is text": (manifest_of(b"manifest"), FORMAT),
        "manifest with NaN": (manifest_of(b'{"format": NaN}'), FORMAT),
        "manifest with iterations beyond floats": (numbered("iterations", "1e999"), FORMAT),
        "manifest with images beyond floats": (numbered("of", "1e999"), FORMAT),
        "manifest of 100,000 levels": (manifest_of(b"[" * 100_000), FORMAT),
        "manifest that is a list": (manifest_of(b"[]"), FORMAT),
        "manifest of 20 MB": (manifest_of(b" " * (20 << 20)), TRUST),
        "manifest without members": (
            manifest_of(b'{"format": "featx model", "version": 2}'),
            FORMAT,
        ),
    }
    found = {name: (rezipped(sound, change), kind) for name, (change, kind) in changes.items()}
    found["cut in half"] = (sound[: len(sound) // 2], FORMAT)
    with pytest.warns(UserWarning, match="Duplicate name"):
        found["two of one name"] = (rezipped(sound, with_more("manifest.json", b"{}")), TRUST)
    return found
